//! Laws: what holds of names, versions, records and digests whatever they are.

#![expect(clippy::unwrap_used, reason = "the values are known to be good, and where one is not the test is to fail")]

use std::collections::BTreeMap;
use std::sync::Arc;

use muster::model::{
    Address, Cause, Cluster, Epoch, Imposed, Incarnation, InstanceId, InstanceKey, Life, Namespace, NodeName, Override, OverrideDraft,
    OverrideKey, OverrideName, Port, Region, Registration, RegistrationDraft, Selection, ServiceKey, ServiceName, Ttl, Version, Zone,
};
use muster::registry::{Body, Change, Entry, Envelope, Input, Message, Now, Outbox, Record, Registry, Seen, Settings, Stamp, Willed};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;

const NOW: Now = Now { mono: 86_400_000, wall: 0 };

/// What a life writes, but for its place in the log.
type Written = (u8, u64, u64, u64, u8);

fn writer(number: usize) -> Life {
    Life { node: NodeName::parse(&format!("w{number}")).unwrap(), epoch: Epoch(number as u64) }
}

fn key(number: u8) -> InstanceKey {
    let service = ServiceName::parse(["a", "b"][usize::from(number % 2)]).unwrap();
    InstanceKey { service: ServiceKey { namespace: Namespace::default(), service }, id: InstanceId::parse(&format!("i{number}")).unwrap() }
}

/// A record as a writer writes it at a place in its log; the version decides the body.
fn record(owner: &Life, seq: u64, written: Written) -> Arc<Record> {
    let (number, incarnation, edition, generation, kind) = written;
    let (deregistered, live) = [(false, true), (false, false), (true, false)][usize::from(kind % 3)];
    let incarnation = Incarnation::new(incarnation + 1).unwrap();
    let version = Version { incarnation, edition, deregistered, generation, live, owner: owner.clone(), seq };
    let port = Port::new((owner.epoch.0 * 1000 + seq) as u16 + 1).unwrap();
    let draft = RegistrationDraft::new(Address::parse("10.0.0.1").unwrap(), port, Ttl::from_ms(5000).unwrap());
    let registration = Arc::new(Registration::new(draft).unwrap());
    let body = if live {
        Body::Live { registration, seen: [Seen::Well, Seen::Suspect, Seen::Down][usize::from(kind / 3)], draining: false }
    } else {
        Body::Withdrawn { kept: (!deregistered).then_some(registration), named: false, of_unknown: false, draining: false }
    };
    Arc::new(Record {
        key: key(number),
        version,
        body,
        cause: Cause::Registered,
        changed_at: 0,
        actor: None,
        detail: None,
        last_heartbeat_ms: None,
        first_content: None,
    })
}

/// The logs of three lives.
fn logs() -> impl Strategy<Value = Vec<Arc<Record>>> {
    let written = (0..6_u8, 0..3_u64, 0..3_u64, 0..4_u64, 0..9_u8);
    vec(vec(written, 0..12), 3).prop_map(|logs| {
        let of = |(number, log): (usize, Vec<Written>)| {
            let owner = writer(number);
            log.into_iter().enumerate().map(|(index, written)| record(&owner, index as u64 + 1, written)).collect::<Vec<_>>()
        };
        logs.into_iter().enumerate().flat_map(of).collect()
    })
}

fn observer(name: &str) -> Registry {
    Registry::new(Settings::new(NodeName::parse(name).unwrap(), Epoch(99)), 1, NOW)
}

fn hear(registry: &mut Registry, record: &Arc<Record>, out: &mut Outbox) {
    let seq = record.version.seq;
    let change = Change { first: seq, last: seq, wants_ack: false, records: vec![Arc::clone(record)] };
    registry.handle(Input::Received(Envelope { from: record.version.owner.clone(), message: Message::Change(change) }), NOW, out);
}

fn heard<'a>(name: &str, records: impl IntoIterator<Item = &'a Arc<Record>>) -> Registry {
    let mut registry = observer(name);
    for record in records {
        hear(&mut registry, record, &mut Outbox::new());
    }
    registry
}

fn contents(registry: &Registry) -> Vec<Arc<Record>> {
    registry.records().cloned().collect()
}

fn live(registry: &Registry) -> Vec<Arc<Record>> {
    registry.records().filter(|record| record.registration().is_some()).cloned().collect()
}

fn revisions(registry: &Registry) -> BTreeMap<ServiceKey, u128> {
    registry.catalog().services().iter().map(|(service, view)| (service.clone(), view.revision())).collect()
}

/// What operators write at three nodes: each writer's counters grow, and those of different writers tie.
fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let written = (0..3_usize, 0..4_u8, 0..8_u8, proptest::option::of(1..1_000_000_u64));
    vec(written, 0..16).prop_map(|written| {
        let of = |(index, (writer_number, number, kind, expires_in_ms)): (usize, (usize, u8, u8, Option<u64>))| {
            let name = OverrideName::parse(&format!("o{number}")).unwrap();
            let willed = match will(kind, index as u16) {
                Some(value) => Willed::Set { value, expires_in_ms },
                None => Willed::Deleted { forget_in_ms: 1 + expires_in_ms.unwrap_or(0) },
            };
            let stamp = Stamp { counter: index as u64 / 3 + 1, by: Life { epoch: Epoch(index as u64), ..writer(writer_number) } };
            Entry { key: OverrideKey { namespace: Namespace::default(), name }, stamp, willed }
        };
        written.into_iter().enumerate().map(of).collect()
    })
}

/// About everything, a service, a selection or an instance; `None`: about nothing any more.
fn will(kind: u8, weight: u16) -> Option<Arc<Override>> {
    let service = || ServiceName::parse("a").ok();
    let mut draft = OverrideDraft { reason: "r".to_owned(), weight: Some(weight), ..OverrideDraft::default() };
    match kind {
        0 | 1 => return None,
        2 => draft.status = Some(Imposed::Draining),
        3 => (draft.service, draft.status) = (service(), Some(Imposed::Up)),
        4 => draft.metadata = [("weight".to_owned(), weight.to_string())].into(),
        5 => draft.select = Selection::parse([("status", "suspect")]).ok(),
        _ => (draft.service, draft.id) = (service(), InstanceId::parse("i2").ok()),
    }
    Some(Arc::new(Override::new(draft).unwrap()))
}

fn hear_overrides(registry: &mut Registry, entries: Vec<Entry>) {
    registry.handle(Input::Received(Envelope { from: writer(0), message: Message::Overrides(entries) }), NOW, &mut Outbox::new());
}

/// The overrides that hold.
fn hold(registry: &Registry) -> Vec<(OverrideKey, Stamp, Arc<Override>)> {
    let set = |entry: Entry| match entry.willed {
        Willed::Set { value, .. } => Some((entry.key, entry.stamp, value)),
        Willed::Deleted { .. } => None,
    };
    registry.shared_entries(NOW).into_iter().filter_map(set).collect()
}

proptest! {
    #[test]
    fn overrides_are_the_same_in_whatever_order_they_and_the_records_come(
        (records, entries, order, again) in (logs(), entries()).prop_flat_map(|(records, entries)| {
            let order = Just(entries.clone()).prop_shuffle();
            let again = subsequence(entries.clone(), 0..=entries.len()).prop_shuffle();
            (Just(records), Just(entries), order, again)
        })
    ) {
        let mut one = heard("x", &records);
        hear_overrides(&mut one, entries);
        let mut other = observer("y");
        again.iter().chain(&order).for_each(|entry| hear_overrides(&mut other, vec![entry.clone()]));
        for record in &records {
            hear(&mut other, record, &mut Outbox::new());
        }
        hear_overrides(&mut other, again);
        prop_assert_eq!(one.shared_entries(NOW), other.shared_entries(NOW));
        prop_assert_eq!(one.overrides_digest(), other.overrides_digest());
        prop_assert_eq!(one.catalog().view_digest(), other.catalog().view_digest());
        prop_assert_eq!(revisions(&one), revisions(&other));
    }

    #[test]
    fn digests_of_overrides_are_equal_exactly_when_the_same_ones_hold(
        (one, other) in entries().prop_flat_map(|entries| {
            let some = subsequence(entries.clone(), 0..=entries.len());
            (some.clone(), some)
        })
    ) {
        let [one, other] = [one, other].map(|entries| {
            let mut registry = observer("x");
            hear_overrides(&mut registry, entries);
            registry
        });
        prop_assert_eq!(one.overrides_digest() == other.overrides_digest(), hold(&one) == hold(&other));
        prop_assert_eq!(one.overrides_digest() == 0, hold(&one).is_empty());
    }

    #[test]
    fn what_was_overridden_is_as_before_once_nothing_is(records in logs(), entries in entries()) {
        let plain = heard("x", &records);
        let mut registry = heard("y", &records);
        hear_overrides(&mut registry, entries.clone());
        let by = |entry: &Entry| Entry {
            stamp: Stamp { counter: 1000, by: writer(1) },
            willed: Willed::Deleted { forget_in_ms: 1000 },
            ..entry.clone()
        };
        hear_overrides(&mut registry, entries.iter().map(by).collect());
        prop_assert_eq!(registry.overrides_digest(), 0);
        prop_assert_eq!(registry.catalog().view_digest(), plain.catalog().view_digest());
        prop_assert_eq!(revisions(&registry), revisions(&plain));
    }
}

proptest! {
    #[test]
    fn neither_order_nor_repetition_nor_the_node_matters(
        (records, order, again) in logs().prop_flat_map(|records| {
            let order = Just(records.clone()).prop_shuffle();
            let again = subsequence(records.clone(), 0..=records.len()).prop_shuffle();
            (Just(records), order, again)
        })
    ) {
        let one = heard("x", &records);
        // Some come first, and again; then all, in another order.
        let other = heard("y", again.iter().chain(&order).chain(&again));
        prop_assert_eq!(contents(&one), contents(&other));
        prop_assert_eq!(one.digest(), other.digest());
        prop_assert_eq!(one.record_count(), other.record_count());
        prop_assert_eq!(one.catalog().view_digest(), other.catalog().view_digest());
        prop_assert_eq!(revisions(&one), revisions(&other));
    }

    #[test]
    fn the_greatest_version_of_each_instance_is_held(records in logs()) {
        let mut greatest: BTreeMap<InstanceKey, Arc<Record>> = BTreeMap::new();
        for record in &records {
            let held = greatest.entry(record.key.clone()).or_insert_with(|| Arc::clone(record));
            if held.version < record.version {
                *held = Arc::clone(record);
            }
        }
        let registry = heard("x", &records);
        let held: BTreeMap<InstanceKey, Arc<Record>> = registry.records().map(|record| (record.key.clone(), Arc::clone(record))).collect();
        prop_assert_eq!(held, greatest);
    }

    #[test]
    fn digests_are_equal_exactly_when_the_live_records_are(
        (one, other) in logs().prop_flat_map(|records| {
            let some = subsequence(records.clone(), 0..=records.len());
            (some.clone(), some)
        })
    ) {
        let (one, other) = (heard("x", &one), heard("y", &other));
        prop_assert_eq!(one.digest() == other.digest(), live(&one) == live(&other));
        let listed = |registry: &Registry| live(registry).iter().map(|record| (record.key.clone(), record.to_listed().map(|listed| (listed.status, listed.registration)))).collect::<Vec<_>>();
        prop_assert_eq!(one.catalog().view_digest() == other.catalog().view_digest(), listed(&one) == listed(&other));
    }

    #[test]
    fn no_number_goes_back(records in logs().prop_shuffle()) {
        let mut registry = observer("x");
        let mut known: BTreeMap<InstanceKey, (u64, u64, bool, u64)> = BTreeMap::new();
        for record in &records {
            hear(&mut registry, record, &mut Outbox::new());
            for held in registry.records() {
                let version = &held.version;
                let numbers = (version.incarnation.get(), version.edition, version.deregistered, version.generation);
                let before = known.insert(held.key.clone(), numbers);
                prop_assert!(before.is_none_or(|before| before <= numbers));
            }
            prop_assert!(known.keys().all(|key| registry.record(key).is_some()));
        }
    }

    #[test]
    fn versions_are_ordered_totally(records in logs()) {
        for one in &records {
            for other in &records {
                let (a, b) = (&one.version, &other.version);
                prop_assert_eq!(a.cmp(b), b.cmp(a).reverse());
                prop_assert_eq!(a == b, (&a.owner, a.seq) == (&b.owner, b.seq));
                for third in &records {
                    prop_assert!(!(a < b && *b < third.version) || *a < third.version);
                }
            }
        }
    }

    #[test]
    fn a_name_that_is_printed_is_read_again(text in "[A-Za-z0-9._:@/*> \\n-]{0,140}") {
        macro_rules! holds {
            ($($name:ty),*) => {$(
                if let Ok(name) = <$name>::parse(&text) {
                    prop_assert_eq!(name.as_str(), text.as_str());
                    prop_assert_eq!(<$name>::parse(&name.to_string()).unwrap(), name);
                }
            )*};
        }
        holds!(Cluster, Namespace, NodeName, Region, Zone, ServiceName, InstanceId);
    }

    #[test]
    fn a_name_is_read_as_it_is(text in "[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?") {
        prop_assert_eq!(NodeName::parse(&text).unwrap().to_string(), text.clone());
        prop_assert_eq!(ServiceName::parse(&text).unwrap().to_string(), text.clone());
        prop_assert_eq!(InstanceId::parse(&text).unwrap().to_string(), text);
    }
}
