//! Servers of the NATS cluster die or stand still while every node takes hundreds of registrations a second: nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;

use crate::support::{Api, Connection, Nats, Node, Request, all_agree, eventually};

const NODES: usize = 3;
/// Each node's provider registers one more after this long: together some hundreds a second.
const REGISTER_EVERY: Duration = Duration::from_millis(8);
/// How many must have been taken during each fault for it to count as load.
const FLOOD: usize = 300;
const STANDSTILL: Duration = Duration::from_secs(15);
/// From the end of the last fault on.
const CONVERGENCE: Duration = Duration::from_secs(10);

/// Registers instance after instance at each node until it is told to end. With the bus in whatever state, each must be taken.
struct Flood {
    taken: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Flood {
    fn start(apis: &[Api]) -> Self {
        let (taken, ends) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let tasks = apis.iter().enumerate().map(|(number, api)| tokio::spawn(flood(*api, number, Arc::clone(&taken), Arc::clone(&ends))));
        Self { tasks: tasks.collect(), taken, ends }
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Waits until `FLOOD` more were taken.
    async fn goes_on(&self) {
        let until = self.taken() + FLOOD;
        eventually("registrations go on", Duration::from_secs(30), async || {
            if self.taken() >= until { Ok(()) } else { Err(format!("{} of {until}", self.taken())) }
        })
        .await;
    }

    /// Ends it; gives how many were taken.
    async fn end(self) -> usize {
        self.ends.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("every registration was taken");
        }
        self.taken.load(Ordering::Relaxed)
    }
}

async fn flood(api: Api, number: usize, taken: Arc<AtomicUsize>, ends: Arc<AtomicBool>) {
    let mut connection = Connection::open(api.host).await.expect("a node that listens");
    for count in 0.. {
        if ends.load(Ordering::Relaxed) {
            return;
        }
        let target = format!("/v1/services/s{}/instances/n{number}-{count}", count % 20);
        let put = Request::new("PUT", &target)
            .json(&json!({"address": format!("10.0.0.{}", number + 1), "port": count % 60_000 + 1, "ttl": "1h"}));
        connection.send(&put).await.expect("an answer").expect(201);
        taken.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(REGISTER_EVERY).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_die_or_stand_still_lose_nothing() {
    let mut nats = Nats::start(3).await;
    let mut nodes = Vec::new();
    for number in 0..NODES {
        nodes.push(Node::start(&format!("n{}", number + 1), "nats-faults", &nats.urls_from(number), &[]).await);
    }
    for node in &nodes {
        node.ready().await;
    }
    all_agree(&nodes, 0, CONVERGENCE).await;
    let apis: Vec<Api> = nodes.iter().map(|node| **node).collect();
    let flood = Flood::start(&apis);
    flood.goes_on().await;

    nats.kill(0);
    flood.goes_on().await;
    nats.restart(0).await;
    flood.goes_on().await;

    // A server that stands still keeps its connections: nobody is told that it is gone.
    nats.signal(1, "STOP");
    let before = flood.taken();
    tokio::time::sleep(STANDSTILL).await;
    assert!(flood.taken() > before + FLOOD, "registrations waited for the bus");
    nats.signal(1, "CONT");

    let taken = flood.end().await;
    all_agree(&nodes, taken, CONVERGENCE).await;
    println!("{taken} registrations were taken and are held by all");
}
