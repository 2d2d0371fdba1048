//! Subscribers: who holds an open stream or a long poll, as others are told of it.

use std::net::SocketAddr;
use std::sync::Arc;

/// How long what a subscriber calls itself may be.
pub const SUBSCRIBER_BYTES_MAX: usize = 128;

/// One who is told of changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subscriber {
    /// What it calls itself, NAME/VERSION; `None`: it says nothing. At most [`SUBSCRIBER_BYTES_MAX`], without control characters.
    pub name: Option<Arc<str>>,
    /// Where its connection comes from.
    pub address: SocketAddr,
    /// Since when, on its node's wall clock, in ms since 1970.
    pub since: u64,
}

/// What somebody calls itself, as it is kept: control characters go, and what is too long is cut.
#[must_use]
pub fn subscriber_name(text: &str) -> Option<Arc<str>> {
    let mut name = String::new();
    for char in text.chars().filter(|char| !char.is_control()) {
        if name.len() + char.len_utf8() > SUBSCRIBER_BYTES_MAX {
            break;
        }
        name.push(char);
    }
    (!name.is_empty()).then(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_cut_where_it_is_too_long_and_never_within_a_character() {
        assert_eq!(subscriber_name("cart/1.4").as_deref(), Some("cart/1.4"));
        assert_eq!(subscriber_name("a\nb\u{7f}").as_deref(), Some("ab"));
        assert_eq!(subscriber_name("\r\n"), None);
        assert_eq!(subscriber_name(&"é".repeat(100)).unwrap().len(), SUBSCRIBER_BYTES_MAX);
        assert_eq!(subscriber_name(&format!("a{}", "é".repeat(100))).unwrap().len(), SUBSCRIBER_BYTES_MAX - 1);
    }
}
