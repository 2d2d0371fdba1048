//! Members: every other node that counts when a majority is looked for.
//!
//! A node that this one received beacons from counts for 180 times as long as they came, a minute at the least and a day at the most:
//! a partition may hide it, and a name that was there for a moment is none that anybody waits for. A node that others alone know counts
//! only where a majority of the alive peers name it: for five minutes, and on as long as a majority of them received its beacons themselves.
//! One that left, was forgotten by an operator, or is refused wherever it is looked for (see `lost`) counts no more.

use std::collections::BTreeMap;

use super::applied::FORGET_AFTER_MS;
use super::message::{Evidence, MEMBERS_MAX, MemberAt};
use super::peers::ALIVE_MS;
use super::time::Mono;
use crate::model::NodeName;

/// What others say of a node counts only where it is newer by more than this: its way here makes it look younger, and two nodes that hand
/// it to and fro would keep one that is gone young for ever.
const HEARSAY_NEWER_MS: u64 = 500;
/// And one that is about to be forgotten is not heard of anew: who forgets it first would have it back from the others.
const HEARSAY_LEFT_MS: u64 = 10_000;
/// A node counts for so many times as long as its beacons came: ten seconds make half an hour, eight minutes a day. Longer protects the
/// smaller side of a partition where nodes are young; shorter ends ghosts sooner.
const COUNTS_FACTOR: u64 = 180;
/// And for this long at the least: a node that joins may be cut off before a second beacon came.
const COUNTS_MS_MIN: u64 = 60_000;
/// Beacons that came for less than this are a moment's: others are not led to count a node by them.
const PROVEN_MS: u64 = 10_000;
/// A node of which this one has received no beacon counts for so long on what others know of it.
const HEARSAY_COUNTS_MS: u64 = 300_000;

/// A node that said goodbye is expected back, with what its disk holds, for so long: restarts and moves to another machine take less.
const BACK_WITHIN_MS: Mono = 3_600_000;

/// The nodes of the cluster, as far as anybody here or elsewhere has heard of them. At most [`MEMBERS_MAX`]; past it the one that ceases to
/// count first makes room, unless that is the new one itself.
pub(super) struct Members {
    /// This node's own name: it is no other node.
    own: NodeName,
    known: BTreeMap<NodeName, Member>,
}

#[derive(Default)]
struct Member {
    /// When this node, or a majority of its alive peers, heard it last.
    heard_at: Mono,
    /// That was a goodbye, or an operator's word that it does not come back.
    has_left: bool,
    /// Beacons of it came here; `None`: others alone know it.
    direct: Option<Direct>,
    /// When a majority of the alive peers first named it, or last had its beacons themselves; `None`: never.
    attested_at: Option<Mono>,
    /// Since when its address refuses everybody who knows it; `None`: it does not.
    refused_since: Option<Mono>,
    /// That was so for long: it counts no more.
    is_lost: bool,
}

/// Beacons that came here.
#[derive(Clone, Copy)]
struct Direct {
    /// The last one.
    last: Mono,
    /// For how long they came, silences aside.
    for_ms: u64,
}

impl Direct {
    /// One comes now.
    fn next(before: Option<Self>, now: Mono) -> Self {
        let Some(Self { last, for_ms }) = before else { return Self { last: now, for_ms: 0 } };
        let gap = now.saturating_sub(last);
        Self { last: now.max(last), for_ms: if gap <= ALIVE_MS { for_ms + gap } else { for_ms } }
    }

    fn counts_until(self) -> Mono {
        self.last + (self.for_ms * COUNTS_FACTOR).clamp(COUNTS_MS_MIN, FORGET_AFTER_MS)
    }
}

impl Member {
    /// Until when it counts, if nothing more is heard of it.
    fn counts_until(&self) -> Mono {
        let by_itself = self.direct.map_or(0, Direct::counts_until);
        let by_others = self.attested_at.map_or(0, |at| at + HEARSAY_COUNTS_MS);
        by_itself.max(by_others).min(self.heard_at + FORGET_AFTER_MS)
    }

    /// It counts for the beacons that came here, and they came for longer than a moment.
    fn is_direct(&self, now: Mono) -> bool {
        self.direct.is_some_and(|direct| direct.for_ms >= PROVEN_MS && direct.counts_until() > now)
    }

    /// It was no moment's name: its beacons came here for longer than that, or a majority of the alive peers named it once.
    fn is_proven(&self) -> bool {
        self.attested_at.is_some() || self.direct.is_some_and(|direct| direct.for_ms >= PROVEN_MS)
    }

    /// It counts on what others know of it.
    fn is_attested(&self, now: Mono) -> bool {
        self.attested_at.is_some_and(|at| at + HEARSAY_COUNTS_MS > now)
    }

    fn counts(&self, now: Mono) -> bool {
        !self.has_left && !self.is_lost && self.counts_until() > now
    }
}

impl Members {
    pub(super) fn new(own: NodeName) -> Self {
        Self { own, known: BTreeMap::new() }
    }

    /// This node heard it at `at`. What was heard later counts; a goodbye is the last that is heard of a life.
    pub(super) fn note(&mut self, node: &NodeName, at: Mono, has_left: bool) {
        let is_newer = self.known.get(node).is_none_or(|member| (at, has_left) > (member.heard_at, member.has_left));
        if !is_newer {
            return;
        }
        let direct = Direct::next(self.known.get(node).and_then(|member| member.direct), at);
        if let Some(member) = self.entry(node, direct.counts_until(), at) {
            *member = Member { heard_at: at, has_left, direct: Some(direct), attested_at: member.attested_at, ..Member::default() };
        }
    }

    /// Another node says that it said goodbye at `at`. A goodbye comes only once: it is taken however little later it was.
    pub(super) fn note_goodbye(&mut self, node: &NodeName, at: Mono, now: Mono) {
        let is_newer = match self.known.get(node) {
            Some(member) if !member.has_left => at >= member.heard_at,
            Some(member) => at > member.heard_at + HEARSAY_NEWER_MS,
            None => at + FORGET_AFTER_MS > now + HEARSAY_LEFT_MS,
        };
        if is_newer {
            self.put_left(node, at, now);
        }
    }

    /// It does not count from now on, as one that left: an operator says that it does not come back.
    pub(super) fn put_left(&mut self, node: &NodeName, at: Mono, now: Mono) {
        if let Some(member) = self.entry(node, at + BACK_WITHIN_MS, now) {
            *member = Member { heard_at: at, has_left: true, direct: member.direct, attested_at: member.attested_at, ..Member::default() };
        }
    }

    /// A majority of the alive peers name it, and say that it was heard at `at` or later; `is_direct`: that many had its beacons themselves.
    pub(super) fn attest(&mut self, node: &NodeName, at: Mono, is_direct: bool, now: Mono) {
        let is_newer = self.known.get(node).is_none_or(|member| at > member.heard_at + HEARSAY_NEWER_MS);
        let is_old = at + FORGET_AFTER_MS <= now + HEARSAY_LEFT_MS;
        let is_known = self.known.contains_key(node);
        let Some(member) = (if is_known || !is_old { self.entry(node, now + HEARSAY_COUNTS_MS, now) } else { None }) else { return };
        if is_newer {
            *member = Member { heard_at: at, direct: member.direct, attested_at: member.attested_at, ..Member::default() };
        }
        if is_direct || (member.attested_at.is_none() && member.direct.is_none()) {
            member.attested_at = Some(now);
        }
    }

    /// The entry of a node; one that is new counts until `until`. `None`: it is this node's own name, or there is no room.
    fn entry(&mut self, node: &NodeName, until: Mono, now: Mono) -> Option<&mut Member> {
        if *node == self.own {
            return None;
        }
        if !self.known.contains_key(node) && self.known.len() >= MEMBERS_MAX {
            let ranked = self.known.iter().map(|(node, member)| (if member.counts(now) { member.counts_until() } else { 0 }, node));
            let (first_until, first) = ranked.min()?;
            if first_until >= until {
                return None;
            }
            let first = first.clone();
            self.known.remove(&first);
        }
        Some(self.known.entry(node.clone()).or_default())
    }

    /// Those that count.
    pub(super) fn iter(&self, now: Mono) -> impl Iterator<Item = &NodeName> {
        self.known.iter().filter(move |(_, member)| member.counts(now)).map(|(node, _)| node)
    }

    /// Those that may hold what others have forgotten, whether or not they count for a majority: who said goodbye may come back with its disk,
    /// who is lost likewise, and who is cut off may be hidden for a day. A moment's name holds nothing for long.
    pub(super) fn iter_with_left(&self, now: Mono) -> impl Iterator<Item = &NodeName> {
        let counts = move |member: &Member| {
            let until = match member {
                Member { has_left: true, heard_at, .. } => heard_at + BACK_WITHIN_MS,
                Member { heard_at, .. } if member.is_proven() => heard_at + FORGET_AFTER_MS,
                Member { .. } => member.counts_until(),
            };
            until > now
        };
        self.known.iter().filter(move |(_, member)| counts(member)).map(|(node, _)| node)
    }

    /// It is one of those that count.
    pub(super) fn contains(&self, node: &NodeName, now: Mono) -> bool {
        self.known.get(node).is_some_and(|member| member.counts(now))
    }

    /// Nobody has heard it for so long.
    pub(super) fn is_silent_for(&self, node: &NodeName, ms: Mono, now: Mono) -> bool {
        self.known.get(node).is_some_and(|member| member.heard_at + ms < now)
    }

    /// It said goodbye, and nothing was heard of it since.
    pub(super) fn has_left(&self, node: &NodeName) -> bool {
        self.known.get(node).is_some_and(|member| member.has_left)
    }

    /// Until when it counts, for its own beacons or for what others know of it: 0 for one that is not known.
    pub(super) fn counts_until(&self, node: &NodeName) -> Mono {
        self.known.get(node).map_or(0, Member::counts_until)
    }

    /// Its beacons came here for less than this.
    pub(super) fn is_brief(&self, node: &NodeName, ms: u64) -> bool {
        self.known.get(node).is_none_or(|member| member.direct.is_none_or(|direct| direct.for_ms < ms))
    }

    /// It counts for the beacons that came here, and they came for longer than a moment.
    pub(super) fn is_direct(&self, node: &NodeName, now: Mono) -> bool {
        self.known.get(node).is_some_and(|member| member.is_direct(now))
    }

    /// Whether its address refuses everybody who knows it; says whether it has just ceased to count for that.
    pub(super) fn note_refused(&mut self, node: &NodeName, is_refused: bool, dead_after_ms: u64, now: Mono) -> bool {
        let Some(member) = self.known.get_mut(node) else { return false };
        if !is_refused {
            member.refused_since = None;
            return false;
        }
        let since = *member.refused_since.get_or_insert(now);
        let is_over = !member.is_lost && since + dead_after_ms <= now;
        member.is_lost |= is_over;
        is_over
    }

    /// This node did not run for a while: nothing was looked at meanwhile.
    pub(super) fn forget_refusals(&mut self) {
        self.known.values_mut().for_each(|member| member.refused_since = None);
    }

    /// As a beacon says it: those that count, and those that do not for a reason that others are to know.
    pub(super) fn to_said(&self, refuses: impl Fn(&NodeName) -> bool, now: Mono) -> Vec<MemberAt> {
        let said = |(node, member): (&NodeName, &Member)| MemberAt {
            node: node.clone(),
            age_ms: u32::try_from(now.saturating_sub(member.heard_at)).unwrap_or(u32::MAX),
            has_left: member.has_left,
            evidence: Some(Evidence {
                is_direct: member.is_direct(now),
                is_attested: member.is_attested(now),
                refuses: refuses(node),
                is_lost: member.is_lost,
            }),
        };
        self.known.iter().filter(|(_, member)| member.has_left || member.counts_until() > now).map(said).collect()
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
                let said: Vec<MemberAt> = sides[from].to_said(|_| false, now);
                now += 400;
                for at in said {
                    sides[to].attest(&at.node, now - u64::from(at.age_ms), true, now);
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
        members.note_goodbye(&node, 1001, 1010);
        assert!(members.has_left(&node));
        members.attest(&node, 1400, true, 1500);
        assert!(members.has_left(&node), "its last beacon before, told late");
        assert_eq!((members.iter(1500).count(), members.iter_with_left(1500).count()), (0, 1));
        assert_eq!(members.iter_with_left(1500 + BACK_WITHIN_MS).count(), 0);
        members.attest(&node, 1600, true, 1600);
        assert!(members.contains(&node, 1600));
    }

    #[test]
    fn a_name_counts_for_as_long_as_it_was_there_many_times_over() {
        let [brief, long] = ["brief", "long"].map(|name| NodeName::parse(name).unwrap());
        let mut members = Members::new(NodeName::parse("n1").unwrap());
        members.note(&brief, 0, false);
        (0..=100).for_each(|second| members.note(&long, second * 1000, false));
        assert!(members.contains(&brief, COUNTS_MS_MIN - 1) && !members.contains(&brief, COUNTS_MS_MIN));
        assert!(members.contains(&long, 100_000 + 17_999_999) && !members.contains(&long, 100_000 + 18_000_000));
        // A second beacon after hours makes no long life of it.
        members.note(&brief, 40_000_000, false);
        assert!(!members.contains(&brief, 40_000_000 + COUNTS_MS_MIN));
    }

    #[test]
    fn what_others_alone_know_counts_for_minutes_unless_they_had_its_beacons_themselves() {
        let [hearsay, known] = ["hearsay", "known"].map(|name| NodeName::parse(name).unwrap());
        let mut members = Members::new(NodeName::parse("n1").unwrap());
        for now in (0..=600_000).step_by(1000) {
            members.attest(&hearsay, 0, false, now);
            members.attest(&known, 0, true, now);
            assert_eq!(members.contains(&hearsay, now), now < HEARSAY_COUNTS_MS, "{now}");
            assert!(members.contains(&known, now));
        }
        let named: Vec<String> = members.to_said(|_| false, 600_000).iter().map(|at| at.node.to_string()).collect();
        assert_eq!(named, ["known"], "nobody is led to count what does not count here");
    }

    #[test]
    fn who_counts_for_no_majority_any_more_may_still_come_back_with_what_it_held() {
        let [brief, direct, attested] = ["brief", "direct", "attested"].map(|name| NodeName::parse(name).unwrap());
        let mut members = Members::new(NodeName::parse("n1").unwrap());
        members.note(&brief, 0, false);
        (0..=20).for_each(|second| members.note(&direct, second * 1000, false));
        members.attest(&attested, 20_000, true, 20_000);
        let hour = 3_660_000;
        assert_eq!(members.iter(hour).count(), 0);
        assert_eq!(members.iter_with_left(hour).collect::<Vec<_>>(), [&attested, &direct]);
        assert_eq!(members.iter_with_left(20_000 + FORGET_AFTER_MS).count(), 0);
    }

    #[test]
    fn past_the_bound_who_ceases_to_count_first_makes_room() {
        let name = |number: usize| NodeName::parse(&format!("once-{number}")).unwrap();
        let mut members = Members::new(NodeName::parse("n1").unwrap());
        let old = NodeName::parse("old").unwrap();
        (0..=10).for_each(|second| members.note(&old, second * 1000, false));
        (0..2000).for_each(|number| members.note(&name(number), 20_000 + number as Mono, false));
        assert_eq!(members.known.len(), MEMBERS_MAX);
        assert!(members.contains(&old, 22_000) && members.contains(&name(1999), 22_000) && !members.contains(&name(0), 22_000));
    }

    #[test]
    fn who_is_refused_for_long_counts_no_more_until_it_is_heard() {
        let node = NodeName::parse("n2").unwrap();
        let mut members = Members::new(NodeName::parse("n1").unwrap());
        (0..=600).for_each(|second| members.note(&node, second * 1000, false));
        assert!(!members.note_refused(&node, true, 60_000, 700_000));
        assert!(!members.note_refused(&node, false, 60_000, 730_000), "somebody had no answer: the time begins anew");
        assert!(!members.note_refused(&node, true, 60_000, 740_000));
        assert!(!members.note_refused(&node, true, 60_000, 799_999) && members.contains(&node, 799_999));
        assert!(members.note_refused(&node, true, 60_000, 800_000) && !members.contains(&node, 800_000));
        assert_eq!(members.iter_with_left(800_000).count(), 1, "it may come back with its disk");
        members.note(&node, 900_000, false);
        assert!(members.contains(&node, 900_000));
    }
}
