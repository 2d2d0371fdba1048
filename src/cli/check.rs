//! `check`: what would hold, and where each value came from.

use clap::Args;
use serde_json::json;

use super::failure::{Code, Failure};
use super::options::{Configuration, Shape};
use super::output::{self, Format, Table};
use crate::config::{Loaded, Setting, reference};

/// Takes every flag of `serve`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  muster check -c muster.toml
  MUSTER_NATS=nats://127.0.0.1:4222 muster check --set leases.ttl=30s
  muster check --reference > muster.toml")]
pub(super) struct Arguments {
    #[command(flatten)]
    configuration: Configuration,
    /// Write a file with every key, its default and what it means
    #[arg(long)]
    reference: bool,
    #[command(flatten)]
    shape: Shape,
}

pub(super) fn run(arguments: &Arguments) -> Result<Code, Failure> {
    if arguments.reference {
        output::write(&reference())?;
        return Ok(Code::Ok);
    }
    let settings = Loaded::from_inputs(&arguments.configuration.to_inputs())?.settings();
    match arguments.shape.output {
        Format::Table | Format::Wide => {
            let mut table = Table::new(&["KEY", "VALUE", "FROM"]);
            for Setting { key, value, origin } in settings {
                table.row([key.to_owned(), value.unwrap_or_else(|| "-".to_owned()), origin.to_string()]);
            }
            table.print()?;
        }
        Format::Json => output::line(&settings.iter().map(to_json).collect::<serde_json::Value>().to_string())?,
        Format::Ndjson => settings.iter().try_for_each(|setting| output::line(&to_json(setting).to_string()))?,
        Format::Name => settings.iter().try_for_each(|setting| output::line(setting.key))?,
    }
    Ok(Code::Ok)
}

fn to_json(setting: &Setting) -> serde_json::Value {
    json!({"key": setting.key, "value": setting.value, "from": setting.origin.to_string()})
}
