//! Scripts: failures that have names, each a text that says what happens, with the trace that it leaves written below it.
//!
//! A file of `scenarios/` is a script, a line `----`, and the trace of the last run. What a script may say stands in `script/play.rs`. Whoever
//! changes the protocol plays them, reads in the diff what became different, and lets it be written anew: `RECORD=1 tests/run sim every_script`.
//! A script whose first line is `pending: WHY` says what must come of it once that is there; it is named aloud, and not played.

mod play;

use std::fs;
use std::path::{Path, PathBuf};

use play::Stage;

const TRACE_BEGINS: &str = "----\n";
const PENDING: &str = "pending: ";

/// One file.
struct Script {
    path: PathBuf,
    text: String,
    /// As it was recorded; empty where it never was.
    trace: String,
}

impl Script {
    fn read(path: &Path) -> Self {
        let whole = fs::read_to_string(path).expect("a script can be read");
        let (text, trace) = whole.split_once(TRACE_BEGINS).unwrap_or((&whole, ""));
        Self { path: path.to_owned(), text: text.to_owned(), trace: trace.to_owned() }
    }

    fn name(&self) -> String {
        self.path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    fn pends_on(&self) -> Option<&str> {
        self.text.lines().next()?.strip_prefix(PENDING)
    }

    /// Plays it; the error says at which line it goes otherwise.
    fn play(&self) -> Result<String, String> {
        let mut stage = Stage::default();
        for (number, line) in self.text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() {
                stage.play(line).map_err(|why| format!("{}, line {} `{line}`: {why}\n{}", self.name(), number + 1, stage.trace()))?;
            }
        }
        Ok(stage.trace())
    }

    fn record(&self, trace: &str) {
        fs::write(&self.path, format!("{}{TRACE_BEGINS}{trace}", self.text)).expect("a script can be written");
    }
}

fn scripts() -> Vec<Script> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim/scenarios");
    let entries = fs::read_dir(&folder).expect("the scripts are there");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a folder can be read").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    paths.iter().map(|path| Script::read(path)).collect()
}

/// The first line in which two traces differ.
fn difference(recorded: &str, played: &str) -> String {
    let (mut old, mut new) = (recorded.lines(), played.lines());
    loop {
        match (old.next(), new.next()) {
            (Some(one), Some(other)) if one == other => {}
            (one, other) => {
                return format!("recorded: {}\n  played: {}", one.unwrap_or("its end"), other.unwrap_or("its end"));
            }
        }
    }
}

#[test]
fn every_script_plays_as_recorded() {
    let records = std::env::var_os("RECORD").is_some();
    let mut wrong = Vec::new();
    for script in scripts() {
        if let Some(why) = script.pends_on() {
            println!("PENDING {}: {why}", script.name());
            continue;
        }
        match script.play() {
            Ok(trace) if records => script.record(&trace),
            Ok(trace) if trace == script.trace => {}
            Ok(trace) => wrong.push(format!("{} leaves another trace.\n{}", script.name(), difference(&script.trace, &trace))),
            Err(why) => wrong.push(why),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_script_can_be_read() {
    let scripts = scripts();
    assert!(scripts.len() > 20, "there are only {} scripts", scripts.len());
    for script in scripts {
        for line in script.text.lines().filter(|line| !line.starts_with(PENDING)) {
            let line = line.split('#').next().unwrap_or_default().trim();
            assert!(line.is_empty() || play::is_known(line), "{}: nobody knows what `{line}` means", script.name());
        }
    }
}

#[test]
fn a_script_that_goes_otherwise_says_where() {
    let text = "nodes 2\nregister n0 a 1\nadvance 20\nexpect n1 a :2\n".to_owned();
    let script = Script { path: PathBuf::from("wrong.txt"), text, trace: String::new() };
    let why = script.play().expect_err("n1 lists :1");
    assert!(why.starts_with("wrong, line 4 `expect n1 a :2`: it is :1"), "{why}");
}
