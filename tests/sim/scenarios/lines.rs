//! Long and thin lines: a node that is far from the others, or to which little fits through, comes to know all they know.

use std::sync::Arc;

use muster::model::{Incarnation, Registration, Ttl};
use muster::registry::{Answer, Register};

use super::{agree_within, deregister, heartbeat, port_at, try_register};
use crate::lines::Line;
use crate::provider::draft;
use crate::world::{Ask, World, key};

const VALUE_BYTES: usize = 1000;

/// Registers instances of about so many thousand bytes each, which stay listed without heartbeats.
fn register_large(world: &mut World, node: usize, prefix: &str, count: usize, values: usize) {
    for index in 0..count {
        let key = key(&format!("s{}", index % 7), &format!("{prefix}{index}"));
        let mut content = draft(&key, 80, 6000);
        content.ttl = Some(Ttl::from_ms(3_600_000).expect("a ttl"));
        content.metadata = (0..values).map(|value| (format!("k{value}"), "x".repeat(VALUE_BYTES))).collect();
        let registration = Arc::new(Registration::new(content).unwrap());
        let register = Register { incarnation: Incarnation::new(1), ..Register::new(key, registration, 0) };
        world.ask_now(node, Ask::Register(register)).expect("a registration is answered at once");
        world.run_for(1);
    }
    world.run_for(2000);
}

/// So many nodes that hold `count` records of `values` thousand bytes each, and one more that is about to start.
fn about_to_join(nodes: usize, count: usize, values: usize) -> World {
    let mut world = World::new(7, nodes + 1);
    world.bootstrap_wait_ms = 2000;
    (0..nodes).for_each(|node| world.start(node));
    world.run_for(3000);
    register_large(&mut world, 0, "i", count, values);
    world.bus.bytes_to.clear();
    world
}

/// Starts the node and waits until it is ready; it then knows all. Gives how long that took.
fn join(world: &mut World, node: usize, within_ms: u64) -> u64 {
    let (began, expected) = (world.now, world.registry(0).map_or(0, muster::registry::Registry::record_count));
    world.start(node);
    while !world.is_ready(node) && world.now < began + within_ms {
        world.run_for(50);
    }
    let registry = world.registry(node).unwrap();
    assert!(world.is_ready(node), "not ready after {within_ms} ms, with {} of {expected} records", registry.record_count());
    assert!(registry.complete(), "ready, and not complete, with {} of {expected} records", registry.record_count());
    assert_eq!(registry.record_count(), expected);
    world.now - began
}

fn bytes_to(world: &World, node: usize) -> u64 {
    world.bus.bytes_to.get(&node).copied().unwrap_or_default()
}

#[test]
fn a_node_joins_over_a_long_line_with_many_answers_on_their_way() {
    let mut world = about_to_join(1, 800, 8);
    world.bus.set_line(1, Line::new(450, 0));
    let took = join(&mut world, 1, 60_000);
    assert!(took < 20_000, "{took} ms");
    agree_within(&mut world, 5000);
}

#[test]
fn a_node_joins_where_each_answer_takes_more_than_a_second() {
    let mut world = about_to_join(1, 400, 4);
    world.bus.set_line(1, Line::new(750, 0));
    let took = join(&mut world, 1, 60_000);
    assert!(took < 30_000, "{took} ms");
    agree_within(&mut world, 8000);
}

/// Its first own beacon comes later than the bootstrap wait is over: until then nobody else's can have come either.
#[test]
fn a_node_joins_where_each_answer_takes_two_or_three_seconds() {
    for (nodes, one_way_ms) in [(1, 1000), (2, 1300), (1, 1500), (2, 1500)] {
        let mut world = about_to_join(nodes, 200, 4);
        world.bus.set_line(nodes, Line::new(one_way_ms, 0));
        join(&mut world, nodes, 120_000);
    }
}

#[test]
fn a_node_joins_over_a_thin_line_and_is_sent_little_twice() {
    let mut world = about_to_join(1, 1500, 1);
    world.bus.set_line(1, Line::new(20, 25_000));
    let took = join(&mut world, 1, 200_000);
    let (bytes, least) = (bytes_to(&world, 1), 1500 * (VALUE_BYTES as u64 + 100));
    assert!(bytes < least * 3 / 2, "{bytes} bytes for {least}, in {took} ms");
    agree_within(&mut world, 10_000);
}

#[test]
fn whoever_joins_goes_on_at_another_node_when_the_giver_is_gone() {
    let mut world = about_to_join(2, 1500, 1);
    world.bus.set_line(2, Line::new(150, 50_000));
    // Whose records these are does not give them: with it nothing else is to happen than that.
    world.mutes_pulls_of = Some(0);
    world.start(2);
    while world.registry(2).unwrap().record_count() < 700 {
        world.run_for(50);
        assert!(world.now < 120_000, "{} records", world.registry(2).unwrap().record_count());
    }
    world.mutes_pulls_of = None;
    world.crash(1);
    let until = world.now + 120_000;
    while !world.is_ready(2) && world.now < until {
        world.run_for(50);
        let registry = world.registry(2).unwrap();
        assert!(!world.is_ready(2) || registry.record_count() == 1500, "ready with {} records", registry.record_count());
    }
    assert!(world.is_ready(2));
    assert_eq!(world.registry(2).unwrap().digest(), world.registry(0).unwrap().digest());
    let (bytes, least) = (bytes_to(&world, 2), 1500 * (VALUE_BYTES as u64 + 100));
    assert!(bytes < least * 3 / 2, "{bytes} bytes for {least}");
}

fn bytes_from(world: &World, node: usize) -> u64 {
    world.bus.bytes_from.get(&node).copied().unwrap_or_default()
}

#[test]
fn whoever_joins_goes_on_at_another_node_when_the_giver_answers_nothing() {
    let mut world = about_to_join(2, 600, 1);
    // Its beacons come, and nothing that it answers.
    world.mutes_pulls_of = Some(0);
    let took = join(&mut world, 2, 60_000);
    assert!(took < 15_000, "{took} ms");
}

#[test]
fn what_two_nodes_missed_of_each_other_comes_over_a_thin_line_in_the_end() {
    let mut world = about_to_join(2, 10, 1);
    world.bus.set_line(1, Line::new(150, 25_000));
    world.bus.cut_both(0, 1);
    register_large(&mut world, 0, "x", 700, 1);
    register_large(&mut world, 1, "y", 300, 1);
    world.bus.mend_cuts();
    world.bus.bytes_to.clear();
    agree_within(&mut world, 90_000);
    let (bytes, least) = (bytes_to(&world, 1), 700 * (VALUE_BYTES as u64 + 100));
    assert!(bytes < least * 2, "{bytes} bytes for {least}");
}

#[test]
fn a_node_of_the_version_before_gives_and_takes_as_it_always_did() {
    for elder in [0, 1] {
        let mut world = about_to_join(1, 600, 1);
        world.elders.insert(elder);
        let took = join(&mut world, 1, 20_000);
        assert!(took < 5000, "{took} ms");
        world.bus.cut_both(0, 1);
        register_large(&mut world, elder, "x", 300, 1);
        register_large(&mut world, 1 - elder, "y", 300, 1);
        world.bus.mend_cuts();
        agree_within(&mut world, 10_000);
    }
}

#[test]
fn what_registered_at_a_node_of_the_version_before_stays_when_another_takes_it_over() {
    let mut world = World::new(7, 3);
    [3_600_000, 0, 3_600_000].into_iter().zip(&mut world.slots).for_each(|(offset, slot)| slot.wall_offset = offset);
    world.elders.insert(1);
    (0..3).for_each(|node| world.start(node));
    world.run_for(4000);
    let a = key("s", "a");
    world.bus.split(&[vec![0, 2], vec![1]]);
    deregister(&mut world, 0, &a, None);
    world.run_for(100);
    // It came later, whatever that node's editions are.
    try_register(&mut world, 1, &a, 1, Some(5));
    world.run_for(500);
    world.bus.mend_cuts();
    agree_within(&mut world, 10_000);
    assert_eq!(port_at(&world, 0, &a), Some(1));
    world.crash(1);
    world.run_for(6000);
    assert!(matches!(heartbeat(&mut world, 2, &a, None), Answer::Renewed(_)));
    world.run_for(1000);
    assert_eq!((port_at(&world, 0, &a), port_at(&world, 2, &a)), (Some(1), Some(1)));
}

#[test]
fn many_that_join_at_once_are_served_turn_by_turn() {
    let mut world = World::new(7, 9);
    world.settings = |settings| settings.limits.pull_bytes_per_second = 400_000;
    world.start(0);
    world.run_for(3000);
    register_large(&mut world, 0, "i", 1000, 1);
    let began = world.now;
    (1..9).for_each(|node| world.start(node));
    let mut ready_at = [0; 9];
    while ready_at[1..].contains(&0) && world.now < began + 120_000 {
        world.run_for(50);
        for (node, at) in ready_at.iter_mut().enumerate().filter(|(_, at)| **at == 0) {
            if world.is_ready(node) {
                assert_eq!(world.registry(node).unwrap().record_count(), 1000, "n{node} is ready with less");
                *at = world.now - began;
            }
        }
    }
    let took = (ready_at[1..].iter().min().copied().unwrap(), ready_at[1..].iter().max().copied().unwrap());
    assert!(took.0 > 0 && took.1 < 60_000, "{ready_at:?}");
    let sent = bytes_from(&world, 0);
    assert!(sent * 1000 / took.1 < 600_000, "{sent} bytes in {} ms", took.1);
}

#[test]
fn whoever_joins_goes_on_when_the_giver_that_owns_all_is_gone_and_another_takes_it_over() {
    let mut world = about_to_join(2, 600, 1);
    world.bus.set_line(2, Line::new(150, 50_000));
    world.mutes_pulls_of = Some(1);
    world.start(2);
    while world.registry(2).unwrap().record_count() < 300 {
        world.run_for(50);
        assert!(world.now < 120_000, "{} records", world.registry(2).unwrap().record_count());
    }
    world.mutes_pulls_of = None;
    world.crash(0);
    let until = world.now + 120_000;
    while !world.is_ready(2) && world.now < until {
        world.run_for(50);
    }
    let registry = world.registry(2).unwrap();
    assert!(world.is_ready(2) && registry.complete(), "{} records, {}", registry.record_count(), world.trace.about(&["n2"]));
    agree_within(&mut world, 60_000);
}
