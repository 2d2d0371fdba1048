//! Heartbeats behind a balancer: ten thousand instances renew at each node in turn, which moves no record and costs few bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::load::address;
use crate::support::{Api, Nats, Node, Request, all_agree, eventually};

const CLUSTER: &str = "round-robin";
const INSTANCES: usize = 10_000;
const BATCH: usize = 1000;
const ROUNDS: usize = 6;
const SETTLE: Duration = Duration::from_secs(20);
/// A renewal names its instance and its life; it must not cost what a record costs.
const BYTES_PER_RENEWAL_MAX: usize = 100;

/// Counts what is on one subject.
struct Meter {
    messages: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Meter {
    async fn on(client: &async_nats::Client, subject: String) -> Self {
        let mut heard = client.subscribe(subject).await.expect("a subscription");
        client.flush().await.expect("a server that runs");
        let (messages, bytes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted, weighed) = (Arc::clone(&messages), Arc::clone(&bytes));
        let task = tokio::spawn(async move {
            while let Some(message) = heard.next().await {
                counted.fetch_add(1, Ordering::Relaxed);
                weighed.fetch_add(message.payload.len(), Ordering::Relaxed);
            }
        });
        Self { messages, bytes, task }
    }

    fn read(&self) -> (usize, usize) {
        (self.messages.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Says one operation of each of these instances to a node, each of which must be answered with this status.
async fn say(api: Api, op: &str, numbers: Vec<usize>, status: u64) {
    for part in numbers.chunks(BATCH) {
        let ops: Vec<Value> = part.iter().map(|number| op_of(op, *number)).collect();
        let answer = api.send(&Request::new("POST", "/v1/batch").json(&json!({"ops": ops}))).await.expect(200);
        let wrong = answer["results"].as_array().expect("results").iter().find(|result| result["status"] != status);
        assert_eq!(wrong, None, "{op}");
    }
}

fn op_of(op: &str, number: usize) -> Value {
    let mut said = json!({"op": op, "service": format!("s{}", number % 100), "id": format!("i{number:05}")});
    if op == "register" {
        let more = json!({"address": address(number), "port": 8080, "ttl": "1h"});
        said.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    }
    said
}

/// The instances whose turn it is at this node.
fn turn(node: usize, round: usize) -> Vec<usize> {
    (0..INSTANCES).filter(|number| (number + round) % 3 == node).collect()
}

/// How far each node's log is, as each node says of itself.
async fn seqs(nodes: &[Node]) -> Vec<Value> {
    join_all(nodes.iter().map(|node| node.cluster())).await.into_iter().map(|cluster| cluster["nodes"][0]["seq"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn renewing_in_turn_moves_nothing() {
    let nats = Nats::start(1).await;
    let nodes = Node::start_cluster(3, CLUSTER, &nats.urls(), &[]).await;
    let apis: Vec<Api> = nodes.iter().map(|node| **node).collect();
    join_all(apis.iter().enumerate().map(|(node, api)| say(*api, "register", turn(node, 0), 201))).await;
    all_agree(&nodes, INSTANCES, SETTLE).await;
    let before = seqs(&nodes).await;
    let client = nats.client().await;
    let relays = Meter::on(&client, format!("muster.{CLUSTER}.relay.*")).await;
    let changes = Meter::on(&client, format!("muster.{CLUSTER}.change.*")).await;

    let mut last_round = Instant::now();
    for round in 0..ROUNDS {
        last_round = Instant::now();
        join_all(apis.iter().enumerate().map(|(node, api)| say(*api, "heartbeat", turn(node, round), 200))).await;
    }
    // In two rounds of three each instance renews where it is not owned.
    let relayed = INSTANCES * ROUNDS * 2 / 3;
    eventually("the last renewals reach their owners", SETTLE, async || {
        for (number, node) in [(INSTANCES - 1, 0), (INSTANCES - 2, 1), (INSTANCES - 3, 2)] {
            let target = format!("/v1/services/s{}/instances/i{number:05}", number % 100);
            let detail = nodes[node].get(&target).await.expect(200);
            let silent_ms = detail["lease"]["last_heartbeat_ms"].as_u64().ok_or_else(|| detail.to_string())?;
            if u128::from(silent_ms) > last_round.elapsed().as_millis() {
                return Err(detail.to_string());
            }
        }
        Ok(())
    })
    .await;

    assert_eq!(seqs(&nodes).await, before, "a heartbeat wrote a change");
    assert_eq!(changes.read(), (0, 0), "changes on the bus");
    all_agree(&nodes, INSTANCES, SETTLE).await;
    for number in (0..INSTANCES).step_by(97) {
        let target = format!("/v1/services/s{}/instances/i{number:05}", number % 100);
        let detail = nodes[0].get(&target).await.expect(200);
        let first = format!("n{}", number % 3 + 1);
        assert_eq!((&detail["owner"], &detail["generation"]), (&json!(first), &json!(0)), "ownership moved: {detail}");
    }
    let (messages, bytes) = relays.read();
    println!(
        "{} renewals, {relayed} of them away from their owner: 0 moves, {messages} relay messages, {bytes} bytes: {} a relayed renewal, {} a renewal",
        INSTANCES * ROUNDS,
        bytes / relayed,
        bytes / (INSTANCES * ROUNDS)
    );
    assert!(bytes / relayed <= BYTES_PER_RENEWAL_MAX, "{} bytes for each relayed renewal", bytes / relayed);
}
