//! Pages: how long answers are cut into parts that are each asked for with the last key of the one before.

use crate::http::problem::{Fault, FaultCode};
use crate::http::query::Query;
use crate::model::{Namespace, ServiceKey, ServiceName};

/// How many entries one answer may have.
pub(in crate::http) const LIMIT_MAX: u64 = 10_000;
/// How many it has where nobody said.
const LIMIT_DEFAULT: usize = 1000;

/// `limit=`; `None`: nobody said.
pub(super) fn limit(query: &mut Query) -> Option<usize> {
    query.number("limit", 1..=LIMIT_MAX).map(|limit| limit as usize)
}

/// `limit=`, or the usual number.
pub(super) fn limit_or_default(query: &mut Query) -> usize {
    limit(query).unwrap_or(LIMIT_DEFAULT)
}

/// `namespace=`; `None`: `*`, all of them.
pub(in crate::http) fn namespaces(query: &mut Query) -> Option<Namespace> {
    let Some(text) = query.one("namespace") else { return Some(Namespace::default()) };
    if text == "*" {
        return None;
    }
    Some(text.parse().unwrap_or_else(|error| {
        query.add([Fault::name("namespace", &error)]);
        Namespace::default()
    }))
}

/// The first service a namespace can have, in the order of names.
pub(super) fn first_of(namespace: Namespace) -> ServiceKey {
    ServiceKey { namespace, service: ServiceName::parse("0").expect("unreachable: a digit is a service's name") }
}

/// `NAMESPACE/SERVICE`, or `SERVICE` where the namespace is known.
pub(super) fn service_key(text: &str, namespace: Option<&Namespace>) -> Option<ServiceKey> {
    match (text.split_once('/'), namespace) {
        (Some((namespace, service)), _) => Some(ServiceKey { namespace: namespace.parse().ok()?, service: service.parse().ok()? }),
        (None, Some(namespace)) => Some(ServiceKey { namespace: namespace.clone(), service: text.parse().ok()? }),
        (None, None) => None,
    }
}

/// `after=`, read by `parse`.
pub(in crate::http) fn after<T>(query: &mut Query, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    let text = query.one("after")?;
    let parsed = parse(&text);
    if parsed.is_none() {
        query.fault("after", FaultCode::InvalidValue, "must be the `next` of an answer");
    }
    parsed
}
