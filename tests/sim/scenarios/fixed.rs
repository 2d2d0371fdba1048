//! Fixed addresses: instances that send no heartbeats, which no silence takes away, their owner's included.

#![expect(clippy::unwrap_used, reason = "the values are known to be good, and where one is not the test is to fail")]

use std::sync::Arc;

use muster::model::{InstanceKey, Registration, RegistrationDraft, Status};
use muster::registry::{Answer, Register};

use crate::provider::draft;
use crate::scenarios::{TTL_MS, agree_within, cluster, deregister, heartbeat, port_at, register};
use crate::world::{Ask, World, key};

/// A fixed address: it sends no heartbeats.
fn register_fixed(world: &mut World, node: usize, key: &InstanceKey, port: u16) {
    let registration = Arc::new(Registration::new(RegistrationDraft { ttl: None, ..draft(key, port, TTL_MS) }).unwrap());
    let register = Register::new(key.clone(), registration, 0);
    let answer = world.ask_now(node, Ask::Register(register));
    assert!(matches!(answer, Some(Answer::Registered(_))), "{answer:?}");
}

#[test]
fn a_fixed_address_outlives_silence_and_its_owner_and_goes_by_request_alone() {
    // Longer than any ttl.
    const HOURS_MS: u64 = 90 * 60_000;
    let mut world = cluster(3);
    let (a, b) = (key("s", "a"), key("s", "b"));
    for key in [&a, &b] {
        register_fixed(&mut world, 0, key, 1);
    }
    let up_everywhere = |world: &World, key: &InstanceKey| {
        (0..3).all(|node| {
            world.registry(node).and_then(|registry| registry.record(key)?.to_listed()).is_some_and(|it| it.status == Status::Up)
        })
    };
    world.run_for(HOURS_MS);
    assert!(up_everywhere(&world, &a) && up_everywhere(&world, &b));

    // Its owner dies, and starts again after the others have been alone with it.
    world.crash(0);
    world.run_for(HOURS_MS);
    world.start(0);
    world.run_for(10_000);
    assert!(up_everywhere(&world, &a) && up_everywhere(&world, &b));
    assert!(matches!(heartbeat(&mut world, 1, &a, None), Answer::Renewed(_)), "one that comes all the same does no harm");
    world.run_for(HOURS_MS);
    assert!(up_everywhere(&world, &a) && up_everywhere(&world, &b));
    agree_within(&mut world, 1);

    deregister(&mut world, 2, &a, None);
    agree_within(&mut world, 2000);
    assert_eq!((port_at(&world, 0, &a), port_at(&world, 1, &b)), (None, Some(1)));
}

#[test]
fn an_address_that_becomes_fixed_while_its_lease_is_late_stays() {
    let mut world = cluster(2);
    let a = key("s", "a");
    register(&mut world, 0, &a, 1);
    world.run_for(TTL_MS + 100);
    let status = |world: &World| world.registry(1).unwrap().record(&a).and_then(|record| Some(record.to_listed()?.status));
    assert_eq!(status(&world), Some(Status::Suspect));
    register_fixed(&mut world, 0, &a, 1);
    world.run_for(100 * TTL_MS);
    assert_eq!(status(&world), Some(Status::Up));
    // And back: a ttl is a ttl again.
    register(&mut world, 0, &a, 1);
    world.run_for(TTL_MS + 100);
    assert_eq!(status(&world), Some(Status::Suspect));
}
