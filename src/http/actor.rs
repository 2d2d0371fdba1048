//! The actor: who asks for a write, as far as a door can tell. It goes with the record, so that every node can say who did it.
//!
//! Nobody proves it: it is the caller's own word for itself, and the address the connection came from, which may be a proxy's.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap};

use super::line;
use crate::model::SUBSCRIBER_BYTES_MAX;
use crate::registry::NOTE_BYTES_MAX;

// With the longest address it stays below what a record takes.
const _: () = assert!(SUBSCRIBER_BYTES_MAX + 64 <= NOTE_BYTES_MAX);

/// Where a connection came from, among its requests' extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// Who asks: `cart/1.4 at 10.0.0.9`, or what of it is known.
#[derive(Debug, Clone)]
pub(super) struct Actor(pub(super) Option<Arc<str>>);

impl Actor {
    /// Of a request with this head.
    pub(super) fn of(headers: &HeaderMap, extensions: &Extensions) -> Self {
        let name = line::name(headers).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        let address = extensions.get::<Peer>().map(|peer| peer.0.to_canonical());
        Self(match (name, address) {
            (Some(name), Some(address)) => Some(format!("{name} at {address}").into()),
            (Some(name), None) => Some(name.into()),
            (None, Some(address)) => Some(address.to_string().into()),
            (None, None) => None,
        })
    }
}

impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers, &parts.extensions))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn actor(name: Option<&[u8]>, address: Option<&str>) -> Option<String> {
        let (mut headers, mut extensions) = (HeaderMap::new(), Extensions::new());
        headers.extend(name.map(|name| (axum::http::HeaderName::from_static("muster-client"), HeaderValue::from_bytes(name).unwrap())));
        if let Some(address) = address {
            extensions.insert(Peer(address.parse().unwrap()));
        }
        Actor::of(&headers, &extensions).0.map(|actor| actor.to_string())
    }

    #[test]
    fn who_asks_is_what_it_calls_itself_and_where_it_comes_from() {
        assert_eq!(actor(Some(b"cart/1.4"), Some("10.0.0.9")).unwrap(), "cart/1.4 at 10.0.0.9");
        assert_eq!(actor(Some(b" "), Some("::ffff:10.0.0.9")).unwrap(), "10.0.0.9");
        assert_eq!(actor(Some(b"cart/1.4"), None).unwrap(), "cart/1.4");
        assert_eq!(actor(None, None), None);
    }

    #[test]
    fn whatever_it_calls_itself_a_record_takes_it() {
        for name in [&[b'x'; 4000][..], b"a\tb", b"\xff\xfe", b"\t"] {
            let actor = actor(Some(name), Some("fe80:1234:1234:1234:1234:1234:1234:1234")).unwrap();
            assert!(actor.len() <= NOTE_BYTES_MAX && !actor.chars().any(char::is_control), "{actor}");
        }
    }
}
