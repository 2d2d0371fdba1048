//! Attachments: leases that an open connection holds. While it is open no time ends them; when it closes they are silent at once.
//!
//! The node that has the connection answers for the provider. Where another node has the lease, or had it and does not know yet that it is
//! held here, that node is told in the provider's stead, as if it had sent heartbeats here; the ordinary rules of those decide who owns it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::answer::{Answer, Refusal, Registered};
use super::io::{Output, Register, Ticket};
use super::lease::Phase;
use super::merge::Step;
use super::message::NodeState;
use super::record::{Body, Record, Seen, content_digest};
use super::relay::Beat;
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::{Cause, Incarnation, InstanceKey, Life, Seq, ServiceKey};

/// Where a registration does not say how often its provider is to be heard, it is spoken for this often.
const VOUCH_MS: u64 = 5000;
/// How many are spoken for in one call; the rest is due at once again.
const VOUCHED_MAX: usize = 10_000;

/// What connections to this node hold.
#[derive(Default)]
pub(super) struct Attachments {
    /// By instance: one connection holds it at the most.
    held: BTreeMap<InstanceKey, Attached>,
    /// By connection.
    members: BTreeMap<Ticket, BTreeSet<InstanceKey>>,
    /// Who is to be spoken for at another node, by when; bounded by `held`.
    due: BTreeSet<(Mono, InstanceKey)>,
}

struct Attached {
    attachment: Ticket,
    /// The life that is held; a later one is not.
    incarnation: Incarnation,
    /// Of the content that the connection came with.
    digest: u128,
    /// Who had the lease before, and is not known to have heard that it is held here.
    former: Option<Former>,
    /// Its entry in `due`.
    due: Option<Mono>,
}

struct Former {
    owner: Life,
    /// What it is to have applied of this node's log.
    seq: Seq,
}

/// What earlier members of the same attachment will have added.
#[derive(Default)]
pub(super) struct Added {
    pub(super) instances: u64,
    pub(super) services: BTreeMap<ServiceKey, u64>,
}

impl Attachments {
    /// A connection to this node holds this life of the instance.
    pub(super) fn holds(&self, key: &InstanceKey, incarnation: Incarnation) -> bool {
        self.held.get(key).is_some_and(|attached| attached.incarnation == incarnation)
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.due.first().map(|(due, _)| *due)
    }

    fn insert(&mut self, key: InstanceKey, attached: Attached) {
        self.remove(&key);
        self.members.entry(attached.attachment).or_default().insert(key.clone());
        self.held.insert(key, attached);
    }

    fn remove(&mut self, key: &InstanceKey) -> Option<Attached> {
        let attached = self.held.remove(key)?;
        if let Some(due) = attached.due {
            self.due.remove(&(due, key.clone()));
        }
        if let Some(members) = self.members.get_mut(&attached.attachment) {
            members.remove(key);
            if members.is_empty() {
                self.members.remove(&attached.attachment);
            }
        }
        Some(attached)
    }

    /// Its provider is to be spoken for then.
    fn schedule(&mut self, key: &InstanceKey, at: Option<Mono>) {
        let Some(attached) = self.held.get_mut(key) else { return };
        if let Some(former) = std::mem::replace(&mut attached.due, at) {
            self.due.remove(&(former, key.clone()));
        }
        self.due.extend(at.map(|at| (at, key.clone())));
    }
}

impl Registry {
    /// Registers all members, each held by the connection that this question came on, or none of them.
    pub(super) fn handle_attach(&mut self, ticket: Ticket, members: BTreeMap<InstanceKey, Register>, now: Now, out: &mut Outbox) {
        let answer = match self.refuse_if_leaving() {
            Err(refusal) => Answer::Refused(refusal),
            Ok(()) => match self.check_members(&members, now) {
                Err((key, refusal)) => Answer::AttachRefused { key, refusal },
                Ok(()) => Answer::Attached(members.into_values().filter_map(|register| self.attach(ticket, register, now, out)).collect()),
            },
        };
        out.push(Output::Answer(ticket, answer));
    }

    /// A connection has closed: what it still holds is silent from now on.
    pub(super) fn handle_detached(&mut self, attachment: Ticket, now: Now, out: &mut Outbox) {
        for key in self.attachments.members.get(&attachment).cloned().unwrap_or_default() {
            self.attachments.remove(&key);
            self.lease_is_let_go(&key, now, out);
        }
    }

    /// The connection that held a lease has closed. From here on it is as any that is late, only sooner gone.
    fn lease_is_let_go(&mut self, key: &InstanceKey, now: Now, out: &mut Outbox) {
        let detach_grace_ms = self.settings.detach_grace_ms;
        if self.state == NodeState::Leaving {
            // This node has said that it closes its connections: that proves nothing.
            self.leases.release(key, now.mono);
        } else if self.leases.detach(key, now.mono, detach_grace_ms) {
            self.begin_looking(key, Cause::Detached, now.mono, now, out);
        }
    }

    /// What is wrong with any of the members; nothing is changed.
    fn check_members(&self, members: &BTreeMap<InstanceKey, Register>, now: Now) -> Result<(), (InstanceKey, Refusal)> {
        let mut added = Added::default();
        for (key, register) in members {
            let checked = self.check_member(register, &mut added, now);
            checked.map_err(|refusal| (key.clone(), refusal))?;
        }
        Ok(())
    }

    fn check_member(&self, register: &Register, added: &mut Added, now: Now) -> Result<(), Refusal> {
        let known = self.store.get(&register.key);
        self.place(known, register, now)?;
        if known.is_none_or(|known| known.registration().is_none()) {
            self.check_limits(register, added)?;
            added.instances += 1;
            *added.services.entry(register.key.service.clone()).or_default() += 1;
        }
        Ok(())
    }

    /// Registers one member, takes its lease here, and ties it to the connection.
    fn attach(&mut self, attachment: Ticket, register: Register, now: Now, out: &mut Outbox) -> Option<Registered> {
        let (key, at) = (register.key.clone(), register.at);
        let is_of_another = |record: &&Arc<Record>| record.registration().is_some() && record.version.owner != self.life;
        let former = self.store.get(&key).filter(is_of_another).map(|record| record.version.owner.clone());
        let (mut record, mut registered) = self.register(Register { attaches: true, ..register }, now, out).ok()?;
        if record.version.owner != self.life {
            record = self.claim_attached(&record, at, now, out);
        }
        let former = former.map(|owner| Former { owner, seq: record.version.seq });
        let due = former.is_some();
        let digest = record.registration().map_or(0, |registration| content_digest(registration));
        let attached = Attached { attachment, incarnation: record.version.incarnation, digest, former, due: None };
        self.attachments.insert(key.clone(), attached);
        self.attachments.schedule(&key, due.then_some(now.mono));
        self.leases.attach(&key);
        registered.owner = self.life.node.clone();
        registered.revision = self.store.catalog().view(&key.service).map_or(0, |view| view.revision());
        registered.listed = self.listed(&record)?;
        registered.attached = true;
        Some(registered)
    }

    /// The connection is here, and so its end will be seen here first: the lease comes along, whoever has it.
    fn claim_attached(&mut self, record: &Record, at: Mono, now: Now, out: &mut Outbox) -> Arc<Record> {
        let Body::Live { registration, draining, .. } = &record.body else { unreachable!("a registration leaves a live record") };
        let digest = content_digest(registration);
        let body = Body::Live { registration: Arc::clone(registration), seen: Seen::Well, draining: *draining };
        let written = self.write(record.key.clone(), Step::generation(&record.version), body, Cause::Registered.into(), now, out);
        self.hold(&written, digest, at, false, out);
        written
    }

    /// A record has changed: one that is held by a connection here may be over, or another node's.
    pub(super) fn follow_attached(&mut self, record: &Record, now: Now, out: &mut Outbox) {
        let Some(attached) = self.attachments.held.get(&record.key) else { return };
        if record.version.incarnation > attached.incarnation || record.version.deregistered {
            self.end_attachment(&record.key, out);
        } else if record.version.owner != self.life || record.registration().is_none() {
            self.attachments.schedule(&record.key, Some(now.mono));
        }
    }

    /// A connection is told that it holds this one no more.
    fn end_attachment(&mut self, key: &InstanceKey, out: &mut Outbox) {
        if let Some(Attached { attachment, incarnation, .. }) = self.attachments.remove(key) {
            out.push(Output::AttachmentOver { attachment, key: key.clone(), incarnation });
        }
    }

    /// A lease that a connection here holds was taken over as one that is late.
    pub(super) fn speak_for(&mut self, key: &InstanceKey, at: Mono) {
        self.attachments.schedule(key, Some(at));
    }

    /// Whatever this node could not say until now, or soon cannot say any more, it says of all.
    pub(super) fn speak_for_all(&mut self, now: Mono) {
        let keys: Vec<InstanceKey> = self.attachments.held.keys().cloned().collect();
        for key in keys {
            self.attachments.schedule(&key, Some(now));
        }
    }

    /// Says at other nodes, for those whose connections are open here, that they live.
    pub(super) fn advance_attachments(&mut self, now: Now, out: &mut Outbox) {
        for _ in 0..VOUCHED_MAX {
            let Some((due, key)) = self.attachments.due.first().cloned() else { return };
            if due > now.mono {
                return;
            }
            let again = self.vouch(&key, now, out);
            self.attachments.schedule(&key, again);
        }
    }

    /// Speaks for one; gives when it is to be done again.
    fn vouch(&mut self, key: &InstanceKey, now: Now, out: &mut Outbox) -> Option<Mono> {
        let &Attached { incarnation, digest, .. } = self.attachments.held.get(key)?;
        let record = self.store.get(key).cloned()?;
        let every_ms = record.registration().and_then(|registration| registration.renew_every_ms()).unwrap_or(VOUCH_MS);
        let again = Some(now.mono + every_ms);
        let beat = Beat { incarnation, digest: None, at: now.mono };
        let owner = record.version.owner.clone();
        match self.state {
            NodeState::Warming => return again,
            NodeState::Leaving => {
                if owner != self.life && self.can_relay(&owner, now.mono) {
                    self.renew(record, beat, now, out);
                }
                return again;
            }
            NodeState::Ready => {}
        }
        let Some(registration) = record.registration() else {
            // Whoever withdrew it could not know that its connection is open; if what it was cannot come back, its provider is to hear of it.
            if self.revive(&record, &Beat { digest: Some(digest), ..beat }, now, out).is_none() {
                self.end_attachment(key, out);
            }
            return None;
        };
        // What came back from a disk is older than what the connection came with, whatever its version: its provider is to say that again.
        if self.restored_lives().contains(&owner) && content_digest(registration) != digest {
            self.end_attachment(key, out);
            return None;
        }
        if owner != self.life {
            let record = self.renew(record, beat, now, out);
            return again.filter(|_| record.version.owner != self.life);
        }
        if self.leases.get(key).is_none_or(|lease| lease.phase() != Phase::Held) {
            self.renew_own(record, now.mono, now, out);
        }
        self.tell_former(key, &beat, now, out).then_some(now.mono + every_ms)
    }

    /// Whoever had the lease hears, until it knows, that the provider lives; says whether it is to be told again.
    fn tell_former(&mut self, key: &InstanceKey, beat: &Beat, now: Now, out: &mut Outbox) -> bool {
        let Some(attached) = self.attachments.held.get_mut(key) else { return false };
        let Some(Former { owner, seq }) = &attached.former else { return false };
        let knows =
            |peer: &super::peers::Peer| peer.epoch != owner.epoch || peer.is_dead || peer.has_left() || peer.has_applied(&self.life, *seq);
        if self.peers.get(&owner.node).is_none_or(knows) {
            attached.former = None;
            return false;
        }
        if self.peers.is_life_alive(owner, now.mono) {
            let rng = &mut self.rng;
            self.relays.gather(&owner.node, key.clone(), beat.clone(), now.mono, || rng.next(), out);
        }
        true
    }
}

/// A connection that ended, and is opened again, brings what its life began with: where that was changed since, the later content holds.
pub(super) fn keep_later_content(known: Option<&Record>, register: Register) -> Register {
    let is_of_life = |known: &&Record| register.incarnation.is_none_or(|incarnation| incarnation == known.version.incarnation);
    let is_first = |known: &&Record| known.first_content == Some(content_digest(&register.registration));
    let known = known.filter(|_| register.attaches && !register.takeover).filter(is_of_life).filter(is_first);
    match known.and_then(|known| known.body.content()) {
        Some(content) => Register { registration: Arc::clone(content), ..register },
        None => register,
    }
}

#[cfg(test)]
mod tests;
