//! Reach: whose HTTP a node gets an answer from. The bus goes another way: a partition of the network cuts both, one of the bus only that.

use muster::model::{Epoch, NodeName};

use super::World;

impl World {
    /// Whether `to` would answer `from` over HTTP: it runs, and the way there works.
    pub(crate) fn can_reach_http(&self, from: usize, to: usize) -> bool {
        let slot = &self.slots[to];
        slot.shell.is_some() && slot.pause.is_none() && !self.http_cuts.contains(&(from, to))
    }

    /// Whether a node that asks this peer, or this life of it, whether it lives is answered by it, and by nobody else.
    pub(crate) fn is_answered_by(&self, from: usize, peer: &NodeName, epoch: Option<Epoch>) -> bool {
        let is_life = |to: usize| epoch.is_none_or(|epoch| self.life(to).is_some_and(|life| life.epoch == epoch));
        (0..self.slots.len()).any(|to| self.slots[to].name == *peer && is_life(to) && self.can_reach_http(from, to))
    }

    /// Whether its machine says that nobody listens there: no node of this name runs, and the way to it works.
    pub(crate) fn is_refused_by(&self, from: usize, peer: &NodeName) -> bool {
        let mut rooms = (0..self.slots.len()).filter(|to| self.slots[*to].name == *peer).peekable();
        rooms.peek().is_some() && rooms.all(|to| self.slots[to].shell.is_none() && !self.http_cuts.contains(&(from, to)))
    }

    /// Nodes of different groups reach each other neither over the bus nor over HTTP.
    pub(crate) fn split_network(&mut self, groups: &[Vec<usize>]) {
        self.bus.split(groups);
        for one in groups.concat() {
            for other in groups.concat() {
                let is_together = groups.iter().any(|group| group.contains(&one) && group.contains(&other));
                if !is_together {
                    self.http_cuts.insert((one, other));
                }
            }
        }
    }

    pub(crate) fn mend_reach(&mut self) {
        self.http_cuts.clear();
    }
}
