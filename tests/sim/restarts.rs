//! Restarts from disk: what was saved is shown and flagged, never taken for the present, and lost by nobody.

#![expect(clippy::unwrap_used, reason = "the values are known to be good, and where one is not the test is to fail")]

use std::sync::Arc;

use muster::model::{Incarnation, InstanceKey, Registration, ServiceKey};
use muster::registry::{Ack, Answer, Deregister, NodeState, Register, Registry, Settings};

use crate::disk::{Disk, Habit};
use crate::eyes::Looks;
use crate::provider::{Habits, Provider, Route, draft};
use crate::trace::Level;
use crate::world::{Ask, World, key};

const TTL_MS: u64 = 6000;
/// A node is sure again at the latest so long after its start, in fair weather: it exchanged, and each provider had its say.
const SURE_MS: u64 = 45_000;

/// A cluster whose nodes have disks, all of it ready.
fn cluster(seed: u64, habits: &[Habit]) -> World {
    cluster_with(seed, habits, |_| {})
}

fn cluster_with(seed: u64, habits: &[Habit], settings: fn(&mut Settings)) -> World {
    let mut world = World::new(seed, habits.len());
    world.settings = settings;
    world.bootstrap_wait_ms = 2000;
    world.trace.level = Level::Changes;
    world.disks = habits.iter().map(|habit| Disk::new(*habit)).enumerate().collect();
    (0..habits.len()).for_each(|node| world.start(node));
    world.run_for(6000);
    assert!((0..habits.len()).all(|node| world.is_ready(node)), "{}", world.trace.about(&[]));
    world
}

/// So many providers that go on, whatever happens, each at a node of its own.
fn providers(world: &mut World, count: usize) {
    for index in 0..count {
        let habits = Habits {
            route: Route::Sticky,
            ttl_ms: TTL_MS,
            is_named: true,
            sends_digest: true,
            reports: false,
            looks: Looks::Never,
            shares_place: false,
        };
        let home = index % world.slots.len();
        world.providers.push(Provider::new(key("s", &format!("i{index}")), habits, home));
        world.start_provider(index);
    }
    world.run_for(3000);
}

/// One that nobody renews, for an hour.
fn register(world: &mut World, node: usize, key: &InstanceKey) {
    register_life(world, node, key, None);
}

fn register_life(world: &mut World, node: usize, key: &InstanceKey, incarnation: Option<u64>) {
    let incarnation = incarnation.map(|number| Incarnation::new(number).unwrap());
    let registration = Arc::new(Registration::new(draft(key, 1, 3_600_000)).unwrap());
    let register = Register { incarnation, ..Register::new(key.clone(), registration, 0) };
    assert!(matches!(world.ask_now(node, Ask::Register(register)), Some(Answer::Registered(_))));
}

fn deregister(world: &mut World, node: usize, key: &InstanceKey) {
    let deregister = Deregister { key: key.clone(), incarnation: None, actor: None, ack: Ack::Local };
    assert!(matches!(world.ask_now(node, Ask::Deregister(deregister)), Some(Answer::Deregistered { .. })));
}

fn service() -> ServiceKey {
    key("s", "any").service
}

fn listed(registry: &Registry) -> usize {
    registry.catalog().view(&service()).map_or(0, |view| view.instances().len())
}

fn lists(world: &World, node: usize, key: &InstanceKey) -> bool {
    world.registry(node).unwrap().catalog().view(&key.service).is_some_and(|view| view.instances().contains_key(&key.id))
}

fn crash_all(world: &mut World) {
    for node in world.running() {
        world.crash(node);
    }
}

/// Every list that is given meanwhile is whole, or says that it may not be.
fn watch_for(world: &mut World, ms: u64, whole: usize) {
    let until = world.now + ms;
    while world.now < until {
        world.run_for(10);
        for node in world.running() {
            let registry = world.registry(node).unwrap();
            let (count, complete) = (listed(registry), registry.complete());
            assert!(
                !complete || count >= whole,
                "n{node} lists {count} of {whole} and says that these are all: {}",
                world.trace.about(&[])
            );
            let answers = registry.state() != NodeState::Warming || registry.has_restored();
            let is_flagged = registry.stale_since().is_some() || !complete;
            assert!(!answers || count >= whole || is_flagged, "n{node} lists {count} of {whole} without a word");
        }
    }
    assert_eq!(world.violation, None, "{}", world.trace.about(&[]));
}

/// All nodes are sure, and hold the same.
fn check_agreed(world: &mut World) {
    assert_eq!(world.disagreement(), None, "{}", world.trace.about(&[]));
    world.check_contents();
    assert_eq!(world.violation, None, "{}", world.trace.about(&[]));
}

#[test]
fn all_nodes_die_at_once_and_no_list_that_says_it_is_whole_is_shorter() {
    const HABITS: [[Habit; 3]; 4] = [
        [Habit::Sound; 3],
        [Habit::Sound, Habit::Full, Habit::Sound],
        [Habit::Cuts, Habit::Flips, Habit::Sound],
        [Habit::Flips, Habit::Flips, Habit::Cuts],
    ];
    for (seed, (habits, delays)) in
        HABITS.iter().flat_map(|habits| [[0, 0, 0], [0, 700, 1900], [0, 2500, 9000]].map(|delays| (habits, delays))).enumerate()
    {
        let mut world = cluster(seed as u64, habits);
        providers(&mut world, 20);
        watch_for(&mut world, 2000, 20);
        crash_all(&mut world);
        world.run_for(1500);
        for (node, wait) in delays.into_iter().enumerate() {
            watch_for(&mut world, wait, 20);
            world.start(node);
        }
        watch_for(&mut world, SURE_MS, 20);
        check_agreed(&mut world);
    }
}

#[test]
fn nodes_that_start_together_hold_together_what_each_had_saved() {
    let mut world = cluster(3, &[Habit::Sound; 3]);
    let [a, b, c] = ["a", "b", "c"].map(|id| key("s", id));
    // Each knows something that was saved nowhere else.
    for (node, key) in [&a, &b, &c].into_iter().enumerate() {
        (0..3).for_each(|other| world.disks.get_mut(&other).unwrap().habit = if other == node { Habit::Sound } else { Habit::Full });
        world.bus.split(&[vec![0], vec![1], vec![2]]);
        register(&mut world, node, key);
        world.run_for(1000);
    }
    crash_all(&mut world);
    world.bus.mend_cuts();
    world.run_for(6000);
    (0..3).for_each(|node| world.start(node));
    while !world.is_ready(0) {
        world.run_for(10);
    }
    assert!(lists(&world, 0, &a) && lists(&world, 0, &b) && lists(&world, 0, &c), "ready before they had exchanged what each had");
    assert!(!world.registry(0).unwrap().complete(), "nobody can be sure yet");
    assert_eq!(world.registry(0).unwrap().restored_lives().len(), 1);
}

#[test]
fn a_node_that_starts_alone_shows_its_disk_and_is_sure_once_each_provider_had_its_say() {
    let mut world = cluster(5, &[Habit::Sound]);
    providers(&mut world, 5);
    world.crash(0);
    world.run_for(1000);
    world.start(0);
    let registry = world.registry(0).unwrap();
    assert_eq!((registry.state(), listed(registry), registry.complete()), (NodeState::Warming, 5, false));
    let age_ms = world.now_at(0).mono - registry.stale_since().unwrap();
    assert!((1000..5000).contains(&age_ms), "saved {age_ms} ms ago");
    watch_for(&mut world, 25_000, 5);
    assert!(world.is_ready(0));
    assert!(!world.registry(0).unwrap().complete(), "a provider may still be on its way");
    watch_for(&mut world, SURE_MS - 25_000, 5);
    let registry = world.registry(0).unwrap();
    assert_eq!((registry.complete(), registry.stale_since()), (true, None));
}

#[test]
fn an_old_file_raises_nobody_while_a_peer_knows_better() {
    let mut world = cluster_with(7, &[Habit::Sound; 3], |settings| settings.limits.withdrawn = 0);
    let (stays, goes) = (key("s", "stays"), key("s", "goes"));
    register(&mut world, 0, &stays);
    register(&mut world, 0, &goes);
    world.run_for(2000);
    world.crash(2);
    deregister(&mut world, 1, &goes);
    world.run_for(5000);
    assert_eq!(world.registry(0).unwrap().withdrawn_count(), 0, "nobody remembers that it went");
    world.start(2);
    assert!(lists(&world, 2, &goes), "it shows its disk");
    assert!(world.registry(2).unwrap().stale_since().is_some() && !world.registry(2).unwrap().complete());
    while !world.is_ready(2) {
        world.run_for(10);
        assert!(!lists(&world, 0, &goes) && !lists(&world, 1, &goes), "it rose again");
    }
    let registry = world.registry(2).unwrap();
    assert!(!lists(&world, 2, &goes) && lists(&world, 2, &stays), "{}", world.trace.about(&[]));
    assert_eq!((registry.complete(), registry.stale_since(), registry.has_restored()), (true, None, false));
    world.run_for(15_000);
    check_agreed(&mut world);
}

#[test]
fn what_a_late_node_had_saved_is_not_lost_while_nobody_is_sure() {
    let mut world = cluster(9, &[Habit::Sound; 2]);
    let (both, late) = (key("s", "both"), key("s", "late"));
    register(&mut world, 0, &both);
    world.run_for(2000);
    world.disks.get_mut(&0).unwrap().habit = Habit::Full;
    register(&mut world, 1, &late);
    world.run_for(2000);
    crash_all(&mut world);
    world.run_for(6000);
    world.start(0);
    world.run_for(8000);
    assert!(world.is_ready(0) && !lists(&world, 0, &late));
    world.start(1);
    world.run_for(8000);
    assert!(world.is_ready(1));
    assert!([0, 1].iter().all(|node| lists(&world, *node, &both) && lists(&world, *node, &late)), "{}", world.trace.about(&[]));
}

#[test]
fn a_registration_at_a_warming_node_meets_what_its_disk_knew() {
    let mut world = cluster(11, &[Habit::Sound]);
    let a = key("s", "a");
    register_life(&mut world, 0, &a, Some(5));
    deregister(&mut world, 0, &a);
    world.run_for(2000);
    world.crash(0);
    world.run_for(100);
    world.start(0);
    register(&mut world, 0, &a);
    world.run_for(5000);
    assert!(world.is_ready(0) && lists(&world, 0, &a), "{}", world.trace.about(&[]));
    world.check_leases();
    assert_eq!(world.violation, None);
}
