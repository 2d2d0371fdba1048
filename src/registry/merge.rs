//! The merge: of two records for an instance the greater version wins. Every record that changes, changes here.

use std::sync::Arc;

use super::io::{Changed, Notice, Output, Purpose};
use super::lease::Ended;
use super::record::{Body, Record};
use super::time::Now;
use super::{Outbox, Registry};
use crate::model::{Cause, Incarnation, InstanceKey, Life, Listed, Registration, Version};

/// A generation that far above the known one cannot have come about honestly.
const GENERATION_JUMP_MAX: u64 = 1 << 20;

/// The parts of a version that whoever writes a change chooses; the rest follows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) incarnation: Incarnation,
    pub(super) edition: u64,
    pub(super) deregistered: bool,
    pub(super) generation: u64,
}

impl Step {
    /// The first of a new life.
    pub(super) fn life(incarnation: Incarnation) -> Self {
        Self { incarnation, edition: 0, deregistered: false, generation: 0 }
    }

    /// The provider said something else.
    pub(super) fn edition(known: &Version) -> Self {
        Self { incarnation: known.incarnation, edition: known.edition + 1, deregistered: false, generation: 0 }
    }

    /// The provider took the instance away.
    pub(super) fn deregistration(known: &Version) -> Self {
        Self { deregistered: true, ..Self::edition(known) }
    }

    /// The registry did something.
    pub(super) fn generation(known: &Version) -> Self {
        Self { generation: known.generation + 1, ..Self::same(known) }
    }

    /// The owner saw something.
    pub(super) fn same(known: &Version) -> Self {
        Self { incarnation: known.incarnation, edition: known.edition, deregistered: known.deregistered, generation: known.generation }
    }
}

/// Why a change is written, and who asked for it.
#[derive(Debug, Clone)]
pub(super) struct Why {
    pub(super) cause: Cause,
    pub(super) actor: Option<Arc<str>>,
    pub(super) detail: Option<Arc<str>>,
}

impl From<Cause> for Why {
    fn from(cause: Cause) -> Self {
        Self { cause, actor: None, detail: None }
    }
}

impl Registry {
    /// Writes a change of this node's own: it is in the log, and this node is the owner.
    pub(super) fn write(&mut self, key: InstanceKey, step: Step, body: Body, why: Why, now: Now, out: &mut Outbox) -> Arc<Record> {
        let Step { incarnation, edition, deregistered, generation } = step;
        let live = matches!(body, Body::Live { .. });
        let version = Version { incarnation, edition, deregistered, generation, live, owner: self.life.clone(), seq: self.log.head() + 1 };
        debug_assert!(self.store.get(&key).is_none_or(|known| known.version < version), "what is written is greater than what is known");
        let record = Arc::new(Record { key, version, body, cause: why.cause, changed_at: now.wall, actor: why.actor, detail: why.detail });
        self.log.append(Arc::clone(&record));
        self.applied.raise(&self.life, record.version.seq, now.mono);
        self.put(&record, true, now, out);
        record
    }

    /// Takes a record that was heard, if it is greater than the known one; says whether it was.
    pub(super) fn merge(&mut self, record: &Arc<Record>, from: &Life, now: Now, out: &mut Outbox) -> bool {
        if let Some(known) = self.store.get(&record.key) {
            if record.version <= known.version {
                return false;
            }
            let same_edition = (record.version.incarnation, record.version.edition, record.version.deregistered)
                == (known.version.incarnation, known.version.edition, known.version.deregistered);
            if same_edition && record.version.generation > known.version.generation + GENERATION_JUMP_MAX {
                quarantine(record, from, "its generation is far above the known one", out);
                return false;
            }
        }
        if record.version.owner == self.life && record.version.seq > self.log.head() {
            quarantine(record, from, "it names a change that this node never wrote", out);
            return false;
        }
        let before = self.put(record, false, now, out);
        if let (Some(lease), Some(held)) = (self.leases.end(&record.key), before) {
            self.ended.insert(record.key.clone(), Ended { lease, record: held });
            out.push(Output::AskLease { key: record.key.clone(), purpose: Purpose::Ended });
        }
        true
    }

    /// Puts a record in its place, tells who must know, and gives back what stood there.
    fn put(&mut self, record: &Arc<Record>, own: bool, now: Now, out: &mut Outbox) -> Option<Arc<Record>> {
        let put = self.store.put(record, now.mono);
        let is_of_another = |before: &Arc<Record>| before.registration().is_some() && before.version.owner != record.version.owner;
        let status = |record: &Record| record.to_listed().map(|listed: Listed| listed.status);
        out.push(Output::Changed(Changed {
            record: Arc::clone(record),
            from: put.before.as_deref().and_then(status),
            to: status(record),
            cause: record.cause,
            own,
            moved: record.registration().is_some() && put.before.as_ref().is_some_and(is_of_another),
        }));
        if put.told {
            out.push(Output::ViewChanged(record.key.service.clone()));
        }
        put.before
    }
}

/// Refuses a record of a peer's; the rest of what it came with goes on.
pub(super) fn quarantine(record: &Record, from: &Life, why: &'static str, out: &mut Outbox) {
    out.push(Output::Noticed(Notice::Quarantined { from: from.clone(), key: record.key.clone(), why }));
}

/// What is kept of an instance that went by silence.
pub(super) fn kept(record: &Record) -> Option<&Arc<Registration>> {
    match &record.body {
        Body::Withdrawn { kept, .. } => kept.as_ref(),
        Body::Live { .. } => None,
    }
}
