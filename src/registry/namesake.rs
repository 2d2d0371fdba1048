//! Namesakes: nodes that run under one name. One that starts does not become ready while another of its name is heard. Of several that are
//! ready each steps down but the one with the least epoch, once one of a lesser epoch has answered over HTTP under that name and in that life.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::io::{Output, PeerAnswer, Ticket};
use super::message::{Beacon, NodeState};
use super::notice::Notice;
use super::peers::{ALIVE_MS, EPOCH_SILENT_MS};
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::Epoch;

/// How many other lives of this node's name are followed. One more is ignored until one of them is silent: epochs are easily made up.
const FOLLOWED_MAX: usize = 16;
/// So many beacons of another ready life, over so long, are no late frames.
const BEACONS: u32 = 3;
const BEACONS_MS: u64 = 2000;
/// A single beacon may be a late one of this node's own former life: a node that runs sends the next within this time.
const NEXT_BEACON_MS: u64 = 1300;
/// One that did not answer is asked again after this long.
const ASK_AGAIN_MS: u64 = 5000;
/// How long an answer is waited for; nobody else of this name is asked meanwhile.
const ANSWER_MS: u64 = 2500;
/// The operator is reminded of it this often.
const REMIND_MS: u64 = 60_000;

/// What is known of other nodes with this node's name.
#[derive(Default)]
pub(super) struct Namesakes {
    followed: BTreeMap<Epoch, Heard>,
    /// The one that is being asked over HTTP.
    asked: Option<Asked>,
    /// One of them has the name, as it was last judged.
    has_name: bool,
}

struct Heard {
    state: NodeState,
    http: String,
    last_at: Mono,
    /// Its first and its last beacon in which it claimed the name, and how many there were.
    first_at: Mono,
    claimed_at: Option<Mono>,
    beacons: u32,
    noticed_at: Option<Mono>,
    asked_at: Option<Mono>,
}

#[derive(Clone, Copy)]
struct Asked {
    ticket: Ticket,
    epoch: Epoch,
    at: Mono,
}

impl Heard {
    fn new(now: Mono) -> Self {
        let state = NodeState::Warming;
        Self { state, http: String::new(), last_at: now, first_at: now, claimed_at: None, beacons: 0, noticed_at: None, asked_at: None }
    }

    fn is_silent(&self, now: Mono) -> bool {
        now > self.last_at + ALIVE_MS
    }

    /// It runs and claims the name.
    fn claims(&self, now: Mono) -> bool {
        let silent_ms = if self.beacons < 2 { NEXT_BEACON_MS } else { EPOCH_SILENT_MS };
        self.claimed_at.is_some_and(|at| now <= at + silent_ms)
    }

    /// It claims the name, and not in late frames of a life that is over.
    fn is_proven(&self, now: Mono) -> bool {
        self.claims(now) && self.beacons >= BEACONS && self.claimed_at.is_some_and(|at| at >= self.first_at + BEACONS_MS)
    }
}

impl Namesakes {
    /// This other life of the node's own name is heard now.
    pub(super) fn is_running(&self, epoch: Epoch, now: Mono) -> bool {
        self.followed.get(&epoch).is_some_and(|heard| !heard.is_silent(now))
    }

    /// Another node has the name, as it was last judged.
    pub(super) fn has_name(&self) -> bool {
        self.has_name
    }

    /// Another node of this name is ready: it can take over what is handed over.
    pub(super) fn is_ready(&self, now: Mono) -> bool {
        self.followed.values().any(|heard| heard.state == NodeState::Ready && heard.claims(now))
    }

    /// This question is about one of them.
    pub(super) fn is_asked(&self, ticket: Ticket) -> bool {
        self.asked.is_some_and(|asked| asked.ticket == ticket)
    }

    fn holds_name(&self, now: Mono) -> bool {
        self.followed.values().any(|heard| heard.claims(now))
    }

    /// Says whether it was not heard before, or not for long.
    fn hear(&mut self, epoch: Epoch, beacon: &Beacon, claims: bool, now: Mono) -> bool {
        if !self.followed.contains_key(&epoch) && self.followed.len() >= FOLLOWED_MAX {
            self.followed.retain(|_, heard| !heard.is_silent(now));
            if self.followed.len() >= FOLLOWED_MAX {
                return false;
            }
        }
        let is_new = self.followed.get(&epoch).is_none_or(|heard| heard.is_silent(now));
        let heard = self.followed.entry(epoch).or_insert_with(|| Heard::new(now));
        if is_new {
            *heard = Heard::new(now);
        }
        heard.last_at = now;
        heard.state = beacon.state;
        heard.http.clone_from(&beacon.http);
        if claims {
            if heard.claimed_at.is_none() {
                (heard.first_at, heard.beacons) = (now, 0);
            }
            heard.claimed_at = Some(now);
            heard.beacons += 1;
        } else {
            heard.claimed_at = None;
        }
        is_new
    }

    /// The one that is to be asked next: each in turn, the least epoch first.
    fn to_ask(&self, own: Epoch, now: Mono) -> Option<Epoch> {
        if self.asked.is_some_and(|asked| now < asked.at + ANSWER_MS) {
            return None;
        }
        let rests = |heard: &Heard| heard.asked_at.is_some_and(|at| now < at + ASK_AGAIN_MS);
        let lesser = self.followed.range(..own).filter(|(_, heard)| heard.is_proven(now) && !rests(heard));
        lesser.min_by_key(|(epoch, heard)| (heard.asked_at, **epoch)).map(|(epoch, _)| *epoch)
    }
}

impl Registry {
    /// Another life of this node's name sends beacons.
    pub(super) fn hear_namesake(&mut self, epoch: Epoch, beacon: &Beacon, now: Now, out: &mut Outbox) {
        let claims = match beacon.state {
            NodeState::Ready => true,
            // Of two that start together the one with the lesser epoch goes on.
            NodeState::Warming => self.state == NodeState::Warming && epoch < self.life.epoch,
            NodeState::Leaving => false,
        };
        let is_new = self.namesakes.hear(epoch, beacon, claims, now.mono);
        if is_new && beacon.state == NodeState::Warming {
            // It is to learn at once that the name is taken.
            self.greet(now);
        }
        match self.state {
            NodeState::Warming => {
                if self.is_name_taken(now.mono) && self.namesakes.followed.get(&epoch).is_some_and(|heard| heard.beacons >= 2) {
                    self.notice_namesake(epoch, now, out);
                }
            }
            NodeState::Ready => {
                if self.namesakes.followed.get(&epoch).is_some_and(|heard| heard.is_proven(now.mono)) {
                    self.notice_namesake(epoch, now, out);
                    self.ask_namesake(now, out);
                }
            }
            NodeState::Leaving => {}
        }
    }

    fn notice_namesake(&mut self, epoch: Epoch, now: Now, out: &mut Outbox) {
        let waits = self.state == NodeState::Warming;
        let Some(heard) = self.namesakes.followed.get_mut(&epoch) else { return };
        if heard.noticed_at.is_none_or(|at| now.mono >= at + REMIND_MS) {
            heard.noticed_at = Some(now.mono);
            out.push(Output::Noticed(Notice::NameTaken { epoch, http: heard.http.clone(), waits }));
        }
    }

    /// Judges whether a node that warms has to wait because another one has its name.
    pub(super) fn is_name_taken(&mut self, now: Mono) -> bool {
        let is_taken = self.namesakes.holds_name(now);
        if self.namesakes.has_name != is_taken {
            self.namesakes.has_name = is_taken;
            // Peers are to know at once which of the two is the node of this name.
            self.next_beacon = now;
        }
        is_taken
    }

    /// Asks a namesake over HTTP before this node steps down: frames can be late, or forged.
    fn ask_namesake(&mut self, now: Now, out: &mut Outbox) {
        let Some(epoch) = self.namesakes.to_ask(self.life.epoch, now.mono) else { return };
        let ticket = self.rng.next();
        self.namesakes.asked = Some(Asked { ticket, epoch, at: now.mono });
        let Some(heard) = self.namesakes.followed.get_mut(&epoch) else { return };
        heard.asked_at = Some(now.mono);
        let (node, http) = (self.life.node.clone(), heard.http.clone());
        out.push(Output::CheckPeer { ticket, node, epoch: Some(epoch), http, needs_witness: false });
    }

    /// Steps down if the namesake that was asked lives.
    pub(super) fn handle_namesake_checked(&mut self, answer: PeerAnswer, now: Now, out: &mut Outbox) {
        let Some(Asked { epoch, .. }) = self.namesakes.asked.take() else { return };
        let Some(heard) = self.namesakes.followed.get(&epoch).filter(|heard| heard.claims(now.mono)) else { return };
        if answer == PeerAnswer::Alive && self.state == NodeState::Ready {
            let notice = Notice::SteppedDown { epoch, http: heard.http.clone() };
            self.has_stepped_down = true;
            out.push(Output::Noticed(notice));
            self.become_leaving(now, out);
        }
    }

    /// A node that leaves while another of its name runs gives way to that one: the node of this name does not leave.
    pub(super) fn leave_to_namesake(&mut self, now: Mono) {
        self.has_stepped_down |= self.namesakes.holds_name(now);
    }
}
