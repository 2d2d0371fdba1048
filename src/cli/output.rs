//! Output: answers as tables, as the API's JSON, as lines, as names. Colour reaches a terminal only, and none where `NO_COLOR` is set.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use comfy_table::{Cell, ContentArrangement, TableStyle};

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Columns for people
    Table,
    /// More columns
    Wide,
    /// The API's own body
    Json,
    /// One object a line
    Ndjson,
    /// One name a line
    Name,
}

/// Columns for people.
pub(super) struct Table(comfy_table::Table);

impl Table {
    pub(super) fn new(header: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        // Colour is put in whatever stdout is; `anstream` takes it out again where nobody sees it.
        table.load_style(TableStyle::new()).set_content_arrangement(ContentArrangement::Disabled).enforce_styling();
        table.set_header(header.iter().map(Cell::new));
        Self(table)
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.add_row(cells.into_iter().map(|text| match colour_of(&text) {
            Some(colour) => Cell::new(&text).fg(colour),
            None => Cell::new(&text),
        }));
    }

    pub(super) fn print(mut self) -> io::Result<()> {
        self.0.column_iter_mut().for_each(|column| {
            column.set_padding((0, 2));
        });
        self.0.lines().try_for_each(|row| line(row.trim_end()))
    }
}

/// Statuses and states have colours of their own wherever they stand.
fn colour_of(word: &str) -> Option<comfy_table::Color> {
    match word {
        "up" | "ready" => Some(comfy_table::Color::Green),
        "suspect" | "warming" | "leaving" | "preserving" => Some(comfy_table::Color::Yellow),
        "down" | "dead" => Some(comfy_table::Color::Red),
        "draining" | "starting" => Some(comfy_table::Color::Cyan),
        _ => None,
    }
}

/// A word in the colour that tables give it.
pub(super) fn coloured(word: &str) -> String {
    let colour = match word {
        "+" | "up" => AnsiColor::Green,
        "~" | "suspect" => AnsiColor::Yellow,
        "-" | "down" => AnsiColor::Red,
        "draining" | "starting" => AnsiColor::Cyan,
        _ => return word.to_owned(),
    };
    let style = Style::new().fg_color(Some(colour.into()));
    format!("{style}{word}{style:#}")
}

/// Why an answer takes a while, on stderr.
pub(super) fn waiting(why: &str) {
    // When stderr is closed nobody is there to read it.
    let _ = writeln!(anstream::stderr(), "waiting: {why}");
}

/// One line on stdout, at once.
pub(super) fn line(text: &str) -> io::Result<()> {
    let mut stdout = anstream::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

/// One line on stdout from a verb whose work goes on whether or not anybody reads it.
pub(super) fn say(text: &str) {
    let _ = line(text);
}

/// Text on stdout as it is.
pub(super) fn write(text: &str) -> io::Result<()> {
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// The API's own body, and a line's end.
pub(super) fn body(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    if !bytes.ends_with(b"\n") {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()
}

/// The objects of one of the body's lists, one a line, as the API wrote them.
pub(super) fn lines_of(bytes: &[u8], list: &str) -> io::Result<()> {
    let body: serde_json::Value = serde_json::from_slice(bytes)?;
    body[list].as_array().into_iter().flatten().try_for_each(|item| line(&item.to_string()))
}

/// A remark beside the answer: on stderr, so that what reads stdout is not disturbed.
pub(super) fn remark(text: &str) {
    let dim = Style::new().dimmed();
    // When stderr is closed nobody wants remarks.
    let _ = writeln!(anstream::stderr(), "{dim}{text}{dim:#}");
}

/// Milliseconds as people say them: `840ms`, `12s`, `3m`.
pub(super) fn ago(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms}ms"),
        1000..120_000 => format!("{}s", ms / 1000),
        120_000..7_200_000 => format!("{}m", ms / 60_000),
        _ => format!("{}h", ms / 3_600_000),
    }
}
