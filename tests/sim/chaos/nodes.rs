//! What goes wrong with nodes themselves.

use crate::counts::Injected;
use crate::world::{Event, World};

pub(super) fn crash_node(world: &mut World) {
    if world.running().len() < 2 {
        return;
    }
    let Some(node) = world.some_running() else { return };
    world.counts.add(Injected::NodeCrashed);
    world.crash(node);
    if world.chance.permille(800) {
        let after = world.chance.between(100, 12_000);
        world.after(after, Event::Start { node });
    }
}

/// All at once, as by a power cut; each starts again in its own time.
pub(super) fn kill_all(world: &mut World) {
    world.counts.add(Injected::AllKilled);
    world.say_fault("all nodes are killed");
    world.secure();
    for node in world.running() {
        world.crash(node);
    }
    for node in world.places() {
        let after = world.chance.pick(&[100, 100, 1000, 5000]) + world.chance.between(0, 1000);
        world.after(after, Event::Start { node });
    }
}

pub(super) fn leave_node(world: &mut World) {
    if world.running().len() < 2 {
        return;
    }
    let Some(node) = world.some_running() else { return };
    world.counts.add(Injected::NodeLeft);
    let stops_after = world.chance.between(100, 2000);
    world.leave(node, stops_after);
    let after = stops_after + world.chance.between(100, 8000);
    world.after(after, Event::Start { node });
}

pub(super) fn start_all(world: &mut World) {
    for node in world.places() {
        world.start(node);
    }
}

pub(super) fn stall(world: &mut World) {
    let Some(node) = world.some_running() else { return };
    world.counts.add(Injected::NodeStalled);
    let until = world.now + world.chance.between(50, 1500);
    world.say_fault(&format!("n{node} stalls until {until}"));
    world.slots[node].stalled_until = until;
}

pub(super) fn jump_wall(world: &mut World) {
    if world.clocks_agree {
        return;
    }
    world.counts.add(Injected::WallJumped);
    let node = world.chance.index(world.slots.len());
    world.slots[node].wall_offset = world.chance.between(0, 7_200_000);
}

/// A process stops for long enough to be counted for dead.
pub(super) fn pause(world: &mut World) {
    let Some(node) = world.some_running() else { return };
    let ms = world.chance.between(1000, 70_000);
    world.say_fault(&format!("n{node} pauses"));
    world.pause(node, ms);
}

/// A copy of a machine runs for a while, under the name of the one that it was copied from.
pub(super) fn clone_node(world: &mut World) {
    let Some(clone) = world.slots.iter().position(|slot| slot.is_clone && slot.shell.is_none()) else { return };
    world.counts.add(Injected::NodeCloned);
    world.say_fault(&format!("a clone of {} starts", world.slots[clone].name));
    world.start(clone);
    let life = world.slots[clone].life;
    let after = world.chance.between(500, 20_000);
    world.after(after, Event::Stop { node: clone, life });
}
