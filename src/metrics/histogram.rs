//! A histogram that counts in place. The exporter's own keeps every sample until somebody asks, which nobody may ever do.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The upper ends of the buckets: from what a look-up takes to what a client waits for.
const BOUNDS_NS: [u64; 16] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// How long something took, by buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    /// The last is for whatever is longer than every bound.
    counts: [AtomicU64; BOUNDS_NS.len() + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    /// Something took this long.
    pub fn record_ns(&self, ns: u64) {
        let bucket = BOUNDS_NS.iter().position(|bound| ns <= *bound).unwrap_or(BOUNDS_NS.len());
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(ns, Relaxed);
    }

    /// Its lines, the buckets adding up as Prometheus wants them.
    pub(super) fn render(&self, text: &mut String, name: &str, labels: &str) {
        let mut count = 0;
        let bounds = BOUNDS_NS.iter().map(|ns| (*ns as f64 / 1e9).to_string()).chain(["+Inf".to_owned()]);
        for (own, bound) in self.counts.iter().zip(bounds) {
            count += own.load(Relaxed);
            line(text, format_args!("{name}_bucket{{{labels},le=\"{bound}\"}} {count}"));
        }
        line(text, format_args!("{name}_sum{{{labels}}} {}", self.sum_ns.load(Relaxed) as f64 / 1e9));
        line(text, format_args!("{name}_count{{{labels}}} {count}"));
    }
}

/// What stands before the lines of all histograms of one name.
pub(super) fn head(text: &mut String, name: &str, help: &str) {
    line(text, format_args!("# HELP {name} {help}"));
    line(text, format_args!("# TYPE {name} histogram"));
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("unreachable: writing to a String does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up() {
        let histogram = Histogram::default();
        for ns in [1, 100_000, 100_001, 700_000_000, u64::MAX / 4] {
            histogram.record_ns(ns);
        }
        let mut text = String::new();
        histogram.render(&mut text, "x_seconds", "a=\"b\"");
        for expected in
            ["le=\"0.0001\"} 2", "le=\"0.00025\"} 3", "le=\"1\"} 4", "le=\"10\"} 4", "le=\"+Inf\"} 5", "x_seconds_count{a=\"b\"} 5"]
        {
            assert!(text.contains(expected), "{expected} in\n{text}");
        }
    }
}
