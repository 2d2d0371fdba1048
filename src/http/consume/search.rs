//! Searching: instances over all services, page by page.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::{check_warm, json, page, registered};
use crate::api;
use crate::api::consume::{Found, FoundInstances, Instance};
use crate::http::App;
use crate::http::feed::trust;
use crate::http::problem::{FaultCode, Problem, shown};
use crate::http::query::Query;
use crate::http::select::selection;
use crate::model::{Address, Cause, InstanceId, InstanceKey, Listed, Namespace, Selection, ServiceKey, ServiceName};
use crate::registry::Catalog;

/// How many addresses one search may name.
const ADDRESSES_MAX: usize = 256;
/// How many instances are looked at before others get their turn.
const LOOKED_AT_MAX: usize = 10_000;

struct Search {
    namespace: Option<Namespace>,
    /// `None`: of every service.
    service: Option<ServiceName>,
    selection: Selection,
    /// `None`: wherever they listen.
    addresses: Option<BTreeSet<String>>,
    after: Option<InstanceKey>,
    limit: usize,
    /// The registrations are told too.
    with_registration: bool,
}

/// Search for instances over all services.
#[utoipa::path(
    get,
    path = "/v1/instances",
    tag = "consume",
    operation_id = "searchInstances",
    params(
        ("namespace" = Option<String>, Query, description = "Default: `default`; `*`: all."),
        ("service" = Option<String>, Query, description = "Only those of this service."),
        ("detail" = Option<String>, Query, description = "`registration`: with each instance what its provider said, as a registration takes it. Default: `listed`."),
        ("address" = Option<String>, Query, description = "Only those that listen there, however it is spelled: `0:0:0:0:0:0:0:1` is `::1`. A comma means any of."),
        ("status" = Option<String>, Query, description = "Selects by status; a comma means any of."),
        ("usable" = Option<bool>, Query, description = "Of each service only those that are up with a weight above 0; if there are none, those that are suspect."),
        ("zone" = Option<String>, Query, description = "Selects by zone; a comma means any of."),
        ("near_zone" = Option<String>, Query, description = "Of each service that zone; others only while it has none that is usable."),
        ("region" = Option<String>, Query, description = "Selects by region; a comma means any of."),
        ("tag" = Option<Vec<String>>, Query, description = "Selects by tag; a comma means any of, a repeated key all of."),
        ("metadata.KEY" = Option<String>, Query, description = "Selects by metadata; an empty value: the key is absent."),
        ("limit" = Option<u64>, Query, description = "At most so many, 1 to 10,000; default: 1,000."),
        ("after" = Option<String>, Query, description = "From the one after this on: the `next` of the answer before."),
    ),
    responses(
        (status = 200, description = "What was found, in the order of namespace, service and id.", body = api::consume::FoundInstances<'static>),
        (status = 400, description = "Something is wrong with the query.", body = api::problem::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The node does not know enough yet.", body = api::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn search(State(app): State<App>, query: Query) -> Result<Response, Problem> {
    let search = Search::read(query)?;
    check_warm(&app)?;
    // Before the records: what was on disk is never said with what is known since.
    let condition = app.node.condition();
    let catalog = app.node.catalog();
    let found = search.run(&catalog).await;
    let has_more = found.len() > search.limit;
    let page = &found[..found.len().min(search.limit)];
    let next = page.last().filter(|_| has_more).map(|(service, listed)| format!("{service}/{}", listed.id));
    let mut registrations = Vec::new();
    if search.with_registration {
        let key = |(service, listed): &(&ServiceKey, &Arc<Listed>)| InstanceKey { service: (*service).clone(), id: listed.id.clone() };
        registrations = registered::registrations(&app, page.iter().map(key).collect()).await?;
    }
    let registrations = registrations.into_iter().chain(std::iter::repeat(None));
    let instances = page.iter().zip(registrations).map(|((service, listed), registration)| Found {
        namespace: service.namespace.as_str().into(),
        service: service.service.as_str().into(),
        instance: Instance::from(&***listed),
        registration,
    });
    let is_preserved = page.iter().any(|(_, listed)| listed.cause == Cause::Preserved);
    let trust = trust(&condition, &app.node.clock(), is_preserved);
    Ok(json(&FoundInstances { instances: instances.collect(), trust, next }))
}

impl Search {
    fn read(mut query: Query) -> Result<Self, Problem> {
        let search = Self {
            namespace: page::namespaces(&mut query),
            service: query.name("service"),
            selection: selection(&mut query),
            addresses: addresses(&mut query),
            after: page::after(&mut query, instance_key),
            limit: page::limit_or_default(&mut query),
            with_registration: query.word("detail", &[("listed", false), ("registration", true)]).unwrap_or_default(),
        };
        query.finish()?;
        Ok(search)
    }

    /// One more than the limit, if there are as many.
    async fn run<'a>(&self, catalog: &'a Catalog) -> Vec<(&'a ServiceKey, &'a Arc<Listed>)> {
        let (mut found, mut looked_at) = (Vec::new(), 0);
        for (service, view) in catalog.services().range((self.begin(), Bound::Unbounded)) {
            if self.namespace.as_ref().is_some_and(|namespace| *namespace != service.namespace) {
                break;
            }
            if self.service.as_ref().is_some_and(|name| *name != service.service) {
                continue;
            }
            let wanted = view.select(&self.selection).into_iter().filter(|listed| self.wants(service, listed));
            found.extend(wanted.take(self.limit + 1 - found.len()).map(|listed| (service, listed)));
            if found.len() > self.limit {
                break;
            }
            looked_at += view.instances().len() + 1;
            if looked_at >= LOOKED_AT_MAX {
                looked_at = 0;
                tokio::task::yield_now().await;
            }
        }
        found
    }

    fn begin(&self) -> Bound<ServiceKey> {
        match (&self.after, &self.namespace) {
            (Some(after), _) => Bound::Included(after.service.clone()),
            (None, Some(namespace)) => Bound::Included(page::first_of(namespace.clone())),
            (None, None) => Bound::Unbounded,
        }
    }

    fn wants(&self, service: &ServiceKey, listed: &Listed) -> bool {
        let is_later = self.after.as_ref().is_none_or(|after| after.service != *service || listed.id > after.id);
        let is_there = |addresses: &BTreeSet<String>| addresses.contains(&*listed.registration.address().canonical());
        is_later && self.addresses.as_ref().is_none_or(is_there)
    }
}

/// The canonical spellings. A comma means any of; an instance has one address, so of a repeated key the common ones are left.
fn addresses(query: &mut Query) -> Option<BTreeSet<String>> {
    let mut sets = Vec::new();
    for text in query.all("address") {
        let mut set = BTreeSet::new();
        for text in text.split(',') {
            match address(text) {
                Ok(address) => drop(set.insert(address.canonical().into_owned())),
                Err(rule) => query.fault("address", FaultCode::InvalidValue, format!("{rule}, is `{}`", shown(text))),
            }
        }
        sets.push(set);
    }
    let addresses = sets.into_iter().reduce(|one, other| one.intersection(&other).cloned().collect());
    if addresses.as_ref().is_some_and(|addresses| addresses.len() > ADDRESSES_MAX) {
        query.fault("address", FaultCode::InvalidValue, format!("may name at most {ADDRESSES_MAX}"));
    }
    addresses
}

/// Also what can no longer be registered: a record of an older node may have it.
fn address(text: &str) -> Result<Address, &'static str> {
    Address::parse_recorded(text).or_else(|_| Address::parse(text))
}

/// `NAMESPACE/SERVICE/ID`; only an id may have a slash in it.
fn instance_key(text: &str) -> Option<InstanceKey> {
    let mut parts = text.splitn(3, '/');
    let (namespace, service, id) = (parts.next()?, parts.next()?, parts.next()?);
    let service = ServiceKey { namespace: namespace.parse().ok()?, service: service.parse().ok()? };
    Some(InstanceKey { service, id: InstanceId::parse(id).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_page_is_read_back_whatever_its_id_is() {
        let key = instance_key("default/acme:1@eu/host/10.0.0.1:80").unwrap();
        assert_eq!(key.id.as_str(), "host/10.0.0.1:80");
        assert_eq!(instance_key(&key.to_string()), Some(key));
        for bad in ["", "default", "default/user", "default/user/", "UPPER/user/a", "//", "a/b/\n"] {
            assert_eq!(instance_key(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn addresses_are_any_of_a_list_and_all_of_a_repetition() {
        let of = |query: &str| addresses(&mut Query::parse(Some(query))).map(|some| some.into_iter().collect::<Vec<_>>());
        assert_eq!(of(""), None);
        assert_eq!(of("address=a,b"), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(of("address=a,b&address=b,c"), Some(vec!["b".to_owned()]));
        assert_eq!(of("address=a&address=b"), Some(Vec::new()));
        assert_eq!(of("address=2001:DB8::1,A.&address=2001:db8:0::1,::1,a"), Some(vec!["2001:db8::1".to_owned(), "a".to_owned()]));
        for bad in ["address=", "address=a,", "address=[::1]", "address=fe80::1%25eth0"] {
            let mut query = Query::parse(Some(bad));
            addresses(&mut query);
            assert!(query.finish().is_err(), "{bad}");
        }
    }
}
