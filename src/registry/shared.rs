//! The shared map: operators' overrides, small and whole on every node. Of two entries for one name the greater stamp wins, deletions too.
//!
//! An entry that ends by itself travels with the time that is left, and each node counts that down on its own clock: it then becomes a
//! deletion under its own stamp, and of two entries with one stamp the deletion wins. So the node whose clock was first is followed
//! by the others, and a node that still has the entry cannot bring it back. A deletion travels with the time after which it is
//! forgotten, in the same way: it is passed on with less and less, so it never outlives its day by being passed around.
//!
//! What is deleted or over counts for nothing in the digest: two nodes of which only one remembers a deletion agree.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::applied::FORGET_AFTER_MS;
use super::plausible::{EDITION_FREE_MAX, EDITION_MAX, is_plausible_count};
use super::record::Canonical;
use super::time::Mono;
use crate::model::{
    Epoch, InstanceId, InstanceKey, Life, Listed, Namespace, NodeName, Override, OverrideKey, OverrideName, ServiceKey, ServiceName,
};

/// Which of two entries for one name is the later: a Lamport number over the whole map, then the life that wrote it, which
/// writes no number twice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// One more than the greatest that its writer knew, as far as that is plausible; 1 to [`Stamp::COUNTER_MAX`].
    pub counter: u64,
    /// Its writer; past the last counter a name after that of the writer before it.
    pub by: Life,
}

impl Stamp {
    /// The greatest counter that a peer may say.
    pub const COUNTER_MAX: u64 = (1 << 53) - 1;

    /// The one after the last counter that peers take, written by this life: it counts on in the writer, in whose name it then may not be.
    fn followed_by(&self, by: &Life) -> Self {
        let next = Life { node: self.by.node.clone(), epoch: Epoch(by.epoch.0.max(self.by.epoch.0.saturating_add(1))) };
        Self { counter: self.counter, by: if *by > self.by { by.clone() } else { next } }
    }
}

/// An override as it travels, and as it is kept on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub key: OverrideKey,
    /// When it was written, among all writes.
    pub stamp: Stamp,
    /// What is willed.
    pub willed: Willed,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Willed {
    /// This holds.
    Set {
        /// What.
        value: Arc<Override>,
        /// For this long from now; `None`: until it is deleted. At most [`crate::model::EXPIRES_IN_MS_MAX`].
        expires_in_ms: Option<u64>,
    },
    /// Nothing holds any more.
    Deleted {
        /// For this long that is remembered; at most a day.
        forget_in_ms: u64,
    },
}

impl Entry {
    /// As it is after it has lain somewhere for so long.
    pub(super) fn older_by(self, ms: u64) -> Self {
        let willed = match self.willed {
            Willed::Set { value, expires_in_ms } => Willed::Set { value, expires_in_ms: expires_in_ms.map(|left| left.saturating_sub(ms)) },
            Willed::Deleted { forget_in_ms } => Willed::Deleted { forget_in_ms: forget_in_ms.saturating_sub(ms) },
        };
        Self { willed, ..self }
    }

    pub(super) fn size_bytes(&self) -> usize {
        let value = match &self.willed {
            Willed::Set { value, .. } => value.size_bytes(),
            Willed::Deleted { .. } => 0,
        };
        self.key.namespace.as_str().len() + self.key.name.as_str().len() + self.stamp.by.node.as_str().len() + value + 48
    }
}

/// How many entries are held in all, deletions too. Past it the deletion that would be forgotten first is; without any, an entry of a
/// peer's is not taken. Far above what one node's `limits.overrides` lets in, because each node counts before it hears of the others' writes.
const ENTRIES_MAX: usize = 20_000;

/// All entries, with what follows from them.
#[derive(Default)]
pub(super) struct Shared {
    entries: BTreeMap<OverrideKey, Held>,
    /// When which entry is over or forgotten.
    due: BTreeSet<(Mono, OverrideKey)>,
    /// The ones that hold, by where they look: at one service, or at all of a namespace.
    scopes: BTreeMap<(Namespace, Option<ServiceName>), BTreeSet<OverrideName>>,
    /// The greatest counter known, of those that are taken of any entry.
    counter: u64,
    /// Wrapping sum of the fingerprints of those that hold.
    digest: u128,
    /// How many hold.
    count: usize,
    /// What was told to whom, so that nobody is told all of it all the time.
    pub(super) told: BTreeMap<NodeName, Told>,
    /// Instances that must be looked at again because an override changed: all of a service, or one.
    pub(super) stale: BTreeSet<(ServiceKey, Option<InstanceId>)>,
}

/// How far a peer has been told the map.
pub(super) struct Told {
    /// When it was last told some of it.
    pub(super) at: Mono,
    /// Up to here; `None`: all.
    pub(super) up_to: Option<OverrideKey>,
    /// The digests, ours and the peer's, that differed then.
    pub(super) digests: (u128, u128),
    /// How often it had been told all of it, and both stayed as they were.
    pub(super) in_vain: u32,
}

/// An entry as it is held.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    stamp: Stamp,
    /// `None`: deleted, or over.
    value: Option<Arc<Override>>,
    /// When it is over, or the deletion is forgotten; `None`: never.
    until: Option<Mono>,
}

impl Held {
    /// Of two for one name the greater is held.
    fn rank(&self) -> (&Stamp, bool, Reverse<Mono>) {
        (&self.stamp, self.value.is_none(), Reverse(self.until.unwrap_or(Mono::MAX)))
    }
}

/// An override that holds, or no longer does.
pub(super) struct Touched {
    pub(super) key: OverrideKey,
    pub(super) before: Option<Arc<Override>>,
    pub(super) after: Option<Arc<Override>>,
}

impl Shared {
    pub(super) fn digest(&self) -> u128 {
        self.digest
    }

    /// How many hold.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The one of this name, if it holds.
    pub(super) fn get(&self, key: &OverrideKey) -> Option<&Arc<Override>> {
        self.entries.get(key)?.value.as_ref()
    }

    /// This entry, or a later one of its name, is known.
    pub(super) fn holds(&self, entry: &Entry) -> bool {
        self.entries.get(&entry.key).is_some_and(|held| held.stamp >= entry.stamp)
    }

    /// Writes an entry above all that is known. `None` is a deletion.
    pub(super) fn write(
        &mut self,
        key: OverrideKey,
        value: Option<Arc<Override>>,
        lasts_ms: Option<u64>,
        by: &Life,
        now: Mono,
    ) -> Option<Touched> {
        // However far somebody has driven the greatest counter, or this entry's: peers take what is written.
        let known = self.entries.get(&key).map(|held| &held.stamp);
        let counter = (self.counter + 1).min(EDITION_FREE_MAX).max(known.map_or(0, |known| known.counter) + 1);
        let stamp = match known.filter(|_| counter > EDITION_MAX) {
            Some(known) => known.followed_by(by),
            None => Stamp { counter, by: by.clone() },
        };
        let willed = match value {
            Some(value) => Willed::Set { value, expires_in_ms: lasts_ms },
            None => Willed::Deleted { forget_in_ms: FORGET_AFTER_MS },
        };
        self.merge(Entry { key, stamp, willed }, now).unwrap_or_default()
    }

    /// Takes an entry that is greater than the known one.
    ///
    /// # Errors
    /// The rule, when it breaks one; it was not taken.
    pub(super) fn merge(&mut self, entry: Entry, now: Mono) -> Result<Option<Touched>, &'static str> {
        let Entry { key, stamp, willed } = entry;
        if !is_plausible_count(stamp.counter) {
            return Err("its counter is above all that writes come to");
        }
        let held = match willed {
            Willed::Set { value, expires_in_ms } => {
                Held { stamp, value: Some(value), until: expires_in_ms.map(|ms| now.saturating_add(ms)) }
            }
            Willed::Deleted { forget_in_ms } => Held { stamp, value: None, until: Some(now + forget_in_ms.min(FORGET_AFTER_MS)) },
        };
        if self.entries.get(&key).is_some_and(|known| known.rank() >= held.rank()) {
            return Ok(None);
        }
        if !self.entries.contains_key(&key) && !self.has_room() {
            return Err("there is no room for it");
        }
        self.counter = self.counter.max(held.stamp.counter.min(EDITION_FREE_MAX));
        Ok(self.put(key, held))
    }

    /// Makes room by forgetting a deletion, where there is none.
    fn has_room(&mut self) -> bool {
        if self.entries.len() < ENTRIES_MAX {
            return true;
        }
        let is_deletion = |(_, key): &&(Mono, OverrideKey)| self.entries.get(key).is_some_and(|held| held.value.is_none());
        let Some((_, key)) = self.due.iter().find(is_deletion).cloned() else { return false };
        self.take(&key);
        true
    }

    fn put(&mut self, key: OverrideKey, held: Held) -> Option<Touched> {
        let before = self.take(&key);
        self.due.extend(held.until.map(|until| (until, key.clone())));
        if let Some(value) = &held.value {
            self.digest = self.digest.wrapping_add(fingerprint(&key, &held.stamp));
            self.count += 1;
            self.scopes.entry(scope_of(&key, value)).or_default().insert(key.name.clone());
        }
        let after = held.value.clone();
        self.entries.insert(key.clone(), held);
        (before != after).then_some(Touched { key, before, after })
    }

    /// Takes an entry out, with all that followed from it; gives what held.
    fn take(&mut self, key: &OverrideKey) -> Option<Arc<Override>> {
        let held = self.entries.remove(key)?;
        if let Some(until) = held.until {
            self.due.remove(&(until, key.clone()));
        }
        let value = held.value?;
        self.digest = self.digest.wrapping_sub(fingerprint(key, &held.stamp));
        self.count -= 1;
        let scope = scope_of(key, &value);
        if let Some(names) = self.scopes.get_mut(&scope) {
            names.remove(&key.name);
            if names.is_empty() {
                self.scopes.remove(&scope);
            }
        }
        Some(value)
    }

    /// When the next entry is over or forgotten.
    pub(super) fn next_due(&self) -> Option<Mono> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Ends what is over, one entry; forgets deletions on the way there. `None`: nothing is due.
    pub(super) fn end_one(&mut self, now: Mono) -> Option<Touched> {
        while self.next_due().is_some_and(|due| due <= now) {
            let (_, key) = self.due.pop_first()?;
            let Some(held) = self.entries.get(&key).cloned() else { continue };
            if held.value.is_none() {
                self.take(&key);
                continue;
            }
            return self.put(key, Held { value: None, until: Some(now + FORGET_AFTER_MS), ..held });
        }
        None
    }

    /// All entries as they travel, after `after`.
    fn entries_after(&self, after: Option<&OverrideKey>, now: Mono) -> impl Iterator<Item = Entry> {
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.clone()));
        self.entries.range((from, Bound::Unbounded)).map(move |(key, held)| {
            let left = held.until.map(|until| until.saturating_sub(now));
            let willed = match &held.value {
                Some(value) => Willed::Set { value: Arc::clone(value), expires_in_ms: left },
                None => Willed::Deleted { forget_in_ms: left.unwrap_or(FORGET_AFTER_MS) },
            };
            Entry { key: key.clone(), stamp: held.stamp.clone(), willed }
        })
    }

    /// All entries as they travel.
    pub(super) fn to_entries(&self, now: Mono) -> Vec<Entry> {
        self.entries_after(None, now).collect()
    }

    /// The entry of this name as it travels.
    pub(super) fn to_entry(&self, key: &OverrideKey, now: Mono) -> Option<Entry> {
        let before = self.entries.range(..key.clone()).next_back().map(|(before, _)| before.clone());
        self.entries_after(before.as_ref(), now).next().filter(|entry| entry.key == *key)
    }

    /// Some of the entries, from the one after `after` on, in parts of about `bytes_max` each and `parts_max` in all; and the last of them,
    /// where more follow.
    pub(super) fn parts(
        &self,
        after: Option<&OverrideKey>,
        bytes_max: usize,
        parts_max: usize,
        now: Mono,
    ) -> (Vec<Vec<Entry>>, Option<OverrideKey>) {
        let mut parts: Vec<Vec<Entry>> = Vec::new();
        let mut bytes = 0;
        for entry in self.entries_after(after, now) {
            let size = entry.size_bytes();
            let is_full = bytes + size > bytes_max;
            if is_full && parts.len() == parts_max {
                let last = parts.last().and_then(|part| part.last()).map(|entry| entry.key.clone());
                return (parts, last);
            }
            match parts.last_mut() {
                Some(part) if !is_full => {
                    bytes += size;
                    part.push(entry);
                }
                Some(_) | None => {
                    bytes = size;
                    parts.push(vec![entry]);
                }
            }
        }
        (parts, None)
    }

    /// The overrides that are about this instance, each with its name, the one that counts most at the end.
    pub(super) fn about<'a>(&'a self, key: &InstanceKey, listed: &Listed) -> Vec<(&'a OverrideName, &'a Override)> {
        if self.count == 0 {
            return Vec::new();
        }
        let ServiceKey { namespace, service } = &key.service;
        let scopes = [None, Some(service.clone())].map(|service| self.scopes.get(&(namespace.clone(), service)));
        let named = scopes.into_iter().flatten().flatten().filter_map(|name| {
            let held = self.entries.get_key_value(&OverrideKey { namespace: namespace.clone(), name: name.clone() });
            held.and_then(|(of, held)| Some((&of.name, &held.stamp, held.value.as_deref()?)))
        });
        let mut about: Vec<_> = named.filter(|(_, _, value)| value.is_about(key, listed)).collect();
        about.sort_by_key(|(_, stamp, value)| (value.breadth(), *stamp));
        about.into_iter().map(|(name, _, value)| (name, value)).collect()
    }
}

fn scope_of(key: &OverrideKey, value: &Override) -> (Namespace, Option<ServiceName>) {
    (key.namespace.clone(), value.parts().service.clone())
}

/// Adds up, wrapping, to the map's digest: a fixed hash, the same on every machine. The stamp decides the content.
pub(super) fn fingerprint(key: &OverrideKey, stamp: &Stamp) -> u128 {
    let mut hash = Canonical::default();
    hash.text(key.namespace.as_str());
    hash.text(key.name.as_str());
    hash.number(stamp.counter);
    hash.text(stamp.by.node.as_str());
    hash.number(stamp.by.epoch.0);
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Imposed, OverrideDraft};

    fn life(number: u64) -> Life {
        Life { node: NodeName::parse("n1").unwrap(), epoch: Epoch(number) }
    }

    fn key(name: &str) -> OverrideKey {
        OverrideKey { namespace: Namespace::default(), name: OverrideName::parse(name).unwrap() }
    }

    fn value(reason: &str) -> Arc<Override> {
        let draft = OverrideDraft { status: Some(Imposed::Down), reason: reason.to_owned(), ..OverrideDraft::default() };
        Arc::new(Override::new(draft).unwrap())
    }

    fn copied(from: &Shared, into: &mut Shared, now: Mono) {
        from.to_entries(now).into_iter().for_each(|entry| drop(into.merge(entry, now)));
    }

    #[test]
    fn what_is_over_does_not_come_back_from_a_node_whose_clock_is_slower() {
        let (mut one, mut other) = (Shared::default(), Shared::default());
        one.write(key("a"), Some(value("a")), Some(100), &life(1), 0);
        copied(&one, &mut other, 10);
        assert_eq!((one.digest(), one.len()), (other.digest(), 1));
        assert!(one.end_one(99).is_none());
        assert!(one.end_one(100).is_some_and(|touched| touched.after.is_none()));
        assert_eq!((one.digest(), one.len()), (0, 0));
        copied(&other, &mut one, 100);
        assert_eq!(one.digest(), 0);
        copied(&one, &mut other, 100);
        assert_eq!(other.digest(), 0);
    }

    #[test]
    fn a_deletion_that_is_passed_around_is_forgotten_after_its_day() {
        let (mut one, mut other) = (Shared::default(), Shared::default());
        one.write(key("a"), Some(value("a")), None, &life(1), 0);
        one.write(key("a"), None, None, &life(1), 0);
        for hour in (1..48).map(|hour| hour * 3_600_000) {
            if hour >= FORGET_AFTER_MS / 2 {
                copied(&one, &mut other, hour);
                copied(&other, &mut one, hour);
            }
            assert!(one.end_one(hour).is_none() && other.end_one(hour).is_none());
            assert_eq!(one.entries.is_empty() && other.entries.is_empty(), hour >= FORGET_AFTER_MS, "{hour}");
        }
    }

    #[test]
    fn a_map_that_is_too_large_for_one_telling_is_told_on_from_where_it_was_left() {
        let mut shared = Shared::default();
        (0..10).for_each(|number| drop(shared.write(key(&format!("o{number}")), Some(value("x")), None, &life(1), 0)));
        let (mut told, mut after) = (Vec::new(), None);
        loop {
            let (parts, last) = shared.parts(after.as_ref(), 250, 2, 0);
            assert!(parts.len() <= 2 && parts.iter().all(|part| part.iter().map(Entry::size_bytes).sum::<usize>() <= 250));
            told.extend(parts.into_iter().flatten());
            after = last;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(told, shared.to_entries(0));
    }

    #[test]
    fn a_counter_out_of_all_proportion_is_not_taken() {
        let mut shared = Shared::default();
        let stamp = Stamp { counter: EDITION_MAX + 1, by: life(1) };
        let willed = Willed::Set { value: value("a"), expires_in_ms: None };
        assert!(shared.merge(Entry { key: key("a"), stamp, willed }, 0).is_err());
        assert_eq!((shared.counter, shared.len()), (0, 0));
    }

    #[test]
    fn whoever_drives_the_counters_ends_no_override_for_good() {
        let (mut one, mut other) = (Shared::default(), Shared::default());
        let willed = Willed::Set { value: value("forged"), expires_in_ms: None };
        one.write(key("a"), Some(value("a")), None, &life(1), 0);
        one.write(key("b"), Some(value("b")), None, &life(1), 0);
        copied(&one, &mut other, 0);
        for counter in [EDITION_FREE_MAX, EDITION_MAX] {
            // One node may have missed it, or may not know the name at all.
            let forged = Entry { key: key("a"), stamp: Stamp { counter, by: life(9) }, willed: willed.clone() };
            assert!(one.merge(forged, 0).is_ok());
        }
        for name in ["a", "b", "c"] {
            assert!(one.write(key(name), Some(value("true")), None, &life(1), 0).is_some(), "{name}");
            one.write(key(name), Some(value("later")), None, &life(1), 0);
        }
        let mut joins = Shared::default();
        for entry in one.to_entries(0) {
            assert!(other.merge(entry.clone(), 0).is_ok() && joins.merge(entry, 0).is_ok());
        }
        assert_eq!((one.digest(), one.len()), (other.digest(), 3));
        assert_eq!(one.digest(), joins.digest());
    }

    #[test]
    fn past_the_bound_deletions_make_room_and_then_nothing_does() {
        let mut shared = Shared::default();
        for number in 0..ENTRIES_MAX {
            shared.write(key(&format!("o{number}")), Some(value("x")), None, &life(1), 0);
        }
        let entry = |name: &str, counter| Entry {
            key: key(name),
            stamp: Stamp { counter, by: life(2) },
            willed: Willed::Set { value: value("x"), expires_in_ms: None },
        };
        assert!(shared.merge(entry("late", 99_999), 0).is_err());
        shared.write(key("o7"), None, None, &life(1), 0);
        assert!(shared.merge(entry("late", 99_999), 0).is_ok());
        assert_eq!((shared.entries.len(), shared.len()), (ENTRIES_MAX, ENTRIES_MAX));
    }

    /// Nodes of other versions and machines have this number too.
    #[test]
    fn the_digest_is_the_same_for_ever() {
        let digest = fingerprint(&key("deploy-42"), &Stamp { counter: 7, by: life(1) });
        assert_eq!(digest, 0x7933_c09e_fcac_6693_303f_d38b_3dd0_abf1);
    }
}
