//! Applied: how far this node has each life's log, and where it knows of a gap.

use std::collections::BTreeMap;

use super::message::AppliedAt;
use super::peers::Peers;
use super::time::Mono;
use crate::model::{Epoch, Life, Seq};

/// How long a gap or a greater head may last before it is pulled: what was only reordered has come by then.
pub(super) const GAP_MS: u64 = 200;
/// How many batches beyond a gap are remembered per life; past it they are forgotten, and the pull brings them again.
const BEYOND_MAX: usize = 1024;
/// How many lives are followed. A life comes with each restart of a node. Past it a life that speaks itself takes the place of one that does
/// not: what others name takes none of what was had. Beacons and answers to pulls name them all, and fit their frames with the longest of names.
pub const LIVES_MAX: usize = 1024;
/// And how many of one node: one that starts again and again costs its own former lives.
const LIVES_OF_NODE_MAX: usize = 64;
/// No beacon of a peer that counts as alive is later than this.
const LATE_BEACON_MS: u64 = 15_000;
/// How long a life is remembered after its node was last heard in it.
pub(super) const FORGET_AFTER_MS: u64 = 24 * 3_600_000;

/// What is known of each life's log.
pub(super) struct Applied {
    /// This node's own life.
    own: Life,
    lives: BTreeMap<Life, Progress>,
}

/// On whose word a life is followed: past the bound that decides whose place it may take.
#[derive(Clone, Copy)]
enum Claim<'a> {
    /// This node's own life.
    Own,
    /// A frame of its own came, and these are the peers.
    Itself(&'a Peers),
    /// A peer that was asked gave all of it.
    Given,
    /// A beacon of another names it.
    Named,
}

impl Claim<'_> {
    fn may_displace(self, life: &Life, progress: &Progress) -> bool {
        match self {
            Self::Own => true,
            Self::Itself(peers) => peers.get(&life.node).is_none_or(|peer| peer.epoch != life.epoch),
            Self::Given => progress.seq == 0,
            Self::Named => false,
        }
    }
}

/// What is known of one life's log.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// "I have everything that life wrote, up to here."
    pub(super) seq: Seq,
    /// The greatest seq anybody is known to have.
    pub(super) head: Seq,
    /// When `head` was first ahead of `seq`, since they last were equal.
    behind_since: Option<Mono>,
    /// Batches that came before their predecessors, as (first, last), apart and in order.
    beyond: Vec<(Seq, Seq)>,
    /// When that node was last heard in this life, by this node or another.
    heard_at: Mono,
    /// Where its log was thought to end when the life itself said less, and since when it says so.
    beyond_end: Option<(Seq, Mono)>,
}

impl Applied {
    pub(super) fn new(own: Life, now: Mono) -> Self {
        let mut applied = Self { own: own.clone(), lives: BTreeMap::new() };
        applied.begin(own, now);
        applied
    }

    /// This node begins a life.
    pub(super) fn begin(&mut self, own: Life, now: Mono) {
        self.progress(&own, Claim::Own, now);
        self.own = own;
    }

    /// Something is remembered of this life.
    pub(super) fn knows(&self, life: &Life) -> bool {
        self.lives.contains_key(life)
    }

    pub(super) fn seq(&self, life: &Life) -> Seq {
        self.lives.get(life).map_or(0, |progress| progress.seq)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Life, &Progress)> {
        self.lives.iter()
    }

    /// A batch's records are merged: the log is had up to its end, where nothing before it is missing.
    pub(super) fn merged(&mut self, life: &Life, first: Seq, last: Seq, peers: &Peers, now: Mono) {
        let Some(progress) = self.progress(life, Claim::Itself(peers), now) else { return };
        progress.head = progress.head.max(last);
        progress.heard_at = now;
        if first <= progress.seq + 1 {
            progress.seq = progress.seq.max(last);
        } else {
            progress.hold(first, last);
        }
        progress.settle(now);
    }

    /// Somebody who has this life's log up to `seq` has given all of it.
    pub(super) fn raise(&mut self, life: &Life, seq: Seq, now: Mono) {
        let Some(progress) = self.progress(life, Claim::Given, now) else { return };
        progress.seq = progress.seq.max(seq);
        progress.head = progress.head.max(seq);
        progress.settle(now);
    }

    /// As [`Applied::raise`]; its node was heard `age_ms` ago. A life that is as good as forgotten is not made young again by it.
    pub(super) fn raise_heard(&mut self, life: &Life, seq: Seq, age_ms: Option<u32>, now: Mono) {
        let heard_at = now.saturating_sub(age_ms.map_or(0, u64::from));
        let is_known = self.lives.contains_key(life);
        if is_known || heard_at + FORGET_AFTER_MS > now {
            self.raise(life, seq, now);
        }
        if let Some(progress) = self.lives.get_mut(life).filter(|_| !is_known) {
            progress.heard_at = heard_at;
        }
    }

    /// The life itself said that its log ends at `seq`: a greater head was never its own, unless a batch of it came.
    pub(super) fn ends_at(&mut self, life: &Life, seq: Seq, now: Mono) {
        if let Some(progress) = self.lives.get_mut(life) {
            let came = progress.beyond.last().map_or(0, |(_, last)| *last);
            progress.head = seq.max(progress.seq).max(came);
            progress.settle(now);
        }
    }

    /// The life itself says now that its log ends at `seq`.
    pub(super) fn heard_itself(&mut self, life: &Life, seq: Seq, peers: &Peers, now: Mono) {
        if seq > 0 || self.knows(life) {
            self.note_head(life, seq, Claim::Itself(peers), now, now);
        }
    }

    /// The life says in a beacon that its log ends at `seq`. Beacons may be late; where they say less than was applied or claimed for longer than
    /// any is, nobody wrote what lies beyond: without this a single forged number would let all that the life writes be ignored. Says whether
    /// it was so: what came meanwhile is then found by comparing.
    pub(super) fn said_end(&mut self, life: &Life, seq: Seq, now: Mono) -> bool {
        let Some(progress) = self.lives.get_mut(life) else { return false };
        let end = progress.seq.max(progress.head);
        if seq >= progress.beyond_end.map_or(end, |(end, _)| end) {
            progress.beyond_end = None;
            return false;
        }
        let (_, since) = *progress.beyond_end.get_or_insert((end, now));
        if since + LATE_BEACON_MS > now {
            return false;
        }
        *progress = Progress { seq: seq.min(progress.seq), head: seq, heard_at: now, ..Progress::default() };
        progress.settle(now);
        true
    }

    /// Somebody is known to have this life's log up to `seq`; its node was heard `age_ms` ago.
    pub(super) fn heard(&mut self, life: &Life, seq: Seq, age_ms: Option<u32>, now: Mono) {
        let heard_at = age_ms.map(|age| now.saturating_sub(u64::from(age)));
        let is_young = heard_at.is_some_and(|at| at + FORGET_AFTER_MS > now);
        if self.knows(life) || (seq > 0 && is_young) {
            self.note_head(life, seq, Claim::Named, heard_at.unwrap_or(0), now);
        }
    }

    fn note_head(&mut self, life: &Life, seq: Seq, claim: Claim<'_>, heard_at: Mono, now: Mono) {
        let Some(progress) = self.progress(life, claim, heard_at) else { return };
        progress.head = progress.head.max(seq);
        progress.heard_at = progress.heard_at.max(heard_at);
        progress.settle(now);
    }

    /// The lives of whose logs this node lacks a part: what is had of each, and since when it has been lacking without a break.
    pub(super) fn behind(&self) -> impl Iterator<Item = (&Life, Seq, Mono)> {
        self.lives.iter().filter_map(|(life, progress)| Some((life, progress.seq, progress.behind_since?)))
    }

    /// The lives that have been behind for so long that something must have been lost, with what is had of each.
    pub(super) fn gaps(&self, now: Mono) -> impl Iterator<Item = (&Life, Seq)> {
        self.lives
            .iter()
            .filter(move |(_, progress)| progress.behind_since.is_some_and(|since| since + GAP_MS <= now))
            .map(|(life, progress)| (life, progress.seq))
    }

    /// When the next gap is old enough to be pulled.
    pub(super) fn next_gap(&self) -> Option<Mono> {
        self.lives.values().filter_map(|progress| progress.behind_since).map(|since| since + GAP_MS).min()
    }

    /// Forgets lives of which nobody has heard for a day.
    pub(super) fn forget(&mut self, own: &Life, now: Mono) {
        self.lives.retain(|life, progress| life == own || progress.heard_at + FORGET_AFTER_MS > now);
    }

    /// As a beacon and an answer say it, `own` first. What others named and nobody gave is not passed on.
    pub(super) fn to_said(&self, own: &Life, now: Mono) -> Vec<AppliedAt> {
        let said = |(life, progress): (&Life, &Progress)| AppliedAt {
            life: life.clone(),
            seq: progress.seq,
            age_ms: Some(if life == own { 0 } else { u32::try_from(now.saturating_sub(progress.heard_at)).unwrap_or(u32::MAX) }),
        };
        let own_first = self.lives.get_key_value(own).map(said);
        let others = self.lives.iter().filter(|(life, progress)| *life != own && progress.seq > 0);
        own_first.into_iter().chain(others.map(said)).collect()
    }

    /// What is known of a life from now on. `None`: it is unknown, and nothing makes room for it.
    fn progress(&mut self, life: &Life, claim: Claim<'_>, heard_at: Mono) -> Option<&mut Progress> {
        if !self.knows(life) && !self.make_room(life, claim) {
            return None;
        }
        Some(self.lives.entry(life.clone()).or_insert_with(|| Progress { heard_at, ..Progress::default() }))
    }

    /// Where there is none, the life goes that was heard of longest ago, one of whose log nothing is had first.
    fn make_room(&mut self, life: &Life, claim: Claim<'_>) -> bool {
        let of_node = |epoch| Life { node: life.node.clone(), epoch: Epoch(epoch) };
        let is_node_full = self.lives.range(of_node(0)..=of_node(u64::MAX)).count() >= LIVES_OF_NODE_MAX;
        if !is_node_full && self.lives.len() < LIVES_MAX {
            return true;
        }
        let may_go = |(of, progress): &(&Life, &Progress)| {
            **of != self.own && (!is_node_full || of.node == life.node) && claim.may_displace(of, progress)
        };
        let oldest = self.lives.iter().filter(may_go).min_by_key(|(_, progress)| (progress.seq > 0, progress.heard_at));
        let oldest = oldest.map(|(of, _)| of.clone());
        oldest.is_some_and(|oldest| self.lives.remove(&oldest).is_some())
    }
}

impl Progress {
    /// Remembers a batch beyond the gap.
    fn hold(&mut self, first: Seq, last: Seq) {
        if self.beyond.len() >= BEYOND_MAX {
            self.beyond.clear();
        }
        self.beyond.push((first, last));
        self.beyond.sort_unstable();
    }

    /// Takes in what is not beyond a gap any more, and notes since when anything is missing.
    fn settle(&mut self, now: Mono) {
        let mut joined: Vec<(Seq, Seq)> = Vec::new();
        for (first, last) in std::mem::take(&mut self.beyond) {
            if first <= self.seq + 1 {
                self.seq = self.seq.max(last);
            } else if let Some(before) = joined.last_mut().filter(|before| first <= before.1 + 1) {
                before.1 = before.1.max(last);
            } else {
                joined.push((first, last));
            }
        }
        self.beyond = joined;
        let is_behind = self.seq < self.head;
        self.behind_since = if is_behind { self.behind_since.or(Some(now)) } else { None };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NodeName;

    fn life() -> Life {
        Life { node: NodeName::parse("n1").unwrap(), epoch: Epoch(1) }
    }

    fn own() -> Life {
        Life { epoch: Epoch(2), ..life() }
    }

    fn nobody() -> Peers {
        Peers::new(own().node)
    }

    fn other(node: usize, epoch: usize) -> Life {
        Life { node: NodeName::parse(&format!("other-{node}")).unwrap(), epoch: Epoch(epoch as u64) }
    }

    #[test]
    fn past_the_bound_the_oldest_goes_and_never_its_own() {
        let mut applied = Applied::new(own(), 0);
        for number in 0..LIVES_MAX + 5 {
            applied.merged(&other(number, 1), 1, 1, &nobody(), 1000 + number as Mono);
        }
        assert_eq!(applied.iter().count(), LIVES_MAX);
        assert!(applied.knows(&own()) && !applied.knows(&other(5, 1)) && applied.knows(&other(6, 1)));
        // What others name or give takes no place of what was had.
        applied.heard(&other(5, 1), 1, Some(0), 4000);
        applied.raise_heard(&other(5, 1), 1, Some(0), 4000);
        assert!(!applied.knows(&other(5, 1)) && applied.knows(&other(6, 1)));
    }

    #[test]
    fn past_the_bound_what_is_only_named_goes_first() {
        let mut applied = Applied::new(own(), 0);
        applied.merged(&other(0, 1), 1, 1, &nobody(), 0);
        (1..LIVES_MAX).for_each(|number| applied.heard(&other(number, 1), 1, Some(0), 1000));
        applied.raise_heard(&other(9999, 1), 1, Some(0), 2000);
        assert!(applied.knows(&other(0, 1)) && applied.knows(&other(9999, 1)) && !applied.knows(&other(1, 1)));
    }

    #[test]
    fn who_starts_again_and_again_costs_its_own_former_lives() {
        let mut applied = Applied::new(own(), 0);
        applied.merged(&other(1, 1), 1, 1, &nobody(), 0);
        (1..=2 * LIVES_OF_NODE_MAX).for_each(|epoch| applied.heard_itself(&other(2, epoch), 1, &nobody(), epoch as Mono));
        assert_eq!(applied.iter().count(), 2 + LIVES_OF_NODE_MAX);
        assert!(applied.knows(&other(1, 1)) && applied.knows(&other(2, 2 * LIVES_OF_NODE_MAX)));
        applied.heard(&other(2, 1), 1, Some(0), 1000);
        assert!(!applied.knows(&other(2, 1)));
    }

    #[test]
    fn a_batch_beyond_a_gap_waits_for_what_is_missing() {
        let mut applied = Applied::new(own(), 0);
        applied.merged(&life(), 1, 3, &nobody(), 0);
        applied.merged(&life(), 7, 9, &nobody(), 10);
        applied.merged(&life(), 5, 6, &nobody(), 20);
        assert_eq!(applied.seq(&life()), 3);
        assert_eq!(applied.gaps(209).count(), 0);
        assert_eq!(applied.gaps(210).map(|(_, seq)| seq).collect::<Vec<_>>(), [3]);
        applied.merged(&life(), 4, 4, &nobody(), 30);
        assert_eq!(applied.seq(&life()), 9);
        assert_eq!(applied.next_gap(), None);
    }

    #[test]
    fn a_lost_tail_shows_in_the_head() {
        let mut applied = Applied::new(own(), 0);
        applied.merged(&life(), 1, 6, &nobody(), 0);
        applied.heard(&life(), 7, Some(0), 100);
        assert_eq!(applied.gaps(300).count(), 1);
        applied.raise(&life(), 7, 300);
        assert_eq!(applied.gaps(9999).count(), 0);
    }

    #[test]
    fn a_head_that_was_never_written_is_given_up_when_the_life_says_where_its_log_ends() {
        let mut applied = Applied::new(own(), 0);
        applied.merged(&life(), 1, 3, &nobody(), 0);
        applied.heard(&life(), 12, Some(0), 100);
        applied.ends_at(&life(), 3, 400);
        assert_eq!(applied.next_gap(), None);
        applied.merged(&life(), 8, 9, &nobody(), 500);
        applied.ends_at(&life(), 3, 600);
        assert_eq!(applied.next_gap(), Some(500 + GAP_MS));
    }

    #[test]
    fn a_forged_seq_lasts_no_longer_than_a_beacon_can_be_late() {
        let mut applied = Applied::new(own(), 0);
        applied.merged(&life(), 1, 3, &nobody(), 0);
        applied.merged(&life(), 4, 1 << 53, &nobody(), 10);
        assert_eq!(applied.seq(&life()), 1 << 53);
        assert!(!applied.said_end(&life(), 4, 100) && !applied.said_end(&life(), 5, 15_099));
        assert!(applied.said_end(&life(), 6, 15_100));
        assert_eq!((applied.seq(&life()), applied.next_gap()), (6, None));
        applied.heard(&life(), 1 << 50, None, 16_000);
        applied.merged(&life(), 1 << 40, 1 << 41, &nobody(), 16_000);
        assert!(!applied.said_end(&life(), 6, 16_000) && applied.said_end(&life(), 6, 31_000));
        assert_eq!((applied.seq(&life()), applied.next_gap()), (6, None));
    }

    #[test]
    fn late_beacons_of_a_life_that_writes_take_nothing_back() {
        let mut applied = Applied::new(own(), 0);
        for second in 1..100 {
            applied.merged(&life(), second * 10 - 9, second * 10, &nobody(), second * 1000);
            assert!(!applied.said_end(&life(), (second * 10).saturating_sub(40), second * 1000), "{second}");
        }
        assert_eq!(applied.seq(&life()), 990);
    }

    #[test]
    fn what_a_pull_brings_of_a_life_makes_it_no_younger() {
        let mut applied = Applied::new(own(), 0);
        let now = 2 * FORGET_AFTER_MS;
        applied.raise_heard(&life(), 7, u32::try_from(FORGET_AFTER_MS).ok(), now);
        assert_eq!(applied.iter().count(), 1);
        applied.raise_heard(&life(), 7, Some(1000), now);
        applied.forget(&own(), now + FORGET_AFTER_MS - 1000);
        assert_eq!(applied.iter().count(), 1);
    }
}
