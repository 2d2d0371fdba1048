//! Holds at compile time that every future of the client may be spawned on any thread, and every handle shared between threads.

use std::time::Duration;

use super::{
    Answer, Attempt, BuildError, Builder, Change, Client, Error, Followed, Happened, Happenings, HeldEvent, Lease, Query, Replica, Watch,
    WatchEvent,
};
use crate::api::overrides::SetOverride;
use crate::api::provide::{Batch, Registration};
use crate::model::{InstanceKey, Namespace, NodeName, OverrideKey, ServiceName};

/// What a task that is spawned must be, but for what it borrows here.
fn is_send<T: Send>(_: T) {}

fn is_shared<T: Send + Sync + Unpin + 'static>() {}

#[test]
fn handles_are_shared_between_threads() {
    is_shared::<(Client, Builder, Lease, Watch, Happenings, Replica, Query)>();
    is_shared::<(Answer<Registration>, Attempt, BuildError, Error, Change, Followed, Happened, HeldEvent, WatchEvent)>();
}

#[test]
fn futures_are_sent_between_threads() {
    let _ = |client: &Client, key: &InstanceKey, service: &ServiceName, node: &NodeName| {
        is_send(client.cluster());
        is_send(client.diff(node));
        is_send(client.forget_node(node));
        is_send(client.services(Query::default()));
        is_send(client.instances(service, Query::default()));
        is_send(client.search(Query::default()));
        is_send(client.batch(&Batch::default()));
        is_send(client.deregister(key, None));
        is_send(client.drain(key, Duration::ZERO, true, true));
        is_send(client.subscribers(service, Query::default()));
        is_send(client.detail(key));
        is_send(client.events(Query::default()));
        is_send(client.history(key, Query::default()));
        is_send(client.register(key.clone(), Registration::default()));
        is_send(client.register_for_heartbeats(key.clone(), Registration::default()));
    };
    let _ = |client: &Client, key: &OverrideKey, said: &SetOverride| {
        is_send(client.overrides(Query::default()));
        is_send(client.set_override(key, said));
        is_send(client.delete_override(key));
    };
    let _ = |mut lease: Lease, other: Lease| {
        is_send(lease.hold(|_| {}));
        is_send(other.close());
    };
    let _ = |client: &Client, namespace: Namespace| {
        is_send(client.watch(namespace, Followed::All, Query::default()).next());
        is_send(client.follow_events(Query::default()).next());
    };
}

/// The test above names every one: a future that is added is added there.
#[test]
fn no_future_is_left_out() {
    const ROOM: [&str; 5] = [
        include_str!("../client.rs"),
        include_str!("happening.rs"),
        include_str!("register.rs"),
        include_str!("replica.rs"),
        include_str!("watch.rs"),
    ];
    let names = ROOM.iter().flat_map(|text| text.split("pub async fn ").skip(1)).filter_map(|rest| rest.split(['(', '<']).next());
    let names: Vec<&str> = names.collect();
    assert!(names.len() >= 20, "{names:?}");
    for name in names {
        assert!(include_str!("threads.rs").contains(&format!(".{name}(")), "{name}");
    }
}
