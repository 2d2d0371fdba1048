//! Divergence: whether the nodes agree, and for how long they have not. While somebody writes all the time no two beacons are ever alike,
//! and all is well: what is on its way is no divergence. A peer that has applied the same and holds something else is one, and one that is
//! behind for longer than two beacons take.

use std::collections::BTreeMap;

use super::link::BusHealth;
use super::message::Beacon;
use super::time::{Mono, Now};
use super::{BEACON_EVERY_MS, HOUSEKEEPING_MS, Registry};
use crate::model::{Life, Seq};

/// What took place so long ago has been in two beacons of every peer, each up to a tenth late, and was looked at.
const LAG_MS: Mono = 2 * (BEACON_EVERY_MS + BEACON_EVERY_MS / 10) + HOUSEKEEPING_MS;

/// Each node forgets a life that is over by its own clock: in the last minute of that day peers need not name it any more. A clock drifts by
/// some seconds a day.
const FORGET_APART_MS: Mono = 60_000;

#[derive(Default)]
pub(super) struct Divergence {
    /// Since when this node and its peers do not agree; `None`: they do.
    since: Option<Mono>,
    /// What this node had applied at some moment, and not all peers are known to have applied since.
    mark: Option<(Mono, BTreeMap<Life, Seq>)>,
    /// Since when a peer holds other overrides: they are in no log.
    overrides_differ_since: Option<Mono>,
}

impl Registry {
    /// No alive peer that has applied the same holds something else, none is behind for longer than two beacons take, and this node is
    /// neither behind nor forgotten. A node that does not hear its bus cannot say so.
    pub(super) fn is_converged(&self, now: Now) -> bool {
        match self.link.health() {
            BusHealth::None => true,
            BusHealth::Deaf | BusHealth::Down => false,
            BusHealth::Up => {
                self.is_heard(now.mono)
                    && self.lags_since(now.mono).is_none_or(|since| now.mono <= since + LAG_MS)
                    && !self.alive_beacons(now.mono).any(|beacon| self.holds_something_else(beacon))
            }
        }
    }

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
        if self.divergence.mark.as_ref().is_none_or(|(_, applied)| self.is_known_to_all(applied, now.mono)) {
            let applied = self.applied.iter().map(|(life, progress)| (life.clone(), progress.seq)).collect();
            self.divergence.mark = Some((now.mono, applied));
        }
        let other_overrides = self.alive_beacons(now.mono).any(|beacon| beacon.overrides_digest != self.shared.digest());
        self.divergence.overrides_differ_since =
            if other_overrides { self.divergence.overrides_differ_since.or(Some(now.mono)) } else { None };
        self.divergence.since = if self.is_converged(now) {
            None
        } else {
            let lags = self.lags_since(now.mono).filter(|since| since + LAG_MS < now.mono);
            self.divergence.since.or(lags).or(Some(now.mono))
        };
    }

    /// Since when something is on its way, to this node or from it, or may be; `None`: nothing is.
    fn lags_since(&self, now: Mono) -> Option<Mono> {
        let mark = self.divergence.mark.as_ref().filter(|(_, applied)| !self.is_known_to_all(applied, now)).map(|(at, _)| *at);
        let said = if self.applied.behind().next().is_some() { self.most_said(now) } else { BTreeMap::new() };
        // What died with its only holder is on its way to nobody.
        let has_more = |life: &Life, seq: Seq| said.get(life).is_some_and(|most| *most > seq);
        let behind = self.applied.behind().filter(|(life, seq, _)| has_more(life, *seq)).map(|(_, _, since)| since).min();
        [mark, self.divergence.overrides_differ_since, behind].into_iter().flatten().min()
    }

    /// Every alive peer has applied this, lives aside that they may have forgotten: they name those no more.
    fn is_known_to_all(&self, applied: &BTreeMap<Life, Seq>, now: Mono) -> bool {
        let is_named = |life: &Life| *life == self.life || self.applied.knows_at(life, now + FORGET_APART_MS);
        self.alive_beacons(now).all(|beacon| {
            let theirs: BTreeMap<&Life, Seq> = beacon.applied.iter().map(|at| (&at.life, at.seq)).collect();
            applied.iter().all(|(life, seq)| {
                // A number that was corrected since is not waited for: nobody wrote what lies beyond.
                let seq = self.applied.seq(life).min(*seq);
                seq == 0 || theirs.get(life).is_some_and(|theirs| *theirs >= seq) || !is_named(life)
            })
        })
    }

    /// Its sender has applied what this node has, and holds other records.
    fn holds_something_else(&self, beacon: &Beacon) -> bool {
        beacon.digest != self.store.live().total() && self.has_applied_the_same(beacon)
    }

    fn alive_beacons(&self, now: Mono) -> impl Iterator<Item = &Beacon> {
        self.peers.alive(now).filter_map(|(_, peer)| peer.beacon.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, NodeName};
    use crate::registry::applied::FORGET_AFTER_MS;
    use crate::registry::{AppliedAt, Envelope, Input, MemberAt, Message, NodeState, Outbox, Settings};

    const START: Now = Now { mono: 2 * FORGET_AFTER_MS, wall: 0 };

    fn after(ms: u64) -> Now {
        Now { mono: START.mono + ms, wall: ms }
    }

    fn hear(registry: &mut Registry, from: Life, beacon: Beacon, now: Now) {
        registry.handle(Input::Received(Envelope { from, message: Message::Beacon(beacon) }), now, &mut Outbox::new());
    }

    /// A node that hears itself and one peer, until `ms`; what the peer says is `beacon`'s to change.
    fn converged_at(ms: u64, beacon: impl Fn(Beacon, u64) -> Beacon) -> bool {
        let mut registry = Registry::new(Settings::new(NodeName::parse("n1").unwrap(), Epoch(1)), 1, START);
        registry.handle(Input::BusConnected, START, &mut Outbox::new());
        for at in (0..=ms).step_by(500) {
            let own = registry.life.clone();
            hear(&mut registry, own.clone(), Beacon::of(NodeState::Ready), after(at));
            let members = vec![MemberAt { node: own.node, age_ms: 0, has_left: false, evidence: None }];
            let said = beacon(Beacon { members, ..Beacon::of(NodeState::Ready) }, at);
            hear(&mut registry, Life { node: NodeName::parse("n2").unwrap(), epoch: Epoch(2) }, said, after(at));
            registry.advance(after(at), &mut Outbox::new());
        }
        registry.is_converged(after(ms))
    }

    #[test]
    fn a_peer_that_has_applied_the_same_and_holds_something_else_is_no_agreement() {
        assert!(converged_at(2000, |beacon, _| beacon));
        assert!(!converged_at(2000, |beacon, _| Beacon { digest: 7, ..beacon }));
    }

    #[test]
    fn what_is_on_its_way_is_none_until_it_is_late() {
        let wrote = |beacon: Beacon, at: u64| {
            let life = Life { node: NodeName::parse("n2").unwrap(), epoch: Epoch(2) };
            let head = u64::from(at >= 2000);
            Beacon { head, digest: u128::from(head), applied: vec![AppliedAt { life, seq: head, age_ms: Some(0) }], ..beacon }
        };
        assert!(converged_at(2000, wrote) && converged_at(4000, wrote));
        assert!(!converged_at(8000, wrote));
    }

    #[test]
    fn a_node_that_nobody_names_is_not_well() {
        assert!(!converged_at(2000, |beacon, _| Beacon { members: Vec::new(), ..beacon }));
    }

    /// A life of n3 that is over, as this node remembers it: for `left_ms` more.
    fn remember_former_life(registry: &mut Registry, left_ms: u64) -> Life {
        let life = Life { node: NodeName::parse("n3").unwrap(), epoch: Epoch(3) };
        let age_ms = u32::try_from(FORGET_AFTER_MS - left_ms).ok();
        registry.applied.raise_heard(&life, 5, age_ms, START.mono);
        life
    }

    #[test]
    fn a_life_that_a_peer_forgets_before_this_node_does_is_not_waited_for() {
        let mut registry = Registry::new(Settings::new(NodeName::parse("n1").unwrap(), Epoch(1)), 1, START);
        registry.handle(Input::BusConnected, START, &mut Outbox::new());
        let former = remember_former_life(&mut registry, 20_000);
        let own = registry.life.clone();
        for at in (0..=40_000).step_by(500) {
            hear(&mut registry, own.clone(), Beacon::of(NodeState::Ready), after(at));
            let members = vec![MemberAt { node: own.node.clone(), age_ms: 0, has_left: false, evidence: None }];
            let named = AppliedAt { life: former.clone(), seq: 5, age_ms: Some(u32::MAX) };
            let applied = if at < 10_000 { vec![named] } else { Vec::new() };
            let beacon = Beacon { applied, members, ..Beacon::of(NodeState::Ready) };
            hear(&mut registry, Life { node: NodeName::parse("n2").unwrap(), epoch: Epoch(2) }, beacon, after(at));
            registry.advance(after(at), &mut Outbox::new());
            assert!(registry.is_converged(after(at)), "after {at} ms, of which 20,000 are left of the life's day");
        }
        assert!(!registry.applied.knows(&former));
    }

    #[test]
    fn a_newborn_node_waits_for_nothing_that_its_former_life_knew() {
        let mut registry = Registry::new(Settings::new(NodeName::parse("n1").unwrap(), Epoch(1)), 1, START);
        registry.handle(Input::BusConnected, START, &mut Outbox::new());
        remember_former_life(&mut registry, FORGET_AFTER_MS);
        registry.note_convergence(START);
        assert!(registry.divergence.mark.is_some());
        registry.become_newborn(after(100), &mut Outbox::new());
        assert!(registry.divergence.mark.is_none());
    }

    #[test]
    fn overrides_that_stay_different_are_no_agreement() {
        let other = |beacon: Beacon, _| Beacon { overrides_digest: 9, ..beacon };
        assert!(converged_at(1000, other) && !converged_at(6000, other));
    }
}
