//! Blank: no node runs, and none has a disk. Whoever starts now knows nothing, and nobody can prove to it that there is nothing, until every
//! provider had its turn.

use muster::registry::Registry;

use crate::invariant::Invariant;
use crate::world::World;

/// By so much a node's clock may come to the end of settling sooner than ours.
const STRAYS_MS: u64 = 100;

/// When the last life ended that knew anything.
#[derive(Default)]
pub(crate) struct Blank {
    since: Option<u64>,
}

impl World {
    /// A life has ended.
    pub(crate) fn note_blank(&mut self) {
        if self.slots.iter().all(|slot| slot.shell.is_none()) {
            self.blank.since = Some(self.now);
        }
    }

    /// What an operator who starts this cluster for the first time says of it, and never again.
    pub(crate) fn expects_empty(&self, life: u32) -> bool {
        life == 1 && self.blank.since.is_none()
    }

    /// A node that says that what it does not know is not there has a proof.
    pub(crate) fn check_proof(&mut self, node: usize) {
        let now = self.now_at(node);
        let Some(registry) = self.registry(node).filter(|registry| registry.knowledge(now).is_enough()) else { return };
        let settle_ms = registry.settings().settle_ms.saturating_sub(STRAYS_MS);
        let is_blank = self.disks.is_empty() && self.blank.since.is_some_and(|since| self.now < since + settle_ms);
        if is_blank {
            let how = (registry.complete(), Registry::bus(registry), registry.state());
            self.violate(Invariant::NoFalseEmpty, format!("n{node} says that there is nothing, though all that knew are gone: {how:?}"));
        } else if registry.settings().has_bus && !self.slots[node].has_been_up {
            self.violate(Invariant::NoFalseEmpty, format!("n{node} says that there is nothing, and never reached its bus"));
        }
    }
}
