//! `nodes`: the cluster as one of its nodes sees it, and a verdict that a script can read from the exit code; and forgetting a node that
//! will not come back.

use clap::{Args, Subcommand};

use super::failure::{Code, Failure};
use super::options::{Reach, Shape};
use super::output::{self, Format, Table, ago};
use crate::api::operate::{Cluster, Node};
use crate::model::NodeName;

/// Nodes that are merely busy have not agreed for a moment: no need to say for how long.
const DIVERGED_TOLD_MS: u64 = 3000;

/// What `nodes` takes.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Exit code 4: the nodes have not converged, one of them is not ready, the node that answers does not hear its bus, or it judges nobody:
without a majority of the members nothing expires, and nothing is taken over. Also when it does not take what peers send past twice a limit.
A node that settles started without knowledge and waits until every provider had its turn; that is no fault.
A node is `preserving` while it keeps silent instances listed, for too many are silent or a service's last is in doubt; one that died stays listed as `dead` for a day.
One whose address refuses everybody counts no more after `cluster.dead_after`; one that does not answer at all, only once it is forgotten.

Examples:
  muster nodes
  muster nodes forget n7
  muster nodes -s http://node-2:6878 -o wide
  until muster nodes >/dev/null; do sleep 1; done"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    shape: Shape,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Count a node no more that will not come back
    Forget(Forget),
}

#[derive(Debug, Args)]
#[command(after_help = "\
One node is asked, and all others learn of it. Do not forget a node that is only cut off: it goes on at its side of the partition.
One that is heard again counts again.

Exit code 1: it is heard, and cannot be forgotten. 3: no node of this name is known.

Examples:
  muster nodes forget n7")]
struct Forget {
    /// The node's name
    name: NodeName,
    #[command(flatten)]
    reach: Reach,
}

pub(super) async fn run(arguments: Arguments) -> Result<Code, Failure> {
    if let Some(What::Forget(Forget { name, reach })) = arguments.what {
        reach.client()?.forget_node(&name).await?;
        output::line(&format!("{name} is forgotten: it counts no more when a majority is looked for"))?;
        return Ok(Code::Ok);
    }
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
        settling(cluster).iter().try_for_each(|line| output::line(line))?;
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

/// Who started without knowledge and waits: nothing is wrong with that.
fn settling(cluster: &Cluster) -> Option<String> {
    let settling = || cluster.nodes.iter().filter(|node| node.settling_ms.is_some());
    let longest = settling().filter_map(|node| node.settling_ms).max()?;
    let names: Vec<_> = settling().map(|node| node.name.as_str()).collect();
    let verb = if names.len() == 1 { "settles" } else { "settle" };
    Some(format!("{} {verb} for {} more: what is not known yet is not said to be empty", names.join(", "), ago(longest)))
}

/// What is wrong, one sentence each.
fn complaints(cluster: &Cluster) -> Vec<String> {
    let mut complaints = Vec::new();
    if matches!(cluster.bus.as_str(), "deaf" | "down") {
        complaints.push(format!("the bus is {} at {}", cluster.bus, cluster.node));
    }
    let unwell = cluster.nodes.iter().filter(|node| node.state != "ready");
    complaints.extend(unwell.map(|node| format!("{} is {}", node.name, node.state)));
    let silent = cluster.majority.as_ref().filter(|majority| !majority.judges && cluster.state == "ready");
    complaints.extend(silent.map(|majority| {
        let why = majority.why.as_deref().unwrap_or("it does not say why");
        format!("{} judges nobody, so nothing expires: {why}", cluster.node)
    }));
    complaints.extend(cluster.over_limit.as_ref().map(|reached| {
        let (node, limit, max) = (&cluster.node, &reached.limit, reached.max);
        format!(
            "{node} does not hold all that others hold: {limit} is reached at twice its value ({max}), and what is past that is not taken"
        )
    }));
    if !cluster.converged {
        let behind = cluster.nodes.iter().filter(|node| node.lag > 0);
        complaints.extend(behind.map(|node| format!("{} lacks {} changes of {}", cluster.node, node.lag, node.name)));
        complaints.extend(differing(cluster));
        let since = cluster.diverged_ms.filter(|ms| *ms >= DIVERGED_TOLD_MS);
        complaints.extend(since.map(|ms| format!("diverged for {}", ago(ms))));
    }
    complaints
}

/// Changes that some nodes have and others are about to have.
fn on_the_way(cluster: &Cluster) -> String {
    let Some(own) = cluster.nodes.first() else { return String::new() };
    let differs = |node: &&Node| is_heard(node) && (node.lag > 0 || node.digest != own.digest);
    let who: Vec<_> = cluster.nodes.iter().skip(1).filter(differs).map(|node| node.name.as_str()).collect();
    if who.is_empty() { String::new() } else { format!(", with changes on their way between {} and {}", own.name, who.join(", ")) }
}

fn is_heard(node: &Node) -> bool {
    !matches!(node.state.as_str(), "suspect" | "dead")
}

/// Who differs from the node that answers; where nobody does, somebody has not said yet that it applied everything.
fn differing(cluster: &Cluster) -> Vec<String> {
    let Some(own) = cluster.nodes.first() else { return vec!["it knows no node".to_owned()] };
    let differs = |node: &&Node| node.digest != own.digest && is_heard(node);
    let who: Vec<_> = cluster.nodes.iter().skip(1).filter(differs).map(|node| format!("{} holds other records", node.name)).collect();
    if who.is_empty() { vec!["not converged yet".to_owned()] } else { who }
}

fn verdict(cluster: &Cluster, complaints: &[String]) -> String {
    let held =
        format!("{} of {}, as seen by {}", counted(cluster.instances, "instance"), counted(cluster.services, "service"), cluster.node);
    match complaints {
        [] if cluster.nodes.len() == 1 => format!("\ncluster {}: one node, well; {held}", cluster.cluster),
        [] => format!("\ncluster {}: converged{}; {held}", cluster.cluster, on_the_way(cluster)),
        some => format!("\ncluster {}: {}; {held}", cluster.cluster, some.join(", ")),
    }
}

pub(super) fn counted(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}
