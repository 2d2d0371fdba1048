//! Patience: how long a connection may hold its place without asking for anything.
//!
//! hyper tells its timer when it begins to wait for a request's head and, by dropping what it got, when the head is there. With tokio's
//! timer that arms and disarms a real one for every request. Here it counts, and a look now and then finds who waits in vain.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use tokio::time::sleep;

/// One connection's waiting. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    waits: Arc<Waits>,
    /// What hyper is told the time is: it only reckons a deadline from it, and nobody looks at that.
    opened: Instant,
}

#[derive(Debug, Default)]
struct Waits {
    /// Odd while a head is waited for; each wait has a number of its own. Stays 0 on HTTP/2, whose pings find out who is gone.
    number: AtomicU64,
    has_asked: AtomicBool,
}

impl Patience {
    /// With a connection that was just opened.
    pub(super) fn new(opened: Instant) -> Self {
        Self { waits: Arc::default(), opened }
    }

    /// A request has come.
    pub(super) fn asked(&self) {
        self.waits.has_asked.store(true, Relaxed);
    }

    /// Ends when no request has come by the time `first` ends; later, when one wait goes on over two looks that are `rest` apart.
    pub(super) async fn runs_out(&self, first: impl Future<Output = ()>, rest: Duration) {
        first.await;
        if !self.waits.has_asked.load(Relaxed) {
            return;
        }
        let mut seen = self.waits.number.load(Relaxed);
        loop {
            sleep(rest).await;
            let now = self.waits.number.load(Relaxed);
            if now == seen && !now.is_multiple_of(2) {
                return;
            }
            seen = now;
        }
    }
}

impl Timer for Patience {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        self.waits.number.fetch_add(1, Relaxed);
        Box::pin(Wait(Arc::clone(&self.waits)))
    }

    fn sleep_until(&self, _: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(Duration::ZERO)
    }

    fn now(&self) -> Instant {
        self.opened
    }
}

/// One wait for a head; over when it is dropped.
struct Wait(Arc<Waits>);

impl Future for Wait {
    type Output = ();
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Sleep for Wait {}

impl Drop for Wait {
    fn drop(&mut self) {
        self.0.number.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const LOOK: Duration = Duration::from_millis(5);
    const LONG: Duration = Duration::from_millis(60);
    const ENOUGH: Duration = Duration::from_secs(10);

    fn patience() -> Patience {
        Patience::new(Instant::now())
    }

    #[tokio::test]
    async fn it_runs_out_when_nothing_was_ever_asked() {
        let patience = patience();
        let _first = patience.sleep(LOOK);
        timeout(ENOUGH, patience.runs_out(sleep(LOOK), Duration::MAX)).await.unwrap();
    }

    #[tokio::test]
    async fn it_runs_out_over_one_long_wait() {
        let patience = patience();
        patience.asked();
        let _next = patience.sleep(LOOK);
        timeout(ENOUGH, patience.runs_out(sleep(LOOK), LOOK)).await.unwrap();
    }

    #[tokio::test]
    async fn it_does_not_run_out_while_one_is_answered_nor_between_short_waits() {
        let patience = patience();
        patience.asked();
        drop(patience.sleep(LOOK));
        assert!(timeout(LONG, patience.runs_out(sleep(LOOK), LOOK)).await.is_err());
        let busy = async {
            loop {
                let _wait = patience.sleep(LOOK);
                tokio::time::sleep(LOOK / 2).await;
            }
        };
        let runs_out = patience.runs_out(sleep(LOOK), LOOK * 4);
        let either = async {
            tokio::select! {
                biased;
                () = busy => (),
                () = runs_out => (),
            }
        };
        assert!(timeout(LONG, either).await.is_err());
    }
}
