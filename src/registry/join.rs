//! Joining: how a node that has just started comes to know what the others know, and when it may say that it does.

use std::collections::BTreeSet;

use super::io::Output;
use super::message::NodeState;
use super::notice::Notice;
use super::peers::Peer;
use super::repair::Unread;
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::{Life, NodeName, Seq};

/// How long beacons are collected before one of the ready peers is chosen.
const COLLECT_MS: u64 = 300;
/// If nothing came for this long, the node is ready all the same, and says that it may not know all.
const GIVE_UP_MS: u64 = 30_000;
/// A node that was connected waits so long for its first own beacon: until it comes, no other node's can have come either.
const ECHO_MS: u64 = 12_000;
/// A giver that answers nothing for this long is left for another, where there is one.
const GIVER_SILENT_MS: u64 = 4000;
/// Nodes that start together wait so long for their digests to become equal, from when anything last came; then they are ready all the same,
/// and not sure to know all.
const EXCHANGE_MS: u64 = 3000;
/// A joining node looks whether it can go on this often.
const LOOK_EVERY_MS: u64 = 50;

pub(super) struct Join {
    stage: Stage,
    began_at: Mono,
    next_look: Mono,
    /// No ready peer has been heard for so long that none will be.
    has_waited: bool,
    /// Peers that were compared with while this node was not sure that it knows all.
    compared: BTreeSet<NodeName>,
    /// Since when those who start together exchange what each has.
    exchanging_since: Option<Mono>,
    /// Of what this node held when it last said so while exchanging.
    said_digest: u128,
}

/// How far joining has come.
enum Stage {
    /// Collecting beacons.
    Listening,
    /// Taking a whole copy.
    Copying { from: NodeName },
    /// Comparing once with the peer that gave the copy; `knew_all`: done, and whether it knew all that could be known.
    Comparing { with: NodeName, knew_all: Option<bool>, targets: Vec<(Life, Seq)> },
}

impl Join {
    pub(super) fn new(now: Mono) -> Self {
        Self {
            stage: Stage::Listening,
            began_at: now,
            next_look: now,
            has_waited: false,
            compared: BTreeSet::new(),
            exchanging_since: None,
            said_digest: 0,
        }
    }

    pub(super) fn next_deadline(&self) -> Mono {
        self.next_look
    }
}

impl Registry {
    /// Pulls other than a joining node's own are made: it is ready, or nobody is who could give a whole copy.
    pub(super) fn may_repair(&self) -> bool {
        match (self.state, &self.join.stage) {
            (NodeState::Ready | NodeState::Leaving, _) | (NodeState::Warming, Stage::Comparing { .. }) => true,
            (NodeState::Warming, Stage::Listening) => self.join.has_waited,
            (NodeState::Warming, Stage::Copying { .. }) => false,
        }
    }

    pub(super) fn advance_join(&mut self, now: Now, out: &mut Outbox) {
        if now.mono < self.join.next_look {
            return;
        }
        self.join.next_look = now.mono + LOOK_EVERY_MS;
        match self.state {
            NodeState::Warming => self.join_on(now, out),
            NodeState::Ready if !self.complete => self.note_complete(now, out),
            NodeState::Ready | NodeState::Leaving => {}
        }
    }

    /// There is something to look at: the node is not ready, or not sure that it knows all.
    pub(super) fn is_joining(&self) -> bool {
        match self.state {
            NodeState::Warming => true,
            NodeState::Ready => !self.complete,
            NodeState::Leaving => false,
        }
    }

    fn join_on(&mut self, now: Now, out: &mut Outbox) {
        if self.is_name_taken(now.mono) {
            return;
        }
        if now.mono >= self.join.began_at.max(self.repair.progress_at) + GIVE_UP_MS {
            out.push(Output::Noticed(Notice::Incomplete));
            self.become_ready(false, now, out);
            return;
        }
        if let Stage::Copying { from: giver } | Stage::Comparing { with: giver, .. } = &self.join.stage {
            let giver = giver.clone();
            self.leave_silent_giver(&giver, now, out);
        }
        match &self.join.stage {
            Stage::Listening => self.listen_on(now, out),
            Stage::Copying { from } => {
                if !self.repair.is_pulling(from) {
                    self.join.stage = Stage::Listening;
                }
            }
            Stage::Comparing { with, knew_all, targets } => {
                let (with, knew_all) = (with.clone(), *knew_all);
                let has_all = !targets.iter().any(|(life, seq)| self.is_owed(life, *seq, now.mono));
                match knew_all {
                    Some(knew_all) if has_all && self.has_overrides_of(&with, now.mono) => self.become_ready(knew_all, now, out),
                    _ if !self.is_reached(&with, now.mono) => self.join.stage = Stage::Listening,
                    Some(_) => {}
                    None => self.compare(&with, false, now, out),
                }
            }
        }
    }

    /// Goes on at another peer where this one answers nothing.
    fn leave_silent_giver(&mut self, giver: &NodeName, now: Now, out: &mut Outbox) {
        let has_other = || self.givers(now.mono).iter().any(|other| other != giver && self.repair.is_free(other, now.mono));
        if self.repair.silent_ms(giver, now.mono) >= GIVER_SILENT_MS && has_other() {
            self.give_up_pulling(giver, now, out);
            self.join.stage = Stage::Listening;
        }
    }

    /// Its beacons come, or its answers do: on a thin line beacons may be late behind them.
    fn is_reached(&self, peer: &NodeName, now: Mono) -> bool {
        self.peers.heard_now(now).any(|(node, _)| node == peer) || self.repair.is_answered(peer, now)
    }

    fn listen_on(&mut self, now: Now, out: &mut Outbox) {
        let hears_since = self.link.hears_since();
        let givers = self.givers(now.mono);
        self.join.has_waited = false;
        if !givers.is_empty() {
            let has_collected = hears_since.is_some_and(|since| since + COLLECT_MS.min(self.settings.bootstrap_wait_ms) <= now.mono);
            let free = givers.into_iter().filter(|peer| self.repair.is_free(peer, now.mono)).collect();
            if has_collected && let Some(from) = self.rng.pick(free) {
                self.begin_copy_from(&from, now, out);
                self.join.stage = Stage::Copying { from };
            }
            return;
        }
        if hears_since.is_none() && self.link.has_connected() && now.mono < self.join.began_at + ECHO_MS {
            return;
        }
        // On a long line it takes as long as the wait itself to connect, and as long again to hear anybody.
        let waited_since = hears_since.or(self.link.connected_since()).unwrap_or(self.join.began_at);
        if now.mono < waited_since + self.settings.bootstrap_wait_ms {
            return;
        }
        // It has a part of what a giver has, which may only be late: alone with that it waits until nothing has come for long.
        if self.repair.unread.is_begun() && self.peers.heard_now(now.mono).next().is_none() {
            return;
        }
        self.repair.unread = Unread::none();
        // Nobody is ready: those who start together give each other what they have, and are ready together.
        self.join.has_waited = true;
        let since = *self.join.exchanging_since.get_or_insert(now.mono);
        self.merge_restored(now, out);
        let agrees = self.exchange(now, out);
        let has_all = self.targets(now.mono).iter().all(|(life, seq)| self.applied.seq(life) >= *seq);
        if has_all && (agrees || now.mono >= since.max(self.repair.progress_at) + EXCHANGE_MS) {
            self.become_ready(agrees && hears_since.is_some(), now, out);
        }
    }

    /// Who can give a whole copy: the ready ones; where there is none, those that leave and know all, while they are still there.
    fn givers(&self, now: Mono) -> Vec<NodeName> {
        let ready: Vec<NodeName> = self.peers.alive(now).filter(|(_, peer)| peer.is_ready()).map(|(node, _)| node.clone()).collect();
        if !ready.is_empty() {
            return ready;
        }
        let knows_all = |peer: &Peer| peer.is_leaving(now) && peer.beacon.as_ref().is_some_and(|beacon| beacon.complete);
        self.peers.iter().filter(|(_, peer)| knows_all(peer)).map(|(node, _)| node.clone()).collect()
    }

    /// Compares with each peer that holds something else, one that leaves too, and says what is held here as soon as it changes; whether
    /// all agree. What peers restored from their disks is in nobody's log: only digests show it.
    fn exchange(&mut self, now: Now, out: &mut Outbox) -> bool {
        let digest = self.store.live().total();
        if self.join.said_digest != digest {
            self.join.said_digest = digest;
            self.next_beacon = now.mono;
        }
        // One that warms still says how many records its disk has, before it holds them.
        let held = self.held();
        let differs = |peer: &Peer| peer.beacon.as_ref().is_some_and(|beacon| (beacon.digest, beacon.records) != held);
        let others: Vec<NodeName> =
            self.peers.heard_now(now.mono).filter(|(_, peer)| differs(peer)).map(|(node, _)| node.clone()).collect();
        for peer in &others {
            self.compare(peer, false, now, out);
        }
        others.is_empty()
    }

    /// The digest of what this node holds, and how many records it shows.
    fn held(&self) -> (u128, u64) {
        (self.store.live().total(), self.shown_count())
    }

    /// All that any alive peer has applied.
    fn targets(&self, now: Mono) -> Vec<(Life, Seq)> {
        let said = self.peers.alive(now).filter_map(|(_, peer)| peer.beacon.as_ref()).flat_map(|beacon| &beacon.applied);
        said.filter(|at| at.life != self.life).map(|at| (at.life.clone(), at.seq)).collect()
    }

    /// This node lacks a part of this life's log up to `seq`, and an alive peer has it. What nobody has any more is not waited for.
    fn is_owed(&self, life: &Life, seq: Seq, now: Mono) -> bool {
        let had = self.applied.seq(life);
        let mut said = self.peers.alive(now).filter_map(|(_, peer)| peer.beacon.as_ref()).flat_map(|beacon| &beacon.applied);
        had < seq && said.any(|at| at.life == *life && at.seq > had)
    }

    /// A whole copy came from this peer.
    pub(super) fn has_copied(&mut self, peer: &NodeName, now: Mono) {
        if matches!(&self.join.stage, Stage::Copying { from } if from == peer) {
            self.join.stage = Stage::Comparing { with: peer.clone(), knew_all: None, targets: self.targets(now) };
        }
    }

    /// Everything that this peer had has been pulled from it; `knows_all`: it knew all that could be known.
    pub(super) fn has_compared(&mut self, peer: &NodeName, knows_all: bool, now: Now) {
        match &mut self.join.stage {
            Stage::Comparing { with, knew_all, .. } if with == peer => *knew_all = Some(knows_all),
            Stage::Listening | Stage::Copying { .. } | Stage::Comparing { .. } => {}
        }
        if knows_all && self.state == NodeState::Ready && self.takes_all(now) {
            self.become_complete();
        }
        if !self.complete {
            self.join.compared.insert(peer.clone());
        }
    }

    /// This peer may know what we lack.
    pub(super) fn wants_to_compare(&self, peer: &NodeName) -> bool {
        let is_complete = |peer: &Peer| peer.beacon.as_ref().is_some_and(|beacon| beacon.complete);
        let has_more = !self.join.compared.contains(peer) || self.peers.get(peer).is_some_and(is_complete);
        self.state == NodeState::Ready && !self.complete && has_more
    }

    /// How long a bus is heard before it shows who is there.
    pub(super) fn listening_ms(&self) -> u64 {
        self.settings.bootstrap_wait_ms.max(COLLECT_MS)
    }

    /// A ready node that was not sure becomes so once it has compared with every ready peer it hears on a bus that works, and has settled:
    /// nodes that became ready apart know all together.
    pub(super) fn note_complete(&mut self, now: Now, out: &mut Outbox) {
        let has_settled = self.has_settled(now, out);
        if has_settled && self.takes_all(now) && self.hears_all_it_can(now.mono) && !self.is_unsure(now.mono) {
            self.notice_not_compared(now.mono, out);
            out.push(Output::Noticed(Notice::Settled));
            self.become_complete();
            self.next_beacon = now.mono;
        }
    }

    /// The peers heard that hold something else, or may, and were not compared with.
    pub(super) fn not_compared_with(&self, now: Mono) -> impl Iterator<Item = &NodeName> {
        let is_known = |node: &NodeName, peer: &Peer| match peer.beacon.as_ref() {
            Some(_) if peer.is_ready() => self.join.compared.contains(node),
            // What it says that it has may be on its disk alone: it tells of it once it holds that.
            Some(beacon) => beacon.records == 0 || (beacon.digest, beacon.records) == self.held(),
            None => true,
        };
        self.peers.alive(now).filter(move |(node, peer)| !is_known(node, peer)).map(|(node, _)| node)
    }

    /// What peers hold was not refused here lately for a limit.
    pub(super) fn takes_all(&self, now: Now) -> bool {
        !self.over_limit.is_refusing_records(now.mono)
    }

    pub(super) fn become_complete(&mut self) {
        self.complete = true;
        self.restore.confirm();
    }

    /// `knows_all`: a peer that knew all gave all it had, or those who started together agree.
    fn become_ready(&mut self, knows_all: bool, now: Now, out: &mut Outbox) {
        let is_copied = knows_all && matches!(self.join.stage, Stage::Comparing { .. });
        self.settle_restored(is_copied, now, out);
        let is_unsure = !is_copied && self.is_unsure(now.mono);
        self.complete = false;
        self.has_been_ready = true;
        self.become_state(NodeState::Ready, now, out);
        let has_proof = is_copied || self.has_settled(now, out);
        if knows_all && has_proof && !is_unsure && self.takes_all(now) {
            self.become_complete();
        }
    }
}

#[cfg(test)]
mod tests;
