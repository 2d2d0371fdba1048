//! Versions: which of two records for one instance wins. Logical numbers, never time.

use std::fmt;

use super::NodeName;

/// One life of an instance; grows with each restart. 1 to [`INCARNATION_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(u64);

/// 2^52: every JSON reader keeps it exact. No door, frame or file has a greater one, so that no node holds what others refuse.
pub const INCARNATION_MAX: u64 = 1 << 52;

impl Incarnation {
    /// The incarnation of an instance whose provider names none and of which nothing is known.
    pub const FIRST: Self = Self(1);

    /// Takes a number from outside; `None` when it is not 1 to [`INCARNATION_MAX`].
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        (1..=INCARNATION_MAX).contains(&number).then_some(Self(number))
    }

    /// The life after this one; `None` for the greatest.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::new(self.0 + 1)
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
