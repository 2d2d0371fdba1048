//! `watch`: a line for each change, over whatever streams it takes; and a command run when something has changed.

use clap::Args;
use serde_json::{Value, json};

use super::consume::socket;
use super::failure::{Code, Failure};
use super::options::{Reach, Shape, Within};
use super::output::{self, Format};
use super::selection::Selection;
use super::signal::Asked;
use crate::api::consume::Instance;
use crate::cli::runner::Runner;
use crate::client::{Change, Followed, Watch, WatchEvent};
use crate::model::ServiceName;

/// What `watch` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Lines begin with + (came), ~ (changed) or - (went). With several services each line names its own. When a node goes, another of -s is
asked, from where the stream ended; what changed meanwhile is shown, and nothing twice.

Examples:
  muster watch user
  muster watch user cart --usable -s http://node-1:6878,http://node-2:6878
  muster watch '*' -o json
  muster watch user --exec 'jq -r \".instances[] | .address\" > upstreams && nginx -s reload'")]
pub(super) struct Arguments {
    /// The services; '*' for all of the namespace, 'pay*' for those whose names begin so
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
    /// Run CMD by sh once a service is known and whenever it has changed, with its list as the API writes it on stdin and MUSTER_SERVICE set
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    selection: Selection,
}

pub(super) async fn run(arguments: Arguments) -> Result<Code, Failure> {
    let mut asked = Asked::listen()?;
    let followed = to_followed(&arguments.services)?;
    let several = !matches!(&followed, Followed::Named(services) if services.len() == 1);
    let query = arguments.selection.add_to(crate::client::Query::default());
    let namespace = arguments.within.namespace.clone();
    let mut watch = arguments.reach.client()?.watch(namespace.clone(), followed, query);
    let mut runner = arguments.exec.map(|command| Runner::new(command, namespace));
    let writer = Writer { format: arguments.shape.output, several };
    let names = arguments.services.join(", ");
    let mut opened = false;
    let mut lost = false;
    loop {
        let event = tokio::select! {
            () = asked.end() => return Ok(Code::Ok),
            event = watch.next() => event?,
            () = Runner::ended(runner.as_mut()) => continue,
        };
        match event {
            WatchEvent::Changed(service, change) => writer.change(&service, &change)?,
            WatchEvent::Current(service) => {
                if let (Some(runner), Some(held)) = (&mut runner, held(&watch, &service)) {
                    runner.offer(&service, held);
                }
            }
            WatchEvent::Opened(server) => match (std::mem::replace(&mut opened, true), std::mem::take(&mut lost)) {
                (false, _) => output::remark(&format!("following {names} at {server}; Ctrl-C ends it")),
                (true, true) => output::remark(&format!("following again at {server}")),
                (true, false) => {}
            },
            WatchEvent::Stale(true) => output::remark("this node does not hear its bus: what follows may be late"),
            WatchEvent::Stale(false) => output::remark("the node hears its bus again"),
            WatchEvent::Lost(why) => {
                if !std::mem::replace(&mut lost, true) {
                    output::remark(&format!("{why}; trying on"));
                }
            }
            WatchEvent::Synced => {}
        }
    }
}

/// Names, or one pattern: `*` for all, `pay*` for those that begin so.
fn to_followed(services: &[String]) -> Result<Followed, Failure> {
    if let [pattern] = services
        && let Some(prefix) = pattern.strip_suffix('*')
    {
        return Ok(if prefix.is_empty() { Followed::All } else { Followed::Prefix(prefix.to_owned()) });
    }
    if let Some(pattern) = services.iter().find(|service| service.ends_with('*')) {
        return Err(Failure::usage(format!("'{pattern}' stands for many services: name no other beside it")));
    }
    let named: Result<Vec<ServiceName>, _> = services.iter().map(|service| service.parse()).collect();
    named.map(Followed::Named).map_err(|error| Failure::usage(error.to_string()))
}

fn held<'a>(watch: &'a Watch, service: &str) -> Option<&'a crate::client::Held> {
    watch.replica(service)?.held()
}

struct Writer {
    format: Format,
    several: bool,
}

impl Writer {
    fn change(&self, service: &str, change: &Change) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table => to_line(change, false),
            Format::Wide => to_line(change, true),
            Format::Json | Format::Ndjson => return Ok(output::line(&to_json(service, change).to_string())?),
            Format::Name => format!("{} {}", sign(change), instance(change).id),
        };
        let (sign, rest) = text.split_at(1);
        let place = if self.several { format!(" {service}") } else { String::new() };
        Ok(output::line(&format!("{}{place}{rest}", output::coloured(sign)))?)
    }
}

fn sign(change: &Change) -> &'static str {
    match change {
        Change::Added(_) => "+",
        Change::Updated { .. } => "~",
        Change::Removed { .. } => "-",
    }
}

fn instance(change: &Change) -> &Instance<'static> {
    match change {
        Change::Added(instance) => instance,
        Change::Updated { after, .. } => after,
        Change::Removed { before, .. } => before,
    }
}

/// `+ user-1 10.0.0.7:8080 up`; `~ user-1 10.0.0.7:8080 up -> suspect`; `- user-1 10.0.0.7:8080 (expired)`.
fn to_line(change: &Change, wide: bool) -> String {
    let shown = instance(change);
    let mut words = vec![sign(change).to_owned(), shown.id.to_string(), socket(shown)];
    match change {
        Change::Added(added) => words.push(output::coloured(&added.status)),
        Change::Updated { before, after } => words.extend(differences(before, after)),
        Change::Removed { cause, status, .. } => {
            let why = cause.as_deref().unwrap_or("no longer listed");
            words.push(status.as_ref().map_or(format!("({why})"), |status| format!("(still there: {status}, {why})")));
        }
    }
    if wide {
        words.extend(extras(shown));
    }
    words.join(" ")
}

fn differences(before: &Instance<'_>, after: &Instance<'_>) -> Vec<String> {
    let mut words = Vec::new();
    if before.status == after.status {
        words.push(output::coloured(&after.status));
    } else {
        words.push(format!("{} -> {}", output::coloured(&before.status), output::coloured(&after.status)));
    }
    if socket(before) != socket(after) {
        words.push(format!("was {}", socket(before)));
    }
    if before.weight != after.weight {
        words.push(format!("weight {} -> {}", before.weight, after.weight));
    }
    let others = [
        ("ports", before.ports != after.ports),
        ("region", before.region != after.region),
        ("zone", before.zone != after.zone),
        ("tags", before.tags != after.tags),
        ("metadata", before.metadata != after.metadata),
    ];
    words.extend(others.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| format!("{name} changed")));
    words
}

fn extras(instance: &Instance<'_>) -> Vec<String> {
    let places = [("region", &instance.region), ("zone", &instance.zone)];
    let places = places.into_iter().filter_map(|(name, place)| place.as_ref().map(|place| format!("{name}={place}")));
    let tags = instance.tags.iter().map(|tag| format!("#{tag}"));
    let metadata = instance.metadata.iter().map(|(key, value)| format!("{key}={value}"));
    std::iter::once(format!("weight={}", instance.weight)).chain(places).chain(tags).chain(metadata).collect()
}

fn to_json(service: &str, change: &Change) -> Value {
    match change {
        Change::Added(instance) => json!({"change": "added", "service": service, "instance": instance}),
        Change::Updated { before, after } => json!({"change": "updated", "service": service, "instance": after, "before": before}),
        Change::Removed { before, cause, .. } => json!({"change": "removed", "service": service, "instance": before, "cause": cause}),
    }
}
