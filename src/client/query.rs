//! A request's query: pairs, in their order.

use std::collections::BTreeMap;

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

    /// How many pairs there are.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// How long it is in an address.
    #[must_use]
    pub(super) fn encoded_bytes(&self) -> usize {
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"*-._ ".contains(byte);
        let bytes = |text: &str| text.bytes().map(|byte| if is_plain(&byte) { 1 } else { 3 }).sum::<usize>();
        self.0.iter().map(|(key, value)| bytes(key) + bytes(value) + 2).sum()
    }

    /// As a body: an object with each key's values as an array.
    #[must_use]
    pub(super) fn to_body(&self) -> Vec<u8> {
        let mut object = BTreeMap::<&str, Vec<&str>>::new();
        for (key, value) in self.iter() {
            object.entry(key).or_default().push(value);
        }
        serde_json::to_vec(&object).expect("unreachable: texts are JSON")
    }

    /// Every pair.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}
