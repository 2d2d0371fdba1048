//! Ownership: what a registration, a heartbeat and a deregistration do, and which node holds the lease afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::answer::{Answer, Refusal, Registered, Renewed};
use super::attachment::{self, Added};
use super::drain::{ends_drain, stays_draining};
use super::io::{Deregister, Heartbeat, Output, Register};
use super::lease::{Ended, Lease, Phase};
use super::merge::{Step, Why, kept};
use super::message::NodeState;
use super::plausible::next_life;
use super::record::{Body, Record, Seen, content_digest};
use super::relay::Beat;
use super::reuse::place_of;
use super::time::{Mono, Now};
use super::{Outbox, Registry, Ticket};
use crate::model::{Cause, Incarnation, InstanceKey, Life, Registration, Ttl};

/// How many instances are marked to be asked again at the most; past it the first in order is let go, and its provider is
/// listed with its former content until it registers again.
const ASK_AGAIN_MAX: usize = 65_536;

/// The instances whose next heartbeat here is answered 404, so that the provider says again what holds.
#[derive(Default)]
pub(super) struct AskAgain(BTreeMap<InstanceKey, Unless>);

/// What a heartbeat may bring so that it need not be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unless {
    /// Nothing: the owner has told us that the provider's content is another.
    Nothing,
    /// The content's digest: it says which content holds.
    Digest,
}

impl AskAgain {
    pub(super) fn mark(&mut self, key: InstanceKey, unless: Unless) {
        if self.0.len() >= ASK_AGAIN_MAX {
            self.0.pop_first();
        }
        self.0.insert(key, unless);
    }

    pub(super) fn clear(&mut self, key: &InstanceKey) {
        self.0.remove(key);
    }

    /// Whether this heartbeat is to be asked; it is, once.
    fn take(&mut self, key: &InstanceKey, has_digest: bool) -> bool {
        self.0.remove(key).is_some_and(|unless| unless == Unless::Nothing || !has_digest)
    }
}

/// Where a registration stands beside what is known.
pub(super) enum Placing {
    /// It says what the live record says: a heartbeat.
    Same(Arc<Record>),
    /// It says something new.
    New(Step, Cause),
}

impl Registry {
    pub(super) fn handle_heartbeat(&mut self, ticket: Ticket, heartbeat: &Heartbeat, now: Now, out: &mut Outbox) {
        let answer = match self.heartbeat(heartbeat, now, out) {
            Ok(renewed) => Answer::Renewed(renewed),
            Err(refusal) => Answer::Refused(refusal),
        };
        out.push(Output::Answer(ticket, answer));
    }

    pub(super) fn register(&mut self, register: Register, now: Now, out: &mut Outbox) -> Result<(Arc<Record>, Registered), Refusal> {
        self.refuse_if_leaving()?;
        let known = self.store.get(&register.key).cloned();
        let register = attachment::keep_later_content(known.as_deref(), register);
        let digest = content_digest(&register.registration);
        let created = known.as_ref().is_none_or(|known| known.registration().is_none());
        let placing = self.place(known.as_ref(), &register, now)?;
        if created {
            self.check_limits(&register, &Added::default())?;
        }
        self.ask_again.clear(&register.key);
        let record = match placing {
            Placing::Same(record) => {
                self.note_registered(&record, now);
                let beat = Beat { incarnation: record.version.incarnation, digest: Some(digest), at: register.at };
                self.renew(record, beat, now, out)
            }
            Placing::New(step, cause) => {
                let unnamed = known.is_none() && register.incarnation.is_none() && !register.takeover;
                let draining = stays_draining(known.as_deref(), step, &register);
                let registration = register.registration;
                let body = Body::Live { registration: Arc::clone(&registration), seen: Seen::Well, draining };
                let detail = self.contests.detail(&register.key, now.mono);
                if known.as_ref().and_then(|known| known.registration()) != Some(&registration) {
                    // What was seen of it was seen of another content.
                    self.looking.end(&register.key);
                }
                self.clear_words(&register.key);
                let why = Why { actor: register.actor, detail, attaches: register.attaches, ..Why::from(cause) };
                let record = self.write(register.key, step, body, why, now, out);
                self.hold(&record, digest, register.at, unnamed, out);
                record
            }
        };
        let registered = self.to_registered(&record, created, digest);
        Ok((record, registered))
    }

    pub(super) fn place(&self, known: Option<&Arc<Record>>, register: &Register, now: Now) -> Result<Placing, Refusal> {
        let bytes_max = self.settings.limits.record_bytes;
        if register.registration.size_bytes() as u64 > bytes_max {
            return Err(Refusal::LimitReached { key: "limits.record_bytes", max: bytes_max });
        }
        let (named, stamp) = (register.incarnation, self.stamp(now));
        let Some(known) = known else {
            return Ok(Placing::New(Step::life(named.unwrap_or(Incarnation::FIRST), stamp), Cause::Registered));
        };
        let version = &known.version;
        let replaces = if known.registration().is_some() { Cause::Superseded } else { Cause::Registered };
        if register.takeover {
            let next = next_life(version.incarnation).unwrap_or(version.incarnation);
            let above = next.max(named.unwrap_or(Incarnation::FIRST));
            let step = if above > version.incarnation { Step::life(above, stamp) } else { Step::word(version, stamp) };
            return Ok(Placing::New(step, replaces));
        }
        let incarnation = named.unwrap_or(version.incarnation);
        if incarnation > version.incarnation {
            return Ok(Placing::New(Step::life(incarnation, stamp), replaces));
        }
        let superseded = Refusal::Superseded { incarnation: version.incarnation };
        if incarnation < version.incarnation {
            return Err(superseded);
        }
        let word = if named.is_some() { Step::word(version, stamp) } else { Step::unnamed_word(version, stamp) };
        match &known.body {
            Body::Live { registration, draining, seen } if *registration == register.registration && !(*draining && register.says_up) => {
                let is_fixed = registration.ttl().is_none();
                let owner = &version.owner;
                if !is_fixed && (*owner == self.life || self.can_relay(owner, now.mono)) {
                    return Ok(Placing::Same(Arc::clone(known)));
                }
                // An equal word is written too: one that it has not met may be older, and greater than what is known here.
                let cause = match seen {
                    _ if is_fixed => known.cause,
                    Seen::Well => Cause::Adopted,
                    Seen::Suspect | Seen::Down => Cause::Recovered,
                };
                Ok(Placing::New(word, cause))
            }
            Body::Live { .. } => Ok(Placing::New(word, Cause::Updated)),
            Body::Withdrawn { named: true, .. } if named.is_some() => Err(superseded),
            Body::Withdrawn { kept: Some(kept), .. } if *kept == register.registration && self.can_revive(known, now) => {
                Ok(Placing::New(word, Cause::Recovered))
            }
            Body::Withdrawn { .. } => Ok(Placing::New(word, Cause::Registered)),
        }
    }

    /// `added` is what others will have added before it.
    pub(super) fn check_limits(&self, register: &Register, added: &Added) -> Result<(), Refusal> {
        let limits = &self.settings.limits;
        let reached = |key, max| Err(Refusal::LimitReached { key, max });
        if self.store.live_count() + added.instances >= limits.instances {
            return reached("limits.instances", limits.instances);
        }
        let catalog = self.store.catalog();
        let listed = catalog.view(&register.key.service).map_or(0, |view| view.instances().len() as u64);
        let of_service = listed + added.services.get(&register.key.service).copied().unwrap_or_default();
        if of_service >= limits.instances_per_service {
            return reached("limits.instances_per_service", limits.instances_per_service);
        }
        if of_service == 0 && catalog.service_count() as u64 + added.services.len() as u64 >= limits.services {
            return reached("limits.services", limits.services);
        }
        Ok(())
    }

    fn to_registered(&self, record: &Arc<Record>, created: bool, digest: u128) -> Registered {
        let listed = self.listed(record).expect("unreachable: a registration leaves a live record");
        Registered {
            created,
            incarnation: record.version.incarnation,
            digest,
            owner: record.version.owner.node.clone(),
            revision: self.store.catalog().view(&record.key.service).map_or(0, |view| view.revision()),
            ttl_ms: listed.registration.ttl().map(Ttl::ms),
            renew_every_ms: listed.registration.renew_every_ms(),
            attached: self.leases.get(&record.key).is_some_and(Lease::is_attached),
            listed,
            ack: None,
        }
    }

    fn heartbeat(&mut self, heartbeat: &Heartbeat, now: Now, out: &mut Outbox) -> Result<Renewed, Refusal> {
        let unknown = if self.state == NodeState::Warming { Refusal::Warming } else { Refusal::UnknownLease };
        self.refuse_if_leaving()?;
        let Some(record) = self.store.get(&heartbeat.key).cloned() else { return Err(unknown) };
        let known = record.version.incarnation;
        let incarnation = heartbeat.incarnation.unwrap_or(known);
        if incarnation < known {
            return Err(Refusal::Superseded { incarnation: known });
        }
        if incarnation > known {
            return Err(unknown);
        }
        if self.ask_again.take(&heartbeat.key, heartbeat.digest.is_some()) {
            return Err(Refusal::UnknownLease);
        }
        let beat = Beat { incarnation, digest: heartbeat.digest, at: heartbeat.at };
        let (record, is_back) = match &record.body {
            Body::Withdrawn { .. } => (self.revive(&record, &beat, now, out).ok_or(Refusal::UnknownLease)?, true),
            Body::Live { .. } => (record, false),
        };
        let registration = record.registration().expect("unreachable: it is live, or has just come back");
        let record = match heartbeat.reported {
            Some(reported) if reported != registration.reported() || ends_drain(reported, &record) => {
                let mut draft = registration.to_draft();
                draft.reported = reported;
                let registration = Registration::new(draft).expect("unreachable: another status breaks no rule");
                let draining = record.is_draining() && !ends_drain(reported, &record);
                self.say_anew(&record, Arc::new(registration), draining, &beat, now, out)
            }
            _ if is_back => record,
            Some(_) | None => self.renew_if_same(&record, beat, now, out)?,
        };
        let listed = self.listed(&record).expect("unreachable: a renewal leaves a live record");
        Ok(Renewed {
            renew_every_ms: listed.registration.renew_every_ms(),
            owner: record.version.owner.node.clone(),
            incarnation,
            status: listed.status,
        })
    }

    /// A live record's provider says something else of it within the same life.
    fn say_anew(
        &mut self,
        record: &Record,
        registration: Arc<Registration>,
        draining: bool,
        beat: &Beat,
        now: Now,
        out: &mut Outbox,
    ) -> Arc<Record> {
        let digest = content_digest(&registration);
        let (seen, why) = self.seen_by_check(&record.key, Cause::Updated);
        let body = Body::Live { registration, seen, draining };
        self.clear_words(&record.key);
        let written = self.write(record.key.clone(), Step::word(&record.version, self.stamp(now)), body, why, now, out);
        self.hold(&written, digest, beat.at, false, out);
        written
    }

    /// A heartbeat for a live record: refused where this node can tell that the provider holds another content.
    ///
    /// At a node that is not the owner the record here may be the older one, so the owner judges.
    fn renew_if_same(&mut self, record: &Arc<Record>, beat: Beat, now: Now, out: &mut Outbox) -> Result<Arc<Record>, Refusal> {
        let is_judge = record.version.owner == self.life || !self.can_relay(&record.version.owner, now.mono);
        let differs = |registration: &Registration| beat.digest.is_some_and(|digest| digest != content_digest(registration));
        if is_judge && record.registration().is_some_and(|registration| differs(registration)) {
            return Err(Refusal::UnknownLease);
        }
        Ok(self.renew(Arc::clone(record), beat, now, out))
    }

    /// Renews a live record's lease, wherever it is held; where its owner is out of reach, this node claims it.
    pub(super) fn renew(&mut self, record: Arc<Record>, beat: Beat, now: Now, out: &mut Outbox) -> Arc<Record> {
        let owner = record.version.owner.clone();
        if owner == self.life {
            return self.renew_own(record, beat.at, now, out);
        }
        if self.can_relay(&owner, now.mono) {
            let ttl_ms = record.registration().and_then(|registration| registration.ttl()).map_or(0, Ttl::ms);
            self.relays.note_heard(&record.key, &beat, ttl_ms);
            let rng = &mut self.rng;
            self.relays.gather(&owner.node, record.key.clone(), beat, now.mono, || rng.next(), out);
            return record;
        }
        self.claim(&record, beat.at, now, out)
    }

    /// The owner is heard, and answers.
    pub(super) fn can_relay(&self, owner: &Life, now: Mono) -> bool {
        self.peers.is_life_alive(owner, now) && !self.relays.is_stuck(&owner.node, now)
    }

    /// Renews a lease held here; one that was late brings its record back.
    pub(super) fn renew_own(&mut self, record: Arc<Record>, at: Mono, now: Now, out: &mut Outbox) -> Arc<Record> {
        let Some(lease) = self.leases.get_mut(&record.key) else {
            let digest = record.registration().map_or(0, |registration| content_digest(registration));
            self.hold(&record, digest, at, false, out);
            return record;
        };
        lease.renewed_at = lease.renewed_at.max(at);
        self.unrenewed.end(&record.key);
        out.push(Output::RenewLease { key: record.key.clone(), at });
        if lease.phase() == Phase::Held { record } else { self.recover(&record, at, now, out) }
    }

    /// A late lease's provider is heard again.
    pub(super) fn recover(&mut self, record: &Record, at: Mono, now: Now, out: &mut Outbox) -> Arc<Record> {
        let registration = Arc::clone(record.registration().expect("unreachable: a held lease has a live record"));
        let digest = content_digest(&registration);
        let (seen, why) = self.seen_by_check(&record.key, Cause::Recovered);
        let body = Body::Live { registration, seen, draining: record.is_draining() };
        let written = self.write(record.key.clone(), Step::same(&record.version), body, why, now, out);
        self.hold(&written, digest, at, false, out);
        written
    }

    /// Becomes the owner of a live record whose provider is heard here and whose owner is not.
    pub(super) fn claim(&mut self, record: &Record, at: Mono, now: Now, out: &mut Outbox) -> Arc<Record> {
        let Body::Live { registration, seen, draining } = &record.body else { unreachable!("only a live record is claimed") };
        let cause = if *seen == Seen::Well { Cause::Adopted } else { Cause::Recovered };
        let digest = content_digest(registration);
        let body = Body::Live { registration: Arc::clone(registration), seen: Seen::Well, draining: *draining };
        let written = self.write(record.key.clone(), Step::generation(&record.version), body, cause.into(), now, out);
        self.hold(&written, digest, at, false, out);
        written
    }

    /// Brings back an instance that went by silence, when its provider is heard after all.
    pub(super) fn revive(&mut self, record: &Arc<Record>, beat: &Beat, now: Now, out: &mut Outbox) -> Option<Arc<Record>> {
        let registration = kept(record).filter(|_| self.can_revive(record, now))?;
        let digest = content_digest(registration);
        if beat.digest.is_some_and(|theirs| theirs != digest) {
            return None;
        }
        let body = Body::Live { registration: Arc::clone(registration), seen: Seen::Well, draining: record.keeps_drain() };
        let written = self.write(record.key.clone(), Step::generation(&record.version), body, Cause::Recovered.into(), now, out);
        self.hold(&written, digest, beat.at, false, out);
        Some(written)
    }

    fn can_revive(&self, record: &Record, now: Now) -> bool {
        self.store.gone_at(&record.key).is_some_and(|at| now.mono <= at + self.settings.revive_for_ms)
    }

    /// Whoever withdrew it for its silence could not know that its provider was heard here, and was answered. Says whether it is back.
    pub(super) fn answer_withdrawal(&mut self, record: &Arc<Record>, now: Now, out: &mut Outbox) -> bool {
        if kept(record).is_none() || self.state != NodeState::Ready {
            return false;
        }
        let heard = self.relays.take_heard(&record.key, now.mono).filter(|beat| beat.incarnation == record.version.incarnation);
        heard.is_some_and(|beat| self.revive(record, &beat, now, out).is_some())
    }

    /// Holds the lease of a record that this node has just written, renewed at `at`.
    pub(super) fn hold(&mut self, record: &Arc<Record>, digest: u128, at: Mono, unnamed: bool, out: &mut Outbox) {
        let registration = record.registration().expect("unreachable: only live records have leases");
        let mut lease = self.to_lease(record, registration, digest, at, Phase::Held);
        lease.unnamed = unnamed;
        self.unrenewed.end(&record.key);
        let due = at + lease.ttl_ms;
        self.hold_lease(record, registration, lease, due, out);
    }

    /// Holds the lease of a record in the phase in which it was taken over; silence until `not_before` proves nothing.
    pub(super) fn hold_as(&mut self, record: &Arc<Record>, phase: Phase, at: Mono, not_before: Mono, out: &mut Outbox) {
        let registration = record.registration().expect("unreachable: only live records have leases");
        let mut lease = self.to_lease(record, registration, content_digest(registration), at, phase);
        lease.not_before = not_before;
        self.hold_lease(record, registration, lease, not_before, out);
    }

    /// Holds the lease that is held for this record under the terms that the record now makes; false: none is.
    pub(super) fn hold_again(&mut self, record: &Arc<Record>, out: &mut Outbox) -> bool {
        let (Some(lease), Some(registration)) = (self.leases.get(&record.key).cloned(), record.registration()) else { return false };
        let due = lease.due().unwrap_or(lease.renewed_at);
        self.hold_lease(record, registration, lease, due, out);
        true
    }

    fn to_lease(&self, record: &Record, registration: &Registration, digest: u128, at: Mono, phase: Phase) -> Lease {
        let evict_after_ms = registration.evict_after_ms().map_or(self.settings.evict_after_ms, u64::from);
        Lease::new(record.version.incarnation, digest, registration.ttl().unwrap_or(Ttl::LONGEST).ms(), evict_after_ms, at, phase)
    }

    fn hold_lease(&mut self, record: &Record, registration: &Registration, mut lease: Lease, due: Mono, out: &mut Outbox) {
        lease.place = place_of(&record.key.service.namespace, registration);
        let terms = self.terms(record, registration, lease.digest, lease.phase() == Phase::Held);
        let at = lease.renewed_at;
        let is_attached = self.attachments.holds(&record.key, lease.incarnation);
        let lease = match lease.phase() {
            Phase::Held if is_attached => lease.attached(),
            Phase::Held => lease,
            Phase::Late(_) | Phase::Answering(_) | Phase::Over(_) => {
                // Its connection is open: it is not late.
                self.speak_for(&record.key, at);
                lease
            }
        };
        // No silence ends a fixed address's.
        let due = registration.ttl().map(|_| due);
        self.look_from(record, registration, lease.phase(), at);
        self.leases.hold(record.key.clone(), lease, due);
        out.push(Output::HoldLease { key: record.key.clone(), terms, at });
    }

    pub(super) fn deregister(&mut self, deregister: Deregister, now: Now, out: &mut Outbox) -> Result<Arc<Record>, Refusal> {
        self.refuse_if_leaving()?;
        let known = self.store.get(&deregister.key).cloned();
        if known.is_none() && self.state == NodeState::Warming {
            return Err(Refusal::Warming);
        }
        let (named, stamp) = (deregister.incarnation, self.stamp(now));
        let step = match known.as_ref().map(|known| &known.version) {
            Some(version) if named.is_some_and(|named| named < version.incarnation) => {
                return Err(Refusal::Superseded { incarnation: version.incarnation });
            }
            Some(version) if named.is_none() => Step::unnamed_word(version, stamp),
            Some(version) if named == Some(version.incarnation) => Step::end(version, stamp),
            // A life that was registered elsewhere and is not heard of yet: its end goes before it.
            Some(_) | None => Step::life(named.unwrap_or(Incarnation::FIRST), stamp.max(1)),
        };
        let known_end = known.as_ref().filter(|known| known.version.incarnation == step.incarnation).map(|known| &known.body);
        let body = Body::Withdrawn {
            kept: None,
            named: named.is_some() || matches!(known_end, Some(Body::Withdrawn { named: true, .. })),
            of_unknown: known.as_ref().is_none_or(|known| known.is_of_unknown()),
            draining: false,
        };
        self.clear_words(&deregister.key);
        let why = Why { actor: deregister.actor, ..Why::from(Cause::Deregistered) };
        let step = Step { deregistered: true, ..step };
        let record = self.write_deregistration(&deregister.key, step, body, why, now, out);
        if named.is_none() {
            self.note_deregistered(&record, now);
        }
        Ok(record)
    }

    /// A lease that ended because a greater record came: what its last heartbeat still is worth.
    pub(super) fn handle_ended(&mut self, key: &InstanceKey, last_heartbeat: Option<Mono>, now: Now, out: &mut Outbox) {
        let Some(Ended { lease, record: held }) = self.ended.remove(key) else { return };
        let at = lease.last_heard(last_heartbeat);
        if now.mono > at + lease.ttl_ms || lease.made_up == Some(at) {
            return;
        }
        let Some(record) = self.store.get(key).cloned() else { return };
        let beat = Beat { incarnation: lease.incarnation, digest: Some(lease.digest), at };
        if record.version.incarnation > lease.incarnation {
            if lease.unnamed {
                self.say_above(&record, &held, &lease, at, now, out);
            }
            return;
        }
        match &record.body {
            Body::Live { registration, .. } => {
                let differs = content_digest(registration) != lease.digest;
                if differs {
                    self.ask_again.mark(key.clone(), Unless::Digest);
                }
                // Passed on where that can be done, never claimed: two nodes that do not hear each other's beacons would take the
                // record from each other as fast as changes travel. If the new owner is gone, the next heartbeat claims.
                if self.can_relay(&record.version.owner, now.mono) {
                    let digest = if differs { None } else { beat.digest };
                    self.renew(record, Beat { digest, ..beat }, now, out);
                }
            }
            // Whoever withdrew it could not know that its provider was heard here.
            Body::Withdrawn { .. } => {
                self.revive(&record, &beat, now, out);
            }
        }
    }

    /// A registration without an incarnation, taken by a node that knew nothing, met a record of a higher one: its provider could not
    /// know. Over a withdrawn one it is written again, once; over a live one the provider is asked again.
    fn say_above(&mut self, record: &Record, held: &Record, lease: &Lease, at: Mono, now: Now, out: &mut Outbox) {
        let (Body::Withdrawn { .. }, Some(registration)) = (&record.body, held.registration()) else {
            self.ask_again.mark(record.key.clone(), Unless::Digest);
            return;
        };
        // A later deregistration is about every life before it.
        if record.version.deregistered && record.version.edition > held.version.edition {
            return;
        }
        let body = Body::Live { registration: Arc::clone(registration), seen: Seen::Well, draining: false };
        let step = Step::word(&record.version, held.version.edition);
        let written = self.write(record.key.clone(), step, body, Cause::Registered.into(), now, out);
        self.hold(&written, lease.digest, at, false, out);
    }
}
