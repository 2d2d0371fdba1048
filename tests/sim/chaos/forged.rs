//! Forged numbers: a node that nobody knows says one record, or one override, whose numbers are far ahead of all that was ever written. What
//! no provider could write above is taken by nobody; what is taken ends with the next word, and nodes agree all the same.

use std::sync::Arc;

use muster::model::{
    Epoch, INCARNATION_MAX, Imposed, Incarnation, Life, Namespace, Override, OverrideDraft, OverrideKey, OverrideName, Version,
};
use muster::registry::{Change, Entry, Envelope, Input, Message, Record, Stamp, Willed};

use super::hostile::ghost;
use crate::counts::Injected;
use crate::invariant::Invariant;
use crate::teeth::Sabotage;
use crate::world::{World, describe};

/// As far as stamps go.
const STAMP_MAX: u64 = 1 << 49;
/// So far ahead an edition, or a counter, may be at most.
const TAKEN_MAX: u64 = STAMP_MAX + (1 << 20);
/// Numbers of 53 bits are the greatest that a frame carries.
const GREATEST: u64 = (1 << 53) - 1;
/// No greater incarnation is taken by anybody, where none so great is known.
const INCARNATION_TAKEN_MAX: u64 = 1 << 52;
/// No greater generation is taken by anybody.
const GENERATION_TAKEN_MAX: u64 = 1 << 20;
const GENERATIONS: [u64; 3] = [1 << 32, GENERATION_TAKEN_MAX + 1, GENERATION_TAKEN_MAX];
const COUNTS: [u64; 6] = [GREATEST, 1 << 50, TAKEN_MAX + 1, TAKEN_MAX, STAMP_MAX + 1, STAMP_MAX];

/// A record of an instance that is listed, with what is said of it, and with one number far ahead.
pub(super) fn forge_version(world: &mut World) {
    let Some(known) = some_listed(world) else { return };
    let from = stranger(world);
    let mut version = Version { owner: from.clone(), seq: 1, ..known.version.clone() };
    let incarnation = world.chance.pick(&[INCARNATION_MAX, INCARNATION_TAKEN_MAX + 1]);
    let (edition, generation) = (world.chance.pick(&COUNTS), world.chance.pick(&GENERATIONS));
    let is_too_far = match world.chance.index(5) {
        0 => {
            version.incarnation = Incarnation::new(incarnation).expect("unreachable: it is not too great");
            true
        }
        1 => {
            version.generation = generation;
            generation > GENERATION_TAKEN_MAX
        }
        _ => {
            version.edition = edition;
            edition > TAKEN_MAX
        }
    };
    if is_too_far && world.is_sabotaged(Sabotage::ForgeNear) {
        // This one nobody can tell from a true one.
        version = Version { edition: known.version.edition + 1, owner: from.clone(), seq: 1, ..known.version.clone() };
    }
    // A clock that was driven to its end stands still: words that have not met have no order then.
    world.words.is_checked &= version.edition != STAMP_MAX;
    let record = Arc::new(Record { version: version.clone(), ..Record::clone(&known) });
    world.counts.add(Injected::ForgedVersion);
    world.say_fault(&format!("a stranger says {}", describe(&record)));
    let change = Change { first: 1, last: 1, wants_ack: false, records: vec![record] };
    for node in some_hearers(world) {
        world.feed(node, Input::Received(Envelope { from: from.clone(), message: Message::Change(change.clone()) }));
        let holds = world.registry(node).and_then(|registry| registry.record(&known.key)).is_some_and(|record| record.version == version);
        if holds && is_too_far {
            world.violate(Invariant::Isolation, format!("n{node} took a record of {} that is too far ahead: {version:?}", known.key));
        }
    }
}

/// An override, with a counter that is far ahead.
pub(super) fn forge_override(world: &mut World) {
    let name = world.chance.pick(&["o0", "o1", "o2", "o3"]);
    let key = OverrideKey { namespace: Namespace::default(), name: OverrideName::parse(name).expect("unreachable: it is a name") };
    let draft = OverrideDraft { status: Some(Imposed::Draining), reason: "a forgery".to_owned(), ..OverrideDraft::default() };
    let value = Arc::new(Override::new(draft).expect("unreachable: it is within the bounds"));
    let from = stranger(world);
    let counter = world.chance.pick(&COUNTS);
    let stamp = Stamp { counter, by: from.clone() };
    world.counts.add(Injected::ForgedVersion);
    world.say_fault(&format!("a stranger says {key} by {stamp:?}"));
    let willed = Willed::Set { value: Arc::clone(&value), expires_in_ms: None };
    let entry = Entry { key: key.clone(), stamp: stamp.clone(), willed };
    for node in some_hearers(world) {
        world.feed(node, Input::Received(Envelope { from: from.clone(), message: Message::Overrides(vec![entry.clone()]) }));
        if world.note_forged_will(node, &key, &stamp, &value) && counter > TAKEN_MAX {
            world.violate(Invariant::Isolation, format!("n{node} took {key} by a counter that is too far ahead: {counter}"));
        }
    }
}

/// A life of a node that has no other word than this.
fn stranger(world: &mut World) -> Life {
    world.ghosts += 1;
    world.strangers += 1;
    Life { node: ghost(&format!("stranger{}", world.strangers)), epoch: Epoch(1) }
}

/// All nodes that run, or one of them: on a bus that loses things one node may hear alone what all were to hear.
fn some_hearers(world: &mut World) -> Vec<usize> {
    let all: Vec<usize> = world.running().into_iter().filter(|node| !world.is_paused(*node)).collect();
    if all.is_empty() || world.chance.permille(700) {
        return all;
    }
    vec![world.chance.pick(&all)]
}

/// A live record of a provider's.
fn some_listed(world: &mut World) -> Option<Arc<Record>> {
    let index = world.some_provider();
    let provider = &world.providers[index];
    if !provider.runs() {
        return None;
    }
    let known = |node: usize| world.registry(node)?.record(&provider.key).filter(|record| record.registration().is_some()).cloned();
    world.running().into_iter().find_map(known)
}
