//! The saver: writes what the node holds to its disk, soon after it changed and seldom enough not to matter. The node never waits for it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinError;

use super::Shared;
use super::store::Store;
use super::task::Command;
use crate::registry::Picture;
use crate::shutdown::Shutdown;

/// What changes is gathered for so long; with the writing itself it stays below a second.
const GATHER: Duration = Duration::from_millis(500);
/// Writing may take a twentieth of the time: a million instances about every 20 s.
const PAUSE_FACTOR: u32 = 20;
/// After a write that failed the next one waits so long, then twice as long each time,
const RETRY: Duration = Duration::from_secs(1);
/// and at most this long.
const RETRY_MAX: Duration = Duration::from_mins(1);
/// What does not change is saved all the same: a file that is a day old is not read.
const REFRESH: Duration = Duration::from_hours(1);
/// While providers of restored records have not been heard: a node that is killed again and again is to know what was left of each lease.
const REFRESH_RESTORED: Duration = Duration::from_secs(5);
/// A node that holds nothing worth being written yet is asked again this often.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// The node's end: what it tells its saver.
pub(super) struct ToSaver {
    /// Records have changed.
    pub(super) changed: Arc<Notify>,
    /// What the node holds at its end; `None`: nothing worth being written.
    pub(super) last: oneshot::Sender<Option<Picture>>,
}

pub(super) struct Saver {
    store: Arc<Store>,
    shared: Arc<Shared>,
    /// How many writes have failed in a row.
    failures: u32,
    /// Some providers of restored records had not been heard when that was saved last.
    has_unheard: bool,
}

/// What a saver and its node have between them.
pub(super) struct Ends {
    pub(super) changed: Arc<Notify>,
    pub(super) last: oneshot::Receiver<Option<Picture>>,
    pub(super) commands: mpsc::Sender<Command>,
}

pub(super) fn channel(commands: mpsc::Sender<Command>) -> (ToSaver, Ends) {
    let changed = Arc::new(Notify::new());
    let (to_last, last) = oneshot::channel();
    (ToSaver { changed: Arc::clone(&changed), last: to_last }, Ends { changed, last, commands })
}

impl Saver {
    pub(super) fn new(store: Store, shared: Arc<Shared>) -> Self {
        Self { store: Arc::new(store), shared, failures: 0, has_unheard: false }
    }

    /// Runs until the stop begins; then what the node held at its end is written.
    pub(super) async fn run(mut self, ends: Ends, shutdown: Shutdown) {
        let Ends { changed, last, commands } = ends;
        loop {
            tokio::select! {
                () = changed.notified() => {}
                () = tokio::time::sleep(if self.has_unheard { REFRESH_RESTORED } else { REFRESH }) => {}
                () = shutdown.begun() => break,
            }
            let mut pause = GATHER;
            loop {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = shutdown.begun() => break,
                }
                let Some(picture) = ask(&commands).await else {
                    pause = ASK_AGAIN;
                    continue;
                };
                let took = self.save(picture).await;
                tokio::select! {
                    () = tokio::time::sleep(took * PAUSE_FACTOR) => {}
                    () = shutdown.begun() => {}
                }
                if self.failures == 0 {
                    break;
                }
                pause = RETRY.saturating_mul(1 << (self.failures - 1).min(10)).min(RETRY_MAX);
            }
        }
        if let Ok(Some(picture)) = last.await {
            self.save(picture).await;
        }
    }

    /// Writes on a thread that may wait; says how long that took.
    async fn save(&mut self, picture: Picture) -> Duration {
        let (store, clock) = (Arc::clone(&self.store), self.shared.clock);
        let began = clock.instant();
        let (records, shared) = (picture.len(), Arc::clone(&self.shared));
        let write = move || {
            let left = picture.left(|key| shared.leases.last(key));
            (!left.is_empty(), store.write(&picture, left, clock.wall()))
        };
        let written = tokio::task::spawn_blocking(write).await;
        let took = began.elapsed();
        self.has_unheard = written.as_ref().is_ok_and(|(has_unheard, _)| *has_unheard);
        self.report(written.map(|(_, written)| written), records, took);
        took
    }

    /// A failure is said when it begins, and when it ends: not each time.
    fn report(&mut self, written: Result<io::Result<()>, JoinError>, records: usize, took: Duration) {
        let node = &self.shared.name;
        let error = match written {
            Ok(Ok(())) => {
                self.shared.metrics.warm_written(true);
                self.shared.metrics.warm_written_at.set(self.shared.clock.wall() as f64 / 1000.0);
                if self.failures > 0 {
                    tracing::info!(%node, failures = self.failures, "the warm file is written again");
                }
                self.failures = 0;
                tracing::debug!(%node, records, ?took, "wrote the warm file");
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        self.shared.metrics.warm_written(false);
        if self.failures == 0 {
            tracing::warn!(%node, %error, "the warm file cannot be written: the one before stays, and the node goes on; tried again");
        }
        self.failures = self.failures.saturating_add(1);
    }
}

/// What the node holds; `None`: it has nothing worth being written, no time, or has stopped.
async fn ask(commands: &mpsc::Sender<Command>) -> Option<Picture> {
    let (reply, picture) = oneshot::channel();
    commands.try_send(Command::Picture(reply)).ok()?;
    picture.await.ok().flatten()
}
