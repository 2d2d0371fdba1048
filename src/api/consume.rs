//! Consuming: instances as lists and streams show them, the lists around them, and the events of a watch.

mod stream;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

#[cfg(feature = "server")]
pub use stream::WatchEvent;
pub use stream::{Delta, Goodbye, Notice, Removed, Snapshot, Synced, Unchanged, WatchMany};

use super::Hex;
use super::provide::Registration;
use crate::model::{Listed, Port, Status};

/// An instance as consumers see it: the one place that writes it as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "server", schema(example = json!({"id": "user-1", "address": "10.0.0.7", "port": 8080, "status": "up", "weight": 100, "zone": "eu-a"})))]
pub struct Instance<'a> {
    /// Which copy.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub id: Cow<'a, str>,
    /// An IP address or a host name.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub address: Cow<'a, str>,
    /// Its main port.
    #[cfg_attr(feature = "server", schema(value_type = u16))]
    pub port: Port,
    /// Further ports by name.
    #[serde(default, skip_serializing_if = "is_empty_map")]
    #[cfg_attr(feature = "server", schema(value_type = BTreeMap<String, u16>))]
    pub ports: Cow<'a, BTreeMap<String, Port>>,
    /// The effective status.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub status: Cow<'a, str>,
    /// The effective weight.
    pub weight: u16,
    /// Its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub region: Option<Cow<'a, str>>,
    /// Its place within the region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub zone: Option<Cow<'a, str>>,
    /// Free words.
    #[serde(default, skip_serializing_if = "is_empty_set")]
    #[cfg_attr(feature = "server", schema(value_type = BTreeSet<String>))]
    pub tags: Cow<'a, BTreeSet<String>>,
    /// Free keys and values.
    #[serde(default, skip_serializing_if = "is_empty_map")]
    #[cfg_attr(feature = "server", schema(value_type = BTreeMap<String, String>))]
    pub metadata: Cow<'a, BTreeMap<String, String>>,
    /// True: neither heartbeats nor a check speak for it. It is listed until it is deregistered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fixed: bool,
}

fn is_empty_map<V>(map: &BTreeMap<String, V>) -> bool {
    map.is_empty()
}

fn is_empty_set(set: &BTreeSet<String>) -> bool {
    set.is_empty()
}

impl<'a> From<&'a Listed> for Instance<'a> {
    fn from(listed: &'a Listed) -> Self {
        let registration = &listed.registration;
        Self {
            id: listed.id.as_str().into(),
            address: registration.address().as_str().into(),
            port: registration.port(),
            ports: Cow::Borrowed(registration.ports()),
            status: listed.status.as_str().into(),
            weight: listed.weight,
            region: registration.region().map(|region| region.as_str().into()),
            zone: registration.zone().map(|zone| zone.as_str().into()),
            tags: Cow::Borrowed(registration.tags()),
            metadata: Cow::Borrowed(registration.metadata()),
            fixed: registration.is_fixed(),
        }
    }
}

/// A service's instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Instances<'a> {
    /// Where the service is looked up.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub namespace: Cow<'a, str>,
    /// Its name there.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub service: Cow<'a, str>,
    /// Of the whole service, whatever was selected; the same on every node.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub revision: Hex,
    /// How far it can be relied on.
    #[serde(flatten)]
    pub trust: Trust,
    /// Those selected, in the order of their ids.
    #[cfg_attr(feature = "server", schema(value_type = Vec<Instance<'static>>))]
    pub instances: Vec<Instance<'a>>,
    /// There are more: ask again with this as `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub next: Option<Cow<'a, str>>,
}

/// A node of a former version does not say so.
fn yes() -> bool {
    true
}

/// How far an answer can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Trust {
    /// False: the node may not know all; keep what is not listed.
    pub complete: bool,
    /// True: it comes from the disk, or the bus has not been heard for a while, or the node was stopped and has yet to hear what it missed.
    pub stale: bool,
    /// For how long, in whole seconds' worth of milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_ms: Option<u64>,
    /// True: some instances would have expired.
    pub preserved: bool,
}

/// How many instances have each status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Counts {
    /// Not to be called yet.
    pub starting: usize,
    /// To be called.
    pub up: usize,
    /// Late: they may still answer.
    pub suspect: usize,
    /// Held for dead.
    pub down: usize,
    /// Leaving.
    pub draining: usize,
}

impl Counts {
    /// Counts in the order of [`Status::ALL`].
    #[must_use]
    pub fn of([starting, up, suspect, down, draining]: [usize; Status::ALL.len()]) -> Self {
        Self { starting, up, suspect, down, draining }
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.starting += other.starting;
        self.up += other.up;
        self.suspect += other.suspect;
        self.down += other.down;
        self.draining += other.draining;
    }
}

/// A service and how its instances are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ServiceCounts<'a> {
    /// Where the service is looked up.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub namespace: Cow<'a, str>,
    /// Its name there.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub service: Cow<'a, str>,
    /// Of the whole service; the same on every node.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub revision: Hex,
    /// How many there are in all.
    pub instances: usize,
    /// How many have each status.
    pub counts: Counts,
}

/// Services, in the order of namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Services<'a> {
    /// Those that have a visible instance.
    #[cfg_attr(feature = "server", schema(value_type = Vec<ServiceCounts<'static>>))]
    pub services: Vec<ServiceCounts<'a>>,
    /// False: the node may not know all.
    #[serde(default = "yes")]
    pub complete: bool,
    /// There are more: ask again with this as `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One service on its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Service<'a> {
    /// Its name, revision and counts.
    #[serde(flatten)]
    #[cfg_attr(feature = "server", schema(value_type = ServiceCounts<'static>))]
    pub counts: ServiceCounts<'a>,
    /// How many follow it, on all nodes.
    #[serde(default)]
    pub subscribers: usize,
    /// The overrides that are about it or instances of it.
    #[serde(default)]
    #[cfg_attr(feature = "server", schema(value_type = Vec<String>))]
    pub overrides: Vec<Cow<'a, str>>,
    /// How far it can be relied on.
    #[serde(flatten)]
    pub trust: Trust,
}

/// A namespace and how its instances are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct NamespaceCounts<'a> {
    /// Its name.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub namespace: Cow<'a, str>,
    /// Its services that have a visible instance.
    pub services: usize,
    /// How many instances there are in all.
    pub instances: usize,
    /// How many have each status.
    pub counts: Counts,
}

/// The namespaces that have a visible instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Namespaces<'a> {
    /// In the order of their names.
    #[cfg_attr(feature = "server", schema(value_type = Vec<NamespaceCounts<'static>>))]
    pub namespaces: Vec<NamespaceCounts<'a>>,
    /// False: the node may not know all.
    #[serde(default = "yes")]
    pub complete: bool,
    /// There are more: ask again with this as `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// An instance with the service it is a copy of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Found<'a> {
    /// Where the service is looked up.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub namespace: Cow<'a, str>,
    /// Its name there.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub service: Cow<'a, str>,
    /// The instance.
    #[serde(flatten)]
    #[cfg_attr(feature = "server", schema(value_type = Instance<'static>))]
    pub instance: Instance<'a>,
    /// With `detail=registration`: what its provider said, and which life of it; absent where it went just then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,
}

/// What a search over all services found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct FoundInstances<'a> {
    /// In the order of namespace, service and id.
    #[cfg_attr(feature = "server", schema(value_type = Vec<Found<'static>>))]
    pub instances: Vec<Found<'a>>,
    /// How far it can be relied on.
    #[serde(flatten)]
    pub trust: Trust,
    /// There are more: ask again with this as `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Everything known of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Detail<'a> {
    /// Where the service is looked up.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub namespace: Cow<'a, str>,
    /// Its name there.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub service: Cow<'a, str>,
    /// As lists show it.
    #[cfg_attr(feature = "server", schema(value_type = Instance<'static>))]
    pub instance: Instance<'a>,
    /// What each says of its status.
    #[cfg_attr(feature = "server", schema(value_type = StatusDetail<'static>))]
    pub status: StatusDetail<'a>,
    /// What only the owner knows; absent when it did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseDetail>,
    /// False when the owner did not answer; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_reachable: Option<bool>,
    /// How the registry may look for itself, where the provider said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<CheckDetail<'static>>))]
    pub check: Option<CheckDetail<'a>>,
    /// The node that holds its lease.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub owner: Cow<'a, str>,
    /// Its life.
    pub incarnation: u64,
    /// How often its provider has said something else within that life.
    pub edition: u64,
    /// How often the registry has changed hands or mind within that.
    pub generation: u64,
    /// Why it is as it is.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub cause: Cow<'a, str>,
    /// What the registry noted with that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub note: Option<Cow<'a, str>>,
    /// Since when, on its owner's wall clock (RFC 3339).
    pub changed_at: String,
}

/// What each says of an instance's status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct StatusDetail<'a> {
    /// What consumers see.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub effective: Cow<'a, str>,
    /// What its provider says.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub reported: Cow<'a, str>,
    /// What the registry saw.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub seen: Cow<'a, str>,
    /// What an operator says, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<OverriddenDetail<'static>>))]
    pub overridden: Option<OverriddenDetail<'a>>,
}

/// The status that an operator gives an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct OverriddenDetail<'a> {
    /// `up`, `draining` or `down`.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub status: Cow<'a, str>,
    /// The override that says so.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub by: Cow<'a, str>,
}

/// How an instance's lease is, as its owner says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct LeaseDetail {
    /// Without a heartbeat for this long it is late; null: never, it is a fixed address.
    pub ttl_ms: Option<u64>,
    /// Until then; null: no time ends it.
    pub remaining_ms: Option<u64>,
    /// Since the last heartbeat, or the registration; null: its owner took it over, and none has come since.
    pub last_heartbeat_ms: Option<u64>,
    /// An open connection holds it.
    pub attached: bool,
    /// It would have expired.
    pub preserved: bool,
}

/// How the registry may look for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct CheckDetail<'a> {
    /// `http`, `tcp`, `grpc` or `none`.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub kind: Cow<'a, str>,
    /// With `http`: what is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub path: Option<Cow<'a, str>>,
    /// Another port than the instance's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<u16>))]
    pub port: Option<Port>,
    /// How often.
    pub interval_ms: u32,
    /// How long an answer may take.
    pub timeout_ms: u32,
    /// What was seen last; absent: nothing yet, or the owner was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastLook>,
    /// In a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successes: Option<u32>,
    /// In a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
}

/// What a look at an instance brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct LastLook {
    /// It answers, and is well.
    pub ok: bool,
    /// How long ago.
    pub ago_ms: u64,
    /// Of HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// How long the answer took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u32>,
    /// What is wrong, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

#[cfg(test)]
mod tests;
