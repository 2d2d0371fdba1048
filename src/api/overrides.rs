//! Overrides: what an operator wills of instances, as it is said and as it is told.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::provide::Span;

/// What an operator wills; `service`, `id` and `select` narrow it, none of them: the whole namespace. Absent fields leave things as they are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "server", schema(example = json!({"service": "user", "status": "draining", "reason": "disk swap", "expires_in": "2h"})))]
#[serde(deny_unknown_fields)]
pub struct SetOverride {
    /// Only instances of this service.
    #[cfg_attr(feature = "server", schema(pattern = r"^[A-Za-z0-9]([A-Za-z0-9._:@-]{0,126}[A-Za-z0-9])?$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Only this instance of that service.
    #[cfg_attr(feature = "server", schema(pattern = r"^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Only instances that this selection admits, as their providers report them and the registry sees them: `zone=eu-a&tag=canary`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub select: Option<String>,
    /// `up`, `draining` or `down`.
    #[cfg_attr(feature = "server", schema(pattern = r"^(up|draining|down)$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Share of traffic; with `draining` 0 where no override says another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Put over their own metadata, key by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// How long they stay listed once they are down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evict_after: Option<Span>,
    /// True: silence never takes them from the list. False: self-preservation never keeps them there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preserve: Option<bool>,
    /// Why, for whoever finds it later.
    pub reason: String,
    /// It ends by itself after this long; absent: when it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<Span>,
}

/// An override that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Override<'a> {
    /// Where it holds.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub namespace: Cow<'a, str>,
    /// Its name there.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub name: Cow<'a, str>,
    /// Only instances of this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub service: Option<Cow<'a, str>>,
    /// Only this instance of that service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub id: Option<Cow<'a, str>>,
    /// Only instances that this selection admits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub select: Option<String>,
    /// `up`, `draining` or `down`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub status: Option<Cow<'a, str>>,
    /// Share of traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Put over their own metadata, key by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "server", schema(value_type = BTreeMap<String, String>))]
    pub metadata: Cow<'a, BTreeMap<String, String>>,
    /// How long they stay listed once they are down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evict_after_ms: Option<u32>,
    /// True: silence never takes them from the list. False: self-preservation never keeps them there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preserve: Option<bool>,
    /// Why.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub reason: Cow<'a, str>,
    /// Who wanted it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub author: Option<Cow<'a, str>>,
    /// When it was set, on the wall clock of the node that was asked (RFC 3339).
    pub created_at: String,
    /// How much longer it holds; absent: until it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
    /// How many visible instances it is about now.
    pub matches: usize,
}

/// The overrides that hold, in the order of namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Overrides<'a> {
    /// All of them.
    #[cfg_attr(feature = "server", schema(value_type = Vec<Override<'static>>))]
    pub overrides: Vec<Override<'a>>,
}
