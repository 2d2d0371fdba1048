//! What was given, and where: flags over environment over the file. Of each key the strongest word is kept.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::Fault;
use super::file::{self, Entry};
use super::given::Given;
use super::key::{self, KEYS};
use crate::nearest::nearest;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody gave one.
    Default,
    /// The file.
    File {
        /// Which.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// A variable of the environment.
    Environment(String),
    /// A flag of its own, or `--set`.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(variable) => f.write_str(variable),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// A flag of the command line with a key of its own.
#[derive(Debug, Clone)]
pub struct Flag {
    /// As it was written: `--listen`.
    pub flag: &'static str,
    /// The key it stands for.
    pub key: &'static str,
    /// What was given.
    pub value: String,
}

/// Everything that may say something about the configuration.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// What this verb takes where nobody says anything.
    pub defaults: Vec<(&'static str, &'static str)>,
    /// `-c`; without it the environment's `MUSTER_CONFIG`.
    pub file: Option<PathBuf>,
    /// Own flags.
    pub flags: Vec<Flag>,
    /// `--set section.key=value`, in their order; of two for one key the later holds.
    pub sets: Vec<String>,
    /// The environment, as pairs.
    pub environment: Vec<(String, String)>,
}

impl Inputs {
    /// Nothing but this process's environment.
    #[must_use]
    pub fn from_environment() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Self { environment: std::env::vars_os().filter_map(text).collect(), ..Self::default() }
    }

    /// A variable's value; an empty one is none.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(given, value)| given == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }
}

/// Where each key that somebody gave came from.
pub(super) type Origins = BTreeMap<&'static str, Origin>;

/// The strongest word for each key, not yet understood.
#[derive(Debug, Default)]
pub(super) struct Raw {
    pub(super) values: BTreeMap<&'static str, (Given, Origin)>,
}

impl Raw {
    /// The weakest source first, so that each stronger one overwrites.
    pub(super) fn gather(inputs: &Inputs) -> (Self, Vec<Fault>) {
        let mut raw = Self::default();
        let mut faults = Vec::new();
        for (path, value) in &inputs.defaults {
            raw.put(path, Given::Text((*value).to_owned()), Origin::Default);
        }
        raw.take_file(inputs, &mut faults);
        raw.take_environment(inputs, &mut faults);
        raw.take_sets(&inputs.sets, &mut faults);
        for Flag { flag, key, value } in &inputs.flags {
            raw.put(key, Given::Text(value.clone()), Origin::Flag(flag));
        }
        (raw, faults)
    }

    pub(super) fn into_origins(self) -> Origins {
        self.values.into_iter().map(|(key, (_, origin))| (key, origin)).collect()
    }

    fn take_file(&mut self, inputs: &Inputs, faults: &mut Vec<Fault>) {
        let Some(path) = inputs.file.clone().or_else(|| inputs.variable(FILE_VARIABLE).map(PathBuf::from)) else { return };
        let (entries, mut broken) = file::read(&path);
        faults.append(&mut broken);
        for Entry { path, given, origin } in entries {
            self.take(&path, given, origin, faults);
        }
    }

    fn take_environment(&mut self, inputs: &Inputs, faults: &mut Vec<Fault>) {
        for (name, value) in &inputs.environment {
            // An empty variable is how compose files and shells write "not given".
            if value.is_empty() || !name.starts_with("MUSTER_") || OTHER_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            match KEYS.iter().find(|key| key.variables().any(|variable| variable == *name)) {
                // Both names of one key: the shorter is the one that the help shows.
                Some(key) if *name != key.variable() && inputs.variable(&key.variable()).is_some() => {}
                Some(key) => self.put(key.path, Given::Text(value.clone()), Origin::Environment(name.clone())),
                None if looks_like_ours(name) => {
                    faults.push(Fault { what: name.clone(), origin: Origin::Default, rule: unknown_variable(name) });
                }
                None => {}
            }
        }
    }

    fn take_sets(&mut self, sets: &[String], faults: &mut Vec<Fault>) {
        for set in sets {
            let origin = Origin::Flag("--set");
            if let Some((path, value)) = set.split_once('=') {
                self.take(path.trim(), Given::Text(value.trim().to_owned()), origin, faults);
            } else {
                faults.push(Fault { what: set.clone(), origin, rule: "must be section.key=value".to_owned() });
            }
        }
    }

    fn take(&mut self, path: &str, given: Given, origin: Origin, faults: &mut Vec<Fault>) {
        match key::find(path) {
            Some(key) => self.put(key.path, given, origin),
            None => faults.push(Fault { what: path.to_owned(), origin, rule: unknown_key(path) }),
        }
    }

    fn put(&mut self, path: &'static str, given: Given, origin: Origin) {
        self.values.insert(path, (given, origin));
    }
}

/// Names the file; a setting of the start, not a key.
const FILE_VARIABLE: &str = "MUSTER_CONFIG";

/// Variables that are ours, but not a node's.
const OTHER_VARIABLES: [&str; 5] = [FILE_VARIABLE, "MUSTER_SERVER", "MUSTER_NAMESPACE", "MUSTER_OUTPUT", "MUSTER_TOKEN"];

fn unknown_key(path: &str) -> String {
    let (section, name) = path.split_once('.').unwrap_or(("", path));
    let same_name = KEYS.iter().find(|key| key.name() == name).map(|key| key.path);
    if let Some(known) = nearest(path, KEYS.iter().map(|key| key.path)).or(same_name) {
        return format!("unknown key; did you mean `{known}`?");
    }
    let names: Vec<_> = KEYS.iter().filter(|key| key.section() == section).map(key::Key::name).collect();
    if names.is_empty() {
        let guess = nearest(section, key::sections()).map_or(String::new(), |known| format!("did you mean [{known}]? "));
        return format!("unknown key; {guess}the sections are {}", key::sections().join(", "));
    }
    format!("unknown key; [{section}] has {}", names.join(", "))
}

/// In one of our sections, or a slip away from one of our names. Kubernetes puts variables into every pod that are named after the
/// services around it: of a service called `muster` or `muster-node` they begin like ours, and mean nothing to us.
fn looks_like_ours(name: &str) -> bool {
    let words: Vec<_> = name.split('_').collect();
    let from_kubernetes = words.windows(2).any(|pair| pair == ["SERVICE", "HOST"] || pair == ["SERVICE", "PORT"])
        || words.last() == Some(&"PORT")
        || words.windows(2).any(|pair| pair[0] == "PORT" && pair[1].bytes().all(|byte| byte.is_ascii_digit()));
    let in_a_section = || words.get(1).is_some_and(|word| key::sections().contains(&word.to_ascii_lowercase().as_str()));
    !from_kubernetes && (in_a_section() || nearest_variable(name).is_some())
}

fn unknown_variable(name: &str) -> String {
    match nearest_variable(name) {
        Some(known) => format!("unknown variable; did you mean `{known}`?"),
        None => "unknown variable; `muster check --reference` lists all there are".to_owned(),
    }
}

/// Held against what follows `MUSTER_`, which all have in common and would make anything look alike.
fn nearest_variable(name: &str) -> Option<String> {
    let names: Vec<_> = KEYS.iter().flat_map(key::Key::variables).chain(OTHER_VARIABLES.map(str::to_owned)).collect();
    let bare = |name: &str| name.trim_start_matches("MUSTER_").to_owned();
    let bares: Vec<_> = names.iter().map(|name| bare(name)).collect();
    nearest(&bare(name), bares.iter().map(String::as_str)).map(|bare| format!("MUSTER_{bare}"))
}
