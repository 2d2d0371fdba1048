//! What must hold, by the numbers of the protocol's own list; each check names the one it is for.

use std::fmt;

/// The protocol's invariants, by its numbers, and a few of the simulator's own. Two are not judged within one run: that wall clocks decide
/// nothing (12) shows where two runs are compared, and mixed versions (14) where there are two, in the tests of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Invariant {
    /// After faults stop all nodes have equal records and equal views, soon.
    Convergence = 1,
    /// A provider that is answered is listed everywhere, with what it says.
    NothingLost,
    /// Who left, or fell silent, is gone.
    NoZombie,
    /// The numbers of a version never go back.
    NoResurrection,
    /// A seq is written once, and a version has one body.
    OneWriter,
    /// One node holds the lease of a live record: the one that the record names.
    OneOwner,
    /// Nobody sees a service empty whose provider is answered by a node that is known there: one that left in order and starts anew apart from
    /// the others is not, until it is heard.
    NoFalseEmpty,
    /// Many do not expire at once.
    BoundedExpiry,
    /// What consumers were told is what the node believes.
    WatchersExact,
    /// Nothing grows without end.
    Bounded,
    /// What is another cluster's, or malformed, changes nothing.
    Isolation,
    /// Without the bus a node answers in full, and says that it is alone.
    AloneIsEnough = 13,
    /// Of words that one provider sends one after the other, at whatever nodes, the last answered one holds.
    LastWord = 15,
    /// What a caller is answered is true. The simulator's own: the protocol says it all over.
    TrueAnswers,
    /// What an operator willed holds until he says otherwise. The simulator's own: section 10 of the protocol.
    WillHolds,
    /// An address without a lease stays until it is deregistered. The simulator's own.
    FixedStays,
    /// What a node took under a name that another one has is held elsewhere before it ends. The simulator's own.
    HandedOver,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Self::Convergence => "convergence",
            Self::NothingLost => "no live instance lost",
            Self::NoZombie => "no zombie",
            Self::NoResurrection => "no resurrection",
            Self::OneWriter => "one writer",
            Self::OneOwner => "one owner",
            Self::NoFalseEmpty => "no false empty",
            Self::BoundedExpiry => "bounded expiry",
            Self::WatchersExact => "watchers are exact",
            Self::Bounded => "bounded",
            Self::Isolation => "isolation",
            Self::AloneIsEnough => "alone is enough",
            Self::LastWord => "the last word holds",
            Self::TrueAnswers => "true answers",
            Self::WillHolds => "what is willed holds",
            Self::FixedStays => "a fixed address stays",
            Self::HandedOver => "who gives way has handed over",
        };
        write!(f, "{}, {words}", *self as u8)
    }
}

/// One that does not hold, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) of: Invariant,
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.of, self.what)
    }
}
