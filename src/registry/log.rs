//! The log: what this life of this node wrote, counted by seq, of which the last part is kept for peers that missed some.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Registry;
use super::message::Change;
use super::record::Record;
use crate::model::Seq;

/// How many changes are kept: at 10,000 changes a second enough for a peer that heard nothing for 6 s.
/// A peer that needs older ones compares buckets.
pub(super) const LOG_MAX: usize = 65_536;

#[derive(Default)]
pub(super) struct Log {
    /// The seqs up to `head`, without a hole.
    kept: VecDeque<Arc<Record>>,
    head: Seq,
}

impl Log {
    /// The seq of the last change; 0 before the first.
    pub(super) fn head(&self) -> Seq {
        self.head
    }

    /// Appends a record whose version says `head + 1`.
    pub(super) fn append(&mut self, record: Arc<Record>) {
        self.head += 1;
        debug_assert_eq!(record.version.seq, self.head, "a record's seq is its place in the log");
        if self.kept.len() == LOG_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(record);
    }

    /// What follows `after`, cut at about `bytes_max` but never empty while there is something; `None` when that is no longer kept,
    /// or was never written.
    pub(super) fn after(&self, after: Seq, bytes_max: usize) -> Option<Change> {
        let kept_from = self.head - self.kept.len() as u64;
        if after < kept_from || after > self.head {
            return None;
        }
        let mut bytes = 0;
        let records: Vec<_> = self
            .kept
            .range((after - kept_from) as usize..)
            .take_while(|record| {
                let fits = bytes == 0 || bytes + record.size_bytes() <= bytes_max;
                bytes += record.size_bytes();
                fits
            })
            .cloned()
            .collect();
        Some(Change { first: after + 1, last: after + records.len() as u64, wants_ack: false, records })
    }
}

impl Registry {
    /// What this life wrote after `after`, as batches of about `bytes_max` each and `batches_max` in all;
    /// `None` when the log no longer reaches back that far: peers will pull.
    #[must_use]
    pub fn changes_after(&self, after: Seq, bytes_max: usize, batches_max: usize) -> Option<Vec<Change>> {
        let mut batches = Vec::new();
        let mut cursor = after;
        while cursor < self.log.head() && batches.len() < batches_max {
            let mut change = self.log.after(cursor, bytes_max)?;
            change.wants_ack = self.acks.is_waited_for(&self.life, change.first, change.last);
            cursor = change.last;
            batches.push(change);
        }
        Some(batches)
    }
}
