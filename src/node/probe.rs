//! Probes, done: one connection each, of which all of it has one time limit. Redirects are not followed, and of an answer's body at most
//! 4 KiB are read.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, TE, USER_AGENT};
use hyper::rt::Executor;
use hyper::{Method, Request, Response, Version};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::dialer::{Dialer, Guard, NotDialled};
use crate::clock::Clock;
use crate::registry::{Probe, ProbeKind, ProbeOutcome};

/// Of an answer's body at most so much is read.
const BODY_BYTES_MAX: usize = 4096;
/// The head of an answer may take so much.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// grpc.health.v1, field 1 of the response: SERVING.
const SERVING: &[u8] = &[0x08, 0x01];
/// A message of no bytes, not compressed: it asks for the server as a whole.
const EMPTY_MESSAGE: &[u8] = &[0; 5];

/// How probes are done.
#[derive(Debug, Clone)]
pub struct Probing {
    /// Where they may go, and where peers are asked.
    pub guard: Guard,
    /// So many a second to one IP address.
    pub per_target: u32,
}

impl Default for Probing {
    fn default() -> Self {
        Self { guard: Guard::default(), per_target: 100 }
    }
}

/// Does probes.
#[derive(Clone)]
pub(super) struct Prober {
    dialer: Dialer,
    clock: Clock,
}

impl Prober {
    pub(super) fn new(probing: Probing, clock: Clock) -> Self {
        let Probing { guard, per_target } = probing;
        Self { dialer: Dialer::new(guard, per_target, clock), clock }
    }

    /// Looks at one instance.
    pub(super) async fn look(&self, probe: &Probe) -> ProbeOutcome {
        let began = self.clock.instant();
        let limit = Duration::from_millis(probe.timeout_ms);
        let seen = tokio::time::timeout(limit, self.ask(probe)).await;
        let took_ms = u32::try_from(began.elapsed().as_millis()).unwrap_or(u32::MAX);
        match seen {
            Ok(Ok(code)) => ProbeOutcome::Passed { code, took_ms },
            Ok(Err(outcome)) => outcome,
            Err(_) => ProbeOutcome::failed(&format!("no answer in {} ms", probe.timeout_ms)),
        }
    }

    async fn ask(&self, probe: &Probe) -> Result<Option<u16>, ProbeOutcome> {
        let dialled = self.dialer.dial(&probe.address.canonical(), probe.port.get()).await;
        let stream = dialled.map_err(|why| match why {
            NotDialled::Forbidden(why) => ProbeOutcome::Forbidden { why: why.into() },
            NotDialled::TooOften => ProbeOutcome::NotTried,
            NotDialled::Refused => ProbeOutcome::Refused,
            NotDialled::Unreachable(why) => ProbeOutcome::failed(&why),
        })?;
        let host = to_authority(probe);
        match &probe.kind {
            ProbeKind::Tcp => Ok(None),
            ProbeKind::Http(path) => ask_http(stream, &host, path).await.map(Some),
            ProbeKind::Grpc => ask_grpc(stream, &host).await.map(|()| None),
        }
    }
}

fn to_authority(probe: &Probe) -> String {
    let (host, port) = (probe.address.canonical(), probe.port.get());
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// What went wrong on an open connection, in a few words.
fn broken(error: &(dyn std::error::Error + 'static)) -> ProbeOutcome {
    let innermost = std::iter::successors(Some(error), |error| error.source()).last().unwrap_or(error);
    let kind = innermost.downcast_ref::<io::Error>().map(|error| error.kind().to_string());
    ProbeOutcome::failed(&kind.unwrap_or_else(|| innermost.to_string()))
}

/// `GET`, over a connection of its own.
async fn ask_http(stream: TcpStream, host: &str, path: &str) -> Result<u16, ProbeOutcome> {
    let request = Request::builder()
        .uri(path)
        .header(HOST, host)
        .header(USER_AGENT, "muster")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| broken(&error))?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    // It goes with this future: nothing outlives the time limit.
    let mut driven = JoinSet::new();
    driven.spawn(connection);
    let mut answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
    read_some(answer.body_mut()).await?;
    let code = answer.status();
    if code.is_success() {
        return Ok(code.as_u16());
    }
    Err(ProbeOutcome::Failed { why: format!("HTTP {}", code.as_u16()).into(), code: Some(code.as_u16()) })
}

/// Reads a body until it ends, or for as long as is read; gives what came, and the trailers where they came.
async fn read_some(body: &mut Incoming) -> Result<(Vec<u8>, Option<HeaderMap>), ProbeOutcome> {
    let mut read = Vec::new();
    while read.len() < BODY_BYTES_MAX && !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        match frame.map_err(|error| broken(&error))?.into_data() {
            Ok(data) => read.extend_from_slice(&data[..data.len().min(BODY_BYTES_MAX - read.len())]),
            Err(frame) => return Ok((read, frame.into_trailers().ok())),
        }
    }
    Ok((read, None))
}

/// The tasks of one connection: they end where this is dropped.
#[derive(Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

/// Begins tasks for a connection. It does not keep them: the tasks hold it, and would keep each other.
#[derive(Clone)]
struct Begins(Weak<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Begins {
    fn execute(&self, task: F) {
        if let Some(tasks) = self.0.upgrade() {
            tasks.lock().spawn(task);
        }
    }
}

impl Tasks {
    fn begins(&self) -> Begins {
        Begins(Arc::downgrade(&self.0))
    }
}

/// grpc.health.v1.Health/Check: one unary call over HTTP/2, without TLS.
async fn ask_grpc(stream: TcpStream, host: &str) -> Result<(), ProbeOutcome> {
    let request = Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(format!("http://{host}/grpc.health.v1.Health/Check"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, "muster")
        .body(Full::new(Bytes::from_static(EMPTY_MESSAGE)))
        .map_err(|error| broken(&error))?;
    // They go with this future: what owns the socket too is a task that is begun underway.
    let tasks = Tasks::default();
    let mut builder = http2::Builder::new(tasks.begins());
    builder.max_header_list_size(HEAD_BYTES_MAX as u32);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    tasks.begins().execute(async {
        let _ = connection.await;
    });
    let mut answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
    let (body, trailers) = read_some(answer.body_mut()).await?;
    judge_grpc(&answer, &body, trailers.as_ref())
}

fn judge_grpc(answer: &Response<Incoming>, body: &[u8], trailers: Option<&HeaderMap>) -> Result<(), ProbeOutcome> {
    if !answer.status().is_success() {
        let code = answer.status().as_u16();
        return Err(ProbeOutcome::Failed { why: format!("HTTP {code}").into(), code: Some(code) });
    }
    let status = trailers.into_iter().chain([answer.headers()]).find_map(|headers| headers.get("grpc-status"));
    match status.map(HeaderValue::as_bytes) {
        Some(b"0") | None => {}
        Some(b"12") => return Err(ProbeOutcome::failed("the server has no grpc.health.v1")),
        Some(status) => return Err(ProbeOutcome::failed(&format!("gRPC status {}", String::from_utf8_lossy(status)))),
    }
    let message = body.get(EMPTY_MESSAGE.len()..).unwrap_or_default();
    // Fields that are not known may follow.
    if message.starts_with(SERVING) { Ok(()) } else { Err(ProbeOutcome::failed("gRPC: not SERVING")) }
}

#[cfg(test)]
mod tests;
