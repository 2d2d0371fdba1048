//! Namesakes: two nodes that run under one name. One that starts does not become ready while another of its name is heard. Of two that are
//! ready the one with the greater epoch steps down, once the other has answered over HTTP under that name and in that life.

use super::io::{Output, PeerAnswer, Ticket};
use super::message::{Beacon, NodeState};
use super::notice::Notice;
use super::peers::EPOCH_SILENT_MS;
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::Epoch;

/// So many beacons of another ready life, over so long, are no late frames.
const BEACONS: u32 = 3;
const BEACONS_MS: u64 = 2000;
/// A single beacon may be a late one of this node's own former life: a node that runs sends the next within this time.
const NEXT_BEACON_MS: u64 = 1300;
/// A namesake that is not heard for this long runs no more: it is alive as any peer is.
const SILENT_MS: u64 = super::peers::ALIVE_MS;
/// One that did not answer is asked again after this long.
const ASK_AGAIN_MS: u64 = 5000;

/// What was heard of another node with this node's name.
#[derive(Default)]
pub(super) struct Namesake {
    heard: Option<Heard>,
    /// The operator was told of this one.
    noticed: Option<Epoch>,
    /// It is being asked over HTTP.
    asked: Option<(Ticket, Mono)>,
    /// It runs, ready or about to be: the name is its.
    has_name: bool,
}

struct Heard {
    epoch: Epoch,
    /// Its first and its last beacon in which it claimed the name, and how many there were.
    first_at: Mono,
    claimed_at: Option<Mono>,
    beacons: u32,
    last_at: Mono,
    http: String,
}

impl Namesake {
    /// This other life of the node's own name is heard now.
    pub(super) fn is_running(&self, epoch: Epoch, now: Mono) -> bool {
        self.heard.as_ref().is_some_and(|heard| heard.epoch == epoch && now <= heard.last_at + SILENT_MS)
    }

    /// Another node has the name, as it was looked at last.
    pub(super) fn has_name(&self) -> bool {
        self.has_name
    }

    /// This question is about it.
    pub(super) fn is_asked(&self, ticket: Ticket) -> bool {
        self.asked.is_some_and(|(asked, _)| asked == ticket)
    }

    /// No other node of this name is heard any more.
    fn is_silent(&self, now: Mono) -> bool {
        self.heard.as_ref().is_none_or(|heard| now > heard.last_at + SILENT_MS)
    }

    /// Another node of this name runs and claims it.
    fn holds_name(&self, now: Mono) -> bool {
        let Some(heard) = &self.heard else { return false };
        let silent_ms = if heard.beacons < 2 { NEXT_BEACON_MS } else { EPOCH_SILENT_MS };
        heard.claimed_at.is_some_and(|at| now <= at + silent_ms)
    }

    /// It claims the name, and not in late frames of a life that is over.
    fn is_proven(&self) -> bool {
        let is_old = |heard: &Heard| heard.claimed_at.is_some_and(|at| at >= heard.first_at + BEACONS_MS);
        self.heard.as_ref().is_some_and(|heard| heard.beacons >= BEACONS && is_old(heard))
    }

    fn hear(&mut self, epoch: Epoch, beacon: &Beacon, claims: bool, now: Mono) {
        let heard = match &mut self.heard {
            Some(heard) if heard.epoch == epoch && now <= heard.last_at + SILENT_MS => heard,
            // While one has the name, others that come and go do not hide it.
            Some(heard) if heard.claimed_at.is_some_and(|at| now <= at + EPOCH_SILENT_MS) && !claims => return,
            _ => self.heard.insert(Heard { epoch, first_at: now, claimed_at: None, beacons: 0, last_at: now, http: String::new() }),
        };
        heard.last_at = now;
        heard.http.clone_from(&beacon.http);
        if claims {
            heard.first_at = heard.claimed_at.map_or(now, |_| heard.first_at);
            heard.claimed_at = Some(now);
            heard.beacons += 1;
        } else {
            heard.claimed_at = None;
        }
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
        self.namesake.hear(epoch, beacon, claims, now.mono);
        if beacon.state == NodeState::Warming {
            // It is to learn at once that the name is taken.
            self.greet(now);
        }
        match self.state {
            NodeState::Warming => {
                if self.look_at_name(now.mono) && self.namesake.heard.as_ref().is_some_and(|heard| heard.beacons >= 2) {
                    self.notice_namesake(epoch, out);
                }
            }
            NodeState::Ready if self.namesake.is_proven() => {
                self.notice_namesake(epoch, out);
                self.ask_namesake(epoch, now, out);
            }
            NodeState::Ready | NodeState::Leaving => {}
        }
    }

    fn notice_namesake(&mut self, epoch: Epoch, out: &mut Outbox) {
        if self.namesake.noticed != Some(epoch) {
            self.namesake.noticed = Some(epoch);
            out.push(Output::Noticed(Notice::NameTaken(epoch)));
        }
    }

    /// Whether a node that warms has to wait because another one has its name.
    pub(super) fn look_at_name(&mut self, now: Mono) -> bool {
        self.namesake.has_name = self.namesake.holds_name(now);
        self.namesake.has_name
    }

    /// Frames can be late, or forged: before this node steps down the other one is asked directly.
    fn ask_namesake(&mut self, epoch: Epoch, now: Now, out: &mut Outbox) {
        let rests = self.namesake.asked.is_some_and(|(_, at)| now.mono < at + ASK_AGAIN_MS);
        if self.life.epoch < epoch || rests {
            return;
        }
        let ticket = self.rng.next();
        self.namesake.asked = Some((ticket, now.mono));
        let http = self.namesake.heard.as_ref().map_or_else(String::new, |heard| heard.http.clone());
        let node = self.life.node.clone();
        out.push(Output::CheckPeer { ticket, node, epoch: Some(epoch), http, needs_witness: false });
    }

    /// What the namesake answered, or that it did not.
    pub(super) fn namesake_checked(&mut self, answer: PeerAnswer, now: Now, out: &mut Outbox) {
        let has_name = answer == PeerAnswer::Alive && self.namesake.holds_name(now.mono);
        if has_name && self.state == NodeState::Ready {
            self.has_stepped_down = true;
            self.step_down(now, out);
        }
    }

    /// Once the other is gone the name is free again: this node joins anew.
    pub(super) fn advance_namesake(&mut self, now: Now, out: &mut Outbox) {
        if self.has_stepped_down && self.namesake.is_silent(now.mono) {
            self.has_stepped_down = false;
            self.namesake = Namesake::default();
            self.become_newborn(now, out);
        }
    }
}
