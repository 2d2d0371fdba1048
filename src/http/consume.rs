//! Consuming: lists, searches and details, answered from the view that the node holds in memory.

mod answered;
mod detail;
mod encoded;
mod instances;
mod knowledge;
pub(in crate::http) mod page;
mod registered;
mod search;
pub(in crate::http) mod services;
mod subscribers;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(in crate::http) use encoded::Lists;
pub(in crate::http) use knowledge::{check_known, is_unknown, problem as not_known_yet};

use super::problem::Problem;
use super::{App, body};

/// The routes of this folder.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(services::namespaces))
        .routes(routes!(services::services))
        .routes(routes!(services::service))
        .routes(routes!(subscribers::subscribers))
        .routes(routes!(instances::instances))
        .routes(routes!(search::search))
        .routes(routes!(detail::detail))
}

/// A node that does not know enough must not say that there is nothing.
pub(in crate::http) fn check_warm(app: &App) -> Result<(), Problem> {
    if app.node.condition().can_answer() {
        return Ok(());
    }
    Err(knowledge::problem(app, "The node cannot answer yet"))
}

/// An answer that has no place for how far it can be relied on is not made from a disk.
pub(in crate::http) fn check_ready(app: &App) -> Result<(), Problem> {
    if app.node.condition().has_been_ready {
        return Ok(());
    }
    Err(knowledge::problem(app, "The node cannot answer yet"))
}

/// To be asked again each time: what is listed can change at any moment.
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");

pub(in crate::http) fn json(shape: &impl Serialize) -> Response {
    let mut response = body::json(StatusCode::OK, shape);
    response.headers_mut().insert(header::CACHE_CONTROL, NO_CACHE);
    response
}
