//! Notices: what an operator should hear of.

use std::sync::Arc;

use super::handover::Untaken;
use crate::model::{Epoch, InstanceKey, Life, NodeName, OverrideKey, ServiceKey};

/// What an operator should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// No own beacon came back for 3 s: the bus does not carry what we say.
    Deaf,
    /// Own beacons come back again.
    Hearing,
    /// A life of a peer is heard for the first time.
    PeerAppeared(Life),
    /// A peer has been silent for 5 s.
    PeerSilent(NodeName),
    /// A peer said that it stops.
    PeerLeft(NodeName),
    /// A record of a peer's broke a rule of the merge and was not taken.
    Quarantined {
        /// Whose.
        from: Life,
        /// Of which instance.
        key: InstanceKey,
        /// Which rule.
        why: &'static str,
    },
    /// Records or overrides of peers were not taken: there are twice as many here, or they are twice as large, as this limit says.
    OverLimit {
        /// Who sent the last of them.
        from: Life,
        /// The limit, as the configuration names it.
        limit: &'static str,
        /// Twice its value.
        max: u64,
        /// How many, since this was last noticed.
        count: u64,
        /// An operator was not told for a while.
        is_alarm: bool,
    },
    /// An override was set, replaced or ended, here or elsewhere.
    OverrideChanged {
        /// Which.
        key: OverrideKey,
        /// Why it was set; `None`: it ended.
        reason: Option<Arc<str>>,
    },
    /// An override of a peer's broke a rule of the merge and was not taken.
    OverrideQuarantined {
        /// Who said it.
        from: Life,
        /// Which.
        key: OverrideKey,
        /// Which rule.
        why: &'static str,
    },
    /// This node asked a peer for what it lacks.
    Pulled {
        /// Whom.
        from: NodeName,
        /// `changes`, `buckets` or `copy`.
        kind: &'static str,
    },
    /// A question of such a pull brought records that this node did not have.
    Repaired {
        /// From whom.
        from: NodeName,
        /// As in [`Notice::Pulled`].
        kind: &'static str,
        /// How many.
        records: usize,
    },
    /// Two nodes still differ after three rounds; repair waits.
    StillDiffers(NodeName),
    /// More of this life's log was claimed, or taken for applied, than it says it has written: that was forged, and is forgotten.
    LogCut(Life),
    /// A peer's clock is ahead: this node's stamp clock was set forward to it. Words that meet for the first time are ordered by stamps.
    ClockAhead {
        /// Whose.
        from: NodeName,
        /// By how much.
        ms: u64,
    },
    /// Withdrawn records past their bound were forgotten early.
    ForgotEarly(usize),
    /// This node started without knowledge: it waits until every provider had its turn.
    Settling {
        /// For how long.
        ms: u64,
    },
    /// These peers answer no pull, or warm, for long: this node does not wait for what they hold.
    NotCompared {
        /// Who they are.
        peers: Vec<NodeName>,
    },
    /// What this node waited for is over: it knows all that can be known.
    Settled,
    /// Nobody could give a whole copy for 30 s: ready, but incomplete.
    Incomplete,
    /// Another node with our name is alive.
    NameTaken {
        /// In this epoch.
        epoch: Epoch,
        /// Where it says that its HTTP is reached.
        http: String,
        /// This node has not been ready yet, and waits until that one is gone.
        waits: bool,
    },
    /// This node leaves, because another runs under its name and its own epoch is the greater one.
    SteppedDown {
        /// The epoch of the one that goes on.
        epoch: Epoch,
        /// Where its HTTP answered.
        http: String,
    },
    /// What was written here under a name that another node has, and nobody took for long.
    NotHandedOver(Untaken),
    /// A silent peer did not answer directly either: others take over what it owned.
    PeerDead(Life),
    /// The address of a silent node has refused everybody who knows it for `cluster.dead_after`: it counts no more.
    MemberLost(NodeName),
    /// An operator said that a node does not come back: it counts no more.
    NodeForgotten(NodeName),
    /// This node judges nobody for want of a majority, and has not for a while: nothing expires, nothing is taken over. Or it does again.
    Majority {
        /// How many nodes count, this one among them.
        members: usize,
        /// How many of them are heard.
        heard: usize,
        /// It judges again.
        judges: bool,
    },
    /// This node was stopped for so long, or its machine was.
    Paused {
        /// For how long.
        ms: u64,
    },
    /// This node was away for more than a day, or the other one of its name is gone: it joins again, in a new life.
    Reborn(Epoch),
    /// So many leases fell silent together that none of them is let go; or that is over.
    Preserving {
        /// Of this service; `None`: of all that this node owns.
        service: Option<ServiceKey>,
        /// It begins.
        begins: bool,
    },
    /// Two processes seem to register under one id.
    Contested(InstanceKey),
}
