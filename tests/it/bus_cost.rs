//! What a heartbeat costs on the bus: nothing at its owner, a share of a batch elsewhere. Counted by a plain NATS client.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::support::wait::same;
use crate::support::{Connection, Nats, Node, Request, eventually};

const CLUSTER: &str = "cost";
const INSTANCES: usize = 10;
const HEARTBEATS: usize = 10_000;
const CONNECTIONS: usize = 4;

/// Keeps the messages on a subject, from the moment it exists.
struct Listener {
    heard: Arc<Mutex<Vec<Bytes>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Listener {
    async fn on(client: &async_nats::Client, subject: &str) -> Self {
        let mut messages = client.subscribe(subject.to_owned()).await.expect("a subscription");
        client.flush().await.expect("a server that runs");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                kept.lock().expect("messages").push(message.payload);
            }
        });
        Self { heard, task }
    }

    fn count(&self) -> usize {
        self.heard.lock().expect("messages").len()
    }

    /// Where the message is that names `marker`.
    async fn find(&self, marker: &str) -> usize {
        let names = |message: &Bytes| message.windows(marker.len()).any(|part| part == marker.as_bytes());
        eventually(&format!("{marker} is heard of"), Duration::from_secs(5), async || {
            self.heard.lock().expect("messages").iter().position(names).ok_or_else(|| "it is not".into())
        })
        .await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn register(node: &Node, id: &str) {
    let target = format!("/v1/services/user/instances/{id}");
    // Each has a name of its own: who listens where another does is looked at.
    node.put(&target, &json!({"address": format!("{id}.example.com"), "port": 8080, "ttl": "1m"})).await.expect(201);
}

/// The last seq of the log of each node.
async fn heads(nodes: &[Node]) -> Vec<Value> {
    let mut heads = Vec::new();
    for node in nodes {
        heads.push(node.cluster().await["nodes"][0]["seq"].clone());
    }
    heads
}

/// How many change messages each node published while `work` was done. Each then writes one thing more: when that has been heard,
/// so has everything before it.
async fn changes_during(nodes: &[Node], changes: &[Listener], marker: &str, work: impl Future<Output = ()>) -> Vec<usize> {
    let since: Vec<usize> = changes.iter().map(Listener::count).collect();
    let heads_before = heads(nodes).await;
    work.await;
    assert_eq!(heads(nodes).await, heads_before, "something was written");
    let mut counts = Vec::new();
    for ((node, changes), since) in nodes.iter().zip(changes).zip(since) {
        let marker = format!("{marker}-{}", node.name);
        register(node, &marker).await;
        counts.push(changes.find(&marker).await - since);
    }
    counts
}

/// Sends all heartbeats to one node over kept connections; each must be answered 200.
async fn send_heartbeats(node: &Node) {
    let host = node.host;
    let senders = (0..CONNECTIONS).map(|_| {
        tokio::spawn(async move {
            let mut connection = Connection::open(host).await.expect("a node that listens");
            for number in 0..HEARTBEATS / CONNECTIONS {
                let request = Request::new("POST", &format!("/v1/services/user/instances/copy-{}/heartbeat", number % INSTANCES));
                connection.send(&request).await.expect("an answer").expect(200);
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.expect("every heartbeat was answered");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_costs_no_change() {
    let nats = Nats::start(1).await;
    let nodes = Node::start_cluster(2, CLUSTER, &nats.urls(), &[]).await;
    let client = nats.client().await;
    let mut changes = Vec::new();
    for node in &nodes {
        changes.push(Listener::on(&client, &format!("muster.{CLUSTER}.change.{}", node.name)).await);
    }
    let relays = Listener::on(&client, &format!("muster.{CLUSTER}.relay.n1")).await;
    for number in 0..INSTANCES {
        register(&nodes[0], &format!("copy-{number}")).await;
    }
    eventually("the other node lists them", Duration::from_secs(5), async || {
        let list = nodes[1].get("/v1/services/user/instances").await.expect(200);
        same(&list["instances"].as_array().map(Vec::len), &Some(INSTANCES))
    })
    .await;
    changes[0].find(&format!("copy-{}", INSTANCES - 1)).await;

    let at_owner = changes_during(&nodes, &changes, "first", send_heartbeats(&nodes[0])).await;
    assert_eq!(at_owner, [0, 0], "changes for {HEARTBEATS} heartbeats at the owner");
    assert_eq!(relays.count(), 0, "relays for heartbeats at the owner");

    let begun = Instant::now();
    let elsewhere = changes_during(&nodes, &changes, "second", send_heartbeats(&nodes[1])).await;
    assert_eq!(elsewhere, [0, 0], "changes for {HEARTBEATS} heartbeats at another node");
    eventually("the owner is told", Duration::from_secs(5), async || if relays.count() > 0 { Ok(()) } else { Err("no relay".into()) })
        .await;
    // A batch leaves every 200 ms or when it has 1,000 renewals.
    let batches_max = begun.elapsed().as_millis() as usize / 200 + HEARTBEATS / 1000 + 2;
    assert!(relays.count() <= batches_max, "{} relays, at most {batches_max} batches were due", relays.count());
    for number in 0..INSTANCES {
        let detail = nodes[1].get(&format!("/v1/services/user/instances/copy-{number}")).await.expect(200);
        assert_eq!((&detail["owner"], &detail["generation"]), (&json!("n1"), &json!(0)), "ownership moved: {detail}");
        let silent_ms = detail["lease"]["last_heartbeat_ms"].as_u64().expect("the owner answers");
        assert!(silent_ms < 30_000, "the relayed heartbeats did not reach the owner: {detail}");
    }
}
