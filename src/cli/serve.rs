//! `serve`: one node, from its configuration to its end.

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;

use super::failure::{Code, Failure};
use super::options::Configuration;
use super::output;
use super::reload::{self, Reload};
use super::signal::{Asked, Asks};
use super::start::{Bus, Running, Stopped, bind, start};
use crate::bus::nats;
use crate::config::{Config, Loaded};
use crate::log;
use crate::model::NodeName;
use crate::open_files;
use crate::registry::Untaken;

/// What `serve` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Flags hold over the environment, that over the file, that over the defaults; `muster check` shows what would hold.
SIGTERM and SIGINT (Ctrl-C) leave gracefully; a second one stops at once. SIGHUP reads the certificate and log.filter again, and nothing else.

Examples:
  muster serve
  muster serve --name n1 --nats nats://127.0.0.1:4222
  muster serve -c muster.toml --set leases.ttl=30s")]
pub(super) struct Arguments {
    #[command(flatten)]
    configuration: Configuration,
}

pub(super) async fn run(arguments: Arguments) -> Result<Code, Failure> {
    let mut asked = Asked::listen_to_reload()?;
    let read = move || Ok(Loaded::from_inputs(&arguments.configuration.to_inputs())?);
    let loaded: Loaded = read()?;
    let mut config = loaded.config.clone();
    log_to_stderr(&config)?;
    bound_connections(&mut config, 1);
    let bound = bind(config.http.listen)?;
    let bus = if config.bus.url.is_empty() { Bus::None } else { Bus::Nats };
    let running = start(config, bound, bus).await?;
    let hears_bus = running.hears_bus().await;
    let name_is_taken = hears_bus && running.name_is_taken().await;
    output::say(&banner(&running, hears_bus, name_is_taken));
    let reload = Reload::new(Box::new(read), &loaded, running.certificate.clone().into_iter().collect());
    run_until_asked(&[running], &mut asked, &reload).await
}

/// Turns on the log, as configured, on stderr.
pub(super) fn log_to_stderr(config: &Config) -> Result<(), Failure> {
    let coloured = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let style = log::Style { json: config.log.json, coloured };
    log::start(&directives(config), style).map_err(|error| Failure::new(Code::Configuration, format!("log.filter: {error}")))
}

/// What the configuration says of the NATS client holds over what comes first.
pub(super) fn directives(config: &Config) -> String {
    format!("{},{},{}", nats::LOG_FILTER, reload::LOG_FILTER, config.log.filter)
}

/// Each connection is an open file: what connections take of them is bounded, so that probes, bus and disk have theirs.
pub(super) fn bound_connections(config: &mut Config, nodes: usize) {
    let Some(files) = open_files::raise() else { return };
    let (asked, most) = (config.http.connections_max, open_files::connections(files, nodes, config.probes.in_flight as usize));
    if most < asked {
        config.http.connections_max = most;
        tracing::warn!(
            files,
            connections = most,
            asked,
            "fewer connections are taken than http.connections_max: the system's limit of open files (ulimit -n) is too low"
        );
    }
}

/// Waits for a signal that asks for the end, then lets the nodes leave; a second signal ends the waiting. A node that was asked over HTTP to leave does so
/// alone, and the last one ends the program. One that ends by itself has failed.
pub(super) async fn run_until_asked(nodes: &[Running], asked: &mut Asked, reload: &Arc<Reload>) -> Result<Code, Failure> {
    let mut lives: FuturesUnordered<_> = nodes.iter().map(live).collect();
    let (mut all_ended, mut left) = (true, Vec::new());
    let failure = loop {
        tokio::select! {
            asks = asked.next() => match asks {
                Asks::End => break None,
                Asks::Reload => reload.begin(),
            },
            life = lives.next() => match life {
                Some(Life::Failed(name)) => {
                    break Some(Failure::new(Code::Failed, format!("a task of node {name} failed: the log says which")));
                }
                Some(Life::Left { name, stopped }) => {
                    all_ended &= stopped.in_time;
                    left.push(name);
                    if let Some(untaken) = stopped.untaken {
                        break Some(gave_way(name, &untaken));
                    }
                }
                None => break None,
            },
        }
    };
    // One that is leaving is none the worse for being stopped again.
    let all = join_all(nodes.iter().filter(|node| !left.contains(&&node.config.node.name)).map(Running::stop));
    let ended = tokio::select! {
        ended = all => ended,
        () = asked.end() => return Err(Failure::new(Code::Failed, "stopped at once; what was under way is lost")),
    };
    all_ended &= ended.iter().all(|stopped| stopped.in_time);
    match failure {
        Some(failure) => Err(failure),
        None if !all_ended => Err(Failure::new(Code::Failed, "not all had ended within node.leave_timeout; stopped all the same")),
        None => Ok(Code::Ok),
    }
}

/// How a node's life ended before the program was asked to end.
enum Life<'a> {
    /// One of its tasks failed.
    Failed(&'a NodeName),
    /// It was asked to leave, or gave way to another node of its name.
    Left { name: &'a NodeName, stopped: Stopped },
}

async fn live(node: &Running) -> Life<'_> {
    tokio::select! {
        () = node.shutdown.asked() => Life::Left { name: &node.config.node.name, stopped: node.stop().await },
        () = node.gives_way() => Life::Left { name: &node.config.node.name, stopped: node.stop().await },
        () = node.shutdown.begun() => Life::Failed(&node.config.node.name),
    }
}

/// That a node ended because another one has its name, and what of its writes no other node holds.
fn gave_way(name: &NodeName, untaken: &Untaken) -> Failure {
    let Untaken { count, keys } = untaken;
    let held = match (*count, keys.len()) {
        (0, _) => "other nodes hold all that it had taken".to_owned(),
        (count, named) => {
            let more = if count > named { format!(" and {} more", count - named) } else { String::new() };
            format!("no other node took over what it had taken of {}{more}: those are to be registered or set again", keys.join(", "))
        }
    };
    Failure::new(Code::NameTaken, format!("another node runs under the name {name}, so this one ended; {held}"))
        .hint("a name of its own for each node, with --name")
}

/// What was started, where it is reached, and what is open to whoever comes.
fn banner(running: &Running, hears_bus: bool, name_is_taken: bool) -> String {
    let Config { node, cluster, bus, .. } = &*running.config;
    let mut lines = vec![
        format!("muster {} · node {} of cluster {}", env!("CARGO_PKG_VERSION"), node.name, cluster.name),
        format!("  listening on {}", running.url()),
    ];
    if let Some(advertise) = &running.config.http.advertise {
        lines.push(format!("  advertised as {advertise}"));
    }
    lines
        .push(format!("  bus: {}", if bus.url.is_empty() { "none, this node is alone".to_owned() } else { bus_shown(running, hears_bus) }));
    if name_is_taken {
        let name = &node.name;
        lines.push(format!(
            "  name: another node runs under the name {name}: until that one is gone this one takes no writes, and /readyz answers 503 (a name of its own: --name)"
        ));
    }
    lines.push(format!("  data: {}", data_shown(node.data_dir.as_deref())));
    lines.extend(settling_shown(running, hears_bus).map(|settling| format!("  {settling}")));
    lines.extend(open_doors(running).into_iter().map(|door| format!("  not secured: {door}")));
    lines.join("\n")
}

fn bus_shown(running: &Running, hears_bus: bool) -> String {
    let servers: Vec<_> = running.config.bus.url.iter().map(|url| crate::config::masked(url)).collect();
    let how =
        if hears_bus { "" } else { " · not reached yet: until it is, /readyz answers 503, and what is not known here is no empty list" };
    format!("{}{how}", servers.join(", "))
}

/// Until when a node that starts without knowledge does not say that there is nothing; `None`: it knows what was registered.
fn settling_shown(running: &Running, hears_bus: bool) -> Option<String> {
    let config = &running.config;
    if running.condition().knowledge.is_enough() || running.knew_enough || config.cluster.expect_empty {
        return None;
    }
    let settle_ms = config.settle_ms();
    let span = crate::units::show_ms(settle_ms);
    let until = if hears_bus {
        let join_ms = if config.bus.url.is_empty() { 0 } else { config.cluster.bootstrap_wait_ms };
        format!("until {}", running.in_ms(join_ms + settle_ms))
    } else {
        format!("for {span} once its bus is reached")
    };
    let disk = match &config.node.data_dir {
        Some(_) => "from its file it will know at once the next time",
        None => "ttls longer than that, and fixed addresses, survive a start of all nodes only with a data_dir",
    };
    Some(format!(
        "settles: {until}, unless a node that knows all is heard: this one started without knowledge, and each provider has its turn (--expect-empty: nothing was there); {disk}"
    ))
}

/// What of it outlives the process.
pub(super) fn data_shown(folder: Option<&Path>) -> String {
    match folder {
        None => "in memory only, nothing on disk".to_owned(),
        Some(folder) => format!("in memory, and saved in {} to start from", folder.display()),
    }
}

/// What anybody may do who gets here.
pub(super) fn open_doors(running: &Running) -> Vec<String> {
    let reach = if running.address.ip().is_loopback() { "any program on this machine" } else { "anyone who reaches this address" };
    let how = if running.is_secure() { "without a password" } else { "over plain HTTP, without a password" };
    let mut doors = vec![format!("{reach} can read and write {how}")];
    let bus = &running.config.bus;
    let has_identity = bus.credentials_file.is_some()
        || bus.nkey_file.is_some()
        || bus.tls.identity.pair().is_some()
        || bus.url.iter().any(|url| url.contains('@'));
    if !bus.url.is_empty() && !has_identity {
        doors.push("the bus is used without credentials".to_owned());
    }
    if !bus.tls.is_given() && bus.url.iter().any(|url| !url.starts_with("tls://")) {
        doors.push("the bus is used without TLS".to_owned());
    }
    doors
}
