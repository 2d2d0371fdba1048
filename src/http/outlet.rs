//! The outlet: knows, of one connection, what has left for its socket.
//!
//! A server's library takes what a body yields into buffers of its own, and writes them when the socket has room. That they have left it
//! says by the end of a flush: one that takes no more bytes leaves the flush unfinished. HTTP/1 yields, writes and flushes in one task, so
//! the next flush that ends carries all that was yielded before. HTTP/2 has one task for each stream and one for the connection: a flush
//! may be under way when a stream yields, so it takes a second one. It asks a stream for more only when the receiver's window has room
//! for all that the stream yielded before.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::task::{Context, Waker};

use axum::http::Version;
use parking_lot::Mutex;

use super::feed::Receipt;

/// What has left for a connection's socket.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    /// How many flushes have ended.
    flushes: AtomicU64,
    /// Somebody waits for one to end.
    is_awaited: AtomicBool,
    awaiting: Mutex<Awaiting>,
}

#[derive(Debug, Default)]
struct Awaiting {
    /// Given back when so many flushes have ended. At most one for each question about one of the connection's streams.
    receipts: Vec<(u64, Receipt)>,
    /// Woken by the next flush; at most one for each stream with a question.
    wakers: Vec<Waker>,
}

impl Outlet {
    /// How many flushes must have ended before all that was yielded until now has left.
    pub(super) fn mark(&self, version: Version) -> u64 {
        self.flushes.load(SeqCst) + if version == Version::HTTP_2 { 2 } else { 1 }
    }

    /// Gives the receipt back once so many flushes have ended.
    pub(super) fn keep(&self, mark: u64, receipt: Receipt) {
        self.awaiting.lock().receipts.push((mark, receipt));
        self.is_awaited.store(true, SeqCst);
        self.settle();
    }

    /// So many flushes have ended; if not, the task is woken by the next one.
    pub(super) fn has_reached(&self, mark: u64, context: &Context<'_>) -> bool {
        if self.flushes.load(SeqCst) >= mark {
            return true;
        }
        let mut awaiting = self.awaiting.lock();
        if !awaiting.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            awaiting.wakers.push(context.waker().clone());
        }
        drop(awaiting);
        self.is_awaited.store(true, SeqCst);
        self.flushes.load(SeqCst) >= mark
    }

    /// How many flushes have ended.
    pub(super) fn flushes(&self) -> u64 {
        self.flushes.load(SeqCst)
    }

    /// A flush has ended.
    pub(super) fn flushed(&self) {
        self.flushes.fetch_add(1, SeqCst);
        if self.is_awaited.load(SeqCst) {
            self.settle();
        }
    }

    fn settle(&self) {
        let (left, wakers) = {
            let mut awaiting = self.awaiting.lock();
            let flushes = self.flushes.load(SeqCst);
            let (left, rest) = std::mem::take(&mut awaiting.receipts).into_iter().partition::<Vec<_>, _>(|(mark, _)| *mark <= flushes);
            self.is_awaited.store(!rest.is_empty(), SeqCst);
            awaiting.receipts = rest;
            (left, std::mem::take(&mut awaiting.wakers))
        };
        for (_, receipt) in left {
            receipt.sent();
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// A stream over HTTP/2 says something that means nothing, so that there is a flush: an idle connection has none.
#[derive(Debug, Default)]
pub(super) struct Nudge {
    /// So many flushes are waited for.
    mark: u64,
    /// As many had ended when something was said last.
    said_at: Option<u64>,
}

impl Nudge {
    /// Waits for so many flushes.
    pub(super) fn wait_for(&mut self, mark: u64) {
        self.mark = self.mark.max(mark);
        self.said_at = None;
    }

    /// Something is to be said now. If not, the task is woken when it may be.
    pub(super) fn is_due(&mut self, outlet: &Outlet, context: &Context<'_>) -> bool {
        if self.mark == 0 {
            return false;
        }
        if outlet.has_reached(self.mark, context) {
            self.mark = 0;
            return false;
        }
        let flushes = outlet.flushes();
        self.said_at.replace(flushes) != Some(flushes)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::Poll;
    use std::time::Instant;

    use tokio::io::{AsyncWrite, AsyncWriteExt};

    use super::*;
    use crate::http::feed::{Delivery, testing};
    use crate::http::socket::Socket;
    use crate::http::waits::Waits;

    /// Takes bytes into its buffers, and flushes only while it is open.
    struct Buffers(Arc<AtomicBool>);

    impl AsyncWrite for Buffers {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.0.load(SeqCst) { Poll::Ready(Ok(())) } else { Poll::Pending }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Flushes, as far as the socket does.
    fn flush(socket: &mut Socket<Buffers>) {
        let mut context = Context::from_waker(Waker::noop());
        let _ = Pin::new(socket).poll_flush(&mut context);
    }

    #[tokio::test]
    async fn what_the_socket_takes_no_more_of_has_not_left() {
        for (version, flushes) in [(Version::HTTP_11, 1), (Version::HTTP_2, 2)] {
            let (is_open, outlet) = (Arc::new(AtomicBool::new(true)), Arc::new(Outlet::default()));
            let mut socket = Socket::new(Buffers(Arc::clone(&is_open)), Waits::new(Instant::now()), Arc::clone(&outlet));
            flush(&mut socket);
            is_open.store(false, SeqCst);
            socket.write_all(b"event").await.unwrap();
            let (delivery, receipt): (Delivery, Receipt) = testing::delivery_to_one();
            outlet.keep(outlet.mark(version), receipt);
            flush(&mut socket);
            flush(&mut socket);
            assert_eq!(delivery.report().missing_count, 1, "it has no room");
            is_open.store(true, SeqCst);
            for left in (0..flushes).rev() {
                flush(&mut socket);
                assert_eq!(delivery.report().missing_count, u64::from(left > 0), "{version:?}");
            }
            delivery.end().await;
        }
    }

    #[test]
    fn over_http2_something_is_said_once_for_each_flush_until_there_were_enough() {
        let (outlet, mut nudge) = (Outlet::default(), Nudge::default());
        let context = Context::from_waker(Waker::noop());
        assert!(!nudge.is_due(&outlet, &context));
        nudge.wait_for(outlet.mark(Version::HTTP_2));
        assert_eq!([nudge.is_due(&outlet, &context), nudge.is_due(&outlet, &context)], [true, false]);
        outlet.flushed();
        assert_eq!([nudge.is_due(&outlet, &context), nudge.is_due(&outlet, &context)], [true, false]);
        outlet.flushed();
        assert!(!nudge.is_due(&outlet, &context));
    }
}
