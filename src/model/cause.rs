//! Causes: why a record is as it is. Each travels with its change, so any node can answer.

use std::fmt;
use std::str::FromStr;

/// Why something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
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
    /// The connection that held its lease closed.
    Detached,
    /// Probes of it failed: no answer, or one that says that it is not well.
    ProbeFailed,
    /// It answers when it is looked at, though its provider is silent.
    ProbeSucceeded,
    /// Somebody said that it is to leave: nothing new is to be sent there.
    Drained,
    /// Another instance was registered under its address and port: its own process is likely gone.
    AddressReused,
    /// An operator said so. No record's own: lists say it of what is listed otherwise than its record is.
    Overridden,
}

impl Cause {
    /// Every cause, in the order of the API.
    pub const ALL: [Self; 15] = [
        Self::Registered,
        Self::Updated,
        Self::Expired,
        Self::Detached,
        Self::ProbeFailed,
        Self::ProbeSucceeded,
        Self::Recovered,
        Self::Drained,
        Self::Deregistered,
        Self::Overridden,
        Self::Superseded,
        Self::Adopted,
        Self::OwnerLost,
        Self::Preserved,
        Self::AddressReused,
    ];

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
            Self::Detached => "detached",
            Self::ProbeFailed => "probe_failed",
            Self::ProbeSucceeded => "probe_succeeded",
            Self::Drained => "drained",
            Self::AddressReused => "address_reused",
        }
    }

    /// What happened, in plain words, as a sentence without its end.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Registered => "its provider registered it",
            Self::Updated => "its provider said something else of it",
            Self::Expired => "its provider was not heard in time",
            Self::Recovered => "its provider was heard again",
            Self::Deregistered => "it was taken away by request",
            Self::Superseded => "a new life of its process took its place",
            Self::Adopted => "another node became its owner",
            Self::OwnerLost => "its owner is gone, and another node took it over without having heard its provider",
            Self::Preserved => "its provider is silent, but so are too many others for that to prove anything: it stays listed",
            Self::Detached => "the connection that held its lease closed",
            Self::ProbeFailed => "probes of it failed",
            Self::ProbeSucceeded => "it answers when it is looked at, though its provider is silent",
            Self::Drained => "somebody asked for it to leave: nothing new is to be sent there",
            Self::AddressReused => "another instance was registered under its address and port",
            Self::Overridden => "an operator's override says so",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Cause {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == text).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_one_cause() {
        for cause in Cause::ALL {
            assert_eq!(cause.as_str().parse(), Ok(cause));
            assert!(!cause.sentence().ends_with('.') && cause.sentence().contains(' '));
        }
    }
}
