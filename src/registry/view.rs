//! Views: what this node believes of each service, as immutable values that readers borrow.

use std::sync::Arc;

use imbl::OrdMap;

use super::record::{Canonical, listed_digest};
use crate::model::{Cause, InstanceId, Listed, Override, OverrideKey, OverrideName, Selection, ServiceKey, Status};

/// One service: its visible instances and their fingerprint.
#[derive(Debug, Clone, Default)]
pub struct View {
    instances: OrdMap<InstanceId, Arc<Listed>>,
    /// Why the instances that are withdrawn went: a `remove` says so.
    departed: OrdMap<InstanceId, Cause>,
    revision: u128,
    /// How many of the visible ones are there by self-preservation.
    preserved: usize,
}

/// How many of a service's departed instances are remembered with their cause; past it the smallest id is forgotten
/// and a `remove` that should name its cause says `expired`.
const DEPARTED_MAX: usize = 1024;

impl View {
    /// The digest of the visible content: the same on every node that believes the same; 0 when nothing is visible.
    #[must_use]
    pub fn revision(&self) -> u128 {
        self.revision
    }

    /// The visible instances in the order of their ids.
    #[must_use]
    pub fn instances(&self) -> &OrdMap<InstanceId, Arc<Listed>> {
        &self.instances
    }

    /// Those a selection leaves, in the order of their ids.
    #[must_use]
    pub fn select(&self, selection: &Selection) -> Vec<&Arc<Listed>> {
        selection.apply(self.instances.values())
    }

    /// Why an instance that is not visible any more went.
    #[must_use]
    pub fn departed(&self, id: &InstanceId) -> Cause {
        self.departed.get(id).copied().unwrap_or(Cause::Expired)
    }

    /// How many instances have each status, in the order of [`Status::ALL`].
    #[must_use]
    pub fn counts(&self) -> [usize; 5] {
        let mut counts = [0; 5];
        for listed in self.instances.values() {
            counts[listed.status as usize] += 1;
        }
        counts
    }

    /// How many instances stay listed only because their silence proves nothing: lists say `preserved` while there are any.
    #[must_use]
    pub fn preserved(&self) -> usize {
        self.preserved
    }

    /// Shows, changes or hides one instance; says whether a consumer could tell.
    pub(crate) fn set(&mut self, id: &InstanceId, listed: Option<Listed>, cause: Cause) -> bool {
        let before = self.instances.get(id);
        match listed {
            Some(listed) => {
                self.departed.remove(id);
                let was_preserved = before.is_some_and(|before| is_preserved(before));
                if before.is_some_and(|before| **before == listed) && was_preserved == is_preserved(&listed) {
                    return false;
                }
                self.preserved = self.preserved + usize::from(is_preserved(&listed)) - usize::from(was_preserved);
                let leaves = before.map_or(0, |before| listed_digest(before));
                self.revision = self.revision.wrapping_sub(leaves).wrapping_add(listed_digest(&listed));
                self.instances.insert(id.clone(), Arc::new(listed));
                true
            }
            None => {
                if self.departed.len() >= DEPARTED_MAX && !self.departed.contains_key(id) {
                    let (_, rest) = self.departed.without_min();
                    self.departed = rest;
                }
                self.departed.insert(id.clone(), cause);
                let Some(before) = self.instances.remove(id) else { return false };
                self.preserved -= usize::from(is_preserved(&before));
                self.revision = self.revision.wrapping_sub(listed_digest(&before));
                true
            }
        }
    }
}

fn is_preserved(listed: &Listed) -> bool {
    listed.cause == Cause::Preserved
}

/// Two that are equal look the same to every consumer.
impl PartialEq for View {
    fn eq(&self, other: &Self) -> bool {
        self.revision == other.revision && (self.preserved > 0) == (other.preserved > 0)
    }
}

impl Eq for View {}

/// Every service's view: what this node believes, whole. Cloning it is cheap and gives a consistent picture.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    services: OrdMap<ServiceKey, Arc<View>>,
    view_digest: u128,
    instances: usize,
    visible_services: usize,
    /// Those that hold.
    overrides: OrdMap<OverrideKey, Arc<Override>>,
    preserved: usize,
    preserved_services: usize,
}

impl Catalog {
    /// One service's view; `None` when nothing was ever heard of it.
    #[must_use]
    pub fn view(&self, service: &ServiceKey) -> Option<&Arc<View>> {
        self.services.get(service)
    }

    /// Every service with its view, also those of which nothing is visible any more, in order.
    #[must_use]
    pub fn services(&self) -> &OrdMap<ServiceKey, Arc<View>> {
        &self.services
    }

    /// The digest of all services' revisions; services of which nothing is visible count for nothing.
    #[must_use]
    pub fn view_digest(&self) -> u128 {
        self.view_digest
    }

    /// How many instances are visible.
    #[must_use]
    pub fn instance_count(&self) -> usize {
        self.instances
    }

    /// How many services have a visible instance.
    #[must_use]
    pub fn service_count(&self) -> usize {
        self.visible_services
    }

    /// The overrides that are about a service or instances of it: its own, and its namespace's.
    pub fn overrides_of(&self, service: &ServiceKey) -> impl Iterator<Item = &OverrideName> {
        let is_of = |(key, value): &(&OverrideKey, &Arc<Override>)| {
            key.namespace == service.namespace && value.parts().service.as_ref().is_none_or(|of| *of == service.service)
        };
        self.overrides.iter().filter(is_of).map(|(key, _)| &key.name)
    }

    pub(super) fn show_override(&mut self, key: &OverrideKey, value: Option<Arc<Override>>) {
        match value {
            Some(value) => self.overrides.insert(key.clone(), value),
            None => self.overrides.remove(key),
        };
    }

    /// How many instances stay listed only because their silence proves nothing.
    #[must_use]
    pub fn preserved_count(&self) -> usize {
        self.preserved
    }

    /// How many services have such an instance.
    #[must_use]
    pub fn preserved_service_count(&self) -> usize {
        self.preserved_services
    }

    /// Shows, changes or hides one instance; says whether a consumer could tell.
    pub(super) fn set(&mut self, service: &ServiceKey, id: &InstanceId, listed: Option<Listed>, cause: Cause) -> bool {
        let cell = match self.services.get_mut(service) {
            Some(cell) => cell,
            None => self.services.entry(service.clone()).or_default(),
        };
        let view = Arc::make_mut(cell);
        let (count_before, digest_before) = (view.instances.len(), service_digest(service, view.revision));
        let preserved_before = view.preserved;
        let told = view.set(id, listed, cause);
        let (count_after, digest_after) = (view.instances.len(), service_digest(service, view.revision));
        self.instances = self.instances + count_after - count_before;
        self.visible_services = self.visible_services + usize::from(count_after > 0) - usize::from(count_before > 0);
        self.preserved = self.preserved + view.preserved - preserved_before;
        self.preserved_services = self.preserved_services + usize::from(view.preserved > 0) - usize::from(preserved_before > 0);
        self.view_digest = self.view_digest.wrapping_sub(digest_before).wrapping_add(digest_after);
        told
    }

    /// Forgets why an instance went, and a service of which nothing is left.
    pub(super) fn forget(&mut self, service: &ServiceKey, id: &InstanceId) {
        let Some(cell) = self.services.get_mut(service) else { return };
        let view = Arc::make_mut(cell);
        view.departed.remove(id);
        if view.instances.is_empty() && view.departed.is_empty() {
            self.services.remove(service);
        }
    }
}

/// Adds up, wrapping, to the digest of a set of services; one of which nothing is visible counts for nothing.
#[must_use]
pub fn service_digest(service: &ServiceKey, revision: u128) -> u128 {
    if revision == 0 {
        return 0;
    }
    let mut hash = Canonical::default();
    hash.text(service.namespace.as_str());
    hash.text(service.service.as_str());
    hash.wide(revision);
    hash.finish()
}

const _: () = assert!(Status::ALL.len() == 5, "View::counts has a place for each status");
