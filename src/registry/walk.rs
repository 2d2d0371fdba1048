//! Walking: comparing with a peer bucket by bucket, first their digests, then the versions in those that differ, then the greater records.
//! A node that joins reads the records of buckets of which it has nothing at once, and compares the others: so it goes on at another peer where
//! it stopped, and nothing of what is here comes twice.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::digest::BUCKETS;
use super::pull::{NotUnderstood, Pull, Task};
use super::record::Record;
use super::repair::Unread;
use super::store::slot_of;
use super::time::Now;
use super::{Outbox, Registry};
use crate::model::{InstanceKey, ServiceKey, Version};
use crate::registry::pull::Kind;

/// How many services that differ are counted; there may be more.
const DIFFERING_MAX: usize = 10_000;

impl Registry {
    /// The buckets of `from..to` in which the peer's digests are not ours.
    pub(super) fn differing(&self, from: u16, to: Option<u16>, live: &[(u16, u128)], withdrawn: &[(u16, u128)]) -> Vec<u16> {
        let mut differing = self.store.live().differing(live);
        differing.extend(self.store.withdrawn().differing(withdrawn));
        differing.retain(|bucket| *bucket >= from && to.is_none_or(|to| *bucket < to));
        differing.sort_unstable();
        differing.dedup();
        differing
    }

    /// Sees to the buckets that differ.
    pub(super) fn look_into(&self, pull: &mut Pull, differing: Vec<u16>) {
        let is_unread = |bucket: &u16| pull.kind == Kind::Copy && pull.is_sized && self.repair.unread.contains(*bucket);
        let (whole, known): (Vec<u16>, Vec<u16>) = differing.into_iter().partition(is_unread);
        if !whole.is_empty() {
            pull.todo.push_back(Task::Whole { buckets: whole, after: None });
        }
        if !known.is_empty() {
            pull.todo.push_back(Task::Versions { buckets: known, after: None });
        }
    }

    pub(super) fn versions_came(
        &mut self,
        pull: &mut Pull,
        buckets: &[u16],
        after: Option<&InstanceKey>,
        (versions, more): (Vec<(InstanceKey, Version)>, bool),
        now: Now,
    ) -> Result<(), NotUnderstood> {
        pull.versions_left(buckets, after, &versions, more)?;
        self.note_differing(&mut pull.differing, &versions);
        let is_greater = |key: &InstanceKey, version: &Version| match self.store.get(key) {
            Some(known) => known.version < *version,
            // A withdrawn record that we had and forgot is not taken again; a live one that nobody here knows is.
            None => version.live || self.applied.seq(&version.owner) < version.seq,
        };
        let mut lacked = Vec::new();
        let greater: Vec<(InstanceKey, Version)> = versions.into_iter().filter(|(key, version)| is_greater(key, version)).collect();
        for (key, version) in greater {
            // What would be refused is not fetched.
            match self.growth_limit(&key).filter(|_| version.live) {
                Some(limit) => self.refuse_record(limit, &pull.of, now.mono),
                None => lacked.push(key),
            }
        }
        if !lacked.is_empty() {
            pull.todo.push_front(Task::Records { keys: lacked });
        }
        Ok(())
    }

    /// Counts where the peer's live records are not ours, whichever is greater.
    fn note_differing(&self, differing: &mut BTreeSet<ServiceKey>, theirs: &[(InstanceKey, Version)]) {
        let is_seen = |version: &Version, known: Option<&Arc<Record>>| version.live || known.is_some_and(|known| known.version.live);
        for (key, version) in theirs {
            let known = self.store.get(key);
            let is_same = known.is_some_and(|known| known.version == *version);
            if !is_same && is_seen(version, known) && differing.len() < DIFFERING_MAX {
                differing.insert(key.service.clone());
            }
        }
    }

    pub(super) fn records_came(&mut self, pull: &mut Pull, asked: Vec<InstanceKey>, records: &[Arc<Record>], now: Now, out: &mut Outbox) {
        let of = pull.of.clone();
        let gained = self.merge_all(records, &of, now, out);
        pull.has_gained(gained, out);
        pull.records_left(asked, records);
    }

    /// Records of whole buckets came, up to `next` where there are more.
    pub(super) fn whole_came(
        &mut self,
        pull: &mut Pull,
        mut buckets: Vec<u16>,
        after: Option<&InstanceKey>,
        (records, next): (&[Arc<Record>], Option<InstanceKey>),
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), NotUnderstood> {
        let of = pull.of.clone();
        let gained = self.merge_all(records, &of, now, out);
        pull.has_gained(gained, out);
        let read_to = next.as_ref().map(slot_of);
        if read_to.is_some() && (records.is_empty() || read_to <= after.map(slot_of)) {
            return Err(NotUnderstood);
        }
        let is_read = |bucket: &u16| read_to.as_ref().is_none_or(|(of, _)| bucket < of);
        buckets.iter().filter(|bucket| is_read(bucket)).for_each(|bucket| self.repair.unread.remove(*bucket));
        buckets.retain(|bucket| !is_read(bucket));
        if !buckets.is_empty() {
            pull.todo.push_front(Task::Whole { buckets, after: next });
        }
        Ok(())
    }

    /// All buckets are compared, and what was lacked is here: what the peer had applied when its side was compared counts as ours.
    pub(super) fn finish_walk(&mut self, pull: &Pull, now: Now) {
        self.repair.differing_services = pull.differing.len();
        self.raise_applied(&pull.of, &pull.theirs, now.mono);
        if let Some(own) = pull.theirs.iter().find(|at| at.life == pull.of) {
            self.applied.ends_at(&own.life, own.seq, now.mono);
        }
        self.has_compared(&pull.of.node, pull.knows_all, now);
        self.has_caught_up(&pull.of.node);
    }

    /// A whole copy came.
    pub(super) fn finish_copy(&mut self, pull: &Pull, now: Now) {
        self.repair.unread = Unread::none();
        self.raise_applied(&pull.of, &pull.theirs, now.mono);
        self.has_copied(&pull.of.node, now.mono);
    }
}

const _: () = assert!(BUCKETS <= u16::MAX as usize, "a bucket's number fits");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, Incarnation, InstanceId, Life, Namespace, NodeName, ServiceName};
    use crate::registry::Settings;

    #[test]
    fn a_peer_that_gives_the_same_again_and_says_there_is_more_is_asked_no_more() {
        let now = Now { mono: 1_000_000, wall: 0 };
        let of = Life { node: NodeName::parse("n2").unwrap(), epoch: Epoch(2) };
        let mut registry = Registry::new(Settings::new(NodeName::parse("n1").unwrap(), Epoch(1)), 1, now);
        let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("a").unwrap() };
        let key = InstanceKey { service, id: InstanceId::parse("i").unwrap() };
        let incarnation = Incarnation::new(1).unwrap();
        let version = Version { incarnation, edition: 0, deregistered: false, generation: 0, live: true, owner: of.clone(), seq: 1 };
        let mut pull = Pull::new(of, Kind::Buckets, Task::Buckets, true, false, now.mono);
        let mut answer = |after, more| {
            registry.versions_came(&mut pull, &[slot_of(&key).0], after, (vec![(key.clone(), version.clone())], more), now).is_ok()
        };
        assert_eq!((answer(None, true), answer(Some(&key), false), answer(Some(&key), true)), (true, true, false));
    }
}
