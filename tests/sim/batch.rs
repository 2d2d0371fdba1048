//! The batch: many seeds, played side by side, and what is said of them.

use std::any::Any;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::counts::Counts;
use crate::invariant::{Invariant, Violation};
use crate::story::{Story, Told, run};

/// So often a long batch says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_mins(1);
/// At least so many runs, however slow the machine.
const SEEDS_MIN: u64 = 30;
/// So many seeds that break something are enough to begin with.
const VIOLATIONS_MAX: usize = 5;
/// What a machine for continuous integration has.
const WORKERS: u64 = 2;

/// Which seeds, how many at a time, and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch {
    pub(crate) from: u64,
    /// So many; else as many as there is time for.
    pub(crate) seeds: Option<u64>,
    pub(crate) seconds_max: u64,
}

/// What has come of a batch so far.
#[derive(Default)]
pub(crate) struct Sum {
    /// Seeds that a worker has taken.
    taken: u64,
    pub(crate) ran: u64,
    simulated_ms: u64,
    writes: u64,
    pub(crate) counts: Counts,
    pub(crate) violations: Vec<(u64, Violation)>,
}

impl Batch {
    /// Plays the seeds; each run is one thread's alone, so the order in which they end changes nothing in any of them.
    pub(crate) fn play(self) -> Sum {
        let began = Instant::now();
        let until = began + Duration::from_secs(self.seconds_max);
        let sum = Mutex::new(Sum::default());
        let said = Mutex::new(began);
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    while let Some(seed) = self.take(&sum, until) {
                        let told = played(seed);
                        let mut sum = locked(&sum);
                        sum.add(seed, told);
                        let mut said = locked(&said);
                        if said.elapsed() >= PROGRESS_EVERY {
                            *said = Instant::now();
                            println!("{:>4} min: {}", began.elapsed().as_secs() / 60, sum.line());
                        }
                    }
                });
            }
        });
        sum.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self, sum: &Mutex<Sum>, until: Instant) -> Option<u64> {
        let mut sum = locked(sum);
        let goes_on = match self.seeds {
            Some(seeds) => sum.taken < seeds,
            None => sum.taken < SEEDS_MIN || Instant::now() < until,
        };
        if !goes_on || sum.violations.len() >= VIOLATIONS_MAX {
            return None;
        }
        sum.taken += 1;
        Some(self.from + sum.taken - 1)
    }
}

impl Sum {
    fn add(&mut self, seed: u64, told: Result<Told, Violation>) {
        self.ran += 1;
        let violation = match told {
            Ok(told) => {
                self.simulated_ms += told.ms;
                self.writes += told.writes;
                self.counts.merge(&told.counts);
                told.violation
            }
            Err(panicked) => Some(panicked),
        };
        if let Some(violation) = violation {
            println!("SEED={seed}: {violation}");
            remember(seed, &violation);
            self.violations.push((seed, violation));
        }
    }

    fn line(&self) -> String {
        let (hours, violations) = (self.simulated_ms / 3_600_000, self.violations.len());
        format!("{} seeds, {hours} h simulated, {} changes, {} faults, {violations} violations", self.ran, self.writes, self.counts.total())
    }

    /// Everything, with the faults by kind.
    pub(crate) fn table(&self) -> String {
        let mut text = self.line();
        write!(text, "\n{}", self.counts.table()).expect("unreachable: a string takes everything");
        text
    }
}

/// One run; a panic in it is a violation like any other, and the batch goes on.
fn played(seed: u64) -> Result<Told, Violation> {
    catch_unwind(AssertUnwindSafe(|| run(&Story::of(seed)))).map_err(|panic| Violation { of: Invariant::Bounded, what: said_by(&*panic) })
}

fn said_by(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("it panics: {}", text.unwrap_or("without a word"))
}

/// Where the seeds that broke something are written, one a line, so that none is lost with the screen it was said on.
fn failing_seeds() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("failing-seeds.txt")
}

fn remember(seed: u64, violation: &Violation) {
    let file = OpenOptions::new().create(true).append(true).open(failing_seeds());
    if let Err(error) = file.and_then(|mut file| writeln!(file, "SEED={seed} {}", violation.to_string().replace('\n', " "))) {
        println!("{} could not be written: {error}", failing_seeds().display());
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
