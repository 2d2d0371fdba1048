//! Repair: finding out what this node lacks, and of whom to pull it. The bus is a hint; this is what makes agreement certain.
//!
//! A gap in an origin's log is pulled from the origin while its log reaches back that far. Everything else is found by comparing
//! buckets with any peer (`walk`). How one peer is asked stands in `pull`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::digest::BUCKETS;
use super::io::Output;
use super::message::{AppliedAt, Beacon, NodeState};
use super::notice::Notice;
use super::pull::{Kind, Pull, Task};
use super::record::Record;
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::{Life, NodeName, Seq};

/// A random peer whose digest differs is compared with this often.
const COMPARE_EVERY_MS: u64 = 10_000;
/// While something is missing, whom to ask is looked at this often.
const LOOK_EVERY_MS: u64 = 100;
/// After a pull that failed, or brought nothing, the next with that peer waits this long.
const REST_MS: u64 = 500;
/// Pulls that bring nothing, again and again while neither side changes, wait twice as long each time, up to this.
const REST_MS_MAX: u64 = 60_000;
/// While records of peers are refused for a limit, the next comparison with a peer waits this long.
const REST_REFUSING_MS: u64 = 5000;
/// Two nodes that have applied the same and differ all the same: that many comparisons in a row that brought nothing are said aloud.
const UNEXPLAINED_NOTICED: u32 = 3;

#[derive(Default)]
pub(super) struct Repair {
    /// One at a time with each peer.
    pub(super) pulls: BTreeMap<NodeName, Pull>,
    rests: BTreeMap<NodeName, Rest>,
    next_compare: Mono,
    next_look: Mono,
    /// In how many services the last walk found records that differ.
    pub(super) differing_services: usize,
    /// Buckets of which a node that joins has not been given all yet.
    pub(super) unread: Unread,
    /// When a pull last brought a record, or a part of a whole copy.
    pub(super) progress_at: Mono,
}

/// Buckets that no peer has given whole yet, from when a copy is begun until it is here. Empty otherwise.
#[derive(Default)]
pub(super) struct Unread(Vec<bool>);

impl Unread {
    pub(super) fn none() -> Self {
        Self::default()
    }

    pub(super) fn contains(&self, bucket: u16) -> bool {
        self.0.get(usize::from(bucket)).is_some_and(|is_unread| *is_unread)
    }

    pub(super) fn remove(&mut self, bucket: u16) {
        if let Some(is_unread) = self.0.get_mut(usize::from(bucket)) {
            *is_unread = false;
        }
    }

    /// A copy was begun and is not here.
    pub(super) fn is_begun(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Leaving a peer alone for a while.
#[derive(Default)]
struct Rest {
    until: Mono,
    /// Pulls in a row that brought nothing while the digests stayed as they are.
    fruitless: u32,
    /// Those of them that should have brought something.
    unexplained: u32,
    /// Ours and the peer's: once one is another, a pull may bring something again.
    digests: (u128, u128),
}

/// How a pull went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Everything that was lacked is here.
    Done,
    /// Not answered, or refused.
    Failed,
}

impl Repair {
    pub(super) fn is_pulling(&self, from: &NodeName) -> bool {
        self.pulls.contains_key(from)
    }

    /// This peer is asked, and has answered lately.
    pub(super) fn is_answered(&self, by: &NodeName, now: Mono) -> bool {
        self.pulls.get(by).is_some_and(|pull| !pull.is_stalled(now))
    }

    /// For how long this peer, which is asked, has answered nothing; 0 for one that is not asked.
    pub(super) fn silent_ms(&self, peer: &NodeName, now: Mono) -> u64 {
        self.pulls.get(peer).map_or(0, |pull| pull.silent_ms(now))
    }

    /// This peer may be asked now.
    pub(super) fn is_free(&self, peer: &NodeName, now: Mono) -> bool {
        !self.is_pulling(peer) && self.rests.get(peer).is_none_or(|rest| rest.until <= now)
    }

    /// The bus is back: what went unanswered while it was away is asked again now.
    pub(super) fn hasten_all(&mut self, now: Mono) {
        self.pulls.values_mut().for_each(|pull| pull.hasten(now));
    }

    /// This node did not run for a while: what it asked before is not answered any more.
    pub(super) fn forget_all(&mut self) {
        self.pulls.clear();
        self.rests.clear();
    }

    pub(super) fn differing_services(&self) -> usize {
        self.differing_services
    }

    /// A peer has a new life: what was asked of the former one is not answered any more.
    pub(super) fn forget(&mut self, peer: &NodeName) {
        self.pulls.remove(peer);
        self.rests.remove(peer);
    }
}

impl Registry {
    pub(super) fn next_repair(&self) -> Option<Mono> {
        let answer = self.repair.pulls.values().filter_map(Pull::next_deadline).min();
        let look = self.applied.next_gap().filter(|_| self.may_repair()).map(|at| at.max(self.repair.next_look));
        let compare = self.link.has_bus().then_some(self.repair.next_compare);
        [answer, look, compare].into_iter().flatten().min()
    }

    pub(super) fn advance_repair(&mut self, now: Now, out: &mut Outbox) {
        self.advance_pulls(now, out);
        if now.mono >= self.repair.next_look && self.may_repair() {
            self.repair.next_look = now.mono + LOOK_EVERY_MS;
            self.pull_gaps(now, out);
        }
        if now.mono >= self.repair.next_compare {
            self.repair.next_compare = now.mono + self.rng.around(COMPARE_EVERY_MS);
            self.compare_with_any(now, out);
        }
    }

    /// A peer's beacon: it has applied what we have and yet holds something else, or it can tell us whether we know all.
    pub(super) fn compare_beacon(&mut self, peer: &NodeName, beacon: &Beacon, now: Now, out: &mut Outbox) {
        let is_suspicious = beacon.digest != self.store.live().total() && self.has_applied_the_same(beacon);
        let digests = (self.store.live().total(), beacon.digest);
        if let Some(rest) = self.repair.rests.get_mut(peer) {
            if rest.fruitless > 0 && rest.digests != digests {
                *rest = Rest::default();
            }
            if !is_suspicious {
                rest.unexplained = 0;
            }
        }
        let may_teach = beacon.state == NodeState::Ready && self.wants_to_compare(peer);
        if self.may_repair() && (may_teach || is_suspicious) {
            self.compare(peer, is_suspicious, now, out);
        }
    }

    pub(super) fn has_applied_the_same(&self, beacon: &Beacon) -> bool {
        let ours: BTreeMap<&Life, u64> =
            self.applied.iter().map(|(life, progress)| (life, progress.seq)).filter(|(_, seq)| *seq > 0).collect();
        let theirs: BTreeMap<&Life, u64> = beacon.applied.iter().map(|at| (&at.life, at.seq)).filter(|(_, seq)| *seq > 0).collect();
        ours == theirs
    }

    fn compare_with_any(&mut self, now: Now, out: &mut Outbox) {
        if !self.may_repair() {
            return;
        }
        let digests = (self.store.live().total(), self.store.withdrawn().total());
        let differs =
            |peer: &super::peers::Peer| peer.beacon.as_ref().is_some_and(|beacon| (beacon.digest, beacon.withdrawn_digest) != digests);
        let candidates: Vec<NodeName> =
            self.peers.alive(now.mono).filter(|(_, peer)| differs(peer)).map(|(node, _)| node.clone()).collect();
        if let Some(peer) = self.rng.pick(candidates) {
            self.compare(&peer, false, now, out);
        }
    }

    /// Pulls what others have of each life's log and this node lacks.
    fn pull_gaps(&mut self, now: Now, out: &mut Outbox) {
        let gaps: BTreeMap<Life, Seq> = self.applied.gaps(now.mono).map(|(life, seq)| (life.clone(), seq)).collect();
        let mut holders = self.holders_of(&gaps, now.mono);
        for (life, seq) in gaps {
            if self.peers.is_life_heard(&life, now.mono) {
                if self.repair.is_free(&life.node, now.mono) {
                    let is_sized = self.takes_sized(&life.node);
                    self.begin_pull(Pull::new(life, Kind::Changes, Task::Changes { after: seq }, is_sized, false, now.mono), now, out);
                    continue;
                }
                // It is being asked, or did not answer; another may have what it wrote.
                if self.repair.is_answered(&life.node, now.mono) {
                    continue;
                }
            }
            let mut free = holders.remove(&life).unwrap_or_default();
            free.retain(|node| self.repair.is_free(node, now.mono));
            if let Some(holder) = self.rng.pick(free) {
                self.compare(&holder, false, now, out);
            }
        }
    }

    /// Who has more of these logs than this node.
    fn holders_of(&self, gaps: &BTreeMap<Life, Seq>, now: Mono) -> BTreeMap<Life, Vec<NodeName>> {
        let mut holders: BTreeMap<Life, Vec<NodeName>> = BTreeMap::new();
        if gaps.is_empty() {
            return holders;
        }
        for (node, peer) in self.peers.heard_now(now) {
            let said = peer.beacon.iter().flat_map(|beacon| &beacon.applied);
            let more: BTreeSet<&Life> = said.filter(|at| gaps.get(&at.life).is_some_and(|seq| at.seq > *seq)).map(|at| &at.life).collect();
            for life in more {
                holders.entry(life.clone()).or_default().push(node.clone());
            }
        }
        holders
    }

    /// Compares buckets with a peer, unless it is being asked already or rests.
    pub(super) fn compare(&mut self, peer: &NodeName, is_suspicious: bool, now: Now, out: &mut Outbox) {
        let Some(epoch) = self.peers.get(peer).map(|known| known.epoch) else { return };
        if self.repair.is_free(peer, now.mono) {
            let (of, is_sized) = (Life { node: peer.clone(), epoch }, self.takes_sized(peer));
            self.begin_pull(Pull::new(of, Kind::Buckets, Task::of_comparison(is_sized), is_sized, is_suspicious, now.mono), now, out);
        }
    }

    /// Begins a whole copy from a peer, or goes on with what another began.
    pub(super) fn begin_copy_from(&mut self, peer: &NodeName, now: Now, out: &mut Outbox) {
        let Some(epoch) = self.peers.get(peer).map(|known| known.epoch) else { return };
        let (of, is_sized) = (Life { node: peer.clone(), epoch }, self.takes_sized(peer));
        if !self.repair.unread.is_begun() {
            self.repair.unread = Unread(vec![true; BUCKETS]);
        }
        let task = if is_sized { Task::of_comparison(true) } else { Task::Copy { copy: None, after: None, sum: 0 } };
        self.begin_pull(Pull::new(of, Kind::Copy, task, is_sized, false, now.mono), now, out);
    }

    /// Ends what is asked of this peer, for others to be asked.
    pub(super) fn give_up_pulling(&mut self, peer: &NodeName, now: Now, out: &mut Outbox) {
        if let Some(pull) = self.repair.pulls.remove(peer) {
            self.end_pull(pull, Ended::Failed, now, out);
        }
    }

    /// This peer takes questions that say how much the answer is to carry.
    pub(super) fn takes_sized(&self, peer: &NodeName) -> bool {
        self.peers.get(peer).and_then(|known| known.beacon.as_ref()).is_some_and(|beacon| beacon.takes_sized_pulls)
    }

    pub(super) fn merge_all(&mut self, records: &[Arc<Record>], from: &Life, now: Now, out: &mut Outbox) -> usize {
        records.iter().filter(|record| self.merge(record, from, now, out)).count()
    }

    /// What a peer had applied counts as ours. Of a life that is heard here nobody else can have more than it says itself.
    pub(super) fn raise_applied(&mut self, of: &Life, theirs: &[AppliedAt], now: Mono) {
        for at in theirs.iter().filter(|at| at.life != self.life) {
            let said = self.peers.get(&at.life.node).filter(|_| at.life != *of && self.peers.is_life_alive(&at.life, now));
            let head = said.and_then(|peer| peer.beacon.as_ref()).map_or(Seq::MAX, |beacon| beacon.head);
            self.applied.raise_heard(&at.life, at.seq.min(head), at.age_ms, now);
        }
    }

    /// A pull is over: one that brought nothing makes the next with that peer wait.
    pub(super) fn end_pull(&mut self, pull: Pull, ended: Ended, now: Now, out: &mut Outbox) {
        let theirs = self.peers.get(&pull.of.node).and_then(|peer| peer.beacon.as_ref()).map_or(0, |beacon| beacon.digest);
        let digests = (self.store.live().total(), theirs);
        let is_refusing = self.over_limit.is_refusing_records(now.mono);
        let rest = self.repair.rests.entry(pull.of.node.clone()).or_default();
        if is_refusing && ended == Ended::Done && pull.kind == Kind::Buckets {
            // The next comparison finds the same again, whatever else changes meanwhile.
            *rest = Rest { until: now.mono + self.rng.around(REST_REFUSING_MS), ..Rest::default() };
            return;
        }
        if ended == Ended::Done && (pull.gained > 0 || pull.kind == Kind::Copy) {
            *rest = Rest::default();
            return;
        }
        // One that was not answered says nothing of what the next would bring.
        let mut rest_ms = REST_MS;
        if ended == Ended::Done {
            rest.fruitless = if rest.digests == digests { rest.fruitless.saturating_add(1) } else { 1 };
            rest.digests = digests;
            rest_ms = REST_MS.saturating_mul(1 << (rest.fruitless - 1).min(10)).min(REST_MS_MAX);
        }
        rest.until = now.mono + self.rng.around(rest_ms);
        if ended == Ended::Done && pull.is_suspicious {
            rest.unexplained += 1;
            if rest.unexplained == UNEXPLAINED_NOTICED {
                out.push(Output::Noticed(Notice::StillDiffers(pull.of.node)));
            }
        }
    }

    /// Forgets what is remembered of peers that are gone.
    pub(super) fn forget_rests(&mut self) {
        let peers = &self.peers;
        self.repair.rests.retain(|peer, _| peers.get(peer).is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Epoch;
    use crate::registry::{Envelope, Input, Message, Settings};

    #[test]
    fn of_a_life_that_is_heard_nobody_else_has_more_than_it_says_itself() {
        let now = Now { mono: 1_000_000, wall: 0 };
        let life = |node| Life { node: NodeName::parse(node).unwrap(), epoch: Epoch(2) };
        let mut registry = Registry::new(Settings::new(NodeName::parse("n1").unwrap(), Epoch(1)), 1, now);
        let beacon = Beacon { head: 5, ..Beacon::of(NodeState::Ready) };
        registry.handle(Input::Received(Envelope { from: life("n2"), message: Message::Beacon(beacon) }), now, &mut Outbox::new());
        let said = |node| AppliedAt { life: life(node), seq: 1 << 40, age_ms: Some(0) };
        registry.raise_applied(&life("n3"), &[said("n2"), said("n4")], now.mono);
        assert_eq!((registry.applied.seq(&life("n2")), registry.applied.seq(&life("n4"))), (5, 1 << 40));
    }

    #[test]
    fn what_went_unanswered_is_asked_again_once_the_bus_is_back() {
        let at = |ms: u64| Now { mono: 1_000_000 + ms, wall: 0 };
        let life = Life { node: NodeName::parse("n2").unwrap(), epoch: Epoch(2) };
        let mut registry = Registry::new(Settings::new(NodeName::parse("n1").unwrap(), Epoch(1)), 1, at(0));
        let hear = |registry: &mut Registry, ms: u64, out: &mut Outbox| {
            let beacon = Beacon { digest: 7, ..Beacon::of(NodeState::Ready) };
            registry.handle(Input::Received(Envelope { from: life.clone(), message: Message::Beacon(beacon) }), at(ms), out);
        };
        let questions = |out: &Outbox| out.iter().filter(|output| matches!(output, Output::Send(_, Message::Pull { .. }))).count();
        registry.handle(Input::BusConnected, at(0), &mut Outbox::new());
        hear(&mut registry, 0, &mut Outbox::new());
        registry.compare(&life.node, false, at(0), &mut Outbox::new());
        let mut run = |from: u64, to: u64, connects_at: u64| {
            let mut out = Outbox::new();
            for ms in (from..to).step_by(100) {
                if ms % 1000 == 0 {
                    hear(&mut registry, ms, &mut out);
                }
                if ms == connects_at {
                    registry.handle(Input::BusConnected, at(ms), &mut out);
                }
                registry.advance(at(ms), &mut out);
            }
            questions(&out)
        };
        run(100, 10_000, u64::MAX);
        assert_eq!(run(10_000, 13_500, u64::MAX), 0, "it waits longer each time");
        assert_eq!(run(13_500, 13_700, 13_500), 1);
    }
}
