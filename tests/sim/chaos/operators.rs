//! What operators do meanwhile: they override, think better of it, and enter addresses by hand.

use std::sync::Arc;

use muster::model::{Imposed, Namespace, Override, OverrideDraft, OverrideKey, OverrideName, ServiceName};
use muster::registry::SetOverride;

use super::until_heal;
use crate::world::World;

fn some_name(world: &mut World) -> OverrideKey {
    let name = world.chance.pick(&["o0", "o1", "o2", "o3"]);
    OverrideKey { namespace: Namespace::default(), name: OverrideName::parse(name).expect("unreachable: it is a name") }
}

/// An override of a service or of the whole namespace, for a while or for good. What would keep the silent listed, or let them go together,
/// is left to the scenarios: the judge of silence does not look at overrides.
pub(super) fn set_override(world: &mut World) {
    let Some(node) = world.some_running() else { return };
    let key = some_name(world);
    let service = world.chance.pick(&[Some("a"), Some("b"), Some("c"), None]);
    let draft = OverrideDraft {
        service: service.map(|name| ServiceName::parse(name).expect("unreachable: it is a name")),
        status: world.chance.pick(&[None, Some(Imposed::Up), Some(Imposed::Draining), Some(Imposed::Down)]),
        weight: Some(world.chance.between(0, 1000) as u16),
        reason: "a story".to_owned(),
        ..OverrideDraft::default()
    };
    let value = Arc::new(Override::new(draft).expect("unreachable: it is within the bounds"));
    let lasts_ms = world.chance.between(1000, 20_000);
    let expires_in_ms = world.chance.permille(300).then_some(lasts_ms);
    world.set_override(node, SetOverride { key, value, expires_in_ms });
}

pub(super) fn delete_override(world: &mut World) {
    let Some(node) = world.some_running() else { return };
    let key = some_name(world);
    world.delete_override(node, &key);
}

pub(super) fn register_fixed(world: &mut World) {
    let Some(node) = world.some_running() else { return };
    let service = world.chance.pick(&["a", "b", "c"]);
    world.register_fixed(node, service);
}

pub(super) fn deregister_fixed(world: &mut World) {
    let Some(node) = world.some_running() else { return };
    if world.fixed_count() > 0 {
        let index = world.chance.index(world.fixed_count());
        world.deregister_fixed(node, index);
    }
}

/// What drains may go on running: it is listed and gets nothing new.
pub(super) fn drain(world: &mut World) {
    let Some(node) = world.some_running() else { return };
    let index = world.some_provider();
    if world.providers[index].runs() {
        world.say_fault(&format!("provider {} is drained", world.providers[index].key));
        let within_ms = until_heal(world, 10_000);
        world.drain(node, index, within_ms, false);
    }
}
