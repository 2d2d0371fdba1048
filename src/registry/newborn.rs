//! Newborn: a node that was away for longer than anybody remembers begins a new life. What it still holds is an old replica, no more.

use super::io::Output;
use super::message::NodeState;
use super::notice::Notice;
use super::preserve::Preserve;
use super::time::Now;
use super::{Outbox, Registry, join, log, ownership, relay, repair};
use crate::model::{Epoch, InstanceKey};

impl Registry {
    /// Takes a new epoch and joins again. Its leases are let go: what it owned belongs to a life that is over.
    pub(super) fn become_newborn(&mut self, now: Now, out: &mut Outbox) {
        if !self.link.has_bus() {
            self.hears_majority.since = Some(now.mono);
            return;
        }
        let held: Vec<InstanceKey> = self.leases.keys().cloned().collect();
        for key in held {
            self.end_lease(&key);
            out.push(Output::DropLease { key });
        }
        self.preserve = Preserve::default();
        // Nobody will apply what the former life wrote last: whoever waits for that is told so.
        self.acks.end_all(now.mono);
        self.consultations.end_all(now.mono);
        self.drains.end_all(now.mono);
        self.settle_acks(now, out);
        self.life.epoch = Epoch(self.rng.next());
        self.settings.epoch = self.life.epoch;
        self.log = log::Log::default();
        self.applied.begin(self.life.clone(), now.mono);
        self.ended.clear();
        self.relays = relay::Relays::default();
        self.repair = repair::Repair::default();
        self.ask_again = ownership::AskAgain::default();
        self.join = join::Join::new(now.mono);
        self.has_stepped_down = false;
        self.complete = false;
        self.settle.begin_anew();
        self.has_been_ready = false;
        self.restore.look_anew();
        out.push(Output::Reborn(self.life.epoch));
        out.push(Output::Noticed(Notice::Reborn(self.life.epoch)));
        self.become_state(NodeState::Warming, now, out);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{
        Address, Cause, InstanceId, Life, Namespace, NodeName, Port, Registration, RegistrationDraft, ServiceKey, ServiceName, Ttl,
    };
    use crate::registry::merge::{Step, Why};
    use crate::registry::{Ack, Answer, Beacon, Body, Envelope, Input, Message, Register, Seen, Settings};

    fn register(id: &str, ack: Ack, now: Now) -> Register {
        let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
        let key = InstanceKey { service, id: InstanceId::parse(id).unwrap() };
        let draft = RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(80).unwrap(), Ttl::from_ms(15_000).unwrap());
        let registration = Arc::new(Registration::new(draft).unwrap());
        Register { ack, ..Register::new(key, registration, now.mono) }
    }

    #[test]
    fn whoever_waits_for_peers_to_have_a_write_is_answered_before_a_new_life_begins() {
        let now = Now { mono: 1_000_000, wall: 0 };
        let mut registry = Registry::new(Settings::new(NodeName::parse("n1").unwrap(), Epoch(1)), 1, now);
        let peer = Life { node: NodeName::parse("n2").unwrap(), epoch: Epoch(2) };
        registry.handle(
            Input::Received(Envelope { from: peer, message: Message::Beacon(Beacon::of(NodeState::Ready)) }),
            now,
            &mut Outbox::new(),
        );
        let mut out = Outbox::new();
        registry.handle(Input::Register(7, register("a", Ack::All { until: now.mono + 2000 }, now)), now, &mut out);
        let is_answered = |out: &Outbox| out.iter().any(|output| matches!(output, Output::Answer(7, Answer::Registered(_))));
        assert!(!is_answered(&out));
        registry.become_newborn(now, &mut out);
        assert!(is_answered(&out) && registry.settings().epoch != Epoch(1));
    }

    #[test]
    fn a_newborn_node_does_not_say_that_it_preserves_what_its_former_life_owned() {
        let now = Now { mono: 1_000_000, wall: 0 };
        let mut registry = Registry::new(Settings::new(NodeName::parse("n1").unwrap(), Epoch(1)), 1, now);
        let register = register("a", Ack::Local, now);
        let key = register.key.clone();
        registry.handle(Input::Register(7, register), now, &mut Outbox::new());
        let record = registry.store.get(&key).unwrap().clone();
        let body = Body::Live { registration: Arc::clone(record.registration().unwrap()), seen: Seen::Suspect, draining: false };
        registry.write(key, Step::same(&record.version), body, Why::from(Cause::Preserved), now, &mut Outbox::new());
        assert!(registry.is_preserving());
        registry.become_newborn(now, &mut Outbox::new());
        assert!(!registry.is_preserving());
    }

    #[test]
    fn a_newborn_node_looks_anew_whether_it_holds_records_of_lives_that_are_over() {
        let now = Now { mono: 1_000_000, wall: 0 };
        let mut registry = Registry::new(Settings::new(NodeName::parse("n1").unwrap(), Epoch(1)), 1, now);
        registry.handle(Input::Register(7, register("a", Ack::Local, now)), now, &mut Outbox::new());
        assert!(!registry.is_unsure(now.mono), "the record is its own");
        registry.become_newborn(now, &mut Outbox::new());
        assert!(registry.is_unsure(now.mono), "the record is of its former life");
    }
}
