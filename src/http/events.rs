//! Events: what happened to instances and why, as lists with the newest first, and as streams of what happens now.

mod asked;
mod follow;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::consume::{check_ready, check_warm, json};
use super::extract::PathNames;
use super::params::{InstancePath, NamespaceKey, ServicePath};
use super::problem::{Code, Problem};
use super::query::Query;
use super::watch;
use crate::api;
use crate::api::events::Events;
use crate::api::problem::Problem as ProblemBody;
use crate::model::InstanceKey;
use crate::node::history::Place;
use crate::node::{Event, EventId};
use asked::{Asked, Begin, Page, Wanted};

/// The routes of this folder.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(events)).routes(routes!(history))
}

/// What happened to instances, and why
///
/// The newest first, as far back as this node keeps it: the last 65,536 events, in the order in which it learned of them.
/// Who and why travel with each change, so any node can be asked. With `Accept: text/event-stream` a stream of what happens from now on:
/// `change` events, each with its `id`; `gap` where some are missing, because the stream was too slow or its `Last-Event-ID` is not
/// kept here any more; a comment every 10 s; `goodbye` when the node leaves.
#[utoipa::path(
    get, path = "/v1/events", tag = "consume", operation_id = "listEvents",
    params(
        ("namespace" = Option<String>, Query, description = "Default: `default`; `*`: all."),
        ("service" = Option<String>, Query, description = "Only those of this service."),
        ("instance" = Option<String>, Query, description = "Only those of instances with this id."),
        ("cause" = Option<String>, Query, description = "Only with this cause; a comma means any of."),
        ("since" = Option<String>, Query, description = "Only what happened at most this long ago, by the wall clocks of the nodes that wrote it: `10m`; at most 8760h. A stream begins with that."),
        ("limit" = Option<u64>, Query, description = "At most so many, 1 to 10,000; default: 100. Not of a stream."),
        ("after" = Option<String>, Query, description = "From the one before this on: the `next` of the answer before. Not of a stream."),
        ("last-event-id" = Option<String>, Header, description = "Of a stream: the id of the last event that was received, from any node."),
        ("lastEventId" = Option<String>, Query, description = "Of a stream: the same, as polyfills send it; the header counts for more."),
    ),
    responses(
        (status = 200, description = "What happened; with `accept: text/event-stream` what happens.", content(
            (Events<'static> = "application/json"),
            (api::events::StreamEvent = "text/event-stream"),
        )),
        (status = "default", description = "Not answered", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn events(State(app): State<App>, headers: HeaderMap, mut query: Query) -> Result<Response, Problem> {
    let wanted = Wanted::read(&mut query);
    match Asked::read(&app, &headers, wanted, query)? {
        Asked::Page(page) => {
            check_warm(&app)?;
            Ok(list(&page, &found(&app, &page)?))
        }
        Asked::Stream(wanted, begin) => stream(&app, wanted, &begin),
    }
}

/// What happened to one instance, and why
///
/// Also when it is gone. Where this node keeps nothing of what happened to it, what is known of it last. Streams as `/v1/events` does.
#[utoipa::path(
    get, path = "/v1/services/{service}/instances/{id}/history", tag = "consume", operation_id = "getHistory",
    params(
        ServicePath,
        InstancePath,
        NamespaceKey,
        ("cause" = Option<String>, Query, description = "Only with this cause; a comma means any of."),
        ("since" = Option<String>, Query, description = "Only what happened at most this long ago: `10m`; at most 8760h."),
        ("limit" = Option<u64>, Query, description = "At most so many, 1 to 10,000; default: 100. Not of a stream."),
        ("after" = Option<String>, Query, description = "From the one before this on: the `next` of the answer before. Not of a stream."),
        ("last-event-id" = Option<String>, Header, description = "Of a stream: the id of the last event that was received, from any node."),
        ("lastEventId" = Option<String>, Query, description = "Of a stream: the same, as polyfills send it; the header counts for more."),
    ),
    responses(
        (status = 200, description = "What happened; with `accept: text/event-stream` what happens.", content(
            (Events<'static> = "application/json"),
            (api::events::StreamEvent = "text/event-stream"),
        )),
        (status = "default", description = "Not answered; 404 `unknown_instance`: nothing is known of it", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
async fn history(State(app): State<App>, headers: HeaderMap, names: PathNames, mut query: Query) -> Result<Response, Problem> {
    let key = names.instance(&mut query);
    let wanted = Wanted::of(key.as_ref());
    match Asked::read(&app, &headers, wanted, query)? {
        Asked::Page(page) => {
            check_warm(&app)?;
            let found = found(&app, &page)?;
            let Some(key) = key.filter(|_| found.is_empty()) else { return Ok(list(&page, &found)) };
            let known = last_known(&app, &key).await?;
            Ok(list(&page, &known.into_iter().filter(|event| page.after.is_none() && page.wanted.wants(event)).collect::<Vec<_>>()))
        }
        Asked::Stream(wanted, begin) => stream(&app, wanted, &begin),
    }
}

/// One more than the limit, if there are as many.
fn found(app: &App, page: &Page) -> Result<Vec<Event>, Problem> {
    let history = app.node.history();
    let before = match &page.after {
        None => Place::MAX,
        Some(id) => history.place_of(id).ok_or_else(|| {
            let detail = format!("This node does not keep the event `{id}` (any more). Begin again without `after`.");
            Problem::new(Code::InvalidRequest, detail)
        })?,
    };
    let found = history.newest(before, page.limit + 1, |event| page.wanted.wants(event));
    Ok(found.into_iter().map(|(_, event)| event).collect())
}

fn list(page: &Page, found: &[Event]) -> Response {
    let shown = &found[..found.len().min(page.limit)];
    let next = shown.last().filter(|_| found.len() > page.limit).map(|event| EventId::of(event).to_string());
    json(&Events { events: shown.iter().map(Event::to_shape).collect(), next })
}

/// Of an instance of whose changes none is kept here: the last, which its record tells; none where none that is kept is wanted.
async fn last_known(app: &App, key: &InstanceKey) -> Result<Option<Event>, Problem> {
    if !app.node.history().newest(Place::MAX, 1, |event| event.key == *key).is_empty() {
        return Ok(None);
    }
    let record = app.node.records(vec![key.clone()]).await?.into_iter().next().flatten();
    if let Some(record) = record {
        return Ok(Some(Event::of_record(&record, record.to_listed().map(|listed| listed.status))));
    }
    // What a disk does not know there may be all the same.
    check_ready(app)?;
    let detail =
        format!("Nothing is known of an instance `{}` of service `{}`: neither is it listed, nor was it lately.", key.id, key.service);
    Err(Problem::new(Code::UnknownInstance, detail))
}

fn stream(app: &App, wanted: Wanted, begin: &Begin) -> Result<Response, Problem> {
    let open = watch::open(app, &std::sync::Arc::default())?;
    Ok(watch::answer(Body::from_stream(follow::stream(app, wanted, begin, open))))
}
