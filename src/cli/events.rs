//! `events`: what happened to instances, the newest first; or what happens, as it does.

use clap::Args;

use super::failure::{Code, Failure};
use super::options::{Reach, Shape, Within};
use super::output::{self, Format, Table};
use super::signal::Asked;
use crate::api::events::Event;
use crate::client::{Client, Happened, Query};
use crate::model::{InstanceId, ServiceName};

/// What `events` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Any node answers for the whole cluster, as far back as it keeps what it learned. With --follow the oldest comes first, and what happens
from now on follows; --since begins earlier.

Examples:
  muster events --since 10m
  muster events --service user --cause expired,owner_lost
  muster events -A --follow -o ndjson")]
pub(super) struct Arguments {
    /// Only of this service
    #[arg(long)]
    service: Option<ServiceName>,
    /// Only of instances with this id
    #[arg(long, value_name = "ID")]
    instance: Option<InstanceId>,
    /// Only with this cause; a comma means any of
    #[arg(long, value_name = "CAUSE")]
    cause: Option<String>,
    /// Only what happened at most this long ago: 10m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// At most so many
    #[arg(long, value_name = "NUMBER", conflicts_with = "follow")]
    limit: Option<u32>,
    /// Go on with what happens, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
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

impl Arguments {
    fn to_query(&self) -> Query {
        let query = if self.all_namespaces { Query::default().with("namespace", "*") } else { Query::of_namespace(&self.within.namespace) };
        let limit = self.limit.map(|limit| limit.to_string());
        let pairs = [
            ("service", self.service.as_ref().map(ToString::to_string)),
            ("instance", self.instance.as_ref().map(ToString::to_string)),
            ("cause", self.cause.clone()),
            ("since", self.since.clone()),
            ("limit", limit),
        ];
        pairs.into_iter().filter_map(|(key, value)| Some((key, value?))).fold(query, |query, (key, value)| query.with(key, value))
    }
}

pub(super) async fn run(arguments: Arguments) -> Result<Code, Failure> {
    let client = arguments.reach.client()?;
    if arguments.follow {
        return follow(&client, &arguments).await;
    }
    let answer = client.events(arguments.to_query()).await?;
    let events = &answer.value.events;
    match arguments.shape.output {
        Format::Table => table(events, arguments.all_namespaces, false)?,
        Format::Wide => table(events, true, true)?,
        Format::Json => output::body(&answer.body)?,
        Format::Ndjson => output::lines_of(&answer.body, "events")?,
        Format::Name => events.iter().try_for_each(|event| output::line(&event.id))?,
    }
    if answer.value.next.is_some() && matches!(arguments.shape.output, Format::Table | Format::Wide) {
        output::remark("there are older ones: --limit, or --since and --service");
    }
    Ok(Code::Ok)
}

async fn follow(client: &Client, arguments: &Arguments) -> Result<Code, Failure> {
    let mut asked = Asked::listen()?;
    let mut happenings = client.follow_events(arguments.to_query());
    let mut is_lost = None;
    loop {
        let happened = tokio::select! {
            () = asked.end() => return Ok(Code::Ok),
            happened = happenings.next() => happened?,
        };
        match happened {
            Happened::Changed(event, text) => output::line(&match arguments.shape.output {
                Format::Table | Format::Wide => to_line(&event, arguments.all_namespaces),
                Format::Json | Format::Ndjson => text,
                Format::Name => event.id.to_string(),
            })?,
            Happened::Opened(server) => match is_lost.replace(false) {
                None => output::remark(&format!("following events at {server}; Ctrl-C ends it")),
                Some(true) => output::remark(&format!("following again at {server}")),
                Some(false) => {}
            },
            Happened::Missed(Some(missed)) => output::remark(&format!("{missed} events are missing here: this was read too slowly")),
            Happened::Missed(None) => output::remark("events may be missing here: this node does not keep the last that was shown"),
            Happened::Lost(why) => {
                if is_lost.replace(true) != Some(true) {
                    output::remark(&format!("{why}; trying on"));
                }
            }
        }
    }
}

fn table(events: &[Event<'_>], with_namespace: bool, wide: bool) -> Result<(), Failure> {
    let mut header = vec!["AT", "SERVICE", "INSTANCE", "FROM", "TO", "CAUSE", "NODE", "BY", "DETAIL"];
    if with_namespace {
        header.insert(1, "NAMESPACE");
    }
    if wide {
        header.push("ID");
    }
    let mut table = Table::new(&header);
    for event in events {
        let mut cells = vec![event.at.clone(), event.service.to_string(), event.instance.to_string()];
        cells.extend([&event.from, &event.to].map(|status| status.as_deref().unwrap_or("-").to_owned()));
        cells.extend([event.cause.to_string(), event.node.to_string()]);
        cells.extend([&event.actor, &event.detail].map(|note| note.as_deref().unwrap_or("-").to_owned()));
        if with_namespace {
            cells.insert(1, event.namespace.to_string());
        }
        cells.extend(wide.then(|| event.id.to_string()));
        table.row(cells);
    }
    Ok(table.print()?)
}

/// `2026-11-20T09:14:03.120Z user user-3 up -> suspect expired at n1: no heartbeat for 15.2 s, by cart/1.4`.
fn to_line(event: &Event<'_>, with_namespace: bool) -> String {
    let namespace = if with_namespace { format!("{}/", event.namespace) } else { String::new() };
    let notes = notes(event);
    let notes = if notes.is_empty() { notes } else { format!(": {notes}") };
    format!("{} {namespace}{} {} {} {} at {}{notes}", event.at, event.service, event.instance, step(event), event.cause, event.node)
}

/// `up -> suspect`, `-> up`, `up ->`; one word where it stayed as it was.
pub(super) fn step(event: &Event<'_>) -> String {
    let word = |status: &Option<_>| status.as_deref().map_or_else(String::new, output::coloured);
    if event.from == event.to {
        return if event.to.is_none() { "not listed".to_owned() } else { word(&event.to) };
    }
    format!("{} -> {}", word(&event.from), word(&event.to)).trim().to_owned()
}

/// What was noted with it.
pub(super) fn notes(event: &Event<'_>) -> String {
    let detail = event.detail.as_deref().map(str::to_owned);
    let actor = event.actor.as_deref().map(|actor| format!("by {actor}"));
    detail.into_iter().chain(actor).collect::<Vec<_>>().join(", ")
}
