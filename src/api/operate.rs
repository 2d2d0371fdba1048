//! Operating: how a node and its cluster are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Hex;

/// What answers here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Version {
    /// Of the program.
    pub version: String,
    /// Of its source; `unknown` where the build did not say.
    pub commit: String,
    /// What this version can do, for clients that work with several.
    pub features: Vec<String>,
}

/// Where everything is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Index {
    /// `muster`.
    pub name: String,
    /// Of the program.
    pub version: String,
    /// The node that answers.
    pub node: String,
    /// Its cluster.
    pub cluster: String,
    /// Paths by what they are for.
    pub links: BTreeMap<String, String>,
}

/// How the cluster looks from the node that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Cluster {
    /// Its name.
    pub cluster: String,
    /// The node that answers.
    pub node: String,
    /// That node's state: `warming`, `ready`, `preserving` (ready, and it keeps instances listed by self-preservation) or `leaving`.
    pub state: String,
    /// `none`, `up`, `deaf` (connected, but what it says does not come back) or `down`.
    pub bus: String,
    /// No alive peer that has applied the same holds something else, none lags for longer than two beacons take, this node is named by its
    /// peers, and it judges who is silent. What is on its way is no divergence.
    pub converged: bool,
    /// All that could be known is known here; absent from a node of a former version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
    /// The limit at which this node does not take what its peers send, so that it is not complete; absent where it takes all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_limit: Option<ReachedLimit>,
    /// Whether this node judges who is silent; absent from a node of a former version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub majority: Option<Majority>,
    /// For how long that has not been so; absent when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diverged_ms: Option<u64>,
    /// The digest of all services' revisions.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub view_digest: Hex,
    /// Services with a visible instance.
    pub services: usize,
    /// Visible instances.
    pub instances: usize,
    /// Every node known; the one that answers is the first.
    pub nodes: Vec<Node>,
    /// Who has applied how much of whose log, as each says.
    pub applied: BTreeMap<String, BTreeMap<String, Applied>>,
}

/// A limit that what a node holds of its peers has reached, at twice its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ReachedLimit {
    /// As the configuration names it.
    pub limit: String,
    /// So many are held: twice what it says. One more is not taken.
    pub max: u64,
}

/// Whether a node judges who is silent: in a cluster of three or more it takes a majority of the members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Majority {
    /// How many nodes count, the one that answers among them.
    pub members: usize,
    /// How many of them it hears, itself among them.
    pub heard: usize,
    /// It does: leases expire, and what the dead owned is taken over.
    pub judges: bool,
    /// Why it does not; absent when it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Node {
    /// Its name.
    pub name: String,
    /// `warming`, `ready`, `preserving` or `leaving`; of a peer also `suspect` or `dead`.
    pub state: String,
    /// Which life of it: 16 hex digits.
    pub epoch: String,
    /// Where its HTTP is reached, `host:port`.
    pub http: String,
    /// Since it was heard last.
    pub heard_ms: u64,
    /// It started without knowledge: for how much longer it waits until every provider had its turn; absent when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settling_ms: Option<u64>,
    /// The last number of its log.
    pub seq: u64,
    /// How many of its changes the node that answers lacks.
    pub lag: u64,
    /// Of its live records.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub digest: Hex,
    /// Of its services' revisions.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub view_digest: Hex,
    /// Its live records.
    pub instances: u64,
}

/// How much of a node's log somebody has applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Applied {
    /// Which life of that node.
    pub epoch: String,
    /// Everything up to here.
    pub seq: u64,
    /// Since that node was heard there; absent: never, or long ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u32>,
}

/// In what another node's records differ from those of the node that answers, as both are just now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Diff {
    /// The node that answers: `here`.
    pub node: String,
    /// The node it was compared with: `there`.
    pub with: String,
    /// Nothing differs.
    pub equal: bool,
    /// The services in which they differ, in the order of namespace and name.
    pub services: Vec<ServiceDiff>,
    /// There may be more: a comparison tells at most 1,000 instances, and ends after 8 s.
    pub truncated: bool,
}

/// In what one service differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ServiceDiff {
    /// Where the service is looked up.
    pub namespace: String,
    /// Its name there.
    pub service: String,
    /// Its revision here. Where it is that of the other node too, consumers see no difference.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub revision: Hex,
    /// Its revision there; absent when `truncated`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub with_revision: Option<Hex>,
    /// The ids of instances that are listed here alone.
    pub only_here: Vec<String>,
    /// The ids of instances that are listed there alone.
    pub only_there: Vec<String>,
    /// What is not the same of instances that both list, in the order of their ids.
    pub differ: Vec<FieldDiff>,
}

/// One field of one instance that is not the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct FieldDiff {
    /// Which copy.
    pub id: String,
    /// A listed field, `ports.NAME`, `metadata.KEY`, a field of the registration or the lease, or a part of the version: `owner`,
    /// `owner_epoch`, `incarnation`, `edition`, `generation`, `cause`, `seq`.
    pub field: String,
    /// What it is here, as text; null: it is not said.
    pub here: Option<String>,
    /// What it is there, as text; null: it is not said.
    pub there: Option<String>,
    /// The node that holds its lease, as the node that answers believes.
    pub owner: String,
}

/// A node begins to leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Leaving {
    /// Which.
    pub node: String,
    /// `leaving`.
    pub state: String,
    /// It has stopped at the latest after this (`node.leave_timeout`).
    pub deadline_ms: u64,
}
