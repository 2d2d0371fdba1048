//! The lines between nodes: every message is encoded, carried with whatever becomes of it on the way, and decoded.

use bytes::Bytes;
use muster::model::Life;
use muster::registry::{Input, Message, To};

use super::{Event, World};
use crate::counts::Injected;
use crate::invariant::Invariant;
use crate::teeth::Sabotage;

impl World {
    pub(super) fn publish(&mut self, node: usize, life: u32) {
        let slot = &mut self.slots[node];
        if slot.life != life {
            return;
        }
        slot.is_publishing = false;
        let Some(shell) = &mut slot.shell else { return };
        let changes = shell.publish();
        let from = shell.registry.settings().life();
        for change in changes {
            self.trace.say(self.now, || format!("n{node} publishes {}..={}", change.first, change.last));
            match self.codec.encode_change(&from, change) {
                Ok(frames) => {
                    for frame in frames {
                        self.change_frames += 1;
                        if self.now < self.bus.changes_lost_until {
                            self.counts.add(Injected::LostTail);
                        } else {
                            self.carry_to_all(node, &frame);
                        }
                    }
                }
                Err(too_large) => self.violate(Invariant::Bounded, format!("n{node} publishes what does not fit: {too_large}")),
            }
        }
        self.schedule(node);
    }

    pub(super) fn send(&mut self, from: &Life, node: usize, to: &To, message: &Message) {
        if self.sabotage.is_some_and(|sabotage| sabotage.swallows(message)) {
            return;
        }
        if self.mutes_pulls_of == Some(node) && matches!(message, Message::Pulled { .. }) {
            return;
        }
        if let Message::Relay { renewals, .. } = message {
            self.relays = (self.relays.0 + 1, self.relays.1 + renewals.len() as u64);
        }
        let frame = match self.codec.encode(from, message) {
            Ok(frame) => frame,
            Err(too_large) => return self.violate(Invariant::Bounded, format!("n{node} sends what does not fit: {too_large}")),
        };
        if matches!(message, Message::Relay { .. } | Message::Relayed { .. }) {
            self.relay_bytes += frame.len() as u64;
        }
        self.echo_falsely(node, message);
        match to {
            To::All => self.carry_to_all(node, &frame),
            To::Node(name) => {
                let named = (0..self.slots.len()).filter(|to| self.slots[*to].name == *name).collect();
                self.carry(node, named, &frame);
            }
        }
    }

    pub(super) fn carry_to_all(&mut self, from: usize, frame: &Bytes) {
        let to = (0..self.slots.len()).collect();
        self.carry(from, to, frame);
    }

    /// It comes to the bus once, whoever is to have it from there.
    fn carry(&mut self, from: usize, to: Vec<usize>, frame: &Bytes) {
        let Some(at_bus) = self.bus.leave(from, frame.len(), self.now) else { return self.counts.add(Injected::Dropped) };
        for to in to {
            for delay in self.bus.deliveries(from, to, frame, &mut self.chance, &mut self.counts) {
                match self.bus.reach(to, frame.len(), at_bus + delay) {
                    Some(at) => self.after(at - self.now, Event::Frame { from, to, frame: frame.clone() }),
                    None => self.counts.add(Injected::Dropped),
                }
            }
        }
    }

    pub(super) fn deliver(&mut self, from: usize, to: usize, frame: Bytes) {
        let slot = &self.slots[to];
        if slot.shell.is_none() || !self.bus.carries(from, to) {
            return;
        }
        if self.bus.is_flooded(to, self.now) {
            return self.counts.add(Injected::Dropped);
        }
        if slot.stalled_until > self.now {
            let wait = slot.stalled_until - self.now;
            return self.after(wait, Event::Frame { from, to, frame });
        }
        match self.codec.decode_from(&frame, &self.slots[from].name) {
            Ok(mut envelope) => {
                if (self.elders.contains(&from) || self.elders.contains(&to)) && !grow_older(&mut envelope.message) {
                    return;
                }
                self.sabotage_message(from, to, &mut envelope);
                self.trace.say_more(self.now, || format!("n{to} <- {} {}", envelope.from, envelope.message.brief()));
                self.feed(to, Input::Received(envelope));
            }
            Err(rejected) => self.violate(Invariant::TrueAnswers, format!("n{to} refused a frame of n{from}'s: {rejected}")),
        }
    }

    pub(super) fn tell_link(&mut self, node: usize, life: u32, up: bool) {
        let slot = &self.slots[node];
        let is_attached = self.bus.is_attached(node);
        if slot.life != life || slot.told_up == up || up && !is_attached || self.is_sabotaged(Sabotage::EchoWithoutBus) && slot.told_up {
            return;
        }
        let slot = &mut self.slots[node];
        slot.told_up = up;
        slot.has_been_up |= up;
        self.trace.say(self.now, || format!("n{node} is told that its bus is {}", if up { "up" } else { "down" }));
        self.feed(node, if up { Input::BusConnected } else { Input::BusDisconnected });
        if !up && is_attached {
            // The line works: the client is connected again before long.
            let after = self.chance.between(5, 300);
            self.after(after, Event::TellLink { node, life, up: true });
        }
    }

    /// The node's line to the bus breaks; its client notices some time later.
    pub(crate) fn break_line(&mut self, node: usize, noticed_after_ms: u64) {
        self.bus.attach(node, false);
        self.slots[node].broken_at = Some(self.now);
        let life = self.slots[node].life;
        self.after(noticed_after_ms, Event::TellLink { node, life, up: false });
    }

    pub(crate) fn mend_line(&mut self, node: usize) {
        self.bus.attach(node, true);
        self.slots[node].broken_at = None;
        let life = self.slots[node].life;
        let after = self.chance.between(5, 200);
        self.after(after, Event::TellLink { node, life, up: true });
    }

    /// The node's client connects anew, because the node hears nothing of its own.
    pub(super) fn reconnect(&mut self, node: usize) {
        let life = self.slots[node].life;
        self.after(0, Event::TellLink { node, life, up: false });
    }
}

/// Makes of a message what the version before says, or understands, of it; false: nothing.
fn grow_older(message: &mut Message) -> bool {
    if let Message::Beacon(beacon) = message {
        beacon.takes_sized_pulls = false;
        beacon.stamp = 0;
    }
    !matches!(message, Message::PullSized { .. })
}

/// A message in a word or two, for traces.
trait Brief {
    fn brief(&self) -> String;
}

impl Brief for Message {
    fn brief(&self) -> String {
        let whole = format!("{self:?}");
        whole.chars().take(400).collect()
    }
}
