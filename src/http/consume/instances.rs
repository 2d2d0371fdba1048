//! A service's instances: listed, compared by etag, and waited for.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::super::params::{NamespaceKey, ServicePath};
use super::answered::Pending;
use super::encoded::{Encoded, Question};
use super::{NO_CACHE, check_known, check_warm, is_unknown, page};
use crate::api;
use crate::http::App;
use crate::http::extract::PathNames;
use crate::http::feed::trust;
use crate::http::jitter::jitter;
use crate::http::line::Caller;
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::http::select::selection;
use crate::http::watch;
use crate::model::InstanceId;
use crate::node::Condition;
use crate::registry::{Interest, NodeState, View};

/// How long a poll may be held.
const WAIT_MS_MAX: u64 = 5 * 60_000;

/// List a service's instances.
///
/// A service that nobody registered is an empty list; one of which the node cannot know yet is 503 `warming`. With `If-None-Match` the answer is 304 while the selected instances are
/// the same; with `wait` as well it is held until they are not, or the time is over.
#[utoipa::path(
    get,
    path = "/v1/services/{service}/instances",
    tag = "consume",
    operation_id = "listInstances",
    params(
        ServicePath,
        NamespaceKey,
        ("status" = Option<String>, Query, description = "Selects by status; a comma means any of."),
        ("usable" = Option<bool>, Query, description = "Only those that are up with a weight above 0; if there are none, those that are suspect."),
        ("zone" = Option<String>, Query, description = "Selects by zone; a comma means any of."),
        ("near_zone" = Option<String>, Query, description = "That zone; others only while it has none that is usable."),
        ("region" = Option<String>, Query, description = "Selects by region; a comma means any of."),
        ("tag" = Option<Vec<String>>, Query, description = "Selects by tag; a comma means any of, a repeated key all of."),
        ("metadata.KEY" = Option<String>, Query, description = "Selects by metadata; an empty value: the key is absent."),
        ("limit" = Option<u64>, Query, description = "At most so many, 1 to 10,000; default: all."),
        ("after" = Option<String>, Query, description = "From the one after this id on: the `next` of the answer before."),
        ("wait" = Option<String>, Query, description = "With `If-None-Match`: hold the answer for so long while nothing changes, at most 5m. Ends up to 10 % earlier."),
        ("if-none-match" = Option<String>, Header, description = "Etags, from any node, or `*`."),
    ),
    responses(
        (status = 200, description = "The instances, in the order of their ids.", body = api::consume::Instances<'static>, headers(("etag" = String, description = "The digest of the selected instances, the same on every node."))),
        (status = 304, description = "The selected instances are those that were named."),
        (status = 400, description = "Something is wrong with the names or the query.", body = api::problem::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The node does not know enough yet.", body = api::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn instances(
    State(app): State<App>,
    names: PathNames,
    known: Known,
    caller: Caller,
    mut query: Query,
) -> Result<Response, Problem> {
    let service = names.service(&mut query);
    let wait_ms = query.ms("wait", 0..=WAIT_MS_MAX);
    let question = (selection(&mut query), page::limit(&mut query), query.name::<InstanceId>("after"));
    let service = query.finish_with(service)?;
    let (selection, limit, after) = question;
    let question = Question { service, selection, limit, after };
    check_warm(&app)?;

    // The condition before the view: what was read from disk is never told as what a node is sure of.
    let condition = app.node.condition();
    let view = app.node.catalog().view(&question.service).cloned().unwrap_or_default();
    let list = answer(&app, &question, &view, &condition);
    let wait_ms = wait_ms.filter(|wait_ms| *wait_ms > 0 && !known.is_empty());
    let is_unknown = is_unknown(&condition, &view);
    if wait_ms.is_none() {
        check_known(&app, &condition, &question.service, &view)?;
    }
    let is_known = is_unknown || known.includes(&list.etag);
    let poll = wait_ms.and_then(|_| poll(&app, &caller, &question, is_known));
    if !is_known {
        return Ok(whole(list, poll, view));
    }
    match wait_ms {
        Some(wait_ms) => {
            let _place = watch::place(&app, &Arc::default())?;
            hold(&app, &question, &known.at(&list.etag), wait_ms, poll).await
        }
        None => Ok(not_modified(list.etag)),
    }
}

fn answer(app: &App, question: &Question, view: &View, condition: &Condition) -> Encoded {
    app.lists.answer(question, view, trust(condition, &app.node.clock(), view.preserved() > 0))
}

/// Whoever waits is a subscriber: it must be known whether the answer has left.
fn poll(app: &App, caller: &Caller, question: &Question, has_current: bool) -> Option<Pending> {
    let service = &question.service;
    let interest = || Interest::new(service.namespace.clone(), std::iter::once(&service.service), &[]);
    let held = caller.poll(app, interest, &question.selection, has_current)?;
    Some(Pending { held, outlet: caller.outlet(), node: app.node.clone(), service: service.clone() })
}

/// Waits for a list that is none of those known.
async fn hold(app: &App, question: &Question, known: &Known, wait_ms: u64, poll: Option<Pending>) -> Result<Response, Problem> {
    let mut views = app.node.follow(&question.service);
    let mut conditions = app.node.follow_condition();
    // Up to a tenth earlier, so that polls that began together do not stay together.
    let over = tokio::time::sleep(Duration::from_millis(wait_ms - jitter(0..=wait_ms / 10)));
    tokio::pin!(over);
    loop {
        let condition = *conditions.borrow_and_update();
        let view = views.borrow_and_update().clone();
        let is_leaving = condition.state == NodeState::Leaving;
        let list = answer(app, question, &view, &condition);
        let is_unknown = is_unknown(&condition, &view);
        if !is_unknown && !known.includes(&list.etag) {
            return Ok(whole(list, poll, view));
        }
        // What is not known is not what the consumer has either.
        let nothing_new = || check_known(app, &condition, &question.service, &view).map(|()| not_modified(list.etag.clone()));
        if is_leaving || app.shutdown.has_begun() {
            return nothing_new();
        }
        tokio::select! {
            Ok(()) = views.changed() => {}
            Ok(()) = conditions.changed() => {}
            () = &mut over => return nothing_new(),
            () = app.shutdown.begun() => return nothing_new(),
        }
    }
}

fn whole(list: Encoded, poll: Option<Pending>, view: Arc<View>) -> Response {
    let mut response = Response::new(match poll {
        Some(poll) => Body::new(poll.answered(list.body, view)),
        None => Body::from(list.body),
    });
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ETAG, list.etag);
    headers.insert(header::CACHE_CONTROL, NO_CACHE);
    response
}

fn not_modified(etag: HeaderValue) -> Response {
    (StatusCode::NOT_MODIFIED, [(header::ETAG, etag), (header::CACHE_CONTROL, NO_CACHE)]).into_response()
}

/// What the consumer says that it has: the etags of its `If-None-Match`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// Whatever there is.
    Anything,
    /// One of these, without quotes.
    Etags(Vec<String>),
}

impl<S: Sync> FromRequestParts<S> for Known {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::read(&parts.headers))
    }
}

impl Known {
    fn read(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
        let mut etags = Vec::new();
        for etag in lines.flat_map(|line| line.split(',')).map(str::trim) {
            if etag == "*" {
                return Self::Anything;
            }
            etags.push(opaque(etag).to_owned());
        }
        Self::Etags(etags)
    }

    /// It says that it has nothing.
    fn is_empty(&self) -> bool {
        matches!(self, Self::Etags(etags) if etags.is_empty())
    }

    fn includes(&self, etag: &HeaderValue) -> bool {
        match self {
            Self::Anything => true,
            Self::Etags(etags) => etag.to_str().is_ok_and(|etag| etags.iter().any(|known| known == opaque(etag))),
        }
    }

    /// Whoever has anything waits for something else than there is now.
    fn at(self, etag: &HeaderValue) -> Self {
        match self {
            Self::Anything => Self::Etags(etag.to_str().map(|etag| opaque(etag).to_owned()).into_iter().collect()),
            Self::Etags(etags) => Self::Etags(etags),
        }
    }
}

/// Compared weakly, as `If-None-Match` is: what a proxy made weak still counts.
fn opaque(etag: &str) -> &str {
    let etag = etag.strip_prefix("W/").unwrap_or(etag);
    etag.strip_prefix('"').and_then(|etag| etag.strip_suffix('"')).unwrap_or(etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(lines: &[&str]) -> Known {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::IF_NONE_MATCH, line.parse().unwrap());
        }
        Known::read(&headers)
    }

    #[test]
    fn an_etag_is_found_in_lists_over_lines_and_weak_or_strong() {
        let etag = HeaderValue::from_static("\"abc-i\"");
        for lines in [
            &["\"abc-i\""][..],
            &["\"x\",\"abc-i\""],
            &["W/\"abc-i\""],
            &["\"x\" , \"abc-i\""],
            &["\"x\"", "\"abc-i\""],
            &["*"],
            &["abc-i"],
        ] {
            assert!(known(lines).includes(&etag), "{lines:?}");
        }
        for lines in [&[][..], &["\"abc\""], &["\"\""], &["\"abc-i"], &["\"abc-is\""], &["**"]] {
            assert!(!known(lines).includes(&etag), "{lines:?}");
        }
    }

    #[test]
    fn whoever_has_anything_waits_for_something_else() {
        let (now, later) = (HeaderValue::from_static("\"1\""), HeaderValue::from_static("\"2\""));
        let waiting = known(&["*"]).at(&now);
        assert!(waiting.includes(&now));
        assert!(!waiting.includes(&later));
    }
}
