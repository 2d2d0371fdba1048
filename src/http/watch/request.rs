//! What a watch asks for: which services, under which selection, and what the consumer holds of them already.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::HeaderMap;

use crate::api::Hex;
use crate::http::problem::{Fault, FaultCode, Problem};
use crate::http::query::Query;
use crate::http::select::selection;
use crate::model::{Namespace, Selection, ServiceKey, ServiceName};
use crate::registry::INTEREST_PREFIXES_MAX;

/// How many services one stream may name.
const NAMES_MAX: usize = 1000;
/// How long a prefix, a subscriber's name or a last event's id may be.
pub(super) const TEXT_BYTES_MAX: usize = 128;

/// A watch, as it was asked for.
#[derive(Debug)]
pub(super) struct Request {
    /// Where the services are.
    pub(super) namespace: Namespace,
    /// Which of their instances are meant.
    pub(super) selection: Selection,
    /// The services that are named.
    pub(super) names: BTreeSet<ServiceName>,
    /// Whole families of services: `service=*` is the empty prefix. Those that appear later are sent too.
    pub(super) prefixes: Vec<String>,
    /// The revision that the consumer holds of a service.
    pub(super) held: BTreeMap<ServiceName, u128>,
    /// The last event that the consumer saw.
    pub(super) last_event: LastEvent,
    /// What the subscriber calls itself.
    pub(super) client: Option<String>,
}

/// What `Last-Event-ID` or `lastEventId=` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastEvent {
    /// Nothing.
    Unsaid,
    /// It had this id.
    Of(u128),
    /// Something that is no id of ours.
    Garbage,
}

impl Request {
    /// Reads a watch's query and headers.
    ///
    /// # Errors
    /// A [`Problem`] with everything that is wrong.
    pub(super) fn read(mut query: Query, headers: &HeaderMap) -> Result<Self, Problem> {
        let mut request = Self {
            namespace: query.namespace(),
            selection: selection(&mut query),
            names: BTreeSet::new(),
            prefixes: Vec::new(),
            held: BTreeMap::new(),
            last_event: LastEvent::read(last_event_id(&mut query, headers).as_deref()),
            client: client(&mut query, headers),
        };
        request.take_services(&mut query);
        request.take_prefixes(&mut query);
        request.take_held(&mut query);
        for key in ["limit", "after"] {
            if query.one(key).is_some() {
                query.fault(key, FaultCode::InvalidValue, "pages a list; a watch is always whole");
            }
        }
        if request.names.len() > NAMES_MAX {
            query.fault("service", FaultCode::InvalidValue, format!("may name at most {NAMES_MAX} services"));
        }
        query.finish()?;
        if request.names.is_empty() && request.prefixes.is_empty() {
            let detail = "`service` is missing: name one or more, or `*`, or give a `prefix`";
            return Err(Problem::invalid(vec![Fault::parameter("service", FaultCode::InvalidValue, detail)]));
        }
        Ok(request)
    }

    /// One service and no more: its events' ids are its revisions.
    pub(super) fn is_of_one(&self) -> bool {
        self.names.len() == 1 && self.prefixes.is_empty()
    }

    /// The services that are named, in order.
    pub(super) fn services(&self) -> impl Iterator<Item = ServiceKey> {
        self.names.iter().map(|name| ServiceKey { namespace: self.namespace.clone(), service: name.clone() })
    }

    /// The service is named.
    pub(super) fn names(&self, service: &ServiceKey) -> bool {
        self.names.contains(&service.service)
    }

    /// The service belongs to a family that was asked for.
    pub(super) fn covers(&self, service: &ServiceKey) -> bool {
        service.namespace == self.namespace && self.prefixes.iter().any(|prefix| service.service.as_str().starts_with(prefix))
    }

    fn take_services(&mut self, query: &mut Query) {
        for text in query.all("service") {
            if text == "*" {
                self.prefixes.push(String::new());
                continue;
            }
            match split_revision(&text) {
                Ok((name, revision)) => {
                    self.held.extend(revision.map(|revision| (name.clone(), revision)));
                    self.names.insert(name);
                }
                Err(fault) => query.add([fault]),
            }
        }
    }

    fn take_prefixes(&mut self, query: &mut Query) {
        let prefixes = query.all("prefix");
        if prefixes.len() > INTEREST_PREFIXES_MAX {
            query.fault(
                "prefix",
                FaultCode::InvalidValue,
                format!("may be given {INTEREST_PREFIXES_MAX} times; open another stream for more"),
            );
        }
        for prefix in prefixes {
            if prefix.len() > TEXT_BYTES_MAX {
                query.fault("prefix", FaultCode::InvalidValue, format!("may be at most {TEXT_BYTES_MAX} bytes"));
            }
            self.prefixes.push(prefix);
        }
    }

    fn take_held(&mut self, query: &mut Query) {
        for text in query.all("at") {
            match split_revision(&text) {
                Ok((name, revision)) => self.held.extend(revision.map(|revision| (name, revision))),
                Err(fault) => query.add([Fault { parameter: Some("at".to_owned()), ..fault }]),
            }
        }
    }
}

/// `user`, or `user@REVISION`. An `@` may stand in a name too: what follows the last one is a revision if it could be one, or
/// if the whole is no name. A revision that is none is as good as no revision: the consumer gets a snapshot.
fn split_revision(text: &str) -> Result<(ServiceName, Option<u128>), Fault> {
    let fault = |error| Fault::name("service", &error);
    if let Some((name, revision)) = text.rsplit_once('@') {
        let could_be = revision.len() == 32 && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
        if could_be || ServiceName::parse(text).is_err() {
            return ServiceName::parse(name).map(|name| (name, Hex::parse(revision).map(|hex| hex.0))).map_err(fault);
        }
    }
    ServiceName::parse(text).map(|name| (name, None)).map_err(fault)
}

impl LastEvent {
    fn read(id: Option<&str>) -> Self {
        let Some(id) = id else { return Self::Unsaid };
        Hex::parse(id).map_or(Self::Garbage, |hex| Self::Of(hex.0))
    }
}

/// The id of the last event that a consumer received: the header, or `lastEventId=`, as polyfills that cannot set headers send it. The
/// header is the newer of the two: an `EventSource` repeats its address for ever. `None`: an empty one, or none at all.
pub(in crate::http) fn last_event_id(query: &mut Query, headers: &HeaderMap) -> Option<String> {
    let asked = query.one("lastEventId");
    let sent = headers.get("last-event-id").map(|id| id.to_str().unwrap_or("no text").to_owned());
    sent.filter(|id| !id.is_empty()).or(asked).filter(|id| !id.is_empty())
}

fn client(query: &mut Query, headers: &HeaderMap) -> Option<String> {
    let named = query.one("client");
    if named.as_ref().is_some_and(|name| name.len() > TEXT_BYTES_MAX || name.chars().any(char::is_control)) {
        query.fault("client", FaultCode::InvalidValue, format!("must be NAME/VERSION of at most {TEXT_BYTES_MAX} bytes"));
    }
    let header = || headers.get("muster-client").and_then(|value| value.to_str().ok());
    named.or_else(|| header().map(|name| name.chars().take(TEXT_BYTES_MAX).collect()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn read(query: &str) -> Result<Request, Problem> {
        Request::read(Query::parse(Some(query)), &HeaderMap::new())
    }

    fn names(request: &Request) -> Vec<&str> {
        request.names.iter().map(ServiceName::as_str).collect()
    }

    #[test]
    fn a_revision_follows_the_last_at_sign_and_garbage_counts_for_nothing() {
        let revision = "00000000000000000000000000000abc";
        let request = read(&format!("service=user@{revision}&service=acme:1@eu&service=cart@{}&service=db@", "A".repeat(32))).unwrap();
        assert_eq!(names(&request), ["acme:1@eu", "cart", "db", "user"]);
        assert_eq!(request.held.into_iter().collect::<Vec<_>>(), [(ServiceName::parse("user").unwrap(), 0xabc)]);
    }

    #[test]
    fn a_stream_of_one_service_is_of_one_however_often_it_is_named() {
        assert!(read("service=a&service=a").unwrap().is_of_one());
        assert!(!read("service=a&service=b").unwrap().is_of_one());
        assert!(!read("service=a&prefix=b").unwrap().is_of_one());
        let many = |count| vec!["prefix=a"; count].join("&");
        assert!(read(&many(16)).is_ok() && read(&many(17)).is_err());
        assert!(!read("service=*").unwrap().is_of_one());
    }

    #[test]
    fn prefixes_cover_their_namespace_only() {
        let request = read("prefix=user-&namespace=test").unwrap();
        let key = |namespace: &str, name: &str| ServiceKey {
            namespace: Namespace::parse(namespace).unwrap(),
            service: ServiceName::parse(name).unwrap(),
        };
        assert!(request.covers(&key("test", "user-1")));
        assert!(!request.covers(&key("test", "cart")));
        assert!(!request.covers(&key("default", "user-1")));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let parameters =
            |query: &str| -> Vec<String> { read(query).unwrap_err().errors().iter().filter_map(|fault| fault.parameter.clone()).collect() };
        assert_eq!(parameters(""), ["service"]);
        assert_eq!(parameters("service=a&limit=5"), ["limit"]);
        assert_eq!(parameters("service=a&service=../b&zone=EU&colour=red"), ["zone", "service", "colour"]);
        let many: Vec<_> = (0..=NAMES_MAX).map(|n| format!("service=s{n}")).collect();
        assert_eq!(parameters(&many.join("&")), ["service"]);
    }

    #[test]
    fn a_last_event_id_is_a_revision_or_garbage_or_not_there() {
        let read = |query: &str, id: Option<&str>| {
            let headers = id.map(|id| (HeaderName::from_static("last-event-id"), id.parse().unwrap())).into_iter().collect();
            Request::read(Query::parse(Some(&format!("service=a&{query}"))), &headers).unwrap().last_event
        };
        let with = |id: &str| {
            let in_header = read("", Some(id));
            assert_eq!(read(&format!("lastEventId={id}"), None), in_header);
            in_header
        };
        assert_eq!(with("00000000000000000000000000000abc"), LastEvent::Of(0xabc));
        assert_eq!(with(&"f".repeat(10_000)), LastEvent::Garbage);
        assert_eq!(with("garbage"), LastEvent::Garbage);
        assert_eq!(with(""), LastEvent::Unsaid);
        assert_eq!(read("", None), LastEvent::Unsaid);
        assert_eq!(read("lastEventId=garbage", Some("00000000000000000000000000000abc")), LastEvent::Of(0xabc), "the header is newer");
        assert_eq!(read("lastEventId=00000000000000000000000000000abc", Some("")), LastEvent::Of(0xabc));
        assert!(Request::read(Query::parse(Some("service=a&lastEventId=1&lastEventId=2")), &HeaderMap::new()).is_err());
    }
}
