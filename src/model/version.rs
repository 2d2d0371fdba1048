//! Versions: which of two records for one instance wins. Logical numbers, never time.

use std::fmt;

use super::NodeName;

/// One life of an instance; grows with each restart. 1 to [`INCARNATION_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(u64);

/// 2^53 − 1: the greatest whole number that every JSON reader keeps exact.
pub const INCARNATION_MAX: u64 = (1 << 53) - 1;
/// 2^52: the greatest that a provider may name. Peers quarantine a greater one at first sight, so no door takes it.
pub const INCARNATION_NAMED_MAX: u64 = 1 << 52;

impl Incarnation {
    /// The incarnation of an instance whose provider names none and of which nothing is known.
    pub const FIRST: Self = Self(1);

    /// Takes a number from outside; `None` when it is not 1 to [`INCARNATION_MAX`].
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        (1..=INCARNATION_MAX).contains(&number).then_some(Self(number))
    }

    /// Takes a number that a provider names; `None` when it is not 1 to [`INCARNATION_NAMED_MAX`].
    #[must_use]
    pub fn named(number: u64) -> Option<Self> {
        (1..=INCARNATION_NAMED_MAX).contains(&number).then_some(Self(number))
    }

    /// The life after this one; stays at the greatest there is.
    #[must_use]
    pub fn next(self) -> Self {
        Self((self.0 + 1).min(INCARNATION_MAX))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One life of a node: random, one a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Counts the changes in one node's log, from 1. 0 is before the first.
pub type Seq = u64;

/// A node in one of its lives: who wrote a change, who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Life {
    /// The node.
    pub node: NodeName,
    /// Which of its lives.
    pub epoch: Epoch,
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.node, self.epoch)
    }
}

/// Which of two records for one instance wins: the greater, compared field by field in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The life of the process; moved by the provider.
    pub incarnation: Incarnation,
    /// What the provider said within that life: + 1 for each registration with other content and each deregistration.
    pub edition: u64,
    /// The provider took it away; true beats false at the same edition.
    pub deregistered: bool,
    /// What the registry did within the edition: + 1 for each claim, adoption, withdrawal by silence and revival.
    pub generation: u64,
    /// At the same generation, live beats silent.
    pub live: bool,
    /// Holds the lease; breaks ties.
    pub owner: Life,
    /// Of the change in the owner's own log: no life of a node writes one version twice.
    pub seq: Seq,
}
