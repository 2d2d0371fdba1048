//! History: the former views of services by revision, so that a consumer that comes back gets one delta.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::model::ServiceKey;
use crate::registry::View;

/// How many former views are kept in all; past it those of the service that changed longest ago go.
/// A view shares all but a leaf or two with its neighbours: a few kilobytes each.
const VIEWS_MAX: usize = 4096;

/// Former views, a bounded number for each service and in all.
#[derive(Debug)]
pub(super) struct History {
    services: HashMap<ServiceKey, Kept>,
    /// The services by when they changed last, in ticks.
    by_age: BTreeMap<u64, ServiceKey>,
    tick: u64,
    count: usize,
    kept_max: usize,
    views_max: usize,
}

#[derive(Debug, Default)]
struct Kept {
    changed: u64,
    views: VecDeque<Arc<View>>,
}

impl History {
    /// Keeps at most `kept_max` views of a service.
    pub(super) fn new(kept_max: usize) -> Self {
        Self { services: HashMap::new(), by_age: BTreeMap::new(), tick: 0, count: 0, kept_max, views_max: VIEWS_MAX }
    }

    /// Keeps a view that a newer one has replaced; one that is kept already changes nothing. An empty one is not worth it:
    /// who comes from there needs everything.
    pub(super) fn keep(&mut self, service: &ServiceKey, view: &Arc<View>) {
        if self.kept_max == 0 || view.instances().is_empty() || self.find(service, view.revision()).is_some() {
            return;
        }
        self.tick += 1;
        let kept = self.services.entry(service.clone()).or_default();
        self.by_age.remove(&kept.changed);
        kept.changed = self.tick;
        kept.views.push_back(Arc::clone(view));
        self.by_age.insert(self.tick, service.clone());
        self.count += 1;
        if kept.views.len() > self.kept_max {
            kept.views.pop_front();
            self.count -= 1;
        }
        self.shrink();
    }

    /// The view of this revision.
    pub(super) fn find(&self, service: &ServiceKey, revision: u128) -> Option<Arc<View>> {
        let kept = self.services.get(service)?;
        kept.views.iter().rev().find(|view| view.revision() == revision).cloned()
    }

    fn shrink(&mut self) {
        while self.count > self.views_max {
            let Some((_, oldest)) = self.by_age.pop_first() else { return };
            self.count -= self.services.remove(&oldest).map_or(0, |kept| kept.views.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{service, view};
    use super::*;

    #[test]
    fn the_latest_views_are_found_and_the_oldest_go_first() {
        let mut history = History::new(3);
        let views: Vec<_> = (1..=5).map(|weight| view(&[("a", weight)])).collect();
        for view in &views {
            history.keep(&service("s"), view);
            history.keep(&service("s"), view);
        }
        let found: Vec<_> = views.iter().map(|view| history.find(&service("s"), view.revision()).is_some()).collect();
        assert_eq!(found, [false, false, true, true, true]);
        assert!(history.find(&service("other"), views[4].revision()).is_none());
    }

    #[test]
    fn an_empty_view_is_not_kept() {
        let mut history = History::new(3);
        history.keep(&service("s"), &view(&[]));
        assert!(history.find(&service("s"), 0).is_none());
    }

    #[test]
    fn in_all_it_is_bounded_and_forgets_what_changed_longest_ago() {
        let mut history = History { views_max: 4, ..History::new(2) };
        let (old, new) = (view(&[("a", 1)]), view(&[("a", 2)]));
        for name in ["s", "t", "u"] {
            history.keep(&service(name), &old);
            history.keep(&service(name), &new);
        }
        assert_eq!(history.count, history.services.values().map(|kept| kept.views.len()).sum::<usize>());
        assert!(history.count <= 4);
        assert!(history.find(&service("s"), new.revision()).is_none());
        assert!(history.find(&service("u"), new.revision()).is_some());
        assert_eq!(history.by_age.len(), history.services.len());
    }
}
