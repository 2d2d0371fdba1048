//! A node alone, through its handle.

use std::sync::Arc;

use super::*;
use crate::model::{Address, Epoch, InstanceId, Namespace, Port, Registration, RegistrationDraft, ServiceName, Status, Ttl};

fn key(service: &str, id: &str) -> InstanceKey {
    let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse(service).unwrap() };
    InstanceKey { service, id: InstanceId::parse(id).unwrap() }
}

fn alone() -> (Handle, Shutdown) {
    let settings = Settings { has_bus: false, expect_empty: true, ..Settings::new(NodeName::parse("n1").unwrap(), Epoch(1)) };
    let shutdown = Shutdown::new();
    let (handle, _) = spawn(settings, Clock::start(), &shutdown);
    (handle, shutdown)
}

async fn register(handle: &Handle, key: InstanceKey, ttl_ms: u64) -> Registered {
    let draft = RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(80).unwrap(), Ttl::from_ms(ttl_ms).unwrap());
    let registration = Arc::new(Registration::new(draft).unwrap());
    let at = handle.clock().mono();
    let register = Register::new(key, registration, at);
    handle.register(register).await.unwrap()
}

fn beat(handle: &Handle, key: InstanceKey) -> Heartbeat {
    Heartbeat { key, incarnation: None, digest: None, reported: None, at: handle.clock().mono() }
}

#[tokio::test]
async fn what_was_answered_can_be_read_and_is_told_to_followers() {
    let (handle, shutdown) = alone();
    let mut cell = handle.follow(&key("user", "a").service);
    assert_eq!(cell.borrow_and_update().instances().len(), 0);
    let registered = register(&handle, key("user", "a"), 15_000).await;
    assert!(registered.created);
    let view = Arc::clone(handle.catalog().view(&key("user", "a").service).unwrap());
    assert_eq!((view.revision(), view.instances().len()), (registered.revision, 1));
    cell.changed().await.unwrap();
    assert_eq!(cell.borrow().revision(), registered.revision);
    shutdown.begin();
    assert!(shutdown.ended(std::time::Duration::from_secs(5)).await);
}

#[tokio::test]
async fn a_heartbeat_renews_and_silence_is_told() {
    let (handle, _shutdown) = alone();
    register(&handle, key("user", "a"), 50).await;
    register(&handle, key("user", "b"), 60_000).await;
    assert_eq!(handle.heartbeat(beat(&handle, key("user", "b"))).await.unwrap().status, Status::Up);
    let unknown = handle.heartbeat(beat(&handle, key("user", "c"))).await;
    assert_eq!(unknown.unwrap_err(), Refused::ByRegistry(Refusal::UnknownLease));
    let mut cell = handle.follow(&key("user", "a").service);
    let is_suspect = |view: &Arc<View>| view.instances().values().any(|listed| listed.status != Status::Up);
    let is_told = tokio::time::timeout(std::time::Duration::from_secs(10), cell.wait_for(is_suspect)).await.is_ok();
    assert!(is_told, "silence was not told");
    let recovered = handle.heartbeat(beat(&handle, key("user", "a"))).await.unwrap();
    assert_eq!(recovered.status, Status::Up);
}

#[tokio::test]
async fn a_node_that_leaves_while_it_warms_has_nothing_to_show() {
    let shutdown = Shutdown::new();
    let (handle, _port) = spawn(Settings::new(NodeName::parse("n1").unwrap(), Epoch(1)), Clock::start(), &shutdown);
    handle.leave().await;
    assert_eq!(handle.condition().state, NodeState::Leaving);
    assert!(!handle.condition().can_answer());
    let (ready, _shutdown) = alone();
    ready.leave().await;
    assert!(ready.condition().can_answer());
}

#[tokio::test]
async fn a_node_that_leaves_takes_no_writes() {
    let (handle, _shutdown) = alone();
    register(&handle, key("user", "a"), 15_000).await;
    handle.leave().await;
    let refused = handle.heartbeat(beat(&handle, key("user", "a"))).await;
    assert_eq!(refused.unwrap_err(), Refused::ByRegistry(Refusal::Leaving));
    assert_eq!(handle.condition().state, NodeState::Leaving);
}
