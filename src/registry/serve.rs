//! Serving pulls: what this node gives to a peer that lacks something. It decides nothing about its own records.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::message::{AppliedAt, Have, Message, To, Want};
use super::store::{Records, slot_of};
use super::time::{Mono, Now};
use super::{Outbox, Output, Registry};
use crate::model::{InstanceKey, Life, Version};

/// About how much one answer carries, well below a frame's 256 KiB: sizes here are estimates.
pub(super) const ANSWER_BYTES_MAX: usize = 176 * 1024;
/// What one life's progress takes besides its node's name, at the most.
const APPLIED_BYTES: usize = 24;
/// How many records one question may name.
pub(super) const KEYS_MAX: usize = 400;
/// How many whole copies may be on their way at once; past it askers are told to ask another.
const COPIES_MAX: usize = 8;
/// A copy nobody has asked about for this long is let go.
const COPY_IDLE_MS: u64 = 10_000;

/// The whole copies that are being given.
#[derive(Default)]
pub(super) struct Copies {
    given: BTreeMap<u64, Copy>,
}

/// A picture of all records at one moment.
struct Copy {
    records: Records,
    checksum: u128,
    applied: Vec<AppliedAt>,
    asked_at: Mono,
}

impl Registry {
    pub(super) fn handle_pull(&mut self, from: &Life, ticket: u64, want: Want, now: Now, out: &mut Outbox) {
        let have = match want {
            Want::Changes { after } => self.log.after(after, ANSWER_BYTES_MAX).map_or(Have::TooOld, Have::Changes),
            Want::Buckets => Have::Buckets {
                live: self.store.live().occupied(),
                withdrawn: self.store.withdrawn().occupied(),
                applied: self.applied.to_said(&self.life, now.mono),
                complete: self.has_been_ready && self.complete,
            },
            Want::Versions { buckets, after } => self.versions_of(&buckets, after.as_ref()),
            Want::Records { keys } => self.records_of(&keys),
            Want::Copy { copy, after } => self.copy_chunk(copy, after.as_ref(), now),
        };
        out.push(Output::Send(To::Node(from.node.clone()), Message::Pulled { ticket, have }));
    }

    fn versions_of(&self, buckets: &[u16], after: Option<&InstanceKey>) -> Have {
        let after_slot = after.map(slot_of);
        let mut bytes = 0;
        let mut versions: Vec<(InstanceKey, Version)> = Vec::new();
        for bucket in buckets {
            let after = match &after_slot {
                Some((of, _)) if bucket < of => continue,
                Some((of, key)) if bucket == of => Some(key),
                Some(_) | None => None,
            };
            for (key, version) in self.store.versions(*bucket, after) {
                if bytes >= ANSWER_BYTES_MAX {
                    return Have::Versions { versions, more: true };
                }
                bytes += key.size_bytes() + version.owner.node.as_str().len() + 64;
                versions.push((key.clone(), version.clone()));
            }
        }
        Have::Versions { versions, more: false }
    }

    fn records_of(&self, keys: &[InstanceKey]) -> Have {
        let mut bytes = 0;
        let known = keys.iter().take(KEYS_MAX).filter_map(|key| self.store.get(key));
        let fitting = known.take_while(|record| {
            let fits = bytes == 0 || bytes + record.size_bytes() <= ANSWER_BYTES_MAX;
            bytes += record.size_bytes();
            fits
        });
        Have::Records(fitting.cloned().collect())
    }

    fn copy_chunk(&mut self, copy: Option<u64>, after: Option<&InstanceKey>, now: Now) -> Have {
        let Some(id) = copy.or_else(|| self.begin_copy(now)) else { return Have::NotNow };
        let Some(copy) = self.copies.given.get_mut(&id) else { return Have::NotNow };
        copy.asked_at = now.mono;
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(slot_of(key)));
        // They are said with each chunk.
        let mut bytes: usize = copy.applied.iter().map(|at| at.life.node.as_str().len() + APPLIED_BYTES).sum();
        let mut records = Vec::new();
        let mut more = false;
        for (_, record) in copy.records.range((from, Bound::Unbounded)) {
            if !records.is_empty() && bytes + record.size_bytes() > ANSWER_BYTES_MAX {
                more = true;
                break;
            }
            bytes += record.size_bytes();
            records.push(record.clone());
        }
        let answer = Have::Copy { copy: id, records, more, checksum: copy.checksum, applied: copy.applied.clone() };
        if !more {
            self.copies.given.remove(&id);
        }
        answer
    }

    /// A node that leaves gives copies too: it may be the last that can.
    fn begin_copy(&mut self, now: Now) -> Option<u64> {
        self.copies.given.retain(|_, copy| copy.asked_at + COPY_IDLE_MS > now.mono);
        if !self.has_been_ready || self.copies.given.len() >= COPIES_MAX {
            return None;
        }
        let id = self.rng.next();
        let checksum = self.store.live().total().wrapping_add(self.store.withdrawn().total());
        let applied = self.applied.to_said(&self.life, now.mono);
        self.copies.given.insert(id, Copy { records: self.store.records().clone(), checksum, applied, asked_at: now.mono });
        Some(id)
    }
}
