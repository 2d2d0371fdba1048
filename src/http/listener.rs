//! The listener: takes connections within a bound, and lets go of them in good order.
//!
//! axum's own loop sets neither a timer nor a bound: a client that says nothing would hold its place for ever.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Response;
use bytes::Bytes;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::App;
use super::connection::{Connection, Service};
use super::places::Places;
use super::tls::Tls;
use super::unread::linger;

/// How many connections the system holds for us while we are busy.
const BACKLOG: u32 = 4096;
/// How long what was sent may stay unacknowledged before the connection counts as dead.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);
/// A connection on which nothing comes is asked by the system whether it lives: after so long, so often, and so many times in vain.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_MAX: u32 = 3;
/// How long what is under way may go on once the node stops: streams and held polls end by themselves at once, so what is left are clients
/// that send or read slowly. A quarter of `node.leave_timeout` where that is less: half of it may be spent on handing over before.
const FINISH_MAX: Duration = Duration::from_secs(5);
/// After the system could not give a connection (no file handles left): time for some to be closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How many connections are told at a time that there are too many; further ones are just closed.
const TURNED_AWAY_MAX: usize = 256;
/// How long such a one may take to hear it.
const TURN_AWAY_TIMEOUT: Duration = Duration::from_secs(1);

/// Has its address, and takes no connection yet.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
}

impl Bound {
    /// Takes the address; port 0 takes a free one.
    ///
    /// # Errors
    /// The system's, when the address cannot be had.
    pub fn bind(listen: SocketAddr) -> io::Result<Self> {
        let socket = if listen.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(listen)?;
        let listener = socket.listen(BACKLOG)?;
        Ok(Self { address: listener.local_addr()?, listener, tls: None })
    }

    /// Where it is reached.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Speaks TLS, and nothing else, where there is one.
    #[must_use]
    pub fn secured(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// Takes connections until the app's shutdown begins; the shutdown waits for those that are open, within `FINISH_MAX`.
    pub fn serve(self, app: App) {
        let shutdown = app.shutdown.clone();
        let tls = self.tls.map(|tls| tls.start(&shutdown));
        shutdown.spawn("http", Serving::new(app, tls).run(self.listener));
    }
}

/// Takes connections.
struct Serving {
    service: Service,
    app: App,
    tls: Option<TlsAcceptor>,
    places: Places,
    turning_away: Arc<Semaphore>,
    /// Cancelled when the connections that are left must end at once.
    cut: CancellationToken,
}

impl Serving {
    fn new(app: App, tls: Option<TlsAcceptor>) -> Self {
        Self {
            service: Service::new(&app),
            places: Places::new(&app.config.http),
            turning_away: Arc::new(Semaphore::new(TURNED_AWAY_MAX)),
            cut: CancellationToken::new(),
            tls,
            app,
        }
    }

    async fn run(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.app.shutdown.begun() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => self.take(stream, address),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "no connection could be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        self.let_go().await;
    }

    fn take(&self, stream: TcpStream, address: SocketAddr) {
        prepare(&stream);
        let full = match self.places.take(address.ip()) {
            Ok(place) => {
                let connection =
                    Connection { service: self.service.clone(), tls: self.tls.clone(), cut: self.cut.clone(), address, _place: place };
                tokio::spawn(connection.run(stream));
                return;
            }
            Err(full) => full,
        };
        self.app.metrics.connections_refused.increment(1);
        // To say so within TLS would take the very handshake that there is no place for.
        if self.tls.is_none()
            && let Ok(place) = Arc::clone(&self.turning_away).try_acquire_owned()
        {
            tokio::spawn(turn_away(stream, self.service.edge().overloaded(full), place));
        }
    }

    /// Waits until every connection has ended; cuts those that do not in time.
    async fn let_go(self) {
        let limit = FINISH_MAX.min(Duration::from_millis(self.app.config.node.leave_timeout_ms) / 4);
        if tokio::time::timeout(limit, self.places.all_free()).await.is_err() {
            tracing::warn!("some connections did not end in time and were cut");
            self.cut.cancel();
        }
    }
}

/// What one connection needs of its socket. That it cannot have it is no reason to refuse it.
fn prepare(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let _ = socket.set_tcp_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY).with_retries(KEEPALIVE_MAX);
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX));
}

/// Says that there are too many, and waits a moment for the client to hear it: closing at once would take the answer back.
async fn turn_away(mut stream: TcpStream, answer: Response<Bytes>, _place: OwnedSemaphorePermit) {
    let told = async {
        stream.write_all(&to_bytes(&answer)).await?;
        stream.shutdown().await?;
        linger(&mut stream).await;
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(TURN_AWAY_TIMEOUT, told).await;
}

/// An answer as HTTP/1.1 sends it, after which the connection closes.
pub(super) fn to_bytes(answer: &Response<Bytes>) -> Vec<u8> {
    let mut bytes =
        format!("HTTP/1.1 {}\r\nconnection: close\r\ncontent-length: {}\r\n", answer.status(), answer.body().len()).into_bytes();
    for (name, value) in answer.headers() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(answer.body());
    bytes
}

/// The connection broke before we had it; the next one may be fine.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused)
}
