//! Batches: many writes in one request, each with its own result, in order; one that fails leaves the others.

use std::collections::HashSet;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::actor::Actor;
use super::body::{self, Limits};
use super::extract::Arrived;
use super::fault::{FAULTS_MAX, Fault, FaultCode, Faults};
use super::params::AckKeys;
use super::problem::Problem;
use super::provide::{missed, status_of, to_heartbeat, to_register};
use super::query::Query;
use super::said::{self, Bounded, Fields, OpWord, Said, Text};
use super::write::Write;
use crate::api::Hex;
use crate::api::problem::Problem as ProblemBody;
use crate::api::provide::{Batch, BatchAnswer, OpResult};
use crate::model::{Incarnation, InstanceKey, ServiceKey};
use crate::registry::{Deregister, Heartbeat, Register};

/// How many operations a batch may have.
pub(super) const OPS_MAX: usize = 10_000;
/// How many faults of one operation are told, so that an answer is not many times its request.
const OP_FAULTS_MAX: usize = 8;
/// How many of them may wait for the node at a time, so that one batch leaves room in its queue for others.
const AT_A_TIME: usize = 1024;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(batch))
}

/// Do up to 10,000 writes
///
/// Each gets its own result, in order; one that fails leaves the others. Those about one instance are done one after the other.
#[utoipa::path(
    post, path = "/v1/batch", tag = "provide", operation_id = "batch",
    params(
        AckKeys,
    ),
    request_body = Batch,
    responses(
        (status = 200, description = "What became of each", body = BatchAnswer<'static>),
        (status = "default", description = "Refused whole; nothing was changed", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn batch(
    Arrived(at): Arrived,
    State(app): State<App>,
    actor: Actor,
    mut query: Query,
    request: Request,
) -> Result<Response, Problem> {
    let write = Write::read(&mut query, at);
    let body = body::read(request, Limits::of_batch(&app)).await?;
    let mut faults = Faults::default();
    let ops = read_ops(&body, &mut faults)?;
    query.add(faults);
    let ops = query.finish_with(ops)?;
    let ops = ops.into_iter().map(|op| op.and_then(|said| to_op(&app, &actor, said, write))).collect();
    let results = perform(&app, ops, write).await;
    Ok(body::json(StatusCode::OK, &BatchAnswer { results }))
}

/// One operation, read and valid.
enum Op {
    Register(Box<Register>),
    Heartbeat(Heartbeat),
    Deregister(Deregister),
}

/// An operation, or why it is none.
type Ready<T> = Result<T, Problem>;

impl Op {
    fn key(&self) -> &InstanceKey {
        match self {
            Self::Register(register) => &register.key,
            Self::Heartbeat(heartbeat) => &heartbeat.key,
            Self::Deregister(deregister) => &deregister.key,
        }
    }
}

/// Reads the operations: in one pass when all is well; else each by itself, so that one that is wrong leaves the others.
/// `None`: there are no operations to be had, and the faults say why.
fn read_ops(body: &[u8], faults: &mut Faults) -> Result<Option<Vec<Ready<Said>>>, Problem> {
    let body = if body.is_empty() { b"{}" } else { body };
    if let Ok(BatchSaid { ops: Bounded(ops) }) = serde_json::from_slice::<BatchSaid<Said>>(body) {
        return Ok(Some(ops.into_iter().map(Ok).collect()));
    }
    let repeated = said::repeated(body)?;
    // There may be more of them than are told, in any operation.
    if repeated.len() >= FAULTS_MAX {
        return Err(Problem::invalid(repeated));
    }
    match serde_json::from_slice::<BatchSaid<Value>>(body) {
        Ok(BatchSaid { ops: Bounded(trees) }) => {
            Ok(Some(trees.iter().enumerate().map(|(index, tree)| read_op(tree, within(&repeated, index))).collect()))
        }
        Err(error) if error.is_data() => {
            faults.push(Fault::pointer("", FaultCode::InvalidValue, format!("the body must be {{\"ops\": [...]}}: {error}")));
            Ok(None)
        }
        Err(_) => said::tree(body).map(|_| None),
    }
}

/// Those faults that are within one operation, with their places there.
fn within(faults: &[Fault], index: usize) -> Faults {
    let at = format!("/ops/{index}/");
    let inside = |fault: &Fault| {
        let pointer = fault.pointer.as_deref()?.strip_prefix(&at)?;
        Some(Fault { pointer: Some(format!("/{pointer}")), ..fault.clone() })
    };
    let mut found = Faults::default();
    found.extend(faults.iter().filter_map(inside));
    found
}

fn read_op(tree: &Value, mut faults: Faults) -> Ready<Said> {
    let op = tree.get("op").and_then(|op| OpWord::deserialize(op).ok());
    let allowed = op.map_or(Fields::OP, fields_of);
    let said = Said::diagnose(tree, allowed, "", &mut faults);
    Problem::unless_empty(faults).map(|()| said)
}

fn fields_of(op: OpWord) -> Fields {
    match op {
        OpWord::Register => Fields::OP_REGISTER,
        OpWord::Heartbeat => Fields::OP_HEARTBEAT,
        OpWord::Deregister => Fields::OP_DEREGISTER,
    }
}

fn to_op(app: &App, Actor(actor): &Actor, mut said: Said, write: Write) -> Ready<Op> {
    let mut faults = Faults::default();
    let op = said::needed(said.op, "op", "", &mut faults);
    let key = to_key(&mut said, &mut faults);
    if let Some(stray) = op.and_then(|op| said.stray(fields_of(op), "")) {
        faults.push(stray);
    }
    let op = match op {
        Some(OpWord::Register) => said
            .take_registration(&app.config.leases, "", &mut faults)
            .zip(key)
            .map(|(registration, key)| Register { actor: actor.clone(), ..to_register(key, registration, &said, false, write) })
            .map(|register| Op::Register(Box::new(register))),
        Some(OpWord::Heartbeat) => key.map(|key| Op::Heartbeat(to_heartbeat(key, &said, write.at))),
        Some(OpWord::Deregister) => key.map(|key| {
            let incarnation: Option<Incarnation> = said.incarnation.map(|life| life.0);
            Op::Deregister(Deregister { key, incarnation, actor: actor.clone(), ack: write.ack() })
        }),
        None => None,
    };
    Problem::unless_empty(faults)?;
    op.ok_or_else(Problem::unexplained)
}

fn to_key(said: &mut Said, faults: &mut Faults) -> Option<InstanceKey> {
    let namespace = said.namespace.take().map(|Text(namespace)| namespace).unwrap_or_default();
    let service = said::needed(said.service.take(), "service", "", faults);
    let id = said::needed(said.id.take(), "id", "", faults);
    let (Text(service), Text(id)) = service.zip(id)?;
    Some(InstanceKey { service: ServiceKey { namespace, service }, id })
}

/// Does them all. Those about different instances go to the node together; one about an instance that is under way waits for it.
async fn perform(app: &App, ops: Vec<Ready<Op>>, write: Write) -> Vec<OpResult<'static>> {
    let mut results = Vec::with_capacity(ops.len());
    let mut wave = Vec::new();
    let mut under_way = HashSet::new();
    for op in ops {
        if let Ok(op) = &op
            && !under_way.insert(op.key().clone())
        {
            results.extend(perform_wave(app, std::mem::take(&mut wave), write).await);
            under_way = HashSet::from([op.key().clone()]);
        }
        wave.push(op);
    }
    results.extend(perform_wave(app, wave, write).await);
    results
}

async fn perform_wave(app: &App, wave: Vec<Ready<Op>>, write: Write) -> Vec<OpResult<'static>> {
    stream::iter(wave).map(|op| perform_one(app, op, write)).buffered(AT_A_TIME).collect().await
}

async fn perform_one(app: &App, op: Ready<Op>, write: Write) -> OpResult<'static> {
    let done = match op {
        Ok(Op::Register(register)) => app.node.register(*register).await.map(|registered| OpResult {
            status: status_of(&registered, write.asked).as_u16(),
            incarnation: Some(registered.incarnation.get()),
            digest: Some(Hex(registered.digest)),
            renew_every_ms: registered.renew_every_ms,
            ack: missed(registered.ack.as_ref(), write.asked),
            ..OpResult::default()
        }),
        Ok(Op::Heartbeat(heartbeat)) => app.node.heartbeat(heartbeat).await.map(|renewed| OpResult {
            status: StatusCode::OK.as_u16(),
            incarnation: Some(renewed.incarnation.get()),
            renew_every_ms: renewed.renew_every_ms,
            ..OpResult::default()
        }),
        Ok(Op::Deregister(deregister)) => app.node.deregister(deregister).await.map(|report| {
            let ack = missed(report.as_ref(), write.asked);
            let status = if ack.is_some() { StatusCode::ACCEPTED } else { StatusCode::NO_CONTENT };
            OpResult { status: status.as_u16(), ack, ..OpResult::default() }
        }),
        Err(problem) => return to_result(&problem),
    };
    done.unwrap_or_else(|refused| to_result(&refused.into()))
}

fn to_result(problem: &Problem) -> OpResult<'static> {
    OpResult {
        status: problem.code().status().as_u16(),
        code: Some(problem.code().as_str().into()),
        detail: Some(problem.detail().to_owned().into()),
        incarnation: problem.incarnation().map(Incarnation::get),
        errors: problem.errors().iter().take(OP_FAULTS_MAX).cloned().collect(),
        ..OpResult::default()
    }
}

/// The body, its operations read as `T`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchSaid<T> {
    ops: Bounded<T, OPS_MAX>,
}
