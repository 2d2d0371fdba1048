//! `why`: how an instance is, and how it came to be so, in words for whoever was woken by it.

use clap::Args;
use serde_json::{Value, json};

use super::consume::socket;
use super::events::{notes, step};
use super::failure::{Code, Failure};
use super::options::{Reach, Shape, Within};
use super::output::{self, Format, ago};
use crate::api::consume::{Detail, OverriddenDetail};
use crate::api::events::Event;
use crate::client::{Answer, Client, Error, Query};
use crate::clock::Clock;
use crate::model::{Cause, InstanceId, InstanceKey, ServiceKey, ServiceName};

/// What `why` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Any node answers, also for an instance that is gone. Exit code 3: nothing is known of it.

Examples:
  muster why user user-3
  muster why user user-3 --limit 50 -o json")]
pub(super) struct Arguments {
    /// The service
    service: ServiceName,
    /// Which copy of it
    id: InstanceId,
    /// How many of the last changes are told
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    limit: u32,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    shape: Shape,
}

pub(super) async fn run(arguments: Arguments) -> Result<Code, Failure> {
    let client = arguments.reach.client()?;
    let service = ServiceKey { namespace: arguments.within.namespace, service: arguments.service };
    let key = InstanceKey { service, id: arguments.id };
    let history = client.history(&key, Query::default().with("limit", arguments.limit.to_string())).await?;
    let detail = detail(&client, &key).await?;
    let events = &history.value.events;
    match arguments.shape.output {
        Format::Table | Format::Wide => {
            let detail = detail.as_ref().map(|answer| &answer.value);
            let will = match detail.and_then(|detail| detail.status.overridden.as_ref()) {
                Some(overridden) => Some(will(&client, &key, overridden).await),
                None => None,
            };
            tell(&key, detail.map(|detail| now(&key, detail, will)), events)?;
        }
        Format::Json => output::line(&to_json(detail.as_ref(), &history)?.to_string())?,
        Format::Ndjson => output::lines_of(&history.body, "events")?,
        Format::Name => events.iter().take(1).try_for_each(|event| output::line(&event.cause))?,
    }
    Ok(Code::Ok)
}

/// `None`: it is not listed.
async fn detail(client: &Client, key: &InstanceKey) -> Result<Option<Answer<Detail<'static>>>, Failure> {
    match client.detail(key).await {
        Ok(answer) => Ok(Some(answer)),
        Err(Error::Refused { problem, .. }) if problem.status == 404 => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Which override gives it its status, who set it and why, as far as that can be told.
async fn will(client: &Client, key: &InstanceKey, OverriddenDetail { status, by }: &OverriddenDetail<'_>) -> String {
    let held = client.overrides(Query::of_namespace(&key.service.namespace)).await;
    let held = held.ok().and_then(|answer| answer.value.overrides.into_iter().find(|held| held.name == *by));
    let why = held.map_or_else(String::new, |held| {
        let author = held.author.map_or_else(String::new, |author| format!(", set by {author}"));
        format!(": {} (since {}{author})", held.reason, held.created_at)
    });
    format!("  the override `{by}` says {status}{why}")
}

/// Both of the API's own answers.
fn to_json(detail: Option<&Answer<Detail<'static>>>, history: &Answer<crate::api::events::Events<'static>>) -> Result<Value, Failure> {
    let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).map_err(std::io::Error::from);
    let history = read(&history.body)?;
    Ok(json!({"instance": detail.map(|answer| read(&answer.body)).transpose()?, "events": history["events"]}))
}

/// `now`: how it is; `None`: it is not listed.
fn tell(key: &InstanceKey, now: Option<Vec<String>>, events: &[Event<'_>]) -> Result<(), Failure> {
    let now = now.unwrap_or_else(|| vec![format!("{} {} is not listed.", key.service.service, key.id)]);
    now.iter().try_for_each(|line| output::line(line))?;
    output::line("")?;
    output::line("What happened, the newest first:")?;
    for event in events {
        let notes = notes(event);
        let notes = if notes.is_empty() { notes } else { format!(" ({notes})") };
        let heard = event.last_heartbeat_ms.map_or_else(String::new, |ms| format!("; last heartbeat {} before", ago(ms.into())));
        output::line(&format!("  {}  {}  {}", event.at, step(event), event.cause))?;
        output::line(&format!("    at {}: {}{notes}{heard}", event.node, sentence(&event.cause)))?;
    }
    Ok(())
}

/// How it is; `will`: what an override has to do with it.
fn now(key: &InstanceKey, detail: &Detail<'_>, will: Option<String>) -> Vec<String> {
    let name = format!("{} {}", key.service.service, key.id);
    let status = output::coloured(&detail.status.effective);
    let since = age(&detail.changed_at).map_or_else(|| detail.changed_at.clone(), |ms| format!("{} ago", ago(ms)));
    let mut lines = vec![format!("{name} is {status}: {}.", sentence(&detail.cause))];
    lines.push(format!("  listens on {}, weight {}", socket(&detail.instance), detail.instance.weight));
    lines.push(format!("  its provider says {}, the registry saw {}", detail.status.reported, detail.status.seen));
    lines.extend(will);
    lines.push(format!("  owned by {}, life {}, last changed {since}", detail.owner, detail.incarnation));
    lines.push(match &detail.lease {
        None => "  its owner does not answer: how its lease is nobody here knows".to_owned(),
        Some(lease) => match (lease.ttl_ms, lease.last_heartbeat_ms) {
            (None, _) => "  a fixed address: no heartbeats are expected".to_owned(),
            (Some(_), _) if lease.attached => format!("  held by an open connection at {}: no heartbeats are expected", detail.owner),
            (Some(ttl), Some(heard)) => format!("  last heartbeat {} ago; late {} after it", ago(heard), ago(ttl)),
            (Some(ttl), None) => format!("  not heard since its owner took it over; late after {} without a heartbeat", ago(ttl)),
        },
    });
    lines
}

/// A cause that a later version named stands for itself.
fn sentence(cause: &str) -> String {
    cause.parse::<Cause>().map_or_else(|()| cause.to_owned(), |cause| cause.sentence().to_owned())
}

/// By this machine's clock; `None`: by that it is still to come, or no time.
fn age(at: &str) -> Option<u64> {
    let at = u64::try_from(at.parse::<jiff::Timestamp>().ok()?.as_millisecond()).ok()?;
    Clock::start().wall().checked_sub(at)
}
