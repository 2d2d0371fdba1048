//! What can go wrong between a program and a cluster; every message says what, where, and what it did to the state.

use std::fmt;

use crate::api::problem::Problem;

/// Why a client could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A server's address cannot be one.
    #[error("`{0}` is not a server: must be like http://127.0.0.1:6878 or node-1.example:6878")]
    Server(String),
    /// No server was given.
    #[error("no server was given")]
    NoServer,
    /// A header cannot carry the token. It is not shown.
    #[error("the token cannot be sent: it must be plain ASCII without line breaks")]
    Token,
    /// The TLS library could not be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// Why a call failed. Of a write nothing is known to have changed, but for [`Error::Unreachable`] after a timeout.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Error {
    /// No server answered.
    Unreachable(Vec<Attempt>),
    /// A node said no.
    Refused {
        /// Which.
        server: String,
        /// Why.
        problem: Box<Problem>,
    },
    /// Something answered that is no node of ours, or of a version too far from this one.
    Foreign {
        /// Which.
        server: String,
        /// What is strange about its answer.
        what: String,
        /// The status of an answer that was no success.
        status: Option<u16>,
    },
}

/// One server that did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// Which.
    pub server: String,
    /// In words.
    pub why: String,
    /// It shows a certificate that this program does not trust.
    pub untrusted: bool,
    /// It was asked through a proxy, which `why` names.
    pub proxied: bool,
}

impl Error {
    /// The status of the refusal, the node's or of what stands before it, where asking again will not help; `None`: it may.
    pub(super) fn lasting(&self) -> Option<u16> {
        let status = match self {
            Self::Refused { problem, .. } => problem.status,
            Self::Foreign { status, .. } => (*status)?,
            Self::Unreachable(_) => return None,
        };
        // 408, 425 and 429 are about this one request, and what is not the client's fault passes.
        ((400..500).contains(&status) && ![408, 425, 429].contains(&status)).then_some(status)
    }

    /// The problem's code, when a node said no.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { problem, .. } => Some(problem.code.as_str()),
            Self::Unreachable(_) | Self::Foreign { .. } => None,
        }
    }

    /// What a node waits for that does not know enough yet to answer; `None`: another error.
    pub(super) fn warming_reason(&self) -> Option<&str> {
        match self {
            Self::Refused { problem, .. } if problem.code == "warming" => Some(&problem.detail),
            Self::Refused { .. } | Self::Unreachable(_) | Self::Foreign { .. } => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(attempts) => {
                write!(f, "no node can be reached")?;
                attempts.iter().try_for_each(|Attempt { server, why, .. }| write!(f, "\n  {server}: {why}"))
            }
            Self::Refused { server, problem } => {
                write!(f, "{server} refused ({} {}): {}", problem.status, problem.code, problem.detail)?;
                problem.errors.iter().try_for_each(|fault| {
                    let place = fault.pointer.as_deref().or(fault.parameter.as_deref()).unwrap_or("request");
                    write!(f, "\n  {place}: {}", fault.detail)
                })
            }
            Self::Foreign { server, what, .. } => write!(f, "{server} does not answer like a muster node: {what}"),
        }
    }
}

impl std::error::Error for Error {}
