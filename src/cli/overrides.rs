//! `override`: sets, lists and ends what operators say of instances.

use clap::{Args, Subcommand};

use super::failure::{Code, Failure};
use super::options::{Reach, Shape, Within};
use super::output::{self, Format, Table, ago};
use super::selection::pair;
use crate::api::overrides::{Override, SetOverride};
use crate::api::provide::Span;
use crate::client::Query;
use crate::model::{Imposed, InstanceId, OverrideKey, OverrideName, ServiceName};
use crate::units::{DURATION_RULE, parse_ms};

/// What `override` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
It lies over what providers say and the registry sees, for instances that are there and those that come later.
It holds until it is deleted or over: no restart and no registration clears it.
Of several the narrower wins: instance, selection, service, namespace.

Examples:
  muster override set deploy-42 --service user --status draining --reason 'moving to eu-b' --expires-in 2h
  muster override list
  muster override delete deploy-42")]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Set an override, in the place of one of this name
    Set(Box<Set>),
    /// List the overrides that hold
    List(List),
    /// End an override
    Delete(Delete),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  muster override set drain-u1 --service user --id user-1 --status draining --reason 'disk swap'
  muster override set canary --service user --select 'tag=canary' --weight 5 --reason 'try 1.5' --expires-in 1h
  muster override set eu-a --select 'zone=eu-a' --status down --reason 'the zone is on fire'
  muster override set keep --service db --preserve true --reason 'its agent is broken, it is not'")]
struct Set {
    /// Its name
    name: OverrideName,
    /// Only instances of this service
    #[arg(long, value_name = "NAME")]
    service: Option<ServiceName>,
    /// Only this instance of that service
    #[arg(long, requires = "service")]
    id: Option<InstanceId>,
    /// Only instances that this selection admits, as they are without overrides, like zone=eu-a&tag=canary
    #[arg(long, value_name = "SELECTION")]
    select: Option<String>,
    /// What their status is to be: up, draining or down
    #[arg(long, value_parser = status)]
    status: Option<Imposed>,
    /// What their weight is to be; with draining 0 where nothing else is said
    #[arg(long, value_name = "NUMBER")]
    weight: Option<u16>,
    /// Metadata put over their own; again for more
    #[arg(long = "meta", value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// How long they stay listed once they are down
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    evict_after: Option<u64>,
    /// true: silence never takes them from the list; false: self-preservation never keeps them there
    #[arg(long, value_name = "BOOL")]
    preserve: Option<bool>,
    /// Why, for whoever finds it later
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// It ends by itself after this long; default: when it is deleted
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expires_in: Option<u64>,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  muster override list
  muster override list --all-namespaces -o wide")]
struct List {
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

#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 3: none of this name holds.

Examples:
  muster override delete deploy-42")]
struct Delete {
    /// Its name
    name: OverrideName,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    reach: Reach,
}

pub(super) async fn run(arguments: Arguments) -> Result<Code, Failure> {
    match arguments.what {
        What::Set(arguments) => set(*arguments).await,
        What::List(arguments) => list(arguments).await,
        What::Delete(arguments) => delete(arguments).await,
    }
}

async fn set(arguments: Set) -> Result<Code, Failure> {
    let Set { name, service, id, select, status, weight, metadata, evict_after, preserve, reason, expires_in, within, reach } = arguments;
    let key = OverrideKey { namespace: within.namespace, name };
    let said = SetOverride {
        service: service.map(|service| service.to_string()),
        id: id.map(|id| id.to_string()),
        select,
        status: status.map(|status| status.as_str().to_owned()),
        weight,
        metadata: metadata.into_iter().collect(),
        evict_after: evict_after.map(Span::Ms),
        preserve,
        reason,
        expires_in: expires_in.map(Span::Ms),
    };
    let told = reach.client()?.set_override(&key, &said).await?.value;
    let instances = if told.matches == 1 { "1 instance".to_owned() } else { format!("{} instances", told.matches) };
    output::line(&format!("override {} is set: {} on {instances} now", told.name, effects(&told)))?;
    Ok(Code::Ok)
}

async fn list(arguments: List) -> Result<Code, Failure> {
    let List { all_namespaces, within, reach, shape } = arguments;
    let query = if all_namespaces { Query::default().with("namespace", "*") } else { Query::of_namespace(&within.namespace) };
    let answer = reach.client()?.overrides(query).await?;
    let overrides = &answer.value.overrides;
    match shape.output {
        Format::Table => table(overrides, all_namespaces, false)?,
        Format::Wide => table(overrides, true, true)?,
        Format::Json => output::body(&answer.body)?,
        Format::Ndjson => output::lines_of(&answer.body, "overrides")?,
        Format::Name => overrides.iter().try_for_each(|told| output::line(&told.name))?,
    }
    Ok(Code::Ok)
}

async fn delete(arguments: Delete) -> Result<Code, Failure> {
    let key = OverrideKey { namespace: arguments.within.namespace, name: arguments.name };
    arguments.reach.client()?.delete_override(&key).await?;
    output::line(&format!("override {} is deleted", key.name))?;
    Ok(Code::Ok)
}

fn table(overrides: &[Override<'_>], with_namespace: bool, wide: bool) -> Result<(), Failure> {
    let mut header = vec!["NAME", "ABOUT", "OVERRIDES", "MATCHES", "EXPIRES", "REASON"];
    if with_namespace {
        header.insert(0, "NAMESPACE");
    }
    if wide {
        header.extend(["AUTHOR", "CREATED"]);
    }
    let mut table = Table::new(&header);
    for told in overrides {
        let expires = told.expires_in_ms.map_or_else(|| "-".to_owned(), |ms| format!("in {}", ago(ms)));
        let mut cells = vec![told.name.to_string(), about(told), effects(told), told.matches.to_string(), expires, told.reason.to_string()];
        if with_namespace {
            cells.insert(0, told.namespace.to_string());
        }
        if wide {
            cells.extend([told.author.as_deref().unwrap_or("-").to_owned(), told.created_at.clone()]);
        }
        table.row(cells);
    }
    Ok(table.print()?)
}

/// Whom it is about: `user/user-1`, `user?zone=eu-a`, `*`.
fn about(told: &Override<'_>) -> String {
    let service = told.service.as_deref().unwrap_or("*");
    let id = told.id.as_ref().map_or_else(String::new, |id| format!("/{id}"));
    let select = told.select.as_ref().map_or_else(String::new, |select| format!("?{select}"));
    format!("{service}{id}{select}")
}

/// What it says, as it would be said.
fn effects(told: &Override<'_>) -> String {
    let mut effects = Vec::new();
    effects.extend(told.status.as_ref().map(|status| format!("status={status}")));
    effects.extend(told.weight.map(|weight| format!("weight={weight}")));
    effects.extend(told.metadata.iter().map(|(key, value)| format!("metadata.{key}={value}")));
    effects.extend(told.evict_after_ms.map(|ms| format!("evict_after={}", crate::units::show_ms(u64::from(ms)))));
    effects.extend(told.preserve.map(|preserve| format!("preserve={preserve}")));
    effects.join(" ")
}

fn status(text: &str) -> Result<Imposed, String> {
    text.parse().map_err(|()| "must be up, draining or down".to_owned())
}

fn duration(text: &str) -> Result<u64, String> {
    parse_ms(text).ok_or_else(|| format!("must be {DURATION_RULE}"))
}
