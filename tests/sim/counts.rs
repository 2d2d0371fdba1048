//! What was done to the nodes: a run in which nothing went wrong proves nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

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
    /// Nodes cut off one after another, and healed in another order.
    Swizzled,
    /// A partition of the whole network, not of the bus alone.
    NetworkPartition,
    /// A node far from the bus, or behind a thin line.
    SlowLine,
    /// A node could not read what came.
    Flooded,
    /// Frames lost at a node that could not read them.
    Dropped,
    /// Frames that were damaged, or are another cluster's.
    Hostile,
    /// Records that nobody wrote.
    Forged,
    /// Records and overrides whose numbers are far ahead of all that was written.
    ForgedVersion,
    /// Beacons of names that no node has, or that name such.
    Ghosts,
    NodeCrashed,
    /// All nodes killed at once.
    AllKilled,
    /// A node that found something on its disk.
    WarmStarted,
    DiskFull,
    DiskCut,
    DiskFlipped,
    NodeLeft,
    NodeStarted,
    NodeStalled,
    NodePaused,
    NodeCloned,
    WallJumped,
    ProviderCrashed,
    /// Some of one service, at once.
    GroupKilled,
    ProviderRestarted,
    ProviderUpdated,
    ProviderPaused,
    ProviderDeregistered,
    /// Two processes register one id.
    ProviderContested,
    /// Half of all providers, or all, reach no node.
    ProvidersCutOff,
    /// Heartbeats stop, and the processes go on.
    ProvidersHushed,
    /// A node does not reach a process that others reach.
    ProvidersHidden,
    /// A node looked at a process.
    Looked,
    /// All providers are replaced at once.
    ProvidersReplaced,
    /// Providers that hold their leases by a connection.
    ProviderAttached,
    ConnectionCut,
    /// Addresses that send no heartbeats.
    FixedRegistered,
    FixedDeregistered,
    OverrideSet,
    /// An instance drained, by itself or by an operator.
    Drained,
    OverrideDeleted,
    /// A provider's request that was answered, and is to hold until the next.
    Word,
    LateRequest,
    ConsumerMoved,
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

    /// How many faults in all.
    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// One kind a line.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for (what, count) in &self.0 {
            writeln!(text, "{count:>12}  {what:?}").expect("unreachable: a string takes everything");
        }
        text
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(*what).or_default() += count;
        }
    }
}
