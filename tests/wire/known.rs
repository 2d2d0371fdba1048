//! Known values: one message of each kind, every optional part of it present in one place and absent in another.

use std::sync::Arc;

use muster::model::{
    Address, Cause, Check, CheckKind, Epoch, Imposed, Incarnation, InstanceId, InstanceKey, Life, Namespace, NodeName, Override,
    OverrideDraft, OverrideKey, OverrideName, Port, Region, Registration, RegistrationDraft, Reported, Selection, ServiceKey, ServiceName,
    Subscriber, Ttl, Version, Zone,
};
use muster::registry::{
    AppliedAt, AudienceAt, AudiencePage, Beacon, Body, Change, DeliveryReport, Entry, Evidence, Have, Interest, LeaseTold, MemberAt,
    Message, NodeState, ProbeOutcome, Record, Renewal, Seen, Stamp, Verdict, Want, Watcher, Willed,
};

/// Who says all this.
pub(crate) fn life() -> Life {
    Life { node: NodeName::parse("n1").unwrap(), epoch: Epoch(0x0123_4567_89ab_cdef) }
}

/// Each message with the name of its golden file.
pub(crate) fn messages() -> Vec<(&'static str, Message)> {
    vec![
        ("change", Message::Change(Change { first: 41, last: 43, wants_ack: true, records: vec![full(), silent(), deregistered()] })),
        ("beacon", Message::Beacon(beacon())),
        ("pull_changes", pull(Want::Changes { after: 40 })),
        ("pull_buckets", pull(Want::Buckets)),
        ("pull_versions", pull(Want::Versions { buckets: vec![0, 7, 4095], after: Some(key("web", "w-1")) })),
        ("pull_records", pull(Want::Records { keys: vec![key("web", "w-1"), key("db", "d-1")] })),
        ("pull_copy", pull(Want::Copy { copy: Some(9), after: None })),
        ("pulled_changes", pulled(Have::Changes(Change { first: 41, last: 41, wants_ack: false, records: vec![full()] }))),
        ("pulled_too_old", pulled(Have::TooOld)),
        ("pulled_buckets", pulled(buckets())),
        ("pulled_versions", pulled(Have::Versions { versions: vec![(key("web", "w-1"), full().version.clone())], more: true })),
        ("pulled_records", pulled(Have::Records(vec![silent()]))),
        ("pulled_copy", pulled(Have::Copy { copy: 9, records: vec![full()], more: false, checksum: u128::MAX - 1, applied: applied() })),
        ("pulled_not_now", pulled(Have::NotNow)),
        ("relay", Message::Relay { ticket: 12, renewals: renewals() }),
        ("relayed", Message::Relayed { ticket: 12, verdicts: verdicts() }),
        ("applied", Message::Applied { epoch: Epoch(7), seq: 43 }),
        ("ask_lease", Message::AskLease { ticket: 13, key: key("web", "w-1") }),
        (
            "told_lease",
            Message::ToldLease {
                ticket: 13,
                lease: Some(LeaseTold { remaining_ms: 9000, last_heartbeat_ms: Some(6000), attached: false }),
            },
        ),
        ("told_no_lease", Message::ToldLease { ticket: 14, lease: None }),
        ("later_beacon", Message::Beacon(later_beacon())),
        ("evidence_beacon", Message::Beacon(evidence_beacon())),
        ("later_causes", Message::Change(later_causes())),
        ("fixed_addresses", Message::Change(fixed_addresses())),
        ("overrides", Message::Overrides(overrides())),
        ("health_causes", Message::Change(health_causes())),
        ("ask_probe", Message::AskProbe { ticket: 15, key: key("web", "w-1") }),
        ("told_probe_passed", told_probe(ProbeOutcome::Passed { code: Some(204), took_ms: 7 })),
        ("told_probe_refused", told_probe(ProbeOutcome::Refused)),
        ("told_probe_failed", told_probe(ProbeOutcome::Failed { why: "HTTP 503".into(), code: Some(503) })),
        ("told_probe_forbidden", told_probe(ProbeOutcome::Forbidden { why: "loopback".into() })),
        ("told_probe_not_tried", told_probe(ProbeOutcome::NotTried)),
        (
            "told_attached",
            Message::ToldLease { ticket: 13, lease: Some(LeaseTold { remaining_ms: 9000, last_heartbeat_ms: None, attached: true }) },
        ),
        ("audience_beacon", Message::Beacon(Beacon { audience: AudienceAt { count: 3, digest: 0x0102_0304_0506_0708 }, ..beacon() })),
        ("settling_beacon", Message::Beacon(Beacon { settling_ms: Some(19_500), ..beacon() })),
        ("ask_audience", Message::AskAudience { ticket: 15, from: 1024 }),
        ("told_audience", Message::ToldAudience { ticket: 15, page: audience() }),
        ("ask_delivery", Message::AskDelivery { question: 16, key: key("web", "w-1"), seq: 43, within_ms: 29_500 }),
        ("told_delivery", Message::ToldDelivery { question: 16, report: report() }),
        ("stamped_beacon", Message::Beacon(Beacon { stamp: 0x0001_9012_3456_789a, ..beacon() })),
        ("ask_records", Message::AskRecords { ticket: 17, keys: vec![key("web", "w-1"), key("web", "w-2")] }),
        ("told_records", Message::ToldRecords { ticket: 17, answered: 2, records: vec![of_unknown()] }),
        ("sized_beacon", Message::Beacon(Beacon { takes_sized_pulls: true, ..beacon() })),
        ("pull_sized_digests", pull_sized(Want::Digests { from: 700 })),
        ("pull_sized_whole", pull_sized(Want::Whole { buckets: vec![0, 7, 4095], after: Some(key("web", "w-1")) })),
        ("pull_sized_records", pull_sized(Want::Records { keys: vec![key("web", "w-1")] })),
        ("pulled_digests", pulled(digests())),
        ("pulled_whole", pulled(Have::Whole { records: vec![full(), silent()], next: Some(key("web", "w-1")) })),
        ("pulled_later", pulled(Have::Later { after_ms: 1000 })),
        ("hand_over", hand_over()),
        ("took_over", Message::TookOver { ticket: 18, held: vec![1, u64::MAX] }),
    ]
}

/// Deregistered, and never known.
fn of_unknown() -> Arc<Record> {
    let body = Body::Withdrawn { kept: None, named: false, of_unknown: true, draining: false };
    Arc::new(Record { version: version(48, true, false), body, cause: Cause::Deregistered, ..Record::clone(&silent()) })
}

fn told_probe(outcome: ProbeOutcome) -> Message {
    Message::ToldProbe { ticket: 15, outcome }
}

fn pull(want: Want) -> Message {
    Message::Pull { ticket: 11, want }
}

fn hand_over() -> Message {
    Message::HandOver { ticket: 18, records: vec![full(), deregistered()], heard: vec![(41, 6000)], overrides: overrides() }
}

fn pull_sized(want: Want) -> Message {
    Message::PullSized { ticket: 11, bytes_max: 16_384, want }
}

fn digests() -> Have {
    Have::Digests { live: vec![(700, 1)], withdrawn: vec![(701, 250)], next: Some(1500), applied: applied(), complete: true }
}

fn pulled(have: Have) -> Message {
    Message::Pulled { ticket: 11, have }
}

/// An instance of a service of the default namespace.
pub(crate) fn key(service: &str, id: &str) -> InstanceKey {
    let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse(service).unwrap() };
    InstanceKey { service, id: InstanceId::parse(id).unwrap() }
}

fn version(seq: u64, deregistered: bool, live: bool) -> Version {
    let incarnation = Incarnation::new(1_763_640_000_000).unwrap();
    Version { incarnation, edition: 3, deregistered, generation: 1, live, owner: life(), seq }
}

fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

fn registration() -> Arc<Registration> {
    let draft = RegistrationDraft {
        ports: [("admin".to_owned(), port(9000)), ("grpc".to_owned(), port(9090))].into(),
        weight: 250,
        region: Some(Region::parse("eu").unwrap()),
        zone: Some(Zone::parse("eu-a").unwrap()),
        tags: ["canary".to_owned(), "blau-grün".to_owned()].into(),
        metadata: [("version".to_owned(), "1.4.2".to_owned()), ("empty".to_owned(), String::new())].into(),
        reported: Reported::Starting,
        check: Some(Check {
            kind: CheckKind::Http { path: "/healthz".to_owned(), port: Some(port(8081)) },
            interval_ms: 5000,
            timeout_ms: 800,
            failures: 3,
            successes: 1,
        }),
        evict_after_ms: Some(120_000),
        ..RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), port(8080), Ttl::from_ms(15_000).unwrap())
    };
    Arc::new(Registration::new(draft).unwrap())
}

fn plain() -> Arc<Registration> {
    let address = Address::parse("db-1.example.com").unwrap();
    Arc::new(Registration::new(RegistrationDraft::new(address, port(5432), Ttl::from_ms(3_600_000).unwrap())).unwrap())
}

pub(crate) fn full() -> Arc<Record> {
    Arc::new(Record {
        key: key("web", "w-1"),
        version: version(41, false, true),
        body: Body::Live { registration: registration(), seen: Seen::Suspect, draining: false },
        cause: Cause::Expired,
        changed_at: 1_763_640_000_123,
        actor: Some("ops@example.com".into()),
        detail: Some("no heartbeat for 15s".into()),
        last_heartbeat_ms: None,
        first_content: None,
    })
}

pub(crate) fn silent() -> Arc<Record> {
    Arc::new(Record {
        key: key("db", "d-1"),
        version: version(42, false, false),
        body: Body::Withdrawn { kept: Some(plain()), named: false, of_unknown: false, draining: false },
        cause: Cause::Expired,
        changed_at: 0,
        actor: None,
        detail: None,
        last_heartbeat_ms: None,
        first_content: None,
    })
}

pub(crate) fn deregistered() -> Arc<Record> {
    Arc::new(Record {
        key: key("db", "host/10.0.0.1:80"),
        version: version(43, true, false),
        body: Body::Withdrawn { kept: None, named: true, of_unknown: false, draining: false },
        cause: Cause::Deregistered,
        changed_at: u64::MAX,
        actor: None,
        detail: None,
        last_heartbeat_ms: None,
        first_content: None,
    })
}

fn applied() -> Vec<AppliedAt> {
    let peer = Life { node: NodeName::parse("n2").unwrap(), epoch: Epoch(u64::MAX) };
    vec![AppliedAt { life: life(), seq: 43, age_ms: Some(0) }, AppliedAt { life: peer, seq: 1000, age_ms: None }]
}

fn beacon() -> Beacon {
    Beacon {
        head: 43,
        state: NodeState::Ready,
        records: 2,
        digest: 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff,
        view_digest: 5,
        http: "127.0.0.1:6878".to_owned(),
        applied: applied(),
        withdrawn_digest: 0,
        overrides_digest: 0,
        complete: false,
        preserving: false,
        gives_way: false,
        members: Vec::new(),
        audience: AudienceAt::default(),
        stamp: 0,
        settling_ms: None,
        takes_sized_pulls: false,
    }
}

/// With all that came after the first version.
fn later_beacon() -> Beacon {
    let member = |name, age_ms, has_left| MemberAt { node: NodeName::parse(name).unwrap(), age_ms, has_left, evidence: None };
    Beacon {
        withdrawn_digest: 0x0102_0304,
        overrides_digest: u128::MAX,
        complete: true,
        preserving: true,
        members: vec![member("n2", 250, false), member("n3", u32::MAX, true)],
        ..beacon()
    }
}

/// That tells what its sender has seen of each member itself.
fn evidence_beacon() -> Beacon {
    let all = [(true, false, false), (true, true, false), (true, true, true), (false, false, false)];
    let evidence = all.map(|(is_direct, refuses, is_lost)| Some(Evidence { is_direct, refuses, is_lost, ..Evidence::default() }));
    let to_member =
        |(number, evidence)| MemberAt { node: NodeName::parse(&format!("n{number}")).unwrap(), age_ms: 250, has_left: false, evidence };
    Beacon { members: evidence.into_iter().enumerate().map(to_member).collect(), ..beacon() }
}

/// Whose causes came after the first version.
fn later_causes() -> Change {
    let with =
        |record: &Record, seq, cause| Arc::new(Record { version: Version { seq, ..record.version.clone() }, cause, ..record.clone() });
    Change {
        first: 44,
        last: 45,
        wants_ack: false,
        records: vec![with(&full(), 44, Cause::OwnerLost), with(&full(), 45, Cause::Preserved)],
    }
}

/// Whose causes came with probes, attached leases and draining; of one that drains.
fn health_causes() -> Change {
    let Body::Live { registration, .. } = full().body.clone() else { unreachable!("it is live") };
    let with = |seq, cause| {
        let body = Body::Live { registration: Arc::clone(&registration), seen: Seen::Well, draining: cause == Cause::Drained };
        let last_heartbeat_ms = (cause == Cause::ProbeFailed).then_some(15_230);
        Arc::new(Record { version: Version { seq, ..full().version.clone() }, cause, body, last_heartbeat_ms, ..Record::clone(&full()) })
    };
    let causes = [Cause::ProbeFailed, Cause::ProbeSucceeded, Cause::Detached, Cause::Drained, Cause::AddressReused];
    Change { first: 48, last: 52, wants_ack: false, records: (48..).zip(causes).map(|(seq, cause)| with(seq, cause)).collect() }
}

/// Whose instances send no heartbeats: one is listed, of one is kept what it was.
fn fixed_addresses() -> Change {
    let fixed = || Arc::new(Registration::new(RegistrationDraft { ttl: None, ..plain().to_draft() }).unwrap());
    let with = |record: &Record, seq, body| Arc::new(Record { version: Version { seq, ..record.version.clone() }, body, ..record.clone() });
    let live = with(&full(), 46, Body::Live { registration: fixed(), seen: Seen::Well, draining: false });
    let silent = with(&silent(), 47, Body::Withdrawn { kept: Some(fixed()), named: false, of_unknown: false, draining: false });
    Change { first: 46, last: 47, wants_ack: false, records: vec![live, silent] }
}

pub(crate) fn overrides() -> Vec<Entry> {
    let key = |name| OverrideKey { namespace: Namespace::default(), name: OverrideName::parse(name).unwrap() };
    let entry = |name, counter, willed| Entry { key: key(name), stamp: Stamp { counter, by: life() }, willed };
    let full = OverrideDraft {
        service: Some(ServiceName::parse("web").unwrap()),
        id: Some(InstanceId::parse("w-1").unwrap()),
        select: Some(Selection::parse([("zone", "eu-a,eu-b"), ("tag", "canary"), ("metadata.version", "1.4.2")]).unwrap()),
        status: Some(Imposed::Draining),
        weight: Some(7),
        metadata: [("owner".to_owned(), "ops".to_owned())].into(),
        evict_after_ms: Some(300_000),
        preserve: Some(true),
        reason: "disk swap".to_owned(),
        author: Some("ops@example.com".to_owned()),
        created_at: 1_763_640_000_123,
    };
    let short = OverrideDraft { preserve: Some(false), reason: "x".to_owned(), ..OverrideDraft::default() };
    let set = |draft, expires_in_ms| Willed::Set { value: Arc::new(Override::new(draft).unwrap()), expires_in_ms };
    vec![
        entry("deploy-42", 7, set(full, Some(7_200_000))),
        entry("keep", Stamp::COUNTER_MAX, set(short, None)),
        entry("gone", 9, Willed::Deleted { forget_in_ms: 86_400_000 }),
    ]
}

fn buckets() -> Have {
    Have::Buckets { live: vec![(0, 1), (4095, u128::MAX)], withdrawn: vec![(7, 250)], applied: applied(), complete: true }
}

fn subscriber(name: Option<&str>, address: &str) -> Subscriber {
    Subscriber { name: name.map(Into::into), address: address.parse().unwrap(), since: 1_763_640_000_123 }
}

fn audience() -> AudiencePage {
    let interest = |services, prefixes: &[&str]| {
        Arc::new(Interest { namespace: Namespace::default(), services, prefixes: prefixes.iter().map(|prefix| (*prefix).into()).collect() })
    };
    let watchers = vec![
        Watcher { subscriber: subscriber(Some("cart/1.4"), "10.0.0.9:53211"), interest: interest(vec![1, u64::MAX], &[]) },
        Watcher { subscriber: subscriber(None, "[2001:db8::1]:443"), interest: interest(Vec::new(), &["", "db-"]) },
    ];
    AudiencePage { digest: 77, watchers, more: true }
}

fn report() -> DeliveryReport {
    DeliveryReport { subscribers: 60, missing_count: 1, missing: vec![subscriber(Some("cart/1.4"), "10.0.0.9:53211")] }
}

fn renewals() -> Vec<Renewal> {
    let renewal = |id, digest, age_ms| Renewal { key: key("web", id), incarnation: Incarnation::FIRST, digest, age_ms };
    vec![renewal("w-1", Some(77), 200), renewal("w-2", None, 0)]
}

fn verdicts() -> Vec<Verdict> {
    vec![Verdict::Renewed, Verdict::Unknown, Verdict::Differs, Verdict::Gone(deregistered())]
}
