//! Chaos: everything that goes wrong in a run, drawn from its seed.

use muster::model::Reported;

use crate::bus::Weather;
use crate::counts::Injected;
use crate::provider::Route;
use crate::world::{Ask, Asker, Event, Mend, World};

type Fault = fn(&mut World);

/// What can go wrong, by how often it does.
const FAULTS: [(u64, Fault); 20] = [
    (8, crash_node),
    (3, leave_node),
    (6, start_all),
    (8, partition),
    (5, one_way),
    (3, no_echo),
    (8, bus_down),
    (5, bus_blip),
    (8, weather),
    (6, lose_tail),
    (6, replay),
    (4, stall),
    (3, jump_wall),
    (8, crash_provider),
    (10, restart_provider),
    (8, update_provider),
    (6, pause_provider),
    (8, deregister_provider),
    (5, report),
    (3, reroute),
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
            Mend::Line(node) => self.mend_line(node),
            Mend::Weather => self.bus.weather = Weather::FAIR,
        }
        self.trace.say(self.now, || format!("mended: {mend:?}"));
    }

    /// Everything that is broken is whole again, and nothing breaks any more.
    pub(crate) fn heal(&mut self) {
        self.trace.say(self.now, || "everything heals".to_owned());
        self.bus.weather = Weather::FAIR;
        self.bus.changes_lost_until = 0;
        self.bus.mend_cuts();
        self.publish_ms = 0;
        for node in self.running() {
            self.mend_line(node);
        }
    }

    fn some_running(&mut self) -> Option<usize> {
        let running = self.running();
        (!running.is_empty()).then(|| self.chance.pick(&running))
    }

    fn some_provider(&mut self) -> usize {
        self.chance.index(self.providers.len())
    }

    fn say_fault(&mut self, what: &str) {
        self.trace.say(self.now, || format!("fault: {what}"));
    }
}

fn crash_node(world: &mut World) {
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

fn leave_node(world: &mut World) {
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

fn start_all(world: &mut World) {
    for node in 0..world.slots.len() {
        world.start(node);
    }
}

fn partition(world: &mut World) {
    world.counts.add(Injected::Partition);
    let sides: u64 = world.chance.next();
    let (mut one, mut other) = (Vec::new(), Vec::new());
    for node in 0..world.slots.len() {
        if sides >> node & 1 == 0 { one.push(node) } else { other.push(node) }
    }
    world.say_fault(&format!("partition {one:?} {other:?}"));
    world.bus.split(&[one, other]);
    let after = world.chance.between(300, 12_000);
    world.after(after, Event::Mend(Mend::Cuts));
}

fn one_way(world: &mut World) {
    world.counts.add(Injected::OneWay);
    let (from, to) = (world.chance.index(world.slots.len()), world.chance.index(world.slots.len()));
    world.say_fault(&format!("n{to} does not hear n{from}"));
    world.bus.cut(from, to);
    let after = world.chance.between(300, 12_000);
    world.after(after, Event::Mend(Mend::Cuts));
}

fn no_echo(world: &mut World) {
    let Some(node) = world.some_running() else { return };
    world.counts.add(Injected::Unechoed);
    world.say_fault(&format!("n{node} does not hear itself"));
    world.bus.cut(node, node);
    let after = world.chance.between(2000, 8000);
    world.after(after, Event::Mend(Mend::Cuts));
}

fn bus_down(world: &mut World) {
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

fn bus_blip(world: &mut World) {
    let Some(node) = world.some_running() else { return };
    world.counts.add(Injected::BusBlip);
    world.say_fault(&format!("the line of n{node} blips"));
    world.break_line(node, 0);
    let after = world.chance.between(1, 50);
    world.after(after, Event::Mend(Mend::Line(node)));
}

fn weather(world: &mut World) {
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

fn lose_tail(world: &mut World) {
    world.say_fault("changes are lost");
    world.bus.changes_lost_until = world.now + world.chance.between(50, 1500);
}

fn replay(world: &mut World) {
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

fn stall(world: &mut World) {
    let Some(node) = world.some_running() else { return };
    world.counts.add(Injected::NodeStalled);
    let until = world.now + world.chance.between(50, 1500);
    world.say_fault(&format!("n{node} stalls until {until}"));
    world.slots[node].stalled_until = until;
}

fn jump_wall(world: &mut World) {
    world.counts.add(Injected::WallJumped);
    let node = world.chance.index(world.slots.len());
    world.slots[node].wall_offset = world.chance.between(0, 7_200_000);
}

fn crash_provider(world: &mut World) {
    let index = world.some_provider();
    if world.providers[index].runs() {
        world.counts.add(Injected::ProviderCrashed);
        world.say_fault(&format!("provider {} crashes", world.providers[index].key));
        world.stop_provider(index);
        if world.chance.permille(600) {
            let after = world.chance.between(100, 15_000);
            world.after(after, Event::Restart { provider: index });
        }
    }
}

/// A process is replaced; the one before may go on saying that it lives.
fn restart_provider(world: &mut World) {
    let index = world.some_provider();
    world.counts.add(Injected::ProviderRestarted);
    world.say_fault(&format!("provider {} starts again", world.providers[index].key));
    let former = world.providers[index].to_heartbeat();
    let lingers = world.providers[index].runs() && world.providers[index].habits.is_named && world.chance.permille(400);
    world.start_provider(index);
    for _ in 0..if lingers { 4 } else { 0 } {
        let (after, node) = (world.chance.between(1, 6000), world.chance.index(world.slots.len()));
        world.counts.add(Injected::LateRequest);
        world.ask_after(after, node, Ask::Heartbeat(former.clone()), Asker::Nobody);
    }
}

/// The provider says something else; what it said before may arrive after it.
fn update_provider(world: &mut World) {
    let index = world.some_provider();
    if world.providers[index].runs() {
        world.counts.add(Injected::ProviderUpdated);
        world.say_fault(&format!("provider {} says something else", world.providers[index].key));
        let former = world.providers[index].to_register(muster::registry::Ack::Local);
        world.update_provider(index);
        if world.chance.permille(200) && former.incarnation.is_some() {
            world.counts.add(Injected::LateRequest);
            let (after, node) = (until_heal(world, 4000), world.chance.index(world.slots.len()));
            world.ask_after(after, node, Ask::Register(former), Asker::Nobody);
        }
    }
}

fn pause_provider(world: &mut World) {
    let index = world.some_provider();
    if world.providers[index].runs() {
        world.counts.add(Injected::ProviderPaused);
        let pause = world.providers[index].habits.ttl_ms * world.chance.between(2, 16) / 4;
        world.say_fault(&format!("provider {} pauses for {pause} ms", world.providers[index].key));
        world.tick_provider(index, pause);
    }
}

fn deregister_provider(world: &mut World) {
    let index = world.some_provider();
    if world.providers[index].runs() {
        world.say_fault(&format!("provider {} leaves", world.providers[index].key));
        let late = world.chance.permille(400).then(|| until_heal(world, 20_000));
        world.deregister_provider(index, late);
        if world.chance.permille(500) {
            let after = world.chance.between(10, 15_000);
            world.after(after, Event::Restart { provider: index });
        }
    }
}

fn report(world: &mut World) {
    let index = world.some_provider();
    let provider = &mut world.providers[index];
    if provider.runs() && provider.habits.reports {
        provider.reported = if provider.reported == Reported::Up { Reported::Starting } else { Reported::Up };
        world.tick_provider(index, 1);
    }
}

fn reroute(world: &mut World) {
    let index = world.some_provider();
    let nodes = world.slots.len();
    world.providers[index].home = world.chance.index(nodes);
    world.providers[index].habits.route = world.chance.pick(&[Route::Sticky, Route::RoundRobin]);
}

/// Some time from now, and before everything heals: what comes after that is to be what holds.
fn until_heal(world: &mut World, most_ms: u64) -> u64 {
    let left = world.chaos_until.saturating_sub(world.now + 10).max(1);
    world.chance.between(1, most_ms.min(left))
}
