//! Chance, for what must differ between processes: epochs, seeds, and how long to wait before trying again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// 64 bits that nobody can foretell.
#[must_use]
pub fn number() -> u64 {
    // The standard library keys its hash maps from the operating system's randomness, and gives every map keys of its own.
    RandomState::new().build_hasher().finish()
}

/// `whole` or up to a half of it less, so that many who were told the same do not come back at once.
#[must_use]
pub fn jittered(whole: Duration) -> Duration {
    let parts = u32::try_from(number() % 1001).unwrap_or(0);
    whole / 2 + whole / 2 * parts / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ_and_waits_stay_in_their_range() {
        assert_ne!(number(), number());
        let waits: Vec<_> = (0..100).map(|_| jittered(Duration::from_secs(2))).collect();
        assert!(waits.iter().all(|wait| (Duration::from_secs(1)..=Duration::from_secs(2)).contains(wait)));
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }
}
