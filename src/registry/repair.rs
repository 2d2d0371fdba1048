//! Repair: finding out what this node lacks, and pulling it. The bus is a hint; this is what makes agreement certain.
//!
//! A gap in an origin's log is pulled from the origin while its log reaches back that far. Everything else is found by comparing
//! buckets with any peer (`walk`).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::io::Output;
use super::message::{AppliedAt, Beacon, Change, Have, Message, NodeState, To, Want};
use super::notice::Notice;
use super::record::Record;
use super::time::{Mono, Now};
use super::walk::Walk;
use super::{Outbox, Registry};
use crate::model::{InstanceKey, Life, NodeName, Seq};

/// A pull that is not answered for this long is over; another peer is asked.
const ANSWER_MS: u64 = 1000;
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
    pulls: BTreeMap<NodeName, Pull>,
    rests: BTreeMap<NodeName, Rest>,
    next_compare: Mono,
    next_look: Mono,
    /// In how many services the last walk found records that differ.
    pub(super) differing_services: usize,
}

/// A pull on its way.
pub(super) struct Pull {
    ticket: u64,
    /// The life that was asked: an answer of another one does not count.
    pub(super) of: Life,
    asked_at: Mono,
    kind: Kind,
    pub(super) stage: Stage,
    /// Records it has brought so far.
    gained: usize,
    /// It was begun because the peer had applied the same and held something else.
    is_suspicious: bool,
}

impl Pull {
    pub(super) fn has_gained(&mut self, records: usize, out: &mut Outbox) {
        self.gained += records;
        if records > 0 {
            out.push(Output::Noticed(Notice::Repaired { from: self.of.node.clone(), kind: self.kind.as_str(), records }));
        }
    }
}

/// What a pull is after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Changes,
    Buckets,
    Copy,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Changes => "changes",
            Self::Buckets => "buckets",
            Self::Copy => "copy",
        }
    }
}

/// What was asked last.
pub(super) enum Stage {
    /// The origin's log, from behind this seq on.
    Changes {
        after: Seq,
    },
    Buckets,
    Versions(Walk),
    /// The keys that were asked for.
    Records(Vec<InstanceKey>, Walk),
    Copy(CopySoFar),
}

/// A whole copy, as far as it has come.
#[derive(Default)]
pub(super) struct CopySoFar {
    id: Option<u64>,
    /// Wrapping sum of the fingerprints that came.
    sum: u128,
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

    /// This peer may be asked now.
    pub(super) fn is_free(&self, peer: &NodeName, now: Mono) -> bool {
        !self.is_pulling(peer) && self.rests.get(peer).is_none_or(|rest| rest.until <= now)
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
        let answer = self.repair.pulls.values().map(|pull| pull.asked_at + ANSWER_MS).min();
        let look = self.applied.next_gap().filter(|_| self.may_repair()).map(|at| at.max(self.repair.next_look));
        let compare = self.link.has_bus().then_some(self.repair.next_compare);
        [answer, look, compare].into_iter().flatten().min()
    }

    pub(super) fn advance_repair(&mut self, now: Now, out: &mut Outbox) {
        let late: Vec<NodeName> =
            self.repair.pulls.iter().filter(|(_, pull)| pull.asked_at + ANSWER_MS <= now.mono).map(|(peer, _)| peer.clone()).collect();
        for peer in late {
            if let Some(pull) = self.repair.pulls.remove(&peer) {
                self.end_pull(pull, Ended::Failed, now, out);
            }
        }
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
        let gaps: Vec<(Life, u64)> = self.applied.gaps(now.mono).map(|(life, seq)| (life.clone(), seq)).collect();
        for (life, seq) in gaps {
            if self.peers.is_life_heard(&life, now.mono) {
                if self.repair.is_free(&life.node, now.mono) {
                    self.ask(life, Want::Changes { after: seq }, Stage::Changes { after: seq }, false, now, out);
                    continue;
                }
                // It is being asked, or did not answer; another may have what it wrote.
                if self.repair.is_pulling(&life.node) {
                    continue;
                }
            }
            let has_more = |peer: &super::peers::Peer| {
                peer.beacon.as_ref().is_some_and(|beacon| beacon.applied.iter().any(|at| at.life == life && at.seq > seq))
            };
            let holders: Vec<NodeName> = self
                .peers
                .heard_now(now.mono)
                .filter(|(node, peer)| has_more(peer) && self.repair.is_free(node, now.mono))
                .map(|(node, _)| node.clone())
                .collect();
            if let Some(holder) = self.rng.pick(holders) {
                self.compare(&holder, false, now, out);
            }
        }
    }

    /// Compares buckets with a peer, unless it is being asked already or rests.
    pub(super) fn compare(&mut self, peer: &NodeName, is_suspicious: bool, now: Now, out: &mut Outbox) {
        let Some(epoch) = self.peers.get(peer).map(|known| known.epoch) else { return };
        if self.repair.is_free(peer, now.mono) {
            let life = Life { node: peer.clone(), epoch };
            self.ask(life, Want::Buckets, Stage::Buckets, is_suspicious, now, out);
        }
    }

    /// Begins a whole copy from a peer.
    pub(super) fn begin_copy_from(&mut self, peer: &NodeName, now: Now, out: &mut Outbox) {
        let Some(epoch) = self.peers.get(peer).map(|known| known.epoch) else { return };
        let life = Life { node: peer.clone(), epoch };
        self.ask(life, Want::Copy { copy: None, after: None }, Stage::Copy(CopySoFar::default()), false, now, out);
    }

    fn ask(&mut self, of: Life, want: Want, stage: Stage, is_suspicious: bool, now: Now, out: &mut Outbox) {
        let kind = match &stage {
            Stage::Changes { .. } => Kind::Changes,
            Stage::Copy(_) => Kind::Copy,
            Stage::Buckets | Stage::Versions(_) | Stage::Records(..) => Kind::Buckets,
        };
        out.push(Output::Noticed(Notice::Pulled { from: of.node.clone(), kind: kind.as_str() }));
        self.ask_on(Pull { ticket: 0, of, asked_at: now.mono, kind, stage, gained: 0, is_suspicious }, want, now, out);
    }

    /// The next question of a pull.
    pub(super) fn ask_on(&mut self, mut pull: Pull, want: Want, now: Now, out: &mut Outbox) {
        pull.ticket = self.rng.next();
        pull.asked_at = now.mono;
        let node = pull.of.node.clone();
        out.push(Output::Send(To::Node(node.clone()), Message::Pull { ticket: pull.ticket, want }));
        self.repair.pulls.insert(node, pull);
    }

    /// An answer to a pull: one that was not asked for, or too late, changes nothing.
    pub(super) fn handle_pulled(&mut self, from: &Life, ticket: u64, have: Have, now: Now, out: &mut Outbox) {
        let is_ours = |pull: &Pull| pull.ticket == ticket && pull.of == *from;
        if !self.repair.pulls.get(&from.node).is_some_and(is_ours) {
            return;
        }
        let Some(mut pull) = self.repair.pulls.remove(&from.node) else { return };
        let stage = std::mem::replace(&mut pull.stage, Stage::Buckets);
        match (stage, have) {
            (Stage::Changes { after }, Have::Changes(change)) => self.changes_came(pull, after, change, now, out),
            (Stage::Changes { .. }, Have::TooOld) => self.compare_instead(pull, now, out),
            (Stage::Buckets, Have::Buckets { live, withdrawn, applied, complete }) => {
                let mut todo = self.store.live().differing(&live);
                todo.extend(self.store.withdrawn().differing(&withdrawn));
                todo.sort_unstable();
                todo.dedup();
                self.walk_on(pull, Walk::new(todo, applied, complete), now, out);
            }
            (Stage::Versions(walk), Have::Versions { versions, more }) => self.versions_came(pull, walk, versions, more, now, out),
            (Stage::Records(asked, walk), Have::Records(records)) => self.records_came(pull, asked, walk, &records, now, out),
            (Stage::Copy(so_far), Have::Copy { copy, records, more, checksum, applied }) => {
                let gained = self.merge_all(&records, from, now, out);
                pull.has_gained(gained, out);
                let sum = records.iter().fold(so_far.sum, |sum, record| sum.wrapping_add(record.fingerprint()));
                let after = records.last().map(|record| record.key.clone());
                if more && after.is_some() {
                    pull.stage = Stage::Copy(CopySoFar { id: Some(copy), sum });
                    self.ask_on(pull, Want::Copy { copy: Some(copy), after }, now, out);
                } else {
                    let is_whole = !more && sum == checksum && so_far.id.is_none_or(|id| id == copy);
                    self.finish_copy(pull, &applied, is_whole, now, out);
                }
            }
            (
                _,
                Have::NotNow
                | Have::TooOld
                | Have::Changes(_)
                | Have::Buckets { .. }
                | Have::Versions { .. }
                | Have::Records(_)
                | Have::Copy { .. },
            ) => {
                self.end_pull(pull, Ended::Failed, now, out);
            }
        }
    }

    fn changes_came(&mut self, mut pull: Pull, after: Seq, change: Change, now: Now, out: &mut Outbox) {
        let of = pull.of.clone();
        let gained = self.apply_change(&of, change, now, out);
        pull.has_gained(gained, out);
        let seq = self.applied.seq(&of);
        let is_behind = self.applied.iter().any(|(life, progress)| *life == of && progress.head > seq);
        if !is_behind {
            self.end_pull(pull, Ended::Done, now, out);
        } else if seq > after {
            pull.stage = Stage::Changes { after: seq };
            self.ask_on(pull, Want::Changes { after: seq }, now, out);
        } else {
            self.compare_instead(pull, now, out);
        }
    }

    /// The origin's log does not bring what is lacked: its records may.
    fn compare_instead(&mut self, mut pull: Pull, now: Now, out: &mut Outbox) {
        pull.kind = Kind::Buckets;
        pull.stage = Stage::Buckets;
        self.ask_on(pull, Want::Buckets, now, out);
    }

    pub(super) fn merge_all(&mut self, records: &[Arc<Record>], from: &Life, now: Now, out: &mut Outbox) -> usize {
        records.iter().filter(|record| self.merge(record, from, now, out)).count()
    }

    /// The last chunk of a whole copy came: it counts if nothing of it is missing.
    fn finish_copy(&mut self, pull: Pull, theirs: &[AppliedAt], is_whole: bool, now: Now, out: &mut Outbox) {
        if is_whole {
            self.raise_applied(&pull.of, theirs, now.mono);
            self.has_copied(&pull.of.node, now.mono);
        }
        self.end_pull(pull, if is_whole { Ended::Done } else { Ended::Failed }, now, out);
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
    use crate::registry::{Envelope, Input, Settings};

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
}
