//! Request ids: taken from the client when they are fit to be shown again, else made.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use uuid::{Builder, Uuid};

use crate::clock::Clock;

/// Where the id stands, in requests and answers.
pub(super) static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How long an id from outside may be.
const ID_BYTES_MAX: usize = 128;
const PREFIX: &[u8; 4] = b"req-";
const UUID_CHARS: usize = 36;
/// The golden ratio as a 64-bit fraction: steps of it visit every number once (splitmix64, Steele and others 2014).
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Makes ids that no two requests share: UUIDs of version 7, without asking the system for randomness each time. They are names, not secrets.
pub(super) struct RequestIds {
    clock: Clock,
    seed: [u8; 16],
    count: AtomicU64,
}

impl RequestIds {
    /// Ids of this process.
    #[must_use]
    pub(super) fn new(clock: Clock) -> Self {
        let seed = Uuid::now_v7().into_bytes();
        let count = u64::from_le_bytes(seed[8..].try_into().expect("unreachable: 16 bytes less 8 are 8"));
        Self { clock, seed, count: AtomicU64::new(count) }
    }

    /// The client's id when it is 1 to 128 of letters, digits and `._:/+=@-`; else a new one.
    #[must_use]
    pub(super) fn take_or_make(&self, headers: &HeaderMap) -> HeaderValue {
        match headers.get(&REQUEST_ID) {
            Some(given) if is_fit(given.as_bytes()) => given.clone(),
            Some(_) | None => self.make(),
        }
    }

    /// A new id.
    #[must_use]
    pub(super) fn make(&self) -> HeaderValue {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&scatter(self.count.fetch_add(STEP, Relaxed)).to_be_bytes());
        random[8..].copy_from_slice(&self.seed[14..]);
        let uuid = Builder::from_unix_timestamp_millis(self.clock.wall(), &random).into_uuid();
        let mut text = [0; PREFIX.len() + UUID_CHARS];
        text[..PREFIX.len()].copy_from_slice(PREFIX);
        uuid.hyphenated().encode_lower(&mut text[PREFIX.len()..]);
        HeaderValue::from_bytes(&text).expect("unreachable: hex digits and hyphens are visible ASCII")
    }
}

fn is_fit(id: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"._:/+=@-".contains(byte);
    matches!(id.len(), 1..=ID_BYTES_MAX) && id.iter().all(fits)
}

fn scatter(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn with_id(id: &[u8]) -> HeaderMap {
        HeaderMap::from_iter([(REQUEST_ID.clone(), HeaderValue::from_bytes(id).unwrap())])
    }

    #[test]
    fn made_ids_differ_and_are_uuids_of_version_7() {
        let ids = RequestIds::new(Clock::start());
        let made: BTreeSet<String> = (0..10_000).map(|_| ids.make().to_str().unwrap().to_owned()).collect();
        assert_eq!(made.len(), 10_000);
        for id in made {
            assert_eq!(Uuid::parse_str(id.strip_prefix("req-").unwrap()).unwrap().get_version_num(), 7);
        }
    }

    #[test]
    fn an_id_is_taken_only_when_it_is_fit_to_be_shown() {
        let ids = RequestIds::new(Clock::start());
        assert_eq!(ids.take_or_make(&with_id(b"abc-1/2")), "abc-1/2");
        for unfit in [&b""[..], b"a b", b"<script>", "é".as_bytes(), &[b'a'; 129]] {
            assert!(ids.take_or_make(&with_id(unfit)).to_str().unwrap().starts_with("req-"));
        }
    }
}
