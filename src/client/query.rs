//! A request's query: pairs, in their order.

use crate::model::Namespace;

/// What follows the `?`; values are encoded when they are sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// The query that names a namespace.
    #[must_use]
    pub fn of_namespace(namespace: &Namespace) -> Self {
        Self::default().with("namespace", namespace.as_str())
    }

    /// The same with one pair more.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.push((key.into(), value.into()));
        self
    }

    /// Every pair.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}
