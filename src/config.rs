//! Configuration: flags over environment over one file over defaults, into values that are valid.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::model::{Cluster, NodeName, Region, Zone};
use crate::registry::Limits;

/// Everything a node is told, valid.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[node]`
    pub node: NodeConfig,
    /// `[cluster]`
    pub cluster: ClusterConfig,
    /// `[bus]`
    pub bus: BusConfig,
    /// `[http]`
    pub http: HttpConfig,
    /// `[leases]`
    pub leases: LeasesConfig,
    /// `[watch]`
    pub watch: WatchConfig,
    /// `[limits]`
    pub limits: Limits,
    /// `[log]`
    pub log: LogConfig,
}

/// This node.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Default: the host name's first label.
    pub name: NodeName,
    /// Absent: nothing on disk.
    pub data_dir: Option<PathBuf>,
    /// Its place.
    pub region: Option<Region>,
    /// Its place within the region.
    pub zone: Option<Zone>,
    /// How long a graceful stop may take. Default 20 s.
    pub leave_timeout_ms: u64,
}

/// The set of nodes.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// Default `muster`.
    pub name: Cluster,
    /// How long a joining node that hears no ready peer waits for one. Default 2 s.
    pub bootstrap_wait_ms: u64,
}

/// What carries messages between nodes.
#[derive(Debug, Clone, Default)]
pub struct BusConfig {
    /// NATS servers; empty: this node is alone.
    pub url: Vec<String>,
    /// A NATS credentials file.
    pub credentials_file: Option<PathBuf>,
    /// A file with an nkey seed.
    pub nkey_file: Option<PathBuf>,
}

/// The HTTP door.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Default `127.0.0.1:6878`.
    pub listen: SocketAddr,
    /// `host:port` under which others reach it; default: as listened on.
    pub advertise: Option<String>,
    /// Origins that may write besides this node's own.
    pub cors_origins: Vec<String>,
    /// Of one request. Default 1 MiB.
    pub body_bytes_max: usize,
    /// Of a batch. Default 8 MiB.
    pub batch_body_bytes_max: usize,
    /// Open connections. Default 100,000.
    pub connections_max: usize,
    /// For the head of a request to arrive. Default 10 s.
    pub header_timeout_ms: u64,
    /// For the body of a request to arrive. Default 30 s.
    pub body_timeout_ms: u64,
}

/// Leases.
#[derive(Debug, Clone)]
pub struct LeasesConfig {
    /// Of a registration that names none. Default 15 s.
    pub ttl_ms: u64,
    /// The shortest. Default 1 s.
    pub ttl_min_ms: u64,
    /// The longest. Default 1 h.
    pub ttl_max_ms: u64,
    /// How long an instance that is down stays listed. Default 60 s.
    pub evict_after_ms: u64,
    /// How long a record withdrawn by silence can be brought back by a heartbeat. Default 1 h.
    pub revive_for_ms: u64,
}

/// Subscriptions.
#[derive(Debug, Clone)]
pub struct WatchConfig {
    /// How often a step may leave once the burst is used up. Default 50 ms.
    pub coalesce_ms: u64,
    /// How many steps may leave at once. Default 20.
    pub burst: u32,
    /// Former views kept of a watched service, for subscribers that come back. Default 64.
    pub views_kept: usize,
    /// Open subscriptions. Default 50,000.
    pub streams_max: usize,
}

/// The log.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Like `info,muster=debug`.
    pub filter: String,
    /// One JSON object a line instead of words.
    pub json: bool,
}
