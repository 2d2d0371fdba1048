//! The rhythm of every stream: how it begins, keeps both ends awake, and ends.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Interval, MissedTickBehavior};

use crate::api::consume::{Goodbye, Notice};
use crate::http::feed::plain;
use crate::http::jitter::jitter;

/// How often a comment is sent, so that both ends notice when the other is gone.
const COMMENT_EVERY: Duration = Duration::from_secs(10);
/// What a browser waits before it connects again, in ms: spread, so that a node's consumers do not all come at once.
const RETRY_MS: std::ops::RangeInclusive<u64> = 1000..=5000;

/// The first line of the first event: when to come back after a loss. No blank line follows: several libraries yield an empty event for a
/// block without data.
pub(in crate::http) fn retry() -> Bytes {
    format!("retry: {}\n", jitter(RETRY_MS)).into()
}

/// A comment line, which belongs to no event: no blank line follows, for the same reason.
pub(in crate::http) fn comment() -> Bytes {
    Bytes::from_static(b":\n")
}

/// How far what is sent can be relied on has changed.
pub(in crate::http) fn notice(stale: bool) -> Bytes {
    plain("notice", None, &Notice { stale: Some(stale), ..Notice::default() })
}

/// The last event: this node stops.
pub(in crate::http) fn goodbye() -> Bytes {
    plain("goodbye", None, &Goodbye { reconnect_ms: jitter(RETRY_MS) })
}

/// When comments are due: the first after one period.
pub(in crate::http) fn comments() -> Interval {
    after_each(COMMENT_EVERY)
}

/// Ready when `period` has passed, and then again each time it has.
pub(in crate::http) fn after_each(period: Duration) -> Interval {
    let mut interval = every(period);
    interval.reset();
    interval
}

/// Ready at once, and then again when `period` has passed since it last was.
pub(in crate::http) fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
