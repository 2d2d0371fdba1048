//! What an operator may choose of the protocol, valid.

use crate::model::{Epoch, Life, NodeName};

/// What a registry is given at its start and keeps for its life.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This node.
    pub node: NodeName,
    /// This life of it: random.
    pub epoch: Epoch,
    /// Where its HTTP is reached, `host:port`, for peers' eyes.
    pub http: String,
    /// There is a bus; without one the node is alone and ready at once.
    pub has_bus: bool,
    /// How long a joining node that hears no ready peer waits for one. Default 2 s; 0.2 s in `dev`.
    pub bootstrap_wait_ms: u64,
    /// How long a node that started without knowledge waits until every provider had its turn, before it says that there is nothing.
    /// Default 20 s: the default ttl and its grace.
    pub settle_ms: u64,
    /// An operator says that nothing was registered before: the node does not settle. Default false.
    pub expect_empty: bool,
    /// After this long a silent node whose address refuses everybody counts no more. Default 10 min.
    pub dead_after_ms: u64,
    /// How long an instance that is down stays listed, where its registration does not say. Default 60 s.
    pub evict_after_ms: u64,
    /// How long one whose connection closed stays listed once it is down. Default 5 s; below `evict_after`.
    pub detach_grace_ms: u64,
    /// How long a record withdrawn by silence can be brought back by a heartbeat. Default 1 h.
    pub revive_for_ms: u64,
    /// When more than so many of a hundred of this node's, or a service's, leases are silent at once, none of them is let go. Default 15.
    pub preserve_percent: u64,
    /// For how long that may last. Default 1 h.
    pub preserve_max_ms: u64,
    /// How many instances are probed.
    pub probes: ProbeLimits,
    /// What may be held at the most.
    pub limits: Limits,
}

/// How many instances are probed; past it they wait for their turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeLimits {
    /// So many at once, at least 1. Default 256.
    pub in_flight: u32,
    /// So many a second, at least 1. Default 1,000.
    pub per_second: u32,
}

impl Default for ProbeLimits {
    fn default() -> Self {
        Self { in_flight: 256, per_second: 1000 }
    }
}

/// What may be held at the most; past it new registrations are refused, renewals never are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Live instances in all. Default 2,000,000.
    pub instances: u64,
    /// Live instances of one service. Default 100,000.
    pub instances_per_service: u64,
    /// Services with a visible instance. Default 200,000.
    pub services: u64,
    /// One registration, in bytes. Default 16 KiB, at most 64 KiB.
    pub record_bytes: u64,
    /// Withdrawn records remembered. Default 1,000,000.
    pub withdrawn: u64,
    /// Overrides in all. Default 1,000.
    pub overrides: u64,
    /// What is given to peers that pull, in a second: a quarter of a gigabit line, and six times what a node takes in when it joins. One
    /// life of a peer is given at most half of it. Default 32 MiB.
    pub pull_bytes_per_second: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            instances: 2_000_000,
            instances_per_service: 100_000,
            services: 200_000,
            record_bytes: 16 * 1024,
            withdrawn: 1_000_000,
            overrides: 1000,
            pull_bytes_per_second: 32 << 20,
        }
    }
}

impl Settings {
    /// As configured by nobody.
    #[must_use]
    pub fn new(node: NodeName, epoch: Epoch) -> Self {
        Self {
            node,
            epoch,
            http: String::new(),
            has_bus: true,
            bootstrap_wait_ms: 2000,
            settle_ms: 20_000,
            expect_empty: false,
            dead_after_ms: 600_000,
            evict_after_ms: 60_000,
            detach_grace_ms: 5000,
            revive_for_ms: 3_600_000,
            preserve_percent: 15,
            preserve_max_ms: 3_600_000,
            probes: ProbeLimits::default(),
            limits: Limits::default(),
        }
    }

    /// Whether what a node kept on its disk, which then knew enough, is all that there is. Without a bus nobody registered elsewhere since. With
    /// one a file is trusted for as long as a node settles: who registered after it, and is gone, was there for less.
    #[must_use]
    pub fn trusts_file(&self, age_ms: u64) -> bool {
        !self.has_bus || age_ms < self.settle_ms
    }

    /// This life of this node.
    #[must_use]
    pub fn life(&self) -> Life {
        Life { node: self.node.clone(), epoch: self.epoch }
    }
}
