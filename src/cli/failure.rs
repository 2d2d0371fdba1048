//! Failures: what a verb says on stderr when it could not do what it was asked, and the exit code it leaves with.

use std::fmt;
use std::io;

use anstyle::{AnsiColor, Style};

use super::output;
use crate::client::{BuildError, Error};
use crate::config::Faults;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    Ok = 0,
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    /// Nodes do not agree, or one is not well.
    NotConverged = 4,
    /// No node can be reached, or none can answer now.
    Unavailable = 69,
    /// A node whose task does not turn has ended itself.
    Stalled = 70,
    /// Another node runs under this node's name.
    NameTaken = 75,
    /// The caller may not do that.
    Refused = 77,
    Configuration = 78,
}

/// Why a verb could not do what it was asked.
#[derive(Debug)]
pub(super) struct Failure {
    code: Code,
    /// What, and where.
    message: String,
    /// What to try.
    hint: Option<String>,
}

impl Failure {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says it on stderr. A failure without words is one that nobody is there to read.
    pub(super) fn tell(&self) -> Code {
        if !self.message.is_empty() {
            let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
            let hint = self.hint.as_deref().map_or_else(String::new, |hint| format!("\n  try: {hint}"));
            output::to_stderr(&format!("{red}error{red:#}: {}{hint}", self.message));
        }
        self.code
    }
}

impl fmt::Display for Failure {
    /// In one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message.replace("\n  ", "; ").replace('\n', "; "))
    }
}

impl From<io::Error> for Failure {
    /// What cannot be written to stdout. A closed pipe is a reader who has seen enough: no failure.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Code::Ok, ""),
            _ => Self::new(Code::Failed, format!("the answer cannot be written: {error}")),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (code, hint) = match &error {
            Error::Unreachable(attempts) if attempts.iter().any(|attempt| attempt.untrusted) => {
                (Code::Unavailable, Some("--ca FILE, with the certificate (PEM) of the authority that signs the nodes' certificates"))
            }
            Error::Unreachable(attempts) if attempts.iter().all(|attempt| attempt.proxied) => {
                (Code::Unavailable, Some("is a proxy needed to reach the node? no_proxy, with the node's host, goes past it"))
            }
            Error::Unreachable(_) => {
                (Code::Unavailable, Some("is a node running? `muster dev` starts some; -s or MUSTER_SERVER says where they are"))
            }
            Error::Foreign { .. } => (Code::Failed, Some("is that address a muster node, and of this version?")),
            Error::Refused { problem, .. } => match problem.status {
                401 | 403 => (Code::Refused, None),
                404 => (Code::NotFound, None),
                504 => (Code::Unavailable, Some("`muster nodes`, which shows how that node is")),
                503 => (Code::Unavailable, Some("the node cannot answer yet; again in a few seconds, or at another one with -s")),
                _ => (Code::Failed, None),
            },
        };
        Self { code, message: error.to_string(), hint: hint.map(str::to_owned) }
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        let hint = match &error {
            BuildError::Server(_) | BuildError::NoServer => "-s http://127.0.0.1:6878, or MUSTER_SERVER",
            BuildError::Token => "--token-file, with a file that holds the token and nothing else",
            BuildError::Tls(_) => "--ca, with the authorities to trust instead of the system's",
        };
        Self::usage(error.to_string()).hint(hint)
    }
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        Self::new(Code::Configuration, faults.to_string()).hint("`muster check --reference` lists every key")
    }
}
