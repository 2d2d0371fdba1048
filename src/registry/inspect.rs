//! Inspection: all that is known of one instance. What only its owner knows is asked of it.

use std::collections::BTreeMap;

use super::answer::Answer;
use super::io::{Output, Purpose, Ticket};
use super::message::{LeaseTold, Message, To};
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::{InstanceKey, Life, NodeName};

/// How long an owner is waited for.
const ANSWER_MS: u64 = 500;
/// How many questions may be on their way; one more is answered without what the owner knows.
const ASKED_MAX: usize = 4096;

#[derive(Default)]
pub(super) struct Inspections {
    asked: BTreeMap<u64, Asked>,
}

struct Asked {
    ticket: Ticket,
    key: InstanceKey,
    until: Mono,
}

impl Inspections {
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.asked.values().map(|asked| asked.until).min()
    }
}

impl Registry {
    pub(super) fn handle_inspect(&mut self, ticket: Ticket, key: InstanceKey, now: Now, out: &mut Outbox) {
        let Some(record) = self.shown(&key).filter(|record| record.registration().is_some()) else {
            out.push(Output::Answer(ticket, Answer::Inspected(None)));
            return;
        };
        let owner = record.version.owner.clone();
        if owner == self.life {
            out.push(Output::AskLease { key, purpose: Purpose::Inspect(ticket) });
        } else if self.peers.is_life_alive(&owner, now.mono) && self.inspections.asked.len() < ASKED_MAX {
            let question = self.rng.next();
            self.inspections.asked.insert(question, Asked { ticket, key: key.clone(), until: now.mono + ANSWER_MS });
            out.push(Output::Send(To::Node(owner.node), Message::AskLease { ticket: question, key }));
        } else {
            self.answer_inspection(ticket, &key, None, out);
        }
    }

    /// The shell has told a lease that somebody here inspects.
    pub(super) fn handle_inspected(&mut self, ticket: Ticket, key: &InstanceKey, last_heartbeat: Option<Mono>, now: Now, out: &mut Outbox) {
        let lease = self.lease_told(key, last_heartbeat, now.mono);
        self.answer_inspection(ticket, key, lease, out);
    }

    /// A peer asks about a lease of ours.
    pub(super) fn handle_ask_lease(from: &Life, ticket: u64, key: InstanceKey, out: &mut Outbox) {
        out.push(Output::AskLease { key, purpose: Purpose::Tell { to: from.node.clone(), ticket } });
    }

    /// The shell has told a lease that a peer asked about.
    pub(super) fn handle_tell(
        &mut self,
        to: NodeName,
        ticket: u64,
        key: &InstanceKey,
        last_heartbeat: Option<Mono>,
        now: Now,
        out: &mut Outbox,
    ) {
        let lease = self.lease_told(key, last_heartbeat, now.mono);
        out.push(Output::Send(To::Node(to), Message::ToldLease { ticket, lease }));
    }

    /// An owner has answered.
    pub(super) fn handle_told(&mut self, ticket: u64, lease: Option<LeaseTold>, out: &mut Outbox) {
        if let Some(asked) = self.inspections.asked.remove(&ticket) {
            self.answer_inspection(asked.ticket, &asked.key, lease, out);
        }
    }

    /// Answers what was asked of owners that stay silent.
    pub(super) fn advance_inspections(&mut self, now: Now, out: &mut Outbox) {
        let late: Vec<u64> =
            self.inspections.asked.iter().filter(|(_, asked)| asked.until <= now.mono).map(|(question, _)| *question).collect();
        for question in late {
            self.handle_told(question, None, out);
        }
    }

    fn lease_told(&self, key: &InstanceKey, last_heartbeat: Option<Mono>, now: Mono) -> Option<LeaseTold> {
        let lease = self.leases.get(key)?;
        let last = lease.last_heard(last_heartbeat);
        let is_heard = lease.made_up != Some(last);
        let deadline = (lease.last_sign(last_heartbeat, now) + lease.ttl_ms).max(lease.not_before);
        Some(LeaseTold {
            remaining_ms: deadline.saturating_sub(now),
            last_heartbeat_ms: is_heard.then(|| now.saturating_sub(last)),
            attached: lease.is_attached(),
        })
    }

    fn answer_inspection(&self, ticket: Ticket, key: &InstanceKey, lease: Option<LeaseTold>, out: &mut Outbox) {
        let record = self.shown(key).filter(|record| record.registration().is_some()).cloned();
        out.push(Output::Answer(ticket, Answer::Inspected(record.and_then(|record| self.to_inspected(record, lease)))));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Address, Epoch, InstanceId, Namespace, Port, Registration, RegistrationDraft, ServiceKey, ServiceName, Ttl};
    use crate::registry::{Input, Register, Settings};

    #[test]
    fn of_a_lease_that_was_taken_over_no_heartbeat_is_told_until_one_comes() {
        let mut now = Now { mono: 1_000_000, wall: 0 };
        let mut registry = Registry::new(Settings::new(NodeName::parse("n1").unwrap(), Epoch(1)), 1, now);
        let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
        let key = InstanceKey { service, id: InstanceId::parse("a").unwrap() };
        let draft = RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(80).unwrap(), Ttl::from_ms(15_000).unwrap());
        let registration = Arc::new(Registration::new(draft).unwrap());
        let register = Register::new(key.clone(), registration, now.mono);
        registry.handle(Input::Register(7, register), now, &mut Outbox::new());
        let mut out = Outbox::new();
        let record = Arc::clone(registry.record(&key).unwrap());
        registry.hold_unheard(&record, now, &mut out);
        let held = out.iter().find_map(|output| if let Output::HoldLease { at, .. } = output { Some(*at) } else { None });
        now.mono += 2000;
        let told = |last_heartbeat| registry.lease_told(&key, last_heartbeat, now.mono);
        assert_eq!(told(held), Some(LeaseTold { remaining_ms: 18_000, last_heartbeat_ms: None, attached: false }));
        assert_eq!(told(Some(now.mono - 500)), Some(LeaseTold { remaining_ms: 18_000, last_heartbeat_ms: Some(500), attached: false }));
        now.mono += 6000;
        let told = registry.lease_told(&key, Some(now.mono - 500), now.mono);
        assert_eq!(told, Some(LeaseTold { remaining_ms: 14_500, last_heartbeat_ms: Some(500), attached: false }));
    }
}
