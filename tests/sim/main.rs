//! The simulator: seeded worlds in which everything goes wrong that can, and the judge of the protocol.
//!
//! `SEED=n` replays one run exactly (`TRACE=1` prints what changed, `TRACE=2` every message too, `ABOUT=word,word` only the lines with one
//! of these words); `SEEDS=n` runs that many, from `FROM` on; `SECONDS_MAX=n` is how long a batch may take.

mod agreement;
mod bus;
mod chance;
mod chaos;
mod counts;
mod diff;
mod divergence;
mod ledger;
mod provider;
mod scenarios;
mod shell;
mod story;
mod teeth;
mod trace;
mod watcher;
mod world;

use std::time::{Duration, Instant};

use counts::Counts;
use story::{Story, run};
use trace::Level;

/// How long the batch may take where nobody says otherwise.
const BATCH_SECONDS: u64 = 60;
/// At least so many runs, however slow the machine.
const SEEDS_MIN: u64 = 30;

fn asked_for(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("SEED, SEEDS, FROM and SECONDS_MAX are numbers"))
}

/// One seed again, with its trace.
fn replay(seed: u64, level: Level) -> String {
    let told = run(&Story { level, ..Story::of(seed) });
    let about = std::env::var("ABOUT").unwrap_or_default();
    let words: Vec<&str> = about.split(',').filter(|word| !word.is_empty()).collect();
    let ends = told.violation.as_deref().map_or_else(|| format!("seed {seed}: nothing is wrong"), |what| format!("seed {seed}: {what}"));
    format!("{}{ends}\n{}", told.trace.about(&words), told.counts)
}

#[test]
fn every_history_keeps_the_invariants() {
    if let Some(seed) = asked_for("SEED") {
        let level = match asked_for("TRACE") {
            None | Some(0) => Level::Off,
            Some(1) => Level::Changes,
            Some(_) => Level::All,
        };
        println!("{}", replay(seed, level));
        let told = run(&Story::of(seed));
        assert_eq!(told.violation, None, "SEED={seed}");
        return;
    }
    let seeds = asked_for("SEEDS");
    let from = asked_for("FROM").unwrap_or(1);
    let until = Instant::now() + Duration::from_secs(asked_for("SECONDS_MAX").unwrap_or(BATCH_SECONDS));
    let mut counts = Counts::default();
    let (mut ran, mut simulated_ms, mut writes) = (0, 0, 0);
    let mut violations = Vec::new();
    while seeds.map_or(ran < SEEDS_MIN || Instant::now() < until, |seeds| ran < seeds) {
        let seed = from + ran;
        let told = run(&Story::of(seed));
        ran += 1;
        simulated_ms += told.ms;
        writes += told.writes;
        counts.merge(&told.counts);
        if let Some(what) = told.violation {
            println!("SEED={seed}: {what}");
            violations.push(seed);
        }
        if violations.len() >= 20 {
            break;
        }
    }
    println!("{ran} seeds from {from}, {} h simulated, {writes} changes written;{counts}", simulated_ms / 3_600_000);
    if let Some(seed) = violations.first() {
        println!("the first again:\n{}", last_lines(&replay(*seed, Level::Changes), 150));
    }
    assert!(violations.is_empty(), "SEED={} and {} more break an invariant", violations[0], violations.len() - 1);
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[test]
fn one_seed_is_one_run() {
    for seed in [3, 1_000_003] {
        let [one, other] = [0, 1].map(|_| run(&Story { level: Level::All, ..Story::of(seed) }));
        assert!(!one.trace.lines().is_empty());
        assert_eq!(one.trace.lines(), other.trace.lines(), "SEED={seed}");
    }
}

#[test]
fn wall_clocks_decide_nothing() {
    for seed in 0..5 {
        let [right, wrong] = [false, true].map(|wall_clocks_err| run(&Story { level: Level::Changes, wall_clocks_err, ..Story::of(seed) }));
        assert_eq!(right.trace.lines(), wrong.trace.lines(), "SEED={seed}");
        assert_eq!(right.digests, wrong.digests, "SEED={seed}");
    }
}
