//! Forgetting a node: an operator says that it does not come back.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::api::problem::Problem as ProblemBody;
use crate::http::App;
use crate::http::extract::PathNames;
use crate::http::problem::Problem;
use crate::http::query::Query;

/// Forget a node that will not come back
///
/// It counts no more when a majority is looked for, at any node: it takes one of them to be asked. For nodes that are gone for good. A node
/// that is only cut off goes on at its side of the partition: do not forget it. One that is heard again counts again.
#[utoipa::path(
    delete, path = "/v1/cluster/nodes/{name}", tag = "operate", operation_id = "forgetNode",
    params(("name" = String, Path, description = "The node's name")),
    responses(
        (status = 204, description = "It counts no more"),
        (status = 404, description = "`unknown_node`: none of this name is known, or it has left", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`node_alive`: it is heard, here or by another node; nothing was changed", body = ProblemBody, content_type = "application/problem+json"),
        (status = "default", description = "Refused; nothing was changed", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn forget(State(app): State<App>, names: PathNames, mut query: Query) -> Result<Response, Problem> {
    let node = names.node(&mut query);
    let node = query.finish_with(node)?;
    tracing::warn!(node = %app.node.name(), member = %node, "asked over HTTP to forget a node");
    app.node.forget_node(node).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
