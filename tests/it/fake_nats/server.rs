//! A NATS server that does on demand what a real one does only on its worst day. It knows no more of the protocol than nodes need.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// What may wait for one client, in messages.
const WAITING_MAX: usize = 4096;
/// How often a frozen server looks whether it still is.
const FROZEN_LOOK: Duration = Duration::from_millis(10);

/// How the server behaves; may be changed at any time.
#[derive(Debug, Clone)]
pub(crate) struct Habits {
    /// As every new client is told.
    pub(crate) max_payload: usize,
    /// Messages on subjects with this in them are taken, and lost.
    pub(crate) loses: Option<String>,
    /// For a subscription to take effect.
    pub(crate) subscribing: Duration,
    /// Nobody's credentials are good.
    pub(crate) refuses: bool,
    /// Nothing is read and nothing said; connections stay open.
    pub(crate) frozen: bool,
}

/// A running server; ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct FakeNats {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    habits: Habits,
    clients: Vec<Client>,
    connected: usize,
    /// The last CONNECT.
    presented: String,
}

struct Client {
    id: usize,
    to: mpsc::Sender<Vec<u8>>,
    /// Filters with their sids.
    subscriptions: Vec<(String, String)>,
}

impl FakeNats {
    pub(crate) async fn start() -> Self {
        let habits = Habits { max_payload: 1 << 20, loses: None, subscribing: Duration::ZERO, refuses: false, frozen: false };
        let shared = Shared { habits, clients: Vec::new(), connected: 0, presented: String::new() };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let fake = Self { address: listener.local_addr().expect("a bound listener"), shared: Arc::new(Mutex::new(shared)) };
        let accepting = fake.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(accepting.clone().serve(stream));
            }
        });
        fake
    }

    /// As `--nats` takes it, with this before the address.
    pub(crate) fn url(&self, user: &str) -> String {
        format!("nats://{user}{}", self.address)
    }

    /// Behaves otherwise from now on.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Habits)) {
        change(&mut self.shared().habits);
    }

    /// Connections made so far, the closed ones too.
    pub(crate) fn connected(&self) -> usize {
        self.shared().connected
    }

    /// What the last client to connect presented.
    pub(crate) fn presented(&self) -> String {
        self.shared().presented.clone()
    }

    /// Tells every client that this server is about to stop.
    pub(crate) fn announce_its_end(&self) {
        let info = self.info(true);
        for client in &self.shared().clients {
            let _ = client.to.try_send(info.clone());
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("nobody panics with it")
    }

    fn info(&self, ends: bool) -> Vec<u8> {
        let max_payload = self.shared().habits.max_payload;
        let info = json!({"server_id": "FAKE", "server_name": "fake", "version": "2.15.1", "go": "", "host": "127.0.0.1",
            "port": self.address.port(), "headers": true, "max_payload": max_payload, "proto": 1, "ldm": ends});
        format!("INFO {info}\r\n").into_bytes()
    }

    async fn thawed(&self) {
        while self.shared().habits.frozen {
            tokio::time::sleep(FROZEN_LOOK).await;
        }
    }

    async fn serve(self, stream: TcpStream) {
        self.thawed().await;
        let (read, mut write) = stream.into_split();
        if write.write_all(&self.info(false)).await.is_err() {
            return;
        }
        let (to, waiting) = mpsc::channel(WAITING_MAX);
        let id = {
            let mut shared = self.shared();
            shared.connected += 1;
            let id = shared.connected;
            shared.clients.push(Client { id, to: to.clone(), subscriptions: Vec::new() });
            id
        };
        tokio::spawn(self.clone().write(write, waiting));
        let _ = self.read(id, BufReader::new(read), &to).await;
        self.shared().clients.retain(|client| client.id != id);
    }

    /// Says what waits; ends, and with it the connection, when nobody can say anything more.
    async fn write(self, mut write: OwnedWriteHalf, mut waiting: mpsc::Receiver<Vec<u8>>) {
        while let Some(bytes) = waiting.recv().await {
            self.thawed().await;
            let is_last = bytes.starts_with(b"-ERR");
            if write.write_all(&bytes).await.is_err() || is_last {
                return;
            }
        }
    }

    async fn read(&self, id: usize, mut read: BufReader<OwnedReadHalf>, to: &mpsc::Sender<Vec<u8>>) -> std::io::Result<()> {
        let mut line = String::new();
        while read.read_line(&mut line).await? > 0 {
            self.thawed().await;
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["CONNECT", ..] => {
                    line.clone_into(&mut self.shared().presented);
                    if self.shared().habits.refuses {
                        let _ = to.send(b"-ERR 'Authorization Violation'\r\n".to_vec()).await;
                        return Ok(());
                    }
                }
                ["PING"] => {
                    let _ = to.send(b"PONG\r\n".to_vec()).await;
                }
                ["SUB", filter, sid] => self.subscribe(id, filter, sid),
                ["PUB", subject, length] => {
                    let mut payload = vec![0; length.parse::<usize>().expect("a length") + 2];
                    read.read_exact(&mut payload).await?;
                    self.publish(subject, &payload);
                }
                _ => {}
            }
            line.clear();
        }
        Ok(())
    }

    fn subscribe(&self, id: usize, filter: &str, sid: &str) {
        let (fake, subscription) = (self.clone(), (filter.to_owned(), sid.to_owned()));
        let after = self.shared().habits.subscribing;
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            if let Some(client) = fake.shared().clients.iter_mut().find(|client| client.id == id) {
                client.subscriptions.push(subscription);
            }
        });
    }

    /// Gives `payload`, with the line's end behind it, to whoever listens.
    fn publish(&self, subject: &str, payload: &[u8]) {
        let shared = self.shared();
        if shared.habits.loses.as_ref().is_some_and(|part| subject.contains(part)) {
            return;
        }
        for client in &shared.clients {
            for (_, sid) in client.subscriptions.iter().filter(|(filter, _)| takes(filter, subject)) {
                let head = format!("MSG {subject} {sid} {}\r\n", payload.len() - 2);
                let _ = client.to.try_send([head.as_bytes(), payload].concat());
            }
        }
    }
}

/// `*` stands for any one token.
fn takes(filter: &str, subject: &str) -> bool {
    let (filter, subject) = (filter.split('.'), subject.split('.'));
    filter.clone().count() == subject.clone().count() && filter.zip(subject).all(|(wanted, token)| wanted == "*" || wanted == token)
}
