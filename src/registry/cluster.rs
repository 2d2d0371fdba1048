//! The cluster as it looks from here: that all nodes agree is something one can see.

use std::collections::BTreeMap;

use super::link::BusHealth;
use super::majority::Majority;
use super::message::AppliedAt;
use super::peers::Peer;
use super::time::Now;
use super::{Beacon, NodeState, Registry};
use crate::model::{Life, NodeName, Seq};

/// How the cluster looks from here, for `/v1/cluster`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterView {
    /// This node's state.
    pub state: NodeState,
    /// How its bus is.
    pub bus: BusHealth,
    /// Every alive peer has applied what we have and has our digest, and this node judges who is silent.
    pub converged: bool,
    /// For how long they have not been; `None`: they are.
    pub diverged_ms: Option<u64>,
    /// Whether this node judges who is silent.
    pub majority: Majority,
    /// All that could be known is known here.
    pub complete: bool,
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
            nodes: std::iter::once(own).chain(peers).collect(),
            applied: std::iter::once(own_applied).chain(said).collect(),
        }
    }

    /// This node hears a majority of the cluster's members; without one it takes nothing away and takes nothing over.
    #[must_use]
    pub fn hears_majority(&self, now: Now) -> bool {
        self.peers.hears_majority(now.mono)
    }

    /// The word of the API for this node's state.
    #[must_use]
    pub fn state_word(&self) -> &'static str {
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
            life,
        }
    }

    /// Every alive peer has applied what we have and has our digest. A node that does not hear its bus cannot say so.
    pub(super) fn is_converged(&self, now: Now) -> bool {
        match self.link.health() {
            BusHealth::None => true,
            BusHealth::Deaf | BusHealth::Down => false,
            BusHealth::Up => self.peers.alive(now.mono).filter_map(|(_, peer)| peer.beacon.as_ref()).all(|beacon| self.agrees(beacon)),
        }
    }

    fn agrees(&self, beacon: &Beacon) -> bool {
        let theirs: BTreeMap<&Life, Seq> = beacon.applied.iter().map(|at| (&at.life, at.seq)).collect();
        let has = |life: &Life, seq: Seq| seq == 0 || theirs.get(life).is_some_and(|theirs| *theirs >= seq);
        beacon.digest == self.store.live().total()
            && beacon.overrides_digest == self.shared.digest()
            && self.applied.iter().all(|(life, progress)| has(life, progress.seq))
    }
}

/// A node that is ready, and lets none of its late leases go, says so instead.
pub(super) fn state_word(state: NodeState, preserving: bool) -> &'static str {
    match state {
        NodeState::Ready if preserving => "preserving",
        NodeState::Ready | NodeState::Warming | NodeState::Leaving => state.as_str(),
    }
}
