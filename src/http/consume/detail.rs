//! Detail: everything known of one instance.

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;

use super::super::params::{InstancePath, NamespaceKey, ServicePath};
use super::{check_warm, json, not_known_yet};
use crate::api;
use crate::api::consume::{CheckDetail, Detail, Instance, LastLook, LeaseDetail, OverriddenDetail, StatusDetail};
use crate::http::App;
use crate::http::extract::PathNames;
use crate::http::problem::{Code, Problem};
use crate::http::query::Query;
use crate::model::{Cause, Check, CheckKind, Status, Ttl};
use crate::registry::{Body, Inspected, Looked, Mono, ProbeOutcome, Record, Seen};

/// Everything known of one instance.
#[utoipa::path(
    get,
    path = "/v1/services/{service}/instances/{id}",
    tag = "consume",
    operation_id = "getInstance",
    params(
        ServicePath,
        InstancePath,
        NamespaceKey,
    ),
    responses(
        (status = 200, description = "What this node and its owner know.", body = api::consume::Detail<'static>),
        (status = 400, description = "Something is wrong with the names or the query.", body = api::problem::Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such instance is listed.", body = api::problem::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The node does not know enough yet.", body = api::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn detail(State(app): State<App>, names: PathNames, mut query: Query) -> Result<Response, Problem> {
    let key = names.instance(&mut query);
    let key = query.finish_with(key)?;
    check_warm(&app)?;
    // What this node does not know there may be all the same.
    let knows_enough = app.node.condition().knowledge.is_enough();
    let inspected = app.node.inspect(key.clone()).await?;
    if let Some(response) = inspected.as_ref().and_then(|inspected| to_response(inspected, app.node.clock().mono())) {
        return Ok(response);
    }
    if !knows_enough {
        return Err(not_known_yet(&app, &format!("Nothing is known of instance `{}` of service `{}` yet", key.id, key.service.service)));
    }
    Err(Problem::new(Code::UnknownInstance, format!("No instance `{}` of service `{}` is listed.", key.id, key.service)))
}

/// `None`: it is gone.
fn to_response(inspected: &Inspected, now: Mono) -> Option<Response> {
    let record = &*inspected.record;
    let Body::Live { registration, seen, .. } = &record.body else { return None };
    let listed = &inspected.listed;
    let lease = inspected.lease.map(|lease| LeaseDetail {
        ttl_ms: registration.ttl().map(Ttl::ms),
        remaining_ms: registration.ttl().filter(|_| !lease.attached).map(|_| lease.remaining_ms),
        last_heartbeat_ms: lease.last_heartbeat_ms,
        attached: lease.attached,
        preserved: listed.cause == Cause::Preserved,
    });
    let detail = Detail {
        namespace: record.key.service.namespace.as_str().into(),
        service: record.key.service.service.as_str().into(),
        instance: Instance::from(listed),
        status: StatusDetail {
            effective: listed.status.as_str().into(),
            reported: registration.reported().as_str().into(),
            seen: seen_as(*seen).as_str().into(),
            overridden: inspected
                .overridden
                .as_ref()
                .map(|(status, by)| OverriddenDetail { status: status.as_str().into(), by: by.as_str().into() }),
        },
        owner_reachable: lease.is_none().then_some(false),
        lease,
        check: check(registration.check(), inspected.looked.as_ref(), now),
        owner: record.version.owner.node.as_str().into(),
        incarnation: record.version.incarnation.get(),
        edition: record.version.edition,
        generation: record.version.generation,
        cause: listed.cause.as_str().into(),
        note: record.detail.as_deref().map(Into::into),
        changed_at: changed_at(record),
    };
    Some(json(&detail))
}

fn seen_as(seen: Seen) -> Status {
    match seen {
        Seen::Well => Status::Up,
        Seen::Suspect => Status::Suspect,
        Seen::Down => Status::Down,
    }
}

/// Without a declared check nothing is looked at before it is late: then its port is.
fn check<'a>(check: Option<&'a Check>, looked: Option<&Looked>, now: Mono) -> Option<CheckDetail<'a>> {
    let number = |ms: u64| u32::try_from(ms).unwrap_or(u32::MAX);
    let implicit = looked.map(|looked| ("tcp", None, None, number(looked.interval_ms), number(looked.timeout_ms)));
    let declared = check.map(|check| {
        let (kind, path, port) = match &check.kind {
            CheckKind::Http { path, port } => ("http", Some(path.as_str().into()), *port),
            CheckKind::Tcp { port } => ("tcp", None, *port),
            CheckKind::Grpc { port } => ("grpc", None, *port),
            CheckKind::None => ("none", None, None),
        };
        (kind, path, port, check.interval_ms, check.timeout_ms)
    });
    let (kind, path, port, interval_ms, timeout_ms) = declared.or(implicit)?;
    Some(CheckDetail {
        kind: kind.into(),
        path,
        port,
        interval_ms,
        timeout_ms,
        last: looked.and_then(|looked| looked.last.as_ref()).map(|(at, outcome)| last_look(outcome, now.saturating_sub(*at))),
        successes: looked.map(|looked| looked.successes),
        failures: looked.map(|looked| looked.failures),
    })
}

fn last_look(outcome: &ProbeOutcome, ago_ms: u64) -> LastLook {
    let nothing = LastLook { ok: false, ago_ms, code: None, took_ms: None, why: None };
    match outcome {
        ProbeOutcome::Passed { code, took_ms } => LastLook { ok: true, code: *code, took_ms: Some(*took_ms), ..nothing },
        ProbeOutcome::Failed { code, .. } => LastLook { code: *code, why: Some(outcome.to_words().to_string()), ..nothing },
        ProbeOutcome::Refused | ProbeOutcome::Forbidden { .. } | ProbeOutcome::NotTried => {
            LastLook { why: Some(outcome.to_words().to_string()), ..nothing }
        }
    }
}

/// RFC 3339, to the millisecond. A clock beyond what can be written is shown as the beginning of time.
fn changed_at(record: &Record) -> String {
    let at = i64::try_from(record.changed_at).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", at.unwrap_or(Timestamp::UNIX_EPOCH))
}
