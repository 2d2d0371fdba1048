//! The merge: of two records for an instance the greater version wins. Every record that changes, changes here.

use std::sync::Arc;

use super::io::{Changed, Output, Purpose};
use super::lease::Ended;
use super::notice::Notice;
use super::plausible::{EDITION_FREE_MAX, EDITION_MAX, GENERATION_MAX, implausible, next_life};
use super::record::{Body, Record, Seen, content_digest};
use super::stamp::StampTime;
use super::time::Now;
use super::{Outbox, Registry};
use crate::model::{Cause, Incarnation, InstanceKey, Life, Registration, Version};

/// The parts of a version that whoever writes a change chooses; the rest follows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) incarnation: Incarnation,
    pub(super) edition: u64,
    pub(super) deregistered: bool,
    pub(super) generation: u64,
}

impl Step {
    /// The first word of a new life.
    pub(super) fn life(incarnation: Incarnation, stamp: StampTime) -> Self {
        Self { incarnation, edition: stamp, deregistered: false, generation: 0 }
    }

    /// A word within the known life. After the last edition that peers take it counts on in generations; where that life was deregistered
    /// then, another begins.
    pub(super) fn word(known: &Version, stamp: StampTime) -> Self {
        let edition = stamp.max(known.edition + 1);
        match edition {
            ..=EDITION_MAX => Self { incarnation: known.incarnation, edition, deregistered: false, generation: 0 },
            _ if known.deregistered => Self { deregistered: false, ..Self::next_life(known) },
            _ => Self::generation(known),
        }
    }

    /// The end of the known life. It counts on as a word does, and stays in that life.
    pub(super) fn end(known: &Version, stamp: StampTime) -> Self {
        let step = if known.deregistered && known.edition >= EDITION_MAX { Self::generation(known) } else { Self::word(known, stamp) };
        Self { deregistered: true, ..step }
    }

    /// A word that names no life. After an edition that no stamp comes to, and that peers who do not know it would not take, it begins one.
    pub(super) fn unnamed_word(known: &Version, stamp: StampTime) -> Self {
        match next_life(known.incarnation).filter(|_| known.edition >= EDITION_FREE_MAX) {
            Some(next) => Self::life(next, stamp),
            None => Self::word(known, stamp),
        }
    }

    /// The registry did something. After the last generation that peers take, that begins an edition, and after the last edition a life.
    pub(super) fn generation(known: &Version) -> Self {
        match (known.generation < GENERATION_MAX, known.edition < EDITION_MAX) {
            (true, _) => Self { generation: known.generation + 1, ..Self::same(known) },
            (false, true) => Self { edition: known.edition + 1, generation: 0, ..Self::same(known) },
            (false, false) => Self::next_life(known),
        }
    }

    /// Where not even another life is left to begin, it counts on past what peers take: nothing greater can be written.
    fn next_life(known: &Version) -> Self {
        match next_life(known.incarnation) {
            // No word that is remembered is above the end of stamps.
            Some(next) => Self { incarnation: next, edition: EDITION_FREE_MAX, generation: 0, ..Self::same(known) },
            None => Self { generation: known.generation + 1, ..Self::same(known) },
        }
    }

    /// The owner saw something.
    pub(super) fn same(known: &Version) -> Self {
        Self { incarnation: known.incarnation, edition: known.edition, deregistered: known.deregistered, generation: known.generation }
    }
}

/// Why a change is written, and who asked for it.
#[derive(Debug, Clone)]
pub(super) struct Why {
    pub(super) cause: Cause,
    pub(super) actor: Option<Arc<str>>,
    pub(super) detail: Option<Arc<str>>,
    /// As in [`Record::last_heartbeat_ms`].
    pub(super) last_heartbeat_ms: Option<u32>,
    /// The provider came with it on the connection that holds its lease from now on.
    pub(super) attaches: bool,
}

impl From<Cause> for Why {
    fn from(cause: Cause) -> Self {
        Self { cause, actor: None, detail: None, last_heartbeat_ms: None, attaches: false }
    }
}

impl Why {
    /// With more about it, in words.
    pub(super) fn saying(cause: Cause, detail: impl Into<Arc<str>>) -> Self {
        Self { detail: Some(detail.into()), ..Self::from(cause) }
    }
}

impl Registry {
    /// Writes a change of this node's own: it is in the log, and this node is the owner.
    pub(super) fn write(&mut self, key: InstanceKey, step: Step, body: Body, why: Why, now: Now, out: &mut Outbox) -> Arc<Record> {
        let Step { incarnation, edition, deregistered, generation } = step;
        let live = matches!(body, Body::Live { .. });
        let version = Version { incarnation, edition, deregistered, generation, live, owner: self.life.clone(), seq: self.log.head() + 1 };
        debug_assert!(self.store.get(&key).is_none_or(|known| known.version < version), "what is written is greater than what is known");
        let Why { cause, actor, detail, last_heartbeat_ms, attaches } = why;
        let first_content = self.store.get(&key).and_then(|known| first_content(known, &version, &body, attaches));
        let changed_at = now.wall_ms();
        let record = Arc::new(Record { key, version, body, cause, changed_at, actor, detail, last_heartbeat_ms, first_content });
        self.log.append(Arc::clone(&record));
        self.applied.raise(&self.life, record.version.seq, now.mono);
        self.put(&record, true, now, out);
        record
    }

    /// Takes a record that was heard, if it is greater than the known one; says whether it was.
    pub(super) fn merge(&mut self, record: &Arc<Record>, from: &Life, now: Now, out: &mut Outbox) -> bool {
        let known = self.store.get(&record.key).map(|known| &known.version);
        if known.is_some_and(|known| record.version <= *known) {
            return false;
        }
        if let Some(why) = implausible(&record.version, known) {
            quarantine(record, from, why, out);
            return false;
        }
        if record.version.owner == self.life && record.version.seq > self.log.head() {
            quarantine(record, from, "it names a change that this node never wrote", out);
            return false;
        }
        if let Some(limit) = self.limit_broken_by(record) {
            self.refuse_record(limit, from, now.mono);
            return false;
        }
        let before = self.put(record, false, now, out);
        match (self.end_lease(&record.key), before) {
            // With or without a lease for what stood there: whoever is named as the owner holds one.
            _ if record.version.owner == self.life && record.registration().is_some() => self.own_again(record, now, out),
            (Some(mut lease), Some(held)) => {
                lease.renewed_at = lease.last_sign(None, now.mono);
                self.ended.insert(record.key.clone(), Ended { lease, record: held });
                out.push(Output::AskLease { key: record.key.clone(), purpose: Purpose::Ended });
            }
            (Some(_) | None, before) => {
                if !self.answer_withdrawal(record, now, out)
                    && let Some(before) = before
                {
                    self.keep_last(record, &before, from, now, out);
                }
            }
        }
        self.say_remembered(record, now, out);
        true
    }

    /// A live record names this life as its owner: it was forgotten here, and came back.
    fn own_again(&mut self, record: &Arc<Record>, now: Now, out: &mut Outbox) {
        let Body::Live { registration, draining, .. } = &record.body else { return };
        // For a fixed address nobody ever vouched.
        let seen = if registration.ttl().is_some() { Seen::Suspect } else { Seen::Well };
        let body = Body::Live { registration: Arc::clone(registration), seen, draining: *draining };
        let detail = "unverified until it is heard: its owner had forgotten it";
        let why = Why::saying(Cause::Adopted, detail);
        let written = self.write(record.key.clone(), Step::same(&record.version), body, why, now, out);
        self.hold_unheard(&written, now, out);
    }

    /// Puts a record in its place, tells who must know, and gives back what stood there.
    fn put(&mut self, record: &Arc<Record>, own: bool, now: Now, out: &mut Outbox) -> Option<Arc<Record>> {
        let listed = self.listed(record);
        let to = listed.as_ref().map(|listed| listed.status);
        let put = self.store.put(record, listed.clone(), now.mono);
        let is_of_another = |before: &Arc<Record>| before.registration().is_some() && before.version.owner != record.version.owner;
        let from = put.before.as_deref().and_then(|before| self.listed(before)).map(|listed| listed.status);
        let moved = record.registration().is_some() && put.before.as_ref().is_some_and(is_of_another);
        let has_turned = |before: &Arc<Record>| (before.cause, before.version.incarnation) != (record.cause, record.version.incarnation);
        let is_other = put.told || moved || put.before.as_ref().is_some_and(has_turned);
        out.push(Output::Changed(Changed {
            record: Arc::clone(record),
            from,
            to,
            cause: record.cause,
            own,
            moved,
            is_visible: (from.is_some() || to.is_some()) && is_other,
        }));
        if self.restore.put(record, listed.clone(), now.mono).unwrap_or(put.told) {
            out.push(Output::ViewChanged(record.key.service.clone()));
        }
        self.follow_attached(record, now, out);
        self.note_place(record, put.before.as_deref(), now);
        self.note_preserved(record, now);
        self.unrenewed.follow(record, &self.life);
        if let Some(before) = &put.before {
            self.note_turn(before, record, now, out);
        }
        put.before
    }
}

/// Refuses a record of a peer's; the rest of what it came with goes on.
pub(super) fn quarantine(record: &Record, from: &Life, why: &'static str, out: &mut Outbox) {
    out.push(Output::Noticed(Notice::Quarantined { from: from.clone(), key: record.key.clone(), why }));
}

/// See [`Record::first_content`]: it goes on as long as the life does, and begins anew with what a connection brings.
fn first_content(known: &Record, version: &Version, body: &Body, attaches: bool) -> Option<u128> {
    if known.version.incarnation != version.incarnation {
        return None;
    }
    if known.version.edition == version.edition {
        return known.first_content;
    }
    let (before, after) = (known.body.content().filter(|_| !attaches)?, body.content()?);
    Some(known.first_content.unwrap_or_else(|| content_digest(before))).filter(|first| *first != content_digest(after))
}

/// What is kept of an instance that went by silence.
pub(super) fn kept(record: &Record) -> Option<&Arc<Registration>> {
    match &record.body {
        Body::Withdrawn { kept, .. } => kept.as_ref(),
        Body::Live { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Address, Epoch, InstanceId, Namespace, NodeName, Port, RegistrationDraft, ServiceKey, ServiceName, Ttl};
    use crate::registry::{Input, Register, Settings};

    #[test]
    fn whatever_edition_was_forged_each_word_is_greater_and_taken_by_who_missed_it() {
        let owner = Life { node: NodeName::parse("n1").unwrap(), epoch: Epoch(1) };
        for (edition, deregistered) in [(5, false), (EDITION_FREE_MAX, false), (EDITION_MAX, false), (EDITION_MAX, true)] {
            let known =
                Version { incarnation: Incarnation::FIRST, edition, deregistered, generation: 3, live: true, owner: owner.clone(), seq: 1 };
            for step in [Step::word(&known, 7), Step::unnamed_word(&known, 7), Step::end(&known, 7), Step::generation(&known)] {
                let Step { incarnation, edition, deregistered, generation } = step;
                let next = Version { incarnation, edition, deregistered, generation, ..known.clone() };
                assert!(next > known, "{next:?} after {known:?}");
                assert_eq!((implausible(&next, None), implausible(&next, Some(&known))), (None, None), "{next:?} after {known:?}");
            }
        }
    }

    #[test]
    fn what_this_node_wrote_forgot_and_is_given_back_has_a_lease_here() {
        let now = Now { mono: 1_000_000, wall: 0 };
        let mut registry = Registry::new(Settings::new(NodeName::parse("n1").unwrap(), Epoch(1)), 1, now);
        let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
        let key = InstanceKey { service, id: InstanceId::parse("a").unwrap() };
        let draft = RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(80).unwrap(), Ttl::from_ms(15_000).unwrap());
        let registration = Arc::new(Registration::new(draft).unwrap());
        let register = Register::new(key.clone(), registration, now.mono);
        registry.handle(Input::Register(1, register), now, &mut Outbox::new());

        let held = Record::clone(registry.record(&key).unwrap());
        let greater = Arc::new(Record { version: Version { edition: held.version.edition + 1, ..held.version.clone() }, ..held });
        let peer = Life { node: NodeName::parse("n2").unwrap(), epoch: Epoch(2) };
        assert!(registry.merge(&greater, &peer, now, &mut Outbox::new()));
        let version = &registry.record(&key).unwrap().version;
        assert_eq!((version.edition, version.seq, registry.holds_lease(&key)), (1, 2, true));
    }

    /// What is told of a record that is heard after `known`, which was heard too.
    fn told(known: &Record, next: Record) -> Changed {
        let now = Now { mono: 1_000_000, wall: 0 };
        let mut registry = Registry::new(Settings::new(NodeName::parse("n9").unwrap(), Epoch(9)), 1, now);
        let from = known.version.owner.clone();
        let mut out = Outbox::new();
        assert!(registry.merge(&Arc::new(known.clone()), &from, now, &mut out));
        out.clear();
        let version = Version { generation: next.version.generation + 1, ..next.version };
        assert!(registry.merge(&Arc::new(Record { version, ..next }), &from, now, &mut out));
        let changed = |output| if let Output::Changed(changed) = output { Some(changed) } else { None };
        out.into_iter().find_map(changed).unwrap()
    }

    #[test]
    fn what_nobody_can_see_is_told_as_such_and_a_new_owner_or_cause_is_seen() {
        let owner = |node: &str| Life { node: NodeName::parse(node).unwrap(), epoch: Epoch(1) };
        let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
        let draft = RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(80).unwrap(), Ttl::from_ms(15_000).unwrap());
        let incarnation = Incarnation::FIRST;
        let version = Version { incarnation, edition: 0, deregistered: false, generation: 0, live: true, owner: owner("n1"), seq: 1 };
        let known = Record {
            key: InstanceKey { service, id: InstanceId::parse("a").unwrap() },
            version,
            body: Body::Live { registration: Arc::new(Registration::new(draft).unwrap()), seen: Seen::Well, draining: false },
            cause: Cause::Registered,
            changed_at: 0,
            actor: None,
            detail: None,
            last_heartbeat_ms: None,
            first_content: None,
        };
        assert!(!told(&known, known.clone()).is_visible);
        assert!(told(&known, Record { cause: Cause::Recovered, ..known.clone() }).is_visible);
        let moved = Version { owner: owner("n2"), ..known.version.clone() };
        assert!(told(&known, Record { version: moved.clone(), ..known.clone() }).is_visible);
        let life = Version { incarnation: incarnation.next(), ..known.version.clone() };
        assert!(told(&known, Record { version: life, ..known.clone() }).is_visible);
        let withdrawn = Version { live: false, ..known.version.clone() };
        let gone = Record {
            version: withdrawn,
            body: Body::Withdrawn { kept: None, named: false, of_unknown: false, draining: false },
            ..known.clone()
        };
        assert!(told(&known, gone.clone()).is_visible);
        let gone_elsewhere = Record { version: Version { live: false, ..moved }, cause: Cause::Adopted, ..gone.clone() };
        assert!(!told(&gone, gone_elsewhere).is_visible, "of what is not listed nobody sees who remembers it");
    }
}
