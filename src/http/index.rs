//! What answers here and what it can do: the index, the version, and the API's own description.

use std::sync::LazyLock;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use utoipa::openapi::{ContactBuilder, InfoBuilder, LicenseBuilder, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::Problem;
use super::query::Query;
use super::{App, body};
use crate::api::operate::{Index, Version};
use crate::api::problem::Problem as ProblemBody;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Told by whoever builds a release: `MUSTER_COMMIT=$(git rev-parse HEAD) cargo build --release`.
const COMMIT: &str = match option_env!("MUSTER_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};
/// Groups of calls that a client of several versions may look for.
const FEATURES: [&str; 13] =
    ["register", "batch", "ack", "list", "wait", "search", "watch", "events", "overrides", "diff", "leave", "subscribers", "drain"];

const LINKS: [(&str, &str); 12] = [
    ("services", "/v1/services"),
    ("instances", "/v1/services/{service}/instances"),
    ("subscribers", "/v1/services/{service}/subscribers"),
    ("search", "/v1/instances"),
    ("watch", "/v1/watch?service={service}"),
    ("events", "/v1/events"),
    ("overrides", "/v1/overrides"),
    ("cluster", "/v1/cluster"),
    ("diff", "/v1/cluster/diff?with={node}"),
    ("metrics", "/metrics"),
    ("version", "/v1/version"),
    ("openapi", "/v1/openapi.json"),
];

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(index)).routes(routes!(version)).routes(routes!(openapi))
}

/// Adds what stands above the routes.
pub(super) fn describe(openapi: &mut OpenApi) {
    openapi.info = InfoBuilder::new()
        .title("muster")
        .version(VERSION)
        .description(Some(
            "A service registry. Providers register at any node, consumers look up and watch at any node. \
             Durations in requests are like `15s`, `500ms`, `2m`, `1h`, or whole milliseconds; in answers `*_ms`. \
             Unknown fields and query keys are refused. Whatever is not a success is `application/problem+json`. \
             Every answer carries `muster-node` and `x-request-id`.",
        ))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .contact(Some(ContactBuilder::new().name(Some("muster")).build()))
        .build();
}

/// Where everything is
///
/// A browser gets the same, until there is a console for it.
#[utoipa::path(
    get, path = "/", tag = "operate", operation_id = "index",
    responses(
        (status = 200, description = "Paths by what they are for", body = Index),
        (status = "default", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn index(State(app): State<App>, query: Query) -> Result<Response, Problem> {
    query.finish()?;
    let index = Index {
        name: "muster".to_owned(),
        version: VERSION.to_owned(),
        node: app.node.name().to_string(),
        cluster: app.config.cluster.name.to_string(),
        links: LINKS.into_iter().map(|(what, path)| (what.to_owned(), path.to_owned())).collect(),
    };
    Ok(body::json(StatusCode::OK, &index))
}

/// What answers here
#[utoipa::path(
    get, path = "/v1/version", tag = "operate", operation_id = "version",
    responses(
        (status = 200, description = "Program, source and abilities", body = Version),
        (status = "default", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn version(query: Query) -> Result<Response, Problem> {
    query.finish()?;
    let features = FEATURES.into_iter().map(str::to_owned).collect();
    Ok(body::json(StatusCode::OK, &Version { version: VERSION.to_owned(), commit: COMMIT.to_owned(), features }))
}

/// This description
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "operate", operation_id = "openapi",
    responses(
        (status = 200, description = "OpenAPI 3.1", content_type = "application/json"),
        (status = "default", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn openapi(query: Query) -> Result<Response, Problem> {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
        let mut document = serde_json::to_value(super::openapi()).expect("unreachable: the description is JSON");
        super::contract::write_bounds(&mut document);
        Bytes::from(document.to_string())
    });
    query.finish()?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], DOCUMENT.clone()).into_response())
}
