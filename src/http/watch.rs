//! Watching: `GET /v1/watch`, one stream of events about as many services as a consumer needs.

mod counting;
mod request;
pub(super) mod rhythm;
mod roster;
mod subscription;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::NamespaceKey;
use crate::api;
use crate::model::ServiceKey;
use crate::registry::{Knowledge, NodeState};

use super::App;
use super::body::{self, Limits};
use super::consume::not_known_yet;
use super::feed::{Mailbox, Open};
use super::line::Caller;
use super::problem::{Code, Problem};
use super::query::Query;
use request::Request;
pub(super) use request::last_event_id;
use subscription::Subscription;

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(watch, watch_many))
}

/// Follow services as they change.
///
/// A stream of server-sent events, each with one `data:` line of JSON: `snapshot`, `delta`, `unchanged`, `synced`, `notice`
/// and `goodbye`; `counts` where `detail=counts` is asked for. A delta is to be applied only to what is at its `from`. To resume, here or at any other node, send the last
/// event's id as `Last-Event-ID`, or name what is held as `service=user@REVISION`.
#[utoipa::path(
    get,
    path = "/v1/watch",
    tag = "consume",
    operation_id = "watch",
    params(
        NamespaceKey,
        ("service" = Option<Vec<String>>, Query, description = "A service, or `SERVICE@REVISION`, or `*` for all of the namespace; may be repeated, for at most 1,000 names."),
        ("prefix" = Option<String>, Query, description = "All services whose names begin so; may be repeated, 16 times at most."),
        ("at" = Option<Vec<String>>, Query, description = "`SERVICE@REVISION`: what is held of a service that is not named; may be repeated."),
        ("detail" = Option<String>, Query, description = "`counts`: a `counts` event for each service, now and when it changes, and no instances; with `namespace=*` of all namespaces. Default: `instances`."),
        ("client" = Option<String>, Query, description = "What the subscriber calls itself, NAME/VERSION; or the header `muster-client`."),
        ("status" = Option<String>, Query, description = "Selects by status; a comma means any of."),
        ("usable" = Option<bool>, Query, description = "Only those that are up with a weight above 0; if there are none, those that are suspect."),
        ("zone" = Option<String>, Query, description = "Selects by zone; a comma means any of."),
        ("near_zone" = Option<String>, Query, description = "That zone; others only while it has none that is usable."),
        ("region" = Option<String>, Query, description = "Selects by region; a comma means any of."),
        ("tag" = Option<Vec<String>>, Query, description = "Selects by tag; a comma means any of, a repeated key all of."),
        ("metadata.KEY" = Option<String>, Query, description = "Selects by metadata; an empty value: the key is absent."),
        ("last-event-id" = Option<String>, Header, description = "The id of the last event that was received, from any node."),
        ("lastEventId" = Option<String>, Query, description = "The same, as polyfills send it; the header counts for more."),
    ),
    responses(
        (status = 200, description = "The stream.", content_type = "text/event-stream", body = api::consume::WatchEvent),
        (status = 400, description = "Something is wrong with the query.", body = api::problem::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The node is warming or leaving, or has as many streams as it takes.", body = api::problem::Problem, content_type = "application/problem+json"),
    )
)]
async fn watch(State(app): State<App>, headers: HeaderMap, caller: Caller, query: Query) -> Result<Response, Problem> {
    follow(&app, &headers, &caller, query)
}

/// Follow more services than an address can name
///
/// The same stream. The body has what the query has, each key with a string or, where it may be repeated, an array of strings; an address of
/// more than 65,534 bytes cannot be read.
#[utoipa::path(
    post,
    path = "/v1/watch",
    tag = "consume",
    operation_id = "watchMany",
    params(("last-event-id" = Option<String>, Header, description = "The id of the last event that was received, from any node.")),
    request_body = api::consume::WatchMany,
    responses(
        (status = 200, description = "The stream.", content_type = "text/event-stream", body = api::consume::WatchEvent),
        (status = "default", description = "As of a stream by GET, and what may be wrong with a body.", body = api::problem::Problem, content_type = "application/problem+json"),
    )
)]
async fn watch_many(State(app): State<App>, caller: Caller, query: Query, request: axum::extract::Request) -> Result<Response, Problem> {
    let headers = request.headers().clone();
    let body = body::read(request, Limits::of_one(&app)).await?;
    follow(&app, &headers, &caller, query.with_body(&body)?)
}

fn follow(app: &App, headers: &HeaderMap, caller: &Caller, mut query: Query) -> Result<Response, Problem> {
    let mailbox = Arc::new(Mailbox::default());
    let stream = match query.word("detail", &[("instances", Detail::Instances), ("counts", Detail::Counts)]) {
        Some(Detail::Counts) => {
            let request = counting::Request::read(query)?;
            let open = open(app, &mailbox)?;
            Body::from_stream(counting::stream(app, request, open))
        }
        Some(Detail::Instances) | None => {
            let request = Request::read(query, headers)?;
            check_reached(app, &request)?;
            let open = open(app, &mailbox)?;
            tracing::debug!(client = request.client.as_deref(), namespace = %request.namespace, "a subscriber came");
            Body::from_stream(Subscription::new(app, request, caller, mailbox, open))
        }
    };
    Ok(answer(stream))
}

/// A stream as an answer.
pub(super) fn answer(stream: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, stream).into_response()
}

/// How much of a service is told.
#[derive(Debug, Clone, Copy)]
enum Detail {
    Instances,
    Counts,
}

/// A node that never reached its bus sends nobody what it does not know, and never `synced`: who asks for that is better off elsewhere.
fn check_reached(app: &App, request: &Request) -> Result<(), Problem> {
    if app.node.condition().knowledge != Knowledge::Unreached {
        return Ok(());
    }
    let catalog = app.node.catalog();
    let is_known = |service: &ServiceKey| catalog.view(service).is_some_and(|view| !view.instances().is_empty());
    if request.prefixes.is_empty() && request.services().any(|service| is_known(&service)) {
        return Ok(());
    }
    Err(not_known_yet(app, "Nothing is known yet of what is to be watched"))
}

/// A place for a stream, where the node can answer and has one left.
pub(super) fn open(app: &App, mailbox: &Arc<Mailbox>) -> Result<Open, Problem> {
    check_ready(app)?;
    place(app, mailbox)
}

/// A place among the streams, for a stream or for a poll that is held.
pub(super) fn place(app: &App, mailbox: &Arc<Mailbox>) -> Result<Open, Problem> {
    app.feeds.mood().open(mailbox).ok_or_else(|| {
        app.metrics.streams_refused.increment(1);
        let max = app.config.watch.streams_max;
        let detail = format!("{max} streams are open or polls held here, as many as `watch.streams_max` allows. Ask another.");
        Problem::new(Code::Overloaded, detail).with_key("watch.streams_max")
    })
}

/// A node that does not know enough must not say that there is nothing; one that stops must not take new streams.
pub(super) fn check_ready(app: &App) -> Result<(), Problem> {
    let condition = app.node.condition();
    match condition.state {
        NodeState::Ready if !app.shutdown.has_begun() => Ok(()),
        NodeState::Warming if condition.can_answer() && !app.shutdown.has_begun() => Ok(()),
        NodeState::Warming => Err(not_known_yet(app, "The node cannot answer yet")),
        NodeState::Ready | NodeState::Leaving => Err(Problem::new(Code::Leaving, "The node is stopping. Ask another.")),
    }
}
