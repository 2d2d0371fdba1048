//! Overrides: what an operator says at one node holds at all of them, through everything that happens to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster::model::{
    Imposed, InstanceKey, Namespace, Override, OverrideDraft, OverrideKey, OverrideName, Registration, RegistrationDraft, Selection,
    ServiceName, Status,
};
use muster::registry::{Answer, Input, Refusal, Register, SetOverride, Willed};

use super::{TTL_MS, agree_within, cluster, deregister, heartbeat, register, try_register};
use crate::bus::Weather;
use crate::disk::{Disk, Habit};
use crate::provider::draft;
use crate::world::{Ask, World, key};

fn name(text: &str) -> OverrideKey {
    OverrideKey { namespace: Namespace::default(), name: OverrideName::parse(text).unwrap() }
}

fn on_service(service: &str) -> OverrideDraft {
    OverrideDraft { service: Some(ServiceName::parse(service).unwrap()), reason: "a test".to_owned(), ..OverrideDraft::default() }
}

fn draining(service: &str) -> OverrideDraft {
    OverrideDraft { status: Some(Imposed::Draining), ..on_service(service) }
}

fn try_set(world: &mut World, node: usize, text: &str, draft: OverrideDraft, expires_in_ms: Option<u64>) -> Answer {
    let set = SetOverride { key: name(text), value: Arc::new(Override::new(draft).unwrap()), expires_in_ms };
    world.operate(node, |ticket| Input::SetOverride(ticket, set)).expect("it is answered at once")
}

fn set(world: &mut World, node: usize, text: &str, draft: OverrideDraft) {
    let answer = try_set(world, node, text, draft, None);
    assert!(matches!(answer, Answer::OverrideSet { .. }), "{answer:?}");
}

fn delete(world: &mut World, node: usize, text: &str) -> Answer {
    world.operate(node, |ticket| Input::DeleteOverride(ticket, name(text))).expect("it is answered at once")
}

/// How a node lists an instance.
fn listed(world: &World, node: usize, key: &InstanceKey) -> Option<(Status, u16)> {
    let listed = world.registry(node)?.catalog().view(&key.service)?.instances().get(&key.id)?;
    Some((listed.status, listed.weight))
}

/// The overrides that hold at a node, each with its weight.
fn held(world: &World, node: usize) -> BTreeMap<String, Option<u16>> {
    let entries = world.registry(node).unwrap().shared_entries(world.now_at(node));
    let sets = entries.into_iter().filter_map(|entry| match entry.willed {
        Willed::Set { value, .. } => Some((entry.key.name.to_string(), value.parts().weight)),
        Willed::Deleted { .. } => None,
    });
    sets.collect()
}

#[test]
fn what_is_set_at_one_node_is_seen_at_all_and_ends_at_all() {
    let mut world = cluster(3);
    let (a, b) = (key("s", "a"), key("s", "b"));
    register(&mut world, 0, &a, 1);
    register(&mut world, 2, &b, 2);
    world.run_for(50);
    let before = world.registry(1).unwrap().catalog().view_digest();
    set(&mut world, 1, "o", draining("s"));
    assert_eq!(listed(&world, 1, &a), Some((Status::Draining, 0)), "at once where it is set");
    world.run_for(20);
    for node in 0..3 {
        assert_eq!([&a, &b].map(|key| listed(&world, node, key)), [Some((Status::Draining, 0)); 2], "n{node}");
    }
    agree_within(&mut world, 2000);
    // It holds for what comes later.
    register(&mut world, 0, &key("s", "late"), 3);
    world.run_for(20);
    assert!((0..3).all(|node| listed(&world, node, &key("s", "late")) == Some((Status::Draining, 0))));
    deregister(&mut world, 0, &key("s", "late"), None);
    assert_eq!(delete(&mut world, 2, "o"), Answer::OverrideDeleted);
    assert_eq!(delete(&mut world, 2, "o"), Answer::Refused(Refusal::UnknownOverride));
    world.run_for(20);
    assert!((0..3).all(|node| world.registry(node).unwrap().catalog().view_digest() == before));
    agree_within(&mut world, 2000);
}

#[test]
fn no_registration_restart_or_new_owner_clears_one() {
    let mut world = cluster(3);
    let a = key("s", "a");
    let drained = Some((Status::Draining, 0));
    let digest = register(&mut world, 0, &a, 1).digest;
    set(&mut world, 1, "o", draining("s"));
    world.run_for(50);
    let Answer::Renewed(renewed) = heartbeat(&mut world, 0, &a, Some(digest)) else { panic!("it is renewed") };
    assert_eq!(renewed.status, Status::Draining, "its provider is told");
    // Registered again, with other content, as a new life, at another node.
    for (node, port, incarnation) in [(0, 1, None), (0, 2, None), (2, 3, Some(9))] {
        let Answer::Registered(registered) = try_register(&mut world, node, &a, port, incarnation) else { panic!("it registers") };
        assert_eq!(Some((registered.listed.status, registered.listed.weight)), drained);
        world.run_for(50);
        assert!((0..3).all(|node| listed(&world, node, &a) == drained));
    }
    // Its owner restarts, and so does the node at which it was set.
    for node in [2, 1, 0] {
        world.crash(node);
        world.run_for(100);
        world.start(node);
        while !world.is_ready(node) {
            world.run_for(10);
            assert!(world.now < 60_000, "n{node} does not become ready");
        }
        assert_eq!(listed(&world, node, &a), drained, "n{node} is ready and lists it otherwise");
        world.run_for(4000);
        try_register(&mut world, 0, &a, 3, Some(9));
    }
    agree_within(&mut world, 5000);
    assert_eq!(listed(&world, 1, &a), drained);
}

#[test]
fn what_is_read_from_disk_is_shown_as_overrides_are_now() {
    let mut world = World::new(7, 1);
    world.disks.insert(0, Disk::new(Habit::Sound));
    world.bootstrap_wait_ms = 4000;
    world.start(0);
    world.run_for(5000);
    let a = key("s", "a");
    register(&mut world, 0, &a, 1);
    try_set(&mut world, 0, "o", draining("s"), Some(3000));
    world.run_for(1000);
    world.crash(0);
    world.start(0);
    assert_eq!(listed(&world, 0, &a), Some((Status::Draining, 0)), "it shows its disk");
    world.run_for(3000);
    assert!(!world.is_ready(0));
    assert_eq!(listed(&world, 0, &a), Some((Status::Up, 100)), "the override is over");
    world.run_for(2000);
    assert!(world.is_ready(0));
    assert_eq!(listed(&world, 0, &a), Some((Status::Up, 100)));
}

#[test]
fn of_two_who_write_apart_the_later_wins_and_both_keep_the_rest() {
    let mut world = cluster(3);
    let weighs = |weight| OverrideDraft { weight: Some(weight), ..on_service("s") };
    register(&mut world, 0, &key("s", "a"), 1);
    set(&mut world, 0, "gone", weighs(1));
    set(&mut world, 0, "kept", weighs(2));
    world.run_for(2000);
    world.bus.split(&[vec![0], vec![1, 2]]);
    set(&mut world, 0, "same", weighs(10));
    set(&mut world, 0, "left", weighs(11));
    delete(&mut world, 0, "gone");
    delete(&mut world, 0, "kept");
    set(&mut world, 1, "same", weighs(20));
    set(&mut world, 2, "right", weighs(21));
    // Written more often, and so above the deletion that it does not know.
    (0..4).for_each(|weight| set(&mut world, 1, "kept", weighs(30 + weight)));
    world.run_for(3000);
    assert_ne!(held(&world, 0), held(&world, 1));
    world.bus.mend_cuts();
    agree_within(&mut world, 10_000);
    let expected = [("kept", 33), ("left", 11), ("right", 21), ("same", 20)];
    let expected: BTreeMap<_, _> = expected.into_iter().map(|(name, weight)| (name.to_owned(), Some(weight))).collect();
    for node in 0..3 {
        assert_eq!(held(&world, node), expected, "n{node}");
        assert_eq!(listed(&world, node, &key("s", "a")), listed(&world, 0, &key("s", "a")));
    }
}

#[test]
fn one_that_is_over_is_over_everywhere_and_comes_back_nowhere() {
    let mut world = cluster(3);
    let a = key("s", "a");
    register(&mut world, 0, &a, 1);
    try_set(&mut world, 0, "o", draining("s"), Some(3000));
    world.run_for(2500);
    world.bus.cut_both(0, 2);
    try_register(&mut world, 0, &a, 1, None);
    assert!((0..3).all(|node| listed(&world, node, &a) == Some((Status::Draining, 0))));
    world.run_for(1000);
    assert!((0..3).all(|node| listed(&world, node, &a) == Some((Status::Up, 100))));
    world.bus.mend_cuts();
    world.run_for(1500);
    try_register(&mut world, 0, &a, 1, None);
    // A node that starts now hears of it only that it is over.
    world.crash(2);
    world.start(2);
    world.run_for(3000);
    for node in 0..3 {
        assert_eq!((listed(&world, node, &a), held(&world, node)), (Some((Status::Up, 100)), BTreeMap::new()), "n{node}");
    }
    agree_within(&mut world, 2000);
}

#[test]
fn one_that_was_not_heard_is_told_again() {
    let mut world = cluster(3);
    register(&mut world, 0, &key("s", "a"), 1);
    world.run_for(50);
    world.bus.weather = Weather { loss: 1000, ..Weather::FAIR };
    set(&mut world, 0, "o", draining("s"));
    world.run_for(100);
    world.bus.weather = Weather::FAIR;
    assert_eq!(listed(&world, 1, &key("s", "a")), Some((Status::Up, 100)));
    world.run_for(2500);
    assert!((0..3).all(|node| listed(&world, node, &key("s", "a")) == Some((Status::Draining, 0))));
    agree_within(&mut world, 1000);
}

#[test]
fn more_than_fits_into_a_frame_is_told_in_parts() {
    let mut world = cluster(2);
    world.bus.cut_both(0, 1);
    for number in 0..300 {
        let metadata = (0..8).map(|key| (format!("k{key}"), "x".repeat(1000))).collect();
        set(&mut world, 0, &format!("o{number}"), OverrideDraft { metadata, ..on_service("s") });
    }
    world.bus.mend_cuts();
    let until = world.now + 10_000;
    while held(&world, 1).len() < 300 && world.now < until {
        world.run_for(100);
    }
    assert_eq!(held(&world, 1).len(), 300);
    agree_within(&mut world, 1000);
}

#[test]
fn the_narrower_wins_key_by_key() {
    let mut world = cluster(2);
    let (a, b, c) = (key("s", "a"), key("s", "b"), key("t", "c"));
    for (port, key) in [&a, &b, &c].into_iter().enumerate() {
        register(&mut world, 0, key, port as u16 + 1);
    }
    let everywhere = OverrideDraft { service: None, status: Some(Imposed::Down), weight: Some(1), ..on_service("s") };
    let selected = OverrideDraft { weight: Some(3), select: Selection::parse([("status", "up")]).ok(), ..on_service("s") };
    let one = OverrideDraft { id: Some(a.id.clone()), status: Some(Imposed::Up), ..on_service("s") };
    // The narrowest first: it is not the later that wins.
    set(&mut world, 1, "one", one);
    set(&mut world, 0, "selected", selected);
    set(&mut world, 1, "service", OverrideDraft { weight: Some(2), ..draining("s") });
    set(&mut world, 0, "everywhere", everywhere);
    world.run_for(50);
    for node in 0..2 {
        assert_eq!(listed(&world, node, &a), Some((Status::Up, 3)), "the selection looks at what is without overrides");
        assert_eq!(listed(&world, node, &b), Some((Status::Draining, 3)));
        assert_eq!(listed(&world, node, &c), Some((Status::Down, 1)));
    }
    agree_within(&mut world, 2000);
}

#[test]
fn an_override_says_when_the_silent_go_and_whether() {
    let mut world = cluster(1);
    let (soon, never) = (key("soon", "a"), key("never", "a"));
    for key in [&soon, &never] {
        let draft = RegistrationDraft { evict_after_ms: Some(60_000), ..draft(key, 1, TTL_MS) };
        let registration = Arc::new(Registration::new(draft).unwrap());
        let register = Register::new(key.clone(), registration, 0);
        world.ask_now(0, Ask::Register(register));
    }
    set(&mut world, 0, "never", OverrideDraft { preserve: Some(true), ..on_service("never") });
    // Both are down, and would stay for a minute.
    world.run_for(13_000);
    assert_eq!([&soon, &never].map(|key| listed(&world, 0, key)), [Some((Status::Down, 100)); 2]);
    set(&mut world, 0, "soon", OverrideDraft { evict_after_ms: Some(2000), ..on_service("soon") });
    world.run_for(3000);
    assert_eq!(listed(&world, 0, &soon), None);
    world.run_for(120_000);
    assert_eq!(listed(&world, 0, &never), Some((Status::Down, 100)));
    delete(&mut world, 0, "never");
    world.run_for(2000);
    assert_eq!(listed(&world, 0, &never), None);
}

/// What is preserved is looked at once a ttl: an operator who says that it may go is not to wait for that.
#[test]
fn what_is_preserved_against_an_operators_will_goes_at_once() {
    let mut world = cluster(1);
    let keys = ["a", "b", "c", "d"].map(|id| key("s", id));
    for key in &keys {
        let registration = Arc::new(Registration::new(draft(key, 1, 60_000)).unwrap());
        let at = world.now_at(0).mono;
        let register = Register::new(key.clone(), registration, at);
        world.ask_now(0, Ask::Register(register));
    }
    // Late after 60 s, all together; without self-preservation down after 120 s, and looked at again after 180 s only.
    world.run_for(150_000);
    assert_eq!(listed(&world, 0, &keys[0]), Some((Status::Suspect, 100)));
    set(&mut world, 0, "o", OverrideDraft { preserve: Some(false), ..on_service("s") });
    world.run_for(100);
    assert_eq!(listed(&world, 0, &keys[0]), Some((Status::Down, 100)));
}

#[test]
fn a_node_that_does_not_know_the_others_overrides_takes_none() {
    let mut world = World::new(7, 2);
    world.start(0);
    world.run_for(3000);
    world.start(1);
    assert_eq!(try_set(&mut world, 1, "o", draining("s"), None), Answer::Refused(Refusal::Warming));
    assert_eq!(delete(&mut world, 1, "o"), Answer::Refused(Refusal::Warming));
}

#[test]
fn past_the_bound_new_ones_are_refused_and_known_ones_replaced() {
    let mut world = World::new(7, 1);
    world.settings = |settings| settings.limits.overrides = 2;
    world.start(0);
    world.run_for(3000);
    set(&mut world, 0, "a", draining("s"));
    set(&mut world, 0, "b", draining("s"));
    let full = Answer::Refused(Refusal::LimitReached { key: "limits.overrides", max: 2 });
    assert_eq!(try_set(&mut world, 0, "c", draining("s"), None), full);
    assert_eq!(try_set(&mut world, 0, "b", draining("t"), None), Answer::OverrideSet { created: false });
    delete(&mut world, 0, "a");
    assert_eq!(try_set(&mut world, 0, "c", draining("s"), None), Answer::OverrideSet { created: true });
}
