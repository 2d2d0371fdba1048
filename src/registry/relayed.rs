//! Relayed heartbeats: what the owner says to them, and what the node that relayed them makes of that.

use std::sync::Arc;

use super::lease::Phase;
use super::merge::{Step, Why};
use super::message::{Message, NodeState, Renewal, To, Verdict};
use super::ownership::Unless;
use super::record::{Body, Record, Seen, content_digest};
use super::relay::Beat;
use super::serve::ANSWER_BYTES_MAX;
use super::time::{Mono, Now};
use super::{Outbox, Output, Registry};
use crate::model::{Cause, InstanceKey, Life, Ttl};

impl Registry {
    /// A relay's heartbeats, judged by the owner.
    pub(super) fn handle_relay(&mut self, from: &Life, ticket: u64, renewals: &[Renewal], now: Now, out: &mut Outbox) {
        // Verdicts that do not fit one answer are left out: those heartbeats come again.
        let mut bytes = 0;
        let mut verdicts = Vec::with_capacity(renewals.len());
        for renewal in renewals {
            let verdict = self.judge(from, renewal, now, out);
            bytes += if let Verdict::Gone(record) = &verdict { record.size_bytes() } else { 1 };
            if bytes > ANSWER_BYTES_MAX {
                break;
            }
            verdicts.push(verdict);
        }
        out.push(Output::Send(To::Node(from.node.clone()), Message::Relayed { ticket, verdicts }));
    }

    fn judge(&mut self, from: &Life, renewal: &Renewal, now: Now, out: &mut Outbox) -> Verdict {
        if self.state == NodeState::Leaving {
            return Verdict::Unknown;
        }
        let Some(record) = self.store.get(&renewal.key).cloned() else { return Verdict::Unknown };
        if renewal.incarnation > record.version.incarnation {
            return Verdict::Unknown;
        }
        let at = now.mono.saturating_sub(u64::from(renewal.age_ms));
        let beat = Beat { incarnation: renewal.incarnation, digest: renewal.digest, at };
        if renewal.incarnation < record.version.incarnation {
            return Verdict::Gone(record);
        }
        match &record.body {
            Body::Live { .. } if record.version.owner == *from && self.is_leaving(from) => {
                self.inherit(&record, at, now, out);
                Verdict::Renewed
            }
            Body::Live { .. } if record.version.owner != self.life => Verdict::Gone(record),
            Body::Live { registration, .. } if beat.digest.is_some_and(|digest| digest != content_digest(registration)) => Verdict::Differs,
            Body::Live { .. } => {
                self.renew_own(record, at, now, out);
                Verdict::Renewed
            }
            Body::Withdrawn { .. } => match self.revive(&record, &beat, now, out) {
                Some(_) => Verdict::Renewed,
                None => Verdict::Gone(record),
            },
        }
    }

    fn is_leaving(&self, life: &Life) -> bool {
        self.peers.get(&life.node).is_some_and(|peer| peer.epoch == life.epoch && peer.has_left())
    }

    /// A node that leaves hands a lease over: the record stays as it is, and so does the time that is left of it.
    pub(super) fn inherit(&mut self, record: &Arc<Record>, at: Mono, now: Now, out: &mut Outbox) {
        let Body::Live { seen, .. } = &record.body else { return };
        let ttl_ms = record.registration().and_then(|registration| registration.ttl()).map_or(0, Ttl::ms);
        let phase = match seen {
            Seen::Well if record.cause == Cause::ProbeSucceeded && at + ttl_ms <= now.mono => Phase::Answering(now.mono),
            Seen::Well => Phase::Held,
            Seen::Suspect => Phase::Late(now.mono),
            Seen::Down => Phase::Over(now.mono),
        };
        // That it answers is to be seen still, and it is looked at here at once.
        let is_answering = matches!(phase, Phase::Answering(_));
        let cause = if is_answering { Cause::ProbeSucceeded } else { Cause::Adopted };
        let why = Why::saying(cause, format!("{} left", record.version.owner.node));
        let written = self.write(record.key.clone(), Step::generation(&record.version), record.body.clone(), why, now, out);
        let due = if phase == Phase::Held { at + ttl_ms } else { now.mono + ttl_ms };
        self.hold_as(&written, phase, at, due, out);
        self.unrenewed.end(&written.key);
        // What was answered here may not have come to the one that left, and it passes nothing on any more.
        let heard = self.relays.take_heard(&written.key, now.mono).filter(|beat| beat.at > at && beat.is_of(&written));
        if let Some(beat) = heard {
            self.renew_own(written, beat.at, now, out);
        } else if phase != Phase::Held {
            self.consider_preserving(&written.key.service, now, out);
        }
    }

    /// An owner's answers to what was relayed to it.
    pub(super) fn handle_relayed(&mut self, from: &Life, ticket: u64, verdicts: Vec<Verdict>, now: Now, out: &mut Outbox) {
        for ((key, beat), verdict) in self.relays.answered(&from.node, ticket).into_iter().zip(verdicts) {
            match verdict {
                Verdict::Renewed => {}
                Verdict::Differs => self.ask_again.mark(key, Unless::Nothing),
                Verdict::Gone(record) => {
                    self.merge(&record, from, now, out);
                }
                Verdict::Unknown => self.claim_unknown(&key, &beat, from, now, out),
            }
        }
    }

    /// The owner does not know the instance (any more): this node takes it over, if it is still the same.
    fn claim_unknown(&mut self, key: &InstanceKey, beat: &Beat, from: &Life, now: Now, out: &mut Outbox) {
        let Some(record) = self.store.get(key).cloned() else { return };
        if record.version.owner.node == from.node && beat.is_of(&record) {
            self.claim(&record, beat.at, now, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Address, Epoch, InstanceId, Namespace, NodeName, Port, Registration, RegistrationDraft, ServiceKey, ServiceName, Version,
    };
    use crate::registry::{Beacon, Change, Envelope, Heartbeat, Input, Register, Settings};

    const TTL_MS: u64 = 3000;
    const NOW: Now = Now { mono: 1_000_000, wall: 0 };

    fn registry() -> Registry {
        let settings = Settings { has_bus: false, expect_empty: true, ..Settings::new(NodeName::parse("n1").unwrap(), Epoch(9)) };
        Registry::new(settings, 1, NOW)
    }

    fn key(id: &str) -> InstanceKey {
        let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
        InstanceKey { service, id: InstanceId::parse(id).unwrap() }
    }

    fn content(port: u16) -> Arc<Registration> {
        let draft = RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(port).unwrap(), Ttl::from_ms(TTL_MS).unwrap());
        Arc::new(Registration::new(draft).unwrap())
    }

    fn register(registry: &mut Registry, id: &str, port: u16) -> Arc<Record> {
        registry.handle(Input::Register(1, Register::new(key(id), content(port), NOW.mono)), NOW, &mut Outbox::new());
        Arc::clone(registry.record(&key(id)).unwrap())
    }

    fn other() -> Life {
        Life { node: NodeName::parse("n2").unwrap(), epoch: Epoch(2) }
    }

    /// Another node has this instance, like `one` but for its body.
    fn hear_of(registry: &mut Registry, id: &str, one: &Record, body: Body, now: Now) {
        let version = Version { owner: other(), seq: 1, ..one.version.clone() };
        let record = Arc::new(Record { key: key(id), version, body, ..one.clone() });
        let change = Message::Change(Change { first: 1, last: 1, wants_ack: false, records: vec![record] });
        for message in [Message::Beacon(Beacon::of(NodeState::Ready)), change] {
            registry.handle(Input::Received(Envelope { from: other(), message }), now, &mut Outbox::new());
        }
    }

    /// The other node leaves, and hands over what was renewed so long ago.
    fn inherit(registry: &mut Registry, id: &str, one: &Record, age_ms: u32, now: Now) {
        let message = Message::Beacon(Beacon { head: 1, ..Beacon::of(NodeState::Leaving) });
        registry.handle(Input::Received(Envelope { from: other(), message }), now, &mut Outbox::new());
        let renewal = Renewal { key: key(id), incarnation: one.version.incarnation, digest: None, age_ms };
        registry.handle_relay(&other(), 7, &[renewal], now, &mut Outbox::new());
    }

    #[test]
    fn a_silent_one_that_is_handed_over_counts_among_the_silent_at_once() {
        let mut registry = registry();
        let ones = [("a", 1), ("b", 2)].map(|(id, port)| register(&mut registry, id, port));
        let later = Now { mono: NOW.mono + TTL_MS, wall: 0 };
        for one in &ones {
            registry.handle_due(&one.key, None, later, &mut Outbox::new());
        }
        let body = Body::Live { registration: content(3), seen: Seen::Down, draining: false };
        hear_of(&mut registry, "c", &ones[0], body, later);
        assert!(!registry.preserve.is_of_all(), "two are never many");
        inherit(&mut registry, "c", &ones[0], 5000, later);
        assert!(registry.holds_lease(&key("c")) && registry.preserve.is_of_all());
    }

    #[test]
    fn what_was_answered_here_before_the_owner_left_counts_though_it_never_heard_of_it() {
        for seen in [Seen::Well, Seen::Suspect] {
            let mut registry = registry();
            let one = register(&mut registry, "a", 1);
            let body = Body::Live { registration: content(3), seen, draining: false };
            hear_of(&mut registry, "c", &one, body, NOW);
            let heartbeat = Heartbeat { key: key("c"), incarnation: None, digest: None, reported: None, at: NOW.mono };
            registry.handle(Input::Heartbeat(2, heartbeat), NOW, &mut Outbox::new());
            let later = Now { mono: NOW.mono + 100, wall: 0 };
            inherit(&mut registry, "c", &one, 2000, later);
            let lease = registry.leases.get(&key("c")).unwrap();
            assert_eq!((lease.renewed_at, lease.phase()), (NOW.mono, Phase::Held), "{seen:?}");
            assert!(matches!(registry.record(&key("c")).unwrap().body, Body::Live { seen: Seen::Well, .. }));
        }
    }
}
