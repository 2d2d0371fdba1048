//! Namesakes: two nodes that run under one name. The one with the greater epoch steps down.

use super::io::Output;
use super::message::NodeState;
use super::notice::Notice;
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::Epoch;

/// After a start one's own former life may still be heard for a while: nobody has taken the name.
const OWN_ECHOES_MS: u64 = 10_000;
/// So many beacons of another life, over so long, are no echoes.
const BEACONS: u32 = 3;
const BEACONS_MS: u64 = 2000;
/// A namesake that is not heard for this long runs no more: it is alive as any peer is.
const SILENT_MS: u64 = super::peers::ALIVE_MS;

/// What was heard of another node with this node's name.
#[derive(Default)]
pub(super) struct Namesake {
    heard: Option<Heard>,
    /// It was said aloud.
    said: Option<Epoch>,
}

struct Heard {
    epoch: Epoch,
    first_at: Mono,
    last_at: Mono,
    beacons: u32,
}

impl Namesake {
    /// This other life of the node's own name is heard now.
    pub(super) fn is_running(&self, epoch: Epoch, now: Mono) -> bool {
        self.heard.as_ref().is_some_and(|heard| heard.epoch == epoch && now <= heard.last_at + SILENT_MS)
    }

    /// No other node of this name is heard any more.
    fn is_silent(&self, now: Mono) -> bool {
        self.heard.as_ref().is_none_or(|heard| now > heard.last_at + SILENT_MS)
    }

    /// A beacon of another life of this name came; says whether it is a node that runs.
    fn hear(&mut self, epoch: Epoch, now: Mono) -> bool {
        let heard = match &mut self.heard {
            Some(heard) if heard.epoch == epoch && now <= heard.last_at + SILENT_MS => heard,
            _ => self.heard.insert(Heard { epoch, first_at: now, last_at: now, beacons: 0 }),
        };
        heard.last_at = now;
        heard.beacons += 1;
        heard.beacons >= BEACONS && now >= heard.first_at + BEACONS_MS
    }
}

impl Registry {
    /// Somebody else speaks under this node's name.
    pub(super) fn hear_namesake(&mut self, epoch: Epoch, now: Now, out: &mut Outbox) {
        let may_be_echo = self.link.hears_since().is_none_or(|since| since + OWN_ECHOES_MS >= now.mono);
        if may_be_echo || !self.namesake.hear(epoch, now.mono) {
            return;
        }
        if self.namesake.said != Some(epoch) {
            self.namesake.said = Some(epoch);
            out.push(Output::Noticed(Notice::NameTaken(epoch)));
        }
        if self.life.epoch > epoch && self.state != NodeState::Leaving {
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
