//! Members: every other node that anybody has heard of within a day and that has not said goodbye. Majorities are counted among them.

use std::collections::BTreeMap;

use super::applied::FORGET_AFTER_MS;
use super::message::{MEMBERS_MAX, MemberAt};
use super::time::Mono;
use crate::model::NodeName;

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

    /// Somebody heard this node at `at`. What was heard later counts; a goodbye is the last that is heard of a life.
    pub(super) fn note(&mut self, node: &NodeName, at: Mono, has_left: bool) {
        if let Some(member) = self.known.get_mut(node) {
            if (at, has_left) > (member.heard_at, member.has_left) {
                *member = Member { heard_at: at, has_left };
            }
        } else if *node != self.own && self.known.len() < MEMBERS_MAX {
            self.known.insert(node.clone(), Member { heard_at: at, has_left });
        }
    }

    /// Those that count: heard within a day, and not gone by their own word.
    pub(super) fn iter(&self, now: Mono) -> impl Iterator<Item = &NodeName> {
        self.known.iter().filter(move |(_, member)| !member.has_left && member.heard_at + FORGET_AFTER_MS > now).map(|(node, _)| node)
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
}
