//! `services` and `instances`: lists, as they are now.

use std::fmt::Display;

use clap::Args;

use super::failure::{Code, Failure};
use super::options::{Reach, Shape, Within};
use super::output::{self, Format, Table};
use super::selection::Selection;
use crate::api::consume::{Found, Instance, ServiceCounts, Trust};
use crate::client::{Client, Query};
use crate::model::{Namespace, ServiceName};
use crate::nearest::nearest;

/// What `services` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  muster services
  muster services --prefix pay -o name
  muster services --all-namespaces -o wide")]
pub(super) struct Services {
    /// Only services whose names begin so
    #[arg(long)]
    prefix: Option<String>,
    /// Of every namespace, whatever -n says
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    shape: Shape,
}

/// What `instances` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  muster instances user
  muster instances user --usable -o json
  muster instances --status suspect,down --all-namespaces")]
pub(super) struct Instances {
    /// The service; without one, those of all services are searched
    service: Option<ServiceName>,
    /// Of every namespace; without a service only
    #[arg(short = 'A', long, conflicts_with = "service")]
    all_namespaces: bool,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    selection: Selection,
}

pub(super) async fn services(arguments: Services) -> Result<Code, Failure> {
    let mut query = namespaces(arguments.all_namespaces, &arguments.within.namespace);
    if let Some(prefix) = &arguments.prefix {
        query = query.with("q", prefix);
    }
    let answer = arguments.reach.client()?.services(query).await?;
    let services = &answer.value.services;
    match arguments.shape.output {
        Format::Table => services_table(services, arguments.all_namespaces, false)?,
        Format::Wide => services_table(services, true, true)?,
        Format::Json => output::body(&answer.body)?,
        Format::Ndjson => output::lines_of(&answer.body, "services")?,
        Format::Name => services.iter().try_for_each(|service| output::line(&service.service))?,
    }
    Ok(Code::Ok)
}

fn services_table(services: &[ServiceCounts<'_>], with_namespace: bool, wide: bool) -> Result<(), Failure> {
    let mut header = vec!["SERVICE", "INSTANCES", "UP", "STARTING", "SUSPECT", "DOWN", "DRAINING"];
    if with_namespace {
        header.insert(0, "NAMESPACE");
    }
    if wide {
        header.push("REVISION");
    }
    let mut table = Table::new(&header);
    for ServiceCounts { namespace, service, revision, instances, counts } in services {
        let numbers = [*instances, counts.up, counts.starting, counts.suspect, counts.down, counts.draining].map(|count| count.to_string());
        let before = with_namespace.then(|| namespace.to_string()).into_iter().chain([service.to_string()]);
        table.row(before.chain(numbers).chain(wide.then(|| revision.to_string())));
    }
    Ok(table.print()?)
}

pub(super) async fn instances(arguments: Instances) -> Result<Code, Failure> {
    let client = arguments.reach.client()?;
    let query = arguments.selection.add_to(namespaces(arguments.all_namespaces, &arguments.within.namespace));
    let format = arguments.shape.output;
    if let Some(service) = &arguments.service {
        let answer = client.instances(service, query).await?;
        let rows = answer.value.instances.iter().map(|instance| (Vec::new(), instance));
        write(format, &answer.body, &[], rows)?;
        remark_on(answer.value.trust);
        if answer.value.instances.is_empty() {
            output::remark(&nothing_of(&client, service, &arguments.within.namespace).await);
        }
        return Ok(Code::Ok);
    }
    let answer = client.search(query).await?;
    let all = arguments.all_namespaces;
    let rows = answer.value.instances.iter().map(|found| (place(found, all), &found.instance));
    write(format, &answer.body, if all { &["NAMESPACE", "SERVICE"] } else { &["SERVICE"] }, rows)?;
    if answer.value.instances.is_empty() {
        output::remark("no instance matches");
    }
    remark_on(answer.value.trust);
    Ok(Code::Ok)
}

/// Why no instance of a service is shown, as far as that can be told.
async fn nothing_of(client: &Client, service: &ServiceName, namespace: &Namespace) -> String {
    let answer = client.services(Query::of_namespace(namespace)).await;
    let known: Vec<_> = answer.map_or_else(|_| Vec::new(), |answer| answer.value.services);
    if known.iter().any(|known| known.service == service.as_str() && known.instances > 0) {
        return format!("no instance of {service} matches");
    }
    let guess = nearest(service.as_str(), known.iter().map(|known| &*known.service));
    let hint = guess.map_or_else(String::new, |guess| format!("; did you mean {guess}?"));
    format!("no instance of {service} is listed in namespace {namespace}{hint}")
}

/// Where an instance of a search stands.
fn place(found: &Found<'_>, with_namespace: bool) -> Vec<String> {
    with_namespace.then(|| found.namespace.to_string()).into_iter().chain([found.service.to_string()]).collect()
}

/// Each row: where the instance stands, when several services are shown, and the instance.
fn write<'a>(
    format: Format,
    body: &[u8],
    place: &[&str],
    rows: impl Iterator<Item = (Vec<String>, &'a Instance<'a>)>,
) -> Result<(), Failure> {
    let wide = format == Format::Wide;
    match format {
        Format::Json => output::body(body)?,
        Format::Ndjson => output::lines_of(body, "instances")?,
        Format::Name => rows.map(|(_, instance)| instance).try_for_each(|instance| output::line(&instance.id))?,
        Format::Table | Format::Wide => {
            let own: &[&str] = if wide {
                &["ID", "ADDRESS", "STATUS", "WEIGHT", "REGION", "ZONE", "PORTS", "TAGS", "METADATA"]
            } else {
                &["ID", "ADDRESS", "STATUS", "WEIGHT", "ZONE"]
            };
            let mut table = Table::new(&[place, own].concat());
            for (before, instance) in rows {
                table.row(before.into_iter().chain(cells(instance, wide)));
            }
            table.print()?;
        }
    }
    Ok(())
}

fn cells(instance: &Instance<'_>, wide: bool) -> Vec<String> {
    let zone = instance.zone.as_deref().unwrap_or("-").to_owned();
    let mut cells = vec![instance.id.to_string(), socket(instance), instance.status.to_string(), instance.weight.to_string(), zone];
    if wide {
        cells.insert(4, instance.region.as_deref().unwrap_or("-").to_owned());
        cells.push(pairs(instance.ports.iter()));
        cells.push(or_dash(instance.tags.iter().cloned().collect::<Vec<_>>().join(",")));
        cells.push(pairs(instance.metadata.iter()));
    }
    cells
}

/// `address:port`, with brackets where the address has colons of its own.
pub(super) fn socket(instance: &Instance<'_>) -> String {
    if instance.address.contains(':') {
        format!("[{}]:{}", instance.address, instance.port)
    } else {
        format!("{}:{}", instance.address, instance.port)
    }
}

fn pairs<K: Display, V: Display>(pairs: impl Iterator<Item = (K, V)>) -> String {
    or_dash(pairs.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","))
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

fn namespaces(all: bool, one: &Namespace) -> Query {
    if all { Query::default().with("namespace", "*") } else { Query::of_namespace(one) }
}

/// An answer that cannot be relied on says so, beside the list.
fn remark_on(trust: Trust) {
    if !trust.complete {
        output::remark("incomplete: this node may not know all");
    }
    if trust.stale {
        output::remark(&format!("stale: last known to be so {} ago", output::ago(trust.stale_ms.unwrap_or(0))));
    }
    if trust.preserved {
        output::remark("preserved: some of these would have expired");
    }
}
