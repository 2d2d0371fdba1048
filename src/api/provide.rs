//! Providing: registrations, heartbeats, batches, and their answers.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Hex;
use super::consume::Instance;
use super::problem::Fault;

/// A duration as requests say it: `"15s"`, `"500ms"`, `"2m"`, `"1h"`, or whole milliseconds. A ttl may also be `"none"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(untagged)]
#[non_exhaustive]
pub enum Span {
    /// Whole milliseconds.
    Ms(u64),
    /// A number and its unit.
    Text(String),
}

impl Span {
    /// In milliseconds; `None` when the text is no duration.
    #[must_use]
    pub fn ms(&self) -> Option<u64> {
        match self {
            Self::Ms(ms) => Some(*ms),
            Self::Text(text) => crate::units::parse_ms(text),
        }
    }
}

/// What a provider says of an instance; absent fields have their defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "server", schema(example = json!({"address": "10.0.0.7", "port": 8080, "zone": "eu-a", "ttl": "15s"})))]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// An IP address or a host name.
    #[cfg_attr(feature = "server", schema(pattern = r"^[A-Za-z0-9_.:-]{1,253}$"))]
    pub address: String,
    /// 1 to 65535.
    #[cfg_attr(feature = "server", schema(minimum = 1))]
    pub port: u16,
    /// Further ports by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<String, u16>,
    /// Share of traffic; default 100, 0: send nothing new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Its place.
    #[cfg_attr(feature = "server", schema(pattern = r"^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Its place within the region.
    #[cfg_attr(feature = "server", schema(pattern = r"^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Free words.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// Free keys and values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// `starting` or `up`; default `up`.
    #[cfg_attr(feature = "server", schema(pattern = r"^(starting|up)$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// How long it may be silent before it is `suspect`; default 15 s. `none`: a fixed address, listed until it is deregistered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Span>,
    /// Which life of the process this is, 1 to 2^52; absent: the known one, 1 where none is known.
    #[cfg_attr(feature = "server", schema(minimum = 1, maximum = 9_007_199_254_740_991_u64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u64>,
    /// How long it stays listed once it is down; absent: the node's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evict_after: Option<Span>,
    /// How the registry looks for itself; absent: a TCP connect once it is silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
}

/// How the registry looks for itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// `http`, `tcp`, `grpc` or `none`.
    #[cfg_attr(feature = "server", schema(pattern = r"^(http|tcp|grpc|none)$"))]
    pub kind: String,
    /// With `http`: what is asked for; default `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Another port than the instance's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How often; default 10 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
    /// How long an answer may take; default 2 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// How many failures in a row count as one; default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u16>,
    /// How many successes in a row count as one; default 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successes: Option<u16>,
}

/// A registration as it now stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Registered<'a> {
    /// Where the service is looked up.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub namespace: Cow<'a, str>,
    /// Its name there.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub service: Cow<'a, str>,
    /// Which copy.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub id: Cow<'a, str>,
    /// The instance's life.
    pub incarnation: u64,
    /// Of the content, opaque: to be sent with heartbeats.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub digest: Hex,
    /// The node that holds the lease.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub owner: Cow<'a, str>,
    /// Of the service, with this instance in it.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub revision: Hex,
    /// How it stays listed.
    pub lease: Lease,
    /// As consumers see it.
    #[cfg_attr(feature = "server", schema(value_type = Instance<'static>))]
    pub instance: Instance<'a>,
    /// With `ack`, when it was not met: who has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack: Option<Ack>,
}

/// How an instance stays listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Lease {
    /// Without a heartbeat for this long it is late; null: never, it is a fixed address.
    pub ttl_ms: Option<u64>,
    /// How often to send one; null: never.
    pub renew_every_ms: Option<u64>,
    /// An open connection holds it.
    pub attached: bool,
}

/// Who has applied a write, when fewer have than was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Ack {
    /// `peer` or `all`.
    pub asked: String,
    /// The peers that have it.
    pub applied: Vec<String>,
    /// The alive peers that have not said so.
    pub missing: Vec<String>,
}

/// The answer to a deregistration whose acknowledgement was not met; a met one has no body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Deregistered {
    /// Who has it.
    pub ack: Ack,
}

/// A heartbeat; all of it is optional.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// Which life beats; absent: the known one.
    #[cfg_attr(feature = "server", schema(minimum = 1, maximum = 9_007_199_254_740_991_u64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u64>,
    /// As the registration's answer gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// `starting` or `up`, when that has changed.
    #[cfg_attr(feature = "server", schema(pattern = r"^(starting|up)$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// A heartbeat's effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Renewed<'a> {
    /// How often to send one; null: never, it is a fixed address.
    pub renew_every_ms: Option<u64>,
    /// The node that holds the lease.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub owner: Cow<'a, str>,
    /// The instance's life.
    pub incarnation: u64,
    /// The effective status.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub status: Cow<'a, str>,
}

/// Up to 10,000 writes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "server", schema(example = json!({"ops": [
    {"op": "register", "service": "user", "id": "u1", "address": "10.0.0.7", "port": 8080},
    {"op": "heartbeat", "service": "user", "id": "u2", "incarnation": 7},
    {"op": "deregister", "namespace": "test", "service": "user", "id": "u3"},
]})))]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Done in order where they are about one instance.
    pub ops: Vec<Op>,
}

/// One write of a batch: what it is, which instance it is about, and what that kind of write says besides.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Op {
    /// `register`, `heartbeat` or `deregister`.
    #[cfg_attr(feature = "server", schema(pattern = r"^(register|heartbeat|deregister)$"))]
    pub op: String,
    /// Default `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The service's name.
    pub service: String,
    /// Which copy.
    pub id: String,
    /// Which life of the process this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u64>,
    /// `register`, `heartbeat`: `starting` or `up`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// `heartbeat`: as the registration's answer gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// `register`, needed: an IP address or a host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// `register`, needed: 1 to 65535.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `register`: further ports by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<String, u16>,
    /// `register`: share of traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// `register`: its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// `register`: its place within the region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// `register`: free words.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// `register`: free keys and values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// `register`: how long it may be silent before it is `suspect`; `none`: for ever, it is listed until it is deregistered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Span>,
    /// `register`: how long it stays listed once it is down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evict_after: Option<Span>,
    /// `register`: how the registry looks for itself; absent: a TCP connect once it is silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct BatchAnswer<'a> {
    /// One for each write, in order.
    #[cfg_attr(feature = "server", schema(value_type = Vec<OpResult<'static>>))]
    pub results: Vec<OpResult<'a>>,
}

/// What became of one write of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct OpResult<'a> {
    /// As the write's own answer would have it.
    pub status: u16,
    /// When it was refused: what programs decide by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub code: Option<Cow<'a, str>>,
    /// When it was refused: what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub detail: Option<Cow<'a, str>>,
    /// The instance's life; of a superseded one the known life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u64>,
    /// Of a registration: of its content, opaque, to be sent with heartbeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub digest: Option<Hex>,
    /// How often to send a heartbeat; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_every_ms: Option<u64>,
    /// Each thing that is wrong with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Fault>,
    /// With `ack`, when it was not met: who has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack: Option<Ack>,
}
