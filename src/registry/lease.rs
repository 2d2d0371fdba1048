//! Leases: the deadlines of the records owned here. The last heartbeats are kept by the shell; they are asked for when a deadline fires.

use std::collections::{BTreeMap, BTreeSet};

use super::time::Mono;
use crate::model::{Incarnation, InstanceKey};

/// The leases held here, by key and by what is due first.
#[derive(Default)]
pub(super) struct Leases {
    leases: BTreeMap<InstanceKey, Lease>,
    due: BTreeSet<(Mono, InstanceKey)>,
}

/// A right to stay listed.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    /// When it is looked at next; `None`: never, it is a fixed address's. Not when it is over: heartbeats do not move it.
    due: Option<Mono>,
    /// How late it is.
    pub(super) phase: Phase,
    /// The last heartbeat that the registry itself knows of.
    pub(super) renewed_at: Mono,
    /// The life it was given for.
    pub(super) incarnation: Incarnation,
    /// Of the content it was given for.
    pub(super) digest: u128,
    /// Without a heartbeat it lasts so long, if it is ever looked at.
    pub(super) ttl_ms: u64,
    /// Once down, the instance stays listed so long.
    pub(super) evict_after_ms: u64,
    /// It was registered without an incarnation by a node that knew nothing of the instance: a higher one may be known elsewhere.
    pub(super) unnamed: bool,
}

/// How late a lease is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is held.
    Held,
    /// Its time is over since then; the instance is `suspect`.
    Late(Mono),
    /// It has been late for another ttl since then; the instance is `down`.
    Over(Mono),
}

/// A lease that ended because a greater record took its place, until the shell has said when it was last renewed.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    /// As it was.
    pub(super) lease: Lease,
    /// What it was held for.
    pub(super) record: std::sync::Arc<super::record::Record>,
}

impl Leases {
    pub(super) fn get(&self, key: &InstanceKey) -> Option<&Lease> {
        self.leases.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &InstanceKey) -> Option<&mut Lease> {
        self.leases.get_mut(key)
    }

    pub(super) fn len(&self) -> usize {
        self.leases.len()
    }

    /// Holds a lease from now on, in the place of one that was held for the same key. Without `due` no silence ends it.
    pub(super) fn hold(&mut self, key: InstanceKey, mut lease: Lease, due: Option<Mono>) {
        lease.due = due;
        if let Some(due) = self.leases.insert(key.clone(), lease).and_then(|former| former.due) {
            self.due.remove(&(due, key.clone()));
        }
        self.due.extend(due.map(|due| (due, key)));
    }

    /// Looks at a lease again at `due`.
    pub(super) fn reschedule(&mut self, key: &InstanceKey, due: Mono) {
        let Some(lease) = self.leases.get_mut(key) else { return };
        if let Some(former) = lease.due.replace(due) {
            self.due.remove(&(former, key.clone()));
        }
        self.due.insert((due, key.clone()));
    }

    pub(super) fn end(&mut self, key: &InstanceKey) -> Option<Lease> {
        let lease = self.leases.remove(key)?;
        if let Some(due) = lease.due {
            self.due.remove(&(due, key.clone()));
        }
        Some(lease)
    }

    /// When the next lease is to be looked at.
    pub(super) fn next_due(&self) -> Option<Mono> {
        self.due.first().map(|(due, _)| *due)
    }

    /// The next lease that is due, if one is; it is put off to `again`, so that no answer is waited for in vain.
    pub(super) fn take_due(&mut self, now: Mono, again: Mono) -> Option<InstanceKey> {
        let (due, _) = self.due.first()?;
        if *due > now {
            return None;
        }
        let (_, key) = self.due.pop_first()?;
        if let Some(lease) = self.leases.get_mut(&key) {
            lease.due = Some(again);
            self.due.insert((again, key.clone()));
        }
        Some(key)
    }
}

impl Lease {
    /// A lease that was renewed at `renewed_at`; [`Leases::hold`] says when it is looked at.
    pub(super) fn new(incarnation: Incarnation, digest: u128, ttl_ms: u64, evict_after_ms: u64, renewed_at: Mono, unnamed: bool) -> Self {
        Self { due: None, phase: Phase::Held, renewed_at, incarnation, digest, ttl_ms, evict_after_ms, unnamed }
    }

    /// Silence says nothing of it.
    pub(super) fn is_fixed(&self) -> bool {
        self.due.is_none()
    }
}
