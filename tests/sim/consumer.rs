//! Consumers: what somebody holds who follows one service by events, at one node after another.
//!
//! As `GET /v1/watch` and its clients do: a snapshot or a delta from where the consumer stands, then deltas; after a node's end on at another
//! node from the revision that is held. What an incomplete snapshot does not list is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster::model::{InstanceId, Listed, ServiceKey};
use muster::registry::{View, listed_digest};

use crate::invariant::{Invariant, Violation};

type Instances = BTreeMap<InstanceId, Arc<Listed>>;

/// What a node tells a consumer.
#[derive(Debug, Clone)]
pub(crate) enum Telling {
    Snapshot {
        complete: bool,
        view: Arc<View>,
    },
    Delta {
        from: u128,
        revision: u128,
        upsert: Vec<Arc<Listed>>,
        remove: Vec<InstanceId>,
    },
    /// What the consumer holds is what there is.
    Unchanged,
}

/// What is held of a service.
#[derive(Debug, Default)]
struct Held {
    revision: u128,
    /// What the node told.
    told: Instances,
    /// What was held before and an incomplete snapshot did not list.
    kept: Instances,
    complete: bool,
}

pub(crate) struct Consumer {
    pub(crate) service: ServiceKey,
    /// Where its stream is, or will be.
    pub(crate) node: usize,
    /// Counts its streams; what a former one still brings is not read.
    pub(crate) stream: u32,
    /// What the node has sent on the open stream, and whether it called that complete; `None`: no stream is open.
    pub(crate) sent: Option<(Arc<View>, bool)>,
    /// When what was sent last arrives: a stream keeps its order.
    pub(crate) arrives_at: u64,
    /// When its stream was opened.
    pub(crate) since: u64,
    held: Option<Held>,
}

impl Consumer {
    pub(crate) fn new(service: ServiceKey, node: usize) -> Self {
        Self { service, node, stream: 0, sent: None, arrives_at: 0, since: 0, held: None }
    }

    /// Where the next stream may go on.
    pub(crate) fn resumes_at(&self) -> Option<u128> {
        self.held.as_ref().filter(|held| held.complete && held.kept.is_empty()).map(|held| held.revision)
    }

    /// It has a stream of this service open there.
    pub(crate) fn is_at(&self, node: usize, service: &ServiceKey) -> bool {
        self.node == node && self.service == *service && self.sent.is_some()
    }

    /// What it was told of an instance.
    pub(crate) fn told(&self, id: &InstanceId) -> Option<&Listed> {
        self.held.as_ref()?.told.get(id).map(|listed| &**listed)
    }

    /// The instances it would call.
    pub(crate) fn ids(&self) -> BTreeSet<InstanceId> {
        self.held.iter().flat_map(|held| held.told.keys().chain(held.kept.keys())).cloned().collect()
    }

    /// How many that are.
    pub(crate) fn count(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.told.len() + held.kept.len())
    }

    /// What it holds was said to be all.
    pub(crate) fn is_sure(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.complete)
    }

    /// Takes one event; the error says how it does not follow from what is held.
    pub(crate) fn hear(&mut self, telling: Telling) -> Result<(), Violation> {
        match telling {
            Telling::Snapshot { complete, view } => {
                let before = self.held.take().unwrap_or_default();
                let told: Instances = view.instances().iter().map(|(id, listed)| (id.clone(), Arc::clone(listed))).collect();
                let mut kept = Instances::new();
                if !complete {
                    kept = before.kept.into_iter().chain(before.told).filter(|(id, _)| !told.contains_key(id)).collect();
                }
                self.held = Some(Held { revision: view.revision(), told, kept, complete });
            }
            Telling::Delta { from, revision, upsert, remove } => {
                let held = self.held.get_or_insert_default();
                if held.revision != from {
                    return Err(inexact(format!("a delta from {from:x} came to one who is at {:x}", held.revision)));
                }
                for id in &remove {
                    held.told.remove(id);
                    held.kept.remove(id);
                }
                for listed in upsert {
                    held.kept.remove(&listed.id);
                    held.told.insert(listed.id.clone(), listed);
                }
                held.revision = revision;
            }
            Telling::Unchanged => {}
        }
        let held = self.held.get_or_insert_default();
        let holds = held.told.values().fold(0_u128, |sum, listed| sum.wrapping_add(listed_digest(listed)));
        if holds == held.revision {
            Ok(())
        } else {
            Err(inexact(format!("a consumer of {} was told that it is at {:x}, and holds {holds:x}", self.service, held.revision)))
        }
    }

    /// Whether it holds exactly what is there, and knows it.
    pub(crate) fn compare(&self, view: &View) -> Result<(), String> {
        let Some(held) = &self.held else { return Err(format!("a consumer of {} was told nothing", self.service)) };
        let is_same = held.told.len() == view.instances().len()
            && held.told.iter().all(|(id, listed)| view.instances().get(id).is_some_and(|there| **there == **listed));
        if is_same && held.kept.is_empty() && held.complete && held.revision == view.revision() {
            return Ok(());
        }
        let (told, kept, there): (Vec<_>, Vec<_>, Vec<_>) =
            (held.told.keys().collect(), held.kept.keys().collect(), view.instances().keys().collect());
        Err(format!("a consumer of {} holds {told:?} and kept {kept:?} (complete: {}); there are {there:?}", self.service, held.complete))
    }
}

fn inexact(what: String) -> Violation {
    Violation { of: Invariant::WatchersExact, what }
}

/// The step from one view to another.
pub(crate) fn step(old: &View, new: &View) -> Telling {
    let upsert = new.instances().iter().filter(|(id, listed)| old.instances().get(*id).is_none_or(|before| **before != ***listed));
    let upsert = upsert.map(|(_, listed)| Arc::clone(listed)).collect();
    let remove = old.instances().keys().filter(|id| !new.instances().contains_key(*id)).cloned().collect();
    Telling::Delta { from: old.revision(), revision: new.revision(), upsert, remove }
}
