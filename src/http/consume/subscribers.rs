//! Subscribers: who follows a service, on all nodes.

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;

use super::super::params::{NamespaceKey, ServicePath};
use super::json;
use crate::api::{self, drain};
use crate::http::App;
use crate::http::extract::PathNames;
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::model::{NodeName, ServiceKey, Subscriber};
use crate::registry::WATCHERS_MAX;

/// Who follows a service: by a stream, or by polls that are held; on all nodes.
///
/// Other nodes' subscribers are known within two seconds or so.
#[utoipa::path(
    get,
    path = "/v1/services/{service}/subscribers",
    tag = "consume",
    operation_id = "listSubscribers",
    params(
        ServicePath,
        NamespaceKey,
    ),
    responses(
        (status = 200, description = "Who they are.", body = api::drain::Subscribers<'static>),
        (status = 400, description = "Something is wrong with the names or the query.", body = api::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn subscribers(State(app): State<App>, names: PathNames, mut query: Query) -> Result<Response, Problem> {
    let service = names.service(&mut query);
    let service = query.finish_with(service)?;
    let elsewhere = app.node.audience_elsewhere();
    let (watchers, here) = app.feeds.audience().watchers();
    let own = watchers.iter().filter(|watcher| watcher.interest.includes(&service));
    let own = own.map(|watcher| shape(app.node.name(), &watcher.subscriber));
    let mut subscribers: Vec<_> = own.chain(elsewhere.of(&service).map(|(node, subscriber)| shape(node, subscriber))).collect();
    subscribers.sort_unstable();
    Ok(json(&drain::Subscribers {
        namespace: service.namespace.as_str().into(),
        service: service.service.as_str().into(),
        subscribers,
        complete: elsewhere.complete && here <= WATCHERS_MAX as u64 && app.node.condition().complete,
    }))
}

/// How many follow a service, on all nodes.
pub(super) fn count(app: &App, service: &ServiceKey) -> usize {
    app.feeds.audience().seats_of(service).len() + app.node.audience_elsewhere().of(service).count()
}

fn shape(node: &NodeName, subscriber: &Subscriber) -> drain::Subscriber {
    let since = i64::try_from(subscriber.since).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    drain::Subscriber {
        node: node.to_string(),
        subscriber: subscriber.name.as_deref().map(str::to_owned),
        address: subscriber.address.to_string(),
        since: format!("{:.3}", since.unwrap_or(Timestamp::UNIX_EPOCH)),
    }
}
