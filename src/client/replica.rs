//! A replica: what a consumer holds of one service, and how each event of a stream changes it.
//!
//! It never shrinks on anything but what the registry said was complete.

use std::collections::BTreeMap;

use crate::api::Hex;
use crate::api::consume::{Delta, Instance, Snapshot, Trust};

/// What a consumer holds of one service.
#[derive(Debug, Clone, Default)]
pub struct Replica {
    held: Option<Held>,
    /// Another node may be asked where this ended; `None`: the whole is needed.
    resumable: bool,
}

/// A service's instances, as last heard.
#[derive(Debug, Clone)]
pub struct Held {
    /// Of the service.
    pub revision: Hex,
    /// How far that could be relied on.
    pub trust: Trust,
    /// By their ids.
    pub instances: BTreeMap<String, Instance<'static>>,
}

/// How one instance changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// It is new.
    Added(Instance<'static>),
    /// It was there, and is other than before.
    Updated {
        /// As it was.
        before: Instance<'static>,
        /// As it is.
        after: Instance<'static>,
    },
    /// It is gone, or no longer selected.
    Removed {
        /// As it was.
        before: Instance<'static>,
        /// Why, where the registry said so; a snapshot does not.
        cause: Option<String>,
        /// It is still there, with this status, but no longer selected.
        status: Option<String>,
    },
}

impl Replica {
    /// What is held; `None` before the first snapshot.
    #[must_use]
    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// Where to go on, at any node.
    #[must_use]
    pub fn resume_at(&self) -> Option<Hex> {
        self.held.as_ref().filter(|_| self.resumable).map(|held| held.revision)
    }

    /// Replaces what is held; what an incomplete snapshot does not list is kept.
    pub fn apply_snapshot(&mut self, snapshot: Snapshot<'static>) -> Vec<Change> {
        let mut listed: BTreeMap<_, _> = snapshot.instances.into_iter().map(|instance| (instance.id.to_string(), instance)).collect();
        let mut before = self.held.take().map(|held| held.instances).unwrap_or_default();
        let mut changes = Vec::new();
        for (id, instance) in &listed {
            match before.remove(id) {
                None => changes.push(Change::Added(instance.clone())),
                Some(old) if old != *instance => changes.push(Change::Updated { before: old, after: instance.clone() }),
                Some(_) => {}
            }
        }
        if snapshot.trust.complete {
            changes.extend(before.into_values().map(|before| Change::Removed { before, cause: None, status: None }));
        } else {
            listed.append(&mut before);
        }
        // What was kept beyond the snapshot is no part of its revision: deltas from there are sound, but the next node is asked anew.
        self.resumable = snapshot.trust.complete;
        self.held = Some(Held { revision: snapshot.revision, trust: snapshot.trust, instances: listed });
        changes
    }

    /// Takes one step. `None`: it does not begin where this stands, nothing was changed, and the whole is needed.
    pub fn apply_delta(&mut self, delta: Delta<'static>) -> Option<Vec<Change>> {
        let held = self.held.as_mut().filter(|held| held.revision == delta.from)?;
        let mut changes = Vec::new();
        for after in delta.upsert {
            match held.instances.insert(after.id.to_string(), after.clone()) {
                None => changes.push(Change::Added(after)),
                Some(before) => changes.push(Change::Updated { before, after }),
            }
        }
        for removed in delta.remove {
            if let Some(before) = held.instances.remove(&*removed.id) {
                let status = removed.status.map(std::borrow::Cow::into_owned);
                changes.push(Change::Removed { before, cause: Some(removed.cause.into_owned()), status });
            }
        }
        held.revision = delta.revision;
        Some(changes)
    }

    /// Asks for the whole next time.
    pub fn distrust(&mut self) {
        self.resumable = false;
    }

    /// A new stream has begun: until it says otherwise, what it tells can be relied on.
    pub fn apply_opened(&mut self) {
        self.apply_stale(false);
        self.apply_preserved(false);
    }

    /// Takes over what a notice says: whether the node hears its bus.
    pub fn apply_stale(&mut self, stale: bool) {
        if let Some(held) = &mut self.held {
            held.trust.stale = stale;
        }
    }

    /// Takes over what a notice says: whether some of the instances would have expired.
    pub fn apply_preserved(&mut self, preserved: bool) {
        if let Some(held) = &mut self.held {
            held.trust.preserved = preserved;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(id: &str, status: &str) -> serde_json::Value {
        serde_json::json!({"id": id, "address": "10.0.0.7", "port": 80, "status": status, "weight": 100})
    }

    fn snapshot(revision: u128, complete: bool, instances: &[serde_json::Value]) -> Snapshot<'static> {
        serde_json::from_value(serde_json::json!({"namespace": "default", "service": "user", "revision": Hex(revision),
            "complete": complete, "stale": false, "preserved": false, "instances": instances}))
        .unwrap()
    }

    fn delta(from: u128, to: u128, upsert: &[serde_json::Value], remove: &[&str]) -> Delta<'static> {
        let remove: Vec<_> = remove.iter().map(|id| serde_json::json!({"id": id, "cause": "expired"})).collect();
        serde_json::from_value(serde_json::json!({"namespace": "default", "service": "user", "from": Hex(from),
            "revision": Hex(to), "upsert": upsert, "remove": remove}))
        .unwrap()
    }

    fn ids(replica: &Replica) -> Vec<&str> {
        replica.held().map(|held| held.instances.keys().map(String::as_str).collect()).unwrap_or_default()
    }

    #[test]
    fn a_snapshot_replaces_and_tells_the_difference() {
        let mut replica = Replica::default();
        assert_eq!(replica.apply_snapshot(snapshot(1, true, &[instance("a", "up"), instance("b", "up")])).len(), 2);
        let changes = replica.apply_snapshot(snapshot(2, true, &[instance("b", "suspect"), instance("c", "up")]));
        assert_eq!(ids(&replica), ["b", "c"]);
        assert!(matches!(&changes[..], [Change::Updated { .. }, Change::Added(_), Change::Removed { cause: None, .. }]), "{changes:?}");
        assert_eq!(replica.resume_at(), Some(Hex(2)));
    }

    #[test]
    fn an_incomplete_snapshot_takes_nothing_away_and_is_asked_anew() {
        let mut replica = Replica::default();
        replica.apply_snapshot(snapshot(1, true, &[instance("a", "up")]));
        assert!(replica.apply_snapshot(snapshot(9, false, &[])).is_empty());
        assert_eq!(ids(&replica), ["a"]);
        assert_eq!(replica.resume_at(), None);
    }

    #[test]
    fn a_delta_applies_only_where_it_begins() {
        let mut replica = Replica::default();
        assert_eq!(replica.apply_delta(delta(1, 2, &[], &[])), None);
        replica.apply_snapshot(snapshot(1, true, &[instance("a", "up")]));
        assert_eq!(replica.apply_delta(delta(7, 8, &[], &["a"])), None);
        assert_eq!(ids(&replica), ["a"]);
        let changes = replica.apply_delta(delta(1, 2, &[instance("b", "up")], &["a", "unknown"])).unwrap();
        assert_eq!((ids(&replica), changes.len()), (vec!["b"], 2));
        assert_eq!(replica.resume_at(), Some(Hex(2)));
    }
}
