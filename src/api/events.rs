//! Events: what happened to instances, and why.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// One visible change of an instance. Who and why travel with the change, so every node tells the same of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "server", schema(example = json!({"id": "n1-8123", "at": "2026-11-20T09:14:03.120Z", "node": "n1",
    "epoch": "00c0ffee00c0ffee", "namespace": "default", "service": "user", "instance": "user-3", "cause": "expired", "from": "up",
    "to": "suspect", "last_heartbeat_ms": 15230, "detail": "no heartbeat for 15.2 s"})))]
pub struct Event<'a> {
    /// The node that wrote the change, and its number in that node's log: together with `epoch` no two events have the same.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub id: Cow<'a, str>,
    /// When, on that node's wall clock (RFC 3339).
    pub at: String,
    /// The node that wrote the change.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub node: Cow<'a, str>,
    /// In which of its lives; each counts its changes from 1.
    pub epoch: String,
    /// Where the service is looked up.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub namespace: Cow<'a, str>,
    /// The service.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub service: Cow<'a, str>,
    /// Which copy of it.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub instance: Cow<'a, str>,
    /// Why, in a word.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub cause: Cow<'a, str>,
    /// The effective status before; null: it was not listed.
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub from: Option<Cow<'a, str>>,
    /// The effective status since; null: it is not listed.
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub to: Option<Cow<'a, str>>,
    /// Who asked for it, where somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub actor: Option<Cow<'a, str>>,
    /// How long before that its provider was last heard, where its silence has to do with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_heartbeat_ms: Option<u32>,
    /// More about the cause, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub detail: Option<Cow<'a, str>>,
}

/// What happened, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Events<'a> {
    /// In the order in which the answering node learned of it.
    #[cfg_attr(feature = "server", schema(value_type = Vec<Event<'static>>))]
    pub events: Vec<Event<'a>>,
    /// There are older ones: ask for them with `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The `data` of each of a stream's events, by the event's name.
#[cfg(feature = "server")]
#[derive(utoipa::ToSchema)]
#[serde(untagged)]
#[non_exhaustive]
pub enum StreamEvent {
    /// `event: change`
    Change(Box<Event<'static>>),
    /// `event: gap`
    Gap(Gap),
    /// `event: goodbye`
    Goodbye(super::consume::Goodbye),
}

/// Events are missing on a stream: here, between what came before and what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Gap {
    /// How many the node let go of, where it knows; whether they would have been sent nobody knows any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<u64>,
}
