//! Divergence: that a node says for how long it has not agreed with its peers, and never says so of a cluster that is merely busy.

#![expect(clippy::unwrap_used, reason = "the values are known to be good, and where one is not the test is to fail")]

use crate::scenarios::{agree_within, cluster, register};
use crate::world::{World, key};

fn diverged_ms(world: &World, node: usize) -> Option<u64> {
    world.registry(node).unwrap().diverged_ms(world.now_at(node))
}

#[test]
fn steady_writing_alone_is_no_divergence() {
    let mut world = cluster(3);
    world.run_for(2000);
    for port in 1..600 {
        register(&mut world, port % 3, &key("user", "a"), port as u16);
        world.run_for(100);
        let told: Vec<_> = (0..3).map(|node| diverged_ms(&world, node)).collect();
        assert_eq!(told, [None; 3], "at the write {port}");
    }
    agree_within(&mut world, 5000);
    world.run_for(2000);
    assert_eq!((0..3).map(|node| diverged_ms(&world, node)).collect::<Vec<_>>(), [None; 3]);
}

#[test]
fn a_peer_that_lacks_what_this_node_wrote_is_told_with_how_long() {
    let mut world = cluster(3);
    world.run_for(2000);
    // n1 is heard and hears nothing: it goes on saying that it has not applied what n0 wrote.
    world.bus.cut(0, 1);
    world.bus.cut(2, 1);
    register(&mut world, 0, &key("user", "a"), 1);
    world.run_for(30_000);
    let told = diverged_ms(&world, 0).unwrap();
    assert!((28_000..=32_000).contains(&told), "{told} ms");
    world.bus.mend_cuts();
    agree_within(&mut world, 10_000);
    world.run_for(2000);
    assert_eq!(diverged_ms(&world, 0), None);
}
