//! One run: fresh processes, every row once, the floor beside muster, and what each load must have left behind checked after it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;

use crate::http::Connection;
use crate::killed::{self, Way};
use crate::load::Load;
use crate::process::Process;
use crate::requests::{Kind, Requests, get, heartbeats, look_up, look_ups, registrations, services_of};
use crate::rows::ROWS;
use crate::samples::Samples;
use crate::stats::Latencies;
use crate::{one_way, told};

/// Services looked up, of each size.
const LOOKED_UP: usize = 100;
/// Of the latencies, as the rows name them.
const PERCENTILES: [usize; 2] = [50, 99];
/// Instances that [`Samples::take`] registers.
const SAMPLED: usize = 3;

/// How much is done in one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount {
    pub(crate) registrations: usize,
    pub(crate) renewals: usize,
    pub(crate) look_ups: usize,
    pub(crate) changes: usize,
    /// Attached providers that are killed.
    pub(crate) kills: usize,
    /// Providers with heartbeats that are: each takes a second or more.
    pub(crate) slow_kills: usize,
}

/// What a server did in one row: its figure and, where one server did it, its CPU time an operation in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) value: f64,
    pub(crate) cpu_us: Option<f64>,
}

/// A row of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) floor: Figure,
    pub(crate) muster: Figure,
}

impl Pair {
    pub(crate) fn ratio(&self) -> f64 {
        self.muster.value / self.floor.value
    }
}

/// Measures every row once, in the order of [`ROWS`].
pub(crate) async fn run(amount: Amount) -> Vec<Pair> {
    let dir = TempDir::new().expect("a temporary folder");
    let (mut pairs, sse) = alone(amount, dir.path()).await;
    pairs.extend(across(amount, &sse, dir.path()).await);
    assert_eq!(pairs.len(), ROWS.len(), "a figure for each row");
    for (row, pair) in ROWS.iter().zip(&pairs) {
        eprintln!("  row {}, {}: {:.2} of the floor", row.number, row.what, pair.ratio());
    }
    pairs
}

/// Rows 1 to 8: one node without a bus. Also the floor's latencies of row 8, which row 9 stands on.
async fn alone(amount: Amount, dir: &Path) -> (Vec<Pair>, Latencies) {
    let muster = Process::muster("n1", None, dir).await;
    let listed = fill(muster.host).await;
    let samples = Samples::take(muster.host).await;
    samples.write(dir);
    let floor = Process::floor(dir).await;
    let servers = Servers { floor, muster };
    let mut instances = listed + SAMPLED;

    let services = services_of(amount.registrations);
    let registering = Load {
        requests: Arc::new(registrations(Kind::Registered, amount.registrations, services)),
        count: amount.registrations,
        status: 201,
        body_bytes: Some(samples.registered.len()),
    };
    let mut pairs = vec![servers.rate(&registering).await];
    instances += amount.registrations;
    assert_holds(servers.muster.host, instances).await;

    let renewing = Load {
        requests: Arc::new(heartbeats(Kind::Registered, amount.registrations, services)),
        count: amount.renewals,
        status: 200,
        body_bytes: Some(samples.renewed.len()),
    };
    pairs.push(servers.rate(&renewing).await);
    assert_holds(servers.muster.host, instances).await;

    for load in looking_up(amount.look_ups, &samples, servers.muster.host).await {
        pairs.push(servers.rate(&load).await);
    }

    let (told, sse) = servers.told(amount.changes).await;
    instances += amount.changes;
    assert_holds(servers.muster.host, instances).await;
    pairs.extend(told);
    (pairs, sse)
}

/// Rows 9 and 11: two nodes and a real nats-server between them.
async fn across(amount: Amount, sse: &Latencies, dir: &Path) -> Vec<Pair> {
    let nats = Process::nats(dir).await;
    let one_way = one_way::measure(nats.host, amount.changes).await;
    let url = format!("nats://{}", nats.host);
    let (a, b) = tokio::join!(Process::muster("a", Some(&url), dir), Process::muster("b", Some(&url), dir));
    let before = a.cpu_us() + b.cpu_us();
    let told = told::measure(a.host, b.host, amount.changes).await;
    let cpu_us = (a.cpu_us() + b.cpu_us() - before) / amount.changes as f64;
    assert_holds(a.host, amount.changes).await;
    assert_holds(b.host, amount.changes).await;
    let pair = |latencies: &Latencies, cpu_us, percent| Pair {
        floor: Figure { value: sse.percentile_ms(percent) + one_way.percentile_ms(percent), cpu_us: None },
        muster: Figure { value: latencies.percentile_ms(percent), cpu_us },
    };
    let mut pairs: Vec<Pair> = PERCENTILES.map(|percent| pair(&told, Some(cpu_us), percent)).into();
    for (way, count) in [(Way::Attached, amount.kills), (Way::Heartbeats, amount.slow_kills)] {
        let ends = killed::measure(way, a.host, b.host, count).await;
        pairs.extend(PERCENTILES.map(|percent| pair(&ends, None, percent)));
    }
    pairs
}

struct Servers {
    floor: Process,
    muster: Process,
}

impl Servers {
    async fn rate(&self, load: &Load) -> Pair {
        Pair { floor: rate(&self.floor, load).await, muster: rate(&self.muster, load).await }
    }

    /// The pairs of p50 and p99, and the floor's latencies.
    async fn told(&self, count: usize) -> ([Pair; 2], Latencies) {
        let (floor, floor_cpu_us) = told_by(&self.floor, count).await;
        let (muster, muster_cpu_us) = told_by(&self.muster, count).await;
        let pairs = PERCENTILES.map(|percent| Pair {
            floor: Figure { value: floor.percentile_ms(percent), cpu_us: Some(floor_cpu_us) },
            muster: Figure { value: muster.percentile_ms(percent), cpu_us: Some(muster_cpu_us) },
        });
        (pairs, floor)
    }
}

async fn rate(server: &Process, load: &Load) -> Figure {
    let before = server.cpu_us();
    let took = load.run(server.host).await;
    let count = load.count as f64;
    Figure { value: count / took.as_secs_f64(), cpu_us: Some((server.cpu_us() - before) / count) }
}

async fn told_by(server: &Process, count: usize) -> (Latencies, f64) {
    let before = server.cpu_us();
    let latencies = told::measure(server.host, server.host, count).await;
    (latencies, (server.cpu_us() - before) / count as f64)
}

/// Registers the services that are looked up; how many instances that are.
async fn fill(host: SocketAddr) -> usize {
    let counts = [(Kind::Ten, 10 * LOOKED_UP), (Kind::Hundred, 100 * LOOKED_UP)];
    for (kind, count) in counts {
        let requests = Arc::new(registrations(kind, count, LOOKED_UP));
        Load { requests, count, status: 201, body_bytes: None }.run(host).await;
    }
    counts.map(|(_, count)| count).iter().sum()
}

/// Look-ups of 10, of 100, and of 10 with the tag that each has.
async fn looking_up(count: usize, samples: &Samples, muster: SocketAddr) -> [Load; 3] {
    let load = |requests, status, body_bytes| Load { requests: Arc::new(requests), count, status, body_bytes: Some(body_bytes) };
    [
        load(look_ups(Kind::Ten, LOOKED_UP), 200, samples.ten.len()),
        load(look_ups(Kind::Hundred, LOOKED_UP), 200, samples.hundred.len()),
        load(conditional_look_ups(muster).await, 304, 0),
    ]
}

async fn conditional_look_ups(host: SocketAddr) -> Requests {
    let mut connection = Connection::open(host).await.expect("the server takes connections");
    let mut requests = Vec::new();
    for service in (0..LOOKED_UP).map(|number| Kind::Ten.service(number)) {
        let answer = connection.send(&look_up(&service, None)).await.expect("an answer");
        let etag = answer.header("etag").expect("a list has a tag").to_owned();
        requests.push(look_up(&service, Some(&etag)));
    }
    requests.into_iter().collect()
}

/// The node lists exactly this many instances.
async fn assert_holds(host: SocketAddr, instances: usize) {
    let mut connection = Connection::open(host).await.expect("the server takes connections");
    let answer = connection.send(&get("/v1/cluster")).await.expect("an answer");
    let cluster: Value = serde_json::from_slice(answer.body).expect("JSON");
    assert_eq!(cluster["instances"], instances, "instances held after a load: {cluster}");
}
