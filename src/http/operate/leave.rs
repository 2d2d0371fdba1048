//! Leaving: an operator asks this node to hand over and stop, as a signal would.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use crate::api::operate::Leaving;
use crate::api::problem::Problem as ProblemBody;
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::http::{App, body};
use crate::registry::NodeState;

/// Hand over and stop
///
/// The same as SIGTERM: the answer comes at once, then the node tells its peers and its subscribers, and ends. Asked again it answers
/// the same.
#[utoipa::path(
    post, path = "/v1/cluster/leave", tag = "operate", operation_id = "leave",
    responses(
        (status = 202, description = "It leaves", body = Leaving),
        (status = "default", description = "Refused; the node stays", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn leave(State(app): State<App>, query: Query) -> Result<Response, Problem> {
    query.finish()?;
    tracing::info!(node = %app.node.name(), "asked over HTTP to leave");
    app.shutdown.ask();
    let shape = Leaving {
        node: app.node.name().to_string(),
        state: NodeState::Leaving.as_str().to_owned(),
        deadline_ms: app.config.node.leave_timeout_ms,
    };
    Ok(body::json(StatusCode::ACCEPTED, &shape))
}
