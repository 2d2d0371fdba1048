//! `dev`: a whole cluster in one process, over an in-memory bus.

use std::net::SocketAddr;
use std::path::Path;

use clap::Args;

use super::failure::{Code, Failure};
use super::options::Common;
use super::output;
use super::serve::{bound_connections, data_shown, log_to_stderr, open_doors, run_until_asked};
use super::signal::Asked;
use super::start::{Bus, Running, bind, start};
use crate::bus::memory::Hub;
use crate::config::{BusConfig, Config, Inputs, Loaded, Origin};
use crate::model::NodeName;

/// What `dev` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
The nodes are called n1, n2, … and are as real as those of `serve`: only the bus between them is in memory. Ctrl-C ends them all.

Examples:
  muster dev
  muster dev --nodes 3 --listen 127.0.0.1:7000
  muster dev --set leases.ttl=5s --set log.filter=debug")]
pub(super) struct Arguments {
    /// How many nodes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    #[command(flatten)]
    common: Common,
}

/// What differs from `serve` where nobody says anything.
const DEFAULTS: [(&str, &str); 3] = [("cluster.bootstrap_wait", "200ms"), ("cluster.expect_empty", "true"), ("log.filter", "warn")];

/// What `dev` decides by itself.
const DECIDED: [&str; 8] = [
    "node.name",
    "bus.url",
    "bus.credentials_file",
    "bus.nkey_file",
    "bus.tls.ca_file",
    "bus.tls.cert_file",
    "bus.tls.key_file",
    "http.advertise",
];

pub(super) async fn run(arguments: Arguments) -> Result<Code, Failure> {
    let mut asked = Asked::listen()?;
    let mut config = load(&arguments.common)?;
    log_to_stderr(&config)?;
    bound_connections(&mut config, arguments.nodes.into());
    let addresses = (0..arguments.nodes).map(|step| address(config.http.listen, step)).collect::<Result<Vec<_>, _>>()?;
    // All addresses before any node: a port that is taken is said before anything runs.
    let bound = addresses.into_iter().map(bind).collect::<Result<Vec<_>, _>>()?;
    let hub = Hub::new(config.cluster.name.clone());
    let mut nodes = Vec::new();
    for (number, bound) in (1..).zip(bound) {
        let mut config = config.clone();
        config.node.name = NodeName::parse(&format!("n{number}")).expect("unreachable: a letter and digits are a label");
        // Each node has a folder of its own in the one that was named.
        config.node.data_dir = config.node.data_dir.map(|folder| folder.join(config.node.name.as_str()));
        nodes.push(start(config, bound, Bus::Memory(&hub)).await?);
    }
    output::say(&banner(&nodes));
    run_until_asked(&nodes, &mut asked).await
}

/// The configuration that all nodes share. A node's own keys are not `dev`'s to take: said on the command line they are refused,
/// in the environment they were meant for another node.
fn load(common: &Common) -> Result<Config, Failure> {
    let mut inputs = Inputs { defaults: DEFAULTS.to_vec(), ..common.to_inputs() };
    inputs.environment.retain(|(name, _)| !["MUSTER_CONFIG", "MUSTER_NAME", "MUSTER_NATS"].contains(&name.as_str()));
    let loaded = Loaded::from_inputs(&inputs)?;
    if let Some(key) = DECIDED.iter().find(|key| matches!(loaded.origin(key), Origin::Flag(_))) {
        return Err(Failure::usage(format!("`dev` decides {key} by itself")).hint("`muster serve`, which takes it"));
    }
    let mut config = loaded.config;
    config.bus = BusConfig::default();
    config.http.advertise = None;
    Ok(config)
}

/// The first node's address; the others count up, but from port 0 each takes a free one.
fn address(first: SocketAddr, step: u16) -> Result<SocketAddr, Failure> {
    if first.port() == 0 {
        return Ok(first);
    }
    let port = first.port().checked_add(step).ok_or_else(|| Failure::usage(format!("there are no {step} ports above {first}")))?;
    Ok(SocketAddr::new(first.ip(), port))
}

fn banner(nodes: &[Running]) -> String {
    let Some((first, last)) = nodes.first().zip(nodes.last()) else { return String::new() };
    let count = if nodes.len() == 1 { "1 node".to_owned() } else { format!("{} nodes", nodes.len()) };
    let version = env!("CARGO_PKG_VERSION");
    let mut lines = vec![format!("muster {version} · {count} of cluster {} in one process", first.config.cluster.name)];
    lines.extend(nodes.iter().map(|node| format!("  {} listening on {}", node.config.node.name, node.url())));
    lines.push("  bus: in memory".to_owned());
    let folder = first.config.node.data_dir.as_deref().and_then(Path::parent);
    lines.push(format!("  data: {}", data_shown(folder)));
    lines.extend(open_doors(first).into_iter().map(|door| format!("  not secured: {door}")));
    lines.push(String::new());
    lines.push("Register at one node, watch at another; Ctrl-C here ends it:".to_owned());
    lines.push(format!("  muster watch user -s {}", last.url()));
    lines.push(format!("  muster register --service user --port 8080 -s {}", first.url()));
    lines.push(format!("  curl -N '{}/v1/watch?service=user'", last.url()));
    let body = r#"'{"address":"127.0.0.1","port":8080}'"#;
    lines.push(format!("  curl -X PUT {}/v1/services/user/instances/user-1 -d {body}", first.url()));
    lines.join("\n")
}
