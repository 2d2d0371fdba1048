//! The table as Markdown: medians, spreads, ratios and targets, where and when it was measured, and plainly what is not met.

use std::fmt::Write;
use std::process::Command;

use crate::load::CONNECTIONS;
use crate::process::nats_binary;
use crate::rows::{ROWS, Row, Target, Unit};
use crate::run::{Figure, Pair};
use crate::stats::Spread;

const HEAD: &str = "\
| row | what | floor | muster | muster ÷ floor | must | goal | CPU an operation: floor | muster | verdict |
|---:|---|---:|---:|---:|---:|---:|---:|---:|---|
";

/// Where everything was measured, told before the first run so that the load is the machine's own.
pub(crate) struct Place(String);

impl Place {
    pub(crate) fn look() -> Self {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let cpu = field_of_file("/proc/cpuinfo", "model name").unwrap_or_else(|| "an unknown processor".into());
        let kernel = read("/proc/sys/kernel/osrelease");
        let load = read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned();
        let commit = output("git", &["describe", "--always", "--dirty", "--abbrev=10"]);
        let rustc = output("rustc", &["--version"]);
        let nats = output(&nats_binary().display().to_string(), &["--version"]);
        let date = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC");
        let muster = env!("CARGO_PKG_VERSION");
        let (axum, async_nats) = (locked_version("axum"), locked_version("async-nats"));
        Self(format!(
            "Measured {date} on {cores} cores ({cpu}, Linux {kernel}), shared by load, servers and whatever else ran: the load average was \
             {load} before the first run. muster {muster} at {commit}, {rustc}, axum {axum}, async-nats {async_nats}, {nats}."
        ))
    }
}

/// The whole report over several runs, each with a pair for each row.
pub(crate) fn to_markdown(place: &Place, runs: &[Vec<Pair>]) -> String {
    let mut text = format!(
        "{} Medians of {} runs, {CONNECTIONS} connections; least and greatest in brackets; a ratio is the median of the runs' ratios.\n\n{HEAD}",
        place.0,
        runs.len()
    );
    let mut shortfalls = String::new();
    for (index, row) in ROWS.iter().enumerate() {
        let pairs: Vec<Pair> = runs.iter().map(|run| run[index]).collect();
        let ratio = Spread::of(pairs.iter().map(Pair::ratio));
        text.push_str(&line(row, &pairs, ratio));
        let judged = judged(row, &pairs, ratio);
        if !row.is_met(judged, row.must) {
            let (number, what, relation) = (row.number, row.what, relation(row.unit));
            let of = if row.target == Target::Figure { "ms" } else { "of the floor" };
            writeln!(shortfalls, "- Row {number}, {what}: {judged:.2} {of}, must be {relation} {:.2}.", row.must)
                .expect("unreachable: text can be written to");
        }
    }
    if shortfalls.is_empty() {
        text.push_str("\nEvery \"must\" of these rows is met.\n");
    } else {
        text.push_str("\nNot met:\n\n");
        text.push_str(&shortfalls);
    }
    text
}

fn line(row: &Row, pairs: &[Pair], ratio: Spread) -> String {
    let floor = Spread::of(pairs.iter().map(|pair| pair.floor.value));
    let muster = Spread::of(pairs.iter().map(|pair| pair.muster.value));
    let judged = judged(row, pairs, ratio);
    let verdict = match (row.is_met(judged, row.must), row.is_met(judged, row.goal)) {
        _ if row.target == Target::Nothing => "–",
        (_, true) => "goal",
        (true, false) => "must",
        (false, false) => "**not met**",
    };
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {verdict} |\n",
        row.number,
        row.what,
        shown(row.unit, floor),
        shown(row.unit, muster),
        with_spread(ratio, |value| format!("{value:.2}")),
        target(row, row.must),
        target(row, row.goal),
        cpu(pairs.iter().map(|pair| pair.floor)),
        cpu(pairs.iter().map(|pair| pair.muster)),
    )
}

/// What of a row is held against its targets.
fn judged(row: &Row, pairs: &[Pair], ratio: Spread) -> f64 {
    row.judged(ratio.median, Spread::of(pairs.iter().map(|pair| pair.muster.value)).median)
}

fn target(row: &Row, target: f64) -> String {
    let relation = relation(row.unit);
    match row.target {
        Target::Ratio => format!("{relation} {target:.2}"),
        Target::Figure => format!("{relation} {target:.1} ms"),
        Target::Nothing => "–".to_owned(),
    }
}

fn relation(unit: Unit) -> &'static str {
    match unit {
        Unit::PerSecond => "≥",
        Unit::Milliseconds => "≤",
    }
}

fn shown(unit: Unit, spread: Spread) -> String {
    match unit {
        Unit::PerSecond => with_spread(spread, |value| format!("{:.1} k/s", value / 1e3)),
        Unit::Milliseconds => with_spread(spread, |value| format!("{value:.3} ms")),
    }
}

fn with_spread(spread: Spread, show: impl Fn(f64) -> String) -> String {
    format!("{} ({}–{})", show(spread.median), show(spread.least), show(spread.greatest))
}

fn cpu(figures: impl Iterator<Item = Figure>) -> String {
    let each: Option<Vec<f64>> = figures.map(|figure| figure.cpu_us).collect();
    each.map_or_else(|| "–".into(), |each| format!("{:.1} µs", Spread::of(each).median))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn field_of_file(path: &str, name: &str) -> Option<String> {
    let text = read(path);
    let (_, value) = text.lines().find(|line| line.starts_with(name))?.split_once(':')?;
    Some(value.trim().to_owned())
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    output.map_or_else(|_| format!("unknown {program}"), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The version of a dependency that this was built with.
fn locked_version(package: &str) -> &'static str {
    let lock = include_str!("../../Cargo.lock");
    let (_, after) = lock.split_once(&format!("name = \"{package}\"\nversion = \"")).unwrap_or(("", "unknown\""));
    after.split('"').next().unwrap_or_default()
}
