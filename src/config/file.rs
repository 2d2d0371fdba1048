//! The file: TOML into keys and values, each with its line.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::given::Given;
use super::{Fault, Origin, key};

/// A key of the file, with what was given for it.
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) given: Given,
    pub(super) origin: Origin,
}

/// Reads a file as far as it can be read; what cannot is a fault, and the rest is still looked at.
pub(super) fn read(path: &Path) -> (Vec<Entry>, Vec<Fault>) {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(path, &text),
        Err(error) => {
            let what = path.display().to_string();
            (Vec::new(), vec![Fault { what, origin: Origin::Default, rule: format!("the file cannot be read: {error}") }])
        }
    }
}

fn parse(path: &Path, text: &str) -> (Vec<Entry>, Vec<Fault>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let origin_at = |line: usize| Origin::File { path: path.to_path_buf(), line };
    let mut reading = Reading { text, is_whole: errors.is_empty(), entries: Vec::new(), faults: Vec::new() };
    let mut broken = Vec::new();
    for error in &errors {
        let line = line_of(text, error.span().map_or(0, |span| span.start));
        broken.push(line);
        reading.faults.push((line, String::new(), error.message().to_owned()));
    }
    reading.table("", table.get_ref());
    // What the parser made up to go on after an error is not what anybody gave.
    reading.entries.retain(|(line, ..)| !broken.contains(line));
    reading.entries.sort_by_key(|(line, ..)| *line);
    reading.faults.sort_by_key(|(line, ..)| *line);
    let entry = |(line, path, given)| Entry { path, given, origin: origin_at(line) };
    let fault = |(line, what, rule)| Fault { what, origin: origin_at(line), rule };
    (reading.entries.into_iter().map(entry).collect(), reading.faults.into_iter().map(fault).collect())
}

struct Reading<'a> {
    text: &'a str,
    /// The parser made nothing up.
    is_whole: bool,
    entries: Vec<(usize, String, Given)>,
    faults: Vec<(usize, String, String)>,
}

impl Reading<'_> {
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let path = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
            let line = line_of(self.text, key.span().start);
            match value.get_ref() {
                // Only sections are tables; what stands deeper is told by its whole path.
                // One with nothing in it is told too: its name may be wrong, or there is a value missing.
                DeValue::Table(inner) if self.is_whole && inner.is_empty() && !key::is_section(&path) => {
                    self.faults.push((line, path.clone(), key::no_table(&path)));
                }
                DeValue::Table(inner) => self.table(&path, inner),
                other => match to_given(other) {
                    Ok(given) => self.entries.push((line, path, given)),
                    Err(rule) => self.faults.push((line, path, rule)),
                },
            }
        }
    }
}

fn to_given(value: &DeValue<'_>) -> Result<Given, String> {
    match value {
        DeValue::String(text) => Ok(Given::Quoted(text.to_string())),
        DeValue::Integer(number) => Ok(Given::Number(number.to_string())),
        DeValue::Boolean(truth) => Ok(Given::Truth(*truth)),
        DeValue::Array(items) => items.iter().map(Spanned::get_ref).map(item).collect::<Result<_, _>>().map(Given::List),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => {
            Err(format!("must be text, a whole number or a list of texts, not a TOML {}", value.type_str()))
        }
    }
}

fn item(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(_) | DeValue::Boolean(_) | DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            Err(format!("must be a list of texts, and has a TOML {} in it", value.type_str()))
        }
    }
}

/// Lines count from 1.
fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1
}
