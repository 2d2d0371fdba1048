//! What no node of this cluster says: damaged frames, another cluster's, and records that nobody wrote.

use std::sync::Arc;

use bytes::Bytes;
use muster::model::{Cluster, Life, NodeName, Seq};
use muster::registry::{Change, Envelope, Input, Message, Record};
use muster::wire::Codec;

use crate::counts::Injected;
use crate::invariant::Invariant;
use crate::teeth::Sabotage;
use crate::world::{World, describe};

/// More than a generation may be above the known one.
const GENERATION_JUMP: u64 = (1 << 20) + 1;

/// A frame that was on the bus comes again with a wrong bit, cut, or as another cluster would have sent it.
pub(super) fn damage(world: &mut World) {
    let recent: Vec<(usize, Bytes)> = world.bus.recent().map(|(from, _, frame)| (*from, frame.clone())).collect();
    if recent.is_empty() {
        return;
    }
    world.counts.add(Injected::Hostile);
    let (from, frame) = world.chance.pick(&recent);
    let (what, frame) = match world.chance.index(3) {
        0 => ("with a wrong bit", flipped(world, &frame)),
        1 => ("cut", frame.slice(..world.chance.index(frame.len()))),
        _ => ("of another cluster", as_another_cluster(world, &frame)),
    };
    if let Ok(envelope) = world.codec.decode_from(&frame, &world.slots[from].name) {
        world.violate(Invariant::Isolation, format!("a frame {what} is taken for {envelope:?}"));
    }
}

fn flipped(world: &mut World, frame: &Bytes) -> Bytes {
    let mut bytes = frame.to_vec();
    let at = world.chance.index(bytes.len());
    bytes[at] ^= 1 << world.chance.index(8);
    Bytes::from(bytes)
}

fn as_another_cluster(world: &World, frame: &Bytes) -> Bytes {
    let name = if world.is_sabotaged(Sabotage::HearForeign) { "sim" } else { "another" };
    let other = Codec::new(&Cluster::parse(name).expect("unreachable: it is a name"));
    let Envelope { from, message } = world.codec.decode(frame).expect("unreachable: it was sent");
    other.encode(&from, &message).expect("unreachable: it fitted before")
}

/// A node is told a record that cannot have come about: it does not take it.
pub(super) fn forge(world: &mut World) {
    let Some(node) = world.some_running() else { return };
    let Some(known) = some_record_of_a_peer(world, node) else { return };
    world.counts.add(Injected::Forged);
    let from = known.version.owner.clone();
    let mut forged = (*known).clone();
    match world.chance.index(3) {
        0 => forged.version.generation += GENERATION_JUMP,
        1 => forged.version.owner.node = NodeName::parse("nobody").expect("unreachable: it is a name"),
        // As if it had been written in another place of that log.
        _ => forged.version.seq += 1,
    }
    world.say_fault(&format!("n{node} is told {}", describe(&Arc::new(forged.clone()))));
    let (key, version, seq) = (forged.key.clone(), forged.version.clone(), known.version.seq);
    let change = Change { first: seq, last: seq, wants_ack: false, records: vec![Arc::new(forged)] };
    world.feed(node, Input::Received(Envelope { from, message: Message::Change(change) }));
    let holds = world.registry(node).and_then(|registry| registry.record(&key)).is_some_and(|record| record.version == version);
    if holds {
        world.violate(Invariant::Isolation, format!("n{node} took a record of {key} that nobody wrote: {version:?}"));
    }
}

/// A record that another node's life wrote, in a part of its log that `node` has whole.
fn some_record_of_a_peer(world: &mut World, node: usize) -> Option<Arc<Record>> {
    let own = world.life(node)?;
    let registry = world.registry(node)?;
    let (_, applied) = registry.cluster(world.now_at(node)).applied.into_iter().next()?;
    let has = |life: &Life, seq: Seq| applied.iter().any(|at| at.life == *life && at.seq >= seq);
    let is_foreign = |record: &&Arc<Record>| record.version.owner != own && has(&record.version.owner, record.version.seq);
    let records: Vec<Arc<Record>> = registry.records().filter(is_foreign).cloned().collect();
    (!records.is_empty()).then(|| world.chance.pick(&records))
}
