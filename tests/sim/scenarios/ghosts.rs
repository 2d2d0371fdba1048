//! Ghosts and floods: nodes that are gone for good, names that never were one, and more records than a node is to hold.

#![expect(clippy::unwrap_used, reason = "the values are known to be good, and where one is not the test is to fail")]

use std::sync::Arc;

use muster::model::{Cause, Epoch, Incarnation, Life, NodeName, Registration, Version};
use muster::registry::{Body, Change, Envelope, Input, Limits, MEMBERS_MAX, Message, Record, Seen};

use crate::chaos::hostile::ghost_member;
use crate::provider::{Route, draft};
use crate::scenarios::{TTL_MS, agree_within, cluster, port_at, provider, register};
use crate::teeth::empty_beacon;
use crate::world::{World, key};

fn ghost(name: &str) -> Life {
    Life { node: NodeName::parse(name).unwrap(), epoch: Epoch(1) }
}

fn judges(world: &World, node: usize) -> bool {
    world.registry(node).unwrap().majority(world.now_at(node)).judges
}

/// A silent instance goes where somebody judges, and stays where nobody does.
fn silence_ends(world: &mut World, id: &str) -> bool {
    let silent = key("s", id);
    // One more, so that it is not the last of its service.
    provider(world, &format!("{id}-other"), Route::Sticky);
    register(world, 0, &silent, 1);
    world.run_for(120_000);
    port_at(world, 0, &silent).is_none()
}

#[test]
fn of_a_cluster_whose_majority_is_dead_the_rest_judges_once_all_are_refused_for_long() {
    let mut world = World::new(7, 7);
    world.settings = |settings| settings.dead_after_ms = 60_000;
    (0..7).for_each(|node| world.start(node));
    world.run_for(20_000);
    (3..7).for_each(|node| world.crash(node));
    world.run_for(60_000);
    assert!((0..3).all(|node| !judges(&world, node)));
    world.run_for(60_000);
    assert!((0..3).all(|node| judges(&world, node)));
    assert!(silence_ends(&mut world, "a"));
}

#[test]
fn the_smaller_side_of_a_partition_and_both_halves_judge_nobody_however_long_it_lasts() {
    for groups in [[vec![0, 1], vec![2, 3, 4]], [vec![0, 1], vec![2, 3]]] {
        let nodes = groups.concat().len();
        let mut world = World::new(7, nodes);
        world.settings = |settings| settings.dead_after_ms = 10_000;
        (0..nodes).for_each(|node| world.start(node));
        world.run_for(20_000);
        world.split_network(&groups);
        world.run_for(20 * 60_000);
        assert!(!judges(&world, 0) && !judges(&world, 1));
        assert_eq!(judges(&world, 2), nodes == 5);
        // One that starts anew there learns from the other who counts.
        world.crash(1);
        world.start(1);
        world.run_for(10 * 60_000);
        assert!(!judges(&world, 0) && !judges(&world, 1), "{:?}", world.registry(1).unwrap().majority(world.now_at(1)));
        assert!(!silence_ends(&mut world, "a"));
    }
}

#[test]
fn names_that_come_once_and_a_beacon_that_names_a_thousand_hold_up_nobody_for_long() {
    let mut world = cluster(3);
    for number in 0..2000 {
        for node in 0..3 {
            let beacon = Message::Beacon(empty_beacon());
            world.feed(node, Input::Received(Envelope { from: ghost(&format!("once{number}")), message: beacon }));
        }
        world.run_for(1);
    }
    let members = (0..MEMBERS_MAX).map(|number| ghost_member(0, number)).collect();
    let liar = Message::Beacon(muster::registry::Beacon { members, ..empty_beacon() });
    (0..3).for_each(|node| world.feed(node, Input::Received(Envelope { from: ghost("liar"), message: liar.clone() })));
    world.run_for(70_000);
    assert!((0..3).all(|node| judges(&world, node)), "{:?}", world.registry(0).unwrap().majority(world.now_at(0)));
    assert!(silence_ends(&mut world, "a"));
}

/// Many records, as a life of no node would have written them.
fn flood(world: &mut World, node: usize, count: u64) {
    let from = ghost("flood");
    let record = |seq: u64| {
        let key = key("flood", &format!("i{seq}"));
        let registration = Arc::new(Registration::new(draft(&key, 1, TTL_MS)).unwrap());
        let version = Version {
            incarnation: Incarnation::FIRST,
            edition: 0,
            deregistered: false,
            generation: 0,
            live: true,
            owner: from.clone(),
            seq,
        };
        Arc::new(Record {
            key,
            version,
            body: Body::Live { registration, seen: Seen::Well, draining: false },
            cause: Cause::Registered,
            changed_at: 0,
            actor: None,
            detail: None,
            last_heartbeat_ms: None,
            first_content: None,
        })
    };
    let change = Change { first: 1, last: count, wants_ack: false, records: (1..=count).map(record).collect() };
    world.feed(node, Input::Received(Envelope { from, message: Message::Change(change) }));
}

#[test]
fn a_flood_of_records_fills_twice_the_limit_at_any_node_and_ends_with_its_leases() {
    let mut world = World::new(7, 3);
    world.settings = |settings| {
        settings.limits = Limits { instances: 10, ..Limits::default() };
        // So many silent ones are preserved first.
        settings.preserve_max_ms = 15_000;
    };
    (0..3).for_each(|node| world.start(node));
    world.run_for(3000);
    let kept = provider(&mut world, "kept", Route::Sticky);
    world.run_for(2000);
    flood(&mut world, 0, 6000);
    for _ in 0..60 {
        world.run_for(1000);
        let counts: Vec<u64> = (0..3).map(|node| world.registry(node).unwrap().record_count()).collect();
        assert!(counts.iter().all(|count| *count <= 20), "{counts:?}");
    }
    assert_eq!(world.violation.as_ref().map(ToString::to_string), None);
    assert_eq!(port_at(&world, 2, &world.providers[kept].key), Some(world.providers[kept].port));
    // Nobody answers for them: they are taken over, and go by silence.
    world.run_for(240_000);
    agree_within(&mut world, 10_000);
    assert_eq!(world.registry(0).unwrap().record_count(), 1);
}
