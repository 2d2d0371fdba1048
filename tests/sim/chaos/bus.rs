//! What goes wrong between nodes.

use super::until_heal;
use crate::bus::Weather;
use crate::counts::Injected;
use crate::lines::Line;
use crate::world::{Event, Mend, World};

pub(super) fn partition(world: &mut World) {
    world.counts.add(Injected::Partition);
    let sides: u64 = world.chance.next();
    let (mut one, mut other) = (Vec::new(), Vec::new());
    for node in 0..world.slots.len() {
        if sides >> node & 1 == 0 { one.push(node) } else { other.push(node) }
    }
    world.say_fault(&format!("partition {one:?} {other:?}"));
    // Some last for longer than the verdict on a silent peer takes, and what follows from it.
    let lasts_ms = world.chance.pick(&[12_000, 12_000, 12_000, 40_000]);
    let after = world.chance.between(300, lasts_ms);
    if world.chance.permille(500) {
        world.counts.add(Injected::NetworkPartition);
        world.split_network(&[one, other]);
        world.after(after, Event::Mend(Mend::Reach));
    } else {
        world.bus.split(&[one, other]);
    }
    world.after(after, Event::Mend(Mend::Cuts));
}

pub(super) fn one_way(world: &mut World) {
    world.counts.add(Injected::OneWay);
    let (from, to) = (world.chance.index(world.slots.len()), world.chance.index(world.slots.len()));
    world.say_fault(&format!("n{to} does not hear n{from}"));
    world.bus.cut(from, to);
    let after = world.chance.between(300, 12_000);
    world.after(after, Event::Mend(Mend::Cuts));
}

pub(super) fn no_echo(world: &mut World) {
    let Some(node) = world.some_running() else { return };
    world.counts.add(Injected::Unechoed);
    world.say_fault(&format!("n{node} does not hear itself"));
    world.bus.cut(node, node);
    let after = world.chance.between(2000, 8000);
    world.after(after, Event::Mend(Mend::Cuts));
}

pub(super) fn bus_down(world: &mut World) {
    let Some(node) = world.some_running() else { return };
    world.counts.add(Injected::BusDown);
    let all = world.chance.permille(200);
    let after = world.chance.between(200, 9000);
    for node in if all { world.running() } else { vec![node] } {
        world.say_fault(&format!("the line of n{node} breaks"));
        let noticed = world.chance.between(1, 3000);
        world.break_line(node, noticed);
        world.after(after, Event::Mend(Mend::Line(node)));
    }
}

pub(super) fn bus_blip(world: &mut World) {
    let Some(node) = world.some_running() else { return };
    world.counts.add(Injected::BusBlip);
    world.say_fault(&format!("the line of n{node} blips"));
    world.break_line(node, 0);
    let after = world.chance.between(1, 50);
    world.after(after, Event::Mend(Mend::Line(node)));
}

pub(super) fn weather(world: &mut World) {
    world.bus.weather = Weather {
        loss: world.chance.pick(&[0, 10, 100, 300]),
        duplication: world.chance.pick(&[0, 100, 500]),
        late: world.chance.pick(&[0, 100, 500]),
        late_ms: world.chance.pick(&[20, 300, 2000]),
    };
    world.publish_ms = world.chance.pick(&[0, 5, 300]);
    let said = format!("weather {:?}", world.bus.weather);
    world.say_fault(&said);
    if world.chance.permille(500) {
        let after = world.chance.between(500, 10_000);
        world.after(after, Event::Mend(Mend::Weather));
    }
}

pub(super) fn lose_tail(world: &mut World) {
    world.say_fault("changes are lost");
    world.bus.changes_lost_until = world.now + world.chance.between(50, 1500);
}

pub(super) fn replay(world: &mut World) {
    world.say_fault("old frames come again");
    let recent: Vec<_> = world.bus.recent().cloned().collect();
    for (from, to, frame) in recent {
        if world.chance.permille(300) {
            world.counts.add(Injected::Replayed);
            let after = until_heal(world, 8000);
            world.after(after, Event::Frame { from, to, frame });
        }
    }
}

/// Nodes are cut off one after another, and come back in another order.
pub(super) fn swizzle(world: &mut World) {
    world.counts.add(Injected::Swizzled);
    world.say_fault("nodes are cut off one after another");
    let (mut cut, mut healed) = (0, 0);
    for node in shuffled(world) {
        cut += world.chance.between(0, 2000);
        world.after(cut, Event::Isolate(node));
    }
    for node in shuffled(world) {
        healed += world.chance.between(0, 3000);
        world.after(cut + 1 + healed, Event::Mend(Mend::Isolation(node)));
    }
}

fn shuffled(world: &mut World) -> Vec<usize> {
    let mut nodes: Vec<usize> = (0..world.slots.len()).collect();
    for last in (1..nodes.len()).rev() {
        nodes.swap(last, world.chance.index(last + 1));
    }
    nodes
}

/// A node is far from the bus, or little fits through its line. Not so little that its beacons do not.
pub(super) fn slow_line(world: &mut World) {
    let Some(node) = world.some_running() else { return };
    world.counts.add(Injected::SlowLine);
    let (delay_ms, bytes_a_s) = (world.chance.pick(&[0, 150, 400, 1200]), world.chance.pick(&[0, 6000, 20_000, 100_000]));
    world.say_fault(&format!("n{node} is {delay_ms} ms away, {bytes_a_s} bytes a second"));
    world.bus.set_line(node, Line::new(delay_ms, bytes_a_s).with_queue_ms(1500));
    let after = world.chance.between(1000, 20_000);
    world.after(after, Event::Mend(Mend::SlowLine(node)));
}

/// More comes to a node than it reads: what it is sent is lost, and so is its connection at last.
pub(super) fn flood(world: &mut World) {
    let Some(node) = world.some_running() else { return };
    world.counts.add(Injected::Flooded);
    let lasts = until_heal(world, 2500);
    world.say_fault(&format!("n{node} is flooded for {lasts} ms"));
    world.bus.flood(node, world.now + lasts);
    let life = world.slots[node].life;
    world.after(lasts, Event::TellLink { node, life, up: false });
}
