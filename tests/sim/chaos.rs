//! Chaos: everything that goes wrong in a run, drawn from its seed.

mod bus;
mod forged;
pub(crate) mod hostile;
mod nodes;
mod operators;
mod providers;

use crate::bus::Weather;
use crate::world::{Event, Mend, World};

type Fault = fn(&mut World);

/// What can go wrong, by how often it does.
const FAULTS: [(u64, Fault); 45] = [
    (8, nodes::crash_node),
    (2, nodes::kill_all),
    (3, nodes::leave_node),
    (6, nodes::start_all),
    (8, bus::partition),
    (5, bus::one_way),
    (3, bus::no_echo),
    (8, bus::bus_down),
    (5, bus::bus_blip),
    (8, bus::weather),
    (6, bus::lose_tail),
    (6, bus::replay),
    (4, bus::swizzle),
    (4, bus::flood),
    (5, bus::slow_line),
    (4, nodes::stall),
    (3, nodes::jump_wall),
    (5, nodes::pause),
    (4, nodes::clone_node),
    (4, hostile::damage),
    (4, hostile::forge),
    (2, forged::forge_version),
    (2, forged::forge_override),
    (2, hostile::ghosts),
    (8, providers::crash_provider),
    (10, providers::restart_provider),
    (8, providers::update_provider),
    (6, providers::pause_provider),
    (8, providers::deregister_provider),
    (5, providers::report),
    (3, providers::reroute),
    (3, providers::contest),
    (3, providers::cut_off),
    (6, providers::cut_connection),
    (1, providers::replace_all),
    (5, providers::hush),
    (3, providers::kill_group),
    (4, providers::hide),
    (5, operators::set_override),
    (2, operators::delete_override),
    (3, operators::register_fixed),
    (2, operators::deregister_fixed),
    (5, operators::drain),
    (4, providers::drain_provider),
    (4, move_consumer),
];

impl World {
    /// One thing goes wrong, and then the next is awaited.
    pub(crate) fn chaos(&mut self) {
        if self.now >= self.chaos_until {
            return;
        }
        let total: u64 = FAULTS.iter().map(|(weight, _)| weight).sum();
        let mut drawn = self.chance.between(1, total);
        for (weight, fault) in FAULTS {
            if drawn <= weight {
                fault(self);
                break;
            }
            drawn -= weight;
        }
        let next = self.chance.between(50, 1500);
        self.after(next, Event::Chaos);
    }

    pub(crate) fn mend(&mut self, mend: Mend) {
        match mend {
            Mend::Cuts => self.bus.mend_cuts(),
            Mend::Reach => self.mend_reach(),
            Mend::Isolation(node) => self.bus.end_isolation(node),
            Mend::Line(node) => self.mend_line(node),
            Mend::SlowLine(node) => self.bus.end_line(node),
            Mend::Weather => self.bus.weather = Weather::FAIR,
        }
        self.trace.say(self.now, || format!("mended: {mend:?}"));
    }

    /// Everything that is broken is whole again, and nothing breaks any more.
    pub(crate) fn heal(&mut self) {
        self.trace.say(self.now, || "everything heals".to_owned());
        self.bus.heal();
        self.mend_reach();
        self.publish_ms = 0;
        for node in 0..self.slots.len() {
            if self.slots[node].is_clone && self.slots[node].shell.is_some() {
                self.crash(node);
            }
            self.resume(node);
        }
        for provider in 0..self.providers.len() {
            if self.providers[provider].is_twin() {
                self.stop_provider(provider);
            }
        }
        for node in self.running() {
            self.mend_line(node);
        }
    }

    /// A node that runs, and is none of two.
    fn some_running(&mut self) -> Option<usize> {
        let running: Vec<usize> = self.running().into_iter().filter(|node| !self.slots[*node].is_clone && !self.is_paused(*node)).collect();
        (!running.is_empty()).then(|| self.chance.pick(&running))
    }

    fn some_provider(&mut self) -> usize {
        let firsts: Vec<usize> = (0..self.providers.len()).filter(|index| !self.providers[*index].is_twin()).collect();
        self.chance.pick(&firsts)
    }

    fn say_fault(&mut self, what: &str) {
        self.trace.say(self.now, || format!("fault: {what}"));
    }
}

/// A consumer's stream breaks, and it goes on at some node.
fn move_consumer(world: &mut World) {
    if !world.consumers.is_empty() {
        let index = world.chance.index(world.consumers.len());
        world.move_consumer(index);
    }
}

/// Some time from now, and before everything heals: what comes after that is to be what holds.
fn until_heal(world: &mut World, most_ms: u64) -> u64 {
    let left = world.chaos_until.saturating_sub(world.now + 10).max(1);
    world.chance.between(1, most_ms.min(left))
}
