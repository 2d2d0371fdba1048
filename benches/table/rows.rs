//! The rows of the table: what is measured, and what it must be beside its floor.

/// What a row's figure is, and so which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Requests answered a second; the ratio to the floor must be at least the target.
    PerSecond,
    /// A latency in milliseconds; the ratio must be at most the target.
    Milliseconds,
}

/// What a row's targets are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// The ratio to the floor.
    Ratio,
    /// Muster's own figure.
    Figure,
    /// Nothing: the row stands beside another one.
    Nothing,
}

/// One row and its targets.
pub(crate) struct Row {
    /// As the targets are numbered.
    pub(crate) number: u8,
    pub(crate) what: &'static str,
    pub(crate) unit: Unit,
    pub(crate) target: Target,
    pub(crate) must: f64,
    pub(crate) goal: f64,
}

impl Row {
    const fn rate(number: u8, what: &'static str, must: f64, goal: f64) -> Self {
        Self { number, what, unit: Unit::PerSecond, target: Target::Ratio, must, goal }
    }

    const fn latency(number: u8, what: &'static str, must: f64, goal: f64) -> Self {
        Self { number, what, unit: Unit::Milliseconds, target: Target::Ratio, must, goal }
    }

    const fn within(number: u8, what: &'static str, must: f64, goal: f64) -> Self {
        Self { target: Target::Figure, ..Self::latency(number, what, must, goal) }
    }

    const fn beside(number: u8, what: &'static str) -> Self {
        Self { target: Target::Nothing, ..Self::latency(number, what, f64::INFINITY, f64::INFINITY) }
    }

    /// What is held against the targets: of a row's ratio and figure.
    pub(crate) fn judged(&self, ratio: f64, figure: f64) -> f64 {
        match self.target {
            Target::Ratio | Target::Nothing => ratio,
            Target::Figure => figure,
        }
    }

    /// Whether what is judged is as good as a target.
    pub(crate) fn is_met(&self, judged: f64, target: f64) -> bool {
        match self.unit {
            Unit::PerSecond => judged >= target,
            Unit::Milliseconds => judged <= target,
        }
    }
}

/// In the order in which a run measures them.
pub(crate) const ROWS: [Row; 13] = [
    Row::rate(1, "registrations, one a request, distinct", 0.80, 0.95),
    Row::rate(4, "renewals at the owner, one a request", 0.90, 1.0),
    Row::rate(6, "look-ups of 10", 0.90, 1.0),
    Row::rate(6, "look-ups of 100", 0.90, 1.0),
    Row::rate(6, "look-ups, nothing new (304)", 0.90, 1.0),
    Row::latency(8, "register → told, same node, p50", 1.4, 1.1),
    Row::latency(8, "register → told, same node, p99", 2.0, 1.3),
    Row::latency(9, "register at A → told at B over NATS, p50", 1.6, 1.2),
    Row::latency(9, "register at A → told at B over NATS, p99", 3.0, 1.5),
    Row::within(11, "attached provider killed at A → told at B over NATS, p50", 1.0, 0.4),
    Row::within(11, "attached provider killed at A → told at B over NATS, p99", 10.0, 10.0),
    Row::beside(11, "the same by heartbeats with a ttl of 1 s, p50"),
    Row::beside(11, "the same by heartbeats with a ttl of 1 s, p99"),
];
