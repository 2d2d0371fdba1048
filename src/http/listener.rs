//! The listener: takes connections within a bound, gives each a time to speak, and lets go of them in good order.
//!
//! axum's own loop sets neither a timer nor a bound: a client that says nothing would hold its place for ever.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, Request, Response};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::App;
use super::actor::Peer;
use super::edge::Edge;
use super::line::Line;
use super::outlet::{Outlet, Watched};
use super::patience::Patience;
use super::tls::Tls;

/// How many connections the system holds for us while we are busy.
const BACKLOG: u32 = 4096;
/// A request's head, all lines together.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// A connection that has made a request may stay for one to two times this without a further one. Longer than the usual client keeps one,
/// so that it is the client who closes: a server that closes first can do so just as a heartbeat is sent.
const IDLE_LOOK_EVERY: Duration = Duration::from_mins(1);
/// HTTP/2: how often an idle connection is asked whether it lives, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2: requests and streams at a time on one connection.
const STREAMS_PER_CONNECTION_MAX: u32 = 256;
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
    edge: Edge,
    app: App,
    tls: Option<TlsAcceptor>,
    builder: Arc<Builder<TokioExecutor>>,
    places: Arc<Semaphore>,
    places_max: u32,
    turning_away: Arc<Semaphore>,
    /// Cancelled when the connections that are left must end at once.
    cut: CancellationToken,
}

impl Serving {
    fn new(app: App, tls: Option<TlsAcceptor>) -> Self {
        let places_max = u32::try_from(app.config.http.connections_max).unwrap_or(u32::MAX).min(Semaphore::MAX_PERMITS as u32);
        Self {
            edge: Edge::new(app.clone()),
            builder: Arc::new(builder()),
            places: Arc::new(Semaphore::new(places_max as usize)),
            places_max,
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
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            let connection = Connection {
                edge: self.edge.clone(),
                app: self.app.clone(),
                builder: Arc::clone(&self.builder),
                cut: self.cut.clone(),
                address,
                place,
            };
            tokio::spawn(connection.run(stream, self.tls.clone()));
        } else {
            self.app.metrics.connections_refused.increment(1);
            // To say so within TLS would take the very handshake that there is no place for.
            if self.tls.is_none()
                && let Ok(place) = Arc::clone(&self.turning_away).try_acquire_owned()
            {
                tokio::spawn(turn_away(stream, self.edge.overloaded(), place));
            }
        }
    }

    /// Waits until every connection has ended; cuts those that do not in time.
    async fn let_go(self) {
        let limit = FINISH_MAX.min(Duration::from_millis(self.app.config.node.leave_timeout_ms) / 4);
        if tokio::time::timeout(limit, self.places.acquire_many(self.places_max)).await.is_err() {
            tracing::warn!("some connections did not end in time and were cut");
            self.cut.cancel();
        }
    }
}

/// One connection, which may carry many requests.
struct Connection {
    edge: Edge,
    app: App,
    builder: Arc<Builder<TokioExecutor>>,
    cut: CancellationToken,
    /// The other end's.
    address: SocketAddr,
    #[expect(dead_code, reason = "its place among the connections; free again when this is dropped")]
    place: OwnedSemaphorePermit,
}

impl Connection {
    /// All that comes before the first request, the handshake included, has one time to come in.
    async fn run(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        let _open = Open::new(&self.app);
        let first = pin!(sleep(Duration::from_millis(self.app.config.http.header_timeout_ms)));
        match tls {
            None => self.serve(stream, first).await,
            Some(tls) => self.greet(stream, tls, first).await,
        }
    }

    async fn greet(&self, stream: TcpStream, tls: TlsAcceptor, mut first: Pin<&mut Sleep>) {
        let greeted = tokio::select! {
            greeted = tls.accept(stream) => greeted,
            () = first.as_mut() => return self.app.metrics.connections_timed_out.increment(1),
            () = self.app.shutdown.begun() => return,
        };
        match greeted {
            Ok(stream) => self.serve(stream, first).await,
            Err(error) => {
                self.app.metrics.handshakes_failed.increment(1);
                tracing::debug!(%error, "a TLS handshake failed");
            }
        }
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&self, stream: S, first: Pin<&mut Sleep>) {
        let patience = Patience::new(self.app.node.clock().instant());
        let outlet = Arc::new(Outlet::default());
        let line = Arc::new(Line::new(Arc::clone(&outlet), self.address));
        let service = service_fn(|mut request: Request<Incoming>| {
            patience.asked();
            // Only who reads is a subscriber.
            if request.method() == Method::GET {
                request.extensions_mut().insert(Arc::clone(&line));
            }
            request.extensions_mut().insert(Peer(self.address.ip()));
            let edge = self.edge.clone();
            async move { Ok::<_, Infallible>(edge.answer(request).await) }
        });
        let builder = self.builder(&patience);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(Watched::new(stream, outlet)), service));
        tokio::select! {
            biased;
            ended = connection.as_mut() => return log_end(ended),
            () = patience.runs_out(first, IDLE_LOOK_EVERY) => {
                self.app.metrics.connections_timed_out.increment(1);
                return;
            }
            () = self.app.shutdown.begun() => connection.as_mut().graceful_shutdown(),
        }
        tokio::select! {
            ended = connection => log_end(ended),
            () = self.cut.cancelled() => {}
        }
    }

    fn builder(&self, patience: &Patience) -> Builder<TokioExecutor> {
        let mut builder = Builder::clone(&self.builder);
        builder.http1().timer(patience.clone());
        builder
    }
}

/// Counts a connection while it is open.
struct Open<'a>(&'a App);

impl<'a> Open<'a> {
    fn new(app: &'a App) -> Self {
        app.metrics.connections.increment(1.0);
        Self(app)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.metrics.connections.decrement(1.0);
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    // The timeout itself is `Patience`'s: that there is one makes hyper tell it when it waits.
    builder.http1().header_read_timeout(IDLE_LOOK_EVERY).max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32);
    builder
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
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(TURN_AWAY_TIMEOUT, told).await;
}

fn to_bytes(answer: &Response<Bytes>) -> Vec<u8> {
    let mut bytes =
        format!("HTTP/1.1 {}\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: {}\r\n", answer.status(), answer.body().len())
            .into_bytes();
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

fn log_end(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(error, "a connection ended");
    }
}
