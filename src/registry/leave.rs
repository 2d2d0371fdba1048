//! Leaving: a node that stops hands its leases over, each with the time it has left, and goes when all are held elsewhere.
//!
//! Handing over is a relay: the last heartbeat of each lease, passed on to the node that comes first for it. That node sees that the owner
//! leaves, and becomes the owner.

use std::collections::VecDeque;

use super::io::{Notice, Output, Purpose};
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
        if self.leases.len() == 0 || self.leaving.heirs.is_empty() {
            self.leaving.is_done = true;
            out.push(Output::HandedOver { left: self.leases.len() });
            return;
        }
        if self.leaving.queue.is_empty() && now.mono >= self.leaving.next_round {
            self.leaving.queue = self.leases.keys().cloned().collect();
            self.leaving.next_round = now.mono + AGAIN_MS;
        }
        let step: Vec<InstanceKey> = self.leaving.queue.drain(..self.leaving.queue.len().min(HANDED_MAX)).collect();
        out.extend(step.into_iter().map(|key| Output::AskLease { key, purpose: Purpose::HandOver }));
    }

    /// Those who can take a lease over.
    fn heirs(&self, now: Mono) -> Vec<NodeName> {
        self.peers.alive(now).filter(|(_, peer)| peer.is_ready()).map(|(node, _)| node.clone()).collect()
    }

    /// The shell has told when a lease that is handed over was last renewed.
    pub(super) fn hand_over(&mut self, key: &InstanceKey, last_heartbeat: Option<Mono>, now: Now, out: &mut Outbox) {
        let (Some(lease), Some(record)) = (self.leases.get(key), self.store.get(key)) else { return };
        let Some(heir) = Self::first_for(record, &self.leaving.heirs) else { return };
        let at = last_heartbeat.unwrap_or(0).max(lease.renewed_at);
        let beat = Beat { incarnation: lease.incarnation, digest: Some(lease.digest), at };
        let rng = &mut self.rng;
        self.relays.gather(&heir, key.clone(), beat, now.mono, || rng.next(), out);
    }

    /// Says goodbye for another reason than being asked to: another node runs under this name.
    pub(super) fn step_down(&mut self, now: Now, out: &mut Outbox) {
        out.push(Output::Noticed(Notice::SteppedDown));
        self.become_leaving(now, out);
    }
}
