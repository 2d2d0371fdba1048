//! What a provider says of an instance, and what consumers are told of it.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::sync::Arc;

use super::text::{check_printable, check_word};
use super::{Address, Cause, InstanceId, Region, Reported, Status, Zone};

/// A port something listens on.
pub type Port = NonZeroU16;

/// The share of traffic of an instance that names none.
pub const WEIGHT_DEFAULT: u16 = 100;
/// How many keys an instance's metadata may have.
pub const METADATA_KEYS_MAX: usize = 64;
/// How long a metadata key may be.
pub const METADATA_KEY_BYTES_MAX: usize = 128;
/// How long a metadata value may be.
pub const METADATA_VALUE_BYTES_MAX: usize = 1024;
/// How many tags an instance may have; each is as long as a metadata key at the most.
pub const TAGS_MAX: usize = 64;
/// How many named ports an instance may have.
pub const PORTS_MAX: usize = 64;
/// What a whole registration may take, whatever is configured.
pub const RECORD_BYTES_HARD_MAX: usize = 64 * 1024;

/// How long a named port's name may be.
pub const PORT_NAME_BYTES_MAX: usize = 63;
/// How long the path of an HTTP check may be.
pub const PATH_BYTES_MAX: usize = 1024;
/// How many failures or successes in a row a check may ask for.
pub const CHECK_COUNT_MAX: u16 = 100;

pub(super) const EVICT_AFTER_MS_HARD_MAX: u64 = 24 * 3_600_000;

/// One rule that a registration breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field as a JSON pointer: `/metadata/version`.
    pub pointer: String,
    /// What it must be, as a sentence.
    pub rule: String,
}

/// How long an instance may be silent before it is suspect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(u32);

impl Ttl {
    /// The longest there is. To nodes that do not know fixed addresses, a fixed one has it.
    pub const LONGEST: Self = Self(3_600_000);

    /// A ttl of `ms` milliseconds; 1 ms to 1 h. What a node accepts is narrower and configured.
    ///
    /// # Errors
    /// The rule, when it is out of range.
    pub fn from_ms(ms: u64) -> Result<Self, &'static str> {
        match u32::try_from(ms) {
            Ok(ms @ 1..) if ms <= Self::LONGEST.0 => Ok(Self(ms)),
            Ok(_) | Err(_) => Err("must be at most 1h"),
        }
    }

    /// In milliseconds.
    #[must_use]
    pub fn ms(self) -> u64 {
        u64::from(self.0)
    }

    /// How often the provider should send a heartbeat: a third of the ttl.
    #[must_use]
    pub fn renew_every_ms(self) -> u64 {
        (self.ms() / 3).max(1)
    }

    /// What is added where a node cannot know the last heartbeat: a third of the ttl, at least 1 s.
    #[must_use]
    pub fn grace_ms(self) -> u64 {
        (self.ms() / 3).max(1000)
    }
}

/// How the registry may look for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What is asked.
    pub kind: CheckKind,
    /// How often.
    pub interval_ms: u32,
    /// How long an answer may take.
    pub timeout_ms: u32,
    /// How many failures in a row count as one.
    pub failures: u16,
    /// How many successes in a row count as one.
    pub successes: u16,
}

/// What a check asks of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckKind {
    /// `GET path` answers 2xx. Without a port: the instance's own.
    Http {
        /// Begins with `/`.
        path: String,
        /// Another port than the instance's own.
        port: Option<Port>,
    },
    /// The port takes a connection.
    Tcp {
        /// Another port than the instance's own.
        port: Option<Port>,
    },
    /// grpc.health.v1 says SERVING.
    Grpc {
        /// Another port than the instance's own.
        port: Option<Port>,
    },
    /// Never asked: silence is the only evidence.
    None,
}

/// What a provider says of an instance, valid and immutable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    address: Address,
    port: Port,
    ports: BTreeMap<String, Port>,
    weight: u16,
    region: Option<Region>,
    zone: Option<Zone>,
    tags: BTreeSet<String>,
    metadata: BTreeMap<String, String>,
    reported: Reported,
    ttl: Option<Ttl>,
    check: Option<Check>,
    evict_after_ms: Option<u32>,
}

/// A registration's parts, each of its own type, not yet held against the bounds.
#[derive(Debug, Clone)]
pub struct RegistrationDraft {
    /// Where it listens.
    pub address: Address,
    /// Its main port.
    pub port: Port,
    /// Further ports by name.
    pub ports: BTreeMap<String, Port>,
    /// Its share of traffic.
    pub weight: u16,
    /// Its place.
    pub region: Option<Region>,
    /// Its place within the region.
    pub zone: Option<Zone>,
    /// Free words.
    pub tags: BTreeSet<String>,
    /// Free keys and values.
    pub metadata: BTreeMap<String, String>,
    /// What the provider says of its state.
    pub reported: Reported,
    /// How long it stays without a heartbeat; `None`: for ever, it sends none.
    pub ttl: Option<Ttl>,
    /// How the registry may look for itself.
    pub check: Option<Check>,
    /// How long it stays listed once it is down; absent: the node's default.
    pub evict_after_ms: Option<u32>,
}

impl RegistrationDraft {
    /// A draft of the two parts that are needed, all else as when absent. Without a ttl it is a fixed address.
    #[must_use]
    pub fn new(address: Address, port: Port, ttl: impl Into<Option<Ttl>>) -> Self {
        Self {
            address,
            port,
            ports: BTreeMap::new(),
            weight: WEIGHT_DEFAULT,
            region: None,
            zone: None,
            tags: BTreeSet::new(),
            metadata: BTreeMap::new(),
            reported: Reported::Up,
            ttl: ttl.into(),
            check: None,
            evict_after_ms: None,
        }
    }
}

impl Registration {
    /// Holds a draft against every bound of protocol section 13.
    ///
    /// # Errors
    /// Every rule that it breaks; nothing is kept of it.
    pub fn new(draft: RegistrationDraft) -> Result<Self, Vec<Violation>> {
        let violations = violations(&draft);
        if !violations.is_empty() {
            return Err(violations);
        }
        let RegistrationDraft { address, port, ports, weight, region, zone, tags, metadata, reported, ttl, check, evict_after_ms } = draft;
        Ok(Self { address, port, ports, weight, region, zone, tags, metadata, reported, ttl, check, evict_after_ms })
    }

    /// The parts again, to say something else of the same instance.
    #[must_use]
    pub fn to_draft(&self) -> RegistrationDraft {
        let Self { address, port, ports, weight, region, zone, tags, metadata, reported, ttl, check, evict_after_ms } = self.clone();
        RegistrationDraft { address, port, ports, weight, region, zone, tags, metadata, reported, ttl, check, evict_after_ms }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }
    /// Its main port.
    #[must_use]
    pub fn port(&self) -> Port {
        self.port
    }
    /// Further ports by name.
    #[must_use]
    pub fn ports(&self) -> &BTreeMap<String, Port> {
        &self.ports
    }
    /// Its share of traffic, as its provider wants it.
    #[must_use]
    pub fn weight(&self) -> u16 {
        self.weight
    }
    /// Its place.
    #[must_use]
    pub fn region(&self) -> Option<&Region> {
        self.region.as_ref()
    }
    /// Its place within the region.
    #[must_use]
    pub fn zone(&self) -> Option<&Zone> {
        self.zone.as_ref()
    }
    /// Free words.
    #[must_use]
    pub fn tags(&self) -> &BTreeSet<String> {
        &self.tags
    }
    /// Free keys and values.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
    /// What its provider says of its state.
    #[must_use]
    pub fn reported(&self) -> Reported {
        self.reported
    }
    /// How long it stays without a heartbeat; `None`: for ever, it sends none.
    #[must_use]
    pub fn ttl(&self) -> Option<Ttl> {
        self.ttl
    }
    /// How often its provider should send a heartbeat; `None`: never.
    #[must_use]
    pub fn renew_every_ms(&self) -> Option<u64> {
        self.ttl.map(Ttl::renew_every_ms)
    }
    /// How the registry may look for itself.
    #[must_use]
    pub fn check(&self) -> Option<&Check> {
        self.check.as_ref()
    }
    /// How long it stays listed once it is down; absent: the node's default.
    #[must_use]
    pub fn evict_after_ms(&self) -> Option<u32> {
        self.evict_after_ms
    }

    /// Listed whether it answers or not: a fixed address that neither heartbeats nor a check speak for.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.ttl.is_none() && self.check.as_ref().is_none_or(|check| check.kind == CheckKind::None)
    }

    /// About how many bytes it takes, in memory and on the wire.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let places = self.region.as_ref().map_or(0, |name| name.as_str().len()) + self.zone.as_ref().map_or(0, |name| name.as_str().len());
        let ports: usize = self.ports.keys().map(|name| name.len() + 4).sum();
        let tags: usize = self.tags.iter().map(|tag| tag.len() + 2).sum();
        let metadata: usize = self.metadata.iter().map(|(key, value)| key.len() + value.len() + 4).sum();
        let check = self.check.as_ref().map_or(0, |check| match &check.kind {
            CheckKind::Http { path, .. } => path.len() + 24,
            CheckKind::Tcp { .. } | CheckKind::Grpc { .. } | CheckKind::None => 24,
        });
        self.address.as_str().len() + places + ports + tags + metadata + check + 24
    }
}

pub(super) fn pointer(parts: &[&str]) -> String {
    parts.iter().fold(String::new(), |whole, part| whole + "/" + &part.replace('~', "~0").replace('/', "~1"))
}

fn check_tag(tag: &str) -> Result<(), String> {
    if tag.contains(',') { Err("must have no comma".to_owned()) } else { check_word(tag, METADATA_KEY_BYTES_MAX) }
}

fn violations(draft: &RegistrationDraft) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut say = |parts: &[&str], rule: String| found.push(Violation { pointer: pointer(parts), rule });
    // A name too long to be shown is shown cut: an answer must not carry a megabyte back.
    let shown = |name: &str| name.chars().take(64).collect::<String>();

    if draft.ports.len() > PORTS_MAX {
        say(&["ports"], format!("must have at most {PORTS_MAX} entries, has {}", draft.ports.len()));
    }
    let broken = |name: &String| check_word(name, PORT_NAME_BYTES_MAX).err().map(|rule| (shown(name), rule));
    for (name, rule) in draft.ports.keys().filter_map(broken).take(8) {
        say(&["ports", &name], format!("a port's name {rule}"));
    }
    if draft.tags.len() > TAGS_MAX {
        say(&["tags"], format!("must have at most {TAGS_MAX} entries, has {}", draft.tags.len()));
    }
    for (tag, rule) in draft.tags.iter().filter_map(|tag| check_tag(tag).err().map(|rule| (tag, rule))).take(8) {
        say(&["tags"], format!("`{}`: a tag {rule}", shown(tag)));
    }
    if draft.metadata.len() > METADATA_KEYS_MAX {
        say(&["metadata"], format!("must have at most {METADATA_KEYS_MAX} keys, has {}", draft.metadata.len()));
    }
    // Of far too many keys not each is told what else is wrong with it.
    for (key, value) in draft.metadata.iter().take(2 * METADATA_KEYS_MAX) {
        if let Err(rule) = check_word(key, METADATA_KEY_BYTES_MAX) {
            say(&["metadata", &shown(key)], format!("a key {rule}"));
        }
        if value.len() > METADATA_VALUE_BYTES_MAX {
            say(&["metadata", &shown(key)], format!("a value must be at most {METADATA_VALUE_BYTES_MAX} bytes, has {}", value.len()));
        } else if let Err(refused) = check_printable(value) {
            say(&["metadata", &shown(key)], format!("a value {refused}"));
        }
    }
    if draft.evict_after_ms.is_some_and(|ms| u64::from(ms) > EVICT_AFTER_MS_HARD_MAX) {
        say(&["evict_after"], "must be at most 24h".to_owned());
    }
    if let Some(check) = &draft.check {
        if let CheckKind::Http { path, .. } = &check.kind
            && (!path.starts_with('/') || path.len() > PATH_BYTES_MAX || check_printable(path).is_err() || path.contains(' '))
        {
            say(
                &["check", "path"],
                format!("must begin with `/` and be at most {PATH_BYTES_MAX} bytes without spaces or control characters"),
            );
        }
        if !(100..=3_600_000).contains(&check.interval_ms) {
            say(&["check", "interval"], "must be 100ms to 1h".to_owned());
        }
        if !(10..=60_000).contains(&check.timeout_ms) {
            say(&["check", "timeout"], "must be 10ms to 1m".to_owned());
        }
        for (name, count) in [("failures", check.failures), ("successes", check.successes)] {
            if !(1..=CHECK_COUNT_MAX).contains(&count) {
                say(&["check", name], format!("must be 1 to {CHECK_COUNT_MAX}"));
            }
        }
    }
    found
}

/// An instance as consumers see it: what lists, snapshots and pickers work on.
///
/// Two that are equal look the same to every consumer; the cause is no part of that.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Which copy of the service.
    pub id: InstanceId,
    /// What its provider says of it.
    pub registration: Arc<Registration>,
    /// The effective status.
    pub status: Status,
    /// The effective weight.
    pub weight: u16,
    /// Why its status is what it is.
    pub cause: Cause,
}

impl PartialEq for Listed {
    fn eq(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.registration, &other.registration);
        self.id == other.id
            && self.status == other.status
            && self.weight == other.weight
            && (Arc::ptr_eq(ours, theirs)
                || ours.address == theirs.address
                    && ours.port == theirs.port
                    && ours.ports == theirs.ports
                    && ours.region == theirs.region
                    && ours.zone == theirs.zone
                    && ours.tags == theirs.tags
                    && ours.metadata == theirs.metadata
                    && ours.is_fixed() == theirs.is_fixed())
    }
}

impl Eq for Listed {}

#[cfg(test)]
mod tests;
