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
    fn inherit(&mut self, record: &Arc<Record>, at: Mono, now: Now, out: &mut Outbox) {
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
        if phase != Phase::Held {
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
        let Some(registration) = record.registration() else { return };
        let is_same = record.version.incarnation == beat.incarnation && record.version.owner.node == from.node;
        if is_same && beat.digest.is_none_or(|digest| digest == content_digest(registration)) {
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
    use crate::registry::{Beacon, Change, Envelope, Input, Register, Settings};

    #[test]
    fn a_silent_one_that_is_handed_over_counts_among_the_silent_at_once() {
        let now = Now { mono: 1_000_000, wall: 0 };
        let settings = Settings { has_bus: false, ..Settings::new(NodeName::parse("n1").unwrap(), Epoch(9)) };
        let mut registry = Registry::new(settings, 1, now);
        let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
        let key = |id| InstanceKey { service: service.clone(), id: InstanceId::parse(id).unwrap() };
        let content = |port| {
            let draft = RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(port).unwrap(), Ttl::from_ms(3000).unwrap());
            Arc::new(Registration::new(draft).unwrap())
        };
        let register = |key, port| {
            let registration = content(port);
            Register::new(key, registration, now.mono)
        };
        for (port, id) in [(1, "a"), (2, "b")] {
            registry.handle(Input::Register(1, register(key(id), port)), now, &mut Outbox::new());
        }
        let later = Now { mono: now.mono + 3000, wall: 0 };
        for id in ["a", "b"] {
            registry.handle_due(&key(id), None, later, &mut Outbox::new());
        }
        let owner = Life { node: NodeName::parse("n2").unwrap(), epoch: Epoch(2) };
        let silent = Record::clone(registry.record(&key("a")).unwrap());
        let version = Version { owner: owner.clone(), seq: 1, ..silent.version.clone() };
        let body = Body::Live { registration: content(3), seen: Seen::Down, draining: false };
        let record = Arc::new(Record { key: key("c"), version, body, ..silent });
        let incarnation = record.version.incarnation;
        let change = Message::Change(Change { first: 1, last: 1, wants_ack: false, records: vec![record] });
        for message in [change, Message::Beacon(Beacon { head: 1, ..Beacon::of(NodeState::Leaving) })] {
            registry.handle(Input::Received(Envelope { from: owner.clone(), message }), later, &mut Outbox::new());
        }
        assert!(!registry.is_preserving(), "two are never many");
        let renewal = Renewal { key: key("c"), incarnation, digest: None, age_ms: 5000 };
        registry.handle_relay(&owner, 7, &[renewal], later, &mut Outbox::new());
        assert!(registry.holds_lease(&key("c")) && registry.is_preserving());
    }
}
