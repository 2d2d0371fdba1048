//! The cluster as it looks from here: that all nodes agree is something one can see.

use super::link::BusHealth;
use super::majority::Majority;
use super::message::AppliedAt;
use super::over_limit::ReachedLimit;
use super::peers::Peer;
use super::settle::settling_ms_of;
use super::time::Now;
use super::{NodeState, Registry};
use crate::model::{Life, NodeName, Seq};

/// How the cluster looks from here, for `/v1/cluster`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterView {
    /// This node's state.
    pub state: NodeState,
    /// How its bus is.
    pub bus: BusHealth,
    /// No alive peer that has applied the same holds something else, none lags, this node is heard, and it judges who is silent; what is on
    /// its way is no divergence.
    pub converged: bool,
    /// For how long they have not been; `None`: they are.
    pub diverged_ms: Option<u64>,
    /// Whether this node judges who is silent.
    pub majority: Majority,
    /// All that could be known is known here.
    pub complete: bool,
    /// The limit at which this node does not take what peers send; `None`: it takes all.
    pub over_limit: Option<ReachedLimit>,
    /// This node first.
    pub nodes: Vec<NodeView>,
    /// Who has applied what, as each says in its beacon; this node's own first.
    pub applied: Vec<(NodeName, Vec<AppliedAt>)>,
}

/// One node, for `/v1/cluster`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Which life of which node.
    pub life: Life,
    /// `warming`, `ready`, `preserving`, `leaving`; of a peer also `suspect`, `dead`.
    pub state: &'static str,
    /// Where its HTTP is reached.
    pub http: String,
    /// Since its last beacon, in ms; 0 for this node.
    pub heard_ms: u64,
    /// The last seq of its log, as it said.
    pub seq: Seq,
    /// How many of its changes this node lacks.
    pub lag: u64,
    /// Of its live records.
    pub digest: u128,
    /// Of its services' revisions.
    pub view_digest: u128,
    /// Its live records.
    pub instances: u64,
    /// For how much longer it waits until every provider had its turn; `None`: it does not.
    pub settling_ms: Option<u64>,
}

impl Registry {
    /// How the cluster looks from here.
    #[must_use]
    pub fn cluster(&self, now: Now) -> ClusterView {
        let own = NodeView {
            life: self.life.clone(),
            state: self.state_word(),
            http: self.settings.http.clone(),
            heard_ms: 0,
            seq: self.log.head(),
            lag: 0,
            digest: self.store.live().total(),
            view_digest: self.store.catalog().view_digest(),
            instances: self.store.live_count(),
            settling_ms: self.settling_ms(now),
        };
        let peers = self.peers.iter().filter(|(_, peer)| !peer.is_gone(now.mono)).map(|(node, peer)| self.to_node_view(node, peer, now));
        let own_applied = (self.life.node.clone(), self.applied.to_said(&self.life, now.mono));
        let said = self
            .peers
            .iter()
            .filter(|(_, peer)| !peer.is_gone(now.mono))
            .filter_map(|(node, peer)| Some((node.clone(), peer.beacon.as_ref()?.applied.clone())));
        ClusterView {
            state: self.state,
            bus: self.link.health(),
            converged: self.is_converged(now) && self.judges(now.mono),
            diverged_ms: self.diverged_ms(now),
            majority: self.majority(now),
            complete: self.complete,
            over_limit: self.reached_limit(now.mono),
            nodes: std::iter::once(own).chain(peers).collect(),
            applied: std::iter::once(own_applied).chain(said).collect(),
        }
    }

    /// This node hears a majority of the cluster's members; without one it takes nothing away and takes nothing over.
    #[must_use]
    pub fn hears_majority(&self, now: Now) -> bool {
        self.peers.hears_majority(now.mono)
    }

    /// The word of the API for this node's state. One that never reached its bus is not ready for anybody: others may know what it does not.
    #[must_use]
    pub fn state_word(&self) -> &'static str {
        if self.state == NodeState::Ready && !self.has_reached_bus() {
            return NodeState::Warming.as_str();
        }
        state_word(self.state, self.is_preserving())
    }

    fn to_node_view(&self, node: &NodeName, peer: &Peer, now: Now) -> NodeView {
        let life = Life { node: node.clone(), epoch: peer.epoch };
        let beacon = peer.beacon.as_ref();
        let seq = beacon.map_or(0, |beacon| beacon.head);
        NodeView {
            state: peer.state(now.mono),
            http: beacon.map_or_else(String::new, |beacon| beacon.http.clone()),
            heard_ms: now.mono.saturating_sub(peer.heard_at),
            seq,
            lag: seq.saturating_sub(self.applied.seq(&life)),
            digest: beacon.map_or(0, |beacon| beacon.digest),
            view_digest: beacon.map_or(0, |beacon| beacon.view_digest),
            instances: beacon.map_or(0, |beacon| beacon.records),
            settling_ms: beacon.and_then(|beacon| settling_ms_of(beacon, now.mono.saturating_sub(peer.heard_at))),
            life,
        }
    }
}

/// Every word of the API for how a node is, of a peer also `suspect` and `dead`.
pub const NODE_STATES: [&str; 6] = ["warming", "ready", "preserving", "leaving", "suspect", "dead"];

/// A node that is ready, and keeps instances listed by self-preservation, says so instead.
pub(super) fn state_word(state: NodeState, preserving: bool) -> &'static str {
    match state {
        NodeState::Ready if preserving => "preserving",
        NodeState::Ready | NodeState::Warming | NodeState::Leaving => state.as_str(),
    }
}
