//! Which instances are meant: the API's selection as options.

use clap::Args;

use crate::client::Query;

/// The registry selects; a comma means any of, an option given again means all of.
#[derive(Debug, Args, Default)]
#[command(next_help_heading = "Selection")]
pub(super) struct Selection {
    /// With one of these statuses: starting, up, suspect, down, draining
    #[arg(long, value_name = "STATUS")]
    status: Vec<String>,
    /// Only those to be called: up with a weight, or else suspect
    #[arg(long)]
    usable: bool,
    /// In one of these zones
    #[arg(long, value_name = "ZONE")]
    zone: Vec<String>,
    /// In this zone; in others only if it has none to be called
    #[arg(long, value_name = "ZONE")]
    near_zone: Option<String>,
    /// In one of these regions
    #[arg(long, value_name = "REGION")]
    region: Vec<String>,
    /// With one of these tags
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// With this metadata; an empty value: without the key
    #[arg(long = "meta", value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
}

impl Selection {
    pub(super) fn add_to(&self, mut query: Query) -> Query {
        let lists = [("status", &self.status), ("zone", &self.zone), ("region", &self.region), ("tag", &self.tag)];
        for (key, values) in lists {
            query = values.iter().fold(query, |query, value| query.with(key, value));
        }
        if self.usable {
            query = query.with("usable", "true");
        }
        if let Some(zone) = &self.near_zone {
            query = query.with("near_zone", zone);
        }
        self.metadata.iter().fold(query, |query, (key, value)| query.with(format!("metadata.{key}"), value))
    }
}

/// `KEY=VALUE`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be KEY=VALUE".to_owned()),
    }
}
