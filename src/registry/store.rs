//! The store: one record an instance, with the digests and the catalog that follow from them. Nothing here decides what is newer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use imbl::OrdMap;

use super::digest::Buckets;
use super::record::{Body, Record, key_hash};
use super::time::Mono;
use super::view::Catalog;
use crate::model::{InstanceKey, Life, Listed, Override, OverrideKey, Version};

/// A key with its bucket before it, so that one ordered map gives both a record and a bucket's records.
pub(super) type Slot = (u16, InstanceKey);

/// All records of the registry; cloning it is cheap and gives a consistent picture.
pub(super) type Records = OrdMap<Slot, Arc<Record>>;

pub(super) struct Store {
    records: Records,
    live: Buckets,
    withdrawn: Buckets,
    live_count: u64,
    catalog: Catalog,
    /// How many records each life owns.
    owners: BTreeMap<Life, u64>,
    /// The withdrawn records.
    gone: BTreeMap<InstanceKey, Gone>,
    /// The same in that order; an entry whose time is not the one in `gone` is void.
    gone_order: VecDeque<(Mono, InstanceKey)>,
    /// Those of instances that nobody knew when they were deregistered, the oldest first.
    unknown: BTreeSet<(Mono, InstanceKey)>,
}

/// A withdrawn record's time here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gone {
    /// When its instance was withdrawn, as far as this node knows.
    at: Mono,
    /// Since when every member is known to have applied it.
    known_since: Option<Mono>,
}

/// How many void entries are let be before they are dropped: so that dropping them costs little for each.
const VOID_MAX: usize = 1024;

/// What putting a record did.
pub(super) struct Put {
    /// What stood there before.
    pub(super) before: Option<Arc<Record>>,
    /// A consumer could tell.
    pub(super) told: bool,
}

pub(super) fn slot_of(key: &InstanceKey) -> Slot {
    (Buckets::bucket_of(key_hash(key)), key.clone())
}

impl Store {
    pub(super) fn new() -> Self {
        Self {
            records: OrdMap::new(),
            live: Buckets::new(),
            withdrawn: Buckets::new(),
            live_count: 0,
            catalog: Catalog::default(),
            owners: BTreeMap::new(),
            gone: BTreeMap::new(),
            gone_order: VecDeque::new(),
            unknown: BTreeSet::new(),
        }
    }

    pub(super) fn get(&self, key: &InstanceKey) -> Option<&Arc<Record>> {
        self.records.get(&slot_of(key))
    }

    /// Puts a record in the place of whatever stood there.
    /// `listed` is what consumers see of it.
    pub(super) fn put(&mut self, record: &Arc<Record>, listed: Option<Listed>, now: Mono) -> Put {
        let slot = slot_of(&record.key);
        let bucket = slot.0;
        self.sums_of(record).add(bucket, record.fingerprint());
        let before = self.records.insert(slot, Arc::clone(record));
        self.own(&record.version.owner);
        if let Some(before) = &before {
            self.sums_of(before).take(bucket, before.fingerprint());
            self.live_count -= u64::from(is_live(before));
            self.disown(&before.version.owner);
        }
        self.live_count += u64::from(is_live(record));
        let ended_nothing = record.is_of_unknown() && before.as_ref().is_none_or(|before| before.is_of_unknown());
        if let Some(gone) = self.gone.get(&record.key) {
            self.unknown.remove(&(gone.at, record.key.clone()));
        }
        if is_live(record) {
            self.gone.remove(&record.key);
        } else {
            // One that only changed hands went when it went.
            let at = self
                .gone
                .get(&record.key)
                .filter(|_| before.as_ref().is_some_and(|before| is_same_end(before, record)))
                .map_or(now, |gone| gone.at);
            self.gone.insert(record.key.clone(), Gone { at, known_since: None });
            self.gone_order.push_back((at, record.key.clone()));
            if ended_nothing {
                self.unknown.insert((at, record.key.clone()));
            }
            self.drop_void();
        }
        // Of what nobody knew there is nothing to be shown, not even that it is gone.
        let told = !ended_nothing && self.show(record, listed);
        Put { before, told }
    }

    /// Shows a record that stands otherwise than it was shown; says whether a consumer could tell.
    pub(super) fn show(&mut self, record: &Record, listed: Option<Listed>) -> bool {
        self.catalog.set(&record.key.service, &record.key.id, listed, record.cause)
    }

    /// Shows that an override holds, or `None`: no longer.
    pub(super) fn show_override(&mut self, key: &OverrideKey, value: Option<Arc<Override>>) {
        self.catalog.show_override(key, value);
    }

    /// Forgets the oldest withdrawn record that went at `until` or before, or whichever is oldest while there are more
    /// than `most`. `None`: nothing to forget.
    pub(super) fn forget_one(&mut self, until: Mono, most: u64) -> Option<InstanceKey> {
        loop {
            let (at, key) = self.gone_order.front()?;
            let is_current = self.gone.get(key).is_some_and(|gone| gone.at == *at);
            if is_current && *at > until && self.gone.len() as u64 <= most {
                return None;
            }
            let (_, key) = self.gone_order.pop_front()?;
            if is_current {
                self.forget(&key);
                return Some(key);
            }
        }
    }

    /// Forgets the oldest of those that nobody knew while there are more than `most`; whether there was one.
    pub(super) fn forget_unknown(&mut self, most: u64) -> bool {
        let Some((_, key)) = self.unknown.first().filter(|_| self.unknown.len() as u64 > most).cloned() else { return false };
        self.forget(&key);
        true
    }

    /// Forgets a withdrawn record.
    pub(super) fn forget(&mut self, key: &InstanceKey) {
        let Some(gone) = self.gone.remove(key) else { return };
        self.unknown.remove(&(gone.at, key.clone()));
        let slot = slot_of(key);
        if let Some(record) = self.records.remove(&slot) {
            self.withdrawn.take(slot.0, record.fingerprint());
            self.disown(&record.version.owner);
        }
        self.catalog.forget(&key.service, &key.id);
    }

    /// The withdrawn records behind this key, or from the first on, in order.
    pub(super) fn gone_after(&self, after: Option<&InstanceKey>) -> impl Iterator<Item = &InstanceKey> {
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        self.gone.range::<InstanceKey, _>((from, std::ops::Bound::Unbounded)).map(|(key, _)| key)
    }

    /// Notes whether every member is known to have applied this withdrawn record; gives back since when.
    pub(super) fn note_known(&mut self, key: &InstanceKey, is_known: bool, now: Mono) -> Option<Mono> {
        let gone = self.gone.get_mut(key)?;
        gone.known_since = if is_known { gone.known_since.or(Some(now)) } else { None };
        gone.known_since
    }

    /// The lives that own any record.
    pub(super) fn owners(&self) -> impl Iterator<Item = &Life> {
        self.owners.keys()
    }

    fn own(&mut self, owner: &Life) {
        match self.owners.get_mut(owner) {
            Some(count) => *count += 1,
            None => {
                self.owners.insert(owner.clone(), 1);
            }
        }
    }

    fn disown(&mut self, owner: &Life) {
        if let Some(count) = self.owners.get_mut(owner) {
            *count -= 1;
            if *count == 0 {
                self.owners.remove(owner);
            }
        }
    }

    /// Instances that come and go leave void entries behind: they never outnumber the others by much.
    fn drop_void(&mut self) {
        if self.gone_order.len() > 2 * self.gone.len() + VOID_MAX {
            let gone = &self.gone;
            self.gone_order.retain(|(at, key)| gone.get(key).is_some_and(|gone| gone.at == *at));
        }
    }

    /// When the oldest withdrawn record was written or heard, roughly: not before that.
    pub(super) fn oldest_gone(&self) -> Option<Mono> {
        self.gone_order.front().map(|(at, _)| *at)
    }

    /// When this withdrawn record was written or heard here.
    pub(super) fn gone_at(&self, key: &InstanceKey) -> Option<Mono> {
        self.gone.get(key).map(|gone| gone.at)
    }

    pub(super) fn withdrawn_count(&self) -> u64 {
        self.gone.len() as u64
    }

    pub(super) fn live_count(&self) -> u64 {
        self.live_count
    }

    pub(super) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    pub(super) fn records(&self) -> &Records {
        &self.records
    }

    /// Of live records.
    pub(super) fn live(&self) -> &Buckets {
        &self.live
    }

    /// Of withdrawn records; no part of the node's digest.
    pub(super) fn withdrawn(&self) -> &Buckets {
        &self.withdrawn
    }

    /// Key and version of the records of one bucket, after `after`.
    pub(super) fn versions(&self, bucket: u16, after: Option<&InstanceKey>) -> impl Iterator<Item = (&InstanceKey, &Version)> {
        self.of_bucket(bucket, after).map(|record| (&record.key, &record.version))
    }

    /// The records of one bucket, after `after`.
    pub(super) fn of_bucket(&self, bucket: u16, after: Option<&InstanceKey>) -> impl Iterator<Item = &Arc<Record>> {
        let after = after.map(|key| (bucket, key.clone()));
        let from = match after {
            Some(slot) => std::ops::Bound::Excluded(slot),
            None => std::ops::Bound::Included((bucket, first_key())),
        };
        let records = self.records.range((from, std::ops::Bound::Unbounded));
        records.take_while(move |((of, _), _)| *of == bucket).map(|(_, record)| record)
    }

    fn sums_of(&mut self, record: &Record) -> &mut Buckets {
        if is_live(record) { &mut self.live } else { &mut self.withdrawn }
    }
}

/// Of one instance's withdrawn records, both say the same end: only who holds it has changed.
fn is_same_end(before: &Record, after: &Record) -> bool {
    let end = |record: &Record| (record.version.incarnation, record.version.edition, record.version.deregistered);
    !is_live(before) && !is_live(after) && end(before) == end(after)
}

fn is_live(record: &Record) -> bool {
    matches!(record.body, Body::Live { .. })
}

/// Before every key there can be.
fn first_key() -> InstanceKey {
    InstanceKey::least()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Cause, Epoch, Incarnation, InstanceId, Life, Namespace, NodeName, ServiceKey, ServiceName};

    fn withdrawn(seq: u64) -> Arc<Record> {
        let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
        let owner = Life { node: NodeName::parse("n1").unwrap(), epoch: Epoch(1) };
        let version = Version { incarnation: Incarnation::FIRST, edition: seq, deregistered: true, generation: 0, live: false, owner, seq };
        let key = InstanceKey { service, id: InstanceId::parse("a").unwrap() };
        let body = Body::Withdrawn { kept: None, named: false, of_unknown: false, draining: false };
        Arc::new(Record {
            key,
            version,
            body,
            cause: Cause::Deregistered,
            changed_at: 0,
            actor: None,
            detail: None,
            last_heartbeat_ms: None,
            first_content: None,
        })
    }

    #[test]
    fn an_instance_that_comes_and_goes_leaves_no_trail() {
        let mut store = Store::new();
        for seq in 1..=3 * VOID_MAX as u64 {
            store.put(&withdrawn(seq), None, seq);
        }
        assert!(store.gone_order.len() <= VOID_MAX + 2, "{} entries", store.gone_order.len());
        assert_eq!(store.forget_one(0, 0).map(|key| key.id.to_string()), Some("a".to_owned()));
        assert_eq!((store.withdrawn_count(), store.withdrawn().total(), store.records().len()), (0, 0, 0));
    }
}
