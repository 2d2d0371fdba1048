//! `export`: registrations as their providers said them, one a line, for `import` at another cluster.

use std::io::Write;

use clap::Args;
use serde_json::{Map, Value};

use super::failure::{Code, Failure};
use super::options::{Reach, Within};
use super::output;
use crate::api::consume::Found;
use crate::client::{Client, Query};
use crate::model::ServiceName;

/// How many instances one question asks for.
const PAGE: usize = 1000;

/// What `export` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
A line is a registration as the API takes it, its incarnation included, with `namespace`, `service` and `id` beside it.
`import` reads it, and so does `register -f`. What an operator overrides is not in it.

Examples:
  muster export > instances.ndjson
  muster export user -n test
  muster export --all-namespaces -s http://old:6878 | muster import -s http://new:6878")]
pub(super) struct Arguments {
    /// Only this service's instances; default: those of all
    service: Option<ServiceName>,
    /// Of every namespace, whatever -n says
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    reach: Reach,
}

pub(super) async fn run(arguments: Arguments) -> Result<Code, Failure> {
    let Arguments { service, all_namespaces, within, reach } = arguments;
    let namespace = if all_namespaces { "*" } else { within.namespace.as_str() };
    let mut query = Query::default().with("namespace", namespace).with("detail", "registration").with("limit", PAGE.to_string());
    if let Some(service) = &service {
        query = query.with("service", service.as_str());
    }
    write_all(&reach.client()?, &query).await
}

async fn write_all(client: &Client, query: &Query) -> Result<Code, Failure> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut after: Option<String> = None;
    let mut is_unsure = false;
    loop {
        let page = client.search(after.iter().fold(query.clone(), |query, after| query.with("after", after))).await?.value;
        is_unsure |= !page.trust.complete || page.trust.stale;
        for line in page.instances.iter().filter_map(to_line) {
            writeln!(out, "{line}")?;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    out.flush()?;
    if is_unsure {
        output::remark("incomplete or stale: this node may not know all");
    }
    Ok(Code::Ok)
}

/// `None`: it has gone since it was found.
fn to_line(found: &Found<'_>) -> Option<Value> {
    let mut line = Map::new();
    for (field, name) in [("namespace", &found.namespace), ("service", &found.service), ("id", &found.instance.id)] {
        line.insert(field.to_owned(), name.as_ref().into());
    }
    let Value::Object(said) = serde_json::to_value(found.registration.as_ref()?).ok()? else { return None };
    line.extend(said);
    Some(Value::Object(line))
}
