//! Attachments: what an open connection means for a lease, and what its end does.

use super::*;
use crate::model::{
    Address, Check, CheckKind, Epoch, InstanceId, Namespace, NodeName, Port, Registration, RegistrationDraft, ServiceName, Status, Ttl,
    Version,
};
use crate::registry::message::To;
use crate::registry::{Ack, Beacon, Change, Deregister, Envelope, Heartbeat, Input, Message, Purpose, Settings};

const TTL_MS: u64 = 3000;
const START: Now = Now { mono: 1_000_000, wall: 0 };

fn at(ms: u64) -> Now {
    Now { mono: START.mono + ms, wall: 0 }
}

fn peer() -> Life {
    Life { node: NodeName::parse("n2").unwrap(), epoch: Epoch(2) }
}

fn key(id: &str) -> InstanceKey {
    let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
    InstanceKey { service, id: InstanceId::parse(id).unwrap() }
}

fn register(id: &str, port: u16, now: Now) -> Register {
    let ttl = Ttl::from_ms(TTL_MS).unwrap();
    let mut draft = RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(port).unwrap(), ttl);
    draft.check = Some(Check { kind: CheckKind::None, interval_ms: 10_000, timeout_ms: 1000, failures: 1, successes: 1 });
    let registration = Arc::new(Registration::new(draft).unwrap());
    Register::new(key(id), registration, now.mono)
}

fn node() -> Registry {
    Registry::new(Settings { has_bus: false, expect_empty: true, ..Settings::new(NodeName::parse("n1").unwrap(), Epoch(9)) }, 1, START)
}

fn feed(registry: &mut Registry, input: Input, now: Now) -> Outbox {
    let mut out = Outbox::new();
    registry.handle(input, now, &mut out);
    out
}

fn attach(registry: &mut Registry, ticket: Ticket, ids: &[&str], now: Now) -> Answer {
    let members = ids.iter().map(|id| (key(id), register(id, 80, now))).collect();
    answer(&feed(registry, Input::Attach(ticket, members), now))
}

fn answer(out: &Outbox) -> Answer {
    out.iter().find_map(|output| if let Output::Answer(_, answer) = output { Some(answer.clone()) } else { None }).unwrap()
}

/// Those whose connections were told that they hold them no more.
fn over(out: &Outbox) -> Vec<(Ticket, InstanceKey)> {
    let of = |output: &Output| match output {
        Output::AttachmentOver { attachment, key, .. } => Some((*attachment, key.clone())),
        _ => None,
    };
    out.iter().filter_map(of).collect()
}

fn seen(registry: &Registry, id: &str) -> (Status, Cause) {
    let record = registry.record(&key(id)).unwrap();
    let status = registry.listed(record).map_or(Status::Down, |listed| listed.status);
    (status, record.cause)
}

/// Lets time pass as the shell does: every lease that is due is asked for, and was renewed when the registry itself last heard of it.
fn pass(registry: &mut Registry, from: u64, to: u64) {
    for ms in (from..=to).step_by(100) {
        let mut out = Outbox::new();
        registry.advance(at(ms), &mut out);
        for output in out {
            if let Output::AskLease { key, purpose } = output {
                registry.handle(Input::Lease { key, last_heartbeat: None, purpose }, at(ms), &mut Outbox::new());
            }
        }
    }
}

fn hear(registry: &mut Registry, message: Message, now: Now) -> Outbox {
    feed(registry, Input::Received(Envelope { from: peer(), message }), now)
}

/// The peer has written this of what is held here.
fn change(registry: &mut Registry, seq: Seq, id: &str, step: impl FnOnce(&mut Record), now: Now) -> Outbox {
    let mut record = Record::clone(registry.record(&key(id)).unwrap());
    record.version = Version { owner: peer(), seq, ..record.version };
    step(&mut record);
    hear(registry, Message::Change(Change { first: seq, last: seq, wants_ack: false, records: vec![Arc::new(record)] }), now)
}

fn relayed(out: &Outbox) -> bool {
    out.iter().any(|output| matches!(output, Output::Send(To::Node(_), Message::Relay { .. })))
}

#[test]
fn while_its_connection_is_open_no_time_ends_it_and_then_it_goes_within_a_ttl_and_the_grace() {
    let mut registry = node();
    assert!(matches!(attach(&mut registry, 7, &["a"], START), Answer::Attached(registered) if registered[0].attached));
    pass(&mut registry, 0, 60_000);
    assert_eq!(seen(&registry, "a"), (Status::Up, Cause::Registered));
    feed(&mut registry, Input::Detached(7), at(60_050));
    assert_eq!(seen(&registry, "a"), (Status::Suspect, Cause::Detached));
    pass(&mut registry, 60_100, 60_000 + TTL_MS);
    assert_eq!(seen(&registry, "a").0, Status::Suspect);
    pass(&mut registry, 60_000 + TTL_MS, 60_200 + TTL_MS);
    assert_eq!(seen(&registry, "a").0, Status::Down);
    pass(&mut registry, 60_200 + TTL_MS, 65_000 + TTL_MS);
    assert!(registry.record(&key("a")).unwrap().registration().is_some());
    // The last of its service goes only where nothing is unclear: this node has no peer to doubt.
    pass(&mut registry, 65_000 + TTL_MS, 65_500 + TTL_MS);
    assert!(registry.record(&key("a")).unwrap().registration().is_none(), "it is gone");
}

#[test]
fn heartbeats_from_before_do_not_bring_back_what_has_detached_and_later_ones_do() {
    let mut registry = node();
    attach(&mut registry, 7, &["a"], START);
    feed(&mut registry, Input::Detached(7), at(1000));
    feed(&mut registry, Input::Lease { key: key("a"), last_heartbeat: Some(at(900).mono), purpose: Purpose::Due }, at(1100));
    assert_eq!(seen(&registry, "a").0, Status::Suspect);
    let beat = Heartbeat { key: key("a"), incarnation: None, digest: None, reported: None, at: at(1200).mono };
    feed(&mut registry, Input::Heartbeat(8, beat), at(1200));
    assert_eq!(seen(&registry, "a"), (Status::Up, Cause::Recovered));
    // From now on it is an ordinary lease.
    pass(&mut registry, 1200, 1400 + TTL_MS);
    assert_eq!(seen(&registry, "a"), (Status::Suspect, Cause::Expired));
}

#[test]
fn one_bad_member_refuses_all() {
    let mut registry = node();
    let mut bad = register("b", 80, START);
    attach(&mut registry, 1, &["b"], START);
    feed(&mut registry, Input::Register(2, Register { incarnation: Incarnation::new(5), ..bad.clone() }), START);
    bad.incarnation = Incarnation::new(4);
    let members = BTreeMap::from([(key("a"), register("a", 80, START)), (key("b"), bad)]);
    let refusal = Refusal::Superseded { incarnation: Incarnation::new(5).unwrap() };
    let head = registry.head();
    let refused = answer(&feed(&mut registry, Input::Attach(3, members), START));
    assert_eq!(refused, Answer::AttachRefused { key: key("b"), refusal });
    assert_eq!((registry.head(), registry.record(&key("a"))), (head, None));
}

#[test]
fn the_members_count_together_against_a_limit() {
    let mut registry = node();
    registry.settings.limits.instances_per_service = 2;
    assert!(matches!(attach(&mut registry, 1, &["a", "b", "c"], START), Answer::AttachRefused { .. }));
    assert_eq!(registry.record_count(), 0);
    assert!(matches!(attach(&mut registry, 1, &["a", "b"], START), Answer::Attached(_)));
}

#[test]
fn a_former_connection_that_closes_late_changes_nothing() {
    let mut registry = node();
    attach(&mut registry, 1, &["a", "b"], START);
    attach(&mut registry, 2, &["a"], START);
    feed(&mut registry, Input::Detached(1), START);
    assert_eq!((seen(&registry, "a").0, seen(&registry, "b").0), (Status::Up, Status::Suspect));
    feed(&mut registry, Input::Detached(2), START);
    assert_eq!(seen(&registry, "a").0, Status::Suspect);
}

#[test]
fn what_is_said_in_other_ways_leaves_it_attached() {
    let mut registry = node();
    attach(&mut registry, 1, &["a"], START);
    for (ticket, port) in [(2, 80), (3, 81)] {
        feed(&mut registry, Input::Register(ticket, register("a", port, START)), START);
    }
    pass(&mut registry, 0, 5 * TTL_MS);
    assert_eq!(seen(&registry, "a"), (Status::Up, Cause::Updated));
    feed(&mut registry, Input::Detached(1), at(6 * TTL_MS));
    assert_eq!(seen(&registry, "a"), (Status::Suspect, Cause::Detached));
}

#[test]
fn whoever_holds_it_hears_that_it_was_deregistered_or_that_a_later_life_registered() {
    let mut registry = node();
    attach(&mut registry, 1, &["a", "b"], START);
    let deregister = Deregister { key: key("a"), incarnation: None, actor: None, ack: Ack::Local };
    assert_eq!(over(&feed(&mut registry, Input::Deregister(2, deregister), START)), [(1, key("a"))]);
    let later = Register { takeover: true, ..register("b", 80, START) };
    assert_eq!(over(&feed(&mut registry, Input::Register(3, later), START)), [(1, key("b"))]);
    feed(&mut registry, Input::Detached(1), START);
    assert_eq!(seen(&registry, "b").0, Status::Up);
}

#[test]
fn a_lease_that_another_node_holds_comes_here_and_that_node_is_told_until_it_knows() {
    let mut registry = node();
    attach(&mut registry, 1, &["a"], START);
    feed(&mut registry, Input::Detached(1), START);
    hear(&mut registry, Message::Beacon(Beacon::of(NodeState::Ready)), START);
    change(&mut registry, 1, "a", |record| record.version.generation += 1, START);
    assert!(!registry.holds_lease(&key("a")));
    attach(&mut registry, 2, &["a"], START);
    let record = registry.record(&key("a")).unwrap();
    assert_eq!((&record.version.owner, seen(&registry, "a").0), (&registry.life, Status::Up));
    let seq = record.version.seq;
    let mut told = 0;
    for ms in (100..3000).step_by(100) {
        hear(&mut registry, Message::Beacon(Beacon::of(NodeState::Ready)), at(ms));
        let mut out = Outbox::new();
        registry.advance(at(ms), &mut out);
        told += usize::from(relayed(&out));
    }
    assert!(told >= 3, "{told}");
    let applied = vec![crate::registry::AppliedAt { life: registry.life.clone(), seq, age_ms: Some(0) }];
    hear(&mut registry, Message::Beacon(Beacon { applied, ..Beacon::of(NodeState::Ready) }), at(3000));
    registry.advance(at(4500), &mut Outbox::new());
    assert_eq!(registry.attachments.next_deadline(), None);
}

#[test]
fn what_another_node_took_while_the_connection_is_open_is_kept_alive_there() {
    let mut registry = node();
    attach(&mut registry, 1, &["a"], START);
    hear(&mut registry, Message::Beacon(Beacon::of(NodeState::Ready)), START);
    change(&mut registry, 1, "a", |record| (record.version.generation, record.cause) = (1, Cause::Adopted), START);
    let mut told = 0;
    for ms in (100..3000).step_by(100) {
        hear(&mut registry, Message::Beacon(Beacon::of(NodeState::Ready)), at(ms));
        let mut out = Outbox::new();
        registry.advance(at(ms), &mut out);
        told += usize::from(relayed(&out));
    }
    assert!(told >= 3, "{told}");
    assert_eq!(registry.record(&key("a")).unwrap().version.owner, peer(), "nothing is taken from a node that is heard");
    assert!(over(&change(&mut registry, 2, "a", |record| record.version.deregistered = true, at(3000))).len() == 1);
}

#[test]
fn a_node_that_leaves_takes_the_end_of_a_connection_for_no_silence() {
    let mut registry = node();
    attach(&mut registry, 1, &["a"], START);
    feed(&mut registry, Input::Leave, START);
    feed(&mut registry, Input::Detached(1), START);
    assert_eq!(seen(&registry, "a").0, Status::Up);
}

#[test]
fn before_its_connections_end_a_node_that_leaves_tells_the_owner_that_they_were_open() {
    let mut registry = node();
    hear(&mut registry, Message::Beacon(Beacon::of(NodeState::Ready)), START);
    attach(&mut registry, 1, &["a"], START);
    change(&mut registry, 1, "a", |record| record.version.generation = 1, START);
    registry.advance(START, &mut Outbox::new());
    registry.advance(at(300), &mut Outbox::new());
    feed(&mut registry, Input::Leave, at(500));
    registry.advance(at(500), &mut Outbox::new());
    feed(&mut registry, Input::Detached(1), at(500));
    let mut out = Outbox::new();
    registry.advance(at(750), &mut out);
    let ages = out.iter().find_map(|output| match output {
        Output::Send(_, Message::Relay { renewals, .. }) => Some(renewals.iter().map(|renewal| renewal.age_ms).collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(ages, Some(vec![250]));
}

#[test]
fn what_displaced_it_while_the_node_warmed_is_answered_as_soon_as_it_is_ready() {
    for (port, is_same) in [(80, true), (81, false)] {
        let mut registry = node();
        registry.state = NodeState::Warming;
        attach(&mut registry, 7, &["a"], START);
        let kept = register("a", port, START).registration;
        let withdrawn = |record: &mut Record| {
            record.version = Version { generation: 1, live: false, ..record.version.clone() };
            (record.body, record.cause) =
                (Body::Withdrawn { kept: Some(kept), named: false, of_unknown: false, draining: false }, Cause::Expired);
        };
        change(&mut registry, 1, "a", withdrawn, START);
        let mut out = Outbox::new();
        registry.advance(START, &mut out);
        assert!(over(&out).is_empty() && !registry.holds_lease(&key("a")), "it does not know enough yet");
        registry.become_state(NodeState::Ready, at(100), &mut out);
        registry.advance(at(100), &mut out);
        assert_eq!((registry.holds_lease(&key("a")), over(&out).len()), (is_same, usize::from(!is_same)));
    }
}

/// What this node's disk held of `a`, greater than what the connection came with, of a life that is over.
fn restored(registry: &Registry, port: u16, is_withdrawn: bool) -> Input {
    let held = Record::clone(registry.record(&key("a")).unwrap());
    let registration = register("a", port, START).registration;
    let owner = Life { epoch: Epoch(8), ..held.version.owner.clone() };
    let version = Version { generation: 1, live: !is_withdrawn, owner, seq: 5, ..held.version };
    let body = if is_withdrawn {
        Body::Withdrawn { kept: Some(registration), named: false, of_unknown: false, draining: false }
    } else {
        Body::Live { registration, seen: Seen::Well, draining: false }
    };
    let record = Record { version, body, cause: Cause::Expired, ..held };
    Input::Restore {
        records: vec![Arc::new(record)],
        overrides: Vec::new(),
        unrenewed: Vec::new(),
        saved_at: START.mono,
        knew_enough: true,
    }
}

#[test]
fn what_a_disk_held_does_not_silence_one_whose_connection_is_open() {
    for (port, is_withdrawn, is_same) in [(80, true, true), (80, false, true), (81, true, false), (81, false, false)] {
        let mut registry = node();
        attach(&mut registry, 7, &["a"], START);
        let restore = restored(&registry, port, is_withdrawn);
        feed(&mut registry, restore, at(TTL_MS * 2));
        let mut out = Outbox::new();
        registry.advance(at(TTL_MS * 2), &mut out);
        let is_told = over(&out) == [(7, key("a"))];
        let is_up = registry.holds_lease(&key("a")) && seen(&registry, "a").0 == Status::Up;
        assert_eq!((is_up, is_told), (is_same, !is_same), "withdrawn: {is_withdrawn}");
    }
}

/// Attaches `a` with this port; gives the port and the digest that are answered.
fn attach_with(registry: &mut Registry, ticket: Ticket, port: u16, incarnation: Option<u64>, now: Now) -> (u16, u128) {
    let register = Register { incarnation: incarnation.and_then(Incarnation::new), ..register("a", port, now) };
    match answer(&feed(registry, Input::Attach(ticket, [(key("a"), register)].into()), now)) {
        Answer::Attached(registered) => (registered[0].listed.registration.port().get(), registered[0].digest),
        other => panic!("{other:?}"),
    }
}

#[test]
fn attaching_again_changes_no_content_however_the_life_is_named() {
    for incarnation in [None, Some(1)] {
        let mut registry = node();
        attach_with(&mut registry, 1, 80, incarnation, START);
        feed(&mut registry, Input::Register(2, register("a", 81, START)), START);
        feed(&mut registry, Input::Detached(1), at(100));
        let later = content_digest(&register("a", 81, START).registration);
        assert_eq!(attach_with(&mut registry, 3, 80, incarnation, at(200)), (81, later), "what was said last holds");
        feed(&mut registry, Input::Register(4, register("a", 82, START)), at(300));
        feed(&mut registry, Input::Detached(3), at(400));
        assert_eq!(attach_with(&mut registry, 5, 80, incarnation, at(500)).0, 82, "however often it was said");
        // Something new is something new, and from then on it is what the connection came with.
        assert_eq!(attach_with(&mut registry, 6, 90, incarnation, at(600)).0, 90);
        feed(&mut registry, Input::Register(7, register("a", 91, START)), at(700));
        assert_eq!(attach_with(&mut registry, 8, 90, incarnation, at(800)).0, 91);
        assert_eq!(attach_with(&mut registry, 9, 80, Some(2), at(900)).0, 80, "a later life says what it likes");
    }
}

#[test]
fn attaching_again_brings_back_the_later_content_of_one_that_went_by_silence_meanwhile() {
    let mut registry = node();
    attach(&mut registry, 1, &["a"], START);
    feed(&mut registry, Input::Register(2, register("a", 81, START)), START);
    feed(&mut registry, Input::Detached(1), START);
    pass(&mut registry, 0, 20_000);
    assert_eq!(registry.record(&key("a")).unwrap().registration(), None);
    assert_eq!(attach_with(&mut registry, 3, 80, None, at(20_000)).0, 81);
}

#[test]
fn what_was_said_at_another_node_holds_when_the_connection_is_opened_anew_here() {
    let mut registry = node();
    let said = register("a", 81, START).registration;
    attach(&mut registry, 1, &["a"], START);
    hear(&mut registry, Message::Beacon(Beacon::of(NodeState::Ready)), START);
    let first_content = Some(content_digest(&register("a", 80, START).registration));
    change(
        &mut registry,
        1,
        "a",
        |record| {
            record.version.edition += 1;
            record.body = Body::Live { registration: Arc::clone(&said), seen: Seen::Well, draining: false };
            record.first_content = first_content;
        },
        START,
    );
    feed(&mut registry, Input::Detached(1), START);
    assert_eq!(attach_with(&mut registry, 2, 80, Some(1), at(100)).0, 81);
    assert!(registry.holds_lease(&key("a")), "and the lease is here");
}

#[test]
fn a_registration_that_is_no_attachment_may_say_what_was_said_first() {
    let mut registry = node();
    for (ticket, port) in [(1, 80), (2, 81), (3, 80)] {
        feed(&mut registry, Input::Register(ticket, register("a", port, START)), START);
        assert_eq!(registry.record(&key("a")).unwrap().registration().unwrap().port().get(), port);
    }
}
