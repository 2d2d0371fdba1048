//! The saver: writes what the node holds to its disk, soon after it changed and seldom enough not to matter. The node never waits for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot};

use super::store::Store;
use super::task::Command;
use super::{Shared, history};
use crate::model::NodeName;
use crate::registry::{Picture, UnrenewedLease};
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
/// While leases wait for a heartbeat since this node started, what changes with the time alone is saved too: at first after this long, then
/// whenever the node has run for a quarter longer. So much a node that is killed again and again may forget of what it waited.
const REFRESH_WAITING: Duration = Duration::from_secs(1);
const WAITING_PART: u32 = 4;
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
    began: Instant,
    /// Leases were not renewed when that was saved last.
    has_unrenewed: bool,
    /// Set while the disk is full: what else is written there has to wait.
    is_full: Arc<AtomicBool>,
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
    pub(super) fn new(store: Store, shared: Arc<Shared>, is_full: Arc<AtomicBool>) -> Self {
        Self { store: Arc::new(store), began: shared.clock.instant(), shared, failures: 0, has_unrenewed: false, is_full }
    }

    /// Runs until the stop begins; then what the node held at its end is written.
    pub(super) async fn run(mut self, ends: Ends, shutdown: Shutdown) {
        let Ends { changed, last, commands } = ends;
        loop {
            tokio::select! {
                () = changed.notified() => {}
                () = tokio::time::sleep(self.refresh()) => {}
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

    /// How long what does not change is left as it was saved.
    fn refresh(&self) -> Duration {
        if self.has_unrenewed { (self.began.elapsed() / WAITING_PART).clamp(REFRESH_WAITING, REFRESH) } else { REFRESH }
    }

    /// Writes on a thread that may wait; says how long that took.
    async fn save(&mut self, picture: Picture) -> Duration {
        let (store, clock) = (Arc::clone(&self.store), self.shared.clock);
        let began = clock.instant();
        let records = picture.len();
        let (is_full, node) = (Arc::clone(&self.is_full), self.shared.name.clone());
        let shared = Arc::clone(&self.shared);
        let written = tokio::task::spawn_blocking(move || {
            let unrenewed = picture.unrenewed(|key| shared.leases.last(key));
            let written = write(&store, &picture, &unrenewed, &is_full, &node, || clock.wall());
            is_full.store(written.as_ref().is_err_and(is_of_full_disk), Ordering::Release);
            (written, !unrenewed.is_empty())
        });
        let (written, has_unrenewed) = written.await.unwrap_or_else(|error| (Err(io::Error::other(error)), true));
        self.has_unrenewed = has_unrenewed;
        let took = began.elapsed();
        self.report(written, records, took);
        took
    }

    /// A failure is said when it begins, and when it ends: not each time.
    fn report(&mut self, written: io::Result<()>, records: usize, took: Duration) {
        let node = &self.shared.name;
        let error = match written {
            Ok(()) => {
                self.shared.metrics.warm_written(true);
                self.shared.metrics.warm_written_at.set(self.shared.clock.wall() as f64 / 1000.0);
                if self.failures > 0 {
                    tracing::info!(%node, failures = self.failures, "the warm file is written again");
                }
                self.failures = 0;
                tracing::debug!(%node, records, ?took, "wrote the warm file");
                return;
            }
            Err(error) => error.to_string(),
        };
        self.shared.metrics.warm_written(false);
        if self.failures == 0 {
            tracing::warn!(%node, %error, "the warm file cannot be written: the one before stays, and the node goes on; tried again");
        }
        self.failures = self.failures.saturating_add(1);
    }
}

/// Writes the warm file, if need be in the room that the events on disk take up: what the node starts from matters more.
fn write(
    store: &Store,
    picture: &Picture,
    unrenewed: &[UnrenewedLease],
    is_full: &AtomicBool,
    node: &NodeName,
    now: impl Fn() -> u64,
) -> io::Result<()> {
    loop {
        match store.write(picture, unrenewed, now()) {
            Err(error) if is_of_full_disk(&error) => {
                // First: what is let go of is not to be filled again meanwhile.
                is_full.store(true, Ordering::Release);
                if !history::make_room(store.folder()) {
                    return Err(error);
                }
                tracing::warn!(%node, %error, "the disk is full: events on disk were let go of to write the warm file");
            }
            written => return written,
        }
    }
}

/// The disk is full, or this user's share of it.
fn is_of_full_disk(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What the node holds; `None`: it has nothing worth being written, no time, or has stopped.
async fn ask(commands: &mpsc::Sender<Command>) -> Option<Picture> {
    let (reply, picture) = oneshot::channel();
    commands.try_send(Command::Picture(reply)).ok()?;
    picture.await.ok().flatten()
}
