//! Self-preservation: where too many fall silent together, their silence proves nothing, and nobody is taken away for it.
//!
//! Judged for all leases of this node, and for those of each service: a network that is out between providers and registry shows in the
//! one, a service that is out of reach in the other. A service's last instance is not taken away either while anything is unclear.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::io::Output;
use super::lease::Tally;
use super::merge::{Step, Why, kept};
use super::message::NodeState;
use super::notice::Notice;
use super::record::{Body, Record, Seen};
use super::sight::as_note;
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::{Cause, InstanceKey, Life, ServiceKey};

/// Fewer silent ones than this are no sign of anything wider.
const SILENT_MIN: u64 = 3;
/// It ends when fewer are silent than would begin it, for so long: two windows.
const CALM_MS: u64 = 2 * 15_000;
/// How many services are looked at a second, whether they are well again.
const LOOKED_AT_MAX: usize = 5000;

/// What is preserved now. At most as many services as have leases here.
#[derive(Default)]
pub(super) struct Preserve {
    all: Group,
    services: BTreeMap<ServiceKey, Group>,
    /// How many of them are preserved, and not spent.
    count: usize,
    /// Behind the last service that was looked at; `None`: the next look begins at the first.
    cursor: Option<ServiceKey>,
    /// The instances whose leases are held here and whose records have the cause `preserved`. At most as many as have leases here.
    kept: BTreeSet<InstanceKey>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Group {
    /// Since when it is preserved.
    since: Option<Mono>,
    /// Since when it has looked well again.
    calm_since: Option<Mono>,
    /// It was preserved for as long as may be; it is not again until it has been well.
    is_spent: bool,
}

/// What becomes of a group at a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Begins,
    Ends,
    Stays,
}

impl Group {
    fn is_idle(&self) -> bool {
        self.since.is_none() && !self.is_spent
    }

    /// `has_grown`: another has just fallen silent. It begins with that alone: a group that shrinks around those that are silent is no outage.
    fn look(&mut self, tally: Tally, percent: u64, max_ms: u64, has_grown: bool, now: Mono) -> Turn {
        let is_many = tally.silent >= SILENT_MIN && tally.silent * 100 > tally.held * percent;
        self.is_spent &= is_many;
        match self.since {
            None if is_many && has_grown && !self.is_spent => {
                *self = Self { since: Some(now), calm_since: None, is_spent: false };
                Turn::Begins
            }
            None => Turn::Stays,
            Some(since) => {
                self.calm_since = if is_many { None } else { self.calm_since.or(Some(now)) };
                let is_over = self.calm_since.is_some_and(|calm| calm + CALM_MS <= now);
                let is_spent = since + max_ms <= now;
                if !is_over && !is_spent {
                    return Turn::Stays;
                }
                *self = Self { since: None, calm_since: None, is_spent: is_spent && is_many };
                Turn::Ends
            }
        }
    }
}

impl Preserve {
    /// All leases of this node are preserved.
    pub(super) fn is_of_all(&self) -> bool {
        self.all.since.is_some()
    }

    fn group(&self, service: &ServiceKey) -> Group {
        self.services.get(service).copied().unwrap_or_default()
    }

    fn put(&mut self, service: &ServiceKey, group: Group) {
        let former = if group.is_idle() { self.services.remove(service) } else { self.services.insert(service.clone(), group) };
        self.count -= usize::from(former.is_some_and(|former| former.since.is_some()));
        self.count += usize::from(group.since.is_some());
    }

    /// The services that are looked at next, so many at the most; behind the last it begins anew.
    fn next(&mut self, most: usize) -> Vec<ServiceKey> {
        let from = self.cursor.take().map_or(Bound::Unbounded, Bound::Excluded);
        let next: Vec<ServiceKey> = self.services.range((from, Bound::Unbounded)).take(most).map(|(service, _)| service.clone()).collect();
        self.cursor = next.last().filter(|_| next.len() == most).cloned();
        next
    }
}

impl Registry {
    /// Some instance whose lease is held here is listed by self-preservation alone: its record says so, to every node.
    #[must_use]
    pub fn is_preserving(&self) -> bool {
        !self.preserve.kept.is_empty()
    }

    /// A record took its place: what this node says of itself follows from its records, so that all say the same.
    pub(super) fn note_preserved(&mut self, record: &Record, now: Now) {
        let was_preserving = self.is_preserving();
        if record.cause == Cause::Preserved && record.registration().is_some() && record.version.owner == self.life {
            self.preserve.kept.insert(record.key.clone());
        } else {
            self.preserve.kept.remove(&record.key);
        }
        if was_preserving != self.is_preserving() {
            self.next_beacon = now.mono;
        }
    }

    /// This instance is not taken away for being silent; an operator may have said that it is to be all the same.
    pub(super) fn is_preserved(&self, record: &Record) -> bool {
        let in_group = self.preserve.is_of_all() || self.preserve.group(&record.key.service).since.is_some();
        in_group && self.overridden(record).preserve != Some(false)
    }

    /// A lease of this service has just become late.
    pub(super) fn consider_preserving(&mut self, service: &ServiceKey, now: Now, out: &mut Outbox) {
        self.look_at_all(true, now, out);
        self.look_at(service, true, now, out);
    }

    /// Looks whether what is preserved is well again, or has been preserved for too long.
    pub(super) fn advance_preserve(&mut self, now: Now, out: &mut Outbox) {
        self.look_at_all(false, now, out);
        for service in self.preserve.next(LOOKED_AT_MAX) {
            self.look_at(&service, false, now, out);
        }
    }

    fn look_at_all(&mut self, has_grown: bool, now: Now, out: &mut Outbox) {
        let (percent, max_ms) = (self.settings.preserve_percent, self.settings.preserve_max_ms);
        let turn = self.preserve.all.look(self.leases.all(), percent, max_ms, has_grown, now.mono);
        self.take_turn(turn, None, now, out);
    }

    fn look_at(&mut self, service: &ServiceKey, has_grown: bool, now: Now, out: &mut Outbox) {
        let (percent, max_ms) = (self.settings.preserve_percent, self.settings.preserve_max_ms);
        let tally = self.leases.of_service(service);
        let mut group = self.preserve.group(service);
        let turn = group.look(tally, percent, max_ms, has_grown, now.mono);
        self.preserve.put(service, group);
        self.take_turn(turn, Some(service), now, out);
    }

    fn take_turn(&mut self, turn: Turn, service: Option<&ServiceKey>, now: Now, out: &mut Outbox) {
        if turn == Turn::Stays {
            return;
        }
        let begins = turn == Turn::Begins;
        self.leases.hasten(service, now.mono);
        out.push(Output::Noticed(Notice::Preserving { service: service.cloned(), begins }));
    }

    /// The last visible instance of its service goes by silence only when nothing is unclear: its provider may be heard by a node that is
    /// not heard here. One whose bus is away cannot even tell whether there are others.
    pub(super) fn is_last_while_unclear(&self, record: &Record, now: Mono) -> bool {
        let visible = self.store.catalog().view(&record.key.service).map_or(0, |view| view.instances().len());
        // Without a bus there is no other node, and what is not complete is only that providers have not all had their turn.
        let is_incomplete = || self.link.has_bus() && !self.complete;
        let doubts_itself = || is_incomplete() || self.health.multiplier() > 1 || self.link.unheard_since().is_some();
        visible <= 1 && (doubts_itself() || self.peers.has_doubtful(now) || self.is_owed_anything(now))
    }

    /// Another node took a service's last instance away for its silence, while the one that holds its lease is alive and has not heard of
    /// that: they were apart, and its provider may be heard there. Until that node has had its say the instance stays listed here.
    pub(super) fn keep_last(&mut self, record: &Arc<Record>, before: &Record, from: &Life, now: Now, out: &mut Outbox) {
        let (Body::Live { seen, draining, .. }, Some(registration)) = (&before.body, kept(record)) else { return };
        let (by, holder) = (&record.version.owner, &before.version.owner);
        let is_of_it = before.version.incarnation == record.version.incarnation;
        let by_silence = record.cause != Cause::AddressReused;
        let is_empty = self.store.catalog().view(&record.key.service).is_none_or(|view| view.instances().is_empty());
        // What a node heard of others before it was paused is old.
        let may_judge = self.state == NodeState::Ready && !self.health.is_returning();
        let knows = self.peers.get(&holder.node).is_some_and(|peer| peer.has_applied(by, record.version.seq));
        let is_unaware = holder != from && self.peers.is_life_alive(holder, now.mono) && !knows;
        let is_apart = by != holder && *holder != self.life && is_unaware;
        if !(is_of_it && by_silence && is_empty && may_judge && is_apart) || self.overridden(before).preserve == Some(false) {
            return;
        }
        let seen = if *seen == Seen::Down { Seen::Down } else { Seen::Suspect };
        let body = Body::Live { registration: Arc::clone(registration), seen, draining: *draining };
        let detail = format!("{} withdrew it while {} held its lease; unverified until it is heard", by.node, holder.node);
        let why = Why::saying(Cause::Preserved, as_note(detail));
        let written = self.write(record.key.clone(), Step::generation(&record.version), body, why, now, out);
        self.hold_unheard(&written, now, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Address, Epoch, Incarnation, InstanceId, InstanceKey, Namespace, NodeName, Port, Registration, RegistrationDraft, ServiceName, Ttl,
        Version,
    };
    use crate::registry::message::AppliedAt;
    use crate::registry::{Beacon, Change, Envelope, Input, Message, Purpose, Settings};

    const HOUR: Mono = 3_600_000;
    const NOW: Now = Now { mono: 1_000_000, wall: 0 };

    fn life(node: &str) -> Life {
        Life { node: NodeName::parse(node).unwrap(), epoch: Epoch(2) }
    }

    /// A record of `user/id`, as that node wrote it; withdrawn for its silence or not.
    fn record(id: &str, owner: &str, is_withdrawn: bool) -> Record {
        let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
        let draft = RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(80).unwrap(), Ttl::from_ms(15_000).unwrap());
        let registration = Arc::new(Registration::new(draft).unwrap());
        let (live, generation) = (!is_withdrawn, u64::from(is_withdrawn));
        let (incarnation, owner) = (Incarnation::FIRST, life(owner));
        Record {
            key: InstanceKey { service, id: InstanceId::parse(id).unwrap() },
            version: Version { incarnation, edition: 0, deregistered: false, generation, live, owner, seq: 1 },
            body: if is_withdrawn {
                Body::Withdrawn { kept: Some(registration), named: false, of_unknown: false, draining: false }
            } else {
                Body::Live { registration, seen: Seen::Well, draining: false }
            },
            cause: if is_withdrawn { Cause::Expired } else { Cause::Registered },
            changed_at: 0,
            actor: None,
            detail: None,
            last_heartbeat_ms: None,
            first_content: None,
        }
    }

    /// What becomes of `user/a`, which `n2` or another holds as `held` says, once `n3` is said by `teller` to have withdrawn it.
    struct Apart {
        holder: &'static str,
        teller: &'static str,
        is_last: bool,
        /// The holder has applied what n3 wrote.
        knows: bool,
        held: fn(&mut Record),
        withdrawn: fn(&mut Record),
    }

    const APART: Apart = Apart { holder: "n2", teller: "n3", is_last: true, knows: false, held: |_| {}, withdrawn: |_| {} };

    impl Apart {
        fn play(&self) -> Registry {
            let settings = Settings { has_bus: false, expect_empty: true, ..Settings::new(NodeName::parse("n1").unwrap(), Epoch(2)) };
            let mut registry = Registry::new(settings, 1, NOW);
            let mut hear = |from: &str, message: Message| {
                registry.handle(Input::Received(Envelope { from: life(from), message }), NOW, &mut Outbox::new());
            };
            let change = |record: Record| {
                let seq = record.version.seq;
                Message::Change(Change { first: seq, last: seq, wants_ack: false, records: vec![Arc::new(record)] })
            };
            let applied = if self.knows { vec![AppliedAt { life: life("n3"), seq: 1, age_ms: Some(0) }] } else { Vec::new() };
            hear("n2", Message::Beacon(Beacon { applied, ..Beacon::of(NodeState::Ready) }));
            let [mut held, mut withdrawn] = [record("a", self.holder, false), record("a", "n3", true)];
            (self.held)(&mut held);
            (self.withdrawn)(&mut withdrawn);
            hear(self.holder, change(held));
            if !self.is_last {
                hear("n4", change(record("b", "n4", false)));
            }
            registry.merge(&Arc::new(withdrawn), &life(self.teller), NOW, &mut Outbox::new());
            registry
        }

        /// The cause that stands there then, and what is seen of it, if it is listed.
        fn stands(&self) -> (Cause, Option<Seen>) {
            let registry = self.play();
            let known = registry.record(&record("a", "n3", true).key).unwrap();
            let seen = if let Body::Live { seen, .. } = &known.body { Some(*seen) } else { None };
            assert_eq!(registry.holds_lease(&known.key), seen.is_some());
            (known.cause, seen)
        }
    }

    #[test]
    fn the_last_of_a_service_that_another_side_took_away_stays_until_whoever_holds_it_has_its_say() {
        assert_eq!(APART.stands(), (Cause::Preserved, Some(Seen::Suspect)));
        let was_down = Apart {
            held: |record| {
                if let Body::Live { seen, .. } = &mut record.body {
                    *seen = Seen::Down;
                }
            },
            ..APART
        };
        assert_eq!(was_down.stands(), (Cause::Preserved, Some(Seen::Down)));
        for apart in [
            Apart { holder: "n9", ..APART },
            Apart { teller: "n2", ..APART },
            Apart { is_last: false, ..APART },
            Apart { knows: true, ..APART },
            Apart { withdrawn: |record| record.version.incarnation = Incarnation::FIRST.next(), ..APART },
        ] {
            assert_eq!(apart.stands(), (Cause::Expired, None));
        }
        let later = Apart { withdrawn: |record| record.version.edition = 1, ..APART };
        assert_eq!(
            later.stands(),
            (Cause::Preserved, Some(Seen::Suspect)),
            "what fell silent there was registered later, in the same life"
        );
        let replaced = Apart { withdrawn: |record| record.cause = Cause::AddressReused, ..APART };
        assert_eq!(replaced.stands(), (Cause::AddressReused, None), "who answers there is another");
    }

    #[test]
    fn of_two_that_keep_it_the_one_that_gives_way_has_heard_nothing_to_pass_on() {
        let mut registry = APART.play();
        let of_other = Record { version: Version { generation: 2, ..record("a", "n4", false).version }, ..record("a", "n4", false) };
        let change = Message::Change(Change { first: 1, last: 1, wants_ack: false, records: vec![Arc::new(of_other)] });
        let mut out = Outbox::new();
        for message in [Message::Beacon(Beacon::of(NodeState::Ready)), change] {
            registry.handle(Input::Received(Envelope { from: life("n4"), message }), NOW, &mut out);
        }
        let ended = out.iter().find_map(|output| match output {
            Output::AskLease { key, purpose: Purpose::Ended } => Some(key.clone()),
            _ => None,
        });
        let answer = Input::Lease { key: ended.unwrap(), last_heartbeat: None, purpose: Purpose::Ended };
        let mut out = Outbox::new();
        registry.handle(answer, NOW, &mut out);
        registry.advance(Now { mono: NOW.mono + 300, wall: 0 }, &mut out);
        assert!(!out.iter().any(|output| matches!(output, Output::Send(_, Message::Relay { .. }))));
    }

    fn tally(held: u64, silent: u64) -> Tally {
        Tally { held, silent }
    }

    #[test]
    fn it_takes_three_and_more_than_the_share_and_one_more_that_falls_silent() {
        let begins = |held, silent| Group::default().look(tally(held, silent), 15, HOUR, true, 0) == Turn::Begins;
        assert!(!begins(2, 2) && !begins(20, 3) && begins(19, 3) && begins(3, 3));
        let shrunk = Group::default().look(tally(3, 3), 15, HOUR, false, 0);
        assert_eq!(shrunk, Turn::Stays, "the others of twenty have left");
    }

    #[test]
    fn of_few_it_ends_as_well() {
        for (held, silent) in [(3, 2), (3, 1), (5, 1), (9, 1), (1, 1), (25, 3), (0, 0)] {
            let mut group = Group::default();
            group.look(tally(5, 5), 15, HOUR, true, 0);
            assert_eq!(group.look(tally(held, silent), 15, HOUR, false, 1), Turn::Stays);
            assert_eq!(group.look(tally(held, silent), 15, HOUR, false, 1 + CALM_MS), Turn::Ends, "{silent} of {held}");
        }
    }

    #[test]
    fn it_ends_when_all_has_been_well_for_two_windows() {
        let mut group = Group::default();
        group.look(tally(10, 5), 15, HOUR, true, 0);
        assert_eq!(group.look(tally(10, 1), 15, HOUR, false, 1000), Turn::Stays);
        assert_eq!(group.look(tally(10, 3), 15, HOUR, true, 30_999), Turn::Stays);
        assert_eq!(group.look(tally(10, 1), 15, HOUR, false, 31_000), Turn::Stays);
        assert_eq!(group.look(tally(10, 1), 15, HOUR, false, 61_000), Turn::Ends);
        assert!(group.is_idle());
    }

    #[test]
    fn it_ends_at_its_longest_and_does_not_begin_again_until_all_was_well() {
        let mut group = Group::default();
        group.look(tally(10, 9), 15, HOUR, true, 0);
        assert_eq!(group.look(tally(10, 9), 15, HOUR, true, HOUR), Turn::Ends);
        assert_eq!(group.look(tally(10, 8), 15, HOUR, true, HOUR + 1), Turn::Stays);
        assert_eq!(group.look(tally(10, 0), 15, HOUR, true, HOUR + 2), Turn::Stays);
        assert_eq!(group.look(tally(10, 3), 15, HOUR, true, HOUR + 3), Turn::Begins);
    }

    #[test]
    fn each_service_has_its_turn_however_many_there_are() {
        let services: Vec<ServiceKey> = ["a", "b", "c", "d", "e"]
            .map(|name| ServiceKey { namespace: Namespace::default(), service: ServiceName::parse(name).unwrap() })
            .into();
        let mut preserve = Preserve::default();
        let preserved = Group { since: Some(0), ..Group::default() };
        for service in &services {
            preserve.put(service, preserved);
        }
        assert_eq!((preserve.next(2), preserve.next(2)), (services[..2].to_vec(), services[2..4].to_vec()));
        // What goes meanwhile does not hold it up.
        preserve.put(&services[3], Group::default());
        assert_eq!((preserve.next(2), preserve.next(2)), (services[4..].to_vec(), services[..2].to_vec()));
        preserve.put(&services[0], Group { is_spent: true, ..Group::default() });
        assert_eq!((preserve.count, preserve.services.len()), (3, 4));
    }
}
