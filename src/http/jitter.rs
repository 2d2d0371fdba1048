//! Jitter: spreads what would otherwise happen everywhere at once.

use std::hash::{BuildHasher, RandomState};
use std::ops::RangeInclusive;

/// A number of the range, another each time. Not for secrets.
pub(in crate::http) fn jitter(range: RangeInclusive<u64>) -> u64 {
    let span = range.end() - range.start() + 1;
    // Every `RandomState` has keys of its own.
    range.start() + RandomState::new().hash_one(()) % span
}

#[cfg(test)]
mod tests {
    use super::jitter;

    #[test]
    fn it_stays_within_its_range_and_moves() {
        let some: std::collections::BTreeSet<_> = (0..200).map(|_| jitter(1000..=5000)).collect();
        assert!(some.iter().all(|number| (1000..=5000).contains(number)));
        assert!(some.len() > 100);
        assert_eq!(jitter(7..=7), 7);
    }
}
