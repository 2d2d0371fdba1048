//! Records: what a node holds of an instance, one each, and its fingerprints.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use crate::model::{Cause, CheckKind, InstanceKey, Listed, Registration, Reported, Status, Version};

/// An instance's record. Of two for one key the one with the greater version wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is about.
    pub key: InstanceKey,
    /// Determines the body: no life of a node writes one version twice.
    pub version: Version,
    /// What is known.
    pub body: Body,
    /// Why it is so.
    pub cause: Cause,
    /// When that was, on its owner's wall clock, in ms since 1970: for people, never for ordering.
    pub changed_at: u64,
    /// Who asked for it, where somebody did; at most [`NOTE_BYTES_MAX`].
    pub actor: Option<Arc<str>>,
    /// More about the cause, in words; at most [`NOTE_BYTES_MAX`].
    pub detail: Option<Arc<str>>,
    /// How long before that its provider was last heard, in ms, where its silence has to do with it.
    pub last_heartbeat_ms: Option<u32>,
    /// The digest of the content that this life was registered with first, or attached with last, where another one holds by now: a
    /// provider that attaches with it again does so because its connection ended, and has nothing new to say.
    pub first_content: Option<u128>,
}

/// How long a record's actor and detail may each be.
pub const NOTE_BYTES_MAX: usize = 256;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The instance is listed.
    Live {
        /// What its provider says.
        registration: Arc<Registration>,
        /// What the registry saw of it.
        seen: Seen,
        /// It leaves: nothing new is to be sent there. No part of what its provider says, and kept until that says `up` again.
        draining: bool,
    },
    /// The instance is gone.
    Withdrawn {
        /// Gone by silence: what it was, so that a late heartbeat can bring it back.
        kept: Option<Arc<Registration>>,
        /// The deregistration named its incarnation: that life may not register again.
        named: bool,
        /// Nobody knew the instance when it was deregistered: there was nothing to be seen, and is nothing now.
        of_unknown: bool,
        /// Gone by silence while it was draining: it still is when it comes back.
        draining: bool,
    },
}

/// What the registry saw of a live instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Seen {
    /// Its lease is held.
    Well,
    /// Its lease is late.
    Suspect,
    /// Its lease is long late.
    Down,
}

impl Body {
    /// What its provider says; of one that went by silence, what it said.
    #[must_use]
    pub fn content(&self) -> Option<&Arc<Registration>> {
        match self {
            Self::Live { registration, .. } => Some(registration),
            Self::Withdrawn { kept, .. } => kept.as_ref(),
        }
    }
}

impl Record {
    /// What the provider says, of a live record.
    #[must_use]
    pub fn registration(&self) -> Option<&Arc<Registration>> {
        match &self.body {
            Body::Live { registration, .. } => Some(registration),
            Body::Withdrawn { .. } => None,
        }
    }

    /// It leaves; or it went by silence while it left, and still does when it comes back.
    #[must_use]
    pub fn keeps_drain(&self) -> bool {
        matches!(self.body, Body::Live { draining: true, .. } | Body::Withdrawn { draining: true, .. })
    }

    /// It is listed, and leaves.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        matches!(self.body, Body::Live { draining: true, .. })
    }

    /// A deregistration of what nobody knew.
    #[must_use]
    pub fn is_of_unknown(&self) -> bool {
        matches!(self.body, Body::Withdrawn { of_unknown: true, .. })
    }

    /// What consumers see of it; `None` when it is withdrawn.
    #[must_use]
    pub fn to_listed(&self) -> Option<Listed> {
        match &self.body {
            Body::Live { registration, seen, draining } => Some(Listed {
                id: self.key.id.clone(),
                registration: Arc::clone(registration),
                status: match seen {
                    Seen::Well if *draining => Status::Draining,
                    Seen::Well => registration.reported().into(),
                    Seen::Suspect => Status::Suspect,
                    Seen::Down => Status::Down,
                },
                weight: if *draining { 0 } else { registration.weight() },
                cause: self.cause,
            }),
            Body::Withdrawn { .. } => None,
        }
    }

    /// Adds up, wrapping, to the digest of a set of records: a fixed hash of key and version, the same on every machine.
    #[must_use]
    pub fn fingerprint(&self) -> u128 {
        let Version { incarnation, edition, deregistered, generation, live, owner, seq } = &self.version;
        let mut hash = Canonical::default();
        hash.key(&self.key);
        hash.number(incarnation.get());
        hash.number(*edition);
        hash.number(u64::from(*deregistered));
        hash.number(*generation);
        hash.number(u64::from(*live));
        hash.text(owner.node.as_str());
        hash.number(owner.epoch.0);
        hash.number(*seq);
        hash.finish()
    }

    /// About how many bytes it takes on the wire.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let key = self.key.size_bytes();
        let body = self.body.content().map_or(0, |registration| registration.size_bytes());
        let notes = self.actor.as_ref().map_or(0, |text| text.len()) + self.detail.as_ref().map_or(0, |text| text.len());
        let extra = self.first_content.map_or(0, |digest| size_of_val(&digest));
        key + self.version.owner.node.as_str().len() + body + notes + extra + 64
    }
}

/// The fingerprint of what a provider says, whole: the `digest` of the API. A field added later adds nothing while it has its default.
#[must_use]
pub fn content_digest(registration: &Registration) -> u128 {
    let mut hash = Canonical::default();
    hash.listed_content(registration);
    if registration.weight() != crate::model::WEIGHT_DEFAULT {
        hash.tag(b'w');
        hash.number(u64::from(registration.weight()));
    }
    if registration.reported() != Reported::Up {
        hash.tag(b's');
        hash.text(registration.reported().as_str());
    }
    match registration.ttl() {
        Some(ttl) => {
            hash.tag(b'l');
            hash.number(ttl.ms());
        }
        None => hash.tag(b'n'),
    }
    if let Some(ms) = registration.evict_after_ms() {
        hash.tag(b'e');
        hash.number(u64::from(ms));
    }
    if let Some(check) = registration.check() {
        hash.tag(b'c');
        let (kind, path, port) = match &check.kind {
            CheckKind::Http { path, port } => ("http", path.as_str(), *port),
            CheckKind::Tcp { port } => ("tcp", "", *port),
            CheckKind::Grpc { port } => ("grpc", "", *port),
            CheckKind::None => ("none", "", None),
        };
        hash.text(kind);
        hash.text(path);
        hash.number(port.map_or(0, |port| u64::from(port.get())));
        for number in [check.interval_ms, check.timeout_ms, u32::from(check.failures), u32::from(check.successes)] {
            hash.number(u64::from(number));
        }
    }
    hash.finish()
}

/// Adds up, wrapping, to a service's revision: the listed fields of one visible instance.
#[must_use]
pub fn listed_digest(listed: &Listed) -> u128 {
    let mut hash = Canonical::default();
    hash.text(listed.id.as_str());
    hash.text(listed.status.as_str());
    hash.number(u64::from(listed.weight));
    hash.listed_content(&listed.registration);
    hash.finish()
}

/// Where in the digest a key is counted.
#[must_use]
pub fn key_hash(key: &InstanceKey) -> u128 {
    let mut hash = Canonical::default();
    hash.key(key);
    hash.finish()
}

/// Gathers values so that no two different sequences give the same bytes: lengths before texts, numbers little-endian.
///
/// They are hashed by xxHash's XXH3, 128 bits, seed 0, all at once: its streaming form costs more than it hashes on a few hundred bytes.
pub(super) struct Canonical(Vec<u8>);

/// What most records need.
const CANONICAL_BYTES: usize = 256;

impl Default for Canonical {
    fn default() -> Self {
        Self(Vec::with_capacity(CANONICAL_BYTES))
    }
}

impl Canonical {
    pub(super) fn tag(&mut self, tag: u8) {
        self.0.push(tag);
    }

    pub(super) fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn wide(&mut self, number: u128) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn key(&mut self, key: &InstanceKey) {
        self.text(key.service.namespace.as_str());
        self.text(key.service.service.as_str());
        self.text(key.id.as_str());
    }

    /// What consumers see of a registration, without its weight, which an operator may override.
    fn listed_content(&mut self, registration: &Registration) {
        self.text(registration.address().as_str());
        self.number(u64::from(registration.port().get()));
        for (name, port) in registration.ports() {
            self.tag(b'p');
            self.text(name);
            self.number(u64::from(port.get()));
        }
        if let Some(region) = registration.region() {
            self.tag(b'r');
            self.text(region.as_str());
        }
        if let Some(zone) = registration.zone() {
            self.tag(b'z');
            self.text(zone.as_str());
        }
        for tag in registration.tags() {
            self.tag(b't');
            self.text(tag);
        }
        for (key, value) in registration.metadata() {
            self.tag(b'm');
            self.text(key);
            self.text(value);
        }
        if registration.is_fixed() {
            self.tag(b'f');
        }
    }

    pub(super) fn finish(self) -> u128 {
        xxh3_128(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Address, InstanceId, Port, RegistrationDraft, Ttl};

    fn draft() -> RegistrationDraft {
        RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(8080).unwrap(), Ttl::from_ms(15_000).unwrap())
    }

    /// Nodes of other versions and machines have these numbers too: when one changes, clusters disagree while they are upgraded.
    #[test]
    fn digests_are_the_same_for_ever() {
        let registration = Arc::new(Registration::new(draft()).unwrap());
        assert_eq!(content_digest(&registration), 0xf054_666b_ac68_2a69_22aa_f40a_560a_7446);
        let id = InstanceId::parse("user-1").unwrap();
        let listed = Listed { id, registration, status: Status::Up, weight: 100, cause: Cause::Registered };
        assert_eq!(listed_digest(&listed), 0x44fe_838a_a4d1_d640_9d0f_c1f6_8a2d_4006);
        let fixed = Arc::new(Registration::new(RegistrationDraft { ttl: None, ..draft() }).unwrap());
        assert_eq!(content_digest(&fixed), 0x93ad_2965_f268_c059_e9cf_90d9_138a_5b7d);
        assert_eq!(listed_digest(&Listed { registration: fixed, ..listed }), 0x06bb_6af9_83e6_35b7_279b_6a33_20d2_3eb7);
    }

    #[test]
    fn the_content_digest_sees_what_consumers_do_not() {
        let digest = |change: fn(&mut RegistrationDraft)| {
            let mut draft = draft();
            change(&mut draft);
            content_digest(&Registration::new(draft).unwrap())
        };
        let changes: [fn(&mut RegistrationDraft); 6] = [
            |draft| draft.ttl = Ttl::from_ms(15_001).ok(),
            |draft| draft.ttl = Some(Ttl::LONGEST),
            |draft| draft.ttl = None,
            |draft| draft.weight = 99,
            |draft| draft.reported = Reported::Starting,
            |draft| draft.evict_after_ms = Some(1),
        ];
        let digests: std::collections::BTreeSet<_> = changes.into_iter().map(digest).chain([digest(|_| {})]).collect();
        assert_eq!(digests.len(), 7);
    }
}
