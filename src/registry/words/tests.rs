//! Remembered words, and the records of peers that meet them.

use super::*;
use crate::model::{
    Address, Epoch, InstanceId, Life, Namespace, Port, RegistrationDraft, Reported, ServiceKey, ServiceName, Status, Ttl, Version,
};
use crate::registry::{Ack, Beacon, Change, Deregister, Envelope, Input, Message, NodeState, Register, Settings};

const START: Now = Now { mono: 1_000_000, wall: 0 };

fn at(ms: u64) -> Now {
    Now { mono: START.mono + ms, wall: ms * Now::WALL_A_MS }
}

fn life(node: &str, epoch: u64) -> Life {
    Life { node: NodeName::parse(node).unwrap(), epoch: Epoch(epoch) }
}

fn key() -> InstanceKey {
    let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
    InstanceKey { service, id: InstanceId::parse("a").unwrap() }
}

fn registration(port: u16) -> Arc<Registration> {
    let draft = RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(port).unwrap(), Ttl::from_ms(15_000).unwrap());
    Arc::new(Registration::new(draft).unwrap())
}

/// n1, which knows itself alone.
fn node() -> Registry {
    Registry::new(Settings { has_bus: false, expect_empty: true, ..Settings::new(life("n1", 1).node, Epoch(1)) }, 1, START)
}

fn hear(registry: &mut Registry, from: &Life, message: Message, now: Now) {
    registry.handle(Input::Received(Envelope { from: from.clone(), message }), now, &mut Outbox::new());
}

/// A peer's beacon; one of an older version sends no stamp.
fn beacon(registry: &mut Registry, from: &Life, sends_stamps: bool, now: Now) {
    let beacon = Beacon { stamp: u64::from(sends_stamps), ..Beacon::of(NodeState::Ready) };
    hear(registry, from, Message::Beacon(beacon), now);
}

/// A peer's first change: the instance is there, as it says.
fn change(registry: &mut Registry, from: &Life, step: Step, port: u16, draining: bool, now: Now) {
    let Step { incarnation, edition, deregistered, generation } = step;
    let version = Version { incarnation, edition, deregistered, generation, live: true, owner: from.clone(), seq: 1 };
    let record = Record {
        key: key(),
        version,
        body: Body::Live { registration: registration(port), seen: Seen::Well, draining },
        cause: Cause::Registered,
        changed_at: 0,
        actor: None,
        detail: None,
        last_heartbeat_ms: None,
        first_content: None,
    };
    hear(registry, from, Message::Change(Change { first: 1, last: 1, wants_ack: false, records: vec![Arc::new(record)] }), now);
}

fn register(registry: &mut Registry, says_up: bool, now: Now) {
    let register = Register { says_up, ..Register::new(key(), registration(80), now.mono) };
    registry.handle(Input::Register(1, register), now, &mut Outbox::new());
}

fn deregister(registry: &mut Registry, now: Now) {
    let deregister = Deregister { key: key(), incarnation: None, actor: None, ack: Ack::Local };
    registry.handle(Input::Deregister(2, deregister), now, &mut Outbox::new());
}

/// The port and the status as it is listed.
fn listed(registry: &Registry) -> Option<(u16, Status)> {
    let listed = registry.record(&key())?.to_listed()?;
    Some((listed.registration.port().get(), listed.status))
}

/// A life that was registered at a node whose editions count from 0.
fn later_life(generation: u64) -> Step {
    Step { generation, ..Step::life(Incarnation::new(5).unwrap(), 0) }
}

#[test]
fn what_an_older_node_registered_is_not_deregistered_when_a_newer_one_takes_it_over() {
    let (old, new) = (life("n2", 2), life("n3", 3));
    let mut registry = node();
    beacon(&mut registry, &old, false, START);
    beacon(&mut registry, &new, true, START);
    deregister(&mut registry, at(1000));
    change(&mut registry, &old, later_life(0), 80, false, at(2000));
    assert_eq!(listed(&registry), Some((80, Status::Up)));
    change(&mut registry, &new, later_life(1), 80, false, at(3000));
    assert_eq!(listed(&registry), Some((80, Status::Up)));
}

#[test]
fn before_the_first_beacon_of_a_life_nobody_knows_whether_its_editions_are_stamps() {
    for sends_stamps in [false, true] {
        let mut registry = node();
        deregister(&mut registry, at(1000));
        let peer = life("n2", 2);
        change(&mut registry, &peer, later_life(0), 80, false, at(2000));
        assert_eq!(listed(&registry), Some((80, Status::Up)));
        beacon(&mut registry, &peer, sends_stamps, at(2010));
        assert_eq!(listed(&registry).is_some(), !sends_stamps, "the deregistration is the later word by its stamp");
        assert!(registry.words.unjudged.is_empty());
    }
}

#[test]
fn a_registration_that_says_up_ends_a_drain_that_it_had_not_met() {
    let drained_at = |ms: u64| Step::life(Incarnation::FIRST, ms * Now::WALL_A_MS);
    for (says_up, drained, status) in [(true, 500, Status::Up), (false, 500, Status::Draining), (true, 1500, Status::Draining)] {
        let peer = life("n2", 2);
        let mut registry = node();
        register(&mut registry, false, START);
        register(&mut registry, says_up, at(1000));
        beacon(&mut registry, &peer, true, at(1000));
        change(&mut registry, &peer, drained_at(drained), 80, true, at(2000));
        assert_eq!(listed(&registry), Some((80, status)), "says up: {says_up}, drained at {drained}");
    }
}

#[test]
fn a_registration_that_was_answered_as_a_heartbeat_is_later_than_another_content_before_it() {
    let peer = life("n2", 2);
    let mut registry = node();
    register(&mut registry, false, START);
    register(&mut registry, false, at(1000));
    beacon(&mut registry, &peer, true, at(1000));
    change(&mut registry, &peer, Step::life(Incarnation::FIRST, 500 * Now::WALL_A_MS), 81, false, at(2000));
    assert_eq!(listed(&registry), Some((80, Status::Up)));
    assert!(registry.holds_lease(&key()));
}

#[test]
fn a_registration_that_leaves_a_drain_as_it_is_does_not_outlive_it() {
    let peer = life("n2", 2);
    let mut registry = node();
    register(&mut registry, false, START);
    beacon(&mut registry, &peer, true, at(1000));
    change(&mut registry, &peer, Step::life(Incarnation::FIRST, 500 * Now::WALL_A_MS), 80, true, at(1000));
    register(&mut registry, false, at(1500));
    assert!(!registry.words.remembers(&key()));
    assert_eq!(registry.record(&key()).unwrap().registration().unwrap().reported(), Reported::Up);
}
