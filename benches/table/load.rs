//! The closed loop: 50 keep-alive connections, each with one request under way, until a number of requests is answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio::task::JoinSet;

use crate::http::Connection;
use crate::requests::Requests;

/// As many as the peers were measured with.
pub(crate) const CONNECTIONS: usize = 50;

/// What is sent, how often in all, and what each answer must be.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) requests: Arc<Requests>,
    pub(crate) count: usize,
    pub(crate) status: u16,
    /// Of each answer; `None` where they differ.
    pub(crate) body_bytes: Option<usize>,
}

impl Load {
    /// Sends everything; the time it took.
    ///
    /// # Panics
    /// When an answer is not what it must be: a fast refusal is no result.
    pub(crate) async fn run(&self, host: SocketAddr) -> Duration {
        let connections = try_join_all((0..CONNECTIONS).map(|_| Connection::open(host))).await.expect("the server takes connections");
        let next = Arc::new(AtomicUsize::new(0));
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for connection in connections {
            tasks.spawn(self.clone().drive(connection, Arc::clone(&next)));
        }
        tasks.join_all().await;
        start.elapsed()
    }

    async fn drive(self, mut connection: Connection, next: Arc<AtomicUsize>) {
        loop {
            let number = next.fetch_add(1, Relaxed);
            if number >= self.count {
                return;
            }
            let request = self.requests.get(number);
            let answer = connection.send(request).await.expect("an answer");
            let is_right = answer.status == self.status && self.body_bytes.is_none_or(|bytes| bytes == answer.body.len());
            assert!(is_right, "not the answer to {:?}: {} {}", String::from_utf8_lossy(request), answer.status, answer.text());
        }
    }
}
