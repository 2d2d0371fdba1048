//! Scenarios that a script cannot say: with many instances, many rounds, or every shape of a thing. The others are in `scenarios/`.

#![expect(clippy::unwrap_used, reason = "the values are known to be good, and where one is not the test is to fail")]

mod fixed;
mod forged;
mod ghosts;
mod lines;
mod overrides;

use std::sync::Arc;

use muster::model::{Incarnation, InstanceKey, Registration};
use muster::registry::{
    Ack, Answer, Beacon, Deregister, Envelope, Heartbeat, Input, Message, Refusal, Register, Registered, content_digest,
};

use crate::bus::Weather;
use crate::counts::Injected;
use crate::eyes::Looks;
use crate::provider::{Habits, Provider, Route, draft};
use crate::teeth::{Sabotage, empty_beacon};
use crate::trace::Level;
use crate::world::{Ask, World, key};

pub(crate) const TTL_MS: u64 = 6000;

/// A cluster in fair weather, all of it ready.
pub(crate) fn cluster(nodes: usize) -> World {
    let mut world = World::new(7, nodes);
    world.set_clocks_right();
    (0..nodes).for_each(|node| world.start(node));
    world.run_for(3000);
    assert!((0..nodes).all(|node| world.is_ready(node)));
    assert_eq!(world.disagreement(), None);
    world
}

fn content(key: &InstanceKey, port: u16) -> Registration {
    Registration::new(draft(key, port, TTL_MS)).unwrap()
}

pub(crate) fn try_register(world: &mut World, node: usize, key: &InstanceKey, port: u16, incarnation: Option<u64>) -> Answer {
    let incarnation = incarnation.map(|number| Incarnation::new(number).unwrap());
    let registration = Arc::new(content(key, port));
    let register = Register { incarnation, ..Register::new(key.clone(), registration, 0) };
    world.ask_now(node, Ask::Register(register)).expect("a registration is answered at once")
}

pub(crate) fn register(world: &mut World, node: usize, key: &InstanceKey, port: u16) -> Registered {
    match try_register(world, node, key, port, None) {
        Answer::Registered(registered) => registered,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn heartbeat(world: &mut World, node: usize, key: &InstanceKey, digest: Option<u128>) -> Answer {
    let heartbeat = Heartbeat { key: key.clone(), incarnation: None, digest, reported: None, at: 0 };
    world.ask_now(node, Ask::Heartbeat(heartbeat)).expect("a heartbeat is answered at once")
}

pub(crate) fn deregister(world: &mut World, node: usize, key: &InstanceKey, incarnation: Option<u64>) -> Answer {
    let incarnation = incarnation.map(|number| Incarnation::new(number).unwrap());
    let deregister = Deregister { key: key.clone(), incarnation, actor: None, ack: Ack::Local };
    world.ask_now(node, Ask::Deregister(deregister)).expect("a deregistration is answered at once")
}

/// The port under which a node lists an instance.
pub(crate) fn port_at(world: &World, node: usize, key: &InstanceKey) -> Option<u16> {
    world.registry(node)?.record(key)?.registration().map(|registration| registration.port().get())
}

/// The nodes agree within this time, and in everything.
pub(crate) fn agree_within(world: &mut World, ms: u64) {
    let until = world.now + ms;
    while world.disagreement().is_some() && world.now < until {
        world.run_for(10);
    }
    assert_eq!(world.disagreement(), None, "{}", world.trace.about(&[]));
    world.check_contents();
    world.check_leases();
    assert_eq!(world.violation, None, "{}", world.trace.about(&[]));
}

pub(crate) fn provider(world: &mut World, id: &str, route: Route) -> usize {
    let habits =
        Habits { route, ttl_ms: TTL_MS, is_named: true, sends_digest: true, reports: false, looks: Looks::Never, shares_place: false };
    world.providers.push(Provider::new(key("s", id), habits, 0));
    world.start_provider(world.providers.len() - 1);
    world.providers.len() - 1
}

#[test]
fn what_comes_twice_counts_once() {
    let mut world = cluster(3);
    world.bus.weather = Weather { duplication: 1000, ..Weather::FAIR };
    for port in 1..50 {
        register(&mut world, 0, &key("s", "a"), port);
        world.run_for(15);
    }
    agree_within(&mut world, 3000);
    assert_eq!((world.writes, port_at(&world, 2, &key("s", "a"))), (49, Some(49)));
    assert!(world.counts.of(Injected::Duplicated) > 100);
}

#[test]
fn a_node_that_joins_amid_changes_knows_all() {
    let mut world = World::new(7, 3);
    world.start(0);
    world.start(1);
    world.run_for(3000);
    for count in 0..1000_u16 {
        if count == 300 {
            world.start(2);
        }
        register(&mut world, usize::from(count % 2), &key(&format!("s{}", count / 50), &format!("i{count}")), count + 1);
        world.run_for(2);
    }
    assert!(world.is_ready(2));
    agree_within(&mut world, 2000);
    assert_eq!(world.registry(2).unwrap().record_count(), 1000);
}

#[test]
fn nodes_that_start_together_become_ready_together() {
    let mut world = World::new(7, 3);
    world.bootstrap_wait_ms = 2000;
    (0..3).for_each(|node| world.start(node));
    for node in 0..3 {
        world.run_for(30);
        register(&mut world, node, &key("s", &format!("i{node}")), 1);
    }
    let mut ready_at = [None; 3];
    while world.now < 5000 && ready_at.contains(&None) {
        world.run_for(10);
        for (node, at) in ready_at.iter_mut().enumerate() {
            if world.is_ready(node) {
                at.get_or_insert(world.now);
            }
        }
    }
    let ready_at = ready_at.map(|at| at.expect("every node becomes ready"));
    assert!(ready_at.iter().all(|at| (2000..3500).contains(at)), "{ready_at:?}");
    assert!(ready_at.iter().max().unwrap() - ready_at.iter().min().unwrap() < 500, "{ready_at:?}");
    agree_within(&mut world, 2000);
    assert_eq!(world.registry(0).unwrap().record_count(), 3);
}

#[test]
fn an_empty_peer_that_is_heard_first_is_not_believed() {
    let mut world = World::new(7, 3);
    world.start(0);
    world.run_for(3000);
    for count in 0..100_u16 {
        register(&mut world, 0, &key("s", &format!("i{count}")), 1);
    }
    // For a second n1 and n2 hear each other, who know nothing, and not n0.
    world.bootstrap_wait_ms = 2000;
    world.bus.split(&[vec![0], vec![1, 2]]);
    world.start(1);
    world.start(2);
    world.run_for(1000);
    assert!(!world.is_ready(1) && !world.is_ready(2));
    world.bus.mend_cuts();
    while !world.is_ready(1) || !world.is_ready(2) {
        world.run_for(10);
        assert!(world.now < 10_000, "neither becomes ready");
        for node in [1, 2] {
            assert!(!world.is_ready(node) || world.registry(node).unwrap().record_count() == 100, "n{node} is ready and knows too little");
        }
    }
    agree_within(&mut world, 3000);
}

#[test]
fn a_deregistration_anywhere_is_one_everywhere() {
    let mut world = cluster(3);
    let a = key("s", "a");
    let digest = register(&mut world, 0, &a, 1).digest;
    world.run_for(50);
    assert!(matches!(deregister(&mut world, 2, &a, None), Answer::Deregistered { .. }));
    world.run_for(50);
    for node in 0..3 {
        assert_eq!(port_at(&world, node, &a), None);
        assert_eq!(heartbeat(&mut world, node, &a, Some(digest)), Answer::Refused(Refusal::UnknownLease));
    }
    agree_within(&mut world, 2000);
}

#[test]
fn heartbeats_behind_a_balancer_move_nothing_and_write_nothing() {
    let mut world = cluster(3);
    let index = provider(&mut world, "a", Route::RoundRobin);
    world.run_for(1000);
    let owner = world.registry(0).unwrap().record(&key("s", "a")).unwrap().version.owner.clone();
    let (writes, frames) = (world.writes, world.change_frames);
    world.run_for(120_000);
    assert_eq!((world.writes, world.change_frames), (writes, frames));
    assert_eq!(world.registry(0).unwrap().record(&key("s", "a")).unwrap().version.owner, owner);
    assert!(world.providers[index].renewed > 50 && world.relays.0 > 30);
    agree_within(&mut world, 1);
}

#[test]
fn ten_thousand_renewals_say_nothing_on_the_bus() {
    let mut world = cluster(3);
    let keys: Vec<_> = (0..100).map(|count| key("s", &format!("i{count}"))).collect();
    let digests: Vec<u128> = keys.iter().map(|key| register(&mut world, 0, key, 1).digest).collect();
    world.run_for(1000);
    let (writes, frames) = (world.writes, world.change_frames);
    for _ in 0..100 {
        for (key, digest) in keys.iter().zip(&digests) {
            assert!(matches!(heartbeat(&mut world, 0, key, Some(*digest)), Answer::Renewed(_)));
        }
        world.run_for(1500);
    }
    assert_eq!((world.writes, world.change_frames, world.relays), (writes, frames, (0, 0)));
    for (key, digest) in keys.iter().zip(&digests) {
        assert!(matches!(heartbeat(&mut world, 1, key, Some(*digest)), Answer::Renewed(_)));
    }
    world.run_for(1000);
    assert_eq!((world.writes, world.change_frames, world.relays), (writes, frames, (1, 100)));
}

#[test]
fn ten_thousand_instances_behind_a_balancer_move_nothing() {
    let mut world = cluster(3);
    let keys: Vec<_> = (0..10_000).map(|count| key(&format!("s{}", count / 100), &format!("i{count}"))).collect();
    let mut digests = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        digests.push(register(&mut world, index % 3, key, 1).digest);
        world.run_for(u64::from(index % 20 == 19));
    }
    world.run_for(1000);
    let (writes, frames) = (world.writes, world.change_frames);
    // Each goes on to the next node, and in the third round it is back where it was registered.
    for round in 1..=3 {
        for (index, (key, digest)) in keys.iter().zip(&digests).enumerate() {
            assert!(matches!(heartbeat(&mut world, (index + round) % 3, key, Some(*digest)), Answer::Renewed(_)));
            world.run_for(u64::from(index % 20 == 19));
        }
        world.run_for(1000);
    }
    let (messages, renewals) = world.relays;
    println!("{renewals} renewals in {messages} relays, {} bytes each, answers included", world.relay_bytes / renewals);
    assert_eq!((world.writes, world.change_frames, renewals), (writes, frames, 20_000));
    assert!(world.relay_bytes < renewals * 100);
    agree_within(&mut world, 1);
}

#[test]
fn digests_that_never_match_make_no_storm() {
    let mut world = cluster(3);
    world.trace.level = Level::Changes;
    world.sabotage = Some(Sabotage::WrongDigests);
    register(&mut world, 0, &key("s", "a"), 1);
    world.run_for(300_000);
    let lines = |words: &str| world.trace.lines().iter().filter(|line| line.contains(words)).count();
    assert!(lines("notices StillDiffers") > 0, "nobody was told");
    assert!(lines("notices Pulled") < 100, "{} pulls in five minutes", lines("notices Pulled"));
    assert_eq!(world.writes, 4, "it was registered, and then it was late, down and gone");
}

#[test]
fn the_first_heartbeat_claims_what_a_dead_owner_held() {
    let mut world = cluster(3);
    provider(&mut world, "a", Route::RoundRobin);
    world.run_for(1000);
    let owner = (0..3).find(|node| world.registry(*node).unwrap().holds_lease(&key("s", "a"))).unwrap();
    world.protect();
    world.crash(owner);
    world.run_for(9000);
    let record = world.registry((owner + 1) % 3).unwrap().record(&key("s", "a")).unwrap();
    assert_ne!(record.version.owner.node, world.slots[owner].name);
    agree_within(&mut world, 1);
    world.check_providers();
    assert_eq!(world.violation, None);
}

#[test]
fn of_two_claims_that_tie_one_stays() {
    let mut world = cluster(3);
    let a = key("s", "a");
    let digest = register(&mut world, 0, &a, 1).digest;
    world.run_for(50);
    world.crash(0);
    world.bus.cut_both(1, 2);
    for _ in 0..4 {
        world.run_for(2000);
        for node in [1, 2] {
            assert!(matches!(heartbeat(&mut world, node, &a, Some(digest)), Answer::Renewed(_)));
        }
    }
    let generation = |node| world.registry(node).unwrap().record(&a).unwrap().version.generation;
    assert_eq!((generation(1), generation(2)), (1, 1));
    assert!([1, 2].iter().all(|node| world.registry(*node).unwrap().holds_lease(&a)));
    world.bus.mend_cuts();
    agree_within(&mut world, 10_000);
    assert_eq!([1, 2].iter().filter(|node| world.registry(**node).unwrap().holds_lease(&a)).count(), 1);
}

#[test]
fn nodes_that_hear_changes_and_no_beacons_do_not_take_a_record_from_each_other_for_ever() {
    let mut world = cluster(3);
    let a = key("s", "a");
    let digest = register(&mut world, 0, &a, 1).digest;
    world.run_for(50);
    world.bus.split(&[vec![0], vec![1], vec![2]]);
    for _ in 0..3 {
        world.run_for(2000);
        for node in 0..3 {
            heartbeat(&mut world, node, &a, Some(digest));
        }
    }
    // Each counts the others for silent; what they wrote arrives before their beacons.
    let writes = world.writes;
    world.bus.mend_cuts();
    world.run_for(1);
    for node in 0..3 {
        register(&mut world, node, &key("s", "b"), node as u16 + 1);
        heartbeat(&mut world, node, &a, Some(digest));
    }
    agree_within(&mut world, 10_000);
    assert!(world.writes - writes < 20, "{} changes", world.writes - writes);
}

#[test]
fn a_provider_without_a_digest_is_asked_again_for_what_holds() {
    let mut world = cluster(2);
    let a = key("s", "a");
    register(&mut world, 0, &a, 1);
    world.run_for(50);
    world.bus.cut_both(0, 1);
    world.run_for(100);
    register(&mut world, 1, &a, 2);
    world.run_for(1000);
    // It says its former content no more, but renews where that is held.
    assert!(matches!(heartbeat(&mut world, 0, &a, None), Answer::Renewed(_)));
    world.bus.mend_cuts();
    world.run_for(3000);
    assert_eq!(port_at(&world, 0, &a), Some(2));
    assert_eq!(heartbeat(&mut world, 0, &a, None), Answer::Refused(Refusal::UnknownLease));
    assert!(matches!(heartbeat(&mut world, 0, &a, None), Answer::Renewed(_)));
    agree_within(&mut world, 2000);
}

#[test]
fn one_that_sends_the_digest_of_another_content_is_told_to_register() {
    let mut world = cluster(2);
    let a = key("s", "a");
    register(&mut world, 0, &a, 1);
    world.run_for(50);
    let other = content_digest(&content(&a, 2));
    assert_eq!(heartbeat(&mut world, 0, &a, Some(other)), Answer::Refused(Refusal::UnknownLease));
    // At another node it is the owner who says so: the next heartbeat there is refused.
    assert!(matches!(heartbeat(&mut world, 1, &a, Some(other)), Answer::Renewed(_)));
    world.run_for(300);
    assert_eq!(heartbeat(&mut world, 1, &a, Some(other)), Answer::Refused(Refusal::UnknownLease));
}

#[test]
fn a_whole_copy_whose_giver_dies_is_taken_from_another() {
    let mut world = World::new(7, 3);
    world.trace.level = Level::Changes;
    world.start(0);
    world.start(1);
    world.run_for(3000);
    for count in 0..3000_u16 {
        let key = key(&format!("s{}", count / 50), &format!("i{count}"));
        let mut large = draft(&key, count + 1, 60_000);
        large.metadata.insert("text".to_owned(), "x".repeat(1000));
        let registration = Arc::new(Registration::new(large).unwrap());
        let register = Register::new(key, registration, 0);
        world.ask_now(0, Ask::Register(register));
        world.run_for(1);
    }
    agree_within(&mut world, 2000);
    world.start(2);
    while world.registry(2).unwrap().record_count() < 1000 {
        world.run_for(1);
        assert!(world.now < 20_000, "no copy comes");
    }
    assert!(!world.is_ready(2));
    let giver = usize::from(world.trace.lines().iter().any(|line| line.contains("n2 notices Pulled { from: \"n1\", kind: \"copy\" }")));
    world.crash(giver);
    let until = world.now + 10_000;
    while !world.is_ready(2) && world.now < until {
        world.run_for(10);
    }
    assert!(world.is_ready(2));
    assert_eq!(world.registry(2).unwrap().record_count(), 3000);
}

#[test]
fn five_nodes_split_in_every_way_agree_again() {
    for shape in 1..16_usize {
        let mut world = cluster(5);
        let (one, other): (Vec<usize>, Vec<usize>) = (0..5).partition(|node| shape >> node & 1 == 1);
        world.bus.split(&[one, other]);
        for round in 0..6_u16 {
            for node in 0..5 {
                register(&mut world, node, &key("s", "a"), round * 5 + node as u16 + 1);
                register(&mut world, node, &key("s", &format!("i{node}")), round + 1);
            }
            deregister(&mut world, usize::from(round % 5), &key("s", &format!("i{}", (round + 1) % 5)), None);
            world.run_for(1100);
        }
        world.bus.mend_cuts();
        agree_within(&mut world, 10_000);
    }
}

#[test]
fn without_the_bus_every_node_goes_on_alone_and_then_all_agree() {
    let mut world = cluster(3);
    for node in 0..3 {
        world.break_line(node, 100);
    }
    world.run_for(1000);
    for node in 0..3 {
        let key = key("s", &format!("i{node}"));
        let digest = register(&mut world, node, &key, 1).digest;
        world.run_for(4000);
        assert!(matches!(heartbeat(&mut world, node, &key, Some(digest)), Answer::Renewed(_)));
        assert_eq!(port_at(&world, (node + 1) % 3, &key), None);
        assert!(!world.is_converged(node), "a node that hears nobody cannot say that all agree");
    }
    for node in 0..3 {
        world.mend_line(node);
    }
    agree_within(&mut world, 10_000);
    assert_eq!(world.registry(0).unwrap().record_count(), 3);
}

#[test]
fn a_node_that_starts_again_at_once_is_given_all() {
    let mut world = cluster(2);
    for count in 0..50_u16 {
        register(&mut world, 0, &key("s", &format!("i{count}")), 1);
    }
    world.run_for(1000);
    for _ in 0..20 {
        world.crash(1);
        world.run_for(130);
        world.start(1);
        while !world.is_ready(1) {
            world.run_for(10);
        }
        assert_eq!(world.registry(1).unwrap().record_count(), 50);
    }
}

#[test]
fn a_head_that_nobody_wrote_keeps_nothing_from_being_pulled() {
    let mut world = cluster(3);
    world.bus.cut(2, 0);
    let lost = key("s", "a");
    register(&mut world, 2, &lost, 1);
    world.run_for(500);
    world.crash(2);
    let liar = world.life(1).unwrap();
    let false_head = Message::Beacon(Beacon { head: 100, ..empty_beacon() });
    assert_eq!(port_at(&world, 0, &lost), None);
    world.feed(0, Input::Received(Envelope { from: liar, message: false_head }));
    world.run_for(3000);
    assert_eq!(port_at(&world, 0, &lost), Some(1), "{}", world.trace.about(&["Pulled"]));
    agree_within(&mut world, 10_000);
}
