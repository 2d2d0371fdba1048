//! A connection, from the handshake to its end: which protocol it speaks, how long each head of a request may take, and how long it may
//! stay without a request. One that waits for a request gives its buffers back: what it costs then is its socket and a timer.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::{Method, Request, Response};
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::App;
use super::actor::Peer;
use super::edge::Edge;
use super::line::Line;
use super::outlet::Outlet;
use super::places::Place;
use super::socket::{Readable, Socket};
use super::unread::{self, HEAD_BYTES_MAX};
use super::waits::{UnderWay, Waiting, Waits};

/// With what a client begins that speaks HTTP/2.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a connection has waited for a request, at the least, when it gives its buffers back.
const GIVE_BACK_AFTER: Duration = Duration::from_secs(1);
/// HTTP/2: how often an idle connection is asked whether it lives, and how long it may take to answer.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2: requests and streams at a time on one connection.
const STREAMS_PER_CONNECTION_MAX: u32 = 256;
/// HTTP/2: what of requests' bodies may come before it is read, of one and of all: a body is read as it comes, so this is what whoever never
/// reads one may cost. Wide enough for 8 MiB in 20 s over a line of 300 ms.
const BODY_WINDOW_BYTES: u32 = 128 * 1024;

/// Where a stream is asked for.
const WATCH_PATH: &str = "/v1/watch";
/// What a connection waits for at first, whichever protocol it speaks.
const FIRST_HEAD: Waiting = Waiting::RestOfHead(1);

/// How connections are served. Cheap to clone.
#[derive(Clone)]
pub(super) struct Service(Arc<Parts>);

struct Parts {
    edge: Edge,
    app: App,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    header_timeout: Duration,
    idle_timeout: Duration,
}

/// One connection, which may carry many requests.
pub(super) struct Connection {
    pub(super) service: Service,
    pub(super) tls: Option<TlsAcceptor>,
    /// Cancelled when it must end at once.
    pub(super) cut: CancellationToken,
    /// The other end's.
    pub(super) address: SocketAddr,
    /// Free again when this is dropped.
    pub(super) _place: Place,
}

/// What a protocol's state is, as far as the connection's timers must know.
struct Conversation {
    waits: Waits,
    header_timeout: Duration,
    idle_timeout: Duration,
    /// How long it waits for a request before anything is done about it.
    idle_after: Duration,
    /// What the timer is for; `None`: for nothing, and it is not looked at.
    armed: Option<Waiting>,
    /// How often it has waited so long for what was written to leave.
    unflushed: u32,
}

/// How a conversation came to a stop.
enum Turn<E> {
    /// The connection is over.
    Ended(Result<(), E>),
    /// It waits for a request, and all that was written has left.
    Idle,
    /// The head of a request did not come in time, or what was written does not leave.
    Overdue,
    /// The node stops.
    Stopping,
}

impl Service {
    pub(super) fn new(app: &App) -> Self {
        let config = &app.config.http;
        let mut http1 = http1::Builder::new();
        // The timeout itself is this file's: that there is one makes hyper name its waits.
        http1.header_read_timeout(Duration::from_millis(config.header_timeout_ms)).max_buf_size(HEAD_BYTES_MAX);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .initial_stream_window_size(BODY_WINDOW_BYTES)
            .initial_connection_window_size(BODY_WINDOW_BYTES)
            // Past it the library refuses with a status alone; up to it `unread` says more.
            .max_header_list_size(2 * HEAD_BYTES_MAX as u32);
        Self(Arc::new(Parts {
            edge: Edge::new(app.clone()),
            http1,
            http2,
            header_timeout: Duration::from_millis(config.header_timeout_ms),
            idle_timeout: Duration::from_millis(config.idle_timeout_ms),
            app: app.clone(),
        }))
    }

    /// What is answered where no request is read.
    pub(super) fn edge(&self) -> &Edge {
        &self.0.edge
    }
}

impl Connection {
    /// All that comes before the first request's body, the handshake included, has one time to come in.
    pub(super) async fn run(self, stream: TcpStream) {
        let parts = &*self.service.0;
        let _open = Open::new(&parts.app);
        let first = pin!(sleep(parts.header_timeout));
        match self.tls.clone() {
            None => self.begin(stream, first).await,
            Some(tls) => Box::pin(self.greet(stream, tls, first)).await,
        }
    }

    async fn greet(&self, stream: TcpStream, tls: TlsAcceptor, mut first: Pin<&mut Sleep>) {
        let app = &self.service.0.app;
        let greeted = tokio::select! {
            greeted = tls.accept(stream) => greeted,
            () = first.as_mut() => return self.timed_out(),
            () = app.shutdown.begun() => return,
        };
        match greeted {
            Ok(stream) => self.begin(stream, first).await,
            Err(error) => {
                app.metrics.handshakes_failed.increment(1);
                tracing::debug!(%error, "a TLS handshake failed");
            }
        }
    }

    /// Waits for the first bytes, which tell the protocol.
    async fn begin<S: Readable + AsyncRead + AsyncWrite + Unpin + Send + 'static>(&self, stream: S, mut first: Pin<&mut Sleep>) {
        let parts = &*self.service.0;
        let waits = Waits::new(parts.app.node.clock().instant());
        let outlet = Arc::new(Outlet::default());
        let line = Arc::new(Line::new(Arc::clone(&outlet), self.address));
        let mut socket = Socket::new(stream, waits.clone(), outlet);
        let read = async {
            socket.readable().await.ok()?;
            read_preface(&mut socket).await
        };
        let prefix = tokio::select! {
            read = read => read,
            () = first.as_mut() => return self.timed_out(),
            () = parts.app.shutdown.begun() => return,
        };
        let Some(prefix) = prefix else { return };
        let is_http2 = *prefix == *HTTP2_PREFACE;
        let socket = socket.beginning_with(prefix);
        // Apart from this future, so that a connection that has sent nothing yet does not have its size.
        if is_http2 {
            Box::pin(self.http2(socket.of_http2(), waits, &line, first)).await;
        } else {
            Box::pin(self.http1(socket.of_http1(parts.edge.clone()), waits, &line, first)).await;
        }
    }

    async fn http1<S: Readable + AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        mut socket: Socket<S>,
        waits: Waits,
        line: &Arc<Line>,
        mut timer: Pin<&mut Sleep>,
    ) {
        let parts = &*self.service.0;
        let mut builder = parts.http1.clone();
        builder.timer(waits.clone());
        let mut service = service_fn(|request| self.answer(request, line, None));
        let mut conversation = Conversation::new(waits, parts.header_timeout, parts.idle_timeout, GIVE_BACK_AFTER.min(parts.idle_timeout));
        loop {
            let mut connection = Box::pin(builder.serve_connection(TokioIo::new(socket), service));
            match conversation.next(connection.as_mut(), timer.as_mut(), &parts.app).await {
                Turn::Ended(ended) => {
                    let is_unread = ended.as_ref().is_err_and(hyper::Error::is_parse);
                    log_end(ended);
                    if is_unread {
                        unread::linger(&mut Pin::into_inner(connection).into_parts().io.into_inner()).await;
                    }
                    return;
                }
                Turn::Overdue => return self.timed_out(),
                Turn::Stopping => {
                    connection.as_mut().graceful_shutdown();
                    return self.finish(connection).await;
                }
                Turn::Idle => {}
            }
            {
                // What is left of the connection is to be freed before the wait, not after it.
                let rest = Pin::into_inner(connection).into_parts();
                service = rest.service;
                let unread = if rest.read_buf.is_empty() { Bytes::new() } else { rest.read_buf };
                socket = rest.io.into_inner().beginning_with(unread);
            }
            tokio::select! {
                readable = socket.readable() => if readable.is_err() { return },
                () = sleep(parts.idle_timeout.saturating_sub(GIVE_BACK_AFTER)) => return self.timed_out(),
                () = parts.app.shutdown.begun() => return,
            }
        }
    }

    async fn http2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        socket: Socket<S>,
        waits: Waits,
        line: &Arc<Line>,
        timer: Pin<&mut Sleep>,
    ) {
        let parts = &*self.service.0;
        let service = service_fn(|request| self.answer(request, line, Some(waits.begin_request())));
        let mut connection = Box::pin(parts.http2.serve_connection(TokioIo::new(socket), service));
        let mut conversation = Conversation::new(waits.clone(), parts.header_timeout, parts.idle_timeout, parts.idle_timeout);
        match conversation.next(connection.as_mut(), timer, &parts.app).await {
            Turn::Ended(ended) => return log_end(ended),
            Turn::Overdue => return self.timed_out(),
            Turn::Idle => self.timed_out(),
            Turn::Stopping => {}
        }
        connection.as_mut().graceful_shutdown();
        self.finish(connection).await;
    }

    fn answer(
        &self,
        mut request: Request<Incoming>,
        line: &Arc<Line>,
        under_way: Option<UnderWay>,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + use<> {
        // Only who reads is a subscriber, and who follows more than an address can name.
        if request.method() == Method::GET || request.uri().path() == WATCH_PATH {
            request.extensions_mut().insert(Arc::clone(line));
        }
        request.extensions_mut().insert(Peer(self.address.ip()));
        let edge = self.service.0.edge.clone();
        async move {
            let too_large = under_way.is_some().then(|| unread::too_large(&request)).flatten();
            let response = match too_large {
                Some(problem) => edge.refuse(problem).map(Body::from),
                None => edge.answer(request).await,
            };
            Ok(match under_way {
                Some(under_way) => response.map(|body| Body::new(Counted { body, _under_way: under_way })),
                None => response,
            })
        }
    }

    /// Waits for the end of what is under way, as long as it may take.
    async fn finish<E: Into<Box<dyn std::error::Error + Send + Sync>>>(&self, connection: impl Future<Output = Result<(), E>>) {
        tokio::select! {
            ended = connection => log_end(ended),
            () = self.cut.cancelled() => {}
        }
    }

    fn timed_out(&self) {
        self.service.0.app.metrics.connections_timed_out.increment(1);
    }
}

impl Conversation {
    fn new(waits: Waits, header_timeout: Duration, idle_timeout: Duration, idle_after: Duration) -> Self {
        // The time for the first head began with the connection.
        Self { waits, header_timeout, idle_timeout, idle_after, armed: Some(FIRST_HEAD), unflushed: 0 }
    }

    /// Lets the connection go on until there is something to be done about it.
    async fn next<C, E>(&mut self, mut connection: Pin<&mut C>, mut timer: Pin<&mut Sleep>, app: &App) -> Turn<E>
    where
        C: Future<Output = Result<(), E>>,
    {
        let mut stopping = pin!(app.shutdown.begun());
        std::future::poll_fn(|context| {
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(Turn::Ended(ended));
            }
            if stopping.as_mut().poll(context).is_ready() {
                return Poll::Ready(Turn::Stopping);
            }
            self.look(timer.as_mut(), context)
        })
        .await
    }

    /// Arms the timer for what is waited for now, and looks at it.
    fn look<E>(&mut self, mut timer: Pin<&mut Sleep>, context: &mut Context<'_>) -> Poll<Turn<E>> {
        loop {
            let waiting = self.waits.waiting();
            match (waiting, self.armed) {
                (Waiting::Answer, _) => self.armed = None,
                // What was armed for an earlier wait fires too early, and is armed again then: most waits are short. Over HTTP/2 the first head
                // may be late before any of it has come.
                (Waiting::Request(_), Some(Waiting::Request(_))) | (Waiting::Request(0), Some(FIRST_HEAD)) => {}
                (_, armed) if armed == Some(waiting) => {}
                (Waiting::Request(_), _) => self.arm(waiting, self.idle_after, timer.as_mut()),
                (Waiting::RestOfHead(_), _) => self.arm(waiting, self.header_timeout, timer.as_mut()),
            }
            if self.armed.is_none() || timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            match self.armed.take() {
                Some(Waiting::RestOfHead(_)) => return Poll::Ready(Turn::Overdue),
                Some(armed) if armed != waiting => self.unflushed = 0,
                _ if !self.waits.is_unflushed() => return Poll::Ready(Turn::Idle),
                _ => {
                    self.unflushed += 1;
                    if self.idle_after * self.unflushed >= self.idle_timeout {
                        return Poll::Ready(Turn::Overdue);
                    }
                }
            }
        }
    }

    fn arm(&mut self, waiting: Waiting, time: Duration, mut timer: Pin<&mut Sleep>) {
        timer.set(sleep(time));
        self.armed = Some(waiting);
    }
}

/// A response's body, until whose end its request is under way.
struct Counted {
    body: Body,
    _under_way: UnderWay,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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

/// Reads as far as it may be HTTP/2's preface; `None`: the connection ended before.
async fn read_preface(socket: &mut (impl AsyncRead + Unpin)) -> Option<Bytes> {
    let mut preface = [0; HTTP2_PREFACE.len()];
    let mut length = 0;
    while length < preface.len() && HTTP2_PREFACE.starts_with(&preface[..length]) {
        match socket.read(&mut preface[length..]).await {
            Ok(read) if read > 0 => length += read,
            Ok(_) | Err(_) => return None,
        }
    }
    Some(Bytes::copy_from_slice(&preface[..length]))
}

fn log_end<E: Into<Box<dyn std::error::Error + Send + Sync>>>(ended: Result<(), E>) {
    if let Err(error) = ended {
        tracing::debug!(error = error.into(), "a connection ended");
    }
}
