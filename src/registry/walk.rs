//! Walking: comparing with a peer bucket by bucket, first their digests, then the versions in those that differ, then the greater records.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::message::{AppliedAt, Want};
use super::record::Record;
use super::repair::{Ended, Pull, Stage};
use super::serve::KEYS_MAX;
use super::time::Now;
use super::{Outbox, Registry};
use crate::model::{InstanceKey, ServiceKey, Version};

/// How many buckets' versions one question asks for.
const BUCKETS_ASKED: usize = 256;
/// How many services that differ are counted; there may be more.
const DIFFERING_MAX: usize = 10_000;

/// Walking through the buckets that differ.
pub(super) struct Walk {
    /// Not asked about yet.
    todo: Vec<u16>,
    /// Being asked about.
    asked: Vec<u16>,
    /// The last key of those that was told; `None` once all were.
    after: Option<InstanceKey>,
    /// What the peer had applied when its side was compared.
    theirs: Vec<AppliedAt>,
    /// The peer knows all it can.
    knows_all: bool,
    /// Where a live record differs, as far as it was seen.
    differing: BTreeSet<ServiceKey>,
}

impl Walk {
    /// Through these buckets; the peer had applied `theirs`, and knows all it can or not.
    pub(super) fn new(todo: Vec<u16>, theirs: Vec<AppliedAt>, knows_all: bool) -> Self {
        Self { todo, asked: Vec::new(), after: None, theirs, knows_all, differing: BTreeSet::new() }
    }
}

impl Registry {
    /// Asks about the next buckets that differ; with none left the pull is done.
    pub(super) fn walk_on(&mut self, mut pull: Pull, mut walk: Walk, now: Now, out: &mut Outbox) {
        if walk.after.is_none() {
            walk.asked = walk.todo.drain(..walk.todo.len().min(BUCKETS_ASKED)).collect();
        }
        if walk.asked.is_empty() {
            self.finish_walk(pull, &walk, now, out);
            return;
        }
        let want = Want::Versions { buckets: walk.asked.clone(), after: walk.after.clone() };
        pull.stage = Stage::Versions(walk);
        self.ask_on(pull, want, now, out);
    }

    pub(super) fn versions_came(
        &mut self,
        pull: Pull,
        mut walk: Walk,
        versions: Vec<(InstanceKey, Version)>,
        more: bool,
        now: Now,
        out: &mut Outbox,
    ) {
        let last = versions.last().map(|(key, _)| key.clone());
        walk.after = if more { last } else { None };
        self.note_differing(&mut walk.differing, &versions);
        let is_greater = |key: &InstanceKey, version: &Version| match self.store.get(key) {
            Some(known) => known.version < *version,
            // A withdrawn record that we had and forgot is not taken again; a live one that nobody here knows is.
            None => version.live || self.applied.seq(&version.owner) < version.seq,
        };
        let mut lacked = Vec::new();
        for (key, version) in versions.into_iter().filter(|(key, version)| is_greater(key, version)) {
            // What would be refused is not fetched.
            match self.growth_limit(&key).filter(|_| version.live) {
                Some(limit) => self.over_limit.refuse(limit, &pull.of, now.mono),
                None => lacked.push(key),
            }
        }
        self.fetch(pull, lacked, walk, now, out);
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

    /// Asks for records; with none left the walk goes on.
    fn fetch(&mut self, mut pull: Pull, keys: Vec<InstanceKey>, walk: Walk, now: Now, out: &mut Outbox) {
        if keys.is_empty() {
            self.walk_on(pull, walk, now, out);
            return;
        }
        let want = Want::Records { keys: keys.iter().take(KEYS_MAX).cloned().collect() };
        pull.stage = Stage::Records(keys, walk);
        self.ask_on(pull, want, now, out);
    }

    pub(super) fn records_came(
        &mut self,
        mut pull: Pull,
        mut asked: Vec<InstanceKey>,
        walk: Walk,
        records: &[Arc<Record>],
        now: Now,
        out: &mut Outbox,
    ) {
        let of = pull.of.clone();
        let gained = self.merge_all(records, &of, now, out);
        pull.has_gained(gained, out);
        // Records come in the order asked; those behind the last one that came did not fit. None at all: the peer has forgotten them.
        let came = records.last().and_then(|last| asked.iter().position(|key| *key == last.key));
        let rest = asked.split_off(came.map_or(asked.len().min(KEYS_MAX), |position| position + 1));
        self.fetch(pull, rest, walk, now, out);
    }

    /// All buckets are compared, and what was lacked is here: what the peer had applied when its side was compared counts as ours.
    fn finish_walk(&mut self, pull: Pull, walk: &Walk, now: Now, out: &mut Outbox) {
        self.repair.differing_services = walk.differing.len();
        self.raise_applied(&pull.of, &walk.theirs, now.mono);
        if let Some(own) = walk.theirs.iter().find(|at| at.life == pull.of) {
            self.applied.ends_at(&own.life, own.seq, now.mono);
        }
        self.has_compared(&pull.of.node, walk.knows_all);
        self.has_caught_up(&pull.of.node);
        self.end_pull(pull, Ended::Done, now, out);
    }
}
