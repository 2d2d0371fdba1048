//! Expiry: what becomes of an instance whose provider is silent. Only the owner expires, on its own monotonic clock.
//!
//! It is `suspect` at the deadline, and looked at (see `sight`): one that answers is `up`, one that nobody reaches is `down`, and withdrawn
//! `evict_after` later. Of one that cannot be looked at silence is the only evidence: it is `down` one ttl after the deadline. Where too many
//! are silent together they stay `suspect`: see `preserve`.

use std::sync::Arc;

use super::io::{Output, Purpose};
use super::lease::{Lease, Phase};
use super::looking::Sight;
use super::merge::{Step, Why};
use super::message::NodeState;
use super::peers::ALIVE_MS;
use super::record::{Body, Record, Seen};
use super::sight::as_note;
use super::time::{Mono, Now};
use super::{Outbox, Registry, reuse};
use crate::model::{Cause, InstanceKey, Ttl};

/// How many leases one call looks at; the rest is due at once again, so that a mass expiry does not hold up everything else.
const DUE_MAX: usize = 10_000;
/// A lease whose question went unanswered, or that may not be withdrawn now, is looked at again after this long.
const AGAIN_MS: u64 = 1000;
/// A preserved lease is looked at again after its ttl, and not before this.
const PRESERVED_AGAIN_MS: u64 = 5000;

/// Something that silence is judged by, which may cease to be so and be so again.
pub(super) struct Regained {
    /// When it was last looked at.
    is_so: bool,
    /// Since then, after it was not so; `None`: it always was.
    pub(super) since: Option<Mono>,
}

impl Default for Regained {
    fn default() -> Self {
        Self { is_so: true, since: None }
    }
}

impl Regained {
    fn note(&mut self, is_so: bool, now: Mono) {
        if is_so && !self.is_so {
            self.since = Some(now);
        }
        self.is_so = is_so;
    }
}

impl Registry {
    /// Asks for the last heartbeats of the leases that are due.
    pub(super) fn advance_leases(&mut self, now: Now, out: &mut Outbox) {
        self.note_reach(now.mono);
        for _ in 0..DUE_MAX {
            let Some(key) = self.leases.take_due(now.mono, now.mono + AGAIN_MS) else { return };
            out.push(Output::AskLease { key, purpose: Purpose::Due });
        }
    }

    /// A node that did not hear the others cannot tell who is silent: when it hears them again, each lease has its ttl and grace anew. One that
    /// nobody heard, whose bus was away, or that of two heard nobody, is passed on no heartbeats of what only it lists: for as long it takes
    /// nothing away.
    fn note_reach(&mut self, now: Mono) {
        self.hears_majority.note(self.peers.hears_majority(now), now);
        let hears_nobody = self.peers.member_count(now) > 1 && self.peers.alive(now).next().is_none();
        let is_cut_off = hears_nobody || self.link.unheard_since().is_some_and(|since| since + ALIVE_MS < now);
        self.is_heard.note(self.is_heard(now) && !is_cut_off, now);
    }

    /// Silent instances may be taken away: this node hears its own echo and a majority, is heard, and is not late itself. What is renewed
    /// at other nodes reaches it over the bus.
    pub(super) fn may_withdraw(&self, now: Mono) -> bool {
        let is_alone = self.peers.member_count(now) == 1;
        self.state == NodeState::Ready && self.hears_majority.is_so && (is_alone || self.is_sound(now))
    }

    /// Another node has heard the provider and took the record for its own, which this node's beats. It will pass on what it heard once it
    /// knows: until then there is no telling from silence.
    pub(super) fn wait_for_word(&mut self, record: &Record, now: Mono) {
        let is_heard = matches!(record.cause, Cause::Registered | Cause::Updated | Cause::Recovered | Cause::Superseded);
        let is_well = matches!(record.body, Body::Live { seen: Seen::Well, .. });
        if let Some(lease) = self.leases.get_mut(&record.key)
            && is_heard
            && is_well
            && lease.incarnation == record.version.incarnation
        {
            lease.not_before = lease.not_before.max(now + lease.ttl_ms + grace_ms(record));
        }
    }

    /// Judges a lease whose last heartbeat the shell has told.
    pub(super) fn handle_due(&mut self, key: &InstanceKey, last_heartbeat: Option<Mono>, now: Now, out: &mut Outbox) {
        // It may have become a fixed address's, or a connection's, since it was asked for.
        let Some(lease) = self.leases.get(key).filter(|lease| !lease.is_fixed() && !lease.is_attached()).cloned() else { return };
        let Some(record) = self.store.get(key).cloned() else { return };
        let last = lease.last_heard(last_heartbeat);
        self.unrenewed.note_last(key, last);
        let anew_from = |since: Option<Mono>| since.map_or(0, |since| since + lease.ttl_ms + grace_ms(&record));
        let trusted_until = anew_from(self.hears_majority.since).max(lease.not_before);
        let heard_until = anew_from(self.is_heard.since);
        let deadline = (last + lease.ttl_ms).max(trusted_until);
        let replaced_due = lease.replaced_due(&key.service, last);
        let is_replaced = replaced_due.is_some_and(|due| due <= now.mono);
        if lease.replaced.is_some() && replaced_due.is_none() {
            self.leases.share(key);
        }
        match lease.phase() {
            Phase::Held if now.mono < deadline && !is_replaced => {
                self.leases.reschedule(key, replaced_due.map_or(deadline, |due| due.min(deadline)));
            }
            // A heartbeat was taken without asking just as the deadline fired.
            Phase::Late(since) | Phase::Answering(since) | Phase::Over(since)
                if lease.is_renewed_by(last, since, now.mono, replaced_due.is_some()) =>
            {
                self.recover(&record, last, now, out);
            }
            // It may be this node that is late.
            _ if self.health.is_poor() || self.health.is_returning() => self.leases.reschedule(key, now.mono + AGAIN_MS),
            Phase::Held => self.begin_looking(key, Cause::Expired, last, now, out),
            Phase::Late(since) => self.judge_late(&record, since, trusted_until, last, now, out),
            Phase::Answering(since) => self.judge_answering(&record, since, last, now, out),
            Phase::Over(since) => {
                let until = (since + self.evict_after_ms(&record, &lease)).max(trusted_until).max(heard_until);
                self.judge_over(&record, since, until, last, now, out);
            }
        }
    }

    /// It is `suspect`: it may answer when it is looked at, and if nothing can be seen of it, nothing came for another ttl.
    fn judge_late(&mut self, record: &Arc<Record>, since: Mono, trusted_until: Mono, last: Mono, now: Now, out: &mut Outbox) {
        let Some(ttl_ms) = self.leases.get(&record.key).map(|lease| lease.ttl_ms) else { return };
        let sight = self.sight_of(record, last, now.mono);
        let down_at = if sight == Sight::Blind { (since + ttl_ms).max(trusted_until) } else { trusted_until };
        match sight {
            Sight::Answers if self.is_calm(&record.key, now.mono) => self.become_answering(record, last, now, out),
            Sight::Answers => self.leases.reschedule(&record.key, now.mono + AGAIN_MS),
            Sight::Open | Sight::Fails | Sight::Blind if self.is_spared(record, last) => {
                self.stay_suspect(record, since, last, now, out);
            }
            Sight::Open => self.leases.reschedule(&record.key, now.mono + ttl_ms),
            Sight::Fails | Sight::Blind if now.mono < down_at => self.leases.reschedule(&record.key, down_at),
            Sight::Fails => self.become_down(record, Cause::ProbeFailed, last, now, out),
            Sight::Blind => self.become_down(record, Cause::Expired, last, now, out),
        }
    }

    /// It answers though it is silent: as long as it does.
    fn judge_answering(&mut self, record: &Arc<Record>, since: Mono, last: Mono, now: Now, out: &mut Outbox) {
        let Some(ttl_ms) = self.leases.get(&record.key).map(|lease| lease.ttl_ms) else { return };
        match self.sight_of(record, last, now.mono) {
            Sight::Answers => {
                self.leases.set_phase(&record.key, Phase::Answering(since));
                self.leases.reschedule(&record.key, now.mono + ttl_ms.max(PRESERVED_AGAIN_MS));
            }
            Sight::Open | Sight::Fails => self.doubt(record, Cause::ProbeFailed, last, now, out),
            Sight::Blind => self.doubt(record, Cause::Expired, last, now, out),
        }
    }

    /// It is `down`: when its time is over it goes, unless it answers after all, or something speaks for it.
    fn judge_over(&mut self, record: &Arc<Record>, since: Mono, until: Mono, last: Mono, now: Now, out: &mut Outbox) {
        let sight = self.sight_of(record, last, now.mono);
        let is_calm = self.is_calm(&record.key, now.mono);
        let cause = if sight == Sight::Fails { Cause::ProbeFailed } else { Cause::Expired };
        let is_spared = self.is_spared(record, last);
        match sight {
            Sight::Answers if is_calm => self.become_answering(record, last, now, out),
            Sight::Open | Sight::Fails | Sight::Blind if is_spared && !self.is_failing(&record.key) => {
                self.stay_suspect(record, since, last, now, out);
            }
            // What flaps is not taken away for it, nor is one that has not been looked at, nor one that is preserved.
            Sight::Answers | Sight::Open => self.leases.reschedule(&record.key, now.mono + AGAIN_MS),
            Sight::Fails | Sight::Blind if now.mono < until => self.leases.reschedule(&record.key, until),
            Sight::Fails | Sight::Blind if is_spared || self.is_kept(record, now.mono) => {
                self.leases.reschedule(&record.key, now.mono + AGAIN_MS);
                if is_spared || self.is_last_while_unclear(record, now.mono) {
                    self.see_preserved(record, Seen::Down, last, now, out);
                }
            }
            Sight::Fails | Sight::Blind => self.withdraw(record, cause, last, now, out),
        }
    }

    /// Self-preservation keeps it: too many are silent with it, and nothing but its silence speaks against it.
    fn is_spared(&self, record: &Record, last: Mono) -> bool {
        self.is_preserved(record) && !self.is_refused(&record.key) && !self.is_replaced(record, last)
    }

    /// Its time is over, and it stays all the same for now.
    fn is_kept(&self, record: &Record, now: Mono) -> bool {
        self.overridden(record).preserve == Some(true) || !self.may_withdraw(now) || self.is_last_while_unclear(record, now)
    }

    /// A provider is silent, for this cause: consumers are told at once, and then the instance is looked at. How long it stays listed once it
    /// is down is its lease's.
    pub(super) fn begin_looking(&mut self, key: &InstanceKey, why: Cause, last: Mono, now: Now, out: &mut Outbox) {
        let (Some(lease), Some(record)) = (self.leases.get(key), self.store.get(key).cloned()) else { return };
        let due = now.mono + lease.ttl_ms;
        if self.is_failing(key) {
            // Its check has failed already: it is down, and now it is silent too.
            self.become_down(&record, Cause::ProbeFailed, last, now, out);
            self.look_at_silent(&record, Sight::Fails, now.mono);
            return self.consider_preserving(&key.service, now, out);
        }
        self.leases.set_phase(key, Phase::Late(now.mono));
        self.leases.reschedule(key, due);
        self.look_at_silent(&record, Sight::Open, now.mono);
        self.consider_preserving(&key.service, now, out);
        let cause = if self.is_preserved(&record) { Cause::Preserved } else { why };
        self.see_silence(&record, Seen::Suspect, cause, last, now, out);
    }

    /// It answered though it was silent, and does so no more.
    fn doubt(&mut self, record: &Record, cause: Cause, last: Mono, now: Now, out: &mut Outbox) {
        let Some(lease) = self.leases.get(&record.key) else { return };
        let due = now.mono + if self.sight_of(record, last, now.mono) == Sight::Fails { 0 } else { lease.ttl_ms };
        self.leases.set_phase(&record.key, Phase::Late(now.mono));
        self.leases.reschedule(&record.key, due);
        let cause = if self.is_preserved(record) { Cause::Preserved } else { cause };
        self.see_silence(record, Seen::Suspect, cause, last, now, out);
    }

    /// It is silent, and answers: it is well, and whoever looks sees why.
    fn become_answering(&mut self, record: &Record, last: Mono, now: Now, out: &mut Outbox) {
        let Some(lease) = self.leases.get(&record.key) else { return };
        let due = now.mono + lease.ttl_ms.max(PRESERVED_AGAIN_MS);
        self.leases.set_phase(&record.key, Phase::Answering(now.mono));
        self.leases.reschedule(&record.key, due);
        self.see_silence(record, Seen::Well, Cause::ProbeSucceeded, last, now, out);
    }

    /// Its silence proves nothing: it stays as it is, and whoever looks sees why.
    fn stay_suspect(&mut self, record: &Record, since: Mono, last: Mono, now: Now, out: &mut Outbox) {
        let Some(lease) = self.leases.get(&record.key) else { return };
        let due = now.mono + lease.ttl_ms.max(PRESERVED_AGAIN_MS);
        self.leases.set_phase(&record.key, Phase::Late(since));
        self.leases.reschedule(&record.key, due);
        self.see_preserved(record, Seen::Suspect, last, now, out);
    }

    /// It is listed by self-preservation alone: its record says so, once. That another has its place says more, and is said once too.
    fn see_preserved(&mut self, record: &Record, seen: Seen, last: Mono, now: Now, out: &mut Outbox) {
        let is_seen = matches!(record.body, Body::Live { seen: was, .. } if was == seen);
        let cause = if self.is_replaced(record, last) { Cause::AddressReused } else { Cause::Preserved };
        if !is_seen || record.cause != cause {
            self.see_silence(record, seen, Cause::Preserved, last, now, out);
        }
    }

    /// Nothing came for another ttl, or it does not answer.
    fn become_down(&mut self, record: &Record, cause: Cause, last: Mono, now: Now, out: &mut Outbox) {
        let Some(lease) = self.leases.get(&record.key) else { return };
        let due = now.mono + self.evict_after_ms(record, lease);
        self.leases.set_phase(&record.key, Phase::Over(now.mono));
        self.leases.reschedule(&record.key, due);
        self.penalise(&record.key, now.mono);
        self.see_silence(record, Seen::Down, cause, last, now, out);
    }

    /// How long an instance stays listed once it is down: as an operator says, or its provider, or this node's default.
    fn evict_after_ms(&self, record: &Record, lease: &Lease) -> u64 {
        self.overridden(record).evict_after_ms.unwrap_or(lease.evict_after_ms)
    }

    /// Writes what silence shows; from now on a heartbeat changes the record, so each is to be told to the registry.
    fn see_silence(&mut self, record: &Record, seen: Seen, cause: Cause, last: Mono, now: Now, out: &mut Outbox) {
        let (Some(registration), Some(lease)) = (record.registration(), self.leases.get(&record.key)) else { return };
        let terms = self.terms(record, registration, lease.digest, false);
        out.push(Output::HoldLease { key: record.key.clone(), terms, at: last });
        let body = Body::Live { registration: Arc::clone(registration), seen, draining: record.is_draining() };
        let why = self.why_silent(record, cause, last, now.mono);
        self.write(record.key.clone(), Step::same(&record.version), body, why, now, out);
    }

    /// Takes a silent instance from the list; a late heartbeat can still bring it back.
    pub(super) fn withdraw(&mut self, record: &Record, cause: Cause, last: Mono, now: Now, out: &mut Outbox) {
        let why = self.why_silent(record, cause, last, now.mono);
        self.end_lease(&record.key);
        out.push(Output::DropLease { key: record.key.clone() });
        let body =
            Body::Withdrawn { kept: record.registration().cloned(), named: false, of_unknown: false, draining: record.is_draining() };
        self.write(record.key.clone(), Step::generation(&record.version), body, why, now, out);
    }

    /// `cause`, and what looking at it has brought, but where another instance has its place: that is why its silence counts.
    fn why_silent(&self, record: &Record, cause: Cause, last: Mono, now: Mono) -> Why {
        let replaced = self.leases.get(&record.key).and_then(|lease| lease.replaced_since(last));
        let silent_ms = now.saturating_sub(last);
        let why = match replaced {
            Some(replaced) => Why::saying(Cause::AddressReused, reuse::detail(replaced, record)),
            None => {
                let silent = if cause == Cause::Detached {
                    "the connection that held its lease closed".to_owned()
                } else {
                    format!("no heartbeat for {}.{} s", silent_ms / 1000, silent_ms % 1000 / 100)
                };
                let seen = self.words_on(&record.key).map_or_else(String::new, |seen| format!("; {seen}"));
                Why::saying(cause, as_note(silent + &seen))
            }
        };
        Why { last_heartbeat_ms: Some(u32::try_from(silent_ms).unwrap_or(u32::MAX)), ..why }
    }
}

fn grace_ms(record: &Record) -> u64 {
    record.registration().and_then(|registration| registration.ttl()).map_or(0, Ttl::grace_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Address, Check, CheckKind, Epoch, InstanceId, Life, Namespace, NodeName, Port, Registration, RegistrationDraft, ServiceKey,
        ServiceName, Version,
    };
    use crate::registry::link::Link;
    use crate::registry::message::MemberAt;
    use crate::registry::{Beacon, Change, Envelope, Input, Message, NodeState, Register, Settings};

    const TTL_MS: u64 = 3000;

    /// A node that owns an instance which has just become down, and the record of it.
    fn silent(now: &mut Now) -> (Registry, Arc<Record>) {
        let settings = Settings { has_bus: false, expect_empty: true, ..Settings::new(NodeName::parse("n1").unwrap(), Epoch(9)) };
        let mut registry = Registry::new(settings, 1, *now);
        let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
        let key = InstanceKey { service, id: InstanceId::parse("a").unwrap() };
        let mut draft = RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(80).unwrap(), Ttl::from_ms(TTL_MS).unwrap());
        draft.evict_after_ms = Some(1000);
        draft.check = Some(Check { kind: CheckKind::None, interval_ms: 10_000, timeout_ms: 1000, failures: 1, successes: 1 });
        let registration = Arc::new(Registration::new(draft).unwrap());
        let register = Register::new(key.clone(), registration, now.mono);
        registry.handle(Input::Register(1, register), *now, &mut Outbox::new());
        let record = Arc::clone(registry.record(&key).unwrap());
        for _ in 0..2 {
            now.mono += TTL_MS;
            registry.handle_due(&key, None, *now, &mut Outbox::new());
        }
        (registry, record)
    }

    fn hear(registry: &mut Registry, record: &Record, cause: Cause, now: Now) {
        let life = Life { node: NodeName::parse("n0").unwrap(), epoch: Epoch(2) };
        let mut version = record.version.clone();
        (version.owner, version.seq) = (life.clone(), 1);
        let record = Arc::new(Record { version, cause, ..record.clone() });
        let change = Change { first: 1, last: 1, wants_ack: false, records: vec![record] };
        registry.apply_change(&life, change, now, &mut Outbox::new());
    }

    #[test]
    fn what_another_node_has_just_heard_is_not_taken_away_before_it_says_so() {
        for (cause, is_held) in [(Cause::Registered, true), (Cause::Adopted, false)] {
            let mut now = Now { mono: 1_000_000, wall: 0 };
            let (mut registry, record) = silent(&mut now);
            hear(&mut registry, &record, cause, now);
            now.mono += 1500;
            registry.handle_due(&record.key, None, now, &mut Outbox::new());
            assert_eq!(registry.holds_lease(&record.key), is_held, "{cause}");
            now.mono += 2 * TTL_MS;
            registry.handle_due(&record.key, None, now, &mut Outbox::new());
            assert!(!registry.holds_lease(&record.key), "it does not wait for ever");
        }
    }

    #[test]
    fn what_a_node_heard_that_has_just_started_again_counts_before_its_life_does() {
        let now = Now { mono: 1_000_000, wall: 0 };
        let mut registry = Registry::new(Settings::new(NodeName::parse("n1").unwrap(), Epoch(9)), 1, now);
        hear_beacon(&mut registry, true, now);
        let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
        let key = InstanceKey { service, id: InstanceId::parse("a").unwrap() };
        let draft = RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(80).unwrap(), Ttl::from_ms(TTL_MS).unwrap());
        let register = Register::new(key.clone(), Arc::new(Registration::new(draft).unwrap()), now.mono);
        registry.handle(Input::Register(1, register), now, &mut Outbox::new());
        let next_life = Life { node: NodeName::parse("n0").unwrap(), epoch: Epoch(3) };
        let known = registry.record(&key).unwrap();
        let version = Version { edition: known.version.edition + 5, owner: next_life.clone(), seq: 1, ..known.version.clone() };
        let record = Arc::new(Record { version, ..Record::clone(known) });
        let change = Change { first: 1, last: 1, wants_ack: false, records: vec![record] };
        registry.handle(Input::Received(Envelope { from: next_life, message: Message::Change(change) }), now, &mut Outbox::new());
        assert_eq!(registry.record(&key).unwrap().version.owner, registry.life, "its former life was heard just now");
        let late = Now { mono: now.mono + TTL_MS + 500, wall: 0 };
        registry.handle_due(&key, None, late, &mut Outbox::new());
        assert!(matches!(registry.record(&key).unwrap().body, Body::Live { seen: Seen::Well, .. }));
    }

    #[test]
    fn of_the_last_one_whose_place_another_has_it_is_said_once() {
        let mut now = Now { mono: 1_000_000, wall: 0 };
        let (mut registry, record) = silent(&mut now);
        registry.link = Link::new(true, now.mono);
        let by = InstanceKey { id: InstanceId::parse("b").unwrap(), ..record.key.clone() };
        registry.leases.replace(&record.key, crate::registry::lease::Replaced { since: now.mono, by });
        let mut written = Vec::new();
        for _ in 0..8 {
            now.mono += 1000;
            registry.handle_due(&record.key, None, now, &mut Outbox::new());
            written.push(registry.head());
        }
        assert_eq!((written[6], registry.record(&record.key).unwrap().cause), (written[2], Cause::AddressReused), "{written:?}");
    }

    /// Another node speaks, which hears this one or does not.
    fn hear_beacon(registry: &mut Registry, hears_us: bool, now: Now) {
        let from = Life { node: NodeName::parse("n0").unwrap(), epoch: Epoch(2) };
        let us = MemberAt { node: NodeName::parse("n1").unwrap(), age_ms: 0, has_left: false, evidence: None };
        let members = if hears_us { vec![us] } else { Vec::new() };
        let message = Message::Beacon(Beacon { members, ..Beacon::of(NodeState::Ready) });
        registry.link.echoed(now.mono);
        registry.handle(Input::Received(Envelope { from, message }), now, &mut Outbox::new());
        registry.advance(now, &mut Outbox::new());
    }

    #[test]
    fn heard_again_a_node_takes_nothing_away_before_heartbeats_can_have_been_passed_on() {
        let mut now = Now { mono: 1_000_000, wall: 0 };
        let (mut registry, record) = silent(&mut now);
        registry.link = Link::new(true, now.mono);
        registry.link.connected(now.mono);
        hear_beacon(&mut registry, false, now);
        let holds_after = |registry: &mut Registry, now: &mut Now, ms: u64, hears_us: bool| {
            for _ in 0..ms / 500 {
                now.mono += 500;
                hear_beacon(registry, hears_us, *now);
            }
            registry.handle_due(&record.key, None, *now, &mut Outbox::new());
            registry.holds_lease(&record.key)
        };
        assert!(holds_after(&mut registry, &mut now, 10 * TTL_MS, false), "nobody hears it");
        assert!(holds_after(&mut registry, &mut now, 1000, true), "it was heard a moment ago");
        assert!(!holds_after(&mut registry, &mut now, 3 * TTL_MS, true), "it does not wait for ever");
    }

    #[test]
    fn whose_bus_is_away_keeps_the_last_of_a_service_though_it_knows_of_no_other_node() {
        let mut now = Now { mono: 1_000_000, wall: 0 };
        let (mut registry, record) = silent(&mut now);
        registry.link = Link::new(true, now.mono);
        now.mono += 10 * TTL_MS;
        registry.advance(now, &mut Outbox::new());
        registry.handle_due(&record.key, None, now, &mut Outbox::new());
        assert!(registry.holds_lease(&record.key), "others may hear its provider");
        registry.link.connected(now.mono);
        for (ms, is_held) in [(1000, true), (2 * TTL_MS, false)] {
            for _ in 0..ms / 500 {
                now.mono += 500;
                registry.link.echoed(now.mono);
                registry.advance(now, &mut Outbox::new());
            }
            registry.handle_due(&record.key, None, now, &mut Outbox::new());
            assert_eq!(registry.holds_lease(&record.key), is_held, "{ms} ms after it carried again, for others to be heard in");
        }
    }

    #[test]
    fn of_two_one_that_heard_nobody_takes_nothing_away_for_as_long_either() {
        let mut now = Now { mono: 1_000_000, wall: 0 };
        let (mut registry, record) = silent(&mut now);
        registry.link = Link::new(true, now.mono);
        registry.link.connected(now.mono);
        hear_beacon(&mut registry, true, now);
        for _ in 0..20 {
            now.mono += 500;
            registry.link.echoed(now.mono);
            registry.advance(now, &mut Outbox::new());
        }
        for (ms, is_held) in [(1000, true), (3 * TTL_MS, false)] {
            for _ in 0..ms / 500 {
                now.mono += 500;
                hear_beacon(&mut registry, true, now);
            }
            registry.handle_due(&record.key, None, now, &mut Outbox::new());
            assert_eq!(registry.holds_lease(&record.key), is_held, "{ms} ms after it was heard again");
        }
    }
}
