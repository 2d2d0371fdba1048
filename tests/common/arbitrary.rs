//! Strategies for every valid value that nodes say to each other; shared by the tests of frames and of laws.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster::model::{
    Address, Cause, Check, CheckKind, EXPIRES_IN_MS_MAX, Epoch, INCARNATION_MAX, Imposed, Incarnation, InstanceId, InstanceKey, Life,
    Namespace, NodeName, Override, OverrideDraft, OverrideKey, OverrideName, Port, Region, Registration, RegistrationDraft, Reported,
    Selection, ServiceKey, ServiceName, Subscriber, Ttl, Version, Zone,
};
use muster::registry::{
    AppliedAt, AudienceAt, AudiencePage, Beacon, Body, Change, DeliveryReport, Entry, Evidence, Have, Interest, LeaseTold, MemberAt,
    Message, NodeState, ProbeOutcome, Record, Renewal, Seen, Stamp, Verdict, Want, Watcher, Willed,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

const LABEL: &str = "[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?";
const SERVICE: &str = "[A-Za-z0-9]([A-Za-z0-9._:@-]{0,126}[A-Za-z0-9])?";
const INSTANCE: &str = "[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}";
const WORD: &str = "[^\\p{C}\\p{Z},]{1,16}";

/// Any node's name.
pub(crate) fn node() -> impl Strategy<Value = NodeName> {
    LABEL.prop_map(|text| NodeName::parse(&text).unwrap())
}

/// Any life of any node.
pub(crate) fn life() -> impl Strategy<Value = Life> {
    (node(), any::<u64>()).prop_map(|(node, epoch)| Life { node, epoch: Epoch(epoch) })
}

/// Any instance's full name.
pub(crate) fn key() -> impl Strategy<Value = InstanceKey> {
    (LABEL, SERVICE, INSTANCE).prop_map(|(namespace, service, id)| InstanceKey {
        service: ServiceKey { namespace: Namespace::parse(&namespace).unwrap(), service: ServiceName::parse(&service).unwrap() },
        id: InstanceId::parse(&id).unwrap(),
    })
}

/// Any life of an instance.
pub(crate) fn incarnation() -> impl Strategy<Value = Incarnation> {
    (1..=INCARNATION_MAX).prop_map(|number| Incarnation::new(number).unwrap())
}

/// Any number that somebody counts on from.
fn count() -> impl Strategy<Value = u64> {
    0..=INCARNATION_MAX
}

/// Any version; whether it is live is for the record to say.
pub(crate) fn version(live: bool) -> impl Strategy<Value = Version> {
    (incarnation(), count(), count(), life(), count(), any::<bool>()).prop_map(
        move |(incarnation, edition, generation, owner, seq, deregistered)| Version {
            incarnation,
            edition,
            deregistered: deregistered && !live,
            generation,
            live,
            owner,
            seq,
        },
    )
}

fn address() -> impl Strategy<Value = Address> {
    // Spelled in any way: a record keeps its spelling.
    prop_oneof![
        any::<std::net::IpAddr>().prop_map(|ip| ip.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|ip| ip.segments().map(|part| format!("{part:04X}")).join(":")),
        "[a-zA-Z][a-z0-9]{0,8}(\\.[a-z][a-z0-9]{0,8}){0,3}\\.?",
    ]
    .prop_map(|text| Address::parse_recorded(&text).unwrap())
}

fn port() -> impl Strategy<Value = Port> {
    any::<Port>()
}

fn check() -> impl Strategy<Value = Check> {
    let other = || proptest::option::of(port());
    let kind = prop_oneof![
        ("/[a-z/]{0,30}", other()).prop_map(|(path, port)| CheckKind::Http { path, port }),
        other().prop_map(|port| CheckKind::Tcp { port }),
        other().prop_map(|port| CheckKind::Grpc { port }),
        Just(CheckKind::None),
    ];
    (kind, 100..=3_600_000_u32, 10..=60_000_u32, 1..=100_u16, 1..=100_u16)
        .prop_map(|(kind, interval_ms, timeout_ms, failures, successes)| Check { kind, interval_ms, timeout_ms, failures, successes })
}

/// Any valid registration. Boxed: whatever is made of several of them would not fit a test's stack.
pub(crate) fn registration() -> BoxedStrategy<Arc<Registration>> {
    let listens = (address(), port(), btree_map(WORD, port(), 0..4));
    let place = (proptest::option::of(LABEL), proptest::option::of(LABEL));
    let words = (btree_set(WORD, 0..4), btree_map(WORD, WORD, 0..6));
    let terms = (
        any::<u16>(),
        any::<bool>(),
        proptest::option::weighted(0.8, 1..=3_600_000_u64),
        proptest::option::of(check()),
        proptest::option::of(0..=86_400_000_u32),
    );
    (listens, place, words, terms).prop_map(registration_of).boxed()
}

type Listens = (Address, Port, BTreeMap<String, Port>);
type Place = (Option<String>, Option<String>);
type Words = (BTreeSet<String>, BTreeMap<String, String>);
type Terms = (u16, bool, Option<u64>, Option<Check>, Option<u32>);

fn registration_of((listens, place, words, terms): (Listens, Place, Words, Terms)) -> Arc<Registration> {
    let (address, port, ports) = listens;
    let (tags, metadata) = words;
    let (weight, up, ttl_ms, check, evict_after_ms) = terms;
    let draft = RegistrationDraft {
        ports,
        weight,
        region: place.0.map(|text| Region::parse(&text).unwrap()),
        zone: place.1.map(|text| Zone::parse(&text).unwrap()),
        tags,
        metadata,
        reported: if up { Reported::Up } else { Reported::Starting },
        check,
        evict_after_ms,
        ..RegistrationDraft::new(address, port, ttl_ms.map(|ms| Ttl::from_ms(ms).unwrap()))
    };
    Arc::new(Registration::new(draft).unwrap())
}

fn body() -> impl Strategy<Value = Body> {
    let seen = prop_oneof![Just(Seen::Well), Just(Seen::Suspect), Just(Seen::Down)];
    prop_oneof![
        (registration(), seen, any::<bool>()).prop_map(|(registration, seen, draining)| Body::Live { registration, seen, draining }),
        (proptest::option::of(registration()), any::<[bool; 3]>()).prop_map(|(kept, [named, of_unknown, draining])| Body::Withdrawn {
            kept,
            named,
            of_unknown,
            draining,
        }),
    ]
}

fn cause() -> impl Strategy<Value = Cause> {
    // What an operator overrides stays out of records.
    proptest::sample::select(Cause::ALL.into_iter().filter(|cause| *cause != Cause::Overridden).collect::<Vec<_>>())
}

/// Any valid record. Boxed likewise.
pub(crate) fn record() -> BoxedStrategy<Arc<Record>> {
    let note = || proptest::option::of(WORD.prop_map(|text| Arc::from(text.as_str())));
    (key(), body(), cause(), any::<u64>(), note(), note(), any::<(Option<u32>, Option<u128>)>())
        .prop_flat_map(|(key, body, cause, changed_at, actor, detail, (last_heartbeat_ms, first_content))| {
            let live = matches!(body, Body::Live { .. });
            version(live).prop_map(move |version| Record {
                key: key.clone(),
                version,
                body: body.clone(),
                cause,
                changed_at,
                actor: actor.clone(),
                detail: detail.clone(),
                last_heartbeat_ms,
                first_content,
            })
        })
        .prop_map(Arc::new)
        .boxed()
}

/// Any batch of records.
pub(crate) fn change() -> impl Strategy<Value = Change> {
    (1..=INCARNATION_MAX, 1..=INCARNATION_MAX, any::<bool>(), vec(record(), 0..4)).prop_map(|(a, b, wants_ack, records)| Change {
        first: a.min(b),
        last: a.max(b),
        wants_ack,
        records,
    })
}

fn applied() -> impl Strategy<Value = Vec<AppliedAt>> {
    vec((life(), count(), any::<Option<u32>>()).prop_map(|(life, seq, age_ms)| AppliedAt { life, seq, age_ms }), 0..4)
}

fn to_evidence((is_direct, is_attested, refuses, is_lost): (bool, bool, bool, bool)) -> Evidence {
    Evidence { is_direct, is_attested, refuses, is_lost }
}

fn members() -> impl Strategy<Value = Vec<MemberAt>> {
    let evidence = any::<(bool, bool, bool, bool)>().prop_map(to_evidence);
    let member = (node(), any::<u32>(), any::<bool>(), evidence);
    (vec(member, 0..4), any::<bool>()).prop_map(|(members, tells)| {
        let to_member =
            |(node, age_ms, has_left, evidence)| MemberAt { node, age_ms, has_left, evidence: Some(evidence).filter(|_| tells) };
        members.into_iter().map(to_member).collect()
    })
}

/// Any beacon.
pub(crate) fn beacon() -> impl Strategy<Value = Beacon> {
    let state = prop_oneof![Just(NodeState::Warming), Just(NodeState::Ready), Just(NodeState::Leaving)];
    let numbers = (count(), any::<u64>(), any::<u128>(), any::<u128>(), any::<u128>(), any::<u128>());
    (numbers, state, "[a-z0-9.:\\[\\]-]{0,40}", applied(), any::<(bool, bool, bool, bool)>(), members(), any::<(u64, u64)>()).prop_map(
        |(
            (head, records, digest, view_digest, withdrawn_digest, overrides_digest),
            state,
            http,
            applied,
            (complete, preserving, gives_way, takes_sized_pulls),
            members,
            (count, digest_of_audience),
        )| Beacon {
            head,
            records,
            digest,
            view_digest,
            state,
            http,
            applied,
            withdrawn_digest,
            overrides_digest,
            complete,
            preserving,
            gives_way,
            members,
            audience: AudienceAt { count, digest: digest_of_audience },
            stamp: count ^ digest_of_audience,
            settling_ms: (records % 3 == 0).then_some(count as u32),
            takes_sized_pulls,
        },
    )
}

fn subscriber() -> impl Strategy<Value = Subscriber> {
    let name = proptest::option::of(WORD.prop_map(|text| Arc::from(text.as_str())));
    (name, any::<std::net::SocketAddr>(), any::<u64>()).prop_map(|(name, mut address, since)| {
        if let std::net::SocketAddr::V6(address) = &mut address {
            // No part of what is written.
            address.set_flowinfo(0);
            address.set_scope_id(0);
        }
        Subscriber { name, address, since }
    })
}

fn page() -> impl Strategy<Value = AudiencePage> {
    let label = LABEL.prop_map(|text| Namespace::parse(&text).unwrap());
    let prefix = "[a-z-]{0,9}".prop_map(|text| Arc::from(text.as_str()));
    let interest = (label, btree_set(any::<u64>(), 0..4), vec(prefix, 0..3))
        .prop_map(|(namespace, services, prefixes)| Arc::new(Interest { namespace, services: services.into_iter().collect(), prefixes }));
    let watcher = (subscriber(), interest).prop_map(|(subscriber, interest)| Watcher { subscriber, interest });
    (any::<u64>(), vec(watcher, 0..4), any::<bool>()).prop_map(|(digest, watchers, more)| AudiencePage { digest, watchers, more })
}

fn report() -> impl Strategy<Value = DeliveryReport> {
    (any::<u32>(), any::<u32>(), vec(subscriber(), 0..4)).prop_map(|(sent, unnamed, missing)| {
        let missing_count = missing.len() as u64 + u64::from(unnamed);
        DeliveryReport { subscribers: missing_count + u64::from(sent), missing_count, missing }
    })
}

fn want() -> impl Strategy<Value = Want> {
    let after = || proptest::option::of(key());
    prop_oneof![
        any::<u64>().prop_map(|after| Want::Changes { after }),
        Just(Want::Buckets),
        (btree_set(0..4096_u16, 0..9), after())
            .prop_map(|(buckets, after)| Want::Versions { buckets: buckets.into_iter().collect(), after }),
        vec(key(), 0..4).prop_map(|keys| Want::Records { keys }),
        (any::<Option<u64>>(), after()).prop_map(|(copy, after)| Want::Copy { copy, after }),
    ]
}

fn sized_want() -> impl Strategy<Value = Want> {
    prop_oneof![
        want(),
        (0..4096_u16).prop_map(|from| Want::Digests { from }),
        (btree_set(0..4096_u16, 0..9), proptest::option::of(key()))
            .prop_map(|(buckets, after)| Want::Whole { buckets: buckets.into_iter().collect(), after }),
    ]
}

fn have() -> impl Strategy<Value = Have> {
    let buckets = || vec((0..4096_u16, any::<u128>()), 0..9);
    prop_oneof![
        change().prop_map(Have::Changes),
        Just(Have::TooOld),
        (buckets(), buckets(), applied(), any::<bool>()).prop_map(|(live, withdrawn, applied, complete)| Have::Buckets {
            live,
            withdrawn,
            applied,
            complete
        }),
        (vec((key(), version(true)), 0..4), any::<bool>()).prop_map(|(versions, more)| Have::Versions { versions, more }),
        vec(record(), 0..4).prop_map(Have::Records),
        (any::<(u64, bool, u128)>(), vec(record(), 0..4), applied()).prop_map(|((copy, more, checksum), records, applied)| Have::Copy {
            copy,
            records,
            more,
            checksum,
            applied
        }),
        Just(Have::NotNow),
        (buckets(), buckets(), proptest::option::of(0..4096_u16), applied(), any::<bool>())
            .prop_map(|(live, withdrawn, next, applied, complete)| Have::Digests { live, withdrawn, next, applied, complete }),
        (vec(record(), 0..4), proptest::option::of(key())).prop_map(|(records, next)| Have::Whole { records, next }),
        any::<u32>().prop_map(|after_ms| Have::Later { after_ms }),
    ]
}

fn renewal() -> impl Strategy<Value = Renewal> {
    (key(), incarnation(), any::<Option<u128>>(), any::<u32>()).prop_map(|(key, incarnation, digest, age_ms)| Renewal {
        key,
        incarnation,
        digest,
        age_ms,
    })
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![Just(Verdict::Renewed), Just(Verdict::Unknown), Just(Verdict::Differs), record().prop_map(Verdict::Gone)]
}

fn lease() -> impl Strategy<Value = LeaseTold> {
    // The highest bit of the time that is left says whether a connection holds it.
    (0..1_u64 << 63, any::<(Option<u32>, bool)>()).prop_map(|(remaining_ms, (last_heartbeat_ms, attached))| LeaseTold {
        remaining_ms,
        last_heartbeat_ms: last_heartbeat_ms.map(u64::from),
        attached,
    })
}

fn selection() -> impl Strategy<Value = Selection> {
    let pair = prop_oneof![
        LABEL.prop_map(|zone| ("zone".to_owned(), zone)),
        (LABEL, LABEL).prop_map(|(one, other)| ("region".to_owned(), format!("{one},{other}"))),
        (WORD, WORD).prop_map(|(one, other)| ("tag".to_owned(), format!("{one},{other}"))),
        (WORD, proptest::option::of(WORD)).prop_map(|(key, value)| (format!("metadata.{key}"), value.unwrap_or_default())),
        Just(("status".to_owned(), "up,down".to_owned())),
    ];
    vec(pair, 1..5).prop_map(|pairs| Selection::parse(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))).unwrap())
}

/// Any valid override.
pub(crate) fn override_of_anything() -> impl Strategy<Value = Arc<Override>> {
    let about = (proptest::option::of((SERVICE, proptest::option::of(INSTANCE))), proptest::option::of(selection()));
    let status = proptest::option::of(proptest::sample::select(Imposed::ALL.to_vec()));
    let effects = (status, any::<Option<u16>>(), btree_map(WORD, WORD, 0..3), proptest::option::of(0..=86_400_000_u32), any::<bool>());
    (about, effects, (WORD, proptest::option::of(WORD), any::<u64>())).prop_map(
        |((service, select), (status, weight, metadata, evict_after_ms, preserve), (reason, author, created_at))| {
            let (service, id) = service.unzip();
            Arc::new(
                Override::new(OverrideDraft {
                    service: service.map(|text| ServiceName::parse(&text).unwrap()),
                    id: id.flatten().map(|text| InstanceId::parse(&text).unwrap()),
                    select,
                    status,
                    weight,
                    metadata,
                    evict_after_ms,
                    preserve: Some(preserve),
                    reason,
                    author,
                    created_at,
                })
                .unwrap(),
            )
        },
    )
}

fn entry() -> impl Strategy<Value = Entry> {
    let set = (override_of_anything(), proptest::option::of(0..=EXPIRES_IN_MS_MAX));
    let willed = prop_oneof![
        set.prop_map(|(value, expires_in_ms)| Willed::Set { value, expires_in_ms }),
        any::<u64>().prop_map(|forget_in_ms| Willed::Deleted { forget_in_ms }),
    ];
    (LABEL, LABEL, 1..=Stamp::COUNTER_MAX, life(), willed).prop_map(|(namespace, name, counter, by, willed)| Entry {
        key: OverrideKey { namespace: Namespace::parse(&namespace).unwrap(), name: OverrideName::parse(&name).unwrap() },
        stamp: Stamp { counter, by },
        willed,
    })
}

fn outcome() -> impl Strategy<Value = ProbeOutcome> {
    prop_oneof![
        any::<(Option<u16>, u32)>().prop_map(|(code, took_ms)| ProbeOutcome::Passed { code, took_ms }),
        Just(ProbeOutcome::Refused),
        ("[a-zé ]{0,60}", any::<Option<u16>>()).prop_map(|(why, code)| ProbeOutcome::Failed { why: why.into(), code }),
        "[a-z]{0,60}".prop_map(|why| ProbeOutcome::Forbidden { why: why.into() }),
        Just(ProbeOutcome::NotTried),
    ]
}

/// Anything a node may say.
pub(crate) fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        change().prop_map(Message::Change),
        beacon().prop_map(Message::Beacon),
        (any::<u64>(), want()).prop_map(|(ticket, want)| Message::Pull { ticket, want }),
        (any::<(u64, u32)>(), sized_want()).prop_map(|((ticket, bytes_max), want)| Message::PullSized { ticket, bytes_max, want }),
        (any::<u64>(), have()).prop_map(|(ticket, have)| Message::Pulled { ticket, have }),
        (any::<u64>(), vec(renewal(), 0..4)).prop_map(|(ticket, renewals)| Message::Relay { ticket, renewals }),
        (any::<u64>(), vec(verdict(), 0..4)).prop_map(|(ticket, verdicts)| Message::Relayed { ticket, verdicts }),
        any::<(u64, u64)>().prop_map(|(epoch, seq)| Message::Applied { epoch: Epoch(epoch), seq }),
        (any::<u64>(), key()).prop_map(|(ticket, key)| Message::AskLease { ticket, key }),
        (any::<u64>(), proptest::option::of(lease())).prop_map(|(ticket, lease)| Message::ToldLease { ticket, lease }),
        vec(entry(), 0..4).prop_map(Message::Overrides),
        (any::<u64>(), key()).prop_map(|(ticket, key)| Message::AskProbe { ticket, key }),
        (any::<u64>(), outcome()).prop_map(|(ticket, outcome)| Message::ToldProbe { ticket, outcome }),
        any::<(u64, u32)>().prop_map(|(ticket, from)| Message::AskAudience { ticket, from }),
        (any::<u64>(), page()).prop_map(|(ticket, page)| Message::ToldAudience { ticket, page }),
        (any::<u64>(), key(), count(), any::<u64>()).prop_map(|(question, key, seq, within_ms)| Message::AskDelivery {
            question,
            key,
            seq,
            within_ms
        }),
        (any::<u64>(), vec(record(), 0..3), vec((count(), any::<u32>()), 0..3), vec(entry(), 0..3))
            .prop_map(|(ticket, records, heard, overrides)| Message::HandOver { ticket, records, heard, overrides }),
        (any::<u64>(), vec(any::<u64>(), 0..3)).prop_map(|(ticket, held)| Message::TookOver { ticket, held }),
        (any::<u64>(), report()).prop_map(|(question, report)| Message::ToldDelivery { question, report }),
        (any::<u64>(), vec(key(), 0..4)).prop_map(|(ticket, keys)| Message::AskRecords { ticket, keys }),
        (any::<u64>(), 0..4_usize, vec(record(), 0..4)).prop_map(|(ticket, answered, records)| Message::ToldRecords {
            ticket,
            answered,
            records
        }),
    ]
}
