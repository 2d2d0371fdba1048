//! Selections: which of a service's instances a consumer asked for. Parsed once, normalised, hashable.

mod parse;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Listed, Region, Status, Zone};

pub use parse::{SelectionDraft, SelectionError};

/// How many alternatives a selection may have in all.
pub const SELECTION_TERMS_MAX: usize = 256;

/// Which of a service's instances are meant; two that mean the same are equal.
///
/// Each set is one condition: any of its members will do. `None` and the empty map ask for nothing. What can never be true is
/// always written as no status at all, so `nothing` has one form too.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Selection {
    statuses: Option<BTreeSet<Status>>,
    zones: Option<BTreeSet<Zone>>,
    regions: Option<BTreeSet<Region>>,
    /// Each of these sets must be met; none contains another.
    tags: BTreeSet<BTreeSet<String>>,
    /// An empty value: the key may be absent.
    metadata: BTreeMap<String, BTreeSet<String>>,
    usable: bool,
    near_zones: Option<BTreeSet<Zone>>,
}

impl Selection {
    /// Every visible instance is meant.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Whether an instance is meant can depend on the others: one change may let several in or out.
    #[must_use]
    pub fn looks_at_whole(&self) -> bool {
        self.usable || self.near_zones.is_some()
    }

    /// The first step, `usable` and `near_zone` aside: is this instance meant on its own?
    #[must_use]
    pub fn admits(&self, listed: &Listed) -> bool {
        let registration = &listed.registration;
        let any_tag = |wanted: &BTreeSet<String>| wanted.iter().any(|tag| registration.tags().contains(tag));
        let any_value = |(key, wanted): (&String, &BTreeSet<String>)| match registration.metadata().get(key) {
            Some(value) => !value.is_empty() && wanted.contains(value),
            None => wanted.contains(""),
        };
        is_in(self.statuses.as_ref(), Some(&listed.status))
            && is_in(self.zones.as_ref(), registration.zone())
            && is_in(self.regions.as_ref(), registration.region())
            && self.tags.iter().all(any_tag)
            && self.metadata.iter().all(any_value)
    }

    /// The instances that are meant, in the order given: filter, then `usable`, then `near_zone`.
    pub fn apply<'a>(&self, instances: impl Iterator<Item = &'a Arc<Listed>>) -> Vec<&'a Arc<Listed>> {
        let mut meant: Vec<_> = instances.filter(|listed| self.admits(listed)).collect();
        if self.looks_at_whole() {
            let wanted = best_status(&meant);
            if self.usable {
                meant.retain(|listed| is_usable(listed, wanted));
            }
            self.keep_near(&mut meant, wanted);
        }
        meant
    }

    /// Leaves only the near zones' instances, where one of them can be used.
    fn keep_near(&self, meant: &mut Vec<&Arc<Listed>>, wanted: Option<Status>) {
        let Some(near) = &self.near_zones else { return };
        let is_near = |listed: &Listed| listed.registration.zone().is_some_and(|zone| near.contains(zone));
        if meant.iter().any(|listed| is_near(listed) && is_usable(listed, wanted)) {
            meant.retain(|listed| is_near(listed));
        }
    }
}

/// A condition that nobody made holds; else one of its members must be there.
fn is_in<T: Ord>(wanted: Option<&BTreeSet<T>>, value: Option<&T>) -> bool {
    wanted.is_none_or(|wanted| value.is_some_and(|value| wanted.contains(value)))
}

/// What an instance must be to be called: up, or suspect where none is up.
fn best_status(instances: &[&Arc<Listed>]) -> Option<Status> {
    [Status::Up, Status::Suspect].into_iter().find(|&status| instances.iter().any(|listed| is_usable(listed, Some(status))))
}

/// Weight 0 means "send nothing new", whatever the status.
fn is_usable(listed: &Listed, wanted: Option<Status>) -> bool {
    Some(listed.status) == wanted && listed.weight > 0
}

#[cfg(test)]
mod tests;
