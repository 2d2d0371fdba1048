//! A bucket: how a burst of changes is coalesced, while a lone one never waits.

use crate::registry::Mono;

/// So many steps may leave at once; one more each `refill_ms`.
#[derive(Debug)]
pub(super) struct Bucket {
    burst: u32,
    refill_ms: u64,
    tokens: u32,
    /// When the next token comes, while some are missing.
    next: Mono,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(burst: u32, refill_ms: u64) -> Self {
        Self { burst: burst.max(1), refill_ms, tokens: burst.max(1), next: 0 }
    }

    /// How long a step must wait; 0: it may leave.
    pub(super) fn wait_ms(&mut self, now: Mono) -> u64 {
        self.refill(now);
        if self.tokens > 0 { 0 } else { self.next.saturating_sub(now).max(1) }
    }

    /// A step left.
    pub(super) fn spend(&mut self, now: Mono) {
        self.refill(now);
        if self.tokens == self.burst {
            self.next = now + self.refill_ms;
        }
        self.tokens = self.tokens.saturating_sub(1);
    }

    fn refill(&mut self, now: Mono) {
        if self.refill_ms == 0 {
            self.tokens = self.burst;
            return;
        }
        while self.tokens < self.burst && self.next <= now {
            self.tokens += 1;
            self.next += self.refill_ms;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_leaves_at_once_and_the_rest_at_each_refill() {
        let mut bucket = Bucket::new(3, 50);
        let mut left = Vec::new();
        let mut now = 1000;
        while left.len() < 6 {
            match bucket.wait_ms(now) {
                0 => {
                    bucket.spend(now);
                    left.push(now);
                }
                wait => now += wait,
            }
        }
        assert_eq!(left, [1000, 1000, 1000, 1050, 1100, 1150]);
    }

    #[test]
    fn rest_fills_it_again_and_no_further() {
        let mut bucket = Bucket::new(2, 50);
        for now in [0, 0, 100_000, 100_000] {
            assert_eq!(bucket.wait_ms(now), 0);
            bucket.spend(now);
        }
        assert_eq!(bucket.wait_ms(100_000), 50);
    }

    #[test]
    fn no_refill_time_means_no_coalescing() {
        let mut bucket = Bucket::new(1, 0);
        for _ in 0..100 {
            assert_eq!(bucket.wait_ms(7), 0);
            bucket.spend(7);
        }
    }
}
