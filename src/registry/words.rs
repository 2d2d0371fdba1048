//! Words: what a provider sends, a registration, a deregistration, a drain, a status. Of words sent one after the other at any nodes the last
//! one holds. Here are those that the record a node holds does not show, and that it answers with when an older word meets them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::applied::FORGET_AFTER_MS;
use super::io::Output;
use super::merge::{Step, Why};
use super::record::{Body, Record, Seen, content_digest};
use super::stamp::StampTime;
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::{Cause, Incarnation, InstanceKey, Registration};

/// How many registrations that were answered as heartbeats are remembered; one more is not, and an older deregistration ends it.
const REGISTERED_MAX: usize = 1 << 20;
/// Those whose time is over are forgotten this often.
const FORGET_EVERY_MS: Mono = 10_000;

/// Words whose stamps no record has.
#[derive(Default)]
pub(super) struct Words {
    registered: BTreeMap<InstanceKey, Registered>,
    deregistered: BTreeMap<InstanceKey, Deregistered>,
    /// The same, the oldest first.
    order: BTreeSet<(Mono, InstanceKey)>,
    next_forget: Mono,
}

/// A registration equal to the live record, answered as a heartbeat.
struct Registered {
    incarnation: Incarnation,
    registration: Arc<Registration>,
    stamp: StampTime,
    /// For the ttl.
    until: Mono,
}

/// A deregistration that named no incarnation: it is about every life up to its stamp, and about none after.
struct Deregistered {
    stamp: StampTime,
    until: Mono,
}

impl Words {
    fn note_deregistered(&mut self, key: &InstanceKey, stamp: StampTime, most: usize, now: Mono) {
        self.forget_deregistered(key);
        while self.deregistered.len() >= most.max(1) {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.deregistered.remove(&oldest);
        }
        let until = now + FORGET_AFTER_MS;
        self.deregistered.insert(key.clone(), Deregistered { stamp, until });
        self.order.insert((until, key.clone()));
    }

    fn forget_deregistered(&mut self, key: &InstanceKey) -> Option<Deregistered> {
        let word = self.deregistered.remove(key)?;
        self.order.remove(&(word.until, key.clone()));
        Some(word)
    }

    /// A later word is written.
    fn clear(&mut self, key: &InstanceKey) {
        self.registered.remove(key);
        self.forget_deregistered(key);
    }

    pub(super) fn forget(&mut self, now: Mono) {
        if now < self.next_forget {
            return;
        }
        self.next_forget = now + FORGET_EVERY_MS;
        self.registered.retain(|_, word| word.until >= now);
        while let Some((until, key)) = self.order.first().filter(|(until, _)| *until < now).cloned() {
            self.order.remove(&(until, key.clone()));
            self.deregistered.remove(&key);
        }
    }
}

impl Registry {
    /// A registration that equals the live record was answered as a heartbeat.
    pub(super) fn note_registered(&mut self, record: &Record, now: Now) {
        let Some(registration) = record.registration() else { return };
        let Some(ttl) = registration.ttl() else { return };
        self.words.forget_deregistered(&record.key);
        if self.words.registered.len() < REGISTERED_MAX || self.words.registered.contains_key(&record.key) {
            let (registration, stamp) = (Arc::clone(registration), self.stamp(now));
            let until = now.mono + ttl.ms();
            let word = Registered { incarnation: record.version.incarnation, registration, stamp, until };
            self.words.registered.insert(record.key.clone(), word);
        }
    }

    /// A deregistration without an incarnation was written with this record.
    pub(super) fn note_deregistered(&mut self, record: &Record, now: Now) {
        let most = usize::try_from(self.unknown_max()).unwrap_or(usize::MAX);
        self.words.note_deregistered(&record.key, record.version.edition, most, now.mono);
    }

    /// A later word than all that are remembered of this instance is written here.
    pub(super) fn clear_words(&mut self, key: &InstanceKey) {
        self.words.clear(key);
    }

    /// How many withdrawn records of instances that nobody knew are held, and how many deregistrations without an incarnation remembered.
    pub(super) fn unknown_max(&self) -> u64 {
        self.settings.limits.withdrawn / 8
    }

    /// A record was taken: if it is an older word than one that is remembered here, that one is written again above it, once.
    pub(super) fn say_remembered(&mut self, record: &Arc<Record>, now: Now, out: &mut Outbox) {
        // An older node's editions are no stamps.
        if !self.sends_stamps(&record.version.owner.node) {
            return;
        }
        match &record.body {
            Body::Live { .. } => self.deregister_again(record, now, out),
            Body::Withdrawn { named: false, .. } if record.version.deregistered => self.register_again(record, now, out),
            Body::Withdrawn { .. } => {}
        }
    }

    fn deregister_again(&mut self, record: &Arc<Record>, now: Now, out: &mut Outbox) {
        let is_older = |word: &Deregistered| now.mono <= word.until && record.version.edition < word.stamp;
        if !self.words.deregistered.get(&record.key).is_some_and(is_older) {
            return;
        }
        let Some(word) = self.words.forget_deregistered(&record.key) else { return };
        let step = Step::end(&record.version, word.stamp);
        let body = Body::Withdrawn { kept: None, named: false, of_unknown: false, draining: false };
        self.write_deregistration(&record.key, step, body, Cause::Deregistered.into(), now, out);
    }

    fn register_again(&mut self, record: &Arc<Record>, now: Now, out: &mut Outbox) {
        let Some(word) = self.words.registered.remove(&record.key) else { return };
        let is_same_life = word.incarnation == record.version.incarnation;
        if !is_same_life || now.mono > word.until || word.stamp <= record.version.edition {
            return;
        }
        let at = word.until - word.registration.ttl().map_or(0, crate::model::Ttl::ms);
        let digest = content_digest(&word.registration);
        let body = Body::Live { registration: word.registration, seen: Seen::Well, draining: false };
        let step = Step::word(&record.version, word.stamp);
        let written = self.write(record.key.clone(), step, body, Cause::Registered.into(), now, out);
        self.hold(&written, digest, at, false, out);
    }

    /// Writes that an instance is gone by request, and lets go of its lease.
    pub(super) fn write_deregistration(
        &mut self,
        key: &InstanceKey,
        step: Step,
        body: Body,
        why: Why,
        now: Now,
        out: &mut Outbox,
    ) -> Arc<Record> {
        self.ask_again.clear(key);
        if self.end_lease(key).is_some() {
            out.push(Output::DropLease { key: key.clone() });
        }
        self.write(key.clone(), step, body, why, now, out)
    }
}
