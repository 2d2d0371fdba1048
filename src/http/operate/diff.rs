//! Differences: which services and instances another node holds otherwise, and in what.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use crate::api::Hex;
use crate::api::operate::{Diff, FieldDiff, ServiceDiff};
use crate::api::problem::Problem as ProblemBody;
use crate::http::problem::{Fault, FaultCode, Problem};
use crate::http::query::Query;
use crate::http::{App, body};
use crate::model::NodeName;
use crate::registry;

/// In what another node's records differ from this one's
///
/// Both go on while they are compared: what is on its way just then may be told as a difference. Nothing is repaired by asking.
#[utoipa::path(
    get, path = "/v1/cluster/diff", tag = "operate", operation_id = "clusterDiff",
    params(("with" = String, Query, description = "The other node's name")),
    responses(
        (status = 200, description = "What differs, at most 1,000 instances", body = Diff),
        (status = 404, description = "`unknown_node`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "`overloaded`: too many comparisons at once", body = ProblemBody, content_type = "application/problem+json"),
        (status = 504, description = "`unreachable_node`: it did not answer within 2 s", body = ProblemBody, content_type = "application/problem+json"),
        (status = "default", description = "Not answered", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn diff(State(app): State<App>, mut query: Query) -> Result<Response, Problem> {
    let named = query.one("with");
    let with = named.as_deref().map(str::parse::<NodeName>);
    if let Some(Err(error)) = &with {
        query.add([Fault::name("with", error)]);
    }
    query.finish()?;
    let Some(Ok(with)) = with else {
        let detail = "`with` is missing: name the other node";
        return Err(Problem::invalid(vec![Fault::parameter("with", FaultCode::InvalidValue, detail)]));
    };
    let diff = app.node.diff(with).await?;
    let shape = Diff {
        node: app.node.name().to_string(),
        with: diff.with.to_string(),
        equal: diff.is_equal(),
        truncated: diff.truncated,
        services: diff.services.into_iter().map(ServiceDiff::from).collect(),
    };
    Ok(body::json(StatusCode::OK, &shape))
}

impl From<registry::ServiceDiff> for ServiceDiff {
    fn from(diff: registry::ServiceDiff) -> Self {
        let ids = |ids: Vec<crate::model::InstanceId>| ids.iter().map(ToString::to_string).collect();
        Self {
            namespace: diff.service.namespace.to_string(),
            service: diff.service.service.to_string(),
            revision: Hex(diff.revision),
            with_revision: diff.with_revision.map(Hex),
            only_here: ids(diff.only_here),
            only_there: ids(diff.only_there),
            differ: diff.differ.into_iter().flat_map(fields).collect(),
        }
    }
}

fn fields(diff: registry::InstanceDiff) -> Vec<FieldDiff> {
    let registry::InstanceDiff { id, owner, fields } = diff;
    let told = |difference: registry::Difference| FieldDiff {
        id: id.to_string(),
        field: difference.field,
        here: difference.here,
        there: difference.there,
        owner: owner.to_string(),
    };
    fields.into_iter().map(told).collect()
}
