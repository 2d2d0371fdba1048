//! What a node that lacks something asks of a peer, and what it is given.

use std::sync::Arc;

use super::{AppliedAt, Change};
use crate::model::{InstanceKey, Seq, Version};
use crate::registry::record::Record;

/// What a puller lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// Changes the asked node wrote in this life after this seq.
    Changes {
        /// What the asker has.
        after: Seq,
    },
    /// The digest of every bucket that is not empty.
    Buckets,
    /// Key and version of every record of these buckets, from the one after `after` on.
    Versions {
        /// In ascending order, without repetition.
        buckets: Vec<u16>,
        /// The last pair of the answer before.
        after: Option<InstanceKey>,
    },
    /// Records by key.
    Records {
        /// Which.
        keys: Vec<InstanceKey>,
    },
    /// A chunk of a whole copy.
    Copy {
        /// The copy that was begun; `None`: begin one.
        copy: Option<u64>,
        /// The last key of the chunk before.
        after: Option<InstanceKey>,
    },
    /// The digests of the buckets from this one on, as many as fit. By `PullSized` alone.
    Digests {
        /// The first.
        from: u16,
    },
    /// Every record of these buckets, from the one after `after` on, as many as fit. By `PullSized` alone.
    Whole {
        /// In ascending order, without repetition.
        buckets: Vec<u16>,
        /// Where the answer before ended.
        after: Option<InstanceKey>,
    },
}

/// What a puller is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Have {
    /// Changes from the log.
    Changes(Change),
    /// The log no longer reaches back that far (or never did): compare buckets.
    TooOld,
    /// Of every bucket that is not empty, and what the answering node had applied just then.
    Buckets {
        /// Of live records.
        live: Vec<(u16, u128)>,
        /// Of withdrawn records.
        withdrawn: Vec<(u16, u128)>,
        /// As it was when the buckets were read.
        applied: Vec<AppliedAt>,
        /// The answering node knows all it can: its lack of a record proves something.
        complete: bool,
    },
    /// Key and version of records.
    Versions {
        /// In the order of (bucket, key).
        versions: Vec<(InstanceKey, Version)>,
        /// There are more: ask again after the last.
        more: bool,
    },
    /// Those of the records that are known; some may be left out when they were too many: ask for them again.
    Records(Vec<Arc<Record>>),
    /// A chunk of a whole copy.
    Copy {
        /// Which copy.
        copy: u64,
        /// In the order of (bucket, key).
        records: Vec<Arc<Record>>,
        /// There are more chunks: ask again after the last record.
        more: bool,
        /// Wrapping sum of the fingerprints of all the copy's records, of all chunks.
        checksum: u128,
        /// What the giver had applied when the copy was begun.
        applied: Vec<AppliedAt>,
    },
    /// Not now: the asked node is warming, or the copy is gone.
    NotNow,
    /// To `Digests`: those of the buckets from the first asked about up to `next`.
    Digests {
        /// Of live records, where they are not 0.
        live: Vec<(u16, u128)>,
        /// Of withdrawn records, where they are not 0.
        withdrawn: Vec<(u16, u128)>,
        /// The first bucket that did not fit; `None`: these were all.
        next: Option<u16>,
        /// As it was when the first of them was read; in the first answer alone.
        applied: Vec<AppliedAt>,
        /// The answering node knows all it can: its lack of a record proves something.
        complete: bool,
    },
    /// To `Whole`.
    Whole {
        /// In the order of (bucket, key).
        records: Vec<Arc<Record>>,
        /// The last of them, where there are more: ask again after it.
        next: Option<InstanceKey>,
    },
    /// To whom takes it instead of `NotNow`: many ask, and what may be given in a second is given. Ask again.
    Later {
        /// In so many ms.
        after_ms: u32,
    },
}

impl Have {
    /// About how many bytes it takes on the wire.
    pub(in crate::registry) fn size_bytes(&self) -> usize {
        let of_records = |records: &[Arc<Record>]| records.iter().map(|record| record.size_bytes()).sum::<usize>();
        let of_lives = |lives: &[AppliedAt]| lives.iter().map(|at| at.life.node.as_str().len() + APPLIED_BYTES).sum::<usize>();
        let of_digests = |digests: &[(u16, u128)]| digests.len() * DIGEST_BYTES;
        FRAME_BYTES
            + match self {
                Self::Changes(change) => of_records(&change.records),
                Self::TooOld | Self::NotNow | Self::Later { .. } => 0,
                Self::Buckets { live, withdrawn, applied, .. } | Self::Digests { live, withdrawn, applied, .. } => {
                    of_digests(live) + of_digests(withdrawn) + of_lives(applied)
                }
                Self::Versions { versions, .. } => versions.iter().map(|(key, version)| version_bytes(key, version)).sum(),
                Self::Records(records) | Self::Whole { records, .. } => of_records(records),
                Self::Copy { records, applied, .. } => of_records(records) + of_lives(applied),
            }
    }
}

/// What one life's progress takes besides its node's name, at the most.
pub(in crate::registry) const APPLIED_BYTES: usize = 24;
/// What a bucket's number and digest take.
pub(in crate::registry) const DIGEST_BYTES: usize = 20;
/// What a frame takes around an answer.
const FRAME_BYTES: usize = 160;

/// What a key and its version take, about.
pub(in crate::registry) fn version_bytes(key: &InstanceKey, version: &Version) -> usize {
    key.size_bytes() + version.owner.node.as_str().len() + 64
}
