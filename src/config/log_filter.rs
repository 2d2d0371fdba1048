//! The log's filter: a level for everything, and levels for parts of the program. What names no part that logs, or no level, would be taken
//! by the log's own parser, and silence what it was to show.

use super::given::guess;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The modules that log, ours and those of the libraries. A test holds this against the code.
const TARGETS: [&str; 27] = [
    "async_nats",
    "h2",
    "hyper_util",
    "muster::bus::inbound",
    "muster::bus::nats::watchman",
    "muster::bus::outbound",
    "muster::cli::serve",
    "muster::cli::start",
    "muster::http::connection",
    "muster::http::edge",
    "muster::http::listener",
    "muster::http::operate::forget",
    "muster::http::operate::leave",
    "muster::http::tls",
    "muster::http::watch",
    "muster::log",
    "muster::log::sink",
    "muster::node::history::journal",
    "muster::node::history::lines",
    "muster::node::inquiry",
    "muster::node::private_file",
    "muster::node::report",
    "muster::node::saver",
    "muster::node::store",
    "muster::node::watchdog",
    "muster::reload",
    "muster::shutdown",
];

/// The directives, where each of them says something.
pub(super) fn checked(text: &str) -> Result<String, String> {
    let directives: Vec<_> = text.split(',').map(str::trim).filter(|directive| !directive.is_empty()).collect();
    if directives.is_empty() {
        return Err(format!("must be a level ({}), or like \"warn,muster::http=debug\"", LEVELS.join(", ")));
    }
    directives.iter().try_for_each(|directive| check(directive))?;
    Ok(directives.join(","))
}

fn check(directive: &str) -> Result<(), String> {
    match directive.split_once('=') {
        None if is_level(directive) => Ok(()),
        None if is_target(directive) => Err(format!("`{directive}` needs a level, like {directive}=debug")),
        None => Err(no_level(directive)),
        Some((target, _)) if !is_target(target) => Err(format!("nothing named `{target}` logs{}", guess(target, targets()))),
        Some((_, level)) if is_level(level) => Ok(()),
        Some((_, level)) => Err(no_level(level)),
    }
}

fn no_level(word: &str) -> String {
    format!("`{word}` is no level: must be one of {}, or target=LEVEL{}", LEVELS.join(", "), guess(&word.to_ascii_lowercase(), LEVELS))
}

fn is_level(word: &str) -> bool {
    LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
}

/// It is one that logs, or holds some that do.
fn is_target(word: &str) -> bool {
    targets().any(|target| target == word)
}

/// What logs, and what that stands in.
fn targets() -> impl Iterator<Item = &'static str> {
    TARGETS.iter().flat_map(|target| target.match_indices("::").map(|(at, _)| &target[..at]).chain(std::iter::once(*target)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn what_says_something_is_taken_and_the_rest_is_told_with_what_was_meant() {
        for right in
            ["info", "WARN", "off", "warn,muster=debug", "info, muster::http=trace", "warn,muster::http::tls=debug,async_nats=info"]
        {
            let filter = checked(right).unwrap();
            assert!(tracing_subscriber::EnvFilter::try_new(&filter).is_ok(), "{right}");
        }
        let wrong = |text| checked(text).unwrap_err();
        for (text, meant) in
            [("debgu", "`debug`"), ("muster=infoo", "`info`"), ("mustr=info", "`muster`"), ("muster::htpp=info", "`muster::http`")]
        {
            assert!(wrong(text).ends_with(&format!("did you mean {meant}?")), "{text}: {}", wrong(text));
        }
        assert!(wrong("muster").contains("muster=debug"), "{}", wrong("muster"));
        for text in
            ["", " , ", "5", "true", "muster=", "=debug", "[span]=debug", "muster[x]=debug", "info;debug", "info debug", "muster::h=debug"]
        {
            assert!(checked(text).is_err(), "{text:?}");
        }
    }

    /// Modules under `folder` that log.
    fn logging(folder: &Path, path: &str, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if entry.path().is_dir() {
                logging(&entry.path(), &format!("{path}::{name}"), found);
            } else if let Some(name) = name.strip_suffix(".rs") {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
                for level in ["error", "warn", "info", "debug", "trace"] {
                    for (at, _) in text.match_indices(&format!("tracing::{level}!(")) {
                        let given = text[at..].split_once("!(").unwrap().1.trim_start().strip_prefix("target: \"");
                        found.insert(given.map_or_else(|| format!("{path}::{name}"), |rest| rest.split('"').next().unwrap().to_owned()));
                    }
                }
            }
        }
    }

    #[test]
    fn every_module_that_logs_can_be_named_and_no_other() {
        let mut found = BTreeSet::new();
        logging(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "muster", &mut found);
        let listed: BTreeSet<String> =
            TARGETS.iter().filter(|target| target.starts_with("muster")).map(|&target| target.to_owned()).collect();
        assert_eq!(listed, found, "TARGETS in src/config/log_filter.rs has to name every module that logs");
    }
}
