//! Members: every other node that anybody has heard of within a day and that has not said goodbye. Majorities are counted among them.

use std::collections::BTreeMap;

use super::applied::FORGET_AFTER_MS;
use super::message::{MEMBERS_MAX, MemberAt};
use super::time::Mono;
use crate::model::NodeName;

/// What others say of a node counts only where it is newer by more than this: its way here makes it look younger, and two nodes that hand
/// it to and fro would keep one that is gone young for ever.
const HEARSAY_NEWER_MS: u64 = 500;
/// And one that is about to be forgotten is not heard of anew: who forgets it first would have it back from the others.
const HEARSAY_LEFT_MS: u64 = 10_000;

/// A node that said goodbye is expected back, with what its disk holds, for so long: restarts and moves to another machine take less.
const BACK_WITHIN_MS: Mono = 3_600_000;

/// The nodes of the cluster, as far as anybody here or elsewhere has heard of them. At most [`MEMBERS_MAX`]; one more is not counted.
pub(super) struct Members {
    /// This node's own name: it is no other node.
    own: NodeName,
    known: BTreeMap<NodeName, Member>,
}

struct Member {
    /// When anybody heard it last.
    heard_at: Mono,
    /// That was a goodbye.
    has_left: bool,
}

impl Members {
    pub(super) fn new(own: NodeName) -> Self {
        Self { own, known: BTreeMap::new() }
    }

    /// This node heard it at `at`. What was heard later counts; a goodbye is the last that is heard of a life.
    pub(super) fn note(&mut self, node: &NodeName, at: Mono, has_left: bool) {
        let is_newer = self.known.get(node).is_none_or(|member| (at, has_left) > (member.heard_at, member.has_left));
        if is_newer {
            self.put(node, at, has_left);
        }
    }

    /// Another node says that it heard it at `at`. A goodbye comes only once: it is taken however little later it was.
    pub(super) fn note_hearsay(&mut self, node: &NodeName, at: Mono, has_left: bool, now: Mono) {
        let is_newer = match self.known.get(node) {
            Some(member) if has_left && !member.has_left => at >= member.heard_at,
            Some(member) => at > member.heard_at + HEARSAY_NEWER_MS,
            None => at + FORGET_AFTER_MS > now + HEARSAY_LEFT_MS,
        };
        if is_newer {
            self.put(node, at, has_left);
        }
    }

    fn put(&mut self, node: &NodeName, heard_at: Mono, has_left: bool) {
        let is_full = self.known.len() >= MEMBERS_MAX && !self.known.contains_key(node);
        if *node != self.own && !is_full {
            self.known.insert(node.clone(), Member { heard_at, has_left });
        }
    }

    /// Those that count: heard within a day, and not gone by their own word.
    pub(super) fn iter(&self, now: Mono) -> impl Iterator<Item = &NodeName> {
        self.known.iter().filter(move |(_, member)| !member.has_left && member.heard_at + FORGET_AFTER_MS > now).map(|(node, _)| node)
    }

    /// Those that may hold what others have forgotten: who said goodbye may come back with its disk.
    pub(super) fn iter_with_left(&self, now: Mono) -> impl Iterator<Item = &NodeName> {
        let counts = move |member: &Member| member.heard_at + if member.has_left { BACK_WITHIN_MS } else { FORGET_AFTER_MS } > now;
        self.known.iter().filter(move |(_, member)| counts(member)).map(|(node, _)| node)
    }

    /// It is one of those that count.
    pub(super) fn contains(&self, node: &NodeName, now: Mono) -> bool {
        self.known.get(node).is_some_and(|member| !member.has_left && member.heard_at + FORGET_AFTER_MS > now)
    }

    /// Nobody has heard it for so long.
    pub(super) fn is_silent_for(&self, node: &NodeName, ms: Mono, now: Mono) -> bool {
        self.known.get(node).is_some_and(|member| member.heard_at + ms < now)
    }

    /// It said goodbye, and nothing was heard of it since.
    pub(super) fn has_left(&self, node: &NodeName) -> bool {
        self.known.get(node).is_some_and(|member| member.has_left)
    }

    /// As a beacon says it.
    pub(super) fn to_said(&self, now: Mono) -> Vec<MemberAt> {
        let said = |(node, member): (&NodeName, &Member)| MemberAt {
            node: node.clone(),
            age_ms: u32::try_from(now.saturating_sub(member.heard_at)).unwrap_or(u32::MAX),
            has_left: member.has_left,
        };
        self.known.iter().map(said).collect()
    }

    /// Forgets nodes of which nobody has heard for a day.
    pub(super) fn forget(&mut self, now: Mono) {
        self.known.retain(|_, member| member.heard_at + FORGET_AFTER_MS > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goodbye_holds_until_the_node_is_heard_again() {
        let node = NodeName::parse("n2").unwrap();
        let mut members = Members::new(NodeName::parse("n1").unwrap());
        members.note(&NodeName::parse("n1").unwrap(), 1000, false);
        assert_eq!(members.iter(1000).count(), 0);
        members.note(&node, 1000, false);
        members.note(&node, 1000, true);
        members.note(&node, 900, false);
        assert!(!members.contains(&node, 1100) && members.has_left(&node));
        members.note(&node, 1001, false);
        assert!(members.contains(&node, 1100) && !members.has_left(&node));
        assert!(!members.contains(&node, 1001 + FORGET_AFTER_MS));
    }

    #[test]
    fn two_that_tell_each_other_of_a_third_do_not_keep_it_young() {
        let [a, b, gone] = ["a", "b", "gone"].map(|name| NodeName::parse(name).unwrap());
        let mut sides = [Members::new(a), Members::new(b)];
        for side in &mut sides {
            side.note(&gone, 1000, false);
        }
        let mut now = 1000;
        while now < 1000 + FORGET_AFTER_MS + 20_000 {
            for (from, to) in [(0, 1), (1, 0)] {
                // Each tells the other, which hears it a little later.
                let said: Vec<MemberAt> = sides[from].to_said(now);
                now += 400;
                for at in said {
                    sides[to].note_hearsay(&at.node, now - u64::from(at.age_ms), at.has_left, now);
                }
                sides[to].forget(now);
            }
        }
        assert_eq!((sides[0].known.len(), sides[1].known.len()), (0, 0));
    }

    #[test]
    fn a_goodbye_that_only_others_heard_counts() {
        let node = NodeName::parse("n2").unwrap();
        let mut members = Members::new(NodeName::parse("n1").unwrap());
        members.note(&node, 1000, false);
        members.note_hearsay(&node, 1001, true, 1010);
        assert!(members.has_left(&node));
        members.note_hearsay(&node, 1400, false, 1500);
        assert!(members.has_left(&node), "its last beacon before, told late");
        assert_eq!((members.iter(1500).count(), members.iter_with_left(1500).count()), (0, 1));
        assert_eq!(members.iter_with_left(1500 + BACK_WITHIN_MS).count(), 0);
        members.note_hearsay(&node, 1600, false, 1600);
        assert!(members.contains(&node, 1600));
    }
}
