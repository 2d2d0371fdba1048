//! The only place that reads clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A monotonic clock that counts milliseconds from its making, and the wall clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Duration,
}

/// So that a moment before the clock's making can still be said: heartbeats relayed with an age, for example.
const ORIGIN_MS: u64 = 24 * 3_600_000;

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { origin: since_boot() }
    }

    /// Milliseconds of the monotonic clock; begins at a day, not at 0.
    #[must_use]
    pub fn mono(&self) -> u64 {
        ORIGIN_MS + since_boot().saturating_sub(self.origin).as_millis() as u64
    }

    /// The moment at which [`Clock::mono`] will be `mono`, unless the machine sleeps until then; now, where that is past.
    #[must_use]
    pub fn instant_of(&self, mono: u64) -> Instant {
        Instant::now() + Duration::from_millis(mono.saturating_sub(self.mono()))
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

/// A moment of the wall clock as people read it, RFC 3339 in whole seconds; the beginning of 1970 where there is no such time.
#[cfg(feature = "server")]
#[must_use]
pub fn shown(wall_ms: u64) -> String {
    let at = i64::try_from(wall_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    format!("{:.0}", at.unwrap_or(jiff::Timestamp::UNIX_EPOCH))
}

/// Since the machine started, the time it slept included: a node that was asleep has to know that it was, as one that was stopped.
#[cfg(target_os = "linux")]
fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// Elsewhere the clock of [`Instant`], which may stand still while the machine sleeps.
#[cfg(not(target_os = "linux"))]
fn since_boot() -> Duration {
    static FIRST: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    FIRST.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_said_in_its_milliseconds_is_that_moment() {
        let clock = Clock::start();
        let due = clock.mono() + 50;
        let wait = clock.instant_of(due).saturating_duration_since(Instant::now());
        assert!(wait <= Duration::from_millis(50));
        std::thread::sleep(wait + Duration::from_millis(2));
        assert!(clock.mono() >= due);
        assert!(clock.instant_of(0) <= Instant::now());
    }
}
