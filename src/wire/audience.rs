//! Audiences and deliveries on the wire: who follows what at a node, and who there has been sent a change.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::list::List;
use super::reading::Reading;
use crate::model::{self, SUBSCRIBER_BYTES_MAX};
use crate::registry::{self, INTEREST_PREFIXES_MAX, INTEREST_SERVICES_MAX, MISSING_MAX, PAGE_MAX};

/// How long a prefix may be: as long as a service's name.
const PREFIX_BYTES_MAX: usize = 128;

#[derive(Serialize, Deserialize)]
pub(super) struct Page<'a> {
    digest: u64,
    #[serde(borrow)]
    watchers: List<Watcher<'a>, PAGE_MAX>,
    more: bool,
}

#[derive(Serialize, Deserialize)]
struct Watcher<'a> {
    #[serde(borrow)]
    subscriber: Subscriber<'a>,
    namespace: &'a str,
    services: List<u64, INTEREST_SERVICES_MAX>,
    #[serde(borrow)]
    prefixes: List<&'a str, INTEREST_PREFIXES_MAX>,
}

#[derive(Serialize, Deserialize)]
struct Subscriber<'a> {
    /// Empty: it says nothing.
    name: &'a str,
    address: SocketAddr,
    since: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Report<'a> {
    subscribers: u64,
    missing_count: u64,
    #[serde(borrow)]
    missing: List<Subscriber<'a>, MISSING_MAX>,
}

impl<'a> Page<'a> {
    pub(super) fn of(page: &'a registry::AudiencePage) -> Self {
        Self { digest: page.digest, watchers: page.watchers.iter().map(Watcher::of).collect(), more: page.more }
    }

    pub(super) fn into_model(self, reading: &mut Reading) -> Result<registry::AudiencePage, Invalid> {
        let watchers = self.watchers.into_iter().map(|watcher| watcher.into_model(reading)).collect::<Result<_, _>>()?;
        Ok(registry::AudiencePage { digest: self.digest, watchers, more: self.more })
    }
}

impl<'a> Watcher<'a> {
    fn of(watcher: &'a registry::Watcher) -> Self {
        let registry::Interest { namespace, services, prefixes } = &*watcher.interest;
        Self {
            subscriber: Subscriber::of(&watcher.subscriber),
            namespace: namespace.as_str(),
            services: services.iter().copied().collect(),
            prefixes: prefixes.iter().map(|prefix| &**prefix).collect(),
        }
    }

    fn into_model(self, reading: &mut Reading) -> Result<registry::Watcher, Invalid> {
        let services: Vec<u64> = self.services.into_iter().collect();
        if !services.is_sorted_by(|a, b| a < b) {
            return Err(Invalid("list of services"));
        }
        let prefixes: Vec<Arc<str>> = self.prefixes.into_iter().map(Arc::from).collect();
        if prefixes.iter().any(|prefix| prefix.len() > PREFIX_BYTES_MAX) {
            return Err(Invalid("prefix"));
        }
        let interest = registry::Interest { namespace: reading.namespace.parse(self.namespace)?, services, prefixes };
        Ok(registry::Watcher { subscriber: self.subscriber.into_model()?, interest: Arc::new(interest) })
    }
}

impl<'a> Subscriber<'a> {
    fn of(subscriber: &'a model::Subscriber) -> Self {
        Self { name: subscriber.name.as_deref().unwrap_or_default(), address: subscriber.address, since: subscriber.since }
    }

    fn into_model(self) -> Result<model::Subscriber, Invalid> {
        if self.name.len() > SUBSCRIBER_BYTES_MAX || self.name.chars().any(char::is_control) {
            return Err(Invalid("subscriber's name"));
        }
        let name = (!self.name.is_empty()).then(|| self.name.into());
        Ok(model::Subscriber { name, address: self.address, since: self.since })
    }
}

impl<'a> Report<'a> {
    pub(super) fn of(report: &'a registry::DeliveryReport) -> Self {
        let registry::DeliveryReport { subscribers, missing_count, missing } = report;
        Self { subscribers: *subscribers, missing_count: *missing_count, missing: missing.iter().map(Subscriber::of).collect() }
    }

    pub(super) fn into_model(self) -> Result<registry::DeliveryReport, Invalid> {
        let missing: Vec<_> = self.missing.into_iter().map(Subscriber::into_model).collect::<Result<_, _>>()?;
        if self.missing_count < missing.len() as u64 || self.subscribers < self.missing_count {
            return Err(Invalid("number of subscribers"));
        }
        Ok(registry::DeliveryReport { subscribers: self.subscribers, missing_count: self.missing_count, missing })
    }
}
