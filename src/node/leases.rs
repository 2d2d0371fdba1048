//! The table of last heartbeats: renewals are stored here from wherever they arrive, and never enter the node's queue.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use foldhash::fast::RandomState;

use crate::model::{InstanceKey, NodeName};
use crate::registry::{Heartbeat, LeaseTerms, Mono, Renewed};

/// One cell for each lease held here; the registry says which, and asks when a deadline fires.
pub(super) struct LeaseTable {
    owner: NodeName,
    cells: papaya::HashMap<InstanceKey, Cell, RandomState>,
    /// The node is leaving: every heartbeat is to be told to the registry, which refuses it.
    is_closed: AtomicBool,
}

struct Cell {
    terms: LeaseTerms,
    last_heartbeat: AtomicU64,
}

impl LeaseTable {
    pub(super) fn new(owner: NodeName) -> Self {
        Self { owner, cells: papaya::HashMap::builder().hasher(RandomState::default()).build(), is_closed: AtomicBool::new(false) }
    }

    /// Takes a heartbeat that is a renewal and nothing else; `None`: the registry is to judge it.
    pub(super) fn renew(&self, heartbeat: &Heartbeat) -> Option<Renewed> {
        let cells = self.cells.pin();
        let cell = cells.get(&heartbeat.key)?;
        let terms = &cell.terms;
        let fits = terms.steady
            && heartbeat.incarnation.is_none_or(|incarnation| incarnation == terms.incarnation)
            && heartbeat.digest.is_none_or(|digest| digest == terms.digest)
            && heartbeat.reported.is_none_or(|reported| reported == terms.reported && !terms.draining)
            && !self.is_closed.load(Ordering::Relaxed);
        if !fits {
            return None;
        }
        cell.last_heartbeat.fetch_max(heartbeat.at, Ordering::Relaxed);
        Some(Renewed {
            renew_every_ms: terms.renew_every_ms,
            owner: self.owner.clone(),
            incarnation: terms.incarnation,
            status: terms.status,
        })
    }

    /// Keeps a lease's heartbeats under these terms; gives the last one now known.
    pub(super) fn hold(&self, key: &InstanceKey, terms: LeaseTerms, at: Mono) -> Mono {
        let cells = self.cells.pin();
        // The former cell is read after it was replaced: a heartbeat stored in it until then is carried over.
        let former = cells.insert(key.clone(), Cell { terms, last_heartbeat: AtomicU64::new(at) });
        let last = former.map_or(0, |cell| cell.last_heartbeat.load(Ordering::Relaxed)).max(at);
        if let Some(cell) = cells.get(key) {
            cell.last_heartbeat.fetch_max(last, Ordering::Relaxed);
        }
        last
    }

    /// Stores a heartbeat that the registry judged; an earlier one than the known changes nothing.
    pub(super) fn store(&self, key: &InstanceKey, at: Mono) {
        if let Some(cell) = self.cells.pin().get(key) {
            cell.last_heartbeat.fetch_max(at, Ordering::Relaxed);
        }
    }

    pub(super) fn last(&self, key: &InstanceKey) -> Option<Mono> {
        self.cells.pin().get(key).map(|cell| cell.last_heartbeat.load(Ordering::Relaxed))
    }

    pub(super) fn drop_lease(&self, key: &InstanceKey) {
        self.cells.pin().remove(key);
    }

    pub(super) fn set_closed(&self, is_closed: bool) {
        self.is_closed.store(is_closed, Ordering::Relaxed);
    }
}
