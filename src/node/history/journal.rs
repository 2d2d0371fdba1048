//! The journal: brings the history onto the node's disk, and back into memory when the node starts. The node never waits for it.
//!
//! It follows the ring like a stream does: what waits for the disk is what is kept in memory anyway. Where the disk cannot follow, or
//! takes nothing, events are missing there, and counted; the node is none the worse.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::event::Event;
use super::lines::{self, Lines};
use super::{History, KEPT_MAX, Place};
use crate::metrics::Metrics;
use crate::model::NodeName;

/// How many events one write takes at the most.
const BATCH_MAX: usize = 4096;

/// Writes what is recorded.
pub(in crate::node) struct Journal {
    history: History,
    /// Up to here all is written, or lost.
    at: Place,
    node: NodeName,
    metrics: Arc<Metrics>,
    is_failing: bool,
    /// The disk has no room but for what matters more.
    yields: Arc<AtomicBool>,
}

impl Journal {
    /// To be made before the first event is recorded.
    pub(in crate::node) fn new(history: History, node: NodeName, metrics: Arc<Metrics>, yields: Arc<AtomicBool>) -> Self {
        Self { at: history.end(), history, node, metrics, is_failing: false, yields }
    }

    /// Reads what is there, then writes until the node has ended and all is written.
    pub(in crate::node) async fn run(mut self, folder: PathBuf) {
        self.read(folder.clone()).await;
        let mut told = self.history.follow();
        let mut lines = Lines::new(folder.clone());
        loop {
            let has_ended = told.changed().await.is_err();
            loop {
                let since = self.history.since(self.at, BATCH_MAX);
                self.at = since.next;
                self.note_missed(since.missed);
                if since.events.is_empty() {
                    break;
                }
                let events: Vec<Event> = since.events.into_iter().map(|(_, event)| event).collect();
                let count = events.len();
                let yields = Arc::clone(&self.yields);
                let written = tokio::task::spawn_blocking(move || {
                    let may_write = !yields.load(Ordering::Acquire);
                    let written = if may_write { lines.append(&events) } else { Err(yielding()) };
                    (lines, written)
                });
                let result;
                (lines, result) = written.await.unwrap_or_else(|error| (Lines::new(folder.clone()), Err(error.into())));
                self.report(result, count);
            }
            if has_ended {
                return;
            }
        }
    }

    /// Puts what is on the disk before what this process recorded meanwhile.
    async fn read(&self, folder: PathBuf) {
        let history = self.history.clone();
        let read = tokio::task::spawn_blocking(move || {
            let (mut events, lost) = lines::read(&folder);
            let kept = events.split_off(events.len().saturating_sub(KEPT_MAX));
            let count = kept.len();
            history.put_before(kept);
            (count, lost)
        });
        let Ok((events, lost)) = read.await else { return };
        if lost > 0 {
            tracing::warn!(node = %self.node, events, lost, "a part of the events on disk is damaged and was left out");
        }
        tracing::debug!(node = %self.node, events, "read the events on disk");
    }

    /// A failure is said when it begins, and when it ends: not each time.
    fn report(&mut self, written: io::Result<()>, count: usize) {
        let node = &self.node;
        match written {
            Ok(()) if self.is_failing => {
                tracing::info!(%node, "events are written to disk again");
                self.is_failing = false;
            }
            Ok(()) => {}
            Err(error) => {
                self.metrics.events_lost("disk", count as u64);
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(%node, %error, "events cannot be written to disk: they will be missing after a restart, and the node goes on");
                }
            }
        }
    }

    fn note_missed(&self, missed: u64) {
        if missed > 0 {
            self.metrics.events_lost("disk", missed);
            tracing::warn!(node = %self.node, missed, "the disk is slower than what happens: some events will be missing after a restart");
        }
    }
}

/// Why nothing is written while the disk is full.
fn yielding() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "the disk is full, and the warm file needs what room there is")
}

#[cfg(test)]
mod tests {
    use super::super::open;
    use super::super::testing::event;
    use super::*;
    use crate::metrics;

    fn journal(history: &History) -> Journal {
        Journal::new(history.clone(), NodeName::parse("journal-a").unwrap(), metrics::of("journal-a"), Arc::default())
    }

    fn seqs(history: &History) -> Vec<u64> {
        history.newest(Place::MAX, KEPT_MAX, |_| true).iter().map(|(_, event)| event.seq).collect()
    }

    #[tokio::test]
    async fn what_a_node_recorded_until_its_end_is_there_when_it_starts_again() {
        let folder = tempfile::tempdir().unwrap();
        let (mut recorder, history) = open();
        let journal_task = tokio::spawn(journal(&history).run(folder.path().to_owned()));
        recorder.record(event("a", 1));
        recorder.tell();
        tokio::task::yield_now().await;
        recorder.record(event("a", 2));
        // Nobody was told of the last one: the end tells.
        drop(recorder);
        journal_task.await.unwrap();

        let (recorder, history) = open();
        let journal_task = tokio::spawn(journal(&history).run(folder.path().to_owned()));
        drop(recorder);
        journal_task.await.unwrap();
        assert_eq!(seqs(&history), [2, 1]);
    }

    #[tokio::test]
    async fn a_disk_that_takes_nothing_is_counted_and_ends_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (mut recorder, history) = open();
        let journal_task = tokio::spawn(journal(&history).run(folder.path().join("nowhere")));
        recorder.record(event("a", 1));
        drop(recorder);
        journal_task.await.unwrap();
        assert_eq!(seqs(&history), [1]);
        assert!(metrics::of("journal-a").render().contains("muster_events_lost_total{node=\"journal-a\",where=\"disk\"} 1"));
    }
}
