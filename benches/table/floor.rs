//! The floor: a bare axum server that parses nothing, keeps nothing, and sends the same bytes as muster to the same requests.
//!
//! Connections are served as `axum::serve` does it: hyper-util's automatic builder on tokio, without a timer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

use crate::requests::{ID_DIGITS, Kind, SERVICE_DIGITS};
use crate::samples::Samples;

/// Services that can be followed.
const WATCHED: usize = 100;
/// Events a subscriber may be behind.
const BEHIND_MAX: usize = 1024;
/// Before a service's name in a path.
const SERVICES: &str = "/v1/services/";

/// What the routes share.
struct Shared {
    registered: Bytes,
    renewed: Bytes,
    ten: Bytes,
    hundred: Bytes,
    delta: Bytes,
    number_in_delta: std::ops::Range<usize>,
    watched: Vec<broadcast::Sender<Bytes>>,
}

/// Serves until the process is killed.
pub(crate) async fn serve(listen: SocketAddr, samples: &Path) {
    let router = router(Shared::new(Samples::read(samples)));
    let listener = TcpListener::bind(listen).await.expect("the address it was told");
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        tokio::spawn(answer(stream, router.clone()));
    }
}

async fn answer(stream: TcpStream, router: Router) {
    let _ = stream.set_nodelay(true);
    // A connection that breaks is the generator's to complain about.
    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/readyz", get(async || StatusCode::OK))
        .route("/v1/watch", get(watch))
        .route("/v1/services/{service}/instances", get(list))
        .route("/v1/services/{service}/instances/{id}", axum::routing::put(register))
        .route("/v1/services/{service}/instances/{id}/heartbeat", post(renew))
        .with_state(Arc::new(shared))
}

impl Shared {
    fn new(samples: Samples) -> Self {
        Self {
            number_in_delta: samples.number_in_delta(),
            registered: samples.registered.into(),
            renewed: samples.renewed.into(),
            ten: samples.ten.into(),
            hundred: samples.hundred.into(),
            delta: samples.delta.into(),
            watched: (0..WATCHED).map(|_| broadcast::Sender::new(BEHIND_MAX)).collect(),
        }
    }

    /// Tells the subscribers of the service, if it is a followed one.
    fn tell(&self, path: &str) {
        let (service, id) = (&path[SERVICES.len()..], &path[path.len() - ID_DIGITS..]);
        if let Some(sender) = self.watched_service(service) {
            let mut event = self.delta.to_vec();
            event[self.number_in_delta.clone()].copy_from_slice(id.as_bytes());
            let _ = sender.send(event.into());
        }
    }

    /// Services have their kind in the first letter and their number in the digits behind it.
    fn watched_service(&self, name: &str) -> Option<&broadcast::Sender<Bytes>> {
        let is_watched = name.as_bytes().first() == Some(&Kind::Watched.letter());
        let number = is_watched.then(|| name.get(1..=SERVICE_DIGITS)?.parse::<usize>().ok()).flatten()?;
        self.watched.get(number)
    }
}

async fn register(State(shared): State<Arc<Shared>>, uri: Uri, _body: Bytes) -> Response {
    shared.tell(uri.path());
    json(StatusCode::CREATED, &shared.registered)
}

async fn renew(State(shared): State<Arc<Shared>>, _body: Bytes) -> Response {
    json(StatusCode::OK, &shared.renewed)
}

async fn list(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap) -> Response {
    if let Some(etag) = headers.get(header::IF_NONE_MATCH) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, etag.clone())]).into_response();
    }
    let is_hundred = uri.path().as_bytes()[SERVICES.len()] == Kind::Hundred.letter();
    json(StatusCode::OK, if is_hundred { &shared.hundred } else { &shared.ten })
}

/// The events of one service, first that it is all there.
async fn watch(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    let service = uri.query().and_then(|query| query.strip_prefix("service=")).unwrap_or_default();
    let Some(sender) = shared.watched_service(service) else { return StatusCode::NOT_FOUND.into_response() };
    let told = stream::unfold(sender.subscribe(), async |mut receiver| receiver.recv().await.ok().map(|event| (event, receiver)));
    let events = stream::iter([Bytes::from_static(b"event: synced\ndata: {\"services\":1}\n\n")]).chain(told);
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(events.map(Ok::<_, Infallible>))).into_response()
}

fn json(status: StatusCode, body: &Bytes) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.clone()).into_response()
}
