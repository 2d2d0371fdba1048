//! What goes wrong with providers, and what they do of their own accord.

use muster::model::Reported;

use super::until_heal;
use crate::counts::Injected;
use crate::provider::Route;
use crate::world::{Ask, Asker, Event, World};

/// So many of one service are killed together at the most.
const GROUP_MAX: u64 = 9;

pub(super) fn crash_provider(world: &mut World) {
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
pub(super) fn restart_provider(world: &mut World) {
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
pub(super) fn update_provider(world: &mut World) {
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

pub(super) fn pause_provider(world: &mut World) {
    let index = world.some_provider();
    if world.providers[index].runs() {
        world.counts.add(Injected::ProviderPaused);
        let pause = world.providers[index].habits.ttl_ms * world.chance.between(2, 16) / 4;
        world.say_fault(&format!("provider {} pauses for {pause} ms", world.providers[index].key));
        world.providers[index].disturbed_until = world.now + pause;
        world.tick_provider(index, pause);
    }
}

pub(super) fn deregister_provider(world: &mut World) {
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

pub(super) fn report(world: &mut World) {
    let index = world.some_provider();
    let provider = &mut world.providers[index];
    if provider.runs() && provider.habits.reports {
        provider.reported = if provider.reported == Reported::Up { Reported::Starting } else { Reported::Up };
        world.tick_provider(index, 1);
    }
}

pub(super) fn reroute(world: &mut World) {
    let index = world.some_provider();
    let nodes = world.slots.len();
    world.providers[index].home = world.chance.index(nodes);
    world.providers[index].habits.route = world.chance.pick(&[Route::Sticky, Route::RoundRobin]);
}

/// A second process registers an id for a while, with another content.
pub(super) fn contest(world: &mut World) {
    let index = world.some_provider();
    world.counts.add(Injected::ProviderContested);
    world.say_fault(&format!("{} is contested", world.providers[index].key));
    let until = world.chance.between(1000, 15_000);
    world.contest(index, until);
}

/// A connection that holds a lease is cut, where this one has one.
pub(super) fn cut_connection(world: &mut World) {
    let index = world.some_provider();
    world.cut_connection(index);
}

/// Half of all providers, or all of them, reach no node, and then come back together.
pub(super) fn cut_off(world: &mut World) {
    world.counts.add(Injected::ProvidersCutOff);
    let every = world.chance.pick(&[1, 2, 2]);
    world.say_fault(&format!("every {every}. provider is cut off"));
    let until = world.now + until_heal(world, 25_000);
    for index in (0..world.providers.len()).step_by(every) {
        world.cut_connection(index);
    }
    for provider in world.providers.iter_mut().step_by(every) {
        provider.cut_off_until = until;
        provider.disturbed_until = provider.disturbed_until.max(until);
    }
}

/// Nothing that half of all providers say, or one, or all, comes to a node; whoever looks at them is answered.
pub(super) fn hush(world: &mut World) {
    world.counts.add(Injected::ProvidersHushed);
    let (every, first) = (world.chance.pick(&[1, 2, 100]), world.some_provider());
    world.say_fault(&format!("every {every}. provider falls silent, and goes on"));
    let until = world.now + until_heal(world, 25_000);
    for provider in world.providers.iter_mut().skip(first).step_by(every) {
        provider.hushed_until = until;
        provider.disturbed_until = provider.disturbed_until.max(until);
    }
}

/// Some processes of one service are killed together, up to all of them; the others go on, and some of the killed come back.
pub(super) fn kill_group(world: &mut World) {
    let service = world.chance.pick(&["a", "b", "c"]);
    let mut group: Vec<usize> = (0..world.providers.len())
        .filter(|index| {
            let provider = &world.providers[*index];
            provider.runs() && !provider.is_twin() && provider.key.service.service.as_str() == service
        })
        .collect();
    if group.is_empty() {
        return;
    }
    let count = world.chance.between(1, GROUP_MAX.min(group.len() as u64)) as usize;
    while group.len() > count {
        let index = world.chance.index(group.len());
        group.remove(index);
    }
    world.counts.add(Injected::GroupKilled);
    world.say_fault(&format!("{count} of {service} are killed together"));
    for index in group {
        world.stop_provider(index);
        if world.chance.permille(300) {
            let after = world.chance.between(100, 40_000);
            world.after(after, Event::Restart { provider: index });
        }
    }
}

/// A node does not reach some providers' machines, which others may reach; heartbeats come all the same, or not.
pub(super) fn hide(world: &mut World) {
    world.counts.add(Injected::ProvidersHidden);
    let (node, every) = (world.chance.index(world.slots.len()), world.chance.pick(&[1, 2, 3]));
    let hushed = world.chance.permille(600);
    world.say_fault(&format!("n{node} does not reach every {every}. provider; they are silent: {hushed}"));
    let until = world.now + until_heal(world, 25_000);
    for provider in world.providers.iter_mut().step_by(every) {
        provider.hidden_from.retain(|(from, _)| *from != node);
        provider.hidden_from.push((node, until));
        if hushed {
            provider.hushed_until = until;
            provider.disturbed_until = provider.disturbed_until.max(until);
        }
    }
}

/// Every provider is replaced at once, as by a rollout that nobody watches.
pub(super) fn replace_all(world: &mut World) {
    world.counts.add(Injected::ProvidersReplaced);
    world.say_fault("all providers start again");
    for index in 0..world.providers.len() {
        if world.providers[index].runs() {
            world.start_provider(index);
        }
    }
}

/// A process says that it leaves, and ends once that is known or soon after; another one may begin.
pub(super) fn drain_provider(world: &mut World) {
    let index = world.some_provider();
    if world.providers[index].runs() {
        world.say_fault(&format!("provider {} drains and leaves", world.providers[index].key));
        let (node, within_ms) = (world.chance.index(world.slots.len()), until_heal(world, 10_000));
        world.drain(node, index, within_ms, true);
        world.stop_provider(index);
        if world.chance.permille(500) {
            let after = world.chance.between(10, 15_000);
            world.after(after, Event::Restart { provider: index });
        }
    }
}
