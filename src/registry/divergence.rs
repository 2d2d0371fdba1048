//! Divergence: for how long the nodes have not agreed. While somebody writes all the time no two beacons are ever alike, and all is well:
//! so what counts is how old the latest state of ours is that every alive peer is known to have.

use std::collections::BTreeMap;

use super::Registry;
use super::link::BusHealth;
use super::message::Beacon;
use super::time::{Mono, Now};
use crate::model::{Life, Seq};

#[derive(Default)]
pub(super) struct Divergence {
    /// What this node had then was known to all a moment later, and now is not; `None`: all agree.
    since: Option<Mono>,
    /// What this node had applied at some moment since: what peers are held against.
    mark: Option<(Mono, BTreeMap<Life, Seq>)>,
}

impl Registry {
    /// For how long this node and its peers have not agreed; `None`: they do.
    #[must_use]
    pub fn diverged_ms(&self, now: Now) -> Option<u64> {
        let is_diverged = !self.is_converged(now);
        is_diverged.then(|| self.divergence.since.map_or(0, |since| now.mono.saturating_sub(since)))
    }

    /// In how many services the last comparison with a peer found records that differ; 0 once converged.
    #[must_use]
    pub fn diverged_services(&self, now: Now) -> usize {
        if self.is_converged(now) { 0 } else { self.repair.differing_services() }
    }

    /// Notes since when the nodes do not agree; to be called every second.
    pub(super) fn note_convergence(&mut self, now: Now) {
        if self.is_converged(now) {
            self.divergence = Divergence::default();
            return;
        }
        let confirmed = self.divergence.mark.as_ref().filter(|(_, applied)| self.is_known_to_all(applied, now)).map(|(at, _)| *at);
        self.divergence.since = confirmed.or(self.divergence.since).or(Some(now.mono));
        if confirmed.is_some() || self.divergence.mark.is_none() {
            let applied = self.applied.iter().map(|(life, progress)| (life.clone(), progress.seq)).collect();
            self.divergence.mark = Some((now.mono, applied));
        }
    }

    /// Every alive peer has applied this, and none has applied what we have and yet holds something else.
    fn is_known_to_all(&self, applied: &BTreeMap<Life, Seq>, now: Now) -> bool {
        let is_known_to = |beacon: &Beacon| {
            let theirs: BTreeMap<&Life, Seq> = beacon.applied.iter().map(|at| (&at.life, at.seq)).collect();
            let has = |(life, seq): (&Life, &Seq)| *seq == 0 || theirs.get(life).is_some_and(|theirs| theirs >= seq);
            let is_same = beacon.digest == self.store.live().total() || !self.has_applied_the_same(beacon);
            applied.iter().all(has) && is_same
        };
        self.link.health() == BusHealth::Up && self.peers.alive(now.mono).filter_map(|(_, peer)| peer.beacon.as_ref()).all(is_known_to)
    }
}
