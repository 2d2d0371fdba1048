//! A node that stops says goodbye at once, and its subscribers go on at another node where they were.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::wait::same;
use crate::support::{Held, Nats, Node, Subscriber, eventually};

const TARGET: &str = "/v1/watch?service=user";

/// Registers an instance with a long lease and waits until `others` list it.
async fn register(node: &Node, id: &str, others: &[&Node]) {
    let target = format!("/v1/services/user/instances/{id}");
    node.put(&target, &json!({"address": "10.0.0.7", "port": 8080, "ttl": "1h"})).await.expect(201);
    for other in others {
        eventually("it is listed at another node", Duration::from_secs(5), async || same(&other.get(&target).await.status, &200)).await;
    }
}

/// Stops the node; gives what its subscriber held at the end. Its stream must have said goodbye and ended at once.
async fn stop(node: &mut Node, subscriber: &Subscriber) -> Held {
    let begun = Instant::now();
    node.signal("TERM");
    let held = subscriber
        .until("the stream ends", Duration::from_secs(5), |held| if held.ended { Ok(()) } else { Err(format!("{:?}", held.events.last())) })
        .await;
    assert!(begun.elapsed() < Duration::from_secs(2), "goodbye took {:?}", begun.elapsed());
    let last = held.events.last().expect("events");
    assert_eq!(last.name, "goodbye");
    assert!(last.data["reconnect_ms"].as_u64().is_some(), "{}", last.data);
    assert!(node.ended(Duration::from_secs(25)).await.success(), "a stop that was asked for is no failure");
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_resumes_at_another_node_where_it_was() {
    let nats = Nats::start(1).await;
    let mut nodes = Node::start_cluster(3, "goodbye", &nats.urls(), &[]).await;
    let [n1, n2, n3] = nodes.as_mut_slice() else { panic!("three were started") };
    register(n1, "a", &[n2, n3]).await;
    register(n2, "b", &[n1, n3]).await;
    // Somebody follows the service at the other nodes too: of a followed service they keep former views.
    let _followers = [Subscriber::open(**n2, TARGET).await, Subscriber::open(**n3, TARGET).await];

    let first = Subscriber::open(**n1, TARGET).await;
    first.until("both are held", Duration::from_secs(5), |held| same(&held.ports("user").len(), &2)).await;
    let held = stop(n1, &first).await;

    let second = Subscriber::resume(**n2, TARGET, &held).await;
    let held = second.until_event("synced", Duration::from_secs(5)).await;
    assert_eq!((held.steps(), &held.breaks), (vec!["unchanged"], &Vec::new()), "nothing had changed");
    let held = stop(n2, &second).await;

    register(n3, "c", &[]).await;
    let third = Subscriber::resume(**n3, TARGET, &held).await;
    let held = third.until_event("synced", Duration::from_secs(5)).await;
    assert_eq!((held.steps(), &held.breaks), (vec!["delta"], &Vec::new()), "one instance had come");
    assert_eq!(held.ports("user").len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_stops_at_once() {
    let mut node = Node::start_alone("alone").await;
    node.ready().await;
    let begun = Instant::now();
    node.signal("INT");
    assert!(node.ended(Duration::from_secs(10)).await.success());
    assert!(begun.elapsed() < Duration::from_secs(3), "it took {:?}", begun.elapsed());
}
