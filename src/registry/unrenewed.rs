//! Unrenewed leases: those that were taken over, and that no heartbeat has renewed since. Each lasts its ttl and grace once, over all lives
//! of a node that starts again and again: how long a life waited is saved with the records, and the next one goes on from there.
//!
//! Time counts while this node holds the record and takes heartbeats. While it is stopped, paused, or joins, none can reach it: that counts
//! against no provider, and no wall clock is read.

use imbl::OrdMap;

use super::record::Record;
use super::restore::Picture;
use super::store::Records;
use super::time::Mono;
use crate::model::{InstanceKey, Life, Ttl};

/// How many are noted at the most; one more lasts a whole ttl and grace in the next life too.
const UNRENEWED_MAX: usize = 100_000;

/// A lease that a life of this node took over, and that no heartbeat had renewed when its records were saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnrenewedLease {
    /// Whose.
    pub key: InstanceKey,
    /// For how long a heartbeat could have renewed it, in ms, in that life and in those before it.
    pub waited_ms: u64,
}

/// At most [`UNRENEWED_MAX`] of each.
#[derive(Clone, Default)]
pub(super) struct Unrenewed {
    /// What former lives waited, until the records of the disk are merged or dropped.
    saved: OrdMap<InstanceKey, u64>,
    /// What this life waits for.
    waits: OrdMap<InstanceKey, Wait>,
    /// For so long this life was paused.
    paused_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct Wait {
    /// For so long former lives did.
    before_ms: u64,
    /// This life does since then, on a clock that stands still while the node is paused.
    since: Mono,
    /// The shell's table holds this where no heartbeat came: the lease is held as if renewed then. 0: it is not held yet.
    made_up: Mono,
}

impl Wait {
    fn waited_ms(self, running: Mono) -> u64 {
        self.before_ms.saturating_add(running.saturating_sub(self.since))
    }
}

/// What a lease lasts that is taken over without a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lasting {
    /// A heartbeat is to come until then; past, where former lives have waited longer.
    pub(super) until: Mono,
    /// It is held as if renewed then.
    pub(super) made_up: Mono,
}

impl Unrenewed {
    /// Takes what was read from disk.
    pub(super) fn restore(&mut self, leases: Vec<UnrenewedLease>) {
        self.saved = leases.into_iter().take(UNRENEWED_MAX).map(|lease| (lease.key, lease.waited_ms)).collect();
    }

    /// What was restored is dropped: peers know when the leases were renewed last.
    pub(super) fn forget_saved(&mut self) {
        self.saved.clear();
    }

    /// The node was paused for so long.
    pub(super) fn pause(&mut self, gap_ms: u64) {
        self.paused_ms += gap_ms;
    }

    fn running(&self, now: Mono) -> Mono {
        now.saturating_sub(self.paused_ms)
    }

    /// The records of the disk are held from now on, and heartbeats are taken: those of owners that are over are waited for.
    pub(super) fn begin(&mut self, records: &Records, is_over: impl Fn(&Life) -> bool, now: Mono) {
        let saved = std::mem::take(&mut self.saved);
        let is_waited_for =
            |record: &Record| record.registration().is_some_and(|held| held.ttl().is_some()) && is_over(&record.version.owner);
        let waiting = || records.values().filter(|record| is_waited_for(record)).map(|record| (&record.key, saved.get(&record.key)));
        // Those that have waited come first: what they waited is not to be lost where there are too many.
        let known = waiting().filter_map(|(key, before)| Some((key, *before?)));
        let new = waiting().filter(|(_, before)| before.is_none()).map(|(key, _)| (key, 0));
        let since = self.running(now);
        let waits = known.chain(new).map(|(key, before_ms)| (key.clone(), Wait { before_ms, since, made_up: 0 }));
        let room = UNRENEWED_MAX.saturating_sub(self.waits.len());
        self.waits.extend(waits.take(room));
    }

    /// A lease was renewed, or another node answers for it.
    pub(super) fn end(&mut self, key: &InstanceKey) {
        if !self.waits.is_empty() {
            self.waits.remove(key);
        }
    }

    /// A lease is looked at that was renewed then, as far as the shell knows.
    pub(super) fn note_last(&mut self, key: &InstanceKey, last: Mono) {
        if self.waits.get(key).is_some_and(|wait| last > wait.made_up) {
            self.waits.remove(key);
        }
    }

    /// A record took its place: what is another's, or gone, is not waited for here.
    pub(super) fn follow(&mut self, record: &Record, life: &Life) {
        if record.registration().is_none() || record.version.owner != *life {
            self.end(&record.key);
        }
    }

    /// These lives run after all: their own nodes know when their leases were renewed.
    pub(super) fn end_of(&mut self, lives: &[Life], owner: impl Fn(&InstanceKey) -> Option<Life>) {
        if !lives.is_empty() && !self.waits.is_empty() {
            let is_theirs = |key: &InstanceKey| owner(key).is_some_and(|owner| lives.contains(&owner));
            let theirs: Vec<InstanceKey> = self.waits.keys().filter(|key| is_theirs(key)).cloned().collect();
            for key in &theirs {
                self.end(key);
            }
        }
    }

    /// What this lease lasts, which is taken over now and has `ttls` of its ttl and its grace in all. A fixed address's never ends.
    pub(super) fn wait_for(&mut self, key: &InstanceKey, ttl: Option<Ttl>, ttls: u64, now: Mono) -> Lasting {
        let (is_fixed, ttl, running) = (ttl.is_none(), ttl.unwrap_or(Ttl::LONGEST), self.running(now));
        let wait = self.waits.get(key).copied().unwrap_or(Wait { before_ms: 0, since: running, made_up: 0 });
        let whole = now + ttl.ms() * ttls + ttl.grace_ms();
        let until = whole.saturating_sub(wait.waited_ms(running));
        let made_up = until.min(now).saturating_sub(ttl.ms());
        if !is_fixed && (self.waits.len() < UNRENEWED_MAX || self.waits.contains_key(key)) {
            self.waits.insert(key.clone(), Wait { made_up, ..wait });
        }
        Lasting { until, made_up }
    }
}

impl Picture {
    /// The leases that were not renewed by then; `last_heartbeat` is the shell's table.
    #[must_use]
    pub fn unrenewed(&self, last_heartbeat: impl Fn(&InstanceKey) -> Option<Mono>) -> Vec<UnrenewedLease> {
        let is_unrenewed = |key: &InstanceKey, wait: &Wait| last_heartbeat(key).is_none_or(|last| last <= wait.made_up);
        let running = self.unrenewed.running(self.at);
        let waits = self.unrenewed.waits.iter().filter(|(key, wait)| is_unrenewed(key, wait));
        waits.map(|(key, wait)| UnrenewedLease { key: key.clone(), waited_ms: wait.waited_ms(running) }).collect()
    }
}

#[cfg(test)]
mod tests;
