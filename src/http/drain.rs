//! Draining: an instance leaves with notice, and whoever asks hears who has been told.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::actor::Actor;
use super::extract::{Arrived, PathNames};
use super::params::{InstancePath, NamespaceKey, ServicePath};
use super::problem::Problem;
use super::query::Query;
use super::{App, body};
use crate::api::drain::{Drained, Missing};
use crate::api::problem::Problem as ProblemBody;
use crate::model::{INCARNATION_NAMED_MAX, Incarnation};
use crate::registry::{self, Drain};

/// How long a drain may take, unless it says less.
const DEADLINE_MS: u64 = 30_000;
const DEADLINE_MS_MAX: u64 = 300_000;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(drain))
}

/// Drain an instance
///
/// It is listed as `draining` with weight 0, until everyone who follows its service has been sent that, or the deadline; then it is
/// deregistered. It goes on when the one who asked hangs up. A registration or a heartbeat that says `"status":"up"` ends it.
#[utoipa::path(
    post, path = "/v1/services/{service}/instances/{id}/drain", tag = "provide", operation_id = "drain",
    params(
        ServicePath,
        InstancePath,
        NamespaceKey,
        ("deadline" = Option<String>, Query, description = "How long to wait for subscribers at the most, up to 5m; default 30s"),
        ("wait" = Option<bool>, Query, description = "Answer when it is over, with who has been sent it; default: at once"),
        ("deregister" = Option<bool>, Query, description = "Take the instance away then; default true"),
        ("incarnation" = Option<u64>, Query, minimum = 1, maximum = 9_007_199_254_740_991_u64, description = "Which life is meant"),
    ),
    responses(
        (status = 200, description = "It is over", body = Drained),
        (status = 202, description = "It has begun"),
        (status = "default", description = "Refused; nothing was changed", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn drain(
    Arrived(at): Arrived,
    State(app): State<App>,
    names: PathNames,
    Actor(actor): Actor,
    mut query: Query,
) -> Result<Response, Problem> {
    let key = names.instance(&mut query);
    let deadline_ms = query.ms("deadline", 0..=DEADLINE_MS_MAX).unwrap_or(DEADLINE_MS);
    let wait = query.flag("wait").unwrap_or(false);
    let deregister = query.flag("deregister").unwrap_or(true);
    let incarnation = query.number("incarnation", 1..=INCARNATION_NAMED_MAX).and_then(Incarnation::named);
    let key = query.finish_with(key)?;
    let drain = Drain { key, incarnation, until: at + deadline_ms, deregister, wait, actor };
    Ok(match app.node.drain(drain).await? {
        Some(drained) => body::json(StatusCode::OK, &Drained::from(drained)),
        None => StatusCode::ACCEPTED.into_response(),
    })
}

impl From<registry::Drained> for Drained {
    fn from(drained: registry::Drained) -> Self {
        let missing = |missing: registry::Missing| Missing {
            node: missing.node.to_string(),
            subscriber: missing.subscriber.as_ref().and_then(|subscriber| subscriber.name.as_deref().map(str::to_owned)),
            address: missing.subscriber.map(|subscriber| subscriber.address.to_string()),
        };
        let registry::Drained { delivered, subscribers, missing: who, truncated, deregistered } = drained;
        Self { delivered, subscribers, missing: who.into_iter().map(missing).collect(), truncated, deregistered }
    }
}
