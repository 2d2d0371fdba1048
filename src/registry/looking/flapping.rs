//! Flapping: an instance that goes up and down again and again waits, though it answers, until it has been calm for a while.

use super::Look;
use crate::registry::time::Mono;

/// What going down adds to the penalty.
const PENALTY: u64 = 1000;
/// Above this an instance that answers waits until it has decayed: two falls are none, three are flapping.
const PENALTY_BOUND: u64 = 2 * PENALTY;
/// No penalty is greater: an instance that has flapped for hours comes up within two and a half half-lives.
const PENALTY_MAX: u64 = 5 * PENALTY;
/// Half of it is forgotten in this time.
const HALF_LIFE_MS: u64 = 30_000;

impl Look {
    /// It went down.
    pub(in crate::registry) fn penalise(&mut self, now: Mono) {
        self.penalty = (self.penalty_left(now) + PENALTY).min(PENALTY_MAX);
        self.penalty_at = now;
    }

    /// It has not gone down so often lately that nobody should build on it.
    pub(in crate::registry) fn is_calm(&self, now: Mono) -> bool {
        self.penalty_left(now) <= PENALTY_BOUND
    }

    /// Halved with each half-life; in between it falls in a line, which needs no fractions.
    fn penalty_left(&self, now: Mono) -> u64 {
        let ms = now.saturating_sub(self.penalty_at);
        let left = self.penalty.checked_shr(u32::try_from(ms / HALF_LIFE_MS).unwrap_or(u32::MAX)).unwrap_or(0);
        left - left * (ms % HALF_LIFE_MS) / (2 * HALF_LIFE_MS)
    }

    /// It has gone down often enough to be held back, whenever that was.
    pub(super) fn is_flapping(&self) -> bool {
        self.penalty > PENALTY_BOUND
    }
}
