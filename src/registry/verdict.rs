//! Verdicts: when a silent peer counts as dead. Silence alone proves nothing: the judge must be sound itself, and look for itself.
//!
//! No beacon for 15 s, while this node hears its own echo, a majority of the members and is heard by them; then it asks the peer directly,
//! over HTTP. Only where that fails too is the peer dead. Of two members neither is a majority: there the direct question decides alone,
//! with a witness where one is configured.

use std::collections::BTreeMap;

use super::io::{Output, PeerAnswer, Ticket};
use super::link::BusHealth;
use super::message::{Beacon, NodeState};
use super::notice::Notice;
use super::peers::{ALIVE_MS, DEAD_MS};
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::{Life, NodeName};

/// A peer that is silent and yet answers, or whose answer is not known, is asked again after this long.
const ASK_AGAIN_MS: u64 = 5000;

/// A peer that is silent for longer, and was judged or cannot be, is asked again after this long: it may still refuse.
const REFUSED_AGAIN_MS: u64 = 15_000;
/// A peer that is heard and has not answered yet is asked again after this long.
const PROVE_AGAIN_MS: u64 = 60_000;
/// How many peers are asked a second, so that many names at once make no storm of questions.
const ASKED_MAX: usize = 32;

/// A member that this node knows from others alone has no address here at which it could be asked. When nobody has heard it for this long
/// it counts as one of which nothing is known.
const HEARSAY_SILENT_MS: u64 = 60_000;

/// The peers that are being asked whether they live.
#[derive(Default)]
pub(super) struct Checks {
    asked: BTreeMap<NodeName, Asked>,
    /// How many questions were asked: each has its number for a ticket.
    count: Ticket,
}

struct Asked {
    ticket: Ticket,
    at: Mono,
}

/// What holds of the life that owns a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It runs, or nobody can tell that it does not.
    Open,
    /// It is over: others take its records over, as they are.
    Over,
    /// Nothing is known of it, and it is no member: its records came back from a long separation.
    Unknown,
}

impl Registry {
    /// This node has no reason to doubt itself: it may say of others that they are silent.
    pub(super) fn may_judge(&self, now: Mono) -> bool {
        self.state == NodeState::Ready && self.is_sound(now) && self.peers.hears_majority(now)
    }

    /// It hears its own echo, is heard where anybody is, is not late itself, and has not just come back from a pause.
    pub(super) fn is_sound(&self, now: Mono) -> bool {
        self.link.health() == BusHealth::Up && self.is_heard(now) && !self.health.is_poor() && !self.health.is_returning()
    }

    /// Some alive peer says that this node was heard lately, by itself or another; with no alive peer there is nobody to ask.
    pub(super) fn is_heard(&self, now: Mono) -> bool {
        let hears_us = |peer: &super::peers::Peer| peer.beacon.as_ref().is_some_and(|beacon| self.is_heard_by(beacon));
        let mut alive = self.peers.alive(now).peekable();
        alive.peek().is_none() || alive.any(|(_, peer)| hears_us(peer))
    }

    /// Who sent this says that this node was heard lately.
    pub(super) fn is_heard_by(&self, beacon: &Beacon) -> bool {
        let is_late = |age_ms: u32| u64::from(age_ms) > ALIVE_MS;
        // A node of a former version names no members, and of a life that wrote nothing it says nothing.
        beacon.members.iter().any(|at| at.node == self.life.node && !is_late(at.age_ms))
            || beacon.applied.iter().any(|at| at.life == self.life && at.age_ms.is_some_and(|age| !is_late(age)))
    }

    /// Asks peers directly, those that look dead first: whether they live, and, of one that is silent for longer, whether its address still
    /// refuses. One that is heard is asked until it has answered once: an address at which it never did proves nothing later.
    pub(super) fn judge_peers(&mut self, now: Now, out: &mut Outbox) {
        let peers = &self.peers;
        self.checks.asked.retain(|node, _| peers.get(node).is_some());
        if self.state != NodeState::Ready || !self.is_sound(now.mono) {
            return;
        }
        let may_judge = self.may_judge(now.mono);
        let silent_ms = DEAD_MS * u64::from(self.health.multiplier());
        let needs_witness = self.peers.member_count(now.mono) < 3;
        let mut due: Vec<(bool, Mono, NodeName)> = Vec::new();
        for (node, peer) in self.peers.iter().filter(|(_, peer)| !peer.has_left()) {
            let looks_dead = now.mono > peer.heard_at + silent_ms;
            let rest_ms = match (looks_dead, peer.is_alive(now.mono)) {
                (true, _) if may_judge && !peer.is_dead => ASK_AGAIN_MS,
                (true, _) => REFUSED_AGAIN_MS,
                (false, true) if !peer.reached.is_proven => PROVE_AGAIN_MS,
                (false, _) => continue,
            };
            let asked_at = self.checks.asked.get(node).map(|asked| asked.at);
            if asked_at.is_none_or(|at| now.mono >= at + rest_ms) {
                due.push((!looks_dead, asked_at.unwrap_or(0), node.clone()));
            }
        }
        due.sort_unstable();
        for (_, _, node) in due.into_iter().take(ASKED_MAX) {
            self.checks.count += 1;
            let ticket = self.checks.count;
            self.checks.asked.insert(node.clone(), Asked { ticket, at: now.mono });
            let beacon = self.peers.get(&node).and_then(|peer| peer.beacon.as_ref());
            let http = beacon.map_or_else(String::new, |beacon| beacon.http.clone());
            out.push(Output::CheckPeer { ticket, node, epoch: None, http, needs_witness });
        }
    }

    /// What the direct question brought. A peer that has been heard meanwhile lives, whatever was seen.
    pub(super) fn handle_peer_checked(&mut self, ticket: Ticket, answer: PeerAnswer, now: Now, out: &mut Outbox) {
        if self.namesakes.is_asked(ticket) {
            return self.handle_namesake_checked(answer, now, out);
        }
        let Some(node) = self.checks.asked.iter().find(|(_, asked)| asked.ticket == ticket).map(|(node, _)| node.clone()) else { return };
        let may_judge = self.may_judge(now.mono);
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.reached.note(answer, now.mono);
        let is_silent = matches!(answer, PeerAnswer::Silent | PeerAnswer::Refused);
        if is_silent && may_judge && !peer.is_dead && now.mono > peer.heard_at + DEAD_MS && !peer.has_left() {
            peer.is_dead = true;
            out.push(Output::Noticed(Notice::PeerDead(Life { node, epoch: peer.epoch })));
        }
    }

    /// What is known of the life that owns a record.
    pub(super) fn fate_of(&self, life: &Life, now: Mono) -> Fate {
        if *life == self.life {
            return Fate::Open;
        }
        if self.restored_lives().contains(life) && !self.peers.is_life_alive(life, now) {
            return Fate::Over;
        }
        match self.fate_by_name(life, now) {
            // What a former life left is no older than the memory of it: a life that nobody remembers ended more than a day ago.
            Fate::Over if !self.is_last_heard(life) && !self.applied.knows(life) => Fate::Unknown,
            fate => fate,
        }
    }

    /// It is the life in which its node was last heard.
    fn is_last_heard(&self, life: &Life) -> bool {
        self.peers.get(&life.node).is_some_and(|peer| peer.epoch == life.epoch)
    }

    /// What follows from how its node is.
    fn fate_by_name(&self, life: &Life, now: Mono) -> Fate {
        if life.node == self.life.node {
            let is_namesake = self.namesakes.is_running(life.epoch, now);
            return if is_namesake { Fate::Open } else { Fate::Over };
        }
        match self.peers.get(&life.node) {
            Some(peer) => {
                let is_over = if peer.epoch == life.epoch {
                    peer.is_dead || peer.is_gone(now)
                } else {
                    // Its node runs in another life: that one knows all that can be known of this one.
                    peer.is_dead || peer.is_gone(now) || (peer.is_ready() && peer.is_alive(now))
                };
                if is_over { Fate::Over } else { Fate::Open }
            }
            None if self.peers.members.has_left(&life.node) => Fate::Over,
            None if self.peers.members.is_silent_for(&life.node, HEARSAY_SILENT_MS, now) => Fate::Unknown,
            None if self.peers.members.contains(&life.node, now) => Fate::Open,
            None => Fate::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Epoch;
    use crate::registry::applied::FORGET_AFTER_MS;
    use crate::registry::{Envelope, Input, Message, Settings};

    fn life(node: &str, epoch: u64) -> Life {
        Life { node: NodeName::parse(node).unwrap(), epoch: Epoch(epoch) }
    }

    #[test]
    fn a_former_life_that_nobody_remembers_is_unknown() {
        let now = Now { mono: 2 * FORGET_AFTER_MS, wall: 0 };
        let mut registry = Registry::new(Settings::new(NodeName::parse("n1").unwrap(), Epoch(9)), 1, now);
        registry.handle(
            Input::Received(Envelope { from: life("n2", 9), message: Message::Beacon(Beacon::of(NodeState::Ready)) }),
            now,
            &mut Outbox::new(),
        );
        for former in [life("n2", 1), life("n1", 1)] {
            assert_eq!(registry.fate_of(&former, now.mono), Fate::Unknown);
            registry.applied.raise(&former, 5, now.mono);
            assert_eq!(registry.fate_of(&former, now.mono), Fate::Over);
            registry.applied.forget(&life("n1", 9), now.mono + FORGET_AFTER_MS);
        }
        assert_eq!(registry.fate_of(&life("n2", 9), now.mono), Fate::Open);
    }
}
