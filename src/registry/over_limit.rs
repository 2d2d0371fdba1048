//! Over limit: what peers send is held to this node's own limits, at twice their values, because nodes count before they learn of each
//! other's writes. What is past that is quarantined: not taken, counted, and an operator is told, not once for each record.
//!
//! Digests then differ for as long as that lasts, and every comparison finds the same again: what would be refused is not fetched, and
//! comparisons wait. What has gone meanwhile makes room, and the next comparison brings what was left out.

use std::collections::BTreeMap;

use super::io::Output;
use super::notice::Notice;
use super::record::Record;
use super::shared::{Entry, Willed};
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::{InstanceKey, Life};

/// How many times a limit peers may fill.
const PEERS_FACTOR: u64 = 2;
/// While records are refused an operator is told this often.
const ALARM_EVERY_MS: u64 = 60_000;
/// Something was refused so lately that the next comparison would bring it again.
const REFUSING_MS: u64 = 30_000;

/// A limit, as the configuration names it, and twice its value.
pub(super) type Limit = (&'static str, u64);

/// What was refused, by limit: there are only a few.
#[derive(Default)]
pub(super) struct OverLimit {
    refused: BTreeMap<&'static str, Refused>,
}

/// A limit that peers have filled at twice its value: what they send past that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReachedLimit {
    /// As the configuration names it.
    pub limit: &'static str,
    /// Twice its value.
    pub max: u64,
}

struct Refused {
    max: u64,
    /// Who sent the last one.
    from: Life,
    last_at: Mono,
    /// Since it was last reported.
    count: u64,
    alarmed_at: Option<Mono>,
}

impl OverLimit {
    pub(super) fn refuse(&mut self, (limit, max): Limit, from: &Life, now: Mono) {
        let refused =
            self.refused.entry(limit).or_insert_with(|| Refused { max, from: from.clone(), last_at: now, count: 0, alarmed_at: None });
        refused.from = from.clone();
        refused.last_at = now;
        refused.count += 1;
    }

    /// Something of this limit was refused lately.
    pub(super) fn is_refusing(&self, limit: &str, now: Mono) -> bool {
        self.refused.get(limit).is_some_and(|refused| refused.last_at + REFUSING_MS > now)
    }

    /// Records were refused lately.
    pub(super) fn is_refusing_records(&self, now: Mono) -> bool {
        self.refused.iter().any(|(limit, refused)| *limit != OVERRIDES && refused.last_at + REFUSING_MS > now)
    }

    /// What is refused now.
    fn refusing(&self, now: Mono) -> Option<ReachedLimit> {
        let lately = self.refused.iter().find(|(_, refused)| refused.last_at + REFUSING_MS > now);
        lately.map(|(limit, refused)| ReachedLimit { limit, max: refused.max })
    }

    /// What was refused since it was last asked.
    fn report(&mut self, now: Mono) -> Vec<Notice> {
        let fresh = self.refused.iter_mut().filter(|(_, refused)| refused.count > 0);
        fresh
            .map(|(limit, refused)| {
                let is_alarm = refused.alarmed_at.is_none_or(|at| at + ALARM_EVERY_MS <= now);
                if is_alarm {
                    refused.alarmed_at = Some(now);
                }
                let count = std::mem::take(&mut refused.count);
                Notice::OverLimit { from: refused.from.clone(), limit, max: refused.max, count, is_alarm }
            })
            .collect()
    }
}

/// The limit of overrides.
pub(super) const OVERRIDES: &str = "limits.overrides";

impl Registry {
    /// The limit that one more live record under this key breaks; `None`: none, or there is one already.
    pub(super) fn growth_limit(&self, key: &InstanceKey) -> Option<Limit> {
        if self.store.get(key).is_some_and(|known| known.registration().is_some()) {
            return None;
        }
        let limits = &self.settings.limits;
        let catalog = self.store.catalog();
        let of_service = catalog.view(&key.service).map_or(0, |view| view.instances().len() as u64);
        let held = [
            ("limits.instances", limits.instances, self.store.live_count()),
            ("limits.instances_per_service", limits.instances_per_service, of_service),
            ("limits.services", limits.services, if of_service == 0 { catalog.service_count() as u64 } else { 0 }),
        ];
        let mut of_peers = held.into_iter().map(|(limit, max, count)| (limit, max.saturating_mul(PEERS_FACTOR), count));
        of_peers.find(|(_, max, count)| count >= max).map(|(limit, max, _)| (limit, max))
    }

    /// The limit that a peer's record breaks; `None`: none.
    pub(super) fn limit_broken_by(&self, record: &Record) -> Option<Limit> {
        let registration = record.registration()?;
        let bytes_max = self.settings.limits.record_bytes.saturating_mul(PEERS_FACTOR);
        if registration.size_bytes() as u64 > bytes_max {
            return Some(("limits.record_bytes", bytes_max));
        }
        self.growth_limit(&record.key)
    }

    /// The limit that a peer's override breaks; `None`: none.
    pub(super) fn limit_broken_by_override(&self, entry: &Entry) -> Option<Limit> {
        let max = self.settings.limits.overrides.saturating_mul(PEERS_FACTOR);
        let is_new = matches!(entry.willed, Willed::Set { .. }) && self.shared.get(&entry.key).is_none();
        (is_new && self.shared.len() as u64 >= max).then_some((OVERRIDES, max))
    }

    /// A live record of a peer is not taken: from now on this node does not hold all that others hold.
    pub(super) fn refuse_record(&mut self, limit: Limit, from: &Life, now: Mono) {
        self.over_limit.refuse(limit, from, now);
        if std::mem::take(&mut self.complete) {
            self.next_beacon = now;
        }
    }

    /// The limit at which this node does not take what peers send; `None`: it takes all.
    pub(super) fn reached_limit(&self, now: Mono) -> Option<ReachedLimit> {
        self.over_limit.refusing(now)
    }

    /// Tells of what was refused; to be called every second.
    pub(super) fn report_over_limit(&mut self, now: Now, out: &mut Outbox) {
        out.extend(self.over_limit.report(now.mono).into_iter().map(Output::Noticed));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{
        Address, Cause, Epoch, Imposed, Incarnation, InstanceId, Namespace, NodeName, Override, OverrideDraft, OverrideKey, OverrideName,
        Port, Registration, RegistrationDraft, ServiceKey, ServiceName, Ttl, Version,
    };
    use crate::registry::{Body, Change, Envelope, Input, Limits, Message, Seen, Settings, Stamp};

    const NOW: Now = Now { mono: 1_000_000, wall: 0 };

    fn peer() -> Life {
        Life { node: NodeName::parse("n2").unwrap(), epoch: Epoch(2) }
    }

    fn registry(limits: Limits) -> Registry {
        Registry::new(Settings { limits, ..settings() }, 1, NOW)
    }

    fn settings() -> Settings {
        Settings::new(NodeName::parse("n1").unwrap(), Epoch(1))
    }

    fn record(service: &str, number: u64, live: bool, metadata: usize) -> Arc<Record> {
        let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse(service).unwrap() };
        let draft = RegistrationDraft {
            metadata: (0..metadata).map(|key| (format!("k{key}"), "x".repeat(1000))).collect(),
            ..RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(80).unwrap(), Ttl::from_ms(15_000).unwrap())
        };
        let registration = Arc::new(Registration::new(draft).unwrap());
        let live_body = Body::Live { registration, seen: Seen::Well, draining: false };
        let edition = u64::from(!live);
        let version =
            Version { incarnation: Incarnation::FIRST, edition, deregistered: !live, generation: 0, live, owner: peer(), seq: number };
        Arc::new(Record {
            key: InstanceKey { service, id: InstanceId::parse(&format!("i{number}")).unwrap() },
            version,
            body: if live { live_body } else { Body::Withdrawn { kept: None, named: false, of_unknown: false, draining: false } },
            cause: if live { Cause::Registered } else { Cause::Deregistered },
            changed_at: 0,
            actor: None,
            detail: None,
            last_heartbeat_ms: None,
            first_content: None,
        })
    }

    fn send(registry: &mut Registry, message: Message, out: &mut Outbox) {
        registry.handle(Input::Received(Envelope { from: peer(), message }), NOW, out);
    }

    fn change(records: impl Iterator<Item = Arc<Record>>) -> Message {
        let records: Vec<_> = records.collect();
        let seqs = || records.iter().map(|record| record.version.seq);
        Message::Change(Change { first: seqs().min().unwrap(), last: seqs().max().unwrap(), wants_ack: false, records })
    }

    /// What was told of refusals: the limit, how many, and whether it was an alarm.
    fn told(registry: &mut Registry, out: &mut Outbox, at: Mono) -> Vec<(&'static str, u64, bool)> {
        registry.report_over_limit(Now { mono: at, wall: 0 }, out);
        let over = |output| match output {
            Output::Noticed(Notice::OverLimit { limit, count, is_alarm, .. }) => Some((limit, count, is_alarm)),
            _ => None,
        };
        std::mem::take(out).into_iter().filter_map(over).collect()
    }

    #[test]
    fn a_node_that_does_not_take_all_does_not_say_that_it_knows_all() {
        let settings = Settings { limits: Limits { instances: 1, ..Limits::default() }, has_bus: false, expect_empty: true, ..settings() };
        let mut registry = Registry::new(settings, 1, NOW);
        registry.advance(NOW, &mut Outbox::new());
        assert!(registry.complete() && registry.picture(NOW).unwrap().knows_enough());
        send(&mut registry, change((1..=2).map(|number| record("user", number, true, 0))), &mut Outbox::new());
        assert_eq!((registry.complete(), registry.cluster(NOW).over_limit), (true, None));
        send(&mut registry, change([record("user", 3, true, 0)].into_iter()), &mut Outbox::new());
        let view = registry.cluster(NOW);
        assert_eq!((view.complete, view.over_limit), (false, Some(ReachedLimit { limit: "limits.instances", max: 2 })));
        assert!(!registry.picture(NOW).unwrap().knows_enough(), "its file is not all there was");
        for ms in (50..REFUSING_MS).step_by(50) {
            registry.advance(Now { mono: NOW.mono + ms, wall: 0 }, &mut Outbox::new());
            assert!(!registry.complete(), "after {ms} ms");
        }
        let later = Now { mono: NOW.mono + REFUSING_MS + 50, wall: 0 };
        registry.advance(later, &mut Outbox::new());
        assert_eq!((registry.complete(), registry.cluster(later).over_limit), (true, None));
    }

    #[test]
    fn peers_fill_twice_a_limit_and_no_more_and_an_operator_is_told_once_a_minute() {
        let mut registry = registry(Limits { instances: 1000, ..Limits::default() });
        let mut out = Outbox::new();
        send(&mut registry, change((1..=60_000).map(|number| record("user", number, true, 0))), &mut out);
        assert_eq!(registry.record_count(), 2000);
        assert_eq!(told(&mut registry, &mut out, NOW.mono), [("limits.instances", 58_000, true)]);
        send(&mut registry, change((60_001..=60_010).map(|number| record("user", number, true, 0))), &mut out);
        assert_eq!(told(&mut registry, &mut out, NOW.mono + 1000), [("limits.instances", 10, false)]);
        assert_eq!(told(&mut registry, &mut out, NOW.mono + 2000), []);
        send(&mut registry, change([record("user", 60_011, true, 0)].into_iter()), &mut out);
        assert_eq!(told(&mut registry, &mut out, NOW.mono + ALARM_EVERY_MS), [("limits.instances", 1, true)]);
    }

    #[test]
    fn what_goes_makes_room_and_what_is_known_can_change() {
        let mut registry = registry(Limits { instances: 2, ..Limits::default() });
        let mut out = Outbox::new();
        send(&mut registry, change((1..=5).map(|number| record("user", number, true, 0))), &mut out);
        assert_eq!(registry.record_count(), 4);
        let mut gone = Record::clone(&record("user", 1, false, 0));
        gone.version.seq = 6;
        send(&mut registry, change([Arc::new(gone)].into_iter()), &mut out);
        assert_eq!((registry.record_count(), registry.withdrawn_count()), (3, 1));
        let missing = record("user", 5, true, 0);
        assert!(registry.growth_limit(&missing.key).is_none());
        assert!(registry.merge(&missing, &peer(), NOW, &mut out), "the next comparison brings it");
        let mut changed = Record::clone(&record("user", 2, true, 1));
        changed.version.edition = 1;
        changed.version.seq = 7;
        send(&mut registry, change([Arc::new(changed)].into_iter()), &mut out);
        let held = registry.record(&record("user", 2, true, 0).key).unwrap();
        assert_eq!((held.version.edition, registry.record_count()), (1, 4));
    }

    #[test]
    fn each_limit_holds_for_itself() {
        let per_service = Limits { instances_per_service: 3, ..Limits::default() };
        let services = Limits { services: 3, ..Limits::default() };
        let bytes = Limits { record_bytes: 1024, ..Limits::default() };
        let of_one = |number| record("user", number, true, 0);
        let of_each = |number: u64| record(&format!("s{number}"), number, true, 0);
        let growing = |number: u64| record("user", number, true, number as usize - 1);
        for (limits, make, key, taken) in [
            (per_service, &of_one as &dyn Fn(u64) -> Arc<Record>, "limits.instances_per_service", 6),
            (services, &of_each, "limits.services", 6),
            (bytes, &growing, "limits.record_bytes", 3),
        ] {
            let mut registry = registry(limits);
            let mut out = Outbox::new();
            send(&mut registry, change((1..=10).map(make)), &mut out);
            assert_eq!(registry.record_count(), taken, "{key}");
            assert_eq!(told(&mut registry, &mut out, NOW.mono), [(key, 10 - taken, true)]);
        }
    }

    #[test]
    fn overrides_are_bound_likewise() {
        let mut registry = registry(Limits { overrides: 10, ..Limits::default() });
        let draft = OverrideDraft { status: Some(Imposed::Down), reason: "x".to_owned(), ..OverrideDraft::default() };
        let value = Arc::new(Override::new(draft).unwrap());
        let entry = |number: u64| Entry {
            key: OverrideKey { namespace: Namespace::default(), name: OverrideName::parse(&format!("o{number}")).unwrap() },
            stamp: Stamp { counter: number, by: peer() },
            willed: Willed::Set { value: Arc::clone(&value), expires_in_ms: None },
        };
        let mut out = Outbox::new();
        send(&mut registry, Message::Overrides((1..=100).map(entry).collect()), &mut out);
        assert_eq!(registry.shared.len(), 20);
        assert_eq!(told(&mut registry, &mut out, NOW.mono), [("limits.overrides", 80, true)]);
        let replaced = Entry { stamp: Stamp { counter: 101, by: peer() }, ..entry(7) };
        send(&mut registry, Message::Overrides(vec![replaced.clone()]), &mut out);
        assert_eq!(registry.shared.to_entry(&replaced.key, NOW.mono).map(|entry| entry.stamp), Some(replaced.stamp));
    }
}
