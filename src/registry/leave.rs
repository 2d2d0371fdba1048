//! Leaving: a node that stops hands its leases over, each with the time it has left, and goes when all are held elsewhere.
//!
//! Handing over is a relay: the last heartbeat of each lease, passed on to the node that comes first for it. That node sees that the owner
//! leaves, and becomes the owner. One that still warms is waited for: this node may be the only one that holds what it lacks.

use std::collections::VecDeque;

use super::answer::Refusal;
use super::io::{Output, Purpose};
use super::message::NodeState;
use super::relay::Beat;
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::{InstanceKey, NodeName};

/// A leaving node says so, and hands leases over, this often.
const STEP_MS: u64 = 200;
/// How many leases one step hands over.
const HANDED_MAX: usize = 10_000;
/// A lease that was handed over and is still held here is handed over again after this long.
const AGAIN_MS: u64 = 1000;

#[derive(Default)]
pub(super) struct Leaving {
    /// Not handed over yet in this round.
    queue: VecDeque<InstanceKey>,
    /// Those who could take a lease over, as it was at the last step.
    heirs: Vec<NodeName>,
    next_step: Mono,
    next_round: Mono,
    /// The shell was told that nothing is left to hand over.
    is_done: bool,
}

impl Leaving {
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        (!self.is_done).then_some(self.next_step)
    }
}

impl Registry {
    pub(super) fn become_leaving(&mut self, now: Now, out: &mut Outbox) {
        if self.state != NodeState::Leaving {
            // One that leaves takes nothing away any more: what was promised to go goes first.
            self.drains.end_all(now.mono);
            self.settle_drains(now, out);
            self.leave_to_namesake(now.mono);
            self.handover.look_again();
            self.become_state(NodeState::Leaving, now, out);
            self.leaving = Leaving { next_step: now.mono, next_round: now.mono, ..Leaving::default() };
        }
        self.advance_leaving(now, out);
    }

    pub(super) fn advance_leaving(&mut self, now: Now, out: &mut Outbox) {
        if self.state != NodeState::Leaving || self.leaving.is_done || now.mono < self.leaving.next_step {
            return;
        }
        self.leaving.next_step = now.mono + STEP_MS;
        self.next_beacon = now.mono;
        self.leaving.heirs = self.heirs(now.mono);
        if self.is_handed_over(now.mono) {
            self.leaving.is_done = true;
            let left = if self.has_stepped_down { self.untaken(now).count } else { self.leases.len() };
            out.push(Output::HandedOver { left });
            return;
        }
        // Under a name that another node has this life's relays are nobody's: see `handover`.
        if self.leaving.heirs.is_empty() || self.has_stepped_down {
            return;
        }
        if self.leaving.queue.is_empty() && now.mono >= self.leaving.next_round {
            self.leaving.queue = self.leases.keys().cloned().collect();
            self.leaving.next_round = now.mono + AGAIN_MS;
        }
        let step: Vec<InstanceKey> = self.leaving.queue.drain(..self.leaving.queue.len().min(HANDED_MAX)).collect();
        out.extend(step.into_iter().map(|key| Output::AskLease { key, purpose: Purpose::HandOver }));
    }

    /// Nothing is left to hand over, or there is nobody who could take it. A peer that still warms may be able to soon: it takes a copy
    /// first, so it is waited for while anything is held here, also what only says that an instance is gone. How long at the most is the
    /// shell's to say.
    fn is_handed_over(&self, now: Mono) -> bool {
        if self.has_stepped_down {
            return self.handover.is_done() || (self.takers(now).is_empty() && self.peers.alive(now).next().is_none());
        }
        let has_heirs = !self.leaving.heirs.is_empty();
        let has_hope = has_heirs || self.peers.alive(now).next().is_some();
        let holds_any = !self.store.records().is_empty() || self.shared.len() > 0;
        let has_more = self.leases.len() > 0 || (!has_heirs && holds_any);
        !has_hope || !has_more
    }

    /// Writes are refused while this node leaves, or waits because another one has its name.
    pub(super) fn refuse_if_leaving(&self) -> Result<(), Refusal> {
        match self.state {
            NodeState::Leaving if self.has_stepped_down => Err(Refusal::NameTaken),
            NodeState::Leaving => Err(Refusal::Leaving),
            NodeState::Warming if self.namesakes.has_name() => Err(Refusal::NameTaken),
            NodeState::Warming | NodeState::Ready => Ok(()),
        }
    }

    /// Those who can take a lease over.
    pub(super) fn heirs(&self, now: Mono) -> Vec<NodeName> {
        self.peers.alive(now).filter(|(_, peer)| peer.is_ready()).map(|(node, _)| node.clone()).collect()
    }

    /// The shell has told when a lease that is handed over was last renewed.
    pub(super) fn hand_over(&mut self, key: &InstanceKey, last_heartbeat: Option<Mono>, now: Now, out: &mut Outbox) {
        let (Some(lease), Some(record)) = (self.leases.get(key), self.store.get(key)) else { return };
        if self.gives_way() {
            let age_ms = now.mono.saturating_sub(lease.last_sign(last_heartbeat, now.mono));
            self.handover.put(record.clone(), Some(u32::try_from(age_ms).unwrap_or(u32::MAX)));
            return;
        }
        let Some(heir) = Self::first_for(record, &self.leaving.heirs) else { return };
        let at = lease.last_sign(last_heartbeat, now.mono);
        let beat = Beat { incarnation: lease.incarnation, digest: Some(lease.digest), at };
        let rng = &mut self.rng;
        self.relays.gather(&heir, key.clone(), beat, now.mono, || rng.next(), out);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Address, Epoch, InstanceId, Life, Namespace, Port, Registration, RegistrationDraft, ServiceKey, ServiceName, Ttl};
    use crate::registry::message::To;
    use crate::registry::{Ack, Beacon, Deregister, Envelope, Have, Input, Message, Register, Settings, Want};

    const START: Now = Now { mono: 1_000_000, wall: 0 };

    fn peer() -> Life {
        Life { node: NodeName::parse("n2").unwrap(), epoch: Epoch(2) }
    }

    /// `has_bus`: it warms; without one it is ready from the first.
    fn node(has_bus: bool) -> Registry {
        Registry::new(Settings { has_bus, expect_empty: true, ..Settings::new(NodeName::parse("n1").unwrap(), Epoch(1)) }, 1, START)
    }

    fn register(registry: &mut Registry) -> InstanceKey {
        let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
        let key = InstanceKey { service, id: InstanceId::parse("a").unwrap() };
        let draft = RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(80).unwrap(), Ttl::from_ms(15_000).unwrap());
        let registration = Arc::new(Registration::new(draft).unwrap());
        let register = Register::new(key.clone(), registration, START.mono);
        registry.handle(Input::Register(7, register), START, &mut Outbox::new());
        key
    }

    fn hear(registry: &mut Registry, message: Message, now: Now) -> Outbox {
        let mut out = Outbox::new();
        registry.handle(Input::Received(Envelope { from: peer(), message }), now, &mut out);
        out
    }

    fn hear_beacon(registry: &mut Registry, state: NodeState, now: Now) {
        hear(registry, Message::Beacon(Beacon::of(state)), now);
    }

    fn leave(registry: &mut Registry, now: Now) -> Option<usize> {
        let mut out = Outbox::new();
        registry.handle(Input::Leave, now, &mut out);
        left(&out)
    }

    fn advance(registry: &mut Registry, now: Now) -> Option<usize> {
        let mut out = Outbox::new();
        registry.advance(now, &mut out);
        left(&out)
    }

    /// How many leases were left, where it has handed over.
    fn left(out: &Outbox) -> Option<usize> {
        out.iter().find_map(|output| if let Output::HandedOver { left } = output { Some(*left) } else { None })
    }

    fn after(ms: u64) -> Now {
        Now { mono: START.mono + ms, wall: ms }
    }

    #[test]
    fn a_lease_waits_for_a_peer_that_still_warms_as_long_as_that_one_is_heard() {
        let mut registry = node(false);
        register(&mut registry);
        hear_beacon(&mut registry, NodeState::Warming, START);
        assert_eq!(leave(&mut registry, START), None, "the peer may become ready yet");
        // Longer steps would look like a pause.
        for ms in [1000, 2000, 3000, 4000, 5000] {
            assert_eq!(advance(&mut registry, after(ms)), None);
        }
        assert_eq!(advance(&mut registry, after(5300)), Some(1), "nobody is left who could take it");
    }

    #[test]
    fn what_this_node_alone_may_hold_waits_for_a_peer_that_warms_and_not_for_one_that_is_ready() {
        let mut registry = node(false);
        let key = register(&mut registry);
        registry.leases.end(&key);
        hear_beacon(&mut registry, NodeState::Warming, START);
        assert_eq!(leave(&mut registry, START), None);
        hear_beacon(&mut registry, NodeState::Ready, after(100));
        assert_eq!(advance(&mut registry, after(300)), Some(0));
    }

    #[test]
    fn what_only_says_that_an_instance_is_gone_waits_too() {
        let mut registry = node(false);
        let key = register(&mut registry);
        let deregister = Deregister { key, incarnation: None, actor: None, ack: Ack::Local };
        registry.handle(Input::Deregister(8, deregister), START, &mut Outbox::new());
        assert_eq!((registry.leases.len(), registry.store.live_count()), (0, 0));
        hear_beacon(&mut registry, NodeState::Warming, START);
        assert_eq!(leave(&mut registry, START), None, "the peer's disk may say otherwise");
    }

    #[test]
    fn a_node_without_records_keeps_nobody_waiting() {
        let mut registry = node(false);
        hear_beacon(&mut registry, NodeState::Warming, START);
        assert_eq!(leave(&mut registry, START), Some(0));
    }

    /// What a peer that asks is given as a whole copy, and whether it is told that this is all that could be known.
    fn ask(registry: &mut Registry) -> (bool, bool) {
        // Only who is heard is answered.
        hear_beacon(registry, NodeState::Warming, START);
        let copy = hear(registry, Message::Pull { ticket: 1, want: Want::Copy { copy: None, after: None } }, START);
        let gives = copy.iter().any(|output| matches!(output, Output::Send(_, Message::Pulled { have: Have::Copy { .. }, .. })));
        let buckets = hear(registry, Message::Pull { ticket: 2, want: Want::Buckets }, START);
        let knows_all =
            |output: &Output| matches!(output, Output::Send(_, Message::Pulled { have: Have::Buckets { complete: true, .. }, .. }));
        (gives, buckets.iter().any(knows_all))
    }

    #[test]
    fn a_leaving_node_gives_what_it_has_if_it_ever_knew_enough() {
        let mut ready = node(false);
        leave(&mut ready, START);
        assert_eq!(ask(&mut ready), (true, true));
        let mut warming = node(true);
        leave(&mut warming, START);
        assert_eq!(ask(&mut warming), (false, false));
    }

    #[test]
    fn a_node_that_warms_asks_one_that_leaves_for_a_copy_where_nobody_is_ready() {
        let mut registry = node(true);
        registry.handle(Input::BusConnected, START, &mut Outbox::new());
        let own = Envelope { from: registry.life.clone(), message: Message::Beacon(Beacon::of(NodeState::Warming)) };
        registry.handle(Input::Received(own), START, &mut Outbox::new());
        hear_beacon(&mut registry, NodeState::Leaving, after(400));
        let mut out = Outbox::new();
        registry.advance(after(400), &mut out);
        let asked = out.iter().find_map(|output| match output {
            Output::Send(To::Node(_), Message::Pull { ticket, want: Want::Copy { .. } }) => Some(*ticket),
            _ => None,
        });
        let ticket = asked.expect("it asks for a copy");
        let have = Have::Copy { copy: 1, records: Vec::new(), more: false, checksum: 0, applied: Vec::new() };
        hear(&mut registry, Message::Pulled { ticket, have }, after(410));
        let mut out = Outbox::new();
        registry.advance(after(500), &mut out);
        let compares = |output: &Output| matches!(output, Output::Send(_, Message::Pull { want: Want::Buckets, .. }));
        assert!(out.iter().any(compares), "and compares with it afterwards: {out:?}");
    }
}
