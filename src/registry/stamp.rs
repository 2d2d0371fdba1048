//! The stamp clock: it orders the words of providers that have not met. It starts at the wall clock, runs with the monotonic one, and is set
//! forward, never back, to what peers send; so nodes that hear each other agree up to a message's way, whatever their wall clocks say.
//!
//! No deadline depends on a stamp, and no edition is compared with the clock.

use super::io::Output;
use super::notice::Notice;
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::{Life, NodeName};

/// In 1/64 ms since 1970.
pub(super) type StampTime = u64;

/// So many a millisecond.
pub(super) const A_MS: u64 = 64;
/// The year 2248: the clock stands still there, and no greater stamp is followed.
pub(super) const STAMP_MAX: StampTime = 1 << 49;
/// The year 2109: no wall clock and no single stamp sets the clock further, so that no forged one ends the order of words. It runs on from there.
const FOLLOWED_MAX: StampTime = 1 << 48;
/// Past that a stamp sets it forward by a day at the most, once a second: so nodes that run there already are followed by one that starts, and
/// the end is half a day of forging away.
const STEP_MAX: u64 = 24 * 3_600_000 * A_MS;
const STEP_EVERY_MS: u64 = 1000;
/// A peer that sets a ready node's clock forward by more is alarmed.
const AHEAD_MAX: u64 = 1000 * A_MS;

/// A node's stamp clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct StampClock {
    base: StampTime,
    /// On the monotonic clock, when it was `base`.
    since: u64,
    /// When it may be set forward again past what is followed at once.
    step_at: Mono,
}

impl StampClock {
    pub(super) fn new(now: Now) -> Self {
        Self { base: now.wall.min(FOLLOWED_MAX), since: now.mono_fine(), step_at: 0 }
    }

    pub(super) fn at(&self, now: Now) -> StampTime {
        self.base.saturating_add(now.mono_fine().saturating_sub(self.since)).min(STAMP_MAX)
    }

    /// Sets it forward to a stamp that is ahead of it; gives by how much.
    pub(super) fn follow(&mut self, stamp: StampTime, now: Now) -> u64 {
        let at = self.at(now);
        let step = if now.mono >= self.step_at { STEP_MAX } else { 0 };
        let to = stamp.min(at.max(FOLLOWED_MAX) + step);
        if stamp > STAMP_MAX || to <= at {
            return 0;
        }
        if to > FOLLOWED_MAX {
            self.step_at = now.mono + STEP_EVERY_MS;
        }
        self.base += to - at;
        to - at
    }
}

impl Registry {
    /// What a word that is written now has for its edition, at least.
    pub(super) fn stamp(&self, now: Now) -> StampTime {
        self.stamps.at(now)
    }

    /// A present life of a peer has sent this stamp, or a record with this edition.
    pub(super) fn follow_stamp(&mut self, from: &Life, stamp: StampTime, now: Now, out: &mut Outbox) {
        let ahead = self.stamps.follow(stamp, now);
        if ahead > AHEAD_MAX && self.has_been_ready {
            out.push(Output::Noticed(Notice::ClockAhead { from: from.node.clone(), ms: ahead / A_MS }));
        }
    }

    /// Whether this node sends stamps; one of an older version does not, and its editions count on from those that it knows. `None`: no beacon
    /// of its present life has come. Of a node that is not known any more nobody can tell: its editions count as stamps.
    pub(super) fn sends_stamps(&self, node: &NodeName) -> Option<bool> {
        self.peers.get(node).map_or(Some(true), |peer| peer.beacon.as_ref().map(|beacon| beacon.stamp > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono: u64) -> Now {
        Now { mono, wall: 0 }
    }

    #[test]
    fn the_clock_runs_with_the_monotonic_one_and_is_never_set_back() {
        let mut clock = StampClock::new(Now { mono: 10, wall: 6400 });
        assert_eq!((clock.at(at(10)), clock.at(at(12))), (6400, 6528));
        assert_eq!(clock.follow(10_000, at(12)), 3472);
        assert_eq!(clock.follow(9000, at(12)), 0);
        assert_eq!((clock.at(at(12)), clock.at(at(13))), (10_000, 10_064));
    }

    #[test]
    fn nobody_sets_the_clock_past_its_end() {
        let mut clock = StampClock::new(Now { mono: 10, wall: 6400 });
        assert_eq!(clock.follow(STAMP_MAX + 1, at(10)), 0);
        (0..60_000).for_each(|second| {
            clock.follow(STAMP_MAX, at(second * 1000));
        });
        assert_eq!(clock.at(at(60_000_000)), STAMP_MAX);
    }

    #[test]
    fn however_many_stamps_are_forged_in_a_moment_the_clock_runs_on() {
        let mut clock = StampClock::new(Now { mono: 10, wall: 6400 });
        for stamp in [STAMP_MAX, STAMP_MAX, STAMP_MAX - 1] {
            clock.follow(stamp, at(10));
        }
        assert!(clock.at(at(10)) <= FOLLOWED_MAX + STEP_MAX);
        assert!(clock.at(at(11)) > clock.at(at(10)));
        assert_eq!(StampClock::new(Now { mono: 10, wall: u64::MAX << 6 }).at(at(11)), FOLLOWED_MAX + A_MS);
    }

    #[test]
    fn who_starts_beside_nodes_whose_clocks_were_driven_far_comes_to_where_they_are() {
        let mut clock = StampClock::new(Now { mono: 10, wall: 6400 });
        let theirs = |now: Now| FOLLOWED_MAX + 10 * STEP_MAX + now.mono * A_MS;
        (1..15).for_each(|second| {
            clock.follow(theirs(at(second * 1000)), at(second * 1000));
        });
        assert_eq!(clock.at(at(14_000)), theirs(at(14_000)));
    }
}
