//! NATS from one client to another, as far as any registry over NATS must go: 200 bytes, a thousand a second.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::time::{interval, timeout};

use crate::stats::Latencies;

const MESSAGE_BYTES: usize = 200;
const EVERY: Duration = Duration::from_millis(1);
/// For the next message to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends `count` messages; how long each took from one client's publishing to the other's hearing.
pub(crate) async fn measure(server: SocketAddr, count: usize) -> Latencies {
    let connect = async || async_nats::connect(format!("nats://{server}")).await.expect("a nats-server");
    let (publisher, subscriber) = (connect().await, connect().await);
    let mut messages = subscriber.subscribe("floor").await.expect("a subscription");
    subscriber.flush().await.expect("a nats-server that has heard of the subscription");
    let start = Instant::now();
    let sender = tokio::spawn(async move {
        let mut ticks = interval(EVERY);
        for _ in 0..count {
            ticks.tick().await;
            publisher.publish("floor", message(start.elapsed()).into()).await.expect("a publisher that is connected");
        }
        // A client that is dropped takes along what it has not written yet.
        publisher.flush().await.expect("a publisher that is connected");
    });
    let mut latencies = Vec::with_capacity(count);
    while latencies.len() < count {
        let message = timeout(PATIENCE, messages.next()).await.expect("a message in time").expect("an open subscription");
        latencies.push(start.elapsed().saturating_sub(sent_at(&message.payload)));
    }
    sender.await.expect("a sender that ends");
    latencies.into_iter().collect()
}

/// Bytes that begin with when they were sent.
fn message(sent: Duration) -> Vec<u8> {
    let mut bytes = vec![0; MESSAGE_BYTES];
    bytes[..8].copy_from_slice(&(sent.as_nanos() as u64).to_le_bytes());
    bytes
}

fn sent_at(message: &[u8]) -> Duration {
    let nanos = message.first_chunk().expect("a message of ours");
    Duration::from_nanos(u64::from_le_bytes(*nanos))
}
