//! Operating: is the node alive, is it fit to answer, how is its cluster, and its numbers.

mod diff;
mod forget;
mod leave;

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::consume::not_known_yet;
use super::problem::{Code, Problem};
use super::query::Query;
use super::{App, body};
use crate::api::Hex;
use crate::api::operate::{Applied, Cluster, Majority, Node, ReachedLimit};
use crate::api::problem::Problem as ProblemBody;
use crate::model::NodeName;
use crate::node::Condition;
use crate::registry::{self, AppliedAt, BusHealth, ClusterView, Knowledge, NodeState, NodeView};

const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const PROMETHEUS_TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(livez))
        .routes(routes!(readyz))
        .routes(routes!(healthz))
        .routes(routes!(metrics))
        .routes(routes!(cluster))
        .routes(routes!(diff::diff))
        .routes(routes!(forget::forget))
        .routes(routes!(leave::leave))
}

/// Whether the process lives
///
/// As long as it answers it does: a node that is warming, or whose bus is down, is not mended by a restart. 503 `stalled` where its task has
/// not turned for `node.stall_timeout`: then it is none any more, and one that goes on so ends itself (`node.stall_exit`).
#[utoipa::path(
    get, path = "/livez", tag = "operate", operation_id = "livez",
    params(("verbose" = Option<bool>, Query, description = "Say what was looked at")),
    responses(
        (status = 200, description = "It lives", body = String, content_type = "text/plain", headers(("muster-epoch" = String, description = "Which life of the node answers: 16 hex digits."))),
        (status = 503, description = "`stalled`", body = ProblemBody, content_type = "application/problem+json"),
        (status = "default", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn livez(State(app): State<App>, query: Query) -> Result<Response, Problem> {
    let verbose = is_verbose(query)?;
    let health = Health::of(&app);
    if health.condition.is_stalled {
        return Err(stalled(&health));
    }
    let mut response = say(Verdict::Ok, verbose.then_some(&health));
    let epoch = health.condition.epoch.to_string();
    response.headers_mut().insert("muster-epoch", HeaderValue::try_from(epoch).expect("unreachable: hex digits"));
    Ok(response)
}

/// Whether the node is fit to answer
///
/// 503 while it is warming, which a node is that never reached its bus, or leaving, or its task does not turn; 200 while it settles. With the bus
/// down it stays fit, and says `degraded`: what it holds is still worth more than nothing.
#[utoipa::path(
    get, path = "/readyz", tag = "operate", operation_id = "readyz",
    params(("verbose" = Option<bool>, Query, description = "Say what was looked at")),
    responses(
        (status = 200, description = "`ok` or `degraded`", body = String, content_type = "text/plain"),
        (status = 503, description = "`warming`, `leaving` or `stalled`", body = ProblemBody, content_type = "application/problem+json"),
        (status = "default", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn readyz(State(app): State<App>, query: Query) -> Result<Response, Problem> {
    let verbose = is_verbose(query)?;
    let health = Health::of(&app);
    match health.verdict() {
        Verdict::Warming => Err(not_known_yet(&app, &format!("The node is not ready ({health})"))),
        Verdict::Leaving => Err(Problem::new(Code::Leaving, format!("The node is stopping. {health}"))),
        Verdict::Stalled => Err(stalled(&health)),
        fit @ (Verdict::Ok | Verdict::Degraded) => Ok(say(fit, verbose.then_some(&health))),
    }
}

/// How the node is, in a word
///
/// Always 200: `ok`, `degraded`, `warming`, `leaving` or `stalled`. For people and dashboards; what routes or restarts asks the other two.
#[utoipa::path(
    get, path = "/healthz", tag = "operate", operation_id = "healthz",
    params(("verbose" = Option<bool>, Query, description = "Say what was looked at")),
    responses(
        (status = 200, description = "The word", body = String, content_type = "text/plain"),
        (status = "default", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn healthz(State(app): State<App>, query: Query) -> Result<Response, Problem> {
    let health = Health::of(&app);
    Ok(say(health.verdict(), is_verbose(query)?.then_some(&health)))
}

/// The node's numbers
///
/// In Prometheus' text.
#[utoipa::path(
    get, path = "/metrics", tag = "operate", operation_id = "metrics",
    responses(
        (status = 200, description = "Prometheus' text", body = String, content_type = "text/plain"),
        (status = "default", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn metrics(State(app): State<App>, query: Query) -> Result<Response, Problem> {
    query.finish()?;
    Ok(([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], app.metrics.render()).into_response())
}

/// How the cluster looks from here
#[utoipa::path(
    get, path = "/v1/cluster", tag = "operate", operation_id = "cluster",
    responses(
        (status = 200, description = "This node first", body = Cluster),
        (status = "default", description = "Not answered", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn cluster(State(app): State<App>, query: Query) -> Result<Response, Problem> {
    query.finish()?;
    let view = app.node.cluster().await?;
    let catalog = app.node.catalog();
    let shape = Cluster {
        cluster: app.config.cluster.name.to_string(),
        node: app.node.name().to_string(),
        state: view.nodes.first().map_or(view.state.as_str(), |own| own.state).to_owned(),
        bus: view.bus.as_str().to_owned(),
        converged: view.converged,
        diverged_ms: view.diverged_ms,
        complete: Some(view.complete),
        over_limit: view.over_limit.map(|reached| ReachedLimit { limit: reached.limit.to_owned(), max: reached.max }),
        majority: Some(Majority::from(view.majority.clone())),
        view_digest: Hex(catalog.view_digest()),
        services: catalog.service_count(),
        instances: catalog.instance_count(),
        applied: applied(&view),
        nodes: view.nodes.into_iter().map(Node::from).collect(),
    };
    Ok(body::json(StatusCode::OK, &shape))
}

/// What the three health pages look at.
struct Health {
    condition: Condition,
    is_stopping: bool,
}

/// It, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    Degraded,
    Warming,
    Leaving,
    Stalled,
}

impl Health {
    fn of(app: &App) -> Self {
        Self { condition: app.node.condition(), is_stopping: app.shutdown.has_begun() }
    }

    fn verdict(&self) -> Verdict {
        match self.condition.state {
            _ if self.condition.is_stalled => Verdict::Stalled,
            _ if self.is_stopping => Verdict::Leaving,
            NodeState::Leaving => Verdict::Leaving,
            NodeState::Warming => Verdict::Warming,
            NodeState::Ready if self.condition.knowledge == Knowledge::Unreached => Verdict::Warming,
            NodeState::Ready if self.is_bus_well() && self.condition.complete => Verdict::Ok,
            NodeState::Ready => Verdict::Degraded,
        }
    }

    fn is_bus_well(&self) -> bool {
        match self.condition.bus {
            BusHealth::None | BusHealth::Up => true,
            BusHealth::Deaf | BusHealth::Down => false,
        }
    }
}

impl std::fmt::Display for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Condition { state, complete, bus, knowledge, .. } = self.condition;
        let settles = if matches!(knowledge, Knowledge::Settling { .. }) { ", settling" } else { "" };
        let state = if knowledge == Knowledge::Unreached { NodeState::Warming } else { state };
        write!(f, "node: {}, bus: {}, complete: {complete}{settles}", state.as_str(), bus.as_str())
    }
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Warming => "warming",
            Self::Leaving => "leaving",
            Self::Stalled => "stalled",
        }
    }
}

fn stalled(health: &Health) -> Problem {
    Problem::new(Code::Stalled, format!("The node's task does not turn. {health}"))
}

fn is_verbose(mut query: Query) -> Result<bool, Problem> {
    let verbose = query.flag("verbose").unwrap_or_default();
    query.finish()?;
    Ok(verbose)
}

fn say(verdict: Verdict, health: Option<&Health>) -> Response {
    let word = verdict.as_str();
    let text = health.map_or_else(|| format!("{word}\n"), |health| format!("{word}\n{}\n", health.to_string().replace(", ", "\n")));
    ([(header::CONTENT_TYPE, PLAIN_TEXT), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], text).into_response()
}

impl From<NodeView> for Node {
    fn from(view: NodeView) -> Self {
        Self {
            name: view.life.node.to_string(),
            state: view.state.to_owned(),
            epoch: view.life.epoch.to_string(),
            http: view.http,
            heard_ms: view.heard_ms,
            settling_ms: view.settling_ms,
            seq: view.seq,
            lag: view.lag,
            digest: Hex(view.digest),
            view_digest: Hex(view.view_digest),
            instances: view.instances,
        }
    }
}

impl From<registry::Majority> for Majority {
    fn from(registry::Majority { members, heard, judges, why }: registry::Majority) -> Self {
        Self { members, heard, judges, why }
    }
}

/// By observer and origin. An observer may have logs of several lives of an origin: the present one is told.
fn applied(view: &ClusterView) -> BTreeMap<String, BTreeMap<String, Applied>> {
    let is_present = |applied: &AppliedAt| view.nodes.iter().any(|node| node.life == applied.life);
    let of_observer = |(observer, entries): &(NodeName, Vec<AppliedAt>)| {
        let (present, former): (Vec<_>, Vec<_>) = entries.iter().partition(|applied| is_present(applied));
        // Of two entries with one name the later stays: the present life.
        let by_origin = former.into_iter().chain(present).map(|applied| (applied.life.node.to_string(), Applied::from(applied)));
        (observer.to_string(), by_origin.collect())
    };
    view.applied.iter().map(of_observer).collect()
}

impl From<&AppliedAt> for Applied {
    fn from(applied: &AppliedAt) -> Self {
        Self { epoch: applied.life.epoch.to_string(), seq: applied.seq, age_ms: applied.age_ms }
    }
}
