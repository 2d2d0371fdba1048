//! Relays on the wire: heartbeats on their way to the owner, what it says to them, and what it tells of a lease.

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::reading::Reading;
use super::record::{Key, Record};
use crate::model::Incarnation;
use crate::registry;

#[derive(Serialize, Deserialize)]
pub(super) struct Renewal<'a> {
    #[serde(borrow)]
    key: Key<'a>,
    incarnation: u64,
    digest: Option<u128>,
    age_ms: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) enum Verdict<'a> {
    Renewed,
    Unknown,
    Differs,
    Gone(#[serde(borrow)] Box<Record<'a>>),
}

/// No heartbeat has come yet.
const NEVER: u64 = u64::MAX;
/// With the time that is left: a connection holds it.
const ATTACHED: u64 = 1 << 63;

#[derive(Serialize, Deserialize)]
pub(super) struct Lease {
    remaining_ms: u64,
    last_heartbeat_ms: u64,
}

impl<'a> Renewal<'a> {
    pub(super) fn of(renewal: &'a registry::Renewal) -> Self {
        let registry::Renewal { key, incarnation, digest, age_ms } = renewal;
        Self { key: Key::of(key), incarnation: incarnation.get(), digest: *digest, age_ms: *age_ms }
    }

    pub(super) fn into_model(self, reading: &mut Reading) -> Result<registry::Renewal, Invalid> {
        let incarnation = Incarnation::new(self.incarnation).ok_or(Invalid("incarnation"))?;
        Ok(registry::Renewal { key: self.key.into_model(reading)?, incarnation, digest: self.digest, age_ms: self.age_ms })
    }
}

impl<'a> Verdict<'a> {
    pub(super) fn of(verdict: &'a registry::Verdict) -> Self {
        match verdict {
            registry::Verdict::Renewed => Self::Renewed,
            registry::Verdict::Unknown => Self::Unknown,
            registry::Verdict::Differs => Self::Differs,
            registry::Verdict::Gone(record) => Self::Gone(Box::new(Record::of(record))),
        }
    }

    pub(super) fn into_model(self, reading: &mut Reading) -> Result<registry::Verdict, Invalid> {
        Ok(match self {
            Self::Renewed => registry::Verdict::Renewed,
            Self::Unknown => registry::Verdict::Unknown,
            Self::Differs => registry::Verdict::Differs,
            Self::Gone(record) => registry::Verdict::Gone(record.into_model(reading)?),
        })
    }
}

impl Lease {
    pub(super) fn of(lease: &registry::LeaseTold) -> Self {
        let attached = if lease.attached { ATTACHED } else { 0 };
        Self { remaining_ms: lease.remaining_ms.min(ATTACHED - 1) | attached, last_heartbeat_ms: lease.last_heartbeat_ms.unwrap_or(NEVER) }
    }

    pub(super) fn into_model(self) -> registry::LeaseTold {
        let last_heartbeat_ms = Some(self.last_heartbeat_ms).filter(|ms| *ms != NEVER);
        registry::LeaseTold { remaining_ms: self.remaining_ms & !ATTACHED, last_heartbeat_ms, attached: self.remaining_ms & ATTACHED != 0 }
    }
}
