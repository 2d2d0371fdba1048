//! Faults: what is wrong with a configuration, where it was said, and what it must be.

use std::fmt;

use super::Origin;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key and the value as it was given, secrets masked; the key alone where there is no value to show.
    pub what: String,
    /// Where it was said.
    pub origin: Origin,
    /// The rule, as a sentence.
    pub rule: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, origin, rule } = self;
        match (what.is_empty(), origin) {
            (true, _) => write!(f, "{origin}: {rule}"),
            (false, Origin::Default) => write!(f, "{what}: {rule}"),
            (false, _) => write!(f, "{what} ({origin}): {rule}"),
        }
    }
}

/// Everything that is wrong with a configuration; never empty. Nothing was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// At least one fault.
    #[must_use]
    pub(super) fn new(faults: Vec<Fault>) -> Self {
        debug_assert!(!faults.is_empty(), "no fault is no failure");
        Self(faults)
    }

    /// One by one, in the order of their sources.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "the configuration has {count} {}; nothing was started", if count == 1 { "fault" } else { "faults" })?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for Faults {}
