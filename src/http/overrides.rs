//! Overrides: operators say what instances are to be listed as, whatever their providers and the registry say.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::actor::Actor;
use super::body::{self, Limits};
use super::consume::page::namespaces;
use super::extract::PathNames;
use super::fault::Faults;
use super::params::{NamespaceKey, OverridePath};
use super::problem::{Code, Problem};
use super::query::Query;
use super::said::OverrideSaid;
use crate::api::overrides::{self, Override, Overrides};
use crate::api::problem::Problem as ProblemBody;
use crate::model::{self, Imposed, InstanceId, OverrideKey, Selection, ServiceName};
use crate::registry::{self, SetOverride};

/// Bytes of a selection that stand for themselves.
const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':').remove(b'@').remove(b'/').remove(b',');

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get, put, delete))
}

/// List the overrides that hold
#[utoipa::path(
    get, path = "/v1/overrides", tag = "operate", operation_id = "listOverrides",
    params(("namespace" = Option<String>, Query, description = "Default: `default`; `*`: all.")),
    responses(
        (status = 200, description = "In the order of namespace and name", body = Overrides<'static>),
        (status = "default", description = "Not answered", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn list(State(app): State<App>, mut query: Query) -> Result<Response, Problem> {
    let namespace = namespaces(&mut query);
    query.finish()?;
    answer(&app, move |picture| {
        let wanted = picture.iter().filter(|(key, _, _)| namespace.as_ref().is_none_or(|namespace| key.namespace == *namespace));
        let overrides = wanted.map(|(key, value, expires_in_ms)| shape(picture, key, value, expires_in_ms)).collect();
        Some(body::json(StatusCode::OK, &Overrides { overrides }))
    })
    .await
}

/// One override
#[utoipa::path(
    get, path = "/v1/overrides/{name}", tag = "operate", operation_id = "getOverride",
    params(OverridePath, NamespaceKey),
    responses(
        (status = 200, description = "It holds", body = Override<'static>),
        (status = "default", description = "Not answered; 404 `unknown_override`: none of this name holds", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn get(State(app): State<App>, names: PathNames, mut query: Query) -> Result<Response, Problem> {
    let key = names.override_key(&mut query);
    let key = query.finish_with(key)?;
    answer(&app, move |picture| {
        let (key, value, expires_in_ms) = picture.iter().find(|(other, _, _)| **other == key)?;
        Some(body::json(StatusCode::OK, &shape(picture, key, value, expires_in_ms)))
    })
    .await
}

/// Set an override, in the place of one of this name
///
/// It holds for instances that are there and for those that come later, and no reconnect, restart or re-registration clears it.
/// Of several the narrower wins, key by key: instance, selection, service, namespace; among equals the later.
#[utoipa::path(
    put, path = "/v1/overrides/{name}", tag = "operate", operation_id = "setOverride",
    params(OverridePath, NamespaceKey),
    request_body = overrides::SetOverride,
    responses(
        (status = 200, description = "Replaced", body = Override<'static>),
        (status = 201, description = "None of this name held", body = Override<'static>),
        (status = "default", description = "Refused; nothing was changed", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn put(State(app): State<App>, names: PathNames, mut query: Query, request: Request) -> Result<Response, Problem> {
    let key = names.override_key(&mut query);
    let author = Actor::of(request.headers(), request.extensions()).0.map(|actor| actor.to_string());
    let body = body::read(request, Limits::of_one(&app)).await?;
    let mut faults = Faults::default();
    let said = OverrideSaid::read(&body, &mut faults)?.into_override(author, app.node.clock().wall(), &mut faults);
    query.add(faults);
    let (key, (value, expires_in_ms)) = query.finish_with(key.zip(said))?;
    let set = SetOverride { key: key.clone(), value: value.clone(), expires_in_ms };
    let status = if app.node.set_override(set).await? { StatusCode::CREATED } else { StatusCode::OK };
    answer(&app, move |picture| Some(body::json(status, &shape(picture, &key, &value, expires_in_ms)))).await
}

/// End an override
#[utoipa::path(
    delete, path = "/v1/overrides/{name}", tag = "operate", operation_id = "deleteOverride",
    params(OverridePath, NamespaceKey),
    responses(
        (status = 204, description = "It holds no more"),
        (status = "default", description = "Refused; 404 `unknown_override`: none of this name held", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn delete(State(app): State<App>, names: PathNames, mut query: Query) -> Result<Response, Problem> {
    let key = names.override_key(&mut query);
    let key = query.finish_with(key)?;
    app.node.delete_override(key).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Answers with what is found in a picture of all overrides; `None`: there is no such one.
///
/// Counting what each is about may take a look at every instance: it is done where it holds up nobody.
async fn answer(app: &App, find: impl FnOnce(&registry::Overrides) -> Option<Response> + Send + 'static) -> Result<Response, Problem> {
    let picture = app.node.overrides().await?;
    let found = tokio::task::spawn_blocking(move || find(&picture)).await;
    found
        .map_err(|_| Problem::new(Code::Internal, "The overrides could not be read."))?
        .ok_or_else(|| Problem::new(Code::UnknownOverride, "No override of this name holds."))
}

fn shape<'a>(picture: &registry::Overrides, key: &'a OverrideKey, value: &'a model::Override, expires_in_ms: Option<u64>) -> Override<'a> {
    let parts = value.parts();
    Override {
        namespace: key.namespace.as_str().into(),
        name: key.name.as_str().into(),
        service: parts.service.as_ref().map(ServiceName::as_str).map(Into::into),
        id: parts.id.as_ref().map(InstanceId::as_str).map(Into::into),
        select: parts.select.as_ref().map(spelled),
        status: parts.status.map(Imposed::as_str).map(Into::into),
        weight: parts.weight,
        metadata: std::borrow::Cow::Borrowed(&parts.metadata),
        evict_after_ms: parts.evict_after_ms,
        preserve: parts.preserve,
        reason: parts.reason.as_str().into(),
        author: parts.author.as_deref().map(Into::into),
        created_at: when(parts.created_at),
        expires_in_ms,
        matches: picture.matches(key, value),
    }
}

/// A selection as queries spell it.
fn spelled(selection: &Selection) -> String {
    let pairs = selection.to_pairs();
    pairs
        .iter()
        .map(|(key, value)| format!("{}={}", utf8_percent_encode(key, PLAIN), utf8_percent_encode(value, PLAIN)))
        .collect::<Vec<_>>()
        .join("&")
}

/// RFC 3339, to the millisecond. A clock beyond what can be written is shown as the beginning of time.
fn when(ms: u64) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", at.unwrap_or(Timestamp::UNIX_EPOCH))
}
