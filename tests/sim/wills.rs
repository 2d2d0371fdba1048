//! Wills: what operators said in a story. The last word on each override holds at every node in the end, and no node that held it lets go.
//!
//! The last word is the one with the greatest stamp, whoever heard of it. One that nobody holds any more, because every node that did is
//! gone, may be lost; which of the former words then comes to hold cannot be known, so nothing is asked until a greater one is said.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster::model::{Life, Override, OverrideKey};
use muster::registry::{Answer, Entry, Input, SetOverride, Stamp, Willed};

use crate::counts::Injected;
use crate::invariant::Invariant;
use crate::world::World;

#[derive(Default)]
pub(crate) struct Wills {
    /// How often a node came to hold another one, or one was over.
    pub(crate) changes: u64,
    words: BTreeMap<OverrideKey, Word>,
    /// What each life of a node was last seen to hold, and whether that ends by itself.
    seen: BTreeMap<(Life, OverrideKey), (Stamp, bool)>,
}

/// The last word on an override.
struct Word {
    stamp: Stamp,
    /// `None`: it was deleted.
    value: Option<Arc<Override>>,
    expires: bool,
    /// Nobody may hold it any more.
    is_lost: bool,
}

impl World {
    pub(crate) fn set_override(&mut self, node: usize, set: SetOverride) {
        let (key, value, expires) = (set.key.clone(), Arc::clone(&set.value), set.expires_in_ms.is_some());
        if let Some(Answer::OverrideSet { .. }) = self.operate(node, |ticket| Input::SetOverride(ticket, set)) {
            self.counts.add(Injected::OverrideSet);
            self.note_word(node, &key, Some(value), expires);
        }
    }

    pub(crate) fn delete_override(&mut self, node: usize, key: &OverrideKey) {
        if let Some(Answer::OverrideDeleted) = self.operate(node, |ticket| Input::DeleteOverride(ticket, key.clone())) {
            self.counts.add(Injected::OverrideDeleted);
            self.note_word(node, key, None, false);
        }
    }

    fn note_word(&mut self, node: usize, key: &OverrideKey, value: Option<Arc<Override>>, expires: bool) {
        let entry = self.entries(node).into_iter().find(|entry| entry.key == *key);
        let Some(Entry { stamp, .. }) = entry.filter(|entry| value_of(entry) == value.as_ref()) else {
            return self.violate(Invariant::WillHolds, format!("n{node} took a word on {key}, and does not hold it"));
        };
        self.trace.say(self.now, || format!("n{node} is told of {key}: {value:?}, {stamp:?}"));
        if self.wills.words.get(key).is_none_or(|word| word.stamp < stamp) {
            self.wills.words.insert(key.clone(), Word { stamp, value, expires, is_lost: false });
        }
    }

    /// Whether this node took what a stranger said; then that is the last word, until an operator says another.
    pub(crate) fn note_forged_will(&mut self, node: usize, key: &OverrideKey, stamp: &Stamp, value: &Arc<Override>) -> bool {
        let is_held = self.entries(node).iter().any(|entry| entry.key == *key && entry.stamp == *stamp);
        if is_held && self.wills.words.get(key).is_none_or(|word| word.stamp < *stamp) {
            let word = Word { stamp: stamp.clone(), value: Some(Arc::clone(value)), expires: false, is_lost: false };
            self.wills.words.insert(key.clone(), word);
        }
        is_held
    }

    fn entries(&self, node: usize) -> Vec<Entry> {
        self.registry(node).map_or_else(Vec::new, |registry| registry.shared_entries(self.now_at(node)))
    }

    /// A word is lost when no node that runs holds it; and when none runs, unless all will find it on their disks.
    pub(crate) fn note_lost_wills(&mut self) {
        let running = self.running();
        let held: Vec<Entry> = running.iter().flat_map(|node| self.entries(*node)).collect();
        let holds = |entries: &[Entry], key: &OverrideKey, stamp: &Stamp| entries.iter().any(|at| at.key == *key && at.stamp >= *stamp);
        let is_lost = |(key, word): &(&OverrideKey, &Word)| {
            let is_saved = || running.is_empty() && self.all_disks(|warm| holds(&warm.overrides, key, &word.stamp));
            !word.is_lost && !holds(&held, key, &word.stamp) && !is_saved()
        };
        let lost: Vec<OverrideKey> = self.wills.words.iter().filter(is_lost).map(|(key, _)| key.clone()).collect();
        for key in lost {
            self.trace.say(self.now, || format!("the last word on {key} may be lost"));
            self.wills.words.get_mut(&key).expect("unreachable: it is one of them").is_lost = true;
        }
    }

    /// What a life of a node has held it holds, or something greater; and what was set and does not end by itself is not ended.
    pub(crate) fn check_wills(&mut self, node: usize) {
        let Some(life) = self.life(node) else { return };
        let entries: BTreeMap<OverrideKey, Entry> = self.entries(node).into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        for ((_, key), (stamp, is_set)) in self.wills.seen.iter().filter(|((seen, _), _)| *seen == life) {
            let holds = |entry: &Entry| entry.stamp > *stamp || entry.stamp == *stamp && (!is_set || value_of(entry).is_some());
            if !entries.get(key).is_some_and(holds) {
                let what = format!("n{node} held {key} by {stamp:?}, and now {:?}", entries.get(key));
                return self.violate(Invariant::WillHolds, what);
            }
        }
        for (key, entry) in entries {
            let stays = matches!(entry.willed, Willed::Set { expires_in_ms: None, .. });
            self.wills.seen.insert((life.clone(), key), (entry.stamp, stays));
        }
    }

    /// In the end all nodes hold the same overrides, and the last word on each.
    pub(crate) fn check_wills_hold(&mut self) {
        let running = self.running();
        let held: Vec<BTreeMap<OverrideKey, (Stamp, Arc<Override>)>> = running.iter().map(|node| self.held_overrides(*node)).collect();
        let differs = running.iter().zip(&held).find(|(_, overrides)| **overrides != held[0]);
        if let Some((node, overrides)) = differs {
            let what = format!("n{} and n{node} hold different overrides: {:?} | {overrides:?}", running[0], held[0]);
            return self.violate(Invariant::Convergence, what);
        }
        let Some(held) = held.first() else { return };
        let is_wrong = |(key, word): &(&OverrideKey, &Word)| {
            let value = held.get(*key).map(|(_, value)| value);
            // What ends by itself has ended by now.
            let wanted = word.value.as_ref().filter(|_| !word.expires);
            !word.is_lost && value != wanted
        };
        let wrong = self.wills.words.iter().find(is_wrong);
        if let Some(what) = wrong.map(|(key, word)| format!("{key} was last said to be {:?}, and is {:?}", word.value, held.get(key))) {
            self.violate(Invariant::WillHolds, what);
        }
    }

    fn held_overrides(&self, node: usize) -> BTreeMap<OverrideKey, (Stamp, Arc<Override>)> {
        let set = |entry: Entry| Some((entry.key.clone(), (entry.stamp.clone(), Arc::clone(value_of(&entry)?))));
        self.entries(node).into_iter().filter_map(set).collect()
    }
}

fn value_of(entry: &Entry) -> Option<&Arc<Override>> {
    match &entry.willed {
        Willed::Set { value, .. } => Some(value),
        Willed::Deleted { .. } => None,
    }
}
