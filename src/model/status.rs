//! Statuses: what a provider says of itself, and what consumers see.

use std::fmt;
use std::str::FromStr;

/// What a provider says of its instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum Reported {
    /// Not to be called yet.
    Starting,
    /// To be called.
    #[default]
    Up,
}

/// What consumers see: the effective status of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Status {
    /// The provider said so.
    Starting,
    /// To be called.
    Up,
    /// Its lease is late: it may still answer.
    Suspect,
    /// It is held for dead, and leaves the list soon.
    Down,
    /// It leaves: nothing new is to be sent there.
    Draining,
}

impl Status {
    /// Every status, in the order of the API.
    pub const ALL: [Self; 5] = [Self::Starting, Self::Up, Self::Suspect, Self::Down, Self::Draining];

    /// The word of the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Draining => "draining",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Status {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(())
    }
}

impl Reported {
    /// Every one, in the order of the API.
    pub const ALL: [Self; 2] = [Self::Starting, Self::Up];

    /// The word of the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Status::from(self).as_str()
    }
}

impl From<Reported> for Status {
    fn from(reported: Reported) -> Self {
        match reported {
            Reported::Starting => Self::Starting,
            Reported::Up => Self::Up,
        }
    }
}
