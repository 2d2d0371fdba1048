//! The rows of the table: what is measured, and what it must be beside its floor.

/// What a row's figure is, and so which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Requests answered a second; the ratio to the floor must be at least the target.
    PerSecond,
    /// A latency in milliseconds; the ratio must be at most the target.
    Milliseconds,
}

/// One row and its targets, as ratios to the floor.
pub(crate) struct Row {
    /// As the targets are numbered.
    pub(crate) number: u8,
    pub(crate) what: &'static str,
    pub(crate) unit: Unit,
    pub(crate) must: f64,
    pub(crate) goal: f64,
}

impl Row {
    const fn rate(number: u8, what: &'static str, must: f64, goal: f64) -> Self {
        Self { number, what, unit: Unit::PerSecond, must, goal }
    }

    const fn latency(number: u8, what: &'static str, must: f64, goal: f64) -> Self {
        Self { number, what, unit: Unit::Milliseconds, must, goal }
    }

    /// Whether a ratio is as good as a target.
    pub(crate) fn is_met(&self, ratio: f64, target: f64) -> bool {
        match self.unit {
            Unit::PerSecond => ratio >= target,
            Unit::Milliseconds => ratio <= target,
        }
    }
}

/// In the order in which a run measures them.
pub(crate) const ROWS: [Row; 9] = [
    Row::rate(1, "registrations, one a request, distinct", 0.80, 0.95),
    Row::rate(4, "renewals at the owner, one a request", 0.90, 1.0),
    Row::rate(6, "look-ups of 10", 0.90, 1.0),
    Row::rate(6, "look-ups of 100", 0.90, 1.0),
    Row::rate(6, "look-ups, nothing new (304)", 0.90, 1.0),
    Row::latency(8, "register → told, same node, p50", 1.4, 1.1),
    Row::latency(8, "register → told, same node, p99", 2.0, 1.3),
    Row::latency(9, "register at A → told at B over NATS, p50", 1.6, 1.2),
    Row::latency(9, "register at A → told at B over NATS, p99", 3.0, 1.5),
];
