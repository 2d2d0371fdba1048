//! Answers: what a question is answered, or why it is refused.

use std::sync::Arc;

use super::diff::Diff;
use super::message::LeaseTold;
use super::probe::ProbeOutcome;
use super::record::Record;
use super::time::Mono;
use crate::model::{Imposed, Incarnation, InstanceKey, Listed, NodeName, OverrideName, Status, Subscriber};

/// When a write is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ack {
    /// Once it is in this node's memory.
    #[default]
    Local,
    /// Once one other node has applied it, or at the deadline.
    Peer {
        /// When to answer at the latest.
        until: Mono,
    },
    /// Once every alive peer has applied it, or at the deadline.
    All {
        /// When to answer at the latest.
        until: Mono,
    },
}

/// Who has applied a write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AckReport {
    /// What was asked for is so.
    pub met: bool,
    /// Alive peers that have it.
    pub applied: Vec<NodeName>,
    /// Alive peers that have not said so.
    pub missing: Vec<NodeName>,
}

/// What a question is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Input::Register`](super::Input::Register).
    Registered(Registered),
    /// To [`Input::Attach`](super::Input::Attach): one for each, in the order of their keys.
    Attached(Vec<Registered>),
    /// To [`Input::Attach`](super::Input::Attach): one could not be registered, so none was changed.
    AttachRefused {
        /// Which.
        key: InstanceKey,
        /// Why.
        refusal: Refusal,
    },
    /// To [`Input::Heartbeat`](super::Input::Heartbeat).
    Renewed(Renewed),
    /// To [`Input::Deregister`](super::Input::Deregister); also when it was gone already.
    Deregistered {
        /// Where an acknowledgement was asked for.
        ack: Option<AckReport>,
    },
    /// To [`Input::Drain`](super::Input::Drain) that waits.
    Drained(Drained),
    /// To [`Input::Drain`](super::Input::Drain) that does not wait: it has begun.
    Draining,
    /// To [`Input::SetOverride`](super::Input::SetOverride).
    OverrideSet {
        /// None of this name was known.
        created: bool,
    },
    /// To [`Input::DeleteOverride`](super::Input::DeleteOverride).
    OverrideDeleted,
    /// To [`Input::ForgetNode`](super::Input::ForgetNode): it counts no more.
    NodeForgotten,
    /// To [`Input::Inspect`](super::Input::Inspect); `None`: no live record.
    Inspected(Option<Inspected>),
    /// To [`Input::Diff`](super::Input::Diff).
    Diff(Diff),
    /// To any of them; nothing was changed.
    Refused(Refusal),
}

/// A registration as it now stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// No live record was known.
    pub created: bool,
    /// The instance's life.
    pub incarnation: Incarnation,
    /// Of the content: to be sent with heartbeats.
    pub digest: u128,
    /// Who holds the lease.
    pub owner: NodeName,
    /// Of the service, with this in it.
    pub revision: u128,
    /// How long it stays without a heartbeat; `None`: for ever.
    pub ttl_ms: Option<u64>,
    /// How often to send one; `None`: never.
    pub renew_every_ms: Option<u64>,
    /// An open connection holds the lease, as far as this node knows.
    pub attached: bool,
    /// What consumers see.
    pub listed: Listed,
    /// Where an acknowledgement was asked for.
    pub ack: Option<AckReport>,
}

/// A heartbeat's effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// How often to send one; `None`: never, it is a fixed address.
    pub renew_every_ms: Option<u64>,
    /// Who holds the lease.
    pub owner: NodeName,
    /// The instance's life.
    pub incarnation: Incarnation,
    /// The effective status.
    pub status: Status,
}

/// How a drain went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drained {
    /// Everyone has been sent it.
    pub delivered: bool,
    /// Everyone whose selection includes the instance, on all nodes.
    pub subscribers: u64,
    /// Those who have not been sent it.
    pub missing: Vec<Missing>,
    /// There are more of those.
    pub truncated: bool,
    /// The instance is gone.
    pub deregistered: bool,
}

/// Somebody who has not been sent something, or of whom nobody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// At which node.
    pub node: NodeName,
    /// Who; `None`: the node does not answer, and nobody knows who is there.
    pub subscriber: Option<Subscriber>,
}

/// Everything known of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// As this node holds it.
    pub record: Arc<Record>,
    /// What consumers see.
    pub listed: Listed,
    /// The status that an override gives it, and which.
    pub overridden: Option<(Imposed, OverrideName)>,
    /// What only the owner knows; `None`: it did not answer.
    pub lease: Option<LeaseTold>,
    /// What this node has seen of it; `None`: it does not look, as one that is not the owner.
    pub looked: Option<Looked>,
}

/// What looking at an instance has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// How often it is looked at, while nothing changes.
    pub interval_ms: u64,
    /// How long an answer may take.
    pub timeout_ms: u64,
    /// When it was looked at last, and what was seen.
    pub last: Option<(Mono, ProbeOutcome)>,
    /// In a row.
    pub successes: u32,
    /// In a row.
    pub failures: u32,
}

/// Why a write was refused; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No such lease: register (again).
    UnknownLease,
    /// No such instance is listed.
    UnknownInstance,
    /// No such override is known.
    UnknownOverride,
    /// A later life is known, or this one was deregistered by name.
    Superseded {
        /// The known life.
        incarnation: Incarnation,
    },
    /// This node does not know enough yet.
    Warming,
    /// This node stops: ask another.
    Leaving,
    /// Another node runs under this node's name, and this one has stepped down: ask another.
    NameTaken,
    /// A bound is reached.
    LimitReached {
        /// The configuration key to raise.
        key: &'static str,
        /// Its value.
        max: u64,
    },
    /// No such node is known.
    UnknownNode(NodeName),
    /// That node did not answer in time.
    UnreachableNode(NodeName),
    /// That node is heard: it cannot be forgotten.
    NodeAlive(NodeName),
    /// As much of this is under way as may be.
    Busy,
}
