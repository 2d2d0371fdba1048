//! Draining, and who is told of a service: subscribers, and which of them have not been sent something.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// How a drain went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Drained {
    /// Every subscriber whose selection includes the instance has been sent that it drains: it was written to its socket.
    pub delivered: bool,
    /// How many those are, on all nodes.
    pub subscribers: u64,
    /// Those who have not been sent it.
    pub missing: Vec<Missing>,
    /// There are more of these.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// The instance is gone.
    pub deregistered: bool,
}

/// Somebody who has not been sent something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Missing {
    /// At which node.
    pub node: String,
    /// What it calls itself; absent: it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscriber: Option<String>,
    /// Where its connection comes from; absent: the node did not answer, and nobody knows who is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// Who follows a service, on all nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Subscribers<'a> {
    /// Where the service is looked up.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub namespace: Cow<'a, str>,
    /// Its name there.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub service: Cow<'a, str>,
    /// In the order of nodes.
    pub subscribers: Vec<Subscriber>,
    /// False: there may be more, at nodes that were not heard or that have too many.
    pub complete: bool,
}

/// One who follows a service: by a stream, or by polls that are held.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Subscriber {
    /// At which node.
    pub node: String,
    /// What it calls itself; absent: it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscriber: Option<String>,
    /// Where its connection comes from.
    pub address: String,
    /// Since when, on its node's wall clock.
    pub since: String,
}
