//! The edge: what every request passes, whatever its route. It names the request and the node, keeps foreign pages from writing,
//! turns refusals into problem+json, survives defects behind it, and counts.
//!
//! One function instead of a stack of middleware: each layer would box a future and clone a service for every request.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::FutureExt;
use tower::Service;

use super::actor::Peer;
use super::origin::{Origins, Verdict};
use super::places::Full;
use super::problem::{Code, Problem, shown};
use super::request_id::{REQUEST_ID, RequestIds};
use super::templates::Templates;
use super::{App, routes};
use crate::api::problem::MEDIA_TYPE;
use crate::metrics::{Metrics, RequestCounters};

static MUSTER_NODE: HeaderName = HeaderName::from_static("muster-node");

/// Answers requests. Cheap to clone.
#[derive(Clone)]
pub struct Edge(Arc<Inner>);

struct Inner {
    app: App,
    router: Router,
    routes: Templates,
    origins: Origins,
    request_ids: RequestIds,
    node: HeaderValue,
    metrics: Arc<Metrics>,
    counters: papaya::HashMap<(usize, &'static str, u16), RequestCounters, foldhash::fast::RandomState>,
}

/// What the edge keeps of a request while the routes have it.
struct Passing {
    method: Method,
    route: usize,
    id: HeaderValue,
    origin: Option<HeaderValue>,
    hint: Option<&'static str>,
    since: Instant,
}

impl Edge {
    /// The edge of this door.
    #[must_use]
    pub fn new(app: App) -> Self {
        let (router, openapi) = routes().split_for_parts();
        Self(Arc::new(Inner {
            routes: Templates::new(openapi.paths.paths.keys().map(String::as_str)),
            origins: Origins::new(&app.config.http),
            request_ids: RequestIds::new(app.node.clock()),
            node: HeaderValue::from_str(app.node.name().as_str()).expect("unreachable: a node's name is ASCII without control characters"),
            metrics: Arc::clone(&app.metrics),
            counters: papaya::HashMap::default(),
            router: router.with_state(app.clone()),
            app,
        }))
    }

    /// Answers one request.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static,
    {
        let passing = self.0.passing(&request);
        if let Some(problem) = ambiguous_host(&request) {
            return self.0.finish(problem.into_response(), passing);
        }
        let response = match self.0.origins.judge(&request) {
            Verdict::Pass => self.0.route(request, &passing).await,
            Verdict::Preflight => StatusCode::NO_CONTENT.into_response(),
            Verdict::Foreign => foreign().into_response(),
        };
        self.0.finish(response, passing)
    }

    /// An answer without a request: to a connection that is not taken.
    #[must_use]
    pub(super) fn overloaded(&self, full: Full) -> Response<Bytes> {
        let (detail, key) = match full {
            Full::All => ("Too many connections are open (`http.connections_max`).", "http.connections_max"),
            Full::Address => {
                ("Too many connections are open from this address (`http.connections_per_address`).", "http.connections_per_address")
            }
        };
        self.refuse(Problem::new(Code::Overloaded, detail).with_key(key))
    }

    /// An answer without a request that could be read.
    #[must_use]
    pub(super) fn refuse(&self, problem: Problem) -> Response<Bytes> {
        let (id, empty) = (self.0.request_ids.make(), problem.clone().into_response());
        let mut response = empty.map(|_| to_json(problem, &id));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        self.0.sign(&mut response, id);
        response
    }
}

impl Inner {
    fn passing<B>(&self, request: &Request<B>) -> Passing {
        let path = request.uri().path();
        Passing {
            method: request.method().clone(),
            route: self.routes.find(path),
            id: self.request_ids.take_or_make(request.headers()),
            origin: request.headers().get(header::ORIGIN).cloned(),
            hint: (path.len() > 1 && path.ends_with('/')).then_some(" A path has no slash at its end."),
            since: self.app.node.clock().instant(),
        }
    }

    /// A defect in a handler costs its request, not the connection's other ones.
    async fn route<B>(&self, request: Request<B>, passing: &Passing) -> Response<Body>
    where
        B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static,
    {
        match AssertUnwindSafe(self.router.clone().call(request)).catch_unwind().await {
            Ok(Ok(response)) => response,
            Err(_) => {
                self.metrics.panics.increment(1);
                tracing::error!(request = ?passing.id, route = self.routes.name(passing.route).as_ref(), "a defect met while answering");
                Problem::new(Code::Internal, "The node met a defect; its log says more under this request's id.").into_response()
            }
        }
    }

    fn finish(&self, mut response: Response<Body>, passing: Passing) -> Response<Body> {
        if let Some(problem) = problem_of(&mut response, &passing) {
            let body = to_json(problem, &passing.id);
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
            *response.body_mut() = if passing.method == Method::HEAD { Body::empty() } else { Body::from(body) };
        }
        if let Some(origin) = &passing.origin {
            self.origins.sign(origin, &mut response);
        }
        self.count(&passing, response.status());
        self.sign(&mut response, passing.id);
        response
    }

    fn sign<B>(&self, response: &mut Response<B>, id: HeaderValue) {
        let headers = response.headers_mut();
        headers.insert(MUSTER_NODE.clone(), self.node.clone());
        headers.insert(REQUEST_ID.clone(), id);
    }

    fn count(&self, passing: &Passing, status: StatusCode) {
        let took = passing.since.elapsed();
        let method = method_label(&passing.method);
        let make = || self.metrics.requests(self.routes.name(passing.route), method, status.as_u16());
        let counters = self.counters.pin();
        let counters = counters.get_or_insert_with((passing.route, method, status.as_u16()), make);
        counters.answered.increment(1);
        counters.seconds.record_ns(took.as_nanos() as u64);
        tracing::debug!(request = ?passing.id, %method, route = self.routes.name(passing.route).as_ref(), status = status.as_u16(), ?took, "answered");
    }
}

/// Which host is meant must be clear, to whatever stands between as well (RFC 9112, section 3.2). Requests over no connection need none.
fn ambiguous_host<B>(request: &Request<B>) -> Option<Problem> {
    request.extensions().get::<Peer>()?;
    let detail = match request.headers().get_all(header::HOST).iter().count() {
        0 if request.version() == Version::HTTP_11 => "A request over HTTP/1.1 needs a `Host`; nothing was changed.",
        0 | 1 => return None,
        _ => "A request has one `Host` and no more; nothing was changed.",
    };
    Some(Problem::new(Code::InvalidRequest, detail))
}

/// The refusal that a response carries; one of the framework's own, which are empty, gets its code from its status.
fn problem_of(response: &mut Response<Body>, passing: &Passing) -> Option<Problem> {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return None;
    }
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        return Some(problem);
    }
    let hint = passing.hint.unwrap_or_default();
    Some(match status {
        StatusCode::NOT_FOUND => Problem::new(Code::UnknownRoute, format!("There is no such path; /v1/openapi.json has all.{hint}")),
        StatusCode::METHOD_NOT_ALLOWED => {
            let method = shown(passing.method.as_str()).into_owned();
            Problem::new(Code::MethodNotAllowed, format!("This path does not take {method}; `Allow` says what it takes."))
        }
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(Code::BodyTooLarge, "The body is larger than is taken."),
        other if other.is_client_error() => Problem::new(Code::InvalidRequest, "The request could not be read; nothing was changed."),
        _ => Problem::new(Code::Internal, "The node met a defect."),
    })
}

fn to_json(problem: Problem, id: &HeaderValue) -> Bytes {
    let body = problem.into_body(id.to_str().unwrap_or_default());
    serde_json::to_vec(&body).map(Bytes::from).expect("unreachable: strings and numbers are JSON")
}

fn foreign() -> Problem {
    let detail = "A page of another origin may not write here; nothing was changed. List its origin in `http.cors_origins` to let it, \
                  or this node's public name in `http.advertise`.";
    Problem::new(Code::ForeignOrigin, detail)
}

/// A method as a label: whatever a client makes up is `other`.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "PUT" => "PUT",
        "POST" => "POST",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        "PATCH" => "PATCH",
        _ => "other",
    }
}
