//! Bounds: what is looked at again and again while everything goes wrong: that nothing grows without end, that a node which is alone says so,
//! and that many do not expire at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use muster::model::{Cause, InstanceKey, Life};
use muster::registry::{Body, BusHealth, Record, Registry, Seen};

use crate::invariant::{Invariant, Violation};
use crate::teeth::Sabotage;
use crate::world::{Event, World};

/// So often it is looked.
const LOOK_EVERY_MS: u64 = 500;
/// Expiries within this time count together: the shortest ttl of a story.
const WINDOW_MS: u64 = 3000;
/// Of an owner's leases, in percent, and at the least, more may not go within one window.
const EXPIRED_PERCENT_MAX: usize = 15;
const EXPIRED_MIN: usize = 3;

/// A broken line is noticed within this time, by the client or for want of an echo.
const NOTICED_MS: u64 = 5000;

/// When each life of a node withdrew instances by silence, within the last window.
#[derive(Default)]
pub(crate) struct Expiries {
    by_owner: BTreeMap<Life, VecDeque<u64>>,
    /// Those that were preserved since their owner last heard them: once that has lasted as long as it may, they may go together.
    preserved: BTreeSet<(InstanceKey, Life)>,
}

impl Expiries {
    /// An owner wrote this, and holds so many leases now. That a process is gone it may have seen for itself.
    pub(crate) fn note(&mut self, owner: &Life, record: &Record, is_gone: bool, now: u64, leases: usize) -> Result<(), Violation> {
        match &record.body {
            Body::Live { seen: Seen::Well, .. } => {
                self.preserved.remove(&(record.key.clone(), owner.clone()));
            }
            // Who takes over what is preserved has not heard it either.
            Body::Live { .. } if record.cause == Cause::Preserved || self.preserved.iter().any(|(key, _)| *key == record.key) => {
                self.preserved.insert((record.key.clone(), owner.clone()));
            }
            Body::Withdrawn { kept: Some(_), .. } if record.cause == Cause::Expired || (record.cause == Cause::ProbeFailed && !is_gone) => {
                let was_preserved = self.preserved.contains(&(record.key.clone(), owner.clone()));
                return if was_preserved { Ok(()) } else { self.note_expired(owner, now, leases) };
            }
            Body::Live { .. } | Body::Withdrawn { .. } => {}
        }
        Ok(())
    }

    /// An owner took an instance from the list by silence.
    fn note_expired(&mut self, owner: &Life, now: u64, leases: usize) -> Result<(), Violation> {
        let expired = self.by_owner.entry(owner.clone()).or_default();
        expired.push_back(now);
        while expired.front().is_some_and(|at| at + WINDOW_MS < now) {
            expired.pop_front();
        }
        let (gone, had) = (expired.len(), expired.len() + leases);
        if gone < EXPIRED_MIN || gone * 100 <= had * EXPIRED_PERCENT_MAX {
            return Ok(());
        }
        Err(Violation {
            of: Invariant::BoundedExpiry,
            what: format!("{owner} let {gone} of its {had} leases expire within {WINDOW_MS} ms"),
        })
    }
}

impl World {
    /// Looks now, and again before long.
    pub(crate) fn look(&mut self) {
        for node in self.running() {
            self.check_bounds(node);
            self.check_alone(node);
            self.check_preserving(node);
            self.check_secured(node);
            self.check_proof(node);
            self.check_wills(node);
            self.check_fixed(node);
        }
        self.note_come_through();
        self.after(LOOK_EVERY_MS, Event::Look);
    }

    /// A node holds a record for each key there is, a lease for each live one, and what a beacon says grows with the lives of nodes only.
    fn check_bounds(&mut self, node: usize) {
        let Some(registry) = self.registry(node) else { return };
        let keys: BTreeSet<&InstanceKey> =
            self.providers.iter().map(|provider| &provider.key).chain(self.fixed.keys()).chain(self.words.keys()).collect();
        let lives: usize = self.slots.iter().map(|slot| slot.life as usize).sum::<usize>() + self.reborn + self.strangers;
        let view = registry.cluster(self.now_at(node));
        let applied = view.applied.iter().map(|(_, applied)| applied.len()).max().unwrap_or(0);
        let records = (registry.record_count() + registry.withdrawn_count()) as usize;
        let bounds = [
            ("records", records, keys.len()),
            ("leases", registry.lease_count(), registry.record_count() as usize),
            ("services", registry.catalog().service_count(), keys.len()),
            ("peers", view.nodes.len(), self.slots.len() + 1 + self.ghosts),
            ("lives", applied, lives),
        ];
        if let Some((what, count, max)) = bounds.into_iter().find(|(_, count, max)| count > max) {
            self.violate(Invariant::Bounded, format!("n{node} holds {count} {what}, and there are {max} at the most"));
        }
    }

    /// A node says that it preserves where its own records say so, and lists and numbers count what records say.
    fn check_preserving(&mut self, node: usize) {
        self.slots[node].has_preserved |= self.registry(node).is_some_and(Registry::is_preserving);
        let Some((registry, life)) = self.registry(node).zip(self.life(node)) else { return };
        let is_preserved = |record: &&Arc<Record>| record.cause == Cause::Preserved && record.registration().is_some();
        let own = registry.records().filter(is_preserved).filter(|record| record.version.owner == life).count();
        let catalog = registry.catalog();
        let (listed, views) = (catalog.preserved_count(), catalog.services().values().map(|view| view.preserved()).sum::<usize>());
        let says_so = registry.is_preserving() || self.is_sabotaged(Sabotage::SayPreserving) && self.slots[node].has_preserved;
        let has_been_ready = registry.has_been_ready();
        if says_so != (own > 0) || listed != views || (has_been_ready && listed < own) {
            let what = format!("n{node} preserves {own} of its own and says {says_so}; {listed} are counted, {views} listed");
            self.violate(Invariant::NoZombie, what);
        }
    }

    /// Nothing is broken, and who does not run has refused everybody for long: each node judges who is silent.
    pub(crate) fn check_judging(&mut self) {
        for node in self.running() {
            let Some(majority) = self.registry(node).map(|registry| registry.majority(self.now_at(node))) else { continue };
            if !majority.judges {
                self.violate(Invariant::BoundedExpiry, format!("n{node} judges nobody: {majority:?}"));
            }
        }
    }

    /// How many nodes count, for each node that runs.
    pub(crate) fn member_counts(&self) -> Vec<usize> {
        let count = |node: usize| self.registry(node).map_or(0, |registry| registry.majority(self.now_at(node)).members);
        self.running().into_iter().map(count).collect()
    }

    /// A node whose line is broken serves all the same, and does not say that all agree.
    fn check_alone(&mut self, node: usize) {
        let Some(registry) = self.registry(node) else { return };
        let slot = &self.slots[node];
        let is_alone = slot.broken_at.is_some_and(|at| at.max(slot.resumed_at) + NOTICED_MS < self.now) && !self.is_paused(node);
        let says_so = registry.bus() != BusHealth::Up && !self.is_converged(node) && registry.stale_since().is_some();
        if is_alone && !says_so {
            let how = (registry.bus(), self.is_converged(node), Registry::stale_since(registry));
            self.violate(Invariant::AloneIsEnough, format!("n{node} has lost its bus, and says {how:?}"));
        }
    }
}

mod tests {
    use muster::model::{Epoch, NodeName};

    use super::*;

    fn noted(times: &[u64], leases: usize) -> bool {
        let owner = Life { node: NodeName::parse("n0").expect("it is a name"), epoch: Epoch(1) };
        let mut expiries = Expiries::default();
        times.iter().enumerate().all(|(index, at)| expiries.note_expired(&owner, *at, leases - index - 1).is_ok())
    }

    #[test]
    fn many_that_expire_at_once_are_found() {
        assert!(!noted(&[0, 0, 0], 10));
        assert!(noted(&[0, 0], 10), "two are never many");
        assert!(noted(&[0, 0, 0], 20), "three of twenty are not");
        assert!(noted(&[0, 2000, 4000, 6000, 8000], 10), "nor are those that go one by one");
    }
}
