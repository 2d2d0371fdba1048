//! The one way to stop: a token that every stream and task watches, and a tracker that knows when all have ended.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Cheap to clone; every clone is the same stop.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    asked: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Nothing is stopping yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks whoever runs the node to stop it in order, as a signal does; again does nothing.
    pub fn ask(&self) {
        self.asked.cancel();
    }

    /// Ends when somebody within the node has asked for the stop.
    pub async fn asked(&self) {
        self.asked.cancelled().await;
    }

    /// Begins the stop; again does nothing.
    pub fn begin(&self) {
        self.token.cancel();
        self.tasks.close();
    }

    /// The stop has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Ends when the stop begins.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }

    /// The token itself, for streams that must own what they wait on.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Runs a task that the stop waits for. One that panics stops everything: a node without one of its tasks is not a node.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let shutdown = self.clone();
        self.tasks.spawn(async move {
            let guard = StopOnPanic { shutdown, name };
            task.await;
            drop(guard);
        });
    }

    /// Ends when every task has ended, or after `limit`; says whether all have.
    pub async fn ended(&self, limit: Duration) -> bool {
        self.tasks.close();
        tokio::time::timeout(limit, self.tasks.wait()).await.is_ok()
    }
}

struct StopOnPanic {
    shutdown: Shutdown,
    name: &'static str,
}

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.name, "a task failed; the node stops");
            self.shutdown.begin();
        }
    }
}
