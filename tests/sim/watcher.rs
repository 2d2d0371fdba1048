//! A consumer that follows every service of one node, by the differences it is told of.

use std::collections::BTreeMap;

use muster::model::{InstanceId, Listed, ServiceKey};
use muster::registry::{Catalog, View, listed_digest, service_digest};

#[derive(Default)]
pub(crate) struct Watcher {
    services: BTreeMap<ServiceKey, BTreeMap<InstanceId, Listed>>,
}

/// What one step took away.
pub(crate) type Removed = Vec<InstanceId>;

impl Watcher {
    /// Takes the step from what it held to this view; the error says how the view contradicts itself.
    pub(crate) fn follow(&mut self, service: &ServiceKey, catalog: &Catalog) -> Result<Removed, String> {
        let nothing = View::default();
        let view = catalog.view(service).map_or(&nothing, |view| view);
        let held = self.services.entry(service.clone()).or_default();
        let removed: Removed = held.keys().filter(|id| !view.instances().contains_key(*id)).cloned().collect();
        for id in &removed {
            held.remove(id);
        }
        for (id, listed) in view.instances() {
            if held.get(id) != Some(&**listed) {
                held.insert(id.clone(), (**listed).clone());
            }
        }
        let revision = revision_of(held);
        if revision == view.revision() {
            Ok(removed)
        } else {
            Err(format!("{service}: its revision is {:x}, its instances give {revision:x}", view.revision()))
        }
    }

    /// Whether everything that is visible was told.
    pub(crate) fn compare(&self, catalog: &Catalog) -> Result<(), String> {
        for (service, view) in catalog.services() {
            let told = self.services.get(service);
            let is_told = match told {
                Some(held) => {
                    held.len() == view.instances().len()
                        && held.iter().all(|(id, listed)| view.instances().get(id).is_some_and(|now| **now == *listed))
                }
                None => view.instances().is_empty(),
            };
            if !is_told {
                return Err(format!("{service} changed and nobody was told: {told:?} became {:?}", view.instances()));
            }
        }
        if let Some((service, _)) = self.services.iter().find(|(service, held)| !held.is_empty() && catalog.view(service).is_none()) {
            return Err(format!("{service} went and nobody was told"));
        }
        let digest = self.services.iter().fold(0_u128, |sum, (service, held)| sum.wrapping_add(service_digest(service, revision_of(held))));
        let count: usize = self.services.values().map(BTreeMap::len).sum();
        if digest == catalog.view_digest() && count == catalog.instance_count() {
            Ok(())
        } else {
            Err("the catalog's digest or count is not that of its services".to_owned())
        }
    }
}

fn revision_of(held: &BTreeMap<InstanceId, Listed>) -> u128 {
    held.values().fold(0, |sum, listed| sum.wrapping_add(listed_digest(listed)))
}
