//! Kills: a provider's process is killed at one node, and how long it takes until a subscriber at another one is told `suspect`.
//!
//! The provider is this program again, in a role of its own: what is measured begins with the signal, so the kernel's work is in it.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::http::{Connection, position};
use crate::requests::{Kind, attachment, beating, deregistration, heartbeat, id, watch};
use crate::stats::Latencies;
use crate::told::Events;

/// The service that is followed.
const SERVICE: usize = 0;
/// For a provider to be registered, and for its end to be told.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two kills.
const REST: Duration = Duration::from_millis(250);
/// With a ttl of 1 s.
const BEAT_EVERY: Duration = Duration::from_millis(333);

/// How a provider says that it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By a connection that stays open.
    Attached,
    /// By heartbeats, its ttl being 1 s.
    Heartbeats,
}

impl Way {
    const WORDS: [(&str, Self); 2] = [("attach", Self::Attached), ("beat", Self::Heartbeats)];

    /// The role of this name.
    pub(crate) fn of(role: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(word, _)| *word == role).map(|(_, way)| *way)
    }

    fn role(self) -> &'static str {
        match self {
            Self::Attached => "attach",
            Self::Heartbeats => "beat",
        }
    }
}

/// Kills `count` providers of `writer`, one after another; how long after the signal each was told at `reader`.
///
/// # Panics
/// When an end is never told.
pub(crate) async fn measure(way: Way, writer: SocketAddr, reader: SocketAddr, count: usize) -> Latencies {
    let service = Kind::Killed.service(SERVICE);
    let connection = Connection::open(reader).await.expect("the server takes connections");
    let mut events = Events::new(connection.into_stream(&watch(&service)).await.expect("a stream"));
    timeout(PATIENCE, events.until(b"event: synced")).await.expect("a subscription in time");
    let mut operator = Connection::open(writer).await.expect("the server takes connections");
    let mut latencies = Vec::with_capacity(count);
    for number in 0..count {
        let mut provider = start(way, writer, number).await;
        timeout(PATIENCE, until_told(&mut events, number, "up")).await.expect("a registration that is told");
        let killed_at = Instant::now();
        provider.start_kill().expect("a process that runs");
        timeout(PATIENCE, until_told(&mut events, number, "suspect")).await.expect("an end that is told");
        latencies.push(killed_at.elapsed());
        provider.wait().await.expect("an end");
        // Many silent ones together would be preserved.
        let answer = operator.send(&deregistration(&service, number)).await.expect("an answer");
        assert_eq!(answer.status, 204, "{}", answer.text());
        // Steps of one service that follow each other faster than `watch.coalesce` leave together: one end is to be told at a time.
        sleep(REST).await;
    }
    latencies.into_iter().collect()
}

/// Starts a provider of its own process, and waits until it is registered.
async fn start(way: Way, host: SocketAddr, number: usize) -> Child {
    let program = std::env::current_exe().expect("this program's own file");
    let mut command = Command::new(program);
    command.args([way.role(), &host.to_string(), &number.to_string()]).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("a process");
    let mut line = String::new();
    let output = child.stdout.take().expect("its output");
    timeout(PATIENCE, BufReader::new(output).read_line(&mut line)).await.expect("a provider in time").expect("a line");
    assert_eq!(line.trim_end(), "held");
    child
}

async fn until_told(events: &mut Events, number: usize, status: &str) {
    let (id, status) = (format!("\"id\":\"{}\"", id(number)), format!("\"status\":\"{status}\""));
    loop {
        let block = events.next().await;
        if position(&block, id.as_bytes()).is_some() && position(&block, status.as_bytes()).is_some() {
            return;
        }
    }
}

/// The provider: registers, says so, and lives until it is killed.
pub(crate) async fn provide(way: Way, host: SocketAddr, number: usize) {
    let service = Kind::Killed.service(SERVICE);
    let mut connection = Connection::open(host).await.expect("the server takes connections");
    match way {
        Way::Attached => {
            let mut stream = connection.into_stream(&attachment(&service, number)).await.expect("a stream");
            let mut seen = Vec::new();
            while position(&seen, b"\"owner\"").is_none() {
                assert!(stream.read_buf(&mut seen).await.expect("a stream") > 0, "{}", String::from_utf8_lossy(&seen));
            }
            println!("held");
            while stream.read_buf(&mut Vec::with_capacity(1024)).await.is_ok_and(|count| count > 0) {}
        }
        Way::Heartbeats => {
            let answer = connection.send(&beating(&service, number)).await.expect("an answer");
            assert_eq!(answer.status, 201, "{}", answer.text());
            println!("held");
            loop {
                sleep(BEAT_EVERY).await;
                connection.send(&heartbeat(&service, number)).await.expect("an answer");
            }
        }
    }
}
