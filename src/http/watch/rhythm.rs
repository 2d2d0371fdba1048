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

/// The first line: when to come back after a loss.
pub(in crate::http) fn retry() -> Bytes {
    format!("retry: {}\n\n", jitter(RETRY_MS)).into()
}

/// A line that says nothing.
pub(in crate::http) fn comment() -> Bytes {
    Bytes::from_static(b":\n\n")
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
