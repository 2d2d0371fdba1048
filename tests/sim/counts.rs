//! What was done to the nodes: a run in which nothing went wrong proves nothing.

use std::collections::BTreeMap;
use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Injected {
    Lost,
    Cut,
    Late,
    Duplicated,
    Replayed,
    LostTail,
    Partition,
    OneWay,
    Unechoed,
    BusDown,
    BusBlip,
    NodeCrashed,
    NodeLeft,
    NodeStarted,
    NodeStalled,
    WallJumped,
    ProviderCrashed,
    ProviderRestarted,
    ProviderUpdated,
    ProviderPaused,
    ProviderDeregistered,
    LateRequest,
    AnswerLost,
    Unreachable,
}

#[derive(Default, Clone)]
pub(crate) struct Counts(BTreeMap<Injected, u64>);

impl Counts {
    pub(crate) fn add(&mut self, what: Injected) {
        *self.0.entry(what).or_default() += 1;
    }

    pub(crate) fn of(&self, what: Injected) -> u64 {
        self.0.get(&what).copied().unwrap_or(0)
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(*what).or_default() += count;
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in &self.0 {
            write!(f, " {what:?}={count}")?;
        }
        Ok(())
    }
}
