//! Joining, beside peers that give nothing: nobody keeps a node from being ready, or from settling, for ever.

use super::*;
use crate::model::Epoch;
use crate::registry::{Beacon, Envelope, Have, Input, Message, Settings, To};

/// How a peer answers what it is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    /// With all it has, which is nothing.
    Well,
    /// That it is to be asked later.
    Later,
    Nothing,
}

fn life(node: &str) -> Life {
    Life { node: NodeName::parse(node).unwrap(), epoch: Epoch(2) }
}

fn at(ms: u64) -> Now {
    Now { mono: 1_000_000 + ms, wall: ms }
}

fn hear(registry: &mut Registry, from: Life, message: Message, ms: u64, out: &mut Outbox) {
    registry.handle(Input::Received(Envelope { from, message }), at(ms), out);
}

/// A node that hears its own bus, and peers with these beacons, which answer like this, until it is done or `ms` are over; says when.
fn run_until(
    registry: &mut Registry,
    (from_ms, to_ms): (u64, u64),
    peers: &[(&str, Beacon, Answers)],
    is_done: impl Fn(&Registry) -> bool,
) -> Option<u64> {
    for ms in (from_ms..to_ms).step_by(50) {
        let mut out = Outbox::new();
        if ms % 1000 == 0 {
            let own = registry.life.clone();
            hear(registry, own, Message::Beacon(Beacon::of(NodeState::Warming)), ms, &mut out);
            for (node, beacon, _) in peers {
                hear(registry, life(node), Message::Beacon(beacon.clone()), ms, &mut out);
            }
        }
        registry.advance(at(ms), &mut out);
        while let Some(output) = out.pop() {
            let Output::Send(To::Node(to), Message::PullSized { ticket, .. }) = output else { continue };
            let answers = peers.iter().find(|(node, ..)| *node == to.as_str()).map(|(_, _, answers)| *answers);
            let have = match answers {
                Some(Answers::Well) => {
                    Have::Digests { live: Vec::new(), withdrawn: Vec::new(), next: None, applied: Vec::new(), complete: true }
                }
                Some(Answers::Later) => Have::Later { after_ms: 5000 },
                Some(Answers::Nothing) | None => continue,
            };
            hear(registry, Life { node: to, epoch: Epoch(2) }, Message::Pulled { ticket, have }, ms, &mut out);
        }
        if is_done(registry) {
            return Some(ms);
        }
    }
    None
}

fn node() -> Registry {
    let mut registry = Registry::new(Settings::new(NodeName::parse("n1").unwrap(), Epoch(1)), 1, at(0));
    registry.handle(Input::BusConnected, at(0), &mut Outbox::new());
    registry
}

fn ready(complete: bool) -> Beacon {
    Beacon { takes_sized_pulls: true, complete, ..Beacon::of(NodeState::Ready) }
}

fn is_ready(registry: &Registry) -> bool {
    registry.state() == NodeState::Ready
}

#[test]
fn a_giver_that_asks_for_patience_again_and_again_does_not_keep_a_node_from_getting_ready() {
    let mut registry = node();
    let ready_at = run_until(&mut registry, (0, 120_000), &[("n2", ready(true), Answers::Later)], is_ready);
    assert!(ready_at.is_some_and(|ms| (30_000..35_000).contains(&ms)) && !registry.complete(), "{ready_at:?}");
}

#[test]
fn a_giver_that_asks_for_patience_again_and_again_is_left_for_another() {
    let mut registry = node();
    let later = ("n2", ready(true), Answers::Later);
    assert_eq!(run_until(&mut registry, (0, 3000), std::slice::from_ref(&later), is_ready), None);
    let ready_at = run_until(&mut registry, (3000, 30_000), &[later, ("n3", ready(true), Answers::Well)], is_ready);
    assert!(ready_at.is_some_and(|ms| ms < 15_000) && registry.complete(), "{ready_at:?}");
}

#[test]
fn a_peer_that_cannot_be_compared_with_does_not_keep_a_node_from_settling() {
    let warms = Beacon { records: 1, ..Beacon::of(NodeState::Warming) };
    for peer in [("n2", ready(false), Answers::Nothing), ("n2", ready(false), Answers::Later), ("n2", warms, Answers::Nothing)] {
        let mut registry = node();
        run_until(&mut registry, (0, 60_000), &[], is_ready).expect("alone it is ready soon");
        let settled_at = run_until(&mut registry, (5000, 120_000), &[peer], Registry::complete);
        assert!(settled_at.is_some_and(|ms| (50_000..60_000).contains(&ms)), "{settled_at:?}");
    }
}
