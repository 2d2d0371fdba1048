//! Causes: why a record is as it is. Each travels with its change, so any node can answer.

use std::fmt;

/// Why something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// A provider registered it.
    Registered,
    /// Its provider said something else of it.
    Updated,
    /// Its lease's deadline passed.
    Expired,
    /// A heartbeat came back.
    Recovered,
    /// Its provider, or somebody, took it away.
    Deregistered,
    /// A new life of the process took its place.
    Superseded,
    /// Another node became its owner.
    Adopted,
}

impl Cause {
    /// The word of the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Updated => "updated",
            Self::Expired => "expired",
            Self::Recovered => "recovered",
            Self::Deregistered => "deregistered",
            Self::Superseded => "superseded",
            Self::Adopted => "adopted",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
