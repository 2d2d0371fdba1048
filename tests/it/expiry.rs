//! Silence: late, then held for dead, then gone, told to every node's subscribers with the cause.

use std::time::Duration;

use serde_json::json;

use crate::support::{Nats, Node, Subscriber, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_told_step_by_step_at_every_node() {
    let nats = Nats::start(1).await;
    let nodes = Node::start_cluster(3, "expiry", &nats.urls(), &["--set", "leases.evict_after=1s"]).await;
    let mut subscribers = Vec::new();
    for node in &nodes {
        subscribers.push(Subscriber::open(**node, "/v1/watch?service=user").await);
    }
    let registration = json!({"address": "10.0.0.7", "port": 8080, "ttl": "1s", "check": {"kind": "none"}});
    nodes[0].put("/v1/services/user/instances/silent", &registration).await.expect(201);

    eventually("the instance is suspect, with its cause, at a node that does not own it", Duration::from_secs(5), async || {
        let answer = nodes[1].get("/v1/services/user/instances/silent").await;
        let detail = answer.json();
        if detail["status"]["effective"] == "suspect" && detail["cause"] == "expired" { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    let told = ["up", "suspect", "down", "gone: expired"];
    for subscriber in &subscribers {
        let held = subscriber
            .until("the whole story is told", Duration::from_secs(10), |held| {
                let story = held.story("silent");
                if story.last().map(String::as_str) == told.last().copied() { Ok(()) } else { Err(format!("{story:?}")) }
            })
            .await;
        assert_eq!(held.story("silent"), told);
        assert_eq!(held.breaks, Vec::<String>::new());
    }
    for node in &nodes {
        let list = node.get("/v1/services/user/instances").await.expect(200);
        assert_eq!((&list["instances"], &list["complete"]), (&json!([]), &json!(true)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_brings_back_what_silence_took_away() {
    let nats = Nats::start(1).await;
    let nodes = Node::start_cluster(2, "revival", &nats.urls(), &["--set", "leases.evict_after=0s"]).await;
    let target = "/v1/services/user/instances/late";
    nodes[0].put(target, &json!({"address": "10.0.0.7", "port": 8080, "ttl": "1s", "check": {"kind": "none"}})).await.expect(201);
    let listed = async |count: usize| {
        eventually(&format!("{count} are listed at the other node"), Duration::from_secs(10), async || {
            let list = nodes[1].get("/v1/services/user/instances").await.expect(200);
            if list["instances"].as_array().map(Vec::len) == Some(count) { Ok(list) } else { Err(list.to_string()) }
        })
        .await
    };
    listed(1).await;
    listed(0).await;
    nodes[0].post(&format!("{target}/heartbeat"), &json!({})).await.expect(200);
    let list = listed(1).await;
    assert_eq!((&list["instances"][0]["port"], &list["instances"][0]["status"]), (&json!(8080), &json!("up")));
}
