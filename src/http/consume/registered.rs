//! Registrations, as their providers said them: what lists do not show, for whoever carries instances to another cluster.

use crate::api::provide::{Check, Registration, Span};
use crate::http::App;
use crate::http::problem::Problem;
use crate::model::{self, CheckKind, InstanceKey, Reported, WEIGHT_DEFAULT};

/// How many records one question to the node asks for, so that others get their turn.
const KEYS_MAX: usize = 1000;

/// The registrations of these instances with their incarnations, in order; `None`: it has gone meanwhile.
pub(super) async fn registrations(app: &App, keys: Vec<InstanceKey>) -> Result<Vec<Option<Registration>>, Problem> {
    let mut registrations = Vec::with_capacity(keys.len());
    for keys in keys.chunks(KEYS_MAX) {
        let records = app.node.records(keys.to_vec()).await?;
        let said = |record: &crate::registry::Record| Some(to_said(record.registration()?, record.version.incarnation.get()));
        registrations.extend(records.iter().map(|record| record.as_deref().and_then(said)));
    }
    Ok(registrations)
}

/// As the API takes it; what has its default is left out, but for the ttl, whose default each node has for itself.
fn to_said(registration: &model::Registration, incarnation: u64) -> Registration {
    Registration {
        address: registration.address().to_string(),
        port: registration.port().get(),
        ports: registration.ports().iter().map(|(name, port)| (name.clone(), port.get())).collect(),
        weight: Some(registration.weight()).filter(|weight| *weight != WEIGHT_DEFAULT),
        region: registration.region().map(ToString::to_string),
        zone: registration.zone().map(ToString::to_string),
        tags: registration.tags().clone(),
        metadata: registration.metadata().clone(),
        status: Some(registration.reported()).filter(|reported| *reported != Reported::Up).map(|reported| reported.as_str().to_owned()),
        ttl: Some(registration.ttl().map_or_else(|| Span::Text("none".to_owned()), |ttl| Span::Ms(ttl.ms()))),
        incarnation: Some(incarnation),
        evict_after: registration.evict_after_ms().map(|ms| Span::Ms(u64::from(ms))),
        check: registration.check().map(check),
    }
}

fn check(check: &model::Check) -> Check {
    let (kind, path, port) = match &check.kind {
        CheckKind::Http { path, port } => ("http", Some(path.clone()), *port),
        CheckKind::Tcp { port } => ("tcp", None, *port),
        CheckKind::Grpc { port } => ("grpc", None, *port),
        CheckKind::None => ("none", None, None),
    };
    Check {
        kind: kind.to_owned(),
        path,
        port: port.map(model::Port::get),
        interval: Some(Span::Ms(u64::from(check.interval_ms))),
        timeout: Some(Span::Ms(u64::from(check.timeout_ms))),
        failures: Some(check.failures),
        successes: Some(check.successes),
    }
}
