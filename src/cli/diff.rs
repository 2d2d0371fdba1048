//! `diff`: in what two nodes' records differ, and a verdict that a script can read from the exit code.

use clap::Args;

use super::failure::{Code, Failure};
use super::nodes::counted;
use super::options::{Reach, Shape};
use super::output::{self, Format, Table};
use crate::api::operate::{Cluster, Diff, ServiceDiff};
use crate::client::Answer;
use crate::model::NodeName;

/// What `diff` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Either node is asked, whichever -s reaches; if it reaches another one, the first is asked where it says that its HTTP is.
What is on its way between the nodes just then may be told as a difference: ask again before you believe it.

Exit code 0: they hold the same; 3: no such node is known; 4: they differ; 69: one of them does not answer.

Examples:
  muster diff n1 n2
  muster diff n1 n3 -s http://node-2:6878 -o json")]
pub(super) struct Arguments {
    /// One node
    here: NodeName,
    /// The other
    there: NodeName,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    shape: Shape,
}

pub(super) async fn run(arguments: Arguments) -> Result<Code, Failure> {
    let Arguments { here, there, reach, shape } = arguments;
    let Answer { value: diff, body, .. } = ask(&here, &there, &reach).await?;
    match shape.output {
        Format::Table | Format::Wide => {
            table(&diff, shape.output == Format::Wide)?;
            output::line(&verdict(&diff))?;
        }
        Format::Json => output::body(&body)?,
        Format::Ndjson => output::lines_of(&body, "services")?,
        Format::Name => diff.services.iter().try_for_each(|diff| output::line(&format!("{}/{}", diff.namespace, diff.service)))?,
    }
    Ok(if diff.equal { Code::Ok } else { Code::NotConverged })
}

/// Asks the first node, or the second one and turns the answer round.
async fn ask(here: &NodeName, there: &NodeName, reach: &Reach) -> Result<Answer<Diff>, Failure> {
    let client = reach.client()?;
    let cluster = client.cluster().await?;
    let answer = if cluster.value.node == here.as_str() {
        client.diff(there).await?
    } else if cluster.value.node == there.as_str() {
        let answer = client.diff(here).await?;
        let value = turned(answer.value);
        let body = serde_json::to_vec(&value).map_err(|error| Failure::new(Code::Failed, error.to_string()))?;
        Answer { value, body, server: answer.server }
    } else {
        reach.client_of([address(&cluster.value, here, &cluster.server)?])?.diff(there).await?
    };
    if (answer.value.node.as_str(), answer.value.with.as_str()) != (here.as_str(), there.as_str()) {
        let told = format!("{} and {} were compared: another node answers there than a moment ago", answer.value.node, answer.value.with);
        return Err(Failure::new(Code::Failed, told).hint("-s with the address of one of the two nodes alone"));
    }
    Ok(answer)
}

/// Where a node says that its HTTP is, in the scheme of the node that was asked.
fn address(cluster: &Cluster, node: &NodeName, asked: &str) -> Result<String, Failure> {
    let known = cluster.nodes.iter().find(|known| known.name == node.as_str());
    let Some(known) = known.filter(|known| !known.http.is_empty()) else {
        let told = format!("{} knows no node `{node}`", cluster.node);
        return Err(Failure::new(Code::NotFound, told).hint("`muster nodes`, which lists them"));
    };
    let scheme = asked.split_once("://").map_or("http", |(scheme, _)| scheme);
    Ok(format!("{scheme}://{}", known.http))
}

/// The same as the other node would say it.
fn turned(diff: Diff) -> Diff {
    let turn = |mut diff: ServiceDiff| {
        if let Some(there) = diff.with_revision {
            diff.with_revision = Some(std::mem::replace(&mut diff.revision, there));
        }
        std::mem::swap(&mut diff.only_here, &mut diff.only_there);
        diff.differ.iter_mut().for_each(|field| std::mem::swap(&mut field.here, &mut field.there));
        diff
    };
    Diff { node: diff.with, with: diff.node, services: diff.services.into_iter().map(turn).collect(), ..diff }
}

fn table(diff: &Diff, wide: bool) -> Result<(), Failure> {
    if diff.services.is_empty() {
        return Ok(());
    }
    let (here, there) = (diff.node.to_uppercase(), diff.with.to_uppercase());
    let mut header = vec!["NAMESPACE", "SERVICE", "INSTANCE", "FIELD", here.as_str(), there.as_str()];
    if wide {
        header.push("OWNER");
    }
    let mut table = Table::new(&header);
    for service in &diff.services {
        let mut row = |id: &str, field: &str, here: &str, there: &str, owner: &str| {
            let cells = [&service.namespace, &service.service, id, field, here, there].map(str::to_owned);
            table.row(cells.into_iter().chain(wide.then(|| owner.to_owned())));
        };
        service.only_here.iter().for_each(|id| row(id, "-", "listed", "absent", "-"));
        service.only_there.iter().for_each(|id| row(id, "-", "absent", "listed", "-"));
        for field in &service.differ {
            let or_dash = |side: &'_ Option<String>| side.clone().unwrap_or_else(|| "-".to_owned());
            row(&field.id, &field.field, &or_dash(&field.here), &or_dash(&field.there), &field.owner);
        }
    }
    Ok(table.print()?)
}

fn verdict(diff: &Diff) -> String {
    let Diff { node, with, .. } = diff;
    if diff.equal {
        return format!("{node} and {with} hold the same");
    }
    let instances: usize = diff.services.iter().map(instances).sum();
    let unseen = diff.services.iter().filter(|service| Some(service.revision) == service.with_revision).count();
    let services = counted(diff.services.len(), "service");
    let unseen = if unseen > 0 { format!("; in {unseen} of them nothing that consumers see") } else { String::new() };
    let more = if diff.truncated { "; there may be more: not everything was compared" } else { "" };
    format!("\n{node} and {with} differ in {} of {services}{unseen}{more}", counted(instances, "instance"))
}

/// How many instances of a service differ; one that differs in several fields has a line for each, all together.
fn instances(service: &ServiceDiff) -> usize {
    let mut ids: Vec<&str> = service.differ.iter().map(|field| field.id.as_str()).collect();
    ids.dedup();
    ids.len() + service.only_here.len() + service.only_there.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Hex;
    use crate::api::operate::FieldDiff;

    fn diff() -> Diff {
        let field = |field: &str| FieldDiff {
            id: "a".to_owned(),
            field: field.to_owned(),
            here: Some("1".to_owned()),
            there: None,
            owner: "n1".to_owned(),
        };
        let service = ServiceDiff {
            namespace: "default".to_owned(),
            service: "user".to_owned(),
            revision: Hex(1),
            with_revision: Some(Hex(2)),
            only_here: vec!["b".to_owned()],
            only_there: Vec::new(),
            differ: vec![field("zone"), field("edition")],
        };
        Diff { node: "n1".to_owned(), with: "n2".to_owned(), equal: false, services: vec![service], truncated: false }
    }

    #[test]
    fn what_the_other_node_says_is_turned_round() {
        let other = turned(diff());
        assert_eq!((other.node.as_str(), other.with.as_str()), ("n2", "n1"));
        let service = &other.services[0];
        assert_eq!((service.revision, service.with_revision), (Hex(2), Some(Hex(1))));
        assert_eq!((service.only_here.len(), service.only_there.len()), (0, 1));
        assert_eq!((service.differ[0].here.as_deref(), service.differ[0].there.as_deref()), (None, Some("1")));
        assert_eq!(turned(other), diff());
    }

    #[test]
    fn an_instance_with_several_fields_is_counted_once() {
        assert!(verdict(&diff()).contains("differ in 2 instances of 1 service"), "{}", verdict(&diff()));
        let truncated = Diff { truncated: true, ..diff() };
        assert!(verdict(&truncated).contains("there may be more"));
    }
}
