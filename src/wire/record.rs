//! Records on the wire: the frozen shapes, and the way from and to the registry's own.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::list::List;
use super::reading::{self, Reading};
use super::registration::Registration;
use crate::model::{self, Epoch, INCARNATION_MAX, Incarnation, InstanceKey, ServiceKey};
use crate::registry::{self, NOTE_BYTES_MAX};

/// More records than fit into a frame.
const RECORDS_MAX: usize = 16_384;

/// Records in a row; those that break a rule are left out when they are read, and noted.
pub(super) type Records<'a> = List<Record<'a>, RECORDS_MAX>;

/// What later versions add to a record or a beacon without a new kind of frame: (tag, bytes), of no meaning to this one, which skips it.
pub(super) type Extras<'a> = List<(u16, Cow<'a, [u8]>), EXTRAS_MAX>;

const EXTRAS_MAX: usize = 32;

/// No log, edition or generation honestly comes to more; far enough below what a number holds that nobody who counts on from it overflows.
const COUNT_MAX: u64 = INCARNATION_MAX;

/// A number that somebody counts on from.
pub(super) fn counted(number: u64, what: &'static str) -> Result<u64, Invalid> {
    if number <= COUNT_MAX { Ok(number) } else { Err(Invalid(what)) }
}

/// Among a record's extras: the cause, where `cause` can only say what comes nearest to it. One byte.
const CAUSE_TAG: u16 = 1;
/// Among a record's extras: its instance is a fixed address, which sends no heartbeats. No bytes.
const FIXED_TAG: u16 = 2;
/// Among a record's extras: its instance is draining, or was when it fell silent. No bytes.
const DRAINING_TAG: u16 = 3;
/// Among a record's extras: how long before the change its provider was last heard, in ms. Four bytes, little-endian.
const LAST_HEARTBEAT_TAG: u16 = 4;
/// Among a withdrawn record's extras: nobody knew its instance. No bytes.
const OF_UNKNOWN_TAG: u16 = 5;
/// Among a record's extras: the digest of the content that its life began with, where another holds by now. Sixteen bytes, little-endian.
const FIRST_CONTENT_TAG: u16 = 6;

/// What a record's extras say of its body.
#[derive(Clone, Copy)]
struct Tags {
    sends_heartbeats: bool,
    draining: bool,
    of_unknown: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Record<'a> {
    #[serde(borrow)]
    key: Key<'a>,
    version: Version<'a>,
    body: Body<'a>,
    cause: Cause,
    changed_at: u64,
    #[serde(borrow)]
    actor: Option<&'a str>,
    #[serde(borrow)]
    detail: Option<&'a str>,
    #[serde(borrow)]
    extras: Extras<'a>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Key<'a> {
    namespace: &'a str,
    service: &'a str,
    id: &'a str,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Life<'a> {
    node: &'a str,
    epoch: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Version<'a> {
    incarnation: u64,
    edition: u64,
    deregistered: bool,
    generation: u64,
    live: bool,
    #[serde(borrow)]
    owner: Life<'a>,
    pub(super) seq: u64,
}

#[derive(Serialize, Deserialize)]
enum Body<'a> {
    Live {
        #[serde(borrow)]
        registration: Registration<'a>,
        seen: Seen,
    },
    Withdrawn {
        #[serde(borrow)]
        kept: Option<Registration<'a>>,
        named: bool,
    },
}

#[derive(Serialize, Deserialize)]
enum Seen {
    Well,
    Suspect,
    Down,
}

#[derive(Serialize, Deserialize)]
enum Cause {
    Registered,
    Updated,
    Expired,
    Recovered,
    Deregistered,
    Superseded,
    Adopted,
}

impl<'a> Record<'a> {
    pub(super) fn of(record: &'a registry::Record) -> Self {
        let registry::Record { key, version, body, cause, changed_at, actor, detail, last_heartbeat_ms: _, first_content: _ } = record;
        Self {
            key: Key::of(key),
            version: Version::of(version),
            body: Body::of(body),
            cause: Cause::of(*cause),
            changed_at: *changed_at,
            actor: actor.as_deref(),
            detail: detail.as_deref(),
            extras: extras_of(record),
        }
    }

    pub(super) fn into_model(self, reading: &mut Reading) -> Result<Arc<registry::Record>, Invalid> {
        let Self { key, version, body, cause, changed_at, actor, detail, extras } = self;
        let (mut later, mut last_heartbeat_ms, mut first_content) = (None, None, None);
        let mut tags = Tags { sends_heartbeats: true, draining: false, of_unknown: false };
        for (tag, bytes) in extras {
            match tag {
                CAUSE_TAG => later = later.or(cause_of_later(&bytes)),
                FIXED_TAG => tags.sends_heartbeats = false,
                DRAINING_TAG => tags.draining = true,
                LAST_HEARTBEAT_TAG => last_heartbeat_ms = <[u8; 4]>::try_from(&*bytes).ok().map(u32::from_le_bytes),
                OF_UNKNOWN_TAG => tags.of_unknown = true,
                FIRST_CONTENT_TAG => first_content = <[u8; 16]>::try_from(&*bytes).ok().map(u128::from_le_bytes),
                // Of a later version.
                _ => {}
            }
        }
        Ok(Arc::new(registry::Record {
            key: key.into_model(reading)?,
            version: version.into_model(reading)?,
            body: body.into_model(tags, reading)?,
            cause: later.unwrap_or_else(|| cause.into_model()),
            changed_at,
            actor: actor.map(note).transpose()?,
            detail: detail.map(note).transpose()?,
            last_heartbeat_ms,
            first_content,
        }))
    }
}

fn extras_of(record: &registry::Record) -> Extras<'_> {
    let cause = later_cause(record.cause).map(|number| (CAUSE_TAG, Cow::Owned(vec![number])));
    let is_fixed = record.body.content().is_some_and(|registration| registration.ttl().is_none());
    let is_draining = record.keeps_drain();
    let of_unknown = matches!(record.body, registry::Body::Withdrawn { of_unknown: true, .. });
    let flags =
        [(is_fixed, FIXED_TAG), (is_draining, DRAINING_TAG), (of_unknown, OF_UNKNOWN_TAG)].into_iter().filter(|(is_set, _)| *is_set);
    let last_heartbeat = record.last_heartbeat_ms.map(|ms| (LAST_HEARTBEAT_TAG, Cow::Owned(ms.to_le_bytes().to_vec())));
    let first_content = record.first_content.map(|digest| (FIRST_CONTENT_TAG, Cow::Owned(digest.to_le_bytes().to_vec())));
    cause.into_iter().chain(flags.map(|(_, tag)| (tag, Cow::Owned(Vec::new())))).chain(last_heartbeat).chain(first_content).collect()
}

/// An actor or a detail: shown to people, so nothing that moves a terminal's cursor.
fn note(text: &str) -> Result<Arc<str>, Invalid> {
    if text.len() <= NOTE_BYTES_MAX && !text.chars().any(char::is_control) { Ok(Arc::from(text)) } else { Err(Invalid("note")) }
}

impl<'a> Key<'a> {
    pub(super) fn of(key: &'a InstanceKey) -> Self {
        Self { namespace: key.service.namespace.as_str(), service: key.service.service.as_str(), id: key.id.as_str() }
    }

    pub(super) fn into_model(self, reading: &mut Reading) -> Result<InstanceKey, Invalid> {
        let service = ServiceKey { namespace: reading.namespace.parse(self.namespace)?, service: reading.service.parse(self.service)? };
        Ok(InstanceKey { service, id: reading::parse(self.id)? })
    }
}

impl<'a> Life<'a> {
    pub(super) fn of(life: &'a model::Life) -> Self {
        Self { node: life.node.as_str(), epoch: life.epoch.0 }
    }

    pub(super) fn into_model(self, reading: &mut Reading) -> Result<model::Life, Invalid> {
        Ok(model::Life { node: reading.node.parse(self.node)?, epoch: Epoch(self.epoch) })
    }
}

impl<'a> Version<'a> {
    pub(super) fn of(version: &'a model::Version) -> Self {
        let model::Version { incarnation, edition, deregistered, generation, live, owner, seq } = version;
        Self {
            incarnation: incarnation.get(),
            edition: *edition,
            deregistered: *deregistered,
            generation: *generation,
            live: *live,
            owner: Life::of(owner),
            seq: *seq,
        }
    }

    pub(super) fn into_model(self, reading: &mut Reading) -> Result<model::Version, Invalid> {
        Ok(model::Version {
            incarnation: Incarnation::new(self.incarnation).ok_or(Invalid("incarnation"))?,
            edition: counted(self.edition, "edition")?,
            deregistered: self.deregistered,
            generation: counted(self.generation, "generation")?,
            live: self.live,
            owner: self.owner.into_model(reading)?,
            seq: counted(self.seq, "seq")?,
        })
    }
}

impl<'a> Body<'a> {
    fn of(body: &'a registry::Body) -> Self {
        match body {
            registry::Body::Live { registration, seen, draining: _ } => {
                Self::Live { registration: Registration::of(registration), seen: Seen::of(*seen) }
            }
            registry::Body::Withdrawn { kept, named, of_unknown: _, draining: _ } => {
                Self::Withdrawn { kept: kept.as_deref().map(Registration::of), named: *named }
            }
        }
    }

    fn into_model(self, tags: Tags, reading: &mut Reading) -> Result<registry::Body, Invalid> {
        let Tags { sends_heartbeats, draining, of_unknown } = tags;
        Ok(match self {
            Self::Live { registration, seen } => {
                let registration = registration.into_model(sends_heartbeats, reading)?;
                registry::Body::Live { registration, seen: seen.into_model(), draining }
            }
            Self::Withdrawn { kept, named } => {
                let kept = kept.map(|registration| registration.into_model(sends_heartbeats, reading)).transpose()?;
                registry::Body::Withdrawn { kept, named, of_unknown, draining }
            }
        })
    }
}

impl Seen {
    fn of(seen: registry::Seen) -> Self {
        match seen {
            registry::Seen::Well => Self::Well,
            registry::Seen::Suspect => Self::Suspect,
            registry::Seen::Down => Self::Down,
        }
    }

    fn into_model(self) -> registry::Seen {
        match self {
            Self::Well => registry::Seen::Well,
            Self::Suspect => registry::Seen::Suspect,
            Self::Down => registry::Seen::Down,
        }
    }
}

impl Cause {
    fn of(cause: model::Cause) -> Self {
        match cause {
            model::Cause::Registered => Self::Registered,
            // What an operator overrides stays out of records.
            model::Cause::Updated | model::Cause::Overridden | model::Cause::Drained => Self::Updated,
            model::Cause::Expired
            | model::Cause::Preserved
            | model::Cause::Detached
            | model::Cause::ProbeFailed
            | model::Cause::AddressReused => Self::Expired,
            model::Cause::Recovered | model::Cause::ProbeSucceeded => Self::Recovered,
            model::Cause::Deregistered => Self::Deregistered,
            model::Cause::Superseded => Self::Superseded,
            model::Cause::Adopted | model::Cause::OwnerLost => Self::Adopted,
        }
    }

    fn into_model(self) -> model::Cause {
        match self {
            Self::Registered => model::Cause::Registered,
            Self::Updated => model::Cause::Updated,
            Self::Expired => model::Cause::Expired,
            Self::Recovered => model::Cause::Recovered,
            Self::Deregistered => model::Cause::Deregistered,
            Self::Superseded => model::Cause::Superseded,
            Self::Adopted => model::Cause::Adopted,
        }
    }
}

/// The numbers of the causes that came after the first version; never used again for others. A node that does not know one
/// takes the cause that comes nearest.
fn later_cause(cause: model::Cause) -> Option<u8> {
    match cause {
        model::Cause::Registered
        | model::Cause::Updated
        | model::Cause::Expired
        | model::Cause::Recovered
        | model::Cause::Deregistered
        | model::Cause::Superseded
        | model::Cause::Adopted
        | model::Cause::Overridden => None,
        model::Cause::OwnerLost => Some(1),
        model::Cause::Preserved => Some(2),
        model::Cause::ProbeFailed => Some(3),
        model::Cause::ProbeSucceeded => Some(4),
        model::Cause::Detached => Some(5),
        model::Cause::Drained => Some(6),
        model::Cause::AddressReused => Some(7),
    }
}

fn cause_of_later(bytes: &[u8]) -> Option<model::Cause> {
    let [number] = bytes else { return None };
    model::Cause::ALL.into_iter().find(|cause| later_cause(*cause) == Some(*number))
}

pub(super) fn records_of(records: &[Arc<registry::Record>]) -> Records<'_> {
    records.iter().map(|record| Record::of(record)).collect()
}

pub(super) fn to_records(records: Records<'_>, reading: &mut Reading) -> Vec<Arc<registry::Record>> {
    reading.sound(records.into_iter().map(|record| (record.version.seq, record)), Record::into_model)
}
