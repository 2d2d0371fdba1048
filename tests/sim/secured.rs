//! Secured: what every disk held when all nodes were killed at once. Started again, no node may say that a list is whole that lacks any of it
//! whose provider goes on.

use muster::model::InstanceKey;
use muster::registry::{Body, Registry};

use crate::disk::live;
use crate::invariant::Invariant;
use crate::world::World;

#[derive(Default)]
pub(crate) struct Secured {
    since: u64,
    /// Each with the process that said it.
    instances: Vec<(InstanceKey, u32)>,
}

impl World {
    /// All nodes are about to be killed: what counts from now on is what every one will find on its disk, of providers that nothing but the
    /// nodes keeps from saying that they live.
    pub(crate) fn secure(&mut self) {
        let goes_on = self.providers.iter().filter(|provider| {
            let is_heard = self.now < provider.succeeded_at + provider.habits.ttl_ms / 2;
            provider.runs() && !provider.is_twin() && is_heard && provider.disturbed_until <= self.now && !self.is_contested(&provider.key)
        });
        let on_all = goes_on.filter(|provider| self.all_disks(|warm| live(warm, &provider.key).is_some()));
        self.secured = Secured { since: self.now, instances: on_all.map(|provider| (provider.key.clone(), provider.process)).collect() };
    }

    /// A node starts: what it does not find on its disk it cannot know.
    pub(crate) fn note_start(&mut self, node: usize) {
        if self.secured.instances.is_empty() {
            return;
        }
        let warm = self.read_disk(node);
        self.secured.instances.retain(|(key, _)| warm.as_ref().is_some_and(|warm| live(warm, key).is_some()));
    }

    pub(crate) fn is_secured(&self, key: &InstanceKey) -> bool {
        let process = self.secured.instances.iter().find(|(secured, _)| secured == key).map(|(_, process)| *process);
        let goes_on = |process: u32| {
            let provider = self.providers.iter().find(|provider| provider.key == *key && !provider.is_twin());
            provider.is_some_and(|provider| provider.process == process && provider.disturbed_until <= self.secured.since)
        };
        process.is_some_and(goes_on) && !self.is_contested(key)
    }

    /// What every node that runs lists, and calls whole, has come through: what becomes of it from now on is no matter of starting again.
    pub(crate) fn note_come_through(&mut self) {
        let running = self.running();
        let is_everywhere = |key: &InstanceKey| {
            running
                .iter()
                .all(|node| self.registry(*node).is_some_and(Registry::complete) && self.is_ready(*node) && self.lists(*node, key))
        };
        let come_through: Vec<InstanceKey> =
            self.secured.instances.iter().map(|(key, _)| key).filter(|key| is_everywhere(key)).cloned().collect();
        if !running.is_empty() {
            self.secured.instances.retain(|(key, _)| !come_through.contains(key));
        }
    }

    /// A list that is called whole lacks nothing that is secured; one that was read from disk is not called so.
    pub(crate) fn check_secured(&mut self, node: usize) {
        let Some(registry) = self.registry(node).filter(|registry| registry.complete()) else { return };
        // A request of a former life's may have come late, or its owner heard it no more: both are known, and no matter of starting again.
        let is_gone = |key: &InstanceKey| registry.record(key).is_some_and(|record| matches!(record.body, Body::Withdrawn { .. }));
        let mut keys = self.secured.instances.iter().map(|(key, _)| key);
        let lacks = keys.find(|key| !self.lists(node, key) && self.is_secured(key) && !is_gone(key)).cloned();
        if self.answers(node) && !self.is_ready(node) {
            self.violate(Invariant::AloneIsEnough, format!("n{node} shows what its disk held, and calls it complete"));
        } else if let Some(key) = lacks {
            let bus = self.registry(node).map(Registry::bus);
            let what = format!("n{node} says that it knows all, and not {key}, which it had on disk and whose provider goes on ({bus:?})");
            self.violate(Invariant::NoFalseEmpty, what);
        }
    }

    /// Nodes came or went: what nobody holds any more cannot be asked for.
    pub(crate) fn note_losses(&mut self) {
        self.note_lost_wills();
        self.note_lost_fixed();
        self.note_lost_words();
    }
}
