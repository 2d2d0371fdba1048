//! Forged numbers that are taken: whoever missed them, or starts later, holds what the others hold, and the next word ends them everywhere.

#![expect(clippy::unwrap_used, reason = "the values are known to be good, and where one is not the test is to fail")]

use std::sync::Arc;

use muster::model::{Epoch, Imposed, Life, Namespace, NodeName, Override, OverrideDraft, OverrideKey, OverrideName, Version};
use muster::registry::{Answer, Change, Entry, Envelope, Input, Message, Record, SetOverride, Stamp, Willed};

use super::{agree_within, cluster, port_at, register};
use crate::world::{World, key};

/// The greatest edition, and counter, that is taken.
const TAKEN_MAX: u64 = (1 << 49) + (1 << 20);
const GENERATION_TAKEN_MAX: u64 = 1 << 20;

fn stranger() -> Life {
    Life { node: NodeName::parse("zz").unwrap(), epoch: Epoch(1) }
}

fn tell(world: &mut World, node: usize, message: Message) {
    world.feed(node, Input::Received(Envelope { from: stranger(), message }));
}

fn forged(world: &World, id: &str, forge: fn(&mut Version)) -> Message {
    let known = world.registry(0).unwrap().record(&key("s", id)).unwrap();
    let mut version = Version { owner: stranger(), seq: 1, ..known.version.clone() };
    forge(&mut version);
    let record = Arc::new(Record { version, ..Record::clone(known) });
    Message::Change(Change { first: 1, last: 1, wants_ack: false, records: vec![record] })
}

fn value(status: Imposed) -> Arc<Override> {
    let draft = OverrideDraft { status: Some(status), reason: "a test".to_owned(), ..OverrideDraft::default() };
    Arc::new(Override::new(draft).unwrap())
}

#[test]
fn the_word_above_a_forged_number_is_taken_by_a_node_that_knows_an_older_one_and_by_one_that_knows_none() {
    let forgeries: [fn(&mut Version); 2] = [|version| version.edition = TAKEN_MAX, |version| version.generation = GENERATION_TAKEN_MAX];
    for forge in forgeries {
        let mut world = cluster(4);
        register(&mut world, 0, &key("s", "a"), 1);
        world.run_for(500);
        world.crash(3);
        // n2 misses what n0 and n1 are told.
        world.bus.isolate(2);
        let message = forged(&world, "a", forge);
        tell(&mut world, 0, message.clone());
        tell(&mut world, 1, message);
        register(&mut world, 1, &key("s", "a"), 2);
        world.bus.heal();
        world.start(3);
        agree_within(&mut world, 15_000);
        assert_eq!((0..4).map(|node| port_at(&world, node, &key("s", "a"))).collect::<Vec<_>>(), [Some(2); 4]);
    }
}

#[test]
fn who_joins_holds_what_was_set_above_a_forged_override_and_is_ready() {
    let name = OverrideKey { namespace: Namespace::default(), name: OverrideName::parse("o").unwrap() };
    let mut world = cluster(3);
    world.crash(2);
    let stamp = Stamp { counter: TAKEN_MAX, by: stranger() };
    let willed = Willed::Set { value: value(Imposed::Down), expires_in_ms: None };
    let entry = Entry { key: name.clone(), stamp, willed };
    (0..2).for_each(|node| tell(&mut world, node, Message::Overrides(vec![entry.clone()])));
    let set = SetOverride { key: name, value: value(Imposed::Up), expires_in_ms: None };
    assert!(matches!(world.operate(0, |ticket| Input::SetOverride(ticket, set)), Some(Answer::OverrideSet { .. })));
    world.start(2);
    world.run_for(4000);
    assert!(world.is_ready(2));
    agree_within(&mut world, 2000);
    for node in 0..3 {
        let entries = world.registry(node).unwrap().shared_entries(world.now_at(node));
        assert!(
            matches!(&entries[..], [Entry { willed: Willed::Set { value: held, .. }, .. }] if *held == value(Imposed::Up)),
            "{entries:?}"
        );
    }
}
