//! A story: one run from its seed. First everything goes wrong, then it heals, and then all must agree.

use crate::counts::{Counts, Injected};
use crate::disk::{Disk, Habit};
use crate::eyes::Looks;
use crate::invariant::{Invariant, Violation};
use crate::provider::{Doing, Habits, Provider, Route};
use crate::teeth::Sabotage;
use crate::trace::{Level, Trace};
use crate::world::{Event, World, key};

/// The nodes agree so long after the last fault or the last write, whichever was later.
const AGREE_MS: u64 = 10_000;
/// A node that was given half a copy, and whose giver is gone as everybody else is, cannot tell that from a long and thin line: it goes on alone
/// when nothing has come for 30 s.
const ALONE_MS: u64 = 30_000;
/// From healing to the time at which nothing changes any more: every lease of before has ended, one way or the other.
const SETTLE_MS: u64 = 160_000;
/// Self-preservation lasts so long in these runs, so that they end.
const PRESERVE_MAX_MS: u64 = 15_000;
/// A node that does not run refuses everybody for so long before it counts no more.
const DEAD_AFTER_MS: u64 = 15_000;
/// A node that leaves in fair weather has handed over what it owned within this time.
const LEAVE_MS: u64 = 2000;
/// So long nothing is written, though every provider goes on renewing.
const REST_MS: u64 = 15_000;
/// The longest ttl of a story, and its grace.
const LEASE_MS: u64 = 12_000;
/// So much too fast or too slow a node's monotonic clock may go, in millionths.
const DRIFT_PPM_MAX: u64 = 1000;
const LOOK_EVERY_MS: u64 = 250;
/// So many providers speak at any node.
const SPEAKERS_MAX: u64 = 3;

/// What a run is made of.
#[derive(Debug, Clone)]
pub(crate) struct Story {
    pub(crate) seed: u64,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) level: Level,
    /// Wall clocks stray while nodes run.
    pub(crate) wall_clocks_err: bool,
    /// Some nodes have disks.
    pub(crate) has_disks: bool,
}

impl Story {
    pub(crate) fn of(seed: u64) -> Self {
        Self { seed, sabotage: None, level: Level::Off, wall_clocks_err: true, has_disks: true }
    }
}

/// How a run went.
pub(crate) struct Told {
    pub(crate) violation: Option<Violation>,
    pub(crate) counts: Counts,
    pub(crate) trace: Trace,
    /// Of simulated time.
    pub(crate) ms: u64,
    pub(crate) writes: u64,
    /// The digests of all nodes at the end.
    pub(crate) digests: Vec<u128>,
}

/// Runs a story to its end, or to what is wrong.
pub(crate) fn run(story: &Story) -> Told {
    let mut world = begin(story);
    world.run_until(world.chaos_until);
    if world.violation.is_none() {
        settle(&mut world);
    }
    if world.violation.is_none() {
        rest(&mut world);
    }
    if world.violation.is_none() {
        rejoin(&mut world);
    }
    let digests = world.running().iter().filter_map(|node| world.registry(*node)).map(muster::registry::Registry::digest).collect();
    Told { violation: world.violation, counts: world.counts, trace: world.trace, ms: world.now, writes: world.writes, digests }
}

fn begin(story: &Story) -> World {
    let mut world = World::new(story.seed, 1);
    let nodes = world.chance.pick(&[2, 3, 3, 3, 4, 5]);
    let mut world = World::new(world.chance.next(), nodes);
    world.trace.level = story.level;
    world.sabotage = story.sabotage;
    world.wall_clocks_err = story.wall_clocks_err;
    // In every other story clocks agree, and go alike: then the order of words that have not met is the order in which they were sent.
    let clocks_agree = world.chance.permille(500);
    if clocks_agree {
        world.set_clocks_right();
    }
    world.settings = |settings| {
        settings.preserve_max_ms = PRESERVE_MAX_MS;
        settings.dead_after_ms = DEAD_AFTER_MS;
    };
    for slot in world.slots.iter_mut().filter(|_| !clocks_agree) {
        slot.drift_ppm = world.chance.between(0, 2 * DRIFT_PPM_MAX).cast_signed() - DRIFT_PPM_MAX.cast_signed();
    }
    equip(&mut world, story.has_disks);
    world.bootstrap_wait_ms = world.chance.pick(&[200, 2000]);
    world.answers_lost = world.chance.pick(&[0, 0, 100]);
    world.chaos_until = world.chance.between(5000, 60_000);
    (world.words.until, world.words.is_checked) = (world.chaos_until, clocks_agree);
    for _ in 0..world.chance.between(0, SPEAKERS_MAX) {
        let (ttl_ms, is_named) = (world.chance.pick(&[None, Some(3000)]), world.chance.permille(300));
        let gap_ms = world.chance.pick(&[0, 30, 500, 3000]);
        world.add_speaker(ttl_ms, is_named, gap_ms);
    }
    let providers = world.chance.between(1, 12) as usize;
    // Groups of up to ten of one service, or of up to four.
    let services = world.chance.pick(&[1, 3, 3]);
    // Where all have one ttl, those that fall silent together expire together.
    let ttls = world.chance.pick(&[vec![3000, 4500, 6000], vec![3000]]);
    for index in 0..providers {
        let habits = Habits {
            route: world.chance.pick(&[Route::Sticky, Route::RoundRobin]),
            ttl_ms: world.chance.pick(&ttls),
            is_named: world.chance.permille(600),
            sends_digest: world.chance.permille(600),
            reports: world.chance.permille(200),
            // One whose place another takes is never looked at: whoever listens there now would answer for it.
            looks: world.chance.pick(if index < 4 { &[Looks::Never; 4] } else { &[Looks::Never, Looks::Late, Looks::Late, Looks::Always] }),
            // Two of one service, and one of each other.
            shares_place: index < 4,
        };
        let home = world.chance.index(nodes);
        // Of the first four one place is shared by two of one service.
        let service = ["a", "b", "c"][index % if index < 4 { 3 } else { services }];
        world.providers.push(Provider::new(key(service, &format!("i{index}")), habits, home));
        // Of every other story two of three providers hold their leases by connections; the others are told as they always were.
        world.providers[index].attaches = !story.seed.is_multiple_of(2) && index % 3 != 2;
        let after = world.chance.between(0, 8000);
        world.after(after, Event::Restart { provider: index });
    }
    for service in ["a", "b", "c"] {
        let node = world.chance.index(nodes);
        world.add_consumer(key(service, "i").service, node);
    }
    for node in 0..nodes {
        let after = world.chance.pick(&[0, 0, 0, 300, 3000, 20_000]);
        world.after(after, Event::Start { node });
    }
    if world.chance.permille(150) {
        let node = world.chance.index(nodes);
        world.add_clone_of(node);
    }
    world.start(0);
    let after = world.chance.between(100, 6000);
    world.after(after, Event::Chaos);
    world.after(0, Event::Look);
    world
}

/// No node has a disk, or some have, or all have sound ones.
fn equip(world: &mut World, has_disks: bool) {
    let how = world.chance.index(3);
    for node in world.places() {
        let (has_one, drawn) = (world.chance.permille(700), Habit::drawn(&mut world.chance));
        let habit = if how == 0 { Habit::Sound } else { drawn };
        if has_disks && (how == 0 || how == 1 && has_one) {
            world.disks.insert(node, Disk::new(habit));
        }
    }
}

/// Everything heals, and all come to agree, in time after each write.
fn settle(world: &mut World) {
    world.heal();
    for node in world.places() {
        if world.chance.permille(800) || world.running().is_empty() {
            world.start(node);
        }
    }
    for index in 0..world.providers.len() {
        if world.providers[index].runs() {
            let after = world.chance.between(1, 500);
            world.tick_provider(index, after);
            if !world.providers[index].habits.sends_digest || world.providers[index].attaches {
                // What such a provider says holds from its next registration on.
                world.providers[index].doing = Doing::Registering;
            }
        }
    }
    let healed_at = world.now;
    let mut has_agreed = false;
    while world.now < healed_at + SETTLE_MS {
        world.run_for(LOOK_EVERY_MS);
        let disagreement = world.disagreement();
        match disagreement {
            Some(why) if world.now > world.last_write.max(healed_at) + patience_ms(world) => world.violate(Invariant::Convergence, why),
            None if !has_agreed && world.now > healed_at + AGREE_MS => {
                has_agreed = true;
                world.protect();
                // Once all agree, those that send no digest register once more.
                for index in 0..world.providers.len() {
                    let sends_digest = world.providers[index].habits.sends_digest && !world.providers[index].attaches;
                    if world.providers[index].runs() && !sends_digest {
                        world.providers[index].doing = Doing::Registering;
                        world.tick_provider(index, 1);
                    }
                }
            }
            Some(_) | None => {}
        }
        if world.violation.is_some() {
            return;
        }
    }
    if !has_agreed {
        world.violate(Invariant::Convergence, "the nodes did not agree at any moment".to_owned());
    }
}

/// So long after the last write nodes may still differ.
fn patience_ms(world: &World) -> u64 {
    match world.running()[..] {
        [alone] if !world.is_ready(alone) => ALONE_MS + AGREE_MS,
        _ => AGREE_MS,
    }
}

/// Nothing changes any more, and everything is as it must be.
fn rest(world: &mut World) {
    world.protect();
    let written = |world: &World| world.writes + world.wills.changes;
    // One that is gone may have ceased to count just now: what was kept on its account has its ttl and grace yet.
    world.run_for(LEASE_MS);
    let (mut before, members) = (written(world), world.member_counts());
    world.run_for(REST_MS);
    if world.member_counts() != members {
        world.run_for(LEASE_MS);
        before = written(world);
        world.run_for(REST_MS);
    }
    if written(world) != before {
        let count = written(world) - before;
        world.violate(Invariant::Convergence, format!("there is no rest: {count} changes in {REST_MS} ms in which nothing happened"));
    }
    check_all(world);
}

/// A node stops, in order or not, and starts again while all is well: it knows all, and nobody lists less meanwhile, or calls anything late.
fn rejoin(world: &mut World) {
    let places = world.places();
    let node = world.chance.pick(&places);
    if world.running() == [node] {
        return;
    }
    world.protect();
    world.none_is_late = true;
    if world.registry(node).is_some() {
        if world.chance.permille(500) {
            world.counts.add(Injected::NodeLeft);
            world.leave(node, LEAVE_MS);
            world.run_for(LEAVE_MS);
        } else {
            world.counts.add(Injected::NodeCrashed);
            world.crash(node);
        }
        let down_ms = world.chance.between(1, 8000);
        world.run_for(down_ms);
    }
    world.start(node);
    world.run_for(4000);
    if !world.is_ready(node) && world.violation.is_none() {
        world.violate(Invariant::Convergence, format!("n{node} is not ready 4 s after it started in fair weather"));
    }
    // What only its disk knew comes back, and where nodes are two its silence is waited for ten times as long.
    let silent_ms = if world.running().len() > 2 { 30_000 } else { 120_000 };
    world.run_for(silent_ms);
    check_all(world);
}

fn check_all(world: &mut World) {
    if world.violation.is_some() {
        return;
    }
    if let Some(why) = world.disagreement() {
        world.violate(Invariant::Convergence, why);
    }
    world.check_contents();
    world.check_providers();
    world.check_nothing_preserved();
    world.check_leases();
    world.check_judging();
    world.check_consumers();
    world.check_wills_hold();
    world.check_fixed_stay();
    world.check_words();
}
