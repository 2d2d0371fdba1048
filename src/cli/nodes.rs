//! `nodes`: the cluster as one of its nodes sees it, and a verdict that a script can read from the exit code.

use clap::Args;

use super::failure::{Code, Failure};
use super::options::{Reach, Shape};
use super::output::{self, Format, Table, ago};
use crate::api::operate::{Cluster, Node};

/// Nodes that are merely busy have not agreed for a moment: no need to say for how long.
const DIVERGED_TOLD_MS: u64 = 3000;

/// What `nodes` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 4: the nodes have not converged, one of them is not ready, or the node that answers does not hear its bus.
A node is `preserving` while it keeps instances listed that are silent, for too many are silent with them or a service's last is in doubt; one that died stays listed as `dead` for a day.

Examples:
  muster nodes
  muster nodes -s http://node-2:6878 -o wide
  until muster nodes >/dev/null; do sleep 1; done")]
pub(super) struct Arguments {
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    shape: Shape,
}

pub(super) async fn run(arguments: Arguments) -> Result<Code, Failure> {
    let answer = arguments.reach.client()?.cluster().await?;
    let cluster = &answer.value;
    let complaints = complaints(cluster);
    match arguments.shape.output {
        Format::Table => table(cluster, false)?,
        Format::Wide => table(cluster, true)?,
        Format::Json => output::body(&answer.body)?,
        Format::Ndjson => output::lines_of(&answer.body, "nodes")?,
        Format::Name => cluster.nodes.iter().try_for_each(|node| output::line(&node.name))?,
    }
    if matches!(arguments.shape.output, Format::Table | Format::Wide) {
        output::line(&verdict(cluster, &complaints))?;
    }
    Ok(if complaints.is_empty() { Code::Ok } else { Code::NotConverged })
}

fn table(cluster: &Cluster, wide: bool) -> Result<(), Failure> {
    let mut header = vec!["NODE", "STATE", "HEARD", "LAG", "INSTANCES", "HTTP"];
    if wide {
        header.extend(["SEQ", "EPOCH", "DIGEST", "VIEW"]);
    }
    let mut table = Table::new(&header);
    for node in &cluster.nodes {
        let heard = if node.name == cluster.node { "-".to_owned() } else { format!("{} ago", ago(node.heard_ms)) };
        let mut cells = vec![node.name.clone(), node.state.clone(), heard, node.lag.to_string(), node.instances.to_string()];
        cells.push(node.http.clone());
        if wide {
            cells.extend([node.seq.to_string(), node.epoch.clone(), node.digest.to_string(), node.view_digest.to_string()]);
        }
        table.row(cells);
    }
    Ok(table.print()?)
}

/// What is wrong, one sentence each.
fn complaints(cluster: &Cluster) -> Vec<String> {
    let mut complaints = Vec::new();
    if matches!(cluster.bus.as_str(), "deaf" | "down") {
        complaints.push(format!("the bus is {} at {}", cluster.bus, cluster.node));
    }
    let unwell = cluster.nodes.iter().filter(|node| node.state != "ready");
    complaints.extend(unwell.map(|node| format!("{} is {}", node.name, node.state)));
    let behind = cluster.nodes.iter().filter(|node| node.lag > 0);
    complaints.extend(behind.map(|node| format!("{} lacks {} changes of {}", cluster.node, node.lag, node.name)));
    if !cluster.converged {
        complaints.extend(differing(cluster));
        let since = cluster.diverged_ms.filter(|ms| *ms >= DIVERGED_TOLD_MS);
        complaints.extend(since.map(|ms| format!("diverged for {}", ago(ms))));
    }
    complaints
}

/// Who differs from the node that answers; where nobody does, somebody has not said yet that it applied everything.
fn differing(cluster: &Cluster) -> Vec<String> {
    let Some(own) = cluster.nodes.first() else { return vec!["it knows no node".to_owned()] };
    let differs = |node: &&Node| node.digest != own.digest && !matches!(node.state.as_str(), "suspect" | "dead");
    let who: Vec<_> = cluster.nodes.iter().skip(1).filter(differs).map(|node| format!("{} holds other records", node.name)).collect();
    if who.is_empty() { vec!["not converged yet".to_owned()] } else { who }
}

fn verdict(cluster: &Cluster, complaints: &[String]) -> String {
    let held =
        format!("{} of {}, as seen by {}", counted(cluster.instances, "instance"), counted(cluster.services, "service"), cluster.node);
    match complaints {
        [] if cluster.nodes.len() == 1 => format!("\ncluster {}: one node, well; {held}", cluster.cluster),
        [] => format!("\ncluster {}: converged; {held}", cluster.cluster),
        some => format!("\ncluster {}: {}; {held}", cluster.cluster, some.join(", ")),
    }
}

pub(super) fn counted(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}
