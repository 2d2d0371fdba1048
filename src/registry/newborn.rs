//! Newborn: a node that was away for longer than anybody remembers, or had given way to another of its name, begins a new life. What it
//! still holds is an old replica, no more.

use super::io::{Notice, Output};
use super::message::NodeState;
use super::time::Now;
use super::{Outbox, Registry, ack, join, log, ownership, relay, repair};
use crate::model::{Epoch, InstanceKey};

impl Registry {
    /// Takes a new epoch and joins again. Its leases are let go: what it owned belongs to a life that is over.
    pub(super) fn become_newborn(&mut self, now: Now, out: &mut Outbox) {
        if !self.link.has_bus() {
            self.trusted_since = Some(now.mono);
            return;
        }
        let held: Vec<InstanceKey> = self.leases.keys().cloned().collect();
        for key in held {
            self.leases.end(&key);
            out.push(Output::DropLease { key });
        }
        self.life.epoch = Epoch(self.rng.next());
        self.settings.epoch = self.life.epoch;
        self.log = log::Log::default();
        self.applied.raise(&self.life, 0, now.mono);
        self.ended.clear();
        self.relays = relay::Relays::default();
        self.repair = repair::Repair::default();
        self.ask_again = ownership::AskAgain::default();
        self.acks = ack::Acks::default();
        self.join = join::Join::new(now.mono);
        self.complete = false;
        out.push(Output::Reborn(self.life.epoch));
        out.push(Output::Noticed(Notice::Reborn(self.life.epoch)));
        self.become_state(NodeState::Warming, now, out);
    }
}
