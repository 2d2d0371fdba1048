//! Selections as queries spell them: read, brought to their one form, and written again.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;
use std::fmt;
use std::str::FromStr;

use super::{SELECTION_TERMS_MAX, Selection};
use crate::model::{METADATA_KEY_BYTES_MAX, METADATA_VALUE_BYTES_MAX, NameError, Region, Status, Zone};

/// A selection that could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{parameter}` {detail}")]
pub struct SelectionError {
    /// The query key that is wrong.
    pub parameter: String,
    /// What it must be.
    pub detail: String,
}

/// A selection in the making: give it one query key after another, then [`SelectionDraft::finish`].
#[derive(Debug, Default)]
pub struct SelectionDraft {
    selection: Selection,
    terms: usize,
}

const USABLE: [Status; 2] = [Status::Up, Status::Suspect];

impl Selection {
    /// The query keys that stand for themselves.
    pub const KEYS: [&str; 6] = ["status", "usable", "zone", "near_zone", "region", "tag"];
    /// What stands before a metadata key.
    pub const METADATA: &str = "metadata.";

    /// Reads the keys of a query; a key that is none of a selection's is an error.
    ///
    /// # Errors
    /// [`SelectionError`], naming the first key that is wrong.
    pub fn parse<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, SelectionError> {
        let mut draft = SelectionDraft::default();
        for (key, value) in pairs {
            draft.take(key, value)?;
        }
        Ok(draft.finish())
    }

    /// The keys and values that [`Selection::parse`] makes this of.
    #[must_use]
    pub fn to_pairs(&self) -> Vec<(String, String)> {
        if self.is_nothing() {
            return [Status::Up, Status::Down].map(|status| ("status".to_owned(), status.to_string())).into();
        }
        let mut pairs = Vec::new();
        let mut say = |key: &str, value: String| pairs.push((key.to_owned(), value));
        if let Some(statuses) = &self.statuses {
            say("status", joined(statuses));
        }
        if self.usable {
            say("usable", "true".to_owned());
        }
        if let Some(zones) = &self.zones {
            say("zone", joined(zones));
        }
        if let Some(zones) = &self.near_zones {
            say("near_zone", joined(zones));
        }
        if let Some(regions) = &self.regions {
            say("region", joined(regions));
        }
        for tags in &self.tags {
            say("tag", joined(tags));
        }
        for (key, values) in &self.metadata {
            say(&format!("{}{key}", Self::METADATA), joined(values));
        }
        pairs
    }

    fn is_nothing(&self) -> bool {
        self.statuses.as_ref().is_some_and(BTreeSet::is_empty)
    }
}

impl SelectionDraft {
    /// Adds one more condition.
    ///
    /// # Errors
    /// [`SelectionError`]; the draft is as it was.
    pub fn take(&mut self, key: &str, value: &str) -> Result<(), SelectionError> {
        let wrong = |detail: String| SelectionError { parameter: key.chars().take(METADATA_KEY_BYTES_MAX).collect(), detail };
        let terms = self.terms + value.split(',').count();
        if terms > SELECTION_TERMS_MAX {
            return Err(wrong(format!("is one alternative too many: a selection may have {SELECTION_TERMS_MAX} in all")));
        }
        let selection = &mut self.selection;
        match key {
            "status" => narrow(&mut selection.statuses, alternatives(value, status).map_err(wrong)?),
            "zone" => narrow(&mut selection.zones, alternatives(value, name::<Zone>).map_err(wrong)?),
            "region" => narrow(&mut selection.regions, alternatives(value, name::<Region>).map_err(wrong)?),
            "near_zone" if selection.near_zones.is_some() => return Err(wrong("may be given once; a comma means any of".to_owned())),
            "near_zone" => selection.near_zones = Some(alternatives(value, name::<Zone>).map_err(wrong)?),
            "usable" => selection.usable |= flag(value).map_err(wrong)?,
            "tag" => {
                selection.tags.insert(alternatives(value, tag).map_err(wrong)?);
            }
            _ => {
                let Some(metadata_key) = key.strip_prefix(Selection::METADATA) else {
                    return Err(wrong(format!("is no key of a selection: {}, {}KEY", Selection::KEYS.join(", "), Selection::METADATA)));
                };
                self.take_metadata(metadata_key, value).map_err(wrong)?;
            }
        }
        self.terms = terms;
        Ok(())
    }

    fn take_metadata(&mut self, key: &str, value: &str) -> Result<(), String> {
        if key.is_empty() || key.len() > METADATA_KEY_BYTES_MAX {
            return Err(format!("must name a metadata key of 1 to {METADATA_KEY_BYTES_MAX} bytes"));
        }
        let values = alternatives(value, metadata_value)?;
        match self.selection.metadata.entry(key.to_owned()) {
            Entry::Vacant(entry) => {
                entry.insert(values);
            }
            Entry::Occupied(mut entry) => entry.get_mut().retain(|value| values.contains(value)),
        }
        Ok(())
    }

    /// Brings it to its one form.
    #[must_use]
    pub fn finish(self) -> Selection {
        let mut selection = self.selection;
        simplify_statuses(&mut selection);
        simplify_near(&mut selection);
        simplify_tags(&mut selection);
        if is_impossible(&selection) {
            return Selection { statuses: Some(BTreeSet::new()), ..Selection::default() };
        }
        selection
    }
}

/// Repeated keys all hold: what is left is what they have in common.
fn narrow<T: Ord>(condition: &mut Option<BTreeSet<T>>, values: BTreeSet<T>) {
    match condition {
        Some(known) => known.retain(|value| values.contains(value)),
        None => *condition = Some(values),
    }
}

/// Only two statuses can be usable; and all that there are is no condition.
fn simplify_statuses(selection: &mut Selection) {
    let possible: &[Status] = if selection.usable { &USABLE } else { &Status::ALL };
    let Some(statuses) = &mut selection.statuses else { return };
    statuses.retain(|status| possible.contains(status));
    if statuses.len() == possible.len() {
        selection.statuses = None;
    }
}

/// A nearness that cannot prefer one admitted instance to another is none.
fn simplify_near(selection: &mut Selection) {
    let Some(near) = &mut selection.near_zones else { return };
    if let Some(zones) = &selection.zones {
        near.retain(|zone| zones.contains(zone));
    }
    let covers = selection.zones.as_ref().is_some_and(|zones| zones == near);
    let none_usable = selection.statuses.as_ref().is_some_and(|statuses| !USABLE.iter().any(|status| statuses.contains(status)));
    if near.is_empty() || covers || none_usable {
        selection.near_zones = None;
    }
}

/// A set that holds whenever a smaller one does says nothing.
fn simplify_tags(selection: &mut Selection) {
    let all = selection.tags.clone();
    selection.tags.retain(|tags| !all.iter().any(|other| other != tags && other.is_subset(tags)));
}

fn is_impossible(selection: &Selection) -> bool {
    selection.statuses.as_ref().is_some_and(BTreeSet::is_empty)
        || selection.zones.as_ref().is_some_and(BTreeSet::is_empty)
        || selection.regions.as_ref().is_some_and(BTreeSet::is_empty)
        || selection.metadata.values().any(BTreeSet::is_empty)
}

fn alternatives<T: Ord>(value: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<BTreeSet<T>, String> {
    value.split(',').map(parse).collect()
}

fn status(text: &str) -> Result<Status, String> {
    text.parse().map_err(|()| format!("must be of {}", Status::ALL.map(Status::as_str).join(", ")))
}

fn name<T: FromStr<Err = NameError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: NameError| format!("must be {}", error.rule))
}

fn flag(text: &str) -> Result<bool, String> {
    match text {
        "" | "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be `true` or `false`".to_owned()),
    }
}

fn tag(text: &str) -> Result<String, String> {
    let fits = matches!(text.len(), 1..=METADATA_KEY_BYTES_MAX);
    if fits { Ok(text.to_owned()) } else { Err(format!("must be tags of 1 to {METADATA_KEY_BYTES_MAX} bytes")) }
}

fn metadata_value(text: &str) -> Result<String, String> {
    let fits = text.len() <= METADATA_VALUE_BYTES_MAX;
    if fits { Ok(text.to_owned()) } else { Err(format!("must be values of at most {METADATA_VALUE_BYTES_MAX} bytes")) }
}

fn joined<T: fmt::Display>(values: &BTreeSet<T>) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
