//! Holds the house rules that a compiler does not: which floor may know which, who may touch clocks, disk and bytes, and no leftovers.
//!
//! Each rule is a function from sources to findings; each is run over the tree, and seen red once on a bad sample.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

/// No file needs more lines than this; one with two ideas is two files.
const LINES_MAX: usize = 500;

/// Which of our own modules each module may name. The binary and its verbs wire everything and may know all.
const FLOORS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("registry", &["model"]),
    ("node", &["model", "registry", "wire", "api", "cidr", "clock", "shutdown", "metrics", "tls"]),
    ("bus", &["model", "registry", "node", "wire", "config", "clock", "random", "shutdown", "metrics"]),
    ("http", &["model", "registry", "node", "api", "config", "clock", "shutdown", "metrics", "nearest", "tls", "units"]),
    ("api", &["model", "units"]),
    ("wire", &["model", "registry"]),
    ("client", &["model", "api", "clock", "random", "tls"]),
    ("config", &["model", "registry", "cidr", "nearest", "tls", "units"]),
    ("cidr", &[]),
    ("clock", &[]),
    ("shutdown", &[]),
    ("tls", &[]),
    ("metrics", &[]),
    ("nearest", &[]),
    ("random", &[]),
    ("open_files", &[]),
    ("units", &[]),
    (
        "cli",
        &[
            "api",
            "bus",
            "client",
            "clock",
            "config",
            "http",
            "metrics",
            "model",
            "nearest",
            "node",
            "open_files",
            "random",
            "registry",
            "shutdown",
            "tls",
            "units",
        ],
    ),
];

/// Words that only some modules may use: (words, who may, why).
const RESERVED: &[(&[&str], &[&str], &str)] = &[
    (&["Instant::now", "SystemTime::now", "Timestamp::now", "Zoned::now"], &["clock"], "only clock.rs reads clocks"),
    (&["env::var", "env::vars"], &["config"], "only config reads the environment"),
    (
        &["std::fs", "tokio::fs", "fs::read", "fs::write", "File::open"],
        &["config", "cli", "node"],
        "only config, the verbs and the node's store touch files",
    ),
    (&["bincode"], &["wire"], "bincode stands in one place"),
    (&["async_nats"], &["bus"], "only the bus knows NATS"),
    (&["axum"], &["http"], "only one edge serves HTTP"),
    (
        &["hyper"],
        &["http", "node", "client"],
        "only one edge serves HTTP; the node's probes choose the address that they dial; the client names a proxy as its library finds it",
    ),
    (&["println!", "print!"], &["cli", "main"], "only the command line prints"),
];

/// Words that nobody's code uses, and why.
const FORBIDDEN: &[(&[&str], &str)] = &[
    (&[".unwrap()"], "say why it cannot fail: expect(\"unreachable: …\")"),
    (&["todo!", "unimplemented!", "dbg!"], "unfinished"),
    (&["unbounded_channel", "UnboundedSender", "mpsc::unbounded", "mpsc::channel::<", "std::sync::mpsc"], "every queue has a bound"),
    (&["#[allow(", "#![allow("], "an exception is #[expect(lint, reason = …)]"),
];

/// Words that the pure floors do not use: what they would let in is IO, time, chance or order by accident.
const IMPURE: &[&str] = &[
    "serde",
    "tokio",
    "tracing",
    "std::time",
    "std::net::Tcp",
    "std::thread",
    "parking_lot",
    "Mutex",
    "RwLock",
    "HashMap",
    "HashSet",
    "rand::",
];

/// Words that mark work put off.
const LEFTOVERS: &[&str] = &["TODO", "FIXME", "XXX", "HACK"];

/// One file, by its path from the repository's root.
struct Source {
    path: String,
    text: String,
    /// It is compiled for unit tests only.
    is_test: bool,
}

/// A rule broken at a line.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    line: usize,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), is_test: false }
    }

    /// The module directly under the crate that this file belongs to: `http` for `src/http/feed.rs`; `None` outside `src`.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        inside.split('/').next().map(|first| first.trim_end_matches(".rs"))
    }

    /// Lines with their numbers, without comments, up to the file's own unit tests.
    fn code(&self) -> Vec<(usize, String)> {
        if self.is_test {
            return Vec::new();
        }
        let end = self.text.find("#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        self.text[..end].lines().enumerate().map(|(index, line)| (index + 1, without_comment(line).to_owned())).collect()
    }

    fn finding(&self, line: usize, what: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, what: what.into() }
    }

    /// Where the code contains one of `words`, and which.
    fn uses_of<'a>(&self, words: &'a [&str]) -> Vec<(usize, &'a str)> {
        let mut uses = Vec::new();
        for (number, line) in self.code() {
            uses.extend(words.iter().filter(|word| contains_word(&line, word)).map(|word| (number, *word)));
        }
        uses
    }
}

/// The line up to `//`, where that is not inside a string.
fn without_comment(line: &str) -> &str {
    let bytes = line.as_bytes();
    let mut in_string = false;
    let mut index = 0;
    while index < bytes.len() {
        match bytes[index] {
            b'\\' if in_string => index += 1,
            b'"' => in_string = !in_string,
            b'/' if !in_string && bytes.get(index + 1) == Some(&b'/') => return &line[..index],
            _ => {}
        }
        index += 1;
    }
    line
}

/// Whether `word` stands in `line` and is not the tail of a longer name.
fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !word.starts_with(char::is_alphanumeric) || !before.is_some_and(|char| char.is_alphanumeric() || char == '_')
    })
}

/// Our own modules that the code names, as `crate::module` or within `crate::{…}`.
fn own_modules_named(source: &Source) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    let lines = source.code();
    for (index, (number, line)) in lines.iter().enumerate() {
        for (at, prefix) in line.match_indices("crate::") {
            let rest = &line[at + prefix.len()..];
            if rest.starts_with('{') {
                let group: String = lines[index..].iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>().join(" ");
                named.extend(first_names_of_group(&group[group.find("crate::{").unwrap_or(0) + 8..]).map(|name| (*number, name)));
            } else {
                named.push((*number, leading_name(rest)));
            }
        }
    }
    named
}

fn leading_name(text: &str) -> String {
    text.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect()
}

/// The first name of each path in `a::{b, c}, d::e}…`.
fn first_names_of_group(text: &str) -> impl Iterator<Item = String> {
    let mut depth = 0_usize;
    let mut outer = String::new();
    for char in text.chars() {
        match char {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            _ if depth == 0 => outer.push(char),
            _ => {}
        }
    }
    outer.split(',').map(|path| leading_name(path.trim())).filter(|name| !name.is_empty()).collect::<Vec<_>>().into_iter()
}

fn floors(source: &Source) -> Vec<Finding> {
    let Some(module) = source.module() else { return Vec::new() };
    if matches!(module, "lib" | "main") {
        return Vec::new();
    }
    let Some((_, below)) = FLOORS.iter().find(|(name, _)| *name == module) else {
        return vec![source.finding(1, format!("`{module}` stands on no floor: give it one in tests/tidy.rs"))];
    };
    own_modules_named(source)
        .into_iter()
        .filter(|(_, named)| named != module && !below.contains(&named.as_str()))
        .map(|(line, named)| source.finding(line, format!("`{module}` must not know `{named}`")))
        .collect()
}

fn reserved_words(source: &Source) -> Vec<Finding> {
    let Some(module) = source.module() else { return Vec::new() };
    let not_ours = RESERVED.iter().filter(|(_, who, _)| !who.contains(&module));
    not_ours
        .flat_map(|(words, _, why)| {
            source.uses_of(words).into_iter().map(move |(line, word)| source.finding(line, format!("`{word}`: {why}")))
        })
        .collect()
}

fn forbidden_words(source: &Source) -> Vec<Finding> {
    if source.module().is_none() {
        return Vec::new();
    }
    FORBIDDEN
        .iter()
        .flat_map(|(words, why)| {
            source.uses_of(words).into_iter().map(move |(line, word)| source.finding(line, format!("`{word}`: {why}")))
        })
        .collect()
}

fn pure_floors(source: &Source) -> Vec<Finding> {
    if !matches!(source.module(), Some("model" | "registry")) {
        return Vec::new();
    }
    source.uses_of(IMPURE).into_iter().map(|(line, word)| source.finding(line, format!("`{word}` has no place on a pure floor"))).collect()
}

fn expectations(source: &Source) -> Vec<Finding> {
    if source.module().is_none() {
        return Vec::new();
    }
    let is_unreasoned = |line: &str| line.contains(".expect(\"") && !line.contains(".expect(\"unreachable: ");
    let unreasoned = source.code().into_iter().filter(|(_, line)| is_unreasoned(line));
    unreasoned.map(|(line, _)| source.finding(line, "expect(\"…\") says `unreachable: ` and why")).collect()
}

fn first_line(source: &Source) -> Vec<Finding> {
    if source.text.starts_with("//! ") { Vec::new() } else { vec![source.finding(1, "the first line says the file's idea: `//! …`")] }
}

fn length(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().count();
    if lines <= LINES_MAX {
        Vec::new()
    } else {
        vec![source.finding(lines, format!("more than {LINES_MAX} lines: which two ideas are these?"))]
    }
}

fn leftovers(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        findings
            .extend(LEFTOVERS.iter().filter(|word| contains_word(line, word)).map(|word| source.finding(index + 1, format!("`{word}`"))));
    }
    findings
}

/// `x.rs` stands beside `x/`, and nothing is called `mod.rs`.
fn folders(sources: &[Source]) -> Vec<Finding> {
    let paths: BTreeSet<&str> = sources.iter().map(|source| source.path.as_str()).collect();
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.module().is_some()) {
        let folder = Path::new(&source.path).parent().map(|parent| parent.display().to_string()).unwrap_or_default();
        if source.path.ends_with("/mod.rs") {
            findings.push(source.finding(1, "`x.rs` beside `x/`, never `mod.rs`"));
        } else if folder != "src" && !paths.contains(format!("{folder}.rs").as_str()) {
            findings.push(source.finding(1, format!("`{folder}/` has no `{folder}.rs` beside it")));
        }
    }
    findings
}

/// Every file of `src` is reached by `mod` from `lib.rs` or `main.rs`.
fn dead_files(sources: &[Source]) -> Vec<Finding> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<String> = vec!["src/lib.rs".into(), "src/main.rs".into()];
    while let Some(path) = next.pop() {
        if let Some(source) = sources.iter().find(|source| source.path == path)
            && reached.insert(path.clone())
        {
            next.extend(children(source).into_iter().map(|(path, _)| path));
        }
    }
    let dead = sources.iter().filter(|source| source.module().is_some() && !reached.contains(&source.path));
    dead.map(|source| source.finding(1, "no `mod` reaches this file")).collect()
}

/// The files that a file's `mod x;` lines name, and whether for unit tests only.
fn children(source: &Source) -> Vec<(String, bool)> {
    let folder = match source.path.as_str() {
        "src/lib.rs" | "src/main.rs" => "src",
        path => path.trim_end_matches(".rs"),
    };
    let before = std::iter::once("").chain(source.text.lines());
    let declared = source.text.lines().zip(before).filter_map(|(line, before)| {
        let (visibility, name) = line.strip_suffix(';')?.split_once("mod ")?;
        let is_test = before == "#[cfg(test)]";
        (visibility.is_empty() || visibility.starts_with("pub")).then(|| (format!("{folder}/{name}.rs"), is_test))
    });
    declared.collect()
}

/// Marks what is declared for unit tests only, and all below it.
fn mark_tests(sources: &mut [Source]) {
    let declared: Vec<(String, bool)> = sources.iter().flat_map(children).collect();
    for (path, _) in declared.iter().filter(|(_, is_test)| *is_test) {
        let below = format!("{}/", path.trim_end_matches(".rs"));
        for source in sources.iter_mut().filter(|source| source.path == *path || source.path.starts_with(&below)) {
            source.is_test = true;
        }
    }
}

/// Every Rust file of the repository but this one, whose samples break every rule.
fn tree() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> = ["src", "tests", "benches"].map(|name| root.join(name)).into();
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("a folder that can be read").path();
            let name = path.strip_prefix(root).expect("it is under the root").display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests/tidy.rs" {
                sources.push(Source::new(&name, &std::fs::read_to_string(&path).expect("a source is text")));
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(sources.iter().any(|source| source.path == "src/lib.rs"), "the tree was not found");
    mark_tests(&mut sources);
    sources
}

fn assert_none(findings: &[Finding]) {
    assert!(
        findings.is_empty(),
        "{} findings:\n{}",
        findings.len(),
        findings.iter().map(|finding| format!("  {finding}\n")).collect::<Vec<_>>().concat()
    );
}

fn assert_each(rule: impl Fn(&Source) -> Vec<Finding>) {
    assert_none(&tree().iter().flat_map(rule).collect::<Vec<_>>());
}

/// The rule finds something in the bad sample, and nothing in the good one.
fn assert_tells(rule: impl Fn(&Source) -> Vec<Finding>, path: &str, bad: &str, good: &str) {
    assert!(!rule(&Source::new(path, bad)).is_empty(), "{path} passed with: {bad}");
    assert_none(&rule(&Source::new(path, good)));
}

#[test]
fn arrows_between_floors_point_down() {
    assert_tells(floors, "src/registry/log.rs", "use crate::node::Handle;", "use crate::model::Seq;");
    assert_tells(floors, "src/http.rs", "use crate::{api, bus::nats};", "use crate::{api::{a, bus}, node};");
    assert_tells(floors, "src/bus/nats.rs", "fn f() -> crate::http::Bound {}", "// crate::http\nuse crate::bus::subject;");
    assert_each(floors);
}

#[test]
#[should_panic(expected = "no floor")]
fn a_new_module_needs_a_floor() {
    assert_none(&floors(&Source::new("src/cellar.rs", "")));
}

#[test]
fn clocks_files_bytes_and_output_have_one_place_each() {
    assert_tells(reserved_words, "src/node/leases.rs", "let t = Instant::now();", "let t = clock.mono();");
    assert_tells(reserved_words, "src/http.rs", "std::env::var(\"HOME\")", "clap(env = \"HOME\")");
    assert_tells(reserved_words, "src/bus.rs", "bincode::serde::encode()", "wire::encode() // bincode");
    assert_tells(reserved_words, "src/node.rs", "println!()", "eprintln_all()");
    assert_each(reserved_words);
}

#[test]
fn nothing_is_unfinished_or_unbounded() {
    assert_tells(forbidden_words, "src/a.rs", "x.unwrap()", "x.unwrap_or(1)\n#[cfg(test)]\nmod tests {\nx.unwrap()\n}");
    assert_tells(forbidden_words, "src/a.rs", "todo!()", "\"to do\"");
    assert_tells(forbidden_words, "src/a.rs", "mpsc::unbounded_channel()", "mpsc::channel(CHANGES_MAX)");
    assert_tells(forbidden_words, "src/a.rs", "#[allow(dead_code)]", "#[expect(dead_code, reason = \"…\")]");
    let mut sources = [
        Source::new("src/a.rs", "mod b;\n#[cfg(test)]\nmod tests;\n"),
        Source::new("src/a/tests/c.rs", "x.unwrap()"),
        Source::new("src/a/b.rs", "x.unwrap()"),
    ];
    mark_tests(&mut sources);
    assert_eq!(sources.iter().map(|source| forbidden_words(source).len()).collect::<Vec<_>>(), [0, 0, 1]);
    assert_each(forbidden_words);
}

#[test]
fn the_pure_floors_have_no_io_no_clock_and_no_chance() {
    assert_tells(pure_floors, "src/registry/lease.rs", "use std::collections::HashMap;", "use std::collections::BTreeMap;");
    assert_tells(pure_floors, "src/model/name.rs", "#[derive(serde::Serialize)]", "/// serde is elsewhere");
    assert_each(pure_floors);
}

#[test]
fn what_cannot_fail_says_why() {
    assert_tells(expectations, "src/a.rs", "x.expect(\"it works\")", "x.expect(\"unreachable: parsed above\")");
    assert_each(expectations);
}

#[test]
fn every_file_begins_with_its_idea() {
    assert_tells(first_line, "src/a.rs", "use std::fmt;\n", "//! Says it.\n");
    assert_each(first_line);
}

#[test]
fn no_file_is_long() {
    assert_tells(length, "src/a.rs", &"\n".repeat(LINES_MAX + 1), &"\n".repeat(LINES_MAX));
    assert_each(length);
}

#[test]
fn nothing_is_left_for_later() {
    assert_tells(leftovers, "src/a.rs", "// TODO: later", "// what is left to do stands in the issues");
    assert_each(leftovers);
}

#[test]
fn folders_stand_beside_their_file() {
    let of = |paths: &[&str]| folders(&paths.iter().map(|path| Source::new(path, "")).collect::<Vec<_>>());
    assert!(!of(&["src/a/mod.rs", "src/a.rs"]).is_empty());
    assert!(!of(&["src/a/b.rs"]).is_empty());
    assert_none(&of(&["src/a.rs", "src/a/b.rs"]));
    assert_none(&folders(&tree()));
}

#[test]
fn every_file_is_reached() {
    let lib = || Source::new("src/lib.rs", "pub mod a;\n");
    let dead = dead_files(&[lib(), Source::new("src/a.rs", "mod b;\n"), Source::new("src/a/b.rs", ""), Source::new("src/a/c.rs", "")]);
    assert_eq!(dead.iter().map(|finding| finding.path.as_str()).collect::<Vec<_>>(), ["src/a/c.rs"]);
    assert_none(&dead_files(&tree()));
}
