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
    /// That node's state: `warming`, `ready` or `leaving`.
    pub state: String,
    /// `none`, `up`, `deaf` (connected, but what it says does not come back) or `down`.
    pub bus: String,
    /// Every alive peer has applied what this node has, and has its digest.
    pub converged: bool,
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

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Node {
    /// Its name.
    pub name: String,
    /// `warming`, `ready` or `leaving`; of a peer also `suspect` or `dead`.
    pub state: String,
    /// Which life of it: 16 hex digits.
    pub epoch: String,
    /// Where its HTTP is reached, `host:port`.
    pub http: String,
    /// Since it was heard last.
    pub heard_ms: u64,
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
