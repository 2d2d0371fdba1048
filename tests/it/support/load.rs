//! A load: many instances kept by heartbeats in batches over a few connections, each of which turns to the next node when its own fails it.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Api, Request};

/// For one batch; past it the connection tries the next node.
const BATCH_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two tries, so that nodes that all refuse are not asked without end.
const TRY_EVERY: Duration = Duration::from_millis(50);

/// Instances of one service; dropped, none of them is renewed any more.
pub(crate) struct Load {
    pub(crate) ids: Vec<String>,
    told: Arc<Told>,
    _lanes: JoinSet<()>,
}

/// What the providers were told.
#[derive(Default)]
struct Told {
    renewed: AtomicUsize,
    registered_again: AtomicUsize,
    turned: AtomicUsize,
    refused: Mutex<Vec<Value>>,
}

/// Instances that one connection speaks for.
struct Lane {
    service: String,
    /// Each with its heartbeat, as its registration was answered.
    ids: Vec<String>,
    ttl_ms: u64,
    nodes: Vec<Api>,
    told: Arc<Told>,
}

impl Load {
    /// Registers `count` instances of `service` over `lanes` connections, spread over the nodes, and begins to renew them.
    pub(crate) async fn start(service: &str, count: usize, lanes: usize, ttl: Duration, nodes: &[Api]) -> Self {
        Self::of(service, 0..count, lanes, ttl, nodes).await
    }

    /// The same with the instances of these numbers.
    pub(crate) async fn of(service: &str, numbers: Range<usize>, lanes: usize, ttl: Duration, nodes: &[Api]) -> Self {
        let ids: Vec<String> = numbers.map(|number| format!("i{number:05}")).collect();
        let told = Arc::new(Told::default());
        let ttl_ms = u64::try_from(ttl.as_millis()).expect("a ttl");
        let mut running = JoinSet::new();
        for (number, ids) in ids.chunks(ids.len().div_ceil(lanes)).enumerate() {
            let mut turned = nodes.to_vec();
            turned.rotate_left(number % nodes.len());
            let mut lane = Lane { service: service.into(), ids: ids.to_vec(), ttl_ms, nodes: turned, told: Arc::clone(&told) };
            lane.say(ids.iter().map(|id| lane.register(id)).collect()).await;
            running.spawn(lane.run());
        }
        Self { ids, told, _lanes: running }
    }

    /// Heartbeats that were answered 200.
    pub(crate) fn renewed(&self) -> usize {
        self.told.renewed.load(Ordering::Relaxed)
    }

    /// Heartbeats that had to be answered by registering again.
    pub(crate) fn registered_again(&self) -> usize {
        self.told.registered_again.load(Ordering::Relaxed)
    }

    /// How often a connection turned to the next node.
    pub(crate) fn turned(&self) -> usize {
        self.told.turned.load(Ordering::Relaxed)
    }

    /// Answers that no provider in good order should get.
    pub(crate) fn refused(&self) -> Vec<Value> {
        self.told.refused.lock().expect("answers").clone()
    }
}

impl Lane {
    async fn run(mut self) {
        loop {
            tokio::time::sleep(Duration::from_millis(self.ttl_ms / 3)).await;
            let unknown = self.say(self.ids.iter().map(|id| self.op("heartbeat", id)).collect()).await;
            if !unknown.is_empty() {
                self.told.registered_again.fetch_add(unknown.len(), Ordering::Relaxed);
                self.say(unknown.iter().map(|id| self.register(id)).collect()).await;
            }
        }
    }

    fn op(&self, op: &str, id: &str) -> Value {
        json!({"op": op, "service": self.service, "id": id})
    }

    fn register(&self, id: &str) -> Value {
        let mut op = self.op("register", id);
        let number: usize = id[1..].parse().expect("a number");
        let more = json!({"address": address(number), "port": 8080, "ttl": self.ttl_ms});
        op.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        op
    }

    /// Says these to one node after the other until each is answered; gives the ids that the registry does not know.
    async fn say(&mut self, mut ops: Vec<Value>) -> Vec<String> {
        let mut unknown = Vec::new();
        loop {
            let rest = self.try_say(&ops, &mut unknown).await;
            if rest.is_empty() {
                return unknown;
            }
            ops = rest;
            self.nodes.rotate_left(1);
            self.told.turned.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(TRY_EVERY).await;
        }
    }

    /// Says these to the first node; gives those that another node is to be told.
    async fn try_say(&self, ops: &[Value], unknown: &mut Vec<String>) -> Vec<Value> {
        let request = Request::new("POST", "/v1/batch").json(&json!({"ops": ops}));
        let answer = match tokio::time::timeout(BATCH_TIMEOUT, self.nodes[0].try_send(&request)).await {
            Ok(Ok(answer)) if answer.status == 200 => answer.json(),
            _ => return ops.to_vec(),
        };
        let mut rest = Vec::new();
        for (op, result) in ops.iter().zip(answer["results"].as_array().expect("results")) {
            match result["status"].as_u64() {
                Some(200 | 201) => {
                    self.told.renewed.fetch_add(1, Ordering::Relaxed);
                }
                Some(404) => unknown.push(op["id"].as_str().expect("an id").to_owned()),
                Some(503) => rest.push(op.clone()),
                _ => self.told.refused.lock().expect("answers").push(json!([op, result])),
            }
        }
        rest
    }
}

/// Where the instance of this number listens, as nobody else does: nothing answers there.
pub(crate) fn address(number: usize) -> String {
    format!("10.7.{}.{}", number / 250, number % 250 + 1)
}
