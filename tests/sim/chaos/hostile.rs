//! What no node of this cluster says: damaged frames, another cluster's, records that nobody wrote, and names that no node has.

use std::sync::Arc;

use bytes::Bytes;
use muster::model::{Cluster, Epoch, Life, NodeName, Seq, Version};
use muster::registry::{Beacon, Change, Envelope, Input, MEMBERS_MAX, MemberAt, Message, Record};
use muster::wire::Codec;

use crate::counts::Injected;
use crate::invariant::Invariant;
use crate::teeth::{Sabotage, empty_beacon};
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
    let how = world.chance.pick(&[Forgery::Generation, Forgery::Owner, Forgery::Place]);
    tell_forged(world, node, &known, how);
}

/// How a record shows that nobody wrote it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Forgery {
    /// Its generation is far above the known one.
    Generation,
    /// Another life owns it than the one in whose log it comes.
    Owner,
    /// It names another place of that log than the one at which it comes.
    Place,
}

/// Tells a node a record that differs from a known one in this, in the name of its owner.
pub(crate) fn tell_forged(world: &mut World, node: usize, known: &Record, how: Forgery) {
    let from = known.version.owner.clone();
    let mut forged = known.clone();
    match how {
        Forgery::Generation => forged.version.generation += GENERATION_JUMP,
        Forgery::Owner => forged.version.owner.node = NodeName::parse("nobody").expect("unreachable: it is a name"),
        Forgery::Place => forged.version.seq += 1,
    }
    let mut seq = known.version.seq;
    if world.is_sabotaged(Sabotage::ForgeNext) {
        // This one nobody can tell from a true one.
        seq = world.applied(node, &from) + 1;
        forged = Record { version: Version { generation: known.version.generation + 1, seq, ..known.version.clone() }, ..forged };
    }
    world.say_fault(&format!("n{node} is told {}", describe(&Arc::new(forged.clone()))));
    let (key, version) = (forged.key.clone(), forged.version.clone());
    let change = Change { first: seq, last: seq, wants_ack: false, records: vec![Arc::new(forged)] };
    world.feed(node, Input::Received(Envelope { from, message: Message::Change(change) }));
    let holds = world.registry(node).and_then(|registry| registry.record(&key)).is_some_and(|record| record.version == version);
    if holds {
        world.violate(Invariant::Isolation, format!("n{node} took a record of {key} that nobody wrote: {version:?}"));
    }
}

/// Names that no node has come once, to every node that runs: one that names a thousand more, or some that name none.
pub(super) fn ghosts(world: &mut World) {
    world.counts.add(Injected::Ghosts);
    let (count, named) = if world.chance.permille(500) { (1, MEMBERS_MAX) } else { (40, 0) };
    world.say_fault(&format!("{count} ghosts name {named} more"));
    let beacons: Vec<Envelope> = (0..count).map(|number| ghost_beacon(world.ghosts + number, named)).collect();
    world.ghosts += count;
    for node in world.running().into_iter().filter(|node| !world.is_paused(*node)).collect::<Vec<_>>() {
        for beacon in &beacons {
            world.feed(node, Input::Received(beacon.clone()));
        }
    }
}

/// What a ghost sends that names so many.
fn ghost_beacon(number: usize, named: usize) -> Envelope {
    let from = Life { node: ghost(&format!("ghost{number}")), epoch: Epoch(1) };
    let beacon = Beacon { members: (0..named).map(|other| ghost_member(number, other)).collect(), ..empty_beacon() };
    Envelope { from, message: Message::Beacon(beacon) }
}

/// A name that no node has, as a beacon names it.
pub(crate) fn ghost_member(by: usize, number: usize) -> MemberAt {
    MemberAt { node: ghost(&format!("ghost{by}-{number}")), age_ms: 100, has_left: false, evidence: None }
}

pub(super) fn ghost(name: &str) -> NodeName {
    NodeName::parse(name).expect("unreachable: it is a name")
}

/// A record that another node's life wrote, in a part of its log that `node` has whole.
fn some_record_of_a_peer(world: &mut World, node: usize) -> Option<Arc<Record>> {
    let own = world.life(node)?;
    let is_had = |record: &&Arc<Record>| {
        let owner = &record.version.owner;
        *owner != own && world.applied(node, owner) >= record.version.seq
    };
    let records: Vec<Arc<Record>> = world.registry(node)?.records().filter(is_had).cloned().collect();
    (!records.is_empty()).then(|| world.chance.pick(&records))
}

impl World {
    /// How far a node has the log of a life.
    fn applied(&self, node: usize, life: &Life) -> Seq {
        let view = self.registry(node).map(|registry| registry.cluster(self.now_at(node)));
        let own = view.and_then(|view| view.applied.into_iter().next());
        own.and_then(|(_, applied)| applied.into_iter().find(|at| at.life == *life)).map_or(0, |at| at.seq)
    }
}
