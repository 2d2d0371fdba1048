//! Providing: an instance registers, sends heartbeats, and is taken away.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::App;
use super::actor::Actor;
use super::body::{self, Limits};
use super::extract::{Arrived, PathNames};
use super::fault::Faults;
use super::params::{AckKeys, InstancePath, NamespaceKey, ServicePath};
use super::problem::Problem;
use super::query::Query;
use super::said::{Fields, Said};
use super::write::{Asked, Write};
use crate::api::problem::Problem as ProblemBody;
use crate::api::provide::{self, Deregistered, Heartbeat as HeartbeatBody, Lease, Registered, Registration, Renewed};
use crate::api::{Hex, consume::Instance};
use crate::model::{INCARNATION_NAMED_MAX, Incarnation, InstanceId, InstanceKey, Registration as ValidRegistration, Reported};
use crate::registry::{self, AckReport, Deregister, Heartbeat, Register};

/// Bytes that stand for themselves in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':').remove(b'@');

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(put, deregister)).routes(routes!(post)).routes(routes!(heartbeat))
}

/// Register an instance, or say something else of it
///
/// Replaces the whole registration: what is absent has its default. Sent again unchanged it is a heartbeat.
#[utoipa::path(
    put, path = "/v1/services/{service}/instances/{id}", tag = "provide", operation_id = "register",
    params(
        ServicePath,
        InstancePath,
        NamespaceKey,
        ("takeover" = Option<bool>, Query, description = "Register as a life above whatever is known"),
        AckKeys,
    ),
    request_body = Registration,
    responses(
        (status = 200, description = "Updated or renewed; also when nothing changed", body = Registered<'static>),
        (status = 201, description = "No live record was known", body = Registered<'static>),
        (status = 202, description = "Done here; `ack` says who has it", body = Registered<'static>),
        (status = "default", description = "Refused; nothing was changed", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn put(
    Arrived(at): Arrived,
    State(app): State<App>,
    names: PathNames,
    mut query: Query,
    request: Request,
) -> Result<Response, Problem> {
    let key = names.instance(&mut query);
    let (register, write) = read_register(&app, at, query, request, key).await?;
    let key = register.key.clone();
    let registered = app.node.register(register).await?;
    Ok(answer_registered(&key, &registered, write))
}

/// Register an instance under an id that the registry makes
///
/// `Location` names it.
#[utoipa::path(
    post, path = "/v1/services/{service}/instances", tag = "provide", operation_id = "registerNew",
    params(
        ServicePath,
        NamespaceKey,
        ("takeover" = Option<bool>, Query, description = "Register as a life above whatever is known"),
        AckKeys,
    ),
    request_body = Registration,
    responses(
        (status = 201, description = "Registered", body = Registered<'static>, headers(("location" = String, description = "Where it is"))),
        (status = 202, description = "Done here; `ack` says who has it", body = Registered<'static>),
        (status = "default", description = "Refused; nothing was changed", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn post(
    Arrived(at): Arrived,
    State(app): State<App>,
    names: PathNames,
    mut query: Query,
    request: Request,
) -> Result<Response, Problem> {
    let key = names.service(&mut query).map(|service| InstanceKey { service, id: new_id() });
    let (register, write) = read_register(&app, at, query, request, key).await?;
    let key = register.key.clone();
    let registered = app.node.register(register).await?;
    let mut response = answer_registered(&key, &registered, write);
    response.headers_mut().insert(header::LOCATION, location(&key));
    Ok(response)
}

/// Renew a lease
///
/// Any node takes it. 404 `unknown_lease`: register again.
#[utoipa::path(
    post, path = "/v1/services/{service}/instances/{id}/heartbeat", tag = "provide", operation_id = "heartbeat",
    params(
        ServicePath,
        InstancePath,
        NamespaceKey,
    ),
    request_body(content = Option<HeartbeatBody>, description = "May be left out"),
    responses(
        (status = 200, description = "Renewed; at a node that is not the owner: relayed", body = Renewed<'static>),
        (status = "default", description = "Not renewed", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn heartbeat(
    Arrived(at): Arrived,
    State(app): State<App>,
    names: PathNames,
    mut query: Query,
    request: Request,
) -> Result<Response, Problem> {
    let key = names.instance(&mut query);
    let body = body::read(request, Limits::of_one(&app)).await?;
    let mut faults = Faults::default();
    let said = Said::read(&body, Fields::HEARTBEAT, &mut faults)?;
    query.add(faults);
    let key = query.finish_with(key)?;
    let renewed = app.node.heartbeat(to_heartbeat(key, &said, at)).await?;
    Ok(body::json(StatusCode::OK, &Renewed::from(&renewed)))
}

/// Take an instance away
///
/// Also when it is gone already. It may be done at any node.
#[utoipa::path(
    delete, path = "/v1/services/{service}/instances/{id}", tag = "provide", operation_id = "deregister",
    params(
        ServicePath,
        InstancePath,
        NamespaceKey,
        ("incarnation" = Option<u64>, Query, minimum = 1, maximum = 9_007_199_254_740_991_u64, description = "Which life is meant: a newer one stays"),
        AckKeys,
    ),
    responses(
        (status = 202, description = "Done here; `ack` says who has it", body = Deregistered),
        (status = 204, description = "It is gone"),
        (status = "default", description = "Refused; nothing was changed", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn deregister(
    Arrived(at): Arrived,
    State(app): State<App>,
    Actor(actor): Actor,
    names: PathNames,
    mut query: Query,
) -> Result<Response, Problem> {
    let key = names.instance(&mut query);
    let incarnation = query.number("incarnation", 1..=INCARNATION_NAMED_MAX).and_then(Incarnation::named);
    let write = Write::read(&mut query, at);
    let key = query.finish_with(key)?;
    let ack = app.node.deregister(Deregister { key, incarnation, actor, ack: write.ack() }).await?;
    Ok(match missed(ack.as_ref(), write.asked) {
        Some(ack) => body::json(StatusCode::ACCEPTED, &Deregistered { ack }),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// Reads the rest of a registration's request, whose path has named the instance already.
async fn read_register(
    app: &App,
    at: registry::Mono,
    mut query: Query,
    request: Request,
    key: Option<InstanceKey>,
) -> Result<(Register, Write), Problem> {
    let write = Write::read(&mut query, at);
    let takeover = query.flag("takeover").unwrap_or_default();
    let Actor(actor) = Actor::of(request.headers(), request.extensions());
    let body = body::read(request, Limits::of_one(app)).await?;
    let mut faults = Faults::default();
    let mut said = Said::read(&body, Fields::REGISTER, &mut faults)?;
    let registration = said.take_registration(&app.config.leases, "", &mut faults);
    query.add(faults);
    let (key, registration) = query.finish_with(key.zip(registration))?;
    Ok((Register { actor, ..to_register(key, registration, &said, takeover, write) }, write))
}

/// A registration for the node; who asks is to be said by whoever knows.
pub(super) fn to_register(key: InstanceKey, registration: Arc<ValidRegistration>, said: &Said, takeover: bool, write: Write) -> Register {
    let says_up = said.status.as_ref().is_some_and(|status| status.0 == Reported::Up);
    let incarnation = said.incarnation.map(|life| life.0);
    Register { key, registration, incarnation, takeover, says_up, attaches: false, actor: None, ack: write.ack(), at: write.at }
}

/// A heartbeat for the node.
pub(super) fn to_heartbeat(key: InstanceKey, said: &Said, at: registry::Mono) -> Heartbeat {
    Heartbeat {
        key,
        incarnation: said.incarnation.map(|life| life.0),
        digest: said.digest.map(|digest| digest.0),
        reported: said.status.as_ref().map(|status| status.0),
        at,
    }
}

/// 201 for a new one, 200 for a known one, 202 when fewer have it than was asked for.
pub(super) fn status_of(registered: &registry::Registered, asked: Asked) -> StatusCode {
    match (missed(registered.ack.as_ref(), asked), registered.created) {
        (Some(_), _) => StatusCode::ACCEPTED,
        (None, true) => StatusCode::CREATED,
        (None, false) => StatusCode::OK,
    }
}

/// Who has a write, when fewer do than was asked for.
pub(super) fn missed(report: Option<&AckReport>, asked: Asked) -> Option<provide::Ack> {
    let report = report.filter(|report| !report.met)?;
    let names = |nodes: &[crate::model::NodeName]| nodes.iter().map(ToString::to_string).collect();
    Some(provide::Ack { asked: asked.as_str().to_owned(), applied: names(&report.applied), missing: names(&report.missing) })
}

fn answer_registered(key: &InstanceKey, registered: &registry::Registered, write: Write) -> Response {
    let shape = Registered {
        namespace: key.service.namespace.as_str().into(),
        service: key.service.service.as_str().into(),
        id: key.id.as_str().into(),
        incarnation: registered.incarnation.get(),
        digest: Hex(registered.digest),
        owner: registered.owner.as_str().into(),
        revision: Hex(registered.revision),
        lease: Lease { ttl_ms: registered.ttl_ms, renew_every_ms: registered.renew_every_ms, attached: registered.attached },
        instance: Instance::from(&registered.listed),
        ack: missed(registered.ack.as_ref(), write.asked),
    };
    body::json(status_of(registered, write.asked), &shape)
}

impl<'a> From<&'a registry::Renewed> for Renewed<'a> {
    fn from(renewed: &'a registry::Renewed) -> Self {
        Self {
            renew_every_ms: renewed.renew_every_ms,
            owner: renewed.owner.as_str().into(),
            incarnation: renewed.incarnation.get(),
            status: renewed.status.as_str().into(),
        }
    }
}

fn new_id() -> InstanceId {
    InstanceId::parse(&Uuid::now_v7().to_string()).expect("unreachable: hex digits and hyphens are an instance's id")
}

fn location(key: &InstanceKey) -> HeaderValue {
    let namespace = key.service.namespace.as_str();
    let service = utf8_percent_encode(key.service.service.as_str(), SEGMENT);
    let id = utf8_percent_encode(key.id.as_str(), SEGMENT);
    let query = if key.service.namespace == crate::model::Namespace::default() { String::new() } else { format!("?namespace={namespace}") };
    HeaderValue::try_from(format!("/v1/services/{service}/instances/{id}{query}")).expect("unreachable: names are ASCII, and encoded")
}
