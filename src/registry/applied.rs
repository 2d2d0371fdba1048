//! Applied: how far this node has each life's log, and where it knows of a gap.

use std::collections::BTreeMap;

use super::message::AppliedAt;
use super::time::Mono;
use crate::model::{Life, Seq};

/// How long a gap or a greater head may last before it is pulled: what was only reordered has come by then.
pub(super) const GAP_MS: u64 = 200;
/// How many batches beyond a gap are remembered per life; past it they are forgotten, and the pull brings them again.
const BEYOND_MAX: usize = 1024;
/// How many lives are followed; past it the one heard of longest ago is dropped. A life comes with each restart of a node. Beacons and
/// answers to pulls name them all, and fit their frames with the longest of names.
pub const LIVES_MAX: usize = 1024;
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
        self.raise(&own, 0, now);
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
    pub(super) fn merged(&mut self, life: &Life, first: Seq, last: Seq, now: Mono) {
        let progress = self.progress(life, now);
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
        let progress = self.progress(life, now);
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
        let is_old = |at: Mono| {
            at + FORGET_AFTER_MS <= now || (self.lives.len() >= LIVES_MAX && self.oldest().is_some_and(|(_, oldest)| at <= oldest))
        };
        if !self.lives.contains_key(life) && (seq == 0 || heard_at.is_none_or(is_old)) {
            return;
        }
        let progress = self.progress(life, heard_at.unwrap_or(now));
        progress.head = progress.head.max(seq);
        progress.heard_at = progress.heard_at.max(heard_at.unwrap_or(0));
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

    /// As a beacon and an answer say it, `own` first.
    pub(super) fn to_said(&self, own: &Life, now: Mono) -> Vec<AppliedAt> {
        let said = |(life, progress): (&Life, &Progress)| AppliedAt {
            life: life.clone(),
            seq: progress.seq,
            age_ms: Some(if life == own { 0 } else { u32::try_from(now.saturating_sub(progress.heard_at)).unwrap_or(u32::MAX) }),
        };
        let own_first = self.lives.get_key_value(own).map(said);
        own_first.into_iter().chain(self.lives.iter().filter(|(life, _)| *life != own).map(said)).collect()
    }

    /// The life that was heard of longest ago, its own aside, and when.
    fn oldest(&self) -> Option<(&Life, Mono)> {
        let others = self.lives.iter().filter(|(life, _)| **life != self.own);
        others.map(|(life, progress)| (life, progress.heard_at)).min_by_key(|(_, heard_at)| *heard_at)
    }

    fn progress(&mut self, life: &Life, now: Mono) -> &mut Progress {
        let is_full = !self.lives.contains_key(life) && self.lives.len() >= LIVES_MAX;
        if is_full && let Some(oldest) = self.oldest().map(|(life, _)| life.clone()) {
            self.lives.remove(&oldest);
        }
        self.lives.entry(life.clone()).or_insert_with(|| Progress { heard_at: now, ..Progress::default() })
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
    use crate::model::{Epoch, NodeName};

    fn life() -> Life {
        Life { node: NodeName::parse("n1").unwrap(), epoch: Epoch(1) }
    }

    fn own() -> Life {
        Life { epoch: Epoch(2), ..life() }
    }

    #[test]
    fn past_the_bound_the_oldest_goes_and_never_its_own() {
        let mut applied = Applied::new(own(), 0);
        let other = |number: usize| Life { epoch: Epoch(number as u64 + 10), ..life() };
        for number in 0..LIVES_MAX + 5 {
            applied.heard(&other(number), 1, Some(0), 1000 + number as Mono);
        }
        assert_eq!(applied.iter().count(), LIVES_MAX);
        assert!(applied.knows(&own()) && !applied.knows(&other(5)) && applied.knows(&other(6)));
        // It is older than all that are known.
        applied.heard(&other(5), 1, Some(3000), 4000);
        assert!(!applied.knows(&other(5)));
    }

    #[test]
    fn a_batch_beyond_a_gap_waits_for_what_is_missing() {
        let mut applied = Applied::new(own(), 0);
        applied.merged(&life(), 1, 3, 0);
        applied.merged(&life(), 7, 9, 10);
        applied.merged(&life(), 5, 6, 20);
        assert_eq!(applied.seq(&life()), 3);
        assert_eq!(applied.gaps(209).count(), 0);
        assert_eq!(applied.gaps(210).map(|(_, seq)| seq).collect::<Vec<_>>(), [3]);
        applied.merged(&life(), 4, 4, 30);
        assert_eq!(applied.seq(&life()), 9);
        assert_eq!(applied.next_gap(), None);
    }

    #[test]
    fn a_lost_tail_shows_in_the_head() {
        let mut applied = Applied::new(own(), 0);
        applied.merged(&life(), 1, 6, 0);
        applied.heard(&life(), 7, Some(0), 100);
        assert_eq!(applied.gaps(300).count(), 1);
        applied.raise(&life(), 7, 300);
        assert_eq!(applied.gaps(9999).count(), 0);
    }

    #[test]
    fn a_head_that_was_never_written_is_given_up_when_the_life_says_where_its_log_ends() {
        let mut applied = Applied::new(own(), 0);
        applied.merged(&life(), 1, 3, 0);
        applied.heard(&life(), 12, Some(0), 100);
        applied.ends_at(&life(), 3, 400);
        assert_eq!(applied.next_gap(), None);
        applied.merged(&life(), 8, 9, 500);
        applied.ends_at(&life(), 3, 600);
        assert_eq!(applied.next_gap(), Some(500 + GAP_MS));
    }

    #[test]
    fn a_forged_seq_lasts_no_longer_than_a_beacon_can_be_late() {
        let mut applied = Applied::new(own(), 0);
        applied.merged(&life(), 1, 3, 0);
        applied.merged(&life(), 4, 1 << 53, 10);
        assert_eq!(applied.seq(&life()), 1 << 53);
        assert!(!applied.said_end(&life(), 4, 100) && !applied.said_end(&life(), 5, 15_099));
        assert!(applied.said_end(&life(), 6, 15_100));
        assert_eq!((applied.seq(&life()), applied.next_gap()), (6, None));
        applied.heard(&life(), 1 << 50, None, 16_000);
        applied.merged(&life(), 1 << 40, 1 << 41, 16_000);
        assert!(!applied.said_end(&life(), 6, 16_000) && applied.said_end(&life(), 6, 31_000));
        assert_eq!((applied.seq(&life()), applied.next_gap()), (6, None));
    }

    #[test]
    fn late_beacons_of_a_life_that_writes_take_nothing_back() {
        let mut applied = Applied::new(own(), 0);
        for second in 1..100 {
            applied.merged(&life(), second * 10 - 9, second * 10, second * 1000);
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
