//! Messages on the wire: one frozen shape for each kind of frame, and the way from and to the registry's own.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::header::Kind;
use super::list::List;
use super::names::Names;
use super::record::{Extras, Key, Life, Record, Version};
use super::{Rejected, TooLarge, body};
use crate::model::{Epoch, Incarnation, InstanceKey};
use crate::registry::{self, LeaseTold, Message, NodeState as ModelState, RELAY_MAX};

/// More records than fit into a frame.
const RECORDS_MAX: usize = 16_384;
/// More keys, with or without their versions, than fit into a frame.
const KEYS_MAX: usize = 32_768;
/// There are 4,096 buckets.
const BUCKETS_MAX: usize = 4096;
/// Lives of nodes one node knows of.
const LIVES_MAX: usize = 8192;
/// A host name, a colon, a port.
const HTTP_BYTES_MAX: usize = 260;

type Records<'a> = List<Record<'a>, RECORDS_MAX>;
type Lives<'a> = List<AppliedAt<'a>, LIVES_MAX>;

#[derive(Serialize, Deserialize)]
struct Change<'a> {
    first: u64,
    last: u64,
    wants_ack: bool,
    #[serde(borrow)]
    records: Records<'a>,
}

#[derive(Serialize, Deserialize)]
struct Beacon<'a> {
    head: u64,
    state: NodeState,
    records: u64,
    digest: u128,
    view_digest: u128,
    http: &'a str,
    #[serde(borrow)]
    applied: Lives<'a>,
    #[serde(borrow)]
    extras: Extras<'a>,
}

#[derive(Serialize, Deserialize)]
enum NodeState {
    Warming,
    Ready,
    Leaving,
}

#[derive(Serialize, Deserialize)]
struct AppliedAt<'a> {
    #[serde(borrow)]
    life: Life<'a>,
    seq: u64,
    age_ms: Option<u32>,
}

#[derive(Serialize, Deserialize)]
struct Pull<'a> {
    ticket: u64,
    #[serde(borrow)]
    want: Want<'a>,
}

#[derive(Serialize, Deserialize)]
enum Want<'a> {
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
}

#[derive(Serialize, Deserialize)]
struct Pulled<'a> {
    ticket: u64,
    #[serde(borrow)]
    have: Have<'a>,
}

#[derive(Serialize, Deserialize)]
enum Have<'a> {
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
}

#[derive(Serialize, Deserialize)]
struct Relay<'a> {
    ticket: u64,
    #[serde(borrow)]
    renewals: List<Renewal<'a>, RELAY_MAX>,
}

#[derive(Serialize, Deserialize)]
struct Renewal<'a> {
    #[serde(borrow)]
    key: Key<'a>,
    incarnation: u64,
    digest: Option<u128>,
    age_ms: u32,
}

#[derive(Serialize, Deserialize)]
struct Relayed<'a> {
    ticket: u64,
    #[serde(borrow)]
    verdicts: List<Verdict<'a>, RELAY_MAX>,
}

#[derive(Serialize, Deserialize)]
enum Verdict<'a> {
    Renewed,
    Unknown,
    Differs,
    Gone(#[serde(borrow)] Box<Record<'a>>),
}

#[derive(Serialize, Deserialize)]
struct Applied {
    epoch: u64,
    seq: u64,
}

#[derive(Serialize, Deserialize)]
struct AskLease<'a> {
    ticket: u64,
    #[serde(borrow)]
    key: Key<'a>,
}

#[derive(Serialize, Deserialize)]
struct ToldLease {
    ticket: u64,
    lease: Option<Lease>,
}

#[derive(Serialize, Deserialize)]
struct Lease {
    remaining_ms: u64,
    last_heartbeat_ms: u64,
}

/// Appends a message's body to a frame.
pub(super) fn write(message: &Message, frame: &mut Vec<u8>) -> Result<(), TooLarge> {
    match message {
        Message::Change(change) => body::write(&Change::of(change), frame),
        Message::Beacon(beacon) => body::write(&Beacon::of(beacon), frame),
        Message::Pull { ticket, want } => body::write(&Pull { ticket: *ticket, want: Want::of(want) }, frame),
        Message::Pulled { ticket, have } => body::write(&Pulled { ticket: *ticket, have: Have::of(have) }, frame),
        Message::Relay { ticket, renewals } => {
            body::write(&Relay { ticket: *ticket, renewals: renewals.iter().map(Renewal::of).collect() }, frame)
        }
        Message::Relayed { ticket, verdicts } => {
            body::write(&Relayed { ticket: *ticket, verdicts: verdicts.iter().map(Verdict::of).collect() }, frame)
        }
        Message::Applied { epoch, seq } => body::write(&Applied { epoch: epoch.0, seq: *seq }, frame),
        Message::AskLease { ticket, key } => body::write(&AskLease { ticket: *ticket, key: Key::of(key) }, frame),
        Message::ToldLease { ticket, lease } => body::write(&ToldLease { ticket: *ticket, lease: lease.as_ref().map(Lease::of) }, frame),
    }
}

/// Reads a message of this kind from a frame's body.
pub(super) fn read(kind: Kind, bytes: &[u8], names: &mut Names) -> Result<Message, Rejected> {
    Ok(match kind {
        Kind::Change => Message::Change(body::read::<Change<'_>>(bytes)?.into_model(names)?),
        Kind::Beacon => Message::Beacon(body::read::<Beacon<'_>>(bytes)?.into_model(names)?),
        Kind::Pull => {
            let Pull { ticket, want } = body::read(bytes)?;
            Message::Pull { ticket, want: want.into_model(names)? }
        }
        Kind::Pulled => {
            let Pulled { ticket, have } = body::read(bytes)?;
            Message::Pulled { ticket, have: have.into_model(names)? }
        }
        Kind::Relay => {
            let Relay { ticket, renewals } = body::read(bytes)?;
            Message::Relay { ticket, renewals: renewals.into_iter().map(|renewal| renewal.into_model(names)).collect::<Result<_, _>>()? }
        }
        Kind::Relayed => {
            let Relayed { ticket, verdicts } = body::read(bytes)?;
            Message::Relayed { ticket, verdicts: verdicts.into_iter().map(|verdict| verdict.into_model(names)).collect::<Result<_, _>>()? }
        }
        Kind::Applied => {
            let Applied { epoch, seq } = body::read(bytes)?;
            Message::Applied { epoch: Epoch(epoch), seq }
        }
        Kind::AskLease => {
            let AskLease { ticket, key } = body::read(bytes)?;
            Message::AskLease { ticket, key: key.into_model(names)? }
        }
        Kind::ToldLease => {
            let ToldLease { ticket, lease } = body::read(bytes)?;
            Message::ToldLease { ticket, lease: lease.map(Lease::into_model) }
        }
    })
}

impl<'a> Change<'a> {
    fn of(change: &'a registry::Change) -> Self {
        let registry::Change { first, last, wants_ack, records } = change;
        Self { first: *first, last: *last, wants_ack: *wants_ack, records: records_of(records) }
    }

    fn into_model(self, names: &mut Names) -> Result<registry::Change, Rejected> {
        let Self { first, last, wants_ack, records } = self;
        // `last` may be the one before `first`: nothing is covered, which answers a pull by a node that has everything.
        if first == 0 || last < first - 1 {
            return Err(Rejected::Invalid("seq"));
        }
        Ok(registry::Change { first, last, wants_ack, records: to_records(records, names)? })
    }
}

impl<'a> Beacon<'a> {
    fn of(beacon: &'a registry::Beacon) -> Self {
        let registry::Beacon { head, state, records, digest, view_digest, http, applied } = beacon;
        Self {
            head: *head,
            state: NodeState::of(*state),
            records: *records,
            digest: *digest,
            view_digest: *view_digest,
            http,
            applied: lives_of(applied),
            extras: List::EMPTY,
        }
    }

    fn into_model(self, names: &mut Names) -> Result<registry::Beacon, Rejected> {
        let Self { head, state, records, digest, view_digest, http, applied, extras: _ } = self;
        // Peers show it, and dial it: it is a host and a port, or empty.
        if http.len() > HTTP_BYTES_MAX || !http.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Rejected::Invalid("HTTP address"));
        }
        let applied = to_lives(applied, names)?;
        Ok(registry::Beacon { head, state: state.into_model(), records, digest, view_digest, http: http.to_owned(), applied })
    }
}

impl NodeState {
    fn of(state: ModelState) -> Self {
        match state {
            ModelState::Warming => Self::Warming,
            ModelState::Ready => Self::Ready,
            ModelState::Leaving => Self::Leaving,
        }
    }

    fn into_model(self) -> ModelState {
        match self {
            Self::Warming => ModelState::Warming,
            Self::Ready => ModelState::Ready,
            Self::Leaving => ModelState::Leaving,
        }
    }
}

impl<'a> Want<'a> {
    fn of(want: &'a registry::Want) -> Self {
        match want {
            registry::Want::Changes { after } => Self::Changes { after: *after },
            registry::Want::Buckets => Self::Buckets,
            registry::Want::Versions { buckets, after } => {
                Self::Versions { buckets: buckets.iter().copied().collect(), after: after.as_ref().map(Key::of) }
            }
            registry::Want::Records { keys } => Self::Records { keys: keys.iter().map(Key::of).collect() },
            registry::Want::Copy { copy, after } => Self::Copy { copy: *copy, after: after.as_ref().map(Key::of) },
        }
    }

    fn into_model(self, names: &mut Names) -> Result<registry::Want, Rejected> {
        Ok(match self {
            Self::Changes { after } => registry::Want::Changes { after },
            Self::Buckets => registry::Want::Buckets,
            Self::Versions { buckets, after } => {
                let buckets = buckets.into_iter().map(bucket).collect::<Result<_, _>>()?;
                registry::Want::Versions { buckets, after: to_key(after, names)? }
            }
            Self::Records { keys } => {
                registry::Want::Records { keys: keys.into_iter().map(|key| key.into_model(names)).collect::<Result<_, _>>()? }
            }
            Self::Copy { copy, after } => registry::Want::Copy { copy, after: to_key(after, names)? },
        })
    }
}

impl<'a> Have<'a> {
    fn of(have: &'a registry::Have) -> Self {
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
        }
    }

    fn into_model(self, names: &mut Names) -> Result<registry::Have, Rejected> {
        Ok(match self {
            Self::Changes(change) => registry::Have::Changes(change.into_model(names)?),
            Self::TooOld => registry::Have::TooOld,
            Self::Buckets { live, withdrawn, applied, complete } => registry::Have::Buckets {
                live: to_buckets(live)?,
                withdrawn: to_buckets(withdrawn)?,
                applied: to_lives(applied, names)?,
                complete,
            },
            Self::Versions { versions, more } => {
                let pair = |(key, version): (Key<'_>, Version<'_>)| Ok((key.into_model(names)?, version.into_model(names)?));
                registry::Have::Versions { versions: versions.into_iter().map(pair).collect::<Result<_, Rejected>>()?, more }
            }
            Self::Records(records) => registry::Have::Records(to_records(records, names)?),
            Self::Copy { copy, records, more, checksum, applied } => {
                registry::Have::Copy { copy, records: to_records(records, names)?, more, checksum, applied: to_lives(applied, names)? }
            }
            Self::NotNow => registry::Have::NotNow,
        })
    }
}

impl<'a> Renewal<'a> {
    fn of(renewal: &'a registry::Renewal) -> Self {
        let registry::Renewal { key, incarnation, digest, age_ms } = renewal;
        Self { key: Key::of(key), incarnation: incarnation.get(), digest: *digest, age_ms: *age_ms }
    }

    fn into_model(self, names: &mut Names) -> Result<registry::Renewal, Rejected> {
        let incarnation = Incarnation::new(self.incarnation).ok_or(Rejected::Invalid("incarnation"))?;
        Ok(registry::Renewal { key: self.key.into_model(names)?, incarnation, digest: self.digest, age_ms: self.age_ms })
    }
}

impl<'a> Verdict<'a> {
    fn of(verdict: &'a registry::Verdict) -> Self {
        match verdict {
            registry::Verdict::Renewed => Self::Renewed,
            registry::Verdict::Unknown => Self::Unknown,
            registry::Verdict::Differs => Self::Differs,
            registry::Verdict::Gone(record) => Self::Gone(Box::new(Record::of(record))),
        }
    }

    fn into_model(self, names: &mut Names) -> Result<registry::Verdict, Rejected> {
        Ok(match self {
            Self::Renewed => registry::Verdict::Renewed,
            Self::Unknown => registry::Verdict::Unknown,
            Self::Differs => registry::Verdict::Differs,
            Self::Gone(record) => registry::Verdict::Gone(record.into_model(names)?),
        })
    }
}

impl Lease {
    fn of(lease: &LeaseTold) -> Self {
        Self { remaining_ms: lease.remaining_ms, last_heartbeat_ms: lease.last_heartbeat_ms }
    }

    fn into_model(self) -> LeaseTold {
        LeaseTold { remaining_ms: self.remaining_ms, last_heartbeat_ms: self.last_heartbeat_ms }
    }
}

fn records_of(records: &[Arc<registry::Record>]) -> Records<'_> {
    records.iter().map(|record| Record::of(record)).collect()
}

fn to_records(records: Records<'_>, names: &mut Names) -> Result<Vec<Arc<registry::Record>>, Rejected> {
    records.into_iter().map(|record| record.into_model(names)).collect()
}

fn lives_of(applied: &[registry::AppliedAt]) -> Lives<'_> {
    applied.iter().map(|at| AppliedAt { life: Life::of(&at.life), seq: at.seq, age_ms: at.age_ms }).collect()
}

fn to_lives(lives: Lives<'_>, names: &mut Names) -> Result<Vec<registry::AppliedAt>, Rejected> {
    lives.into_iter().map(|at| Ok(registry::AppliedAt { life: at.life.into_model(names)?, seq: at.seq, age_ms: at.age_ms })).collect()
}

fn to_key(key: Option<Key<'_>>, names: &mut Names) -> Result<Option<InstanceKey>, Rejected> {
    key.map(|key| key.into_model(names)).transpose()
}

fn to_buckets(buckets: List<(u16, u128), BUCKETS_MAX>) -> Result<Vec<(u16, u128)>, Rejected> {
    buckets.into_iter().map(|(number, digest)| Ok((bucket(number)?, digest))).collect()
}

fn bucket(number: u16) -> Result<u16, Rejected> {
    if usize::from(number) < BUCKETS_MAX { Ok(number) } else { Err(Rejected::Invalid("bucket")) }
}
