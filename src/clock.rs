//! The only place that reads clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A monotonic clock that counts milliseconds from its making, and the wall clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

/// So that a moment before the clock's making can still be said: heartbeats relayed with an age, for example.
const ORIGIN_MS: u64 = 24 * 3_600_000;

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Milliseconds of the monotonic clock; begins at a day, not at 0.
    #[must_use]
    pub fn mono(&self) -> u64 {
        ORIGIN_MS + self.origin.elapsed().as_millis() as u64
    }

    /// The moment at which [`Clock::mono`] will be `mono`.
    #[must_use]
    pub fn instant_of(&self, mono: u64) -> Instant {
        self.origin + std::time::Duration::from_millis(mono.saturating_sub(ORIGIN_MS))
    }

    /// This moment, for measuring how long something takes.
    #[must_use]
    pub fn instant(&self) -> Instant {
        Instant::now()
    }

    /// Milliseconds since 1970, for people.
    #[must_use]
    pub fn wall(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
}
