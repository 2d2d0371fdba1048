//! The trace of a run: what a person reads to see why, and what two runs of one seed have in common.

use std::fmt::Write as _;

/// How many lines are kept.
const LINES_MAX: usize = 200_000;

#[derive(Default)]
pub(crate) struct Trace {
    pub(crate) level: Level,
    lines: Vec<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Nothing is kept: a long batch is to be fast.
    #[default]
    Off,
    /// What changes.
    Changes,
    /// Every message and every question too.
    All,
}

impl Trace {
    pub(crate) fn say(&mut self, now: u64, line: impl FnOnce() -> String) {
        if self.level >= Level::Changes && self.lines.len() < LINES_MAX {
            self.lines.push(format!("{:>7}.{:03} {}", now / 1000, now % 1000, line()));
        }
    }

    pub(crate) fn say_more(&mut self, now: u64, line: impl FnOnce() -> String) {
        if self.level == Level::All {
            self.say(now, line);
        }
    }

    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The lines that contain one of these words; all of them where there are none.
    pub(crate) fn about(&self, words: &[&str]) -> String {
        let mut text = String::new();
        for line in self.lines.iter().filter(|line| words.is_empty() || words.iter().any(|word| line.contains(word))) {
            writeln!(text, "{line}").expect("unreachable: a string takes everything");
        }
        text
    }
}
