//! What a stream says: one shape an event.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Instance, Trust};
use crate::api::Hex;
use crate::model::{Cause, Listed};

/// What a stream of many services asks for, where an address cannot name them; a selection's keys may stand beside these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct WatchMany {
    /// Where the services are looked up; absent: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// `SERVICE`, `SERVICE@REVISION`, or `*`; at most 1,000 names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service: Vec<String>,
    /// All services whose names begin so; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefix: Vec<String>,
    /// `SERVICE@REVISION`: what is held of a service that is not named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub at: Vec<String>,
}

/// The `data` of each of a stream's events, by the event's name.
#[cfg(feature = "server")]
#[derive(utoipa::ToSchema)]
#[serde(untagged)]
#[non_exhaustive]
pub enum WatchEvent {
    /// `event: snapshot`
    Snapshot(Snapshot<'static>),
    /// `event: delta`
    Delta(Delta<'static>),
    /// `event: unchanged`
    Unchanged(Unchanged<'static>),
    /// `event: synced`
    Synced(Synced),
    /// `event: notice`
    Notice(Notice),
    /// `event: goodbye`
    Goodbye(Goodbye),
    /// `event: counts`, where `detail=counts` is asked for
    Counts(super::ServiceCounts<'static>),
}

/// `event: snapshot`: all of a service that was asked for; replaces what the consumer holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Snapshot<'a> {
    /// Where the service is looked up.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub namespace: Cow<'a, str>,
    /// Its name there.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub service: Cow<'a, str>,
    /// What the consumer holds from now on.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub revision: Hex,
    /// How far it can be relied on.
    #[serde(flatten)]
    pub trust: Trust,
    /// Those selected, in the order of their ids.
    #[cfg_attr(feature = "server", schema(value_type = Vec<Instance<'static>>))]
    pub instances: Vec<Instance<'a>>,
}

/// `event: delta`: one step; to be applied only to what is at `from`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Delta<'a> {
    /// Where the service is looked up.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub namespace: Cow<'a, str>,
    /// Its name there.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub service: Cow<'a, str>,
    /// What the consumer must hold.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub from: Hex,
    /// What it holds afterwards.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub revision: Hex,
    /// New, or other than before.
    #[cfg_attr(feature = "server", schema(value_type = Vec<Instance<'static>>))]
    pub upsert: Vec<Instance<'a>>,
    /// No longer there, or no longer selected.
    #[cfg_attr(feature = "server", schema(value_type = Vec<Removed<'static>>))]
    pub remove: Vec<Removed<'a>>,
}

/// An instance that a delta takes away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Removed<'a> {
    /// Which copy.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub id: Cow<'a, str>,
    /// Why.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub cause: Cow<'a, str>,
    /// It is still there, with this status, but no longer selected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub status: Option<Cow<'a, str>>,
}

impl Removed<'_> {
    /// It is gone.
    #[must_use]
    pub fn gone(id: &str, cause: Cause) -> Removed<'_> {
        Removed { id: id.into(), cause: cause.as_str().into(), status: None }
    }

    /// It stays, but is no longer selected.
    #[must_use]
    pub fn left(listed: &Listed) -> Removed<'_> {
        Removed { id: listed.id.as_str().into(), cause: listed.cause.as_str().into(), status: Some(listed.status.as_str().into()) }
    }
}

/// `event: unchanged`: the consumer holds what it would be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Unchanged<'a> {
    /// Where the service is looked up.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub namespace: Cow<'a, str>,
    /// Its name there; absent: all that the stream asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub service: Option<Cow<'a, str>>,
    /// What it holds; of all: the id they had in common.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub revision: Hex,
}

/// `event: synced`: every asked service has been sent, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Synced {
    /// How many.
    pub services: usize,
}

/// `event: notice`: how far the stream can be relied on has changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Notice {
    /// With `preserved`: where the service is looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// With `preserved`: which service it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Some of the service's instances would have expired and stay listed, or none of them any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preserved: Option<bool>,
    /// With `preserved: true`: why they stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The bus is not heard, or is heard again: of the whole stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<bool>,
}

/// `event: goodbye`: this node is leaving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Goodbye {
    /// When to ask another.
    pub reconnect_ms: u64,
}
