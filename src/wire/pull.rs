//! Pulls on the wire: what a node lacks, and what it is given.

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::beacon::{Lives, lives_of, to_lives};
use super::change::Change;
use super::list::List;
use super::reading::Reading;
use super::record::{Key, Records, Version, records_of, to_records};
use crate::model::InstanceKey;
use crate::registry;

/// More keys, with or without their versions, than fit into a frame.
const KEYS_MAX: usize = 32_768;

/// There are 4,096 buckets.
const BUCKETS_MAX: usize = 4096;

#[derive(Serialize, Deserialize)]
pub(super) enum Want<'a> {
    Changes {
        after: u64,
    },
    Buckets,
    Versions {
        buckets: List<u16, BUCKETS_MAX>,
        #[serde(borrow)]
        after: Option<Key<'a>>,
    },
    Records {
        #[serde(borrow)]
        keys: List<Key<'a>, KEYS_MAX>,
    },
    Copy {
        copy: Option<u64>,
        #[serde(borrow)]
        after: Option<Key<'a>>,
    },
    // What follows stands in sized questions alone: an older node would refuse the frame.
    Digests {
        from: u16,
    },
    Whole {
        buckets: List<u16, BUCKETS_MAX>,
        #[serde(borrow)]
        after: Option<Key<'a>>,
    },
}

#[derive(Serialize, Deserialize)]
pub(super) enum Have<'a> {
    Changes(#[serde(borrow)] Change<'a>),
    TooOld,
    Buckets {
        live: List<(u16, u128), BUCKETS_MAX>,
        withdrawn: List<(u16, u128), BUCKETS_MAX>,
        #[serde(borrow)]
        applied: Lives<'a>,
        complete: bool,
    },
    Versions {
        #[serde(borrow)]
        versions: List<(Key<'a>, Version<'a>), KEYS_MAX>,
        more: bool,
    },
    Records(#[serde(borrow)] Records<'a>),
    Copy {
        copy: u64,
        #[serde(borrow)]
        records: Records<'a>,
        more: bool,
        checksum: u128,
        #[serde(borrow)]
        applied: Lives<'a>,
    },
    NotNow,
    // What follows answers sized questions alone.
    Digests {
        live: List<(u16, u128), BUCKETS_MAX>,
        withdrawn: List<(u16, u128), BUCKETS_MAX>,
        next: Option<u16>,
        #[serde(borrow)]
        applied: Lives<'a>,
        complete: bool,
    },
    Whole {
        #[serde(borrow)]
        records: Records<'a>,
        #[serde(borrow)]
        next: Option<Key<'a>>,
    },
    Later {
        after_ms: u32,
    },
}

impl<'a> Want<'a> {
    pub(super) fn of(want: &'a registry::Want) -> Self {
        match want {
            registry::Want::Changes { after } => Self::Changes { after: *after },
            registry::Want::Buckets => Self::Buckets,
            registry::Want::Versions { buckets, after } => {
                Self::Versions { buckets: buckets.iter().copied().collect(), after: after.as_ref().map(Key::of) }
            }
            registry::Want::Records { keys } => Self::Records { keys: keys.iter().map(Key::of).collect() },
            registry::Want::Copy { copy, after } => Self::Copy { copy: *copy, after: after.as_ref().map(Key::of) },
            registry::Want::Digests { from } => Self::Digests { from: *from },
            registry::Want::Whole { buckets, after } => {
                Self::Whole { buckets: buckets.iter().copied().collect(), after: after.as_ref().map(Key::of) }
            }
        }
    }

    pub(super) fn into_model(self, reading: &mut Reading) -> Result<registry::Want, Invalid> {
        Ok(match self {
            Self::Changes { after } => registry::Want::Changes { after },
            Self::Buckets => registry::Want::Buckets,
            Self::Versions { buckets, after } => {
                let buckets = buckets.into_iter().map(bucket).collect::<Result<_, _>>()?;
                registry::Want::Versions { buckets, after: to_key(after, reading)? }
            }
            Self::Records { keys } => {
                registry::Want::Records { keys: keys.into_iter().map(|key| key.into_model(reading)).collect::<Result<_, _>>()? }
            }
            Self::Copy { copy, after } => registry::Want::Copy { copy, after: to_key(after, reading)? },
            Self::Digests { from } => registry::Want::Digests { from: bucket(from)? },
            Self::Whole { buckets, after } => {
                let buckets = buckets.into_iter().map(bucket).collect::<Result<_, _>>()?;
                registry::Want::Whole { buckets, after: to_key(after, reading)? }
            }
        })
    }
}

impl<'a> Have<'a> {
    pub(super) fn of(have: &'a registry::Have) -> Self {
        match have {
            registry::Have::Changes(change) => Self::Changes(Change::of(change)),
            registry::Have::TooOld => Self::TooOld,
            registry::Have::Buckets { live, withdrawn, applied, complete } => Self::Buckets {
                live: live.iter().copied().collect(),
                withdrawn: withdrawn.iter().copied().collect(),
                applied: lives_of(applied),
                complete: *complete,
            },
            registry::Have::Versions { versions, more } => Self::Versions {
                versions: versions.iter().map(|(key, version)| (Key::of(key), Version::of(version))).collect(),
                more: *more,
            },
            registry::Have::Records(records) => Self::Records(records_of(records)),
            registry::Have::Copy { copy, records, more, checksum, applied } => {
                Self::Copy { copy: *copy, records: records_of(records), more: *more, checksum: *checksum, applied: lives_of(applied) }
            }
            registry::Have::NotNow => Self::NotNow,
            registry::Have::Digests { live, withdrawn, next, applied, complete } => Self::Digests {
                live: live.iter().copied().collect(),
                withdrawn: withdrawn.iter().copied().collect(),
                next: *next,
                applied: lives_of(applied),
                complete: *complete,
            },
            registry::Have::Whole { records, next } => Self::Whole { records: records_of(records), next: next.as_ref().map(Key::of) },
            registry::Have::Later { after_ms } => Self::Later { after_ms: *after_ms },
        }
    }

    pub(super) fn into_model(self, reading: &mut Reading) -> Result<registry::Have, Invalid> {
        Ok(match self {
            Self::Changes(change) => registry::Have::Changes(change.into_model(reading)?),
            Self::TooOld => registry::Have::TooOld,
            Self::Buckets { live, withdrawn, applied, complete } => registry::Have::Buckets {
                live: to_buckets(live)?,
                withdrawn: to_buckets(withdrawn)?,
                applied: to_lives(applied, reading)?,
                complete,
            },
            Self::Versions { versions, more } => {
                let numbered = versions.into_iter().map(|(key, version)| (version.seq, (key, version)));
                let versions =
                    reading.sound(numbered, |(key, version), reading| Ok((key.into_model(reading)?, version.into_model(reading)?)));
                registry::Have::Versions { versions, more }
            }
            Self::Records(records) => registry::Have::Records(to_records(records, reading)),
            Self::Copy { copy, records, more, checksum, applied } => {
                registry::Have::Copy { copy, records: to_records(records, reading), more, checksum, applied: to_lives(applied, reading)? }
            }
            Self::NotNow => registry::Have::NotNow,
            Self::Digests { live, withdrawn, next, applied, complete } => registry::Have::Digests {
                live: to_buckets(live)?,
                withdrawn: to_buckets(withdrawn)?,
                next: next.map(bucket).transpose()?,
                applied: to_lives(applied, reading)?,
                complete,
            },
            Self::Whole { records, next } => registry::Have::Whole { records: to_records(records, reading), next: to_key(next, reading)? },
            Self::Later { after_ms } => registry::Have::Later { after_ms },
        })
    }
}

fn to_key(key: Option<Key<'_>>, reading: &mut Reading) -> Result<Option<InstanceKey>, Invalid> {
    key.map(|key| key.into_model(reading)).transpose()
}

fn to_buckets(buckets: List<(u16, u128), BUCKETS_MAX>) -> Result<Vec<(u16, u128)>, Invalid> {
    buckets.into_iter().map(|(number, digest)| Ok((bucket(number)?, digest))).collect()
}

fn bucket(number: u16) -> Result<u16, Invalid> {
    if usize::from(number) < BUCKETS_MAX { Ok(number) } else { Err(Invalid("bucket")) }
}
