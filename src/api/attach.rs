//! Attaching: instances whose leases an open connection holds, and the events on its stream.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Hex;
use super::provide::{Check, Registration, Span};

/// Several instances, all of which are registered or none. One alone may stand for itself, without `instances`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "server", schema(example = json!({"instances": [
    {"service": "x", "id": "a1", "address": "10.0.0.7", "port": 80},
    {"namespace": "test", "service": "y", "id": "b1", "address": "10.0.0.7", "port": 81},
]})))]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// Up to 10,000, each named once.
    pub instances: Vec<Member>,
}

/// An instance: which it is, and what its provider says of it; absent fields have their defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Default `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The service's name.
    pub service: String,
    /// Which copy.
    pub id: String,
    /// An IP address or a host name.
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Its place within the region.
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
    /// How long it may be silent before it is `suspect`, once no connection holds it; default 15 s. Not `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Span>,
    /// Which life of the process this is, 1 to 2^52; absent: the known one, 1 where none is known.
    #[cfg_attr(feature = "server", schema(minimum = 1, maximum = 9_007_199_254_740_991_u64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u64>,
    /// How long it stays listed once it is down by its heartbeats' absence; once its connection has closed it is the node's `detach_grace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evict_after: Option<Span>,
    /// How the registry looks for itself; absent: a TCP connect once it is silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
}

impl Member {
    /// An instance and what is said of it.
    #[must_use]
    pub fn new(namespace: &str, service: &str, id: &str, registration: Registration) -> Self {
        let Registration { address, port, ports, weight, region, zone, tags, metadata, status, ttl, incarnation, evict_after, check } =
            registration;
        Self {
            namespace: Some(namespace.to_owned()),
            service: service.to_owned(),
            id: id.to_owned(),
            address,
            port,
            ports,
            weight,
            region,
            zone,
            tags,
            metadata,
            status,
            ttl,
            incarnation,
            evict_after,
            check,
        }
    }
}

/// The `data` of each event on a connection that holds instances, by the event's name.
#[cfg(feature = "server")]
#[derive(utoipa::ToSchema)]
#[serde(untagged)]
#[non_exhaustive]
pub enum AttachEvent {
    /// `event: registered`
    Registered(Attached<'static>),
    /// `event: deregistered`
    Deregistered(Held<'static>),
    /// `event: goodbye`
    Goodbye(super::consume::Goodbye),
    /// `event: ping`
    Ping(Ping),
}

/// `event: registered`: all are, and this connection holds them from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Attached<'a> {
    /// In the order in which they were said.
    #[cfg_attr(feature = "server", schema(value_type = Vec<Held<'static>>))]
    pub instances: Vec<Held<'a>>,
    /// The node that has the connection, and so the leases.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub owner: Cow<'a, str>,
}

/// An instance that a connection holds. As `event: deregistered`, without a digest: somebody deregistered it, or registered a later life
/// of it, and this connection holds it no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Held<'a> {
    /// Absent: `default`.
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Cow<'a, str>>,
    /// Of which service.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub service: Cow<'a, str>,
    /// Which copy.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub id: Cow<'a, str>,
    /// The life that was, or is, held.
    pub incarnation: u64,
    /// Of the content.
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Hex>,
}

/// `event: ping`: the connection is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Ping {}
