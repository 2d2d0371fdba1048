//! `wait`: returns once a service has so many instances to call, or when there is no more time.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;

use super::failure::{Code, Failure};
use super::options::{Reach, Within};
use super::output;
use super::signal::Asked;
use crate::client::{Followed, Held, Query, Watch, WatchEvent};
use crate::model::ServiceName;
use crate::units::{DURATION_RULE, parse_ms, show_ms};

/// What `wait` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Exits with 0 once so many instances are up with a weight, with 1 when the time is over, and with 69 when no node could be reached in it.

Examples:
  muster wait user
  muster wait user --usable 3 --timeout 60s && ./deploy-the-next")]
pub(super) struct Arguments {
    /// The service
    service: ServiceName,
    /// How many instances are to be up, with a weight above 0
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    usable: usize,
    /// How long to wait at the most
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    timeout: u64,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    reach: Reach,
}

pub(super) async fn run(arguments: Arguments) -> Result<Code, Failure> {
    let Arguments { service, usable, timeout, within, reach } = arguments;
    let mut asked = Asked::listen()?;
    let mut watch = reach.client()?.watch(within.namespace, Followed::Named(vec![service.clone()]), Query::default());
    let mut wait = Wait { service: service.as_str(), wanted: usable, lost: None, told: None };
    tokio::select! {
        seen = wait.until_seen(&mut watch) => {
            output::line(&format!("{service}: {} usable", seen?))?;
            Ok(Code::Ok)
        }
        () = asked.end() => Err(Failure::new(Code::Failed, format!("{service}: not waited for to the end"))),
        () = tokio::time::sleep(Duration::from_millis(timeout)) => Err(wait.too_late(timeout)),
    }
}

struct Wait<'a> {
    service: &'a str,
    wanted: usize,
    /// Why no node is heard now.
    lost: Option<String>,
    /// How it was when it was last heard.
    told: Option<Counts>,
}

/// How many instances there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Counts {
    usable: usize,
    by_status: BTreeMap<String, usize>,
}

impl Wait<'_> {
    /// Ends once enough are usable; gives how many are.
    async fn until_seen(&mut self, watch: &mut Watch) -> Result<usize, Failure> {
        let shows = std::io::stderr().is_terminal();
        loop {
            match watch.next().await? {
                WatchEvent::Opened(_) => self.lost = None,
                WatchEvent::Lost(why) => self.lost = Some(why),
                WatchEvent::Current(_) | WatchEvent::Synced => {
                    let Some(held) = watch.replica(self.service).and_then(|replica| replica.held()) else { continue };
                    let counts = Counts::of(held);
                    let usable = counts.usable;
                    if usable >= self.wanted {
                        return Ok(usable);
                    }
                    if shows && self.told.as_ref() != Some(&counts) {
                        output::remark(&format!("{}: {}", self.service, counts.in_words(self.wanted)));
                    }
                    self.told = Some(counts);
                }
                WatchEvent::Changed(..) | WatchEvent::Stale(_) => {}
            }
        }
    }

    fn too_late(&self, timeout: u64) -> Failure {
        let (service, after) = (self.service, show_ms(timeout));
        match (&self.told, &self.lost) {
            (Some(counts), None) => Failure::new(Code::Failed, format!("{service}: {} after {after}", counts.in_words(self.wanted))),
            (Some(counts), Some(why)) => {
                let words = counts.in_words(self.wanted);
                Failure::new(Code::Unavailable, format!("{service}: {words} when a node was last heard; {after} are over: {why}"))
            }
            (None, why) => {
                let why = why.as_deref().unwrap_or("no node answered");
                Failure::new(Code::Unavailable, format!("{service}: {after} are over: {why}"))
                    .hint("is a node running? `muster dev` starts some; -s or MUSTER_SERVER says where they are")
            }
        }
    }
}

impl Counts {
    fn of(held: &Held) -> Self {
        let mut counts = Self::default();
        for instance in held.instances.values() {
            counts.usable += usize::from(instance.status == "up" && instance.weight > 0);
            *counts.by_status.entry(instance.status.to_string()).or_default() += 1;
        }
        counts
    }

    /// `1 of 3 usable (1 up, 2 suspect)`.
    fn in_words(&self, wanted: usize) -> String {
        let each: Vec<String> = self.by_status.iter().map(|(status, count)| format!("{count} {status}")).collect();
        let there = if each.is_empty() { "none is listed".to_owned() } else { each.join(", ") };
        format!("{} of {wanted} usable ({there})", self.usable)
    }
}

fn duration(text: &str) -> Result<u64, String> {
    parse_ms(text).ok_or_else(|| format!("must be {DURATION_RULE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_said_in_words() {
        let counts = Counts { usable: 1, by_status: [("up".to_owned(), 2), ("suspect".to_owned(), 1)].into() };
        assert_eq!(counts.in_words(3), "1 of 3 usable (1 suspect, 2 up)");
        assert_eq!(Counts::default().in_words(1), "0 of 1 usable (none is listed)");
    }
}
