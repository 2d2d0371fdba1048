//! A NATS that loses, freezes, refuses and lies: nodes notice, say so, go on alone, and are whole again when it behaves.

mod server;

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Api, Node, eventually};
use server::FakeNats;

/// For a node to notice what is wrong with its bus: 3 s without an echo, or three unanswered pings of 2 s each, on a slow machine.
const NOTICE: Duration = Duration::from_secs(20);

/// Waits until a node says this of its bus.
async fn until_bus_is(node: &Node, state: &str) {
    eventually(&format!("the bus of {} is {state}", node.name), NOTICE, async || {
        let cluster = node.cluster().await;
        if cluster["bus"] == state { Ok(()) } else { Err(cluster["bus"].to_string()) }
    })
    .await;
}

/// Waits until a node's log has this in it.
async fn until_log_has(node: &Node, words: &str) {
    eventually(
        &format!("{} says: {words}", node.name),
        NOTICE,
        async || {
            if node.log().contains(words) { Ok(()) } else { Err("not yet".into()) }
        },
    )
    .await;
}

async fn register(at: &Api, id: &str, metadata: &Value) {
    let body = json!({"address": "10.0.0.7", "port": 8080, "ttl": "1h", "metadata": metadata});
    at.put(&format!("/v1/services/user/instances/{id}"), &body).await.expect(201);
}

async fn count_at(api: &Api) -> usize {
    let list = api.get("/v1/services/user/instances").await.expect(200);
    list["instances"].as_array().map_or(0, Vec::len)
}

async fn until_seen(node: &Node, count: usize) {
    eventually(&format!("{} sees {count}", node.name), NOTICE, async || match count_at(node).await {
        seen if seen == count => Ok(()),
        seen => Err(seen.to_string()),
    })
    .await;
}

async fn dropped(node: &Node, queue: &str) -> f64 {
    let metrics = node.get("/metrics").await.text();
    let wanted = format!("queue=\"{queue}\"");
    let of_queue = metrics.lines().filter(|line| line.starts_with("muster_dropped_total") && line.contains(&wanted));
    of_queue.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bus_took_and_lost_is_pulled() {
    let nats = FakeNats::start().await;
    let nodes = Node::start_cluster(2, "lossy", &nats.url(""), &[]).await;
    nats.change(|habits| habits.loses = Some(".change.".into()));
    register(&nodes[0], "u1", &json!({})).await;
    // Nothing follows it: only a beacon can show that something is lacking.
    until_seen(&nodes[1], 1).await;
    nodes[1].hears_peers(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_hear_itself_says_so_and_connects_anew() {
    let nats = FakeNats::start().await;
    let nodes = Node::start_cluster(1, "deaf", &nats.url(""), &[]).await;
    let before = nats.connected();
    nats.change(|habits| habits.loses = Some(".beacon.".into()));
    until_bus_is(&nodes[0], "deaf").await;
    eventually("all three connections are made anew", NOTICE, async || {
        if nats.connected() >= before + 3 { Ok(()) } else { Err(nats.connected().to_string()) }
    })
    .await;
    register(&nodes[0], "u1", &json!({})).await;
    nats.change(|habits| habits.loses = None);
    until_bus_is(&nodes[0], "up").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_is_given_up_and_found_again() {
    let nats = FakeNats::start().await;
    let nodes = Node::start_cluster(2, "frozen", &nats.url(""), &[]).await;
    nats.change(|habits| habits.frozen = true);
    for (node, id) in nodes.iter().zip(["u1", "u2"]) {
        until_bus_is(node, "down").await;
        register(node, id, &json!({})).await;
        assert_eq!(count_at(node).await, 1);
    }
    nats.change(|habits| habits.frozen = false);
    for node in &nodes {
        until_seen(node, 2).await;
        node.hears_peers(2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connected_is_not_hearing() {
    let nats = FakeNats::start().await;
    nats.change(|habits| habits.subscribing = Duration::from_secs(2));
    let node = Node::start("n1", "late", &nats.url(""), &[]).await;
    until_log_has(&node, "the bus is connected").await;
    assert_ne!(node.cluster().await["bus"], "up", "it cannot have heard itself");
    until_bus_is(&node, "up").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_refused_are_tried_again_and_never_shown() {
    let nats = FakeNats::start().await;
    nats.change(|habits| habits.refuses = true);
    let node = Node::start("n1", "refused", &nats.url("ops:s3cr%2ft@"), &["--set", "log.filter=debug,async_nats=trace"]).await;
    until_log_has(&node, "does not accept this node's credentials").await;
    // It lives and takes what it is given; what a bus has that it never reached it does not know.
    assert_eq!(node.get("/livez").await.status, 200);
    assert_eq!(node.get("/readyz").await.status, 503);
    register(&node, "u1", &json!({})).await;
    nats.change(|habits| habits.refuses = false);
    until_bus_is(&node, "up").await;
    assert!(nats.presented().contains(r#""pass":"s3cr/t""#), "{}", nats.presented());
    assert!(!node.log().contains("s3cr"), "a secret in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_about_to_stop_is_left() {
    let nats = FakeNats::start().await;
    let nodes = Node::start_cluster(1, "lame", &nats.url(""), &[]).await;
    let before = nats.connected();
    nats.announce_its_end();
    eventually("all three connections are made anew", NOTICE, async || {
        if nats.connected() >= before + 3 { Ok(()) } else { Err(nats.connected().to_string()) }
    })
    .await;
    until_bus_is(&nodes[0], "up").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_only_short_messages_is_complained_of() {
    let nats = FakeNats::start().await;
    nats.change(|habits| habits.max_payload = 64 * 1024);
    let nodes = Node::start_cluster(2, "short", &nats.url(""), &[]).await;
    until_log_has(&nodes[0], "raise its max_payload").await;
    let large: serde_json::Map<String, Value> = (0..12).map(|number| (format!("k{number}"), json!("x".repeat(1024)))).collect();
    let ops: Vec<Value> = (0..20)
        .map(|number| json!({"op": "register", "service": "user", "id": format!("u{number}"), "address": "10.0.0.7", "port": number + 1, "ttl": "1h", "metadata": large}))
        .collect();
    nodes[0].post("/v1/batch", &json!({ "ops": ops })).await.expect(200);
    eventually("what does not fit is counted", NOTICE, async || {
        let count = dropped(&nodes[0], "bus_max_payload").await;
        if count > 0.0 { Ok(()) } else { Err("not yet".into()) }
    })
    .await;
    // What fits goes on.
    register(&nodes[1], "small", &json!({})).await;
    until_seen(&nodes[0], 21).await;
}
