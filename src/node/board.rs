//! The board: where the node shows what it believes, and where readers look without asking it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::Condition;
use crate::model::ServiceKey;
use crate::registry::{Catalog, Mono, View};

/// The newest catalog and condition, and a cell for each service that somebody follows.
pub(super) struct Board {
    catalog: ArcSwap<Catalog>,
    catalog_cell: watch::Sender<Arc<Catalog>>,
    condition: watch::Sender<Condition>,
    /// As many as there are followed services; one that nobody follows any more goes with the next sweep.
    cells: Mutex<HashMap<ServiceKey, watch::Sender<Arc<View>>, RandomState>>,
}

impl Board {
    pub(super) fn new(condition: Condition) -> Self {
        let catalog = Arc::new(Catalog::default());
        Self {
            catalog: ArcSwap::from(Arc::clone(&catalog)),
            catalog_cell: watch::Sender::new(catalog),
            condition: watch::Sender::new(condition),
            cells: Mutex::default(),
        }
    }

    pub(super) fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    pub(super) fn condition(&self) -> Condition {
        *self.condition.borrow()
    }

    pub(super) fn follow_condition(&self) -> watch::Receiver<Condition> {
        self.condition.subscribe()
    }

    /// A receiver that has not seen the newest catalog yet gets it at once.
    pub(super) fn follow_catalog(&self) -> watch::Receiver<Arc<Catalog>> {
        let receiver = self.catalog_cell.subscribe();
        self.catalog_cell.send_replace(self.catalog());
        receiver
    }

    /// The cell is made from the catalog as it stands; what is shown after that comes into the cell.
    pub(super) fn follow(&self, service: &ServiceKey) -> watch::Receiver<Arc<View>> {
        let mut cells = self.cells.lock();
        if let Some(cell) = cells.get(service) {
            return cell.subscribe();
        }
        let view = self.catalog.load().view(service).cloned().unwrap_or_default();
        let (cell, receiver) = watch::channel(view);
        cells.insert(service.clone(), cell);
        receiver
    }

    pub(super) fn is_followed(&self, service: &ServiceKey) -> bool {
        self.cells.lock().get(service).is_some_and(|cell| cell.receiver_count() > 0)
    }

    /// Shows a catalog: whoever looks from now on sees it.
    pub(super) fn show(&self, catalog: &Catalog) {
        let catalog = Arc::new(catalog.clone());
        self.catalog.store(Arc::clone(&catalog));
        if self.catalog_cell.receiver_count() > 0 {
            self.catalog_cell.send_replace(catalog);
        }
    }

    /// Wakes those who follow these services, which have changed in the catalog that is shown.
    pub(super) fn tell(&self, changed: &BTreeSet<ServiceKey>) {
        let cells = self.cells.lock();
        if cells.is_empty() {
            return;
        }
        let catalog = self.catalog.load();
        for service in changed {
            if let Some(cell) = cells.get(service) {
                cell.send_replace(catalog.view(service).cloned().unwrap_or_default());
            }
        }
    }

    pub(super) fn show_condition(&self, condition: Condition) {
        self.condition.send_if_modified(|shown| std::mem::replace(shown, condition) != condition);
    }

    /// Says that nothing here is renewed any more since then, if `still` holds at that moment: the task's next condition says otherwise.
    pub(super) fn show_stall(&self, since: Mono, still: impl Fn() -> bool) {
        self.condition.send_if_modified(|shown| {
            let is_stalled = still();
            if is_stalled {
                shown.is_stalled = true;
                shown.stale_since = Some(shown.stale_since.map_or(since, |stale| stale.min(since)));
            }
            is_stalled
        });
    }

    /// Lets go of the cells that nobody follows any more.
    pub(super) fn sweep(&self) {
        self.cells.lock().retain(|_, cell| cell.receiver_count() > 0);
    }
}
