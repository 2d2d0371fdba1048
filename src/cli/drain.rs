//! `drain` and `subscribers`: an instance leaves with notice, and who follows a service.

use std::time::Duration;

use clap::Args;

use super::failure::{Code, Failure};
use super::nodes::counted;
use super::options::{Reach, Shape, Within};
use super::output::{self, Format, Table};
use crate::api::drain::{Drained, Missing, Subscriber};
use crate::client::Query;
use crate::model::{InstanceId, InstanceKey, ServiceKey, ServiceName};
use crate::units::{DURATION_RULE, parse_ms, show_ms};

/// What `drain` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
The instance is listed as draining, with weight 0, until every subscriber of its service has been sent that; then it is taken away.
A provider that goes on running registers again: stop it then.
Exit code 1: somebody was not sent it within the deadline, and is named, or it is up again; 3: no such instance is listed.

Examples:
  muster drain user user-1
  muster drain user user-1 --deadline 2m --keep   # it stays listed; `\"status\":\"up\"` ends the drain")]
pub(super) struct Drain {
    /// The service it is a copy of
    service: ServiceName,
    /// Which copy
    id: InstanceId,
    /// How long to wait for subscribers, at most 5m
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s")]
    deadline: u64,
    /// Return at once; the drain goes on
    #[arg(long)]
    no_wait: bool,
    /// Do not take it away afterwards
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    reach: Reach,
}

/// What `subscribers` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  muster subscribers user
  muster subscribers user -o json")]
pub(super) struct Subscribers {
    /// The service they follow
    service: ServiceName,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    shape: Shape,
}

pub(super) async fn drain(arguments: Drain) -> Result<Code, Failure> {
    let Drain { service, id, deadline, no_wait, keep, within, reach } = arguments;
    let key = InstanceKey { service: ServiceKey { namespace: within.namespace, service }, id };
    let drained = reach.client()?.drain(&key, Duration::from_millis(deadline), !no_wait, !keep).await?;
    let name = format!("{} {}", key.service.service, key.id);
    match drained {
        None => output::line(&format!("draining {name}; it goes on for at most {}", show_ms(deadline)))?,
        Some(drained) => {
            output::line(&format!("{name}: {}{}", told(&drained), fate(&drained)))?;
            if !drained.delivered {
                name_missing(&drained)?;
            }
            // Its provider may have said meanwhile that it is up.
            if !drained.delivered || (!keep && !drained.deregistered) {
                return Ok(Code::Failed);
            }
        }
    }
    Ok(Code::Ok)
}

fn told(drained: &Drained) -> String {
    let all = counted(usize::try_from(drained.subscribers).unwrap_or(usize::MAX), "subscriber");
    if drained.delivered { format!("drained, {all} told") } else { format!("not all told of {all}") }
}

fn fate(drained: &Drained) -> &'static str {
    if drained.deregistered { "; deregistered" } else { "; still listed" }
}

fn name_missing(drained: &Drained) -> Result<(), Failure> {
    let mut table = Table::new(&["NODE", "NOT TOLD", "ADDRESS"]);
    for Missing { node, subscriber, address } in &drained.missing {
        let nobody_knows = || if address.is_none() { "(the node does not answer)".to_owned() } else { "-".to_owned() };
        let who = subscriber.clone().unwrap_or_else(nobody_knows);
        table.row([node.clone(), who, address.clone().unwrap_or_else(|| "-".to_owned())]);
    }
    table.print()?;
    if drained.truncated {
        output::line("… and more")?;
    }
    Ok(())
}

pub(super) async fn subscribers(arguments: Subscribers) -> Result<Code, Failure> {
    let Subscribers { service, within, reach, shape } = arguments;
    let answer = reach.client()?.subscribers(&service, Query::of_namespace(&within.namespace)).await?;
    let subscribers = &answer.value.subscribers;
    match shape.output {
        Format::Table | Format::Wide => table(subscribers)?,
        Format::Json => output::body(&answer.body)?,
        Format::Ndjson => output::lines_of(&answer.body, "subscribers")?,
        Format::Name => subscribers.iter().try_for_each(|told| output::line(told.subscriber.as_deref().unwrap_or(&told.address)))?,
    }
    if !answer.value.complete && matches!(shape.output, Format::Table | Format::Wide) {
        output::remark("there may be more: not all nodes have told who is there");
    }
    Ok(Code::Ok)
}

fn table(subscribers: &[Subscriber]) -> Result<(), Failure> {
    let mut table = Table::new(&["NODE", "SUBSCRIBER", "ADDRESS", "SINCE"]);
    for Subscriber { node, subscriber, address, since } in subscribers {
        table.row([node.clone(), subscriber.clone().unwrap_or_else(|| "-".to_owned()), address.clone(), since.clone()]);
    }
    Ok(table.print()?)
}

fn duration(text: &str) -> Result<u64, String> {
    parse_ms(text).ok_or_else(|| format!("must be {DURATION_RULE}"))
}
