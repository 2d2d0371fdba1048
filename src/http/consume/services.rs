//! Namespaces and services: what there is, and how its instances are.

use std::ops::Bound;

use axum::extract::State;
use axum::response::Response;

use super::super::params::{NamespaceKey, ServicePath};
use super::{check_known, check_ready, check_warm, json, page, subscribers};
use crate::api;
use crate::api::Hex;
use crate::api::consume::{Counts, NamespaceCounts, Namespaces, Service, ServiceCounts, Services};
use crate::http::App;
use crate::http::extract::PathNames;
use crate::http::feed::trust;
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::model::{Namespace, ServiceKey};
use crate::registry::{Catalog, View};

/// List the namespaces that have a visible instance.
#[utoipa::path(
    get,
    path = "/v1/namespaces",
    tag = "consume",
    operation_id = "listNamespaces",
    params(
        ("q" = Option<String>, Query, description = "Only those whose names begin so."),
        ("limit" = Option<u64>, Query, description = "At most so many, 1 to 10,000; default: 1,000."),
        ("after" = Option<String>, Query, description = "From the one after this on: the `next` of the answer before."),
    ),
    responses(
        (status = 200, description = "Their names and counts.", body = api::consume::Namespaces<'static>),
        (status = 400, description = "Something is wrong with the query.", body = api::problem::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The node does not know enough yet.", body = api::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn namespaces(State(app): State<App>, mut query: Query) -> Result<Response, Problem> {
    let (prefix, limit) = (query.one("q").unwrap_or_default(), page::limit_or_default(&mut query));
    let after = page::after(&mut query, |text| text.parse::<Namespace>().ok());
    query.finish()?;
    check_ready(&app)?;
    let complete = app.node.condition().complete;
    let catalog = app.node.catalog();
    let mut namespaces =
        namespace_counts(&catalog, |name| name.as_str().starts_with(&prefix) && after.as_ref().is_none_or(|after| name > after));
    let next = cut(&mut namespaces, limit).then(|| namespaces.last().map(|last| last.namespace.to_string())).flatten();
    Ok(json(&Namespaces { namespaces, complete, next }))
}

/// List the services that have a visible instance.
#[utoipa::path(
    get,
    path = "/v1/services",
    tag = "consume",
    operation_id = "listServices",
    params(
        ("namespace" = Option<String>, Query, description = "Default: `default`; `*`: all."),
        ("q" = Option<String>, Query, description = "Only those whose names begin so."),
        ("limit" = Option<u64>, Query, description = "At most so many, 1 to 10,000; default: 1,000."),
        ("after" = Option<String>, Query, description = "From the one after this on: the `next` of the answer before."),
    ),
    responses(
        (status = 200, description = "Their names, revisions and counts.", body = api::consume::Services<'static>),
        (status = 400, description = "Something is wrong with the query.", body = api::problem::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The node does not know enough yet.", body = api::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn services(State(app): State<App>, mut query: Query) -> Result<Response, Problem> {
    let namespace = page::namespaces(&mut query);
    let (prefix, limit) = (query.one("q").unwrap_or_default(), page::limit_or_default(&mut query));
    let after = page::after(&mut query, |text| page::service_key(text, namespace.as_ref()));
    query.finish()?;
    check_ready(&app)?;
    let complete = app.node.condition().complete;
    let catalog = app.node.catalog();
    let found = visible_from(&catalog, namespace.as_ref(), after);
    let found = found.filter(|(service, _)| service.service.as_str().starts_with(&prefix));
    let mut services: Vec<_> = found.take(limit + 1).map(|(service, view)| service_counts(service, view)).collect();
    let next = cut(&mut services, limit).then(|| services.last().map(|last| next_of(last, namespace.as_ref()))).flatten();
    Ok(json(&Services { services, complete, next }))
}

/// One service: its revision and counts. Of one that nobody registered they are zero.
#[utoipa::path(
    get,
    path = "/v1/services/{service}",
    tag = "consume",
    operation_id = "getService",
    params(
        ServicePath,
        NamespaceKey,
    ),
    responses(
        (status = 200, description = "How it is.", body = api::consume::Service<'static>),
        (status = 400, description = "Something is wrong with the names or the query.", body = api::problem::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The node does not know enough yet.", body = api::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn service(State(app): State<App>, names: PathNames, mut query: Query) -> Result<Response, Problem> {
    let service = names.service(&mut query);
    let service = query.finish_with(service)?;
    check_warm(&app)?;
    let condition = app.node.condition();
    let (catalog, nothing) = (app.node.catalog(), View::default());
    let view = catalog.view(&service).map_or(&nothing, |view| view);
    check_known(&app, &condition, &service, view)?;
    let trust = trust(&condition, &app.node.clock(), view.preserved() > 0);
    let overrides = catalog.overrides_of(&service).map(|name| name.as_str().into()).collect();
    let subscribers = subscribers::count(&app, &service);
    Ok(json(&Service { counts: service_counts(&service, view), subscribers, overrides, trust }))
}

/// The visible services from the one after `after` on, of one namespace or of all.
pub(in crate::http) fn visible_from<'a>(
    catalog: &'a Catalog,
    namespace: Option<&'a Namespace>,
    after: Option<ServiceKey>,
) -> impl Iterator<Item = (&'a ServiceKey, &'a View)> {
    let first = namespace.map(|namespace| page::first_of(namespace.clone()));
    let begin = match (after, first) {
        (Some(after), _) => Bound::Excluded(after),
        (None, Some(first)) => Bound::Included(first),
        (None, None) => Bound::Unbounded,
    };
    let services = catalog.services().range((begin, Bound::Unbounded));
    services
        .take_while(move |(service, _)| namespace.is_none_or(|namespace| service.namespace == *namespace))
        .filter(|(_, view)| !view.instances().is_empty())
        .map(|(service, view)| (service, &**view))
}

/// How one service is.
pub(in crate::http) fn service_counts<'a>(service: &'a ServiceKey, view: &View) -> ServiceCounts<'a> {
    ServiceCounts {
        namespace: service.namespace.as_str().into(),
        service: service.service.as_str().into(),
        revision: Hex(view.revision()),
        instances: view.instances().len(),
        counts: Counts::of(view.counts()),
    }
}

fn namespace_counts(catalog: &Catalog, wanted: impl Fn(&Namespace) -> bool) -> Vec<NamespaceCounts<'_>> {
    let mut found: Vec<NamespaceCounts<'_>> = Vec::new();
    for (service, view) in visible_from(catalog, None, None).filter(|(service, _)| wanted(&service.namespace)) {
        let name = service.namespace.as_str();
        if found.last().is_none_or(|last| last.namespace != name) {
            found.push(NamespaceCounts { namespace: name.into(), services: 0, instances: 0, counts: Counts::default() });
        }
        if let Some(last) = found.last_mut() {
            last.services += 1;
            last.instances += view.instances().len();
            last.counts += Counts::of(view.counts());
        }
    }
    found
}

/// Leaves at most `limit`; says whether there were more.
fn cut<T>(entries: &mut Vec<T>, limit: usize) -> bool {
    let has_more = entries.len() > limit;
    entries.truncate(limit);
    has_more
}

fn next_of(last: &ServiceCounts<'_>, namespace: Option<&Namespace>) -> String {
    match namespace {
        Some(_) => last.service.to_string(),
        None => format!("{}/{}", last.namespace, last.service),
    }
}
