//! Selections: which of a service's instances a consumer asked for. Parsed once, normalised, hashable.

use std::sync::Arc;

use super::Listed;

/// Which of a service's instances are meant; two that mean the same are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Selection {}

/// A selection that could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct SelectionError {
    /// The query key that is wrong.
    pub parameter: String,
    /// What it must be.
    pub detail: String,
}

impl Selection {
    /// The instances that are meant, in the order given.
    pub fn apply<'a>(&self, instances: impl Iterator<Item = &'a Arc<Listed>>) -> Vec<&'a Arc<Listed>> {
        instances.collect()
    }
}
