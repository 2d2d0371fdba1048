//! Namesakes: a node that gives way to another of its name ends, and starts again as a supervisor would start it.

use muster::registry::Record;

use crate::invariant::Invariant;
use crate::world::{Event, World};

/// As long as a node may take to leave.
pub(crate) const GIVES_WAY_MS: u64 = 14_000;
/// Then it is started again, where it belongs: not a clone.
const AGAIN_MS: u64 = 1000;

impl World {
    /// The node's process ends after so long, and is started again.
    pub(crate) fn end_within(&mut self, node: usize, ms: u64) {
        let life = self.slots[node].life;
        self.after(ms, Event::Stop { node, life });
        if !self.slots[node].is_clone {
            self.after(ms + AGAIN_MS, Event::Start { node });
        }
    }

    /// A node that gave way and says that nothing is left holds nothing that no other node has: where none has ended meanwhile, which may
    /// have been the one that took it.
    pub(crate) fn check_handed_over(&mut self, node: usize, left: usize) {
        let has_ended = self.ended_at.is_some_and(|at| at + GIVES_WAY_MS > self.now);
        if left > 0 || has_ended || self.violation.is_some() {
            return;
        }
        let (Some(registry), Some(life)) = (self.registry(node), self.life(node)) else { return };
        let others: Vec<_> = self.running().into_iter().filter(|other| *other != node).collect();
        let is_held = |record: &Record| {
            let mut held = others.iter().filter_map(|other| self.registry(*other)?.record(&record.key));
            held.any(|held| held.version >= record.version)
        };
        let lost = registry.records().find(|record| record.version.owner == life && !is_held(record)).cloned();
        if let Some(lost) = lost {
            let what = format!("n{node} gave way, and says that others hold all: nobody holds {}", crate::world::describe(&lost));
            self.violate(Invariant::HandedOver, what);
        }
    }
}
