//! Attaching: `POST /v1/attach` registers instances and holds their leases for as long as the connection is open.
//!
//! hyper lets go of the answer's body when the connection ends, reset or closed in one direction alike: a process that was killed closes its
//! end, and cannot be told from one that has merely said all it wants to say. What the body holds goes with it, and the node hears of that.

mod holding;
mod members;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::stream::unfold;
use tokio::sync::OwnedSemaphorePermit;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::actor::Actor;
use super::body::{self, Limits};
use super::extract::Arrived;
use super::fault::Faults;
use super::problem::{Code, Problem};
use super::query::Query;
use super::watch;
use super::write::Write;
use crate::api::attach::{Attach, AttachEvent};
use crate::api::problem::Problem as ProblemBody;
use crate::model::InstanceKey;
use crate::registry::Register;
use holding::Holding;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(attach))
}

/// Register instances and hold them by this connection
///
/// The body is one instance, or `{"instances": [...]}`, of which all are registered or none. The answer is a stream of server-sent events:
/// `registered` first, `ping` every 10 s, `deregistered` when somebody deregistered one of them, and `goodbye` when the node leaves: attach
/// at another one. While the connection is open no heartbeats are needed; once it has closed its instances are `suspect` at once.
#[utoipa::path(
    post, path = "/v1/attach", tag = "provide", operation_id = "attach",
    params(
        ("takeover" = Option<bool>, Query, description = "Register as lives above whatever is known"),
    ),
    request_body = Attach,
    responses(
        (status = 200, description = "The stream", content_type = "text/event-stream", body = AttachEvent),
        (status = 503, description = "The node is leaving, or has as many such connections as it takes; nothing was changed", body = ProblemBody, content_type = "application/problem+json"),
        (status = "default", description = "Refused whole; nothing was changed", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn attach(Arrived(at): Arrived, State(app): State<App>, mut query: Query, request: Request) -> Result<Response, Problem> {
    let takeover = query.flag("takeover").unwrap_or_default();
    let Actor(actor) = Actor::of(request.headers(), request.extensions());
    let body = body::read(request, Limits::of_batch(&app)).await?;
    let mut faults = Faults::default();
    let registers = members::read(&body, &app.config.leases, takeover, Write::local(at), &mut faults)?;
    query.add(faults);
    query.finish()?;
    let place = place(&app)?;
    let order: Vec<InstanceKey> = registers.iter().map(|register| register.key.clone()).collect();
    let members: BTreeMap<InstanceKey, Register> =
        registers.into_iter().map(|register| (register.key.clone(), Register { actor: actor.clone(), ..register })).collect();
    let keys: Vec<InstanceKey> = members.keys().cloned().collect();
    let (registered, attachment) = app.node.attach(members).await?;
    let registered = keys.into_iter().zip(registered).collect();
    let holding = Holding::new(&app, &order, &registered, attachment, place);
    let stream = unfold(holding, async |mut holding| {
        let bytes = holding.next().await?;
        Some((Ok::<_, Infallible>(bytes), holding))
    });
    Ok(watch::answer(Body::from_stream(stream)))
}

/// A place among the connections that hold leases.
fn place(app: &App) -> Result<OwnedSemaphorePermit, Problem> {
    Arc::clone(&app.attachments).try_acquire_owned().map_err(|_| {
        app.metrics.streams_refused.increment(1);
        let max = app.config.leases.attachments_max;
        let detail = format!(
            "{max} connections hold leases here, as many as `leases.attachments_max` allows; nothing was changed. Ask another, or send heartbeats."
        );
        Problem::new(Code::Overloaded, detail).with_key("leases.attachments_max")
    })
}
