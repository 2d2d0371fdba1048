//! A provider: a real HTTP server on a port of the system's choice that answers its own id, registered and kept by heartbeats.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::{Api, Connection, Request};

/// For one exchange with a node; past it the provider tries the next.
const NODE_TIMEOUT: Duration = Duration::from_secs(2);

/// A running provider; dropped, it is as dead as one that was killed: nothing answers, nothing renews.
pub(crate) struct Provider {
    pub(crate) service: String,
    pub(crate) id: String,
    pub(crate) port: u16,
    server: JoinHandle<()>,
    heartbeats: JoinHandle<()>,
    /// Heartbeats that were refused and had to be answered by registering again.
    registered_again: Arc<Mutex<u32>>,
}

impl Provider {
    /// Listens, registers at the first of `nodes` and renews there; turns to the next when one does not answer.
    pub(crate) async fn start(service: &str, id: &str, ttl: &str, nodes: &[Api]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("a bound port").port();
        let server = tokio::spawn(serve(listener, id.to_owned()));
        let target = format!("/v1/services/{service}/instances/{id}");
        let registration = json!({"address": "127.0.0.1", "port": port, "ttl": ttl});
        let answer = nodes[0].put(&target, &registration).await;
        assert!(matches!(answer.status, 200 | 201), "{}: {}", answer.status, answer.text());
        let registered_again = Arc::new(Mutex::new(0));
        let renewer = Renewer { target, registration, nodes: nodes.to_vec(), registered_again: Arc::clone(&registered_again) };
        let heartbeats = tokio::spawn(renewer.run(answer.json()));
        Self { service: service.into(), id: id.into(), port, server, heartbeats, registered_again }
    }

    /// How often a heartbeat was refused.
    pub(crate) fn registered_again(&self) -> u32 {
        *self.registered_again.lock().expect("a count")
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.server.abort();
        self.heartbeats.abort();
    }
}

struct Renewer {
    target: String,
    registration: Value,
    nodes: Vec<Api>,
    registered_again: Arc<Mutex<u32>>,
}

impl Renewer {
    async fn run(mut self, registered: Value) {
        let every = Duration::from_millis(registered["lease"]["renew_every_ms"].as_u64().expect("renew_every_ms"));
        let mut said = heartbeat_of(&registered);
        loop {
            tokio::time::sleep(every).await;
            match self.send("POST", &format!("{}/heartbeat", self.target), &said).await {
                Some((200, _)) => {}
                Some((404, _)) => {
                    *self.registered_again.lock().expect("a count") += 1;
                    if let Some((200 | 201, answer)) = self.send("PUT", &self.target, &self.registration).await {
                        said = heartbeat_of(&answer);
                    }
                }
                Some((409, _)) => return,
                _ => self.nodes.rotate_left(1),
            }
        }
    }

    async fn send(&self, method: &str, target: &str, body: &Value) -> Option<(u16, Value)> {
        let answer = tokio::time::timeout(NODE_TIMEOUT, self.nodes[0].try_send(&Request::new(method, target).json(body))).await;
        let answer = answer.ok()?.ok()?;
        Some((answer.status, answer.json()))
    }
}

/// The heartbeat that names the life and the content as the registration's answer gave them.
fn heartbeat_of(registered: &Value) -> Value {
    json!({"incarnation": registered["incarnation"], "digest": registered["digest"]})
}

/// Answers every request with `id`, until it is aborted, and its connections with it.
async fn serve(listener: TcpListener, id: String) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(answer(stream, id.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(mut stream: TcpStream, id: String) {
    let mut request = [0; 1024];
    let _ = stream.read(&mut request).await;
    let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{id}", id.len()).as_bytes()).await;
}

/// Who answers on a port of this machine; `None` when nobody does.
pub(crate) async fn who_answers(port: u16) -> Option<String> {
    let host = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let answer = Connection::open(host).await.ok()?.send(&Request::new("GET", "/")).await.ok()?;
    Some(answer.text())
}
