//! Waiting: what a connection waits for, as far as its timers must know: a request, the rest of a request's head, or an answer.
//!
//! hyper starts a timer when it begins to wait for a request's head and drops it when the head is there. With tokio's timer that arms and
//! disarms a real one for every request. Here it only counts; `connection` looks at the count, and arms a timer where there is a wait.
//! Over HTTP/2 the same is counted from the frames.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

/// What a connection waits for. Each wait has a number of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// For an answer: a request is under way.
    Answer,
    /// For a request, of which nothing has come.
    Request(u64),
    /// For the rest of a request's head.
    RestOfHead(u64),
}

/// One connection's waits. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Waits {
    counts: Arc<Counts>,
    /// What hyper gets as the time: it only reckons a deadline from it, and nobody looks at that.
    opened: Instant,
}

#[derive(Debug, Default)]
struct Counts {
    /// Odd while a head is waited for, over HTTP/2 only while a part of it is missing.
    heads: AtomicU64,
    /// Something of that head has come.
    is_head_begun: AtomicBool,
    is_http2: AtomicBool,
    /// Over HTTP/2: requests so far, and those under way.
    requests: AtomicU64,
    under_way: AtomicUsize,
    /// Something was written that may not have left.
    is_unflushed: AtomicBool,
}

/// A request under way over HTTP/2; over when it is dropped.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Counts>);

impl Waits {
    /// Of a connection that was just opened.
    pub(super) fn new(opened: Instant) -> Self {
        Self { counts: Arc::default(), opened }
    }

    /// The connection's protocol is HTTP/2.
    pub(super) fn become_http2(&self) {
        self.counts.is_http2.store(true, Relaxed);
    }

    /// What it waits for now.
    pub(super) fn waiting(&self) -> Waiting {
        let counts = &*self.counts;
        let heads = counts.heads.load(Relaxed);
        let is_http2 = counts.is_http2.load(Relaxed);
        match heads.is_multiple_of(2) {
            false if is_http2 || counts.is_head_begun.load(Relaxed) => Waiting::RestOfHead(heads),
            false => Waiting::Request(heads),
            true if is_http2 && counts.under_way.load(Relaxed) == 0 => Waiting::Request(counts.requests.load(Relaxed)),
            true => Waiting::Answer,
        }
    }

    /// Bytes came.
    pub(super) fn received(&self) {
        if !self.counts.heads.load(Relaxed).is_multiple_of(2) {
            self.counts.is_head_begun.store(true, Relaxed);
        }
    }

    /// Over HTTP/2: a part of a head has come, or its last.
    pub(super) fn head_is_partial(&self, is_partial: bool) {
        let was_partial = !self.counts.heads.load(Relaxed).is_multiple_of(2);
        if is_partial != was_partial {
            self.counts.heads.fetch_add(1, Relaxed);
        }
    }

    /// Over HTTP/2: a request begins.
    pub(super) fn begin_request(&self) -> UnderWay {
        self.counts.requests.fetch_add(1, Relaxed);
        self.counts.under_way.fetch_add(1, Relaxed);
        UnderWay(Arc::clone(&self.counts))
    }

    /// Something is written; it has left once it is flushed.
    pub(super) fn set_unflushed(&self, is_unflushed: bool) {
        self.counts.is_unflushed.store(is_unflushed, Relaxed);
    }

    /// Something was written that may not have left.
    pub(super) fn is_unflushed(&self) -> bool {
        self.counts.is_unflushed.load(Relaxed)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Relaxed);
    }
}

impl Timer for Waits {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        self.counts.heads.fetch_add(1, Relaxed);
        self.counts.is_head_begun.store(false, Relaxed);
        Box::pin(Wait(Arc::clone(&self.counts)))
    }

    fn sleep_until(&self, _: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(Duration::ZERO)
    }

    fn now(&self) -> Instant {
        self.opened
    }
}

/// One wait for a head; over when it is dropped.
struct Wait(Arc<Counts>);

impl Future for Wait {
    type Output = ();
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Sleep for Wait {}

impl Drop for Wait {
    fn drop(&mut self) {
        self.0.heads.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_http1_each_wait_for_a_head_has_a_number_and_begins_with_its_first_bytes() {
        let waits = Waits::new(Instant::now());
        assert_eq!(waits.waiting(), Waiting::Answer, "hyper has not begun");
        let first = waits.sleep(Duration::ZERO);
        assert_eq!(waits.waiting(), Waiting::Request(1));
        waits.received();
        assert_eq!(waits.waiting(), Waiting::RestOfHead(1));
        drop(first);
        waits.received();
        assert_eq!(waits.waiting(), Waiting::Answer);
        let _second = waits.sleep(Duration::ZERO);
        assert_eq!(waits.waiting(), Waiting::Request(3), "what came of a body is no head");
    }

    #[test]
    fn over_http2_a_connection_waits_while_no_request_is_under_way() {
        let waits = Waits::new(Instant::now());
        waits.become_http2();
        assert_eq!(waits.waiting(), Waiting::Request(0));
        waits.head_is_partial(true);
        waits.head_is_partial(true);
        assert_eq!(waits.waiting(), Waiting::RestOfHead(1));
        waits.head_is_partial(false);
        let under_way = [waits.begin_request(), waits.begin_request()];
        assert_eq!(waits.waiting(), Waiting::Answer);
        drop(under_way);
        assert_eq!(waits.waiting(), Waiting::Request(2));
    }
}
