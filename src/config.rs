//! Configuration: flags over environment over one file over defaults, into values that are valid.
//!
//! `Raw` is what was given, and where; [`Config`] is what holds. One table, `key::KEYS`, says for every key how it is named, read,
//! shown and explained. Every fault is found before anything is started, and all of them are told at once.

mod fault;
mod file;
mod given;
mod key;
mod pem;
mod raw;
mod reference;
mod rule;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

pub use fault::{Fault, Faults};
pub use given::masked;
pub use key::Setting;
pub use pem::{IdentityFiles, IdentityPem};
pub use raw::{Flag, Inputs, Origin};

use crate::cidr::Cidr;
use crate::model::{Cluster, NodeName, Region, Ttl, Zone};
use crate::registry::Limits;

/// The port muster listens on where nobody says otherwise: MUST on a telephone's keys.
pub const PORT_DEFAULT: u16 = 6878;

/// A configuration that holds, and where each of its values came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What holds.
    pub config: Config,
    origins: raw::Origins,
}

impl Loaded {
    /// Takes everything that was given together.
    ///
    /// # Errors
    /// Every fault of every source, at once; nothing was started.
    pub fn from_inputs(inputs: &Inputs) -> Result<Self, Faults> {
        let (raw, mut faults) = raw::Raw::gather(inputs);
        let (config, mut broken) = rule::to_config(&raw);
        faults.append(&mut broken);
        if faults.is_empty() { Ok(Self { config, origins: raw.into_origins() }) } else { Err(Faults::new(faults)) }
    }

    /// Every key with its effective value and where that came from; secrets are masked.
    #[must_use]
    pub fn settings(&self) -> Vec<Setting> {
        key::KEYS.iter().map(|key| key.to_setting(&self.config, self.origin(key.path))).collect()
    }

    /// Where a key's value came from.
    #[must_use]
    pub fn origin(&self, path: &str) -> Origin {
        self.origins.get(path).cloned().unwrap_or(Origin::Default)
    }
}

/// A file with every key, its default and what it means, all commented out.
#[must_use]
pub fn reference() -> String {
    reference::reference()
}

/// The content of a file that the configuration names; read here, because nothing else reads files.
///
/// # Errors
/// What the system says.
pub fn read_secret(file: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(file)
}

/// Everything a node is told, valid.
#[derive(Debug, Clone, Default)]
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
    /// `[probes]`
    pub probes: ProbesConfig,
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
    /// How long a node that starts without knowledge waits until every provider had its turn; `None`: the default ttl and its grace.
    pub settle_ms: Option<u64>,
    /// Nothing was registered before: the node does not settle. Default false.
    pub expect_empty: bool,
    /// After this long a silent node whose address refuses everybody counts no more.
    pub dead_after_ms: u64,
    /// A URL that a node which is not cut off reaches; asked where there are two nodes, of which neither is a majority.
    pub witness: Option<String>,
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
    /// `[bus.tls]`
    pub tls: BusTlsConfig,
}

/// How the bus's servers and this node prove who they are.
#[derive(Debug, Clone, Default)]
pub struct BusTlsConfig {
    /// The authorities that sign servers' certificates; default: the system's.
    pub ca_file: Option<PathBuf>,
    /// What this node shows the servers.
    pub identity: IdentityFiles,
}

impl BusTlsConfig {
    /// Somebody gave files for it: then a connection without TLS is none.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.ca_file.is_some() || self.identity.pair().is_some()
    }
}

/// The HTTP door.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Default `127.0.0.1:6878`.
    pub listen: SocketAddr,
    /// `host:port` under which others reach it; default: as listened on, or the host name where that is every address.
    pub advertise: Option<String>,
    /// Origins that may write besides this node's own.
    pub cors_origins: Vec<String>,
    /// `[http.tls]`: given, and this node speaks HTTPS alone.
    pub tls: IdentityFiles,
    /// Of one request. Default 1 MiB.
    pub body_bytes_max: usize,
    /// Of a batch. Default 8 MiB.
    pub batch_body_bytes_max: usize,
    /// What bodies that are on their way may take, all together. Default 128 MiB.
    pub bodies_bytes_max: usize,
    /// Open connections. Default 100,000.
    pub connections_max: usize,
    /// Of these, from one address; absent: half.
    pub connections_per_address: Option<usize>,
    /// For the head of a request to arrive. Default 10 s.
    pub header_timeout_ms: u64,
    /// For the body of a request to arrive. Default 30 s.
    pub body_timeout_ms: u64,
    /// For the next request on a connection. Default 60 s.
    pub idle_timeout_ms: u64,
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
    /// How long an instance that is down stays listed whose connection had held its lease. Default 5 s.
    pub detach_grace_ms: u64,
    /// Connections that hold leases. Default 50,000.
    pub attachments_max: usize,
    /// How long a record withdrawn by silence can be brought back by a heartbeat. Default 1 h.
    pub revive_for_ms: u64,
    /// More than so many of a hundred silent at once, and none of them is taken away.
    pub preserve_percent: u64,
    /// For how long that may last.
    pub preserve_max_ms: u64,
}

/// Looking at instances.
#[derive(Debug, Clone)]
pub struct ProbesConfig {
    /// Only addresses of these are probed; empty: all that are not denied.
    pub allow: Vec<Cidr>,
    /// Addresses of these are never probed.
    pub deny: Vec<Cidr>,
    /// Probes a second. Default 1,000.
    pub per_second: u32,
    /// Probes at once. Default 256.
    pub in_flight: u32,
    /// Probes a second to one IP address. Default 100.
    pub per_target: u32,
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

impl Config {
    /// How long a node that starts without knowledge waits until every provider had its turn.
    #[must_use]
    pub fn settle_ms(&self) -> u64 {
        let turn_ms = || Ttl::from_ms(self.leases.ttl_ms).map_or(20_000, |ttl| ttl.ms() + ttl.grace_ms());
        self.cluster.settle_ms.unwrap_or_else(turn_ms)
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        let name = given::host_name().unwrap_or_else(|| NodeName::parse("node").expect("unreachable: the literal is a label"));
        Self { name, data_dir: None, region: None, zone: None, leave_timeout_ms: 20_000 }
    }
}

impl Default for ClusterConfig {
    fn default() -> Self {
        let name = Cluster::parse("muster").expect("unreachable: the literal is a label");
        Self { name, bootstrap_wait_ms: 2000, settle_ms: None, expect_empty: false, dead_after_ms: 600_000, witness: None }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT_DEFAULT)),
            advertise: None,
            cors_origins: Vec::new(),
            tls: IdentityFiles::default(),
            body_bytes_max: 1 << 20,
            batch_body_bytes_max: 8 << 20,
            bodies_bytes_max: 128 << 20,
            connections_max: 100_000,
            connections_per_address: None,
            header_timeout_ms: 10_000,
            body_timeout_ms: 30_000,
            idle_timeout_ms: 60_000,
        }
    }
}

impl Default for LeasesConfig {
    fn default() -> Self {
        Self {
            ttl_ms: 15_000,
            ttl_min_ms: 1000,
            ttl_max_ms: 3_600_000,
            evict_after_ms: 60_000,
            detach_grace_ms: 5000,
            attachments_max: 50_000,
            revive_for_ms: 3_600_000,
            preserve_percent: 15,
            preserve_max_ms: 3_600_000,
        }
    }
}

impl Default for ProbesConfig {
    fn default() -> Self {
        Self { allow: Vec::new(), deny: Vec::new(), per_second: 1000, in_flight: 256, per_target: 100 }
    }
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self { coalesce_ms: 50, burst: 20, views_kept: 64, streams_max: 50_000 }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info".to_owned(), json: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: Option<&str>, environment: &[(&str, &str)], sets: &[&str]) -> Result<Loaded, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("muster.toml");
        std::fs::write(&path, file.unwrap_or_default()).unwrap();
        let inputs = Inputs {
            file: file.map(|_| path),
            sets: sets.iter().map(|&set| set.to_owned()).collect(),
            environment: environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
            ..Inputs::default()
        };
        let shown = folder.path().display().to_string() + "/";
        Loaded::from_inputs(&inputs).map_err(|faults| faults.to_string().replace(&shown, ""))
    }

    #[test]
    fn the_stronger_source_holds() {
        let file = "[leases]\nttl = '20s'\nttl_min = 2000\nttl_max = \"30m\"";
        let environment = [("MUSTER_LEASES_TTL_MIN", "3s"), ("MUSTER_LEASES_TTL_MAX", "40m"), ("MUSTER_NAME", "")];
        let loaded = load(Some(file), &environment, &["leases.ttl_max=50m", "leases.ttl_max=55m"]).unwrap();
        let LeasesConfig { ttl_ms, ttl_min_ms, ttl_max_ms, .. } = loaded.config.leases;
        assert_eq!((ttl_ms, ttl_min_ms, ttl_max_ms), (20_000, 3000, 55 * 60_000));
        assert!(matches!(loaded.origin("leases.ttl"), Origin::File { line: 2, .. }));
        assert_eq!(loaded.origin("leases.ttl_min"), Origin::Environment("MUSTER_LEASES_TTL_MIN".to_owned()));
        assert_eq!(loaded.origin("leases.ttl_max"), Origin::Flag("--set"));
        assert_eq!(loaded.origin("leases.evict_after"), Origin::Default);
    }

    #[test]
    fn every_fault_is_told_with_its_source() {
        let file = "[http]\nlisten = 'here'\nprot = 1\n\n[leases]\nttl = 1.5\n[htpp]\nlisten = '1.2.3.4:5'";
        let environment =
            [("MUSTER_NAME", "No Name"), ("MUSTER_LEASES_TLL", "1s"), ("MUSTER_NODE_PORT", "tcp://10.0.0.1:80"), ("MUSTER_X", "1")];
        let faults = load(Some(file), &environment, &["watch.bursts=3", "nonsense", "limits.services=0"]).unwrap_err();
        insta::assert_snapshot!(faults, @r#"
        the configuration has 9 faults; nothing was started
          leases.ttl (muster.toml:6): must be text, a whole number or a list of texts, not a TOML float
          http.prot (muster.toml:3): unknown key; [http] has listen, advertise, cors_origins, tls.cert_file, tls.key_file, body_bytes_max, batch_body_bytes_max, bodies_bytes_max, connections_max, connections_per_address, header_timeout, body_timeout, idle_timeout
          htpp.listen (muster.toml:8): unknown key; did you mean `http.listen`?
          MUSTER_LEASES_TLL: unknown variable; did you mean `MUSTER_LEASES_TTL`?
          watch.bursts (--set): unknown key; did you mean `watch.burst`?
          nonsense (--set): must be section.key=value
          node.name = "No Name" (MUSTER_NAME): a node name must be 1 to 63 of a-z, 0-9, `_` and `-`, beginning and ending with a letter or digit
          http.listen = "here" (muster.toml:2): must be an IP address and a port, like 127.0.0.1:6878 or [::]:6878
          limits.services = "0" (--set): must be 1 to 10000000
        "#);
    }

    #[test]
    fn rules_between_values_name_all_of_them() {
        let faults = load(Some("[leases]\nttl_max = '5s'"), &[], &["http.body_bytes_max=9MiB"]).unwrap_err();
        insta::assert_snapshot!(faults, @r#"
        the configuration has 2 faults; nothing was started
          leases.ttl = "15s" (default), leases.ttl_max = "5s" (muster.toml:2): leases.ttl must be at most leases.ttl_max
          http.batch_body_bytes_max = "8MiB" (default), http.body_bytes_max = "9MiB" (--set): http.batch_body_bytes_max must be at least http.body_bytes_max
        "#);
    }

    #[test]
    fn a_file_that_is_no_toml_is_told_by_line() {
        let faults = load(Some("[leases]\nttl = \n[http\nlisten = 'x'"), &[], &[]).unwrap_err();
        insta::assert_snapshot!(faults, @r#"
        the configuration has 2 faults; nothing was started
          muster.toml:2: string values must be quoted, expected literal string
          muster.toml:3: unclosed table, expected `]`
        "#);
    }

    #[test]
    fn a_password_is_never_shown() {
        let loaded = load(None, &[("MUSTER_NATS", "nats://me:hunter2@one:4222,nats://two")], &[]).unwrap();
        let shown = format!("{:?}", loaded.settings());
        assert!(shown.contains("nats://me:***@one:4222,nats://two") && !shown.contains("hunter2"), "{shown}");
        let faults = load(None, &[("MUSTER_NATS", "nats://me:hunter2@one:port")], &[]).unwrap_err();
        assert!(!faults.contains("hunter2"), "{faults}");
    }

    #[test]
    fn the_reference_is_a_file_that_changes_nothing() {
        let text = reference();
        let known = text.lines().filter(|line| !line.contains('…'));
        let is_setting = |line: &str| line.contains(" = ") && !line.ends_with(')');
        let uncommented = known.map(|line| line.strip_prefix("# ").filter(|rest| is_setting(rest)).unwrap_or(line));
        let text = uncommented.collect::<Vec<_>>().join("\n");
        assert!(text.lines().any(|line| line == "ttl = \"15s\""), "{text}");
        let loaded = load(Some(&text), &[], &[]).unwrap();
        let values = |loaded: &Loaded| loaded.settings().into_iter().map(|setting| (setting.key, setting.value)).collect::<Vec<_>>();
        assert_eq!(values(&loaded), values(&load(None, &[], &[]).unwrap()));
    }

    #[test]
    fn a_node_settles_for_the_default_ttl_and_its_grace() {
        assert_eq!(load(None, &[], &[]).unwrap().config.settle_ms(), 20_000);
        let loaded = load(Some("[leases]\nttl = \"30s\"\n[cluster]\nexpect_empty = true\n"), &[], &[]).unwrap();
        assert_eq!((loaded.config.settle_ms(), loaded.config.cluster.expect_empty), (40_000, true));
        assert_eq!(load(Some("[cluster]\nsettle = \"5s\"\n"), &[], &[]).unwrap().config.settle_ms(), 5000);
    }
}
