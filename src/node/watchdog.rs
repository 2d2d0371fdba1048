//! The watchdog: sees, from a thread of its own, that the node's task does not turn.
//!
//! Whatever holds the task up holds up all that waits for it, and a runtime that is blocked as a whole runs no timer either: so this is no
//! task. Time in which the whole process stood still (SIGSTOP, a frozen container, a machine that sleeps) is no stall: the watchdog stood
//! still with it, and counts a look that comes late for no more than two.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{Handle, Shared};
use crate::registry::Mono;
use crate::shutdown::Shutdown;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A look that comes later than it should counts for this much at the most.
const PASSED_MAX: Duration = Duration::from_millis(400);

/// That the task turns: written by it, read by the watchdog.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    turns: AtomicU64,
    turned_at: AtomicU64,
}

/// When a node's task counts as stalled, and what follows.
#[derive(Debug, Clone, Copy)]
pub struct Watching {
    /// From then on the node's answers are stale, and what needs the task is refused.
    pub timeout: Duration,
    /// From then on there is nothing more to hope for; `None`: there always is.
    pub exit: Option<Duration>,
    /// Ends the process.
    pub end: fn(),
}

/// What a look brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// There is nothing to be done.
    Nothing,
    /// The task does not turn.
    Stalled,
    /// It turns again, after so long.
    Resumed(Duration),
    /// It has not turned for so long that the process is to end.
    Exit,
}

/// For how long the task has not turned.
struct Stall {
    watching: Watching,
    turns: u64,
    still: Duration,
    is_stalled: bool,
}

impl Pulse {
    /// The task turns.
    pub(super) fn turn(&self, now: Mono) {
        self.turned_at.store(now, Ordering::Relaxed);
        self.turns.fetch_add(1, Ordering::Release);
    }

    fn turns(&self) -> u64 {
        self.turns.load(Ordering::Acquire)
    }
}

impl Handle {
    /// Watches over the node's task until the shutdown begins.
    ///
    /// # Errors
    /// The system's, where it has no thread to give.
    pub fn watch_over(&self, watching: Watching, shutdown: &Shutdown) -> io::Result<()> {
        let (shared, shutdown) = (Arc::downgrade(&self.shared), shutdown.clone());
        std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || watch(&shared, watching, &shutdown)).map(drop)
    }
}

fn watch(shared: &Weak<Shared>, watching: Watching, shutdown: &Shutdown) {
    let mut stall = Stall { watching, turns: 0, still: Duration::ZERO, is_stalled: false };
    let mut looked_at = None;
    loop {
        std::thread::sleep(LOOK_EVERY);
        let Some(shared) = shared.upgrade().filter(|_| !shutdown.has_begun()) else { return };
        let now = shared.clock.instant();
        let passed = looked_at.replace(now).map_or(Duration::ZERO, |before| now.saturating_duration_since(before));
        let turns = shared.pulse.turns();
        match stall.look(turns, passed) {
            Look::Nothing => {}
            Look::Stalled => shared.stall(turns, watching),
            Look::Resumed(after) => {
                shared.metrics.stalled.set(0.0);
                tracing::warn!(node = %shared.name, ?after, "the node's task turns again");
            }
            Look::Exit => {
                let after = stall.still;
                tracing::error!(node = %shared.name, ?after, "the node's task does not turn: the process ends itself (node.stall_exit)");
                (watching.end)();
            }
        }
    }
}

impl Shared {
    /// Says of the node that its task does not turn, unless it has turned by now: then it says itself how it is.
    fn stall(&self, turns: u64, watching: Watching) {
        let Watching { timeout, exit, .. } = watching;
        tracing::error!(
            node = %self.name, ?timeout, ?exit,
            "the node's task does not turn: lists are stale, what needs the task is refused, and /livez fails"
        );
        self.metrics.noticed("stalled");
        self.metrics.stalled.set(1.0);
        let since = self.pulse.turned_at.load(Ordering::Relaxed);
        self.board.show_stall(since, || self.pulse.turns() == turns);
    }
}

impl Stall {
    /// Takes how often the task has turned until now, and how long the last look was ago.
    fn look(&mut self, turns: u64, passed: Duration) -> Look {
        if std::mem::replace(&mut self.turns, turns) != turns {
            let after = std::mem::take(&mut self.still);
            return if std::mem::take(&mut self.is_stalled) { Look::Resumed(after) } else { Look::Nothing };
        }
        self.still += passed.min(PASSED_MAX);
        let Watching { timeout, exit, .. } = self.watching;
        if self.still >= timeout && !std::mem::replace(&mut self.is_stalled, true) {
            return Look::Stalled;
        }
        if exit.is_some_and(|exit| self.still >= exit) { Look::Exit } else { Look::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn stall(exit: Option<Duration>) -> Stall {
        Stall { watching: Watching { timeout: SECOND, exit, end: || () }, turns: 0, still: Duration::ZERO, is_stalled: false }
    }

    fn looks(stall: &mut Stall, turns: u64, count: u32) -> Vec<Look> {
        (0..count).map(|_| stall.look(turns, LOOK_EVERY)).filter(|look| *look != Look::Nothing).collect()
    }

    #[test]
    fn a_task_that_does_not_turn_is_stalled_once_and_resumes_or_ends() {
        let mut stall = stall(Some(3 * SECOND));
        assert_eq!(looks(&mut stall, 7, 5), []);
        assert_eq!(looks(&mut stall, 7, 9), [Look::Stalled]);
        assert_eq!(looks(&mut stall, 8, 3), [Look::Resumed(LOOK_EVERY * 13)]);
        assert_eq!(looks(&mut stall, 8, 13), [Look::Stalled, Look::Exit]);
    }

    #[test]
    fn without_an_exit_it_waits_for_ever() {
        assert_eq!(looks(&mut stall(None), 0, 100_000), [Look::Stalled]);
    }

    #[test]
    fn a_process_that_stood_still_did_not_stall() {
        let mut stall = stall(Some(2 * SECOND));
        assert_eq!(stall.look(7, LOOK_EVERY), Look::Nothing);
        // An hour, of which nobody saw a moment; then the task turns as it did.
        assert_eq!(stall.look(7, 3600 * SECOND), Look::Nothing);
        assert_eq!(stall.look(8, LOOK_EVERY), Look::Nothing);
    }
}
