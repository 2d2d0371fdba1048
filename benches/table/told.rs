//! The open loop: registrations at a steady pace over followed services, and how long each takes until its subscriber is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures_util::future::{join_all, try_join_all};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{interval_at, sleep, timeout};

use crate::http::{Connection, position};
use crate::load::CONNECTIONS;
use crate::requests::{ID_DIGITS, Kind, registration, watch};
use crate::stats::Latencies;

/// Services followed, each by a subscriber of its own.
const SERVICES: usize = 100;
/// Registrations a second, all services together.
const RATE: usize = 1000;
/// For a subscription to be open, and after the load for the last change to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between the last subscription and the first registration.
const SETTLE: Duration = Duration::from_millis(200);

/// What stands before an instance's number in an event.
const ID_KEY: &[u8] = br#""id":"host-"#;

/// When each registration was sent and when it was first heard of, in nanoseconds since the start; 0: not yet.
struct Times {
    start: Instant,
    sent: Vec<AtomicU64>,
    heard: Vec<AtomicU64>,
}

impl Times {
    fn new(count: usize) -> Self {
        let empty = || (0..count).map(|_| AtomicU64::new(0)).collect();
        Self { start: Instant::now(), sent: empty(), heard: empty() }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn hear(&self, number: usize) {
        let _ = self.heard[number].compare_exchange(0, self.now(), Relaxed, Relaxed);
    }

    fn is_complete(&self) -> bool {
        self.heard.iter().all(|heard| heard.load(Relaxed) > 0)
    }

    fn latencies(&self) -> Latencies {
        self.sent.iter().zip(&self.heard).map(|(sent, heard)| Duration::from_nanos(heard.load(Relaxed) - sent.load(Relaxed))).collect()
    }
}

/// Registers `count` instances at `writer`; how long after its sending each was heard of at `reader`.
///
/// # Panics
/// When a change is never told: what is missed has no latency.
pub(crate) async fn measure(writer: SocketAddr, reader: SocketAddr, count: usize) -> Latencies {
    let times = Arc::new(Times::new(count));
    let _subscribers = Subscribers(join_all((0..SERVICES).map(|service| subscribe(reader, service, Arc::clone(&times)))).await);
    let connections = try_join_all((0..CONNECTIONS).map(|_| Connection::open(writer))).await.expect("the server takes connections");
    let begin = tokio::time::Instant::now() + SETTLE;
    let mut writers = JoinSet::new();
    for (first, connection) in connections.into_iter().enumerate() {
        writers.spawn(write(connection, first, begin, Arc::clone(&times)));
    }
    writers.join_all().await;
    let all_heard = async {
        while !times.is_complete() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let missing = || times.heard.iter().filter(|heard| heard.load(Relaxed) == 0).count();
    timeout(PATIENCE, all_heard).await.unwrap_or_else(|_| panic!("{} of {count} changes were never told", missing()));
    times.latencies()
}

/// Each connection sends every [`CONNECTIONS`]th registration, at its time whether or not others have been answered.
async fn write(mut connection: Connection, first: usize, begin: tokio::time::Instant, times: Arc<Times>) {
    let mut ticks = interval_at(begin + at_rate(first), at_rate(CONNECTIONS));
    for number in (first..times.sent.len()).step_by(CONNECTIONS) {
        let request = registration(&Kind::Watched.service(number % SERVICES), number);
        ticks.tick().await;
        times.sent[number].store(times.now(), Relaxed);
        let answer = connection.send(&request).await.expect("an answer");
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
}

/// When the registration with this number is due.
fn at_rate(number: usize) -> Duration {
    Duration::from_secs(1) * number as u32 / RATE as u32
}

/// Follows a service; resolves once the server has said that it is all there.
async fn subscribe(host: SocketAddr, service: usize, times: Arc<Times>) -> AbortHandle {
    let connection = Connection::open(host).await.expect("the server takes connections");
    let stream = connection.into_stream(&watch(&Kind::Watched.service(service))).await.expect("a stream");
    let mut events = Events::new(stream);
    timeout(PATIENCE, events.until(b"event: synced")).await.expect("a subscription in time");
    tokio::spawn(async move {
        loop {
            let block = events.next().await;
            for number in numbers(&block) {
                times.hear(number);
            }
        }
    })
    .abort_handle()
}

/// Ends with the measurement.
struct Subscribers(Vec<AbortHandle>);

impl Drop for Subscribers {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// The events of a stream, as text with the transfer's framing between them.
pub(crate) struct Events {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Events {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Everything up to the end of the next event.
    pub(crate) async fn next(&mut self) -> Vec<u8> {
        loop {
            if let Some(end) = position(&self.buffer, b"\n\n") {
                return self.buffer.drain(..end + 2).collect();
            }
            let count = self.stream.read_buf(&mut self.buffer).await.expect("an open stream");
            assert!(count > 0, "the server ended a stream");
        }
    }

    /// The next event in which this stands.
    pub(crate) async fn until(&mut self, needle: &[u8]) -> Vec<u8> {
        loop {
            let block = self.next().await;
            if position(&block, needle).is_some() {
                return block;
            }
        }
    }
}

/// The numbers of the instances that an event names.
fn numbers(block: &[u8]) -> Vec<usize> {
    let mut rest = block;
    let mut numbers = Vec::new();
    while let Some(at) = position(rest, ID_KEY) {
        rest = &rest[at + ID_KEY.len()..];
        let digits = rest.get(..ID_DIGITS).and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
        numbers.push(digits.expect("an id ends with its number"));
    }
    numbers
}
