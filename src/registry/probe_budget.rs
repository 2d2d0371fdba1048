//! The budget of probes: so many on their way at once, and so many a second. Of either a quarter is kept for silent instances, and a quarter
//! for the others, so that neither kind takes it all.

use super::settings::ProbeLimits;
use super::time::Mono;

/// One in so many is kept for the other kind.
const KEPT_SHARE: u32 = 4;
const SECOND_MS: u64 = 1000;

/// Why an instance is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its provider is silent, and what this node sees is to say what becomes of it: these come first.
    Pressing,
    /// Its check says so, or another node asks.
    Watched,
}

impl Kind {
    /// In the order of their turns.
    pub(super) const ALL: [Self; 2] = [Self::Pressing, Self::Watched];
}

/// What has been spent of it.
pub(super) struct Budget {
    limits: ProbeLimits,
    in_flight: [u32; 2],
    /// The second, and how many of each kind began in it.
    second: u64,
    begun: [u32; 2],
}

impl Budget {
    pub(super) fn new(limits: ProbeLimits) -> Self {
        Self { limits, in_flight: [0; 2], second: 0, begun: [0; 2] }
    }

    /// Whether one more of this kind may begin now; `None`: not before one has ended; else when.
    pub(super) fn next_begin(&self, kind: Kind) -> Option<Mono> {
        if !is_left(self.limits.in_flight, self.in_flight, kind) {
            return None;
        }
        Some(if is_left(self.limits.per_second, self.begun, kind) { 0 } else { (self.second + 1) * SECOND_MS })
    }

    pub(super) fn may_begin(&self, kind: Kind, now: Mono) -> bool {
        self.next_begin(kind).is_some_and(|at| at <= now)
    }

    pub(super) fn begin(&mut self, kind: Kind, now: Mono) {
        if self.second != now / SECOND_MS {
            (self.second, self.begun) = (now / SECOND_MS, [0; 2]);
        }
        self.begun[kind as usize] += 1;
        self.in_flight[kind as usize] += 1;
    }

    pub(super) fn end(&mut self, kind: Kind) {
        self.in_flight[kind as usize] = self.in_flight[kind as usize].saturating_sub(1);
    }
}

fn is_left(all: u32, spent: [u32; 2], kind: Kind) -> bool {
    spent[kind as usize] < all - all / KEPT_SHARE && spent.iter().sum::<u32>() < all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(budget: &mut Budget, kind: Kind, now: Mono) -> usize {
        let mut count = 0;
        while budget.may_begin(kind, now) {
            budget.begin(kind, now);
            count += 1;
        }
        count
    }

    #[test]
    fn neither_kind_takes_it_all() {
        for (first, second) in [(Kind::Pressing, Kind::Watched), (Kind::Watched, Kind::Pressing)] {
            let mut budget = Budget::new(ProbeLimits { in_flight: 8, per_second: 1000 });
            assert_eq!((begun(&mut budget, first, 0), begun(&mut budget, second, 0)), (6, 2));
            assert_eq!(budget.next_begin(first), None);
            budget.end(second);
            assert_eq!(begun(&mut budget, second, 0), 1);
        }
    }

    #[test]
    fn each_second_has_its_own_and_the_next_is_waited_for() {
        let mut budget = Budget::new(ProbeLimits { in_flight: 1000, per_second: 4 });
        assert_eq!(begun(&mut budget, Kind::Watched, 7100), 3);
        assert_eq!(budget.next_begin(Kind::Watched), Some(8000));
        assert_eq!((begun(&mut budget, Kind::Pressing, 7999), begun(&mut budget, Kind::Watched, 8000)), (1, 3));
    }

    #[test]
    fn where_there_is_one_it_is_for_all() {
        let mut budget = Budget::new(ProbeLimits { in_flight: 1, per_second: 1 });
        assert_eq!((begun(&mut budget, Kind::Watched, 0), begun(&mut budget, Kind::Pressing, 0)), (1, 0));
    }
}
