//! Peers: the other nodes as their beacons show them, and which life of each is the present one.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::state_word;
use super::lost::Reached;
use super::members::Members;
use super::message::{Beacon, NodeState};
use super::time::Mono;
use crate::model::{Epoch, Life, NodeName, Seq};

/// A node is alive while its last beacon is at most this old.
pub(super) const ALIVE_MS: u64 = 5000;
/// A node silent for this long looks dead; whether it is, is asked of it directly.
pub(super) const DEAD_MS: u64 = 15_000;
/// A node that said goodbye and then was silent for this long has gone.
const GONE_MS: u64 = 1500;
/// Another life of a node becomes the present one when the present one has been silent for this long.
pub(super) const EPOCH_SILENT_MS: u64 = 3000;
/// How many former lives of a node are remembered, so that a late frame of one is known as such.
const FORMER_MAX: usize = 64;
/// A life is answered what it asks while its last beacon is at most this old: on a thin line some are late.
const ASKING_MS: u64 = 30_000;
/// How many nodes are followed. Past it a silent one makes room: the one that ceases to count first. Without any a beacon of one more
/// is ignored.
const PEERS_MAX: usize = 1024;
/// A name that has been there for less than this makes room as soon as two of its beacons are missing.
const BRIEF_MS: u64 = 10_000;
const MISSING_MS: u64 = 2500;
/// Where none is silent, one is looked for so much later again, not at each frame of a name that has no room.
const FULL_MS: u64 = 50;

pub(super) struct Peers {
    known: BTreeMap<NodeName, Peer>,
    /// No silent node that could make room is looked for again before.
    full_until: Mono,
    /// Also those that only others have heard.
    pub(super) members: Members,
    /// When any of them was heard last; `None`: none was, or all that were have said goodbye, and nobody was missed since.
    pub(super) any_heard_at: Option<Mono>,
}

/// Another node.
pub(super) struct Peer {
    /// Its present life.
    pub(super) epoch: Epoch,
    /// The lives it had before. One of them becomes the present one again only when the present one is silent: so late frames of a life
    /// that is over can displace the one that runs for a few seconds, and never for good.
    former: BTreeSet<Epoch>,
    /// When its last beacon came.
    pub(super) heard_at: Mono,
    /// The last one it sent.
    pub(super) beacon: Option<Beacon>,
    /// Another life of it that sends beacons, and when the last one came: it waits to become the present one.
    waits: Option<(Epoch, Mono)>,
    /// Silence was noticed and said.
    pub(super) is_silent: bool,
    /// It was silent for long, and did not answer directly either.
    pub(super) is_dead: bool,
    /// The address that it last named, in this life or the one before.
    http: String,
    /// What asking there has brought.
    pub(super) reached: Reached,
}

/// Whether a frame of a life counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// It is of the present life.
    Present,
    /// It is of a life that has just become the present one.
    Appeared,
    /// It is of another life: to be ignored.
    NotPresent,
}

impl Peer {
    pub(super) fn has_left(&self) -> bool {
        self.beacon.as_ref().is_some_and(|beacon| beacon.state == NodeState::Leaving)
    }

    /// It says that another node has its name.
    fn gives_way(&self) -> bool {
        self.beacon.as_ref().is_some_and(|beacon| beacon.gives_way)
    }

    pub(super) fn is_alive(&self, now: Mono) -> bool {
        self.beacon.is_some() && !self.has_left() && now <= self.heard_at + ALIVE_MS
    }

    /// It has said goodbye and is still heard: it can be asked yet.
    pub(super) fn is_leaving(&self, now: Mono) -> bool {
        self.has_left() && !self.is_gone(now)
    }

    /// It says that it has all that this life wrote, up to there.
    pub(super) fn has_applied(&self, life: &Life, seq: Seq) -> bool {
        self.beacon.as_ref().is_some_and(|beacon| beacon.applied.iter().any(|at| at.life == *life && at.seq >= seq))
    }

    pub(super) fn is_ready(&self) -> bool {
        self.beacon.as_ref().is_some_and(|beacon| beacon.state == NodeState::Ready)
    }

    /// It said goodbye, and is silent since: nobody counts it any more. It is known for a while only to tell its late frames.
    pub(super) fn is_gone(&self, now: Mono) -> bool {
        self.has_left() && now > self.heard_at + GONE_MS
    }

    /// The word of the API for how it is.
    pub(super) fn state(&self, now: Mono) -> &'static str {
        match &self.beacon {
            Some(beacon) if beacon.state == NodeState::Leaving => NodeState::Leaving.as_str(),
            _ if self.is_dead => "dead",
            _ if now > self.heard_at + ALIVE_MS => "suspect",
            Some(beacon) => state_word(beacon.state, beacon.preserving),
            None => "suspect",
        }
    }
}

impl Peers {
    /// Nobody is known yet; `own` is this node's name.
    pub(super) fn new(own: NodeName) -> Self {
        Self { known: BTreeMap::new(), full_until: 0, members: Members::new(own), any_heard_at: None }
    }

    /// Notes that a frame of this life came, and says whether it counts.
    pub(super) fn presence(&mut self, life: &Life, now: Mono) -> Presence {
        let has_room = self.known.contains_key(&life.node) || self.known.len() < PEERS_MAX || self.make_room(now);
        let Some(peer) = self.known.get_mut(&life.node) else {
            if !has_room {
                return Presence::NotPresent;
            }
            let peer = Peer {
                epoch: life.epoch,
                former: BTreeSet::new(),
                heard_at: now,
                beacon: None,
                waits: None,
                is_silent: false,
                is_dead: false,
                http: String::new(),
                reached: Reached::default(),
            };
            self.known.insert(life.node.clone(), peer);
            return Presence::Appeared;
        };
        if peer.epoch == life.epoch {
            return Presence::Present;
        }
        let is_silent = now >= peer.heard_at + EPOCH_SILENT_MS;
        // A node that waits for another of its name, or ends because of it, is not the node of that name, whichever came first.
        let gave_way = peer.gives_way() || (peer.has_left() && !peer.former.contains(&life.epoch));
        if !is_silent && !gave_way {
            return Presence::NotPresent;
        }
        if peer.former.len() == FORMER_MAX {
            peer.former.pop_first();
        }
        peer.former.remove(&life.epoch);
        peer.former.insert(peer.epoch);
        peer.epoch = life.epoch;
        peer.beacon = None;
        peer.heard_at = now;
        peer.is_silent = false;
        peer.is_dead = false;
        peer.reached.begin_life();
        Presence::Appeared
    }

    /// Forgets a silent node where there is one; says whether there was.
    fn make_room(&mut self, now: Mono) -> bool {
        if now < self.full_until {
            return false;
        }
        let is_missing = |node: &NodeName, peer: &Peer| peer.heard_at + MISSING_MS < now && self.members.is_brief(node, BRIEF_MS);
        let silent = self.known.iter().filter(|(node, peer)| !peer.is_alive(now) || is_missing(node, peer));
        let first = silent.min_by_key(|(node, peer)| (self.members.counts_until(node), peer.heard_at)).map(|(node, _)| node.clone());
        let has_made = first.is_some_and(|first| self.known.remove(&first).is_some());
        if !has_made {
            self.full_until = now + FULL_MS;
        }
        has_made
    }

    /// Keeps the beacon of a present life.
    pub(super) fn heard(&mut self, node: &NodeName, mut beacon: Beacon, now: Mono) {
        self.members.note(node, now, beacon.state == NodeState::Leaving && !beacon.gives_way);
        beacon.members.sort_by(|one, other| one.node.cmp(&other.node));
        beacon.members.dedup_by(|one, other| one.node == other.node);
        for member in beacon.members.iter().filter(|member| member.has_left) {
            self.members.note_goodbye(&member.node, now.saturating_sub(u64::from(member.age_ms)), now);
        }
        self.any_heard_at = self.members.iter(now).next().map(|_| now);
        if let Some(peer) = self.known.get_mut(node) {
            if peer.http != beacon.http {
                peer.http.clone_from(&beacon.http);
                peer.reached = Reached::default();
            }
            peer.beacon = Some(beacon);
            peer.heard_at = now;
            peer.is_silent = false;
            peer.is_dead = false;
        }
    }

    /// A beacon came of a life that is not the present one of its node yet.
    pub(super) fn note_waiting(&mut self, life: &Life, now: Mono) {
        if let Some(peer) = self.known.get_mut(&life.node) {
            peer.waits = Some((life.epoch, now));
        }
    }

    /// The last beacon of that node is of this life, and was not long ago: what it asks is answered.
    pub(super) fn is_asking_life(&self, life: &Life, now: Mono) -> bool {
        self.known.get(&life.node).is_some_and(|peer| {
            let is_present = peer.epoch == life.epoch && peer.beacon.is_some() && now <= peer.heard_at + ASKING_MS;
            is_present || peer.waits.is_some_and(|(epoch, at)| epoch == life.epoch && now <= at + ALIVE_MS)
        })
    }

    /// Counts what the alive peers know of nodes that are not heard here: it takes a majority of them. One that warms knows too little to
    /// be asked, and one that came a moment ago may be none: a node that is cut off would believe it alone.
    pub(super) fn weigh_hearsay(&mut self, now: Mono) {
        let voters: Vec<(&Beacon, Mono)> = self
            .known
            .iter()
            .filter(|(node, peer)| peer.is_alive(now) && self.members.is_direct(node, now))
            .filter_map(|(_, peer)| Some((peer.beacon.as_ref()?, peer.heard_at)))
            .filter(|(beacon, _)| beacon.state != NodeState::Warming)
            .collect();
        let mut named: BTreeMap<&NodeName, (Vec<Mono>, usize)> = BTreeMap::new();
        for (beacon, came_at) in &voters {
            for at in &beacon.members {
                // One that came there for a moment, or is lost, counts for nobody else.
                let counts = at.evidence.is_none_or(|evidence| (evidence.is_direct || evidence.is_attested) && !evidence.is_lost);
                if counts && !at.has_left && !self.known.get(&at.node).is_some_and(|peer| peer.is_alive(now)) {
                    let (times, direct) = named.entry(&at.node).or_default();
                    times.push(came_at.saturating_sub(u64::from(at.age_ms)));
                    *direct += usize::from(at.evidence.is_some_and(|evidence| evidence.is_direct));
                }
            }
        }
        for (node, (mut times, direct)) in named {
            times.sort_unstable_by(|one, other| other.cmp(one));
            // So many say that it was heard then or later.
            if let Some(at) = times.get(voters.len() / 2) {
                self.members.attest(node, *at, direct * 2 > voters.len(), now);
            }
        }
    }

    /// Something is known of this node, and it has not left.
    pub(super) fn knows(&self, node: &NodeName, now: Mono) -> bool {
        self.members.contains(node, now) || (self.known.contains_key(node) && !self.members.has_left(node))
    }

    /// This node does not come back: it counts as one that left.
    pub(super) fn forget_node(&mut self, node: &NodeName, now: Mono) {
        self.members.put_left(node, now, now);
        self.known.remove(node);
    }

    pub(super) fn get_mut(&mut self, node: &NodeName) -> Option<&mut Peer> {
        self.known.get_mut(node)
    }

    /// This node did not run for so long: what it did not hear meanwhile was not silence.
    pub(super) fn shift(&mut self, ms: Mono) {
        self.members.forget_refusals();
        for peer in self.known.values_mut() {
            peer.heard_at += ms;
        }
    }

    pub(super) fn get(&self, node: &NodeName) -> Option<&Peer> {
        self.known.get(node)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&NodeName, &Peer)> {
        self.known.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&NodeName, &mut Peer)> {
        self.known.iter_mut()
    }

    /// Those whose beacons come.
    pub(super) fn alive(&self, now: Mono) -> impl Iterator<Item = (&NodeName, &Peer)> {
        self.known.iter().filter(move |(_, peer)| peer.is_alive(now))
    }

    /// Those whose beacons come, and those that leave and have not gone yet.
    pub(super) fn heard_now(&self, now: Mono) -> impl Iterator<Item = (&NodeName, &Peer)> {
        self.known.iter().filter(move |(_, peer)| peer.is_alive(now) || peer.is_leaving(now))
    }

    /// This very life is the present one of a node whose beacons come.
    pub(super) fn is_life_alive(&self, life: &Life, now: Mono) -> bool {
        self.known.get(&life.node).is_some_and(|peer| peer.epoch == life.epoch && peer.is_alive(now))
    }

    /// This very life is the present one of a node that is heard, were it only to leave.
    pub(super) fn is_life_heard(&self, life: &Life, now: Mono) -> bool {
        self.known.get(&life.node).is_some_and(|peer| peer.epoch == life.epoch && (peer.is_alive(now) || peer.is_leaving(now)))
    }

    /// Somebody is silent of whom nobody can say whether it lives; of two nodes the other one, whatever was seen of it.
    pub(super) fn has_doubtful(&self, now: Mono) -> bool {
        let is_one_of_two = |node: &NodeName| self.member_count(now) == 2 && self.members.contains(node, now);
        self.known.iter().any(|(node, peer)| !peer.is_alive(now) && !peer.has_left() && (!peer.is_dead || is_one_of_two(node)))
    }

    /// How many nodes the cluster has, this one among them.
    pub(super) fn member_count(&self, now: Mono) -> usize {
        1 + self.members.iter(now).count()
    }

    /// Whether this node hears a majority of the members, itself among them. Of two there is none, and alone one is all.
    pub(super) fn hears_majority(&self, now: Mono) -> bool {
        let members = self.member_count(now);
        members < 3 || self.heard_count(now) * 2 > members
    }

    /// How many nodes this one hears, itself among them.
    pub(super) fn heard_count(&self, now: Mono) -> usize {
        1 + self.alive(now).count()
    }

    /// The members that are not heard here.
    pub(super) fn silent_members(&self, now: Mono) -> impl Iterator<Item = &NodeName> {
        self.members.iter(now).filter(move |node| !self.known.get(*node).is_some_and(|peer| peer.is_alive(now)))
    }

    /// Forgets nodes that left, at once, and silent nodes that count no more for the time that has gone by.
    pub(super) fn forget(&mut self, now: Mono) {
        self.members.forget(now);
        let members = &self.members;
        self.known.retain(|node, peer| {
            let has_left = peer.has_left() || members.has_left(node);
            peer.heard_at + DEAD_MS > now || (!has_left && members.counts_until(node) > now)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(epoch: u64) -> Life {
        Life { node: NodeName::parse("n2").unwrap(), epoch: Epoch(epoch) }
    }

    #[test]
    fn a_new_life_waits_until_the_former_one_is_silent() {
        let mut peers = Peers::new(NodeName::parse("n1").unwrap());
        assert_eq!(peers.presence(&life(1), 0), Presence::Appeared);
        assert_eq!(peers.presence(&life(2), 2999), Presence::NotPresent);
        assert_eq!(peers.presence(&life(2), 3000), Presence::Appeared);
        assert_eq!(peers.presence(&life(1), 5999), Presence::NotPresent);
        assert_eq!(peers.presence(&life(2), 99_999), Presence::Present);
    }

    #[test]
    fn the_node_of_a_name_is_the_one_that_does_not_give_way_to_another() {
        let mut peers = Peers::new(NodeName::parse("n1").unwrap());
        for epoch in [1, 2] {
            assert_eq!(peers.presence(&life(epoch), 4000 * epoch), Presence::Appeared);
            let beacon = Beacon { gives_way: epoch == 2, ..Beacon::of(NodeState::Warming) };
            peers.heard(&life(epoch).node, beacon, 4000 * epoch);
        }
        assert_eq!(peers.presence(&life(1), 8001), Presence::Appeared, "also where it was the present one before");
        peers.heard(&life(1).node, Beacon::of(NodeState::Ready), 8001);
        assert_eq!(peers.presence(&life(2), 8002), Presence::NotPresent);
    }

    #[test]
    fn one_that_is_left_alone_in_order_has_missed_nobody() {
        let mut peers = Peers::new(NodeName::parse("n1").unwrap());
        peers.presence(&life(1), 0);
        peers.heard(&life(1).node, Beacon::of(NodeState::Ready), 1000);
        assert_eq!(peers.any_heard_at, Some(1000));
        peers.heard(&life(1).node, Beacon::of(NodeState::Leaving), 2000);
        assert_eq!(peers.any_heard_at, None);
    }

    #[test]
    fn a_late_frame_of_a_former_life_does_not_shut_out_the_one_that_runs() {
        let mut peers = Peers::new(NodeName::parse("n1").unwrap());
        assert_eq!(peers.presence(&life(2), 0), Presence::Appeared);
        assert_eq!(peers.presence(&life(1), 4000), Presence::Appeared);
        assert_eq!(peers.presence(&life(2), 6999), Presence::NotPresent);
        assert_eq!(peers.presence(&life(2), 7000), Presence::Appeared);
    }

    #[test]
    fn an_address_that_was_a_nodes_own_is_so_in_its_next_life_until_it_names_another() {
        let mut peers = Peers::new(NodeName::parse("n1").unwrap());
        let beacon = |http: &str| Beacon { http: http.to_owned(), ..Beacon::of(NodeState::Ready) };
        let mut live = |epoch, http: &str, at| {
            peers.presence(&life(epoch), at);
            peers.heard(&life(epoch).node, beacon(http), at);
            let peer = peers.get_mut(&life(epoch).node).unwrap();
            let was_proven = peer.reached.is_proven;
            peer.reached.note(crate::registry::PeerAnswer::Alive, at);
            was_proven
        };
        assert_eq!([live(1, "a:1", 1000), live(2, "a:1", 9000), live(3, "b:1", 18_000)], [false, true, false]);
    }
}
