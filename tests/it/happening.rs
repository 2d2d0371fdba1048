//! What happened and why: told by a node that was not asked then, by the command line, on the bus, and after a restart.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::support::node::muster;
use crate::support::{Nats, Node, Request, eventually};

const TARGET: &str = "/v1/services/user/instances/silent";

/// Cause, from and to of each, the oldest first.
fn story(list: &Value) -> Vec<Value> {
    let events = list["events"].as_array().unwrap_or_else(|| panic!("{list}"));
    events.iter().rev().map(|event| json!([event["cause"], event["from"], event["to"]])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_falls_silent_at_one_node_has_its_story_at_every_node_and_on_the_bus() {
    let nats = Nats::start(1).await;
    let client = nats.client().await;
    let mut bus = client.subscribe("muster.happening.event.*").await.expect("a subscription");
    client.flush().await.expect("a server that runs");
    let nodes = Node::start_cluster(2, "happening", &nats.urls(), &["--set", "leases.evict_after=1s"]).await;
    let registration = json!({"address": "10.0.0.7", "port": 8080, "ttl": "1s", "check": {"kind": "none"}});
    nodes[0].send(&Request::new("PUT", TARGET).header("muster-client", "cart/1.4").json(&registration)).await.expect(201);
    let told = [
        json!(["registered", null, "up"]),
        json!(["expired", "up", "suspect"]),
        json!(["expired", "suspect", "down"]),
        json!(["expired", "down", null]),
    ];
    let list = eventually("the other node has the whole story", Duration::from_secs(15), async || {
        let answer = nodes[1].get("/v1/events?service=user&since=10m").await;
        let list = answer.json();
        if story(&list).len() == told.len() { Ok(list) } else { Err(answer.text()) }
    })
    .await;
    assert_eq!(story(&list), told);
    let (first, suspect) = (&list["events"][3], &list["events"][2]);
    assert_eq!(json!([first["node"], first["actor"]]), json!(["n1", "cart/1.4 at 127.0.0.1"]));
    assert!(suspect["last_heartbeat_ms"].as_u64().is_some_and(|ms| ms >= 1000) && suspect["detail"].is_string(), "{suspect}");
    // The same everywhere, and the same as on the bus.
    assert_eq!(nodes[0].get("/v1/events?service=user&since=10m").await.expect(200)["events"], list["events"]);
    assert_eq!(nodes[1].get(&format!("{TARGET}/history")).await.expect(200)["events"], list["events"]);
    for event in list["events"].as_array().into_iter().flatten().rev() {
        let message = tokio::time::timeout(Duration::from_secs(10), bus.next()).await.expect("an event").expect("a bus");
        assert_eq!(message.subject.as_str(), "muster.happening.event.default");
        assert_eq!(serde_json::from_slice::<Value>(&message.payload).expect("JSON"), *event);
    }
    // A node that comes later has heard of no change: it tells the last of each instance, and not what was before it.
    nodes[0].put("/v1/services/user/instances/kept", &json!({"address": "10.0.0.7", "port": 8081, "ttl": "1h"})).await.expect(201);
    let late = Node::start("n3", "happening", &nats.urls(), &[]).await;
    late.ready().await;
    let list = late.get("/v1/services/user/instances/kept/history").await.expect(200);
    assert_eq!((story(&list), &list["events"][0]["node"]), (vec![json!(["registered", null, "up"])], &json!("n1")));
    assert_eq!(late.get("/v1/events").await.expect(200), json!({"events": []}));
    let output = muster(&["why", "user", "silent", "-s", &nodes[1].url()]).output().expect("a muster that runs");
    let words = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && words.starts_with("user silent is not listed.\n"), "{words}");
    assert!(words.contains("up -> suspect  expired") && words.contains("by cart/1.4 at 127.0.0.1"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_again_knows_what_happened_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut node = Node::start_alone_in("n1", folder.path()).await;
    let registration = json!({"address": "10.0.0.7", "port": 8080, "ttl": "1h"});
    node.put(TARGET, &registration).await.expect(201);
    let other = json!({"address": "10.0.0.7", "port": 8081, "ttl": "1h"});
    node.put("/v1/services/user/instances/gone", &other).await.expect(201);
    assert_eq!(node.send(&Request::new("DELETE", "/v1/services/user/instances/gone")).await.status, 204);
    let before = node.get("/v1/events").await.expect(200);
    assert_eq!(story(&before).len(), 3);
    let file = folder.path().join("events");
    eventually("the events are on disk", Duration::from_secs(10), async || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        if text.lines().count() == 3 { Ok(()) } else { Err(text) }
    })
    .await;
    // Killed, and its last line cut as a crash of the machine may do.
    node.signal("KILL");
    node.ended(Duration::from_secs(10)).await;
    let whole = std::fs::read(&file).expect("the file");
    std::fs::write(&file, [&whole[..], b"0badc0de {\"id\":\"n1-4\""].concat()).expect("a disk");
    node.start_again().await;
    let gone = eventually("it has read its disk", Duration::from_secs(10), async || {
        let answer = node.get("/v1/services/user/instances/gone/history").await;
        if answer.status == 200 && story(&answer.json()).len() == 2 { Ok(answer.json()) } else { Err(answer.text()) }
    })
    .await;
    assert_eq!(gone["events"][0], before["events"][0]);
    let after = node.get("/v1/events?limit=100").await.expect(200);
    let after = after["events"].as_array().expect("events");
    assert_eq!(Value::from(after[after.len() - 3..].to_vec()), before["events"]);
}
