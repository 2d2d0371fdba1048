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
    /// Its owner is gone, and another node took it over without having heard its provider.
    OwnerLost,
    /// It is silent, as are so many others with it that their silence proves nothing: it stays listed.
    Preserved,
    /// An operator said so. No record's own: lists say it of what is listed otherwise than its record is.
    Overridden,
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
            Self::OwnerLost => "owner_lost",
            Self::Preserved => "preserved",
            Self::Overridden => "overridden",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
