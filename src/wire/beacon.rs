//! Beacons on the wire, and how far a node has applied each log, which it also says with what it gives.

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::list::List;
use super::reading::Reading;
use super::record::{Extras, Life};
use crate::registry;

/// Lives of nodes one node knows of.
const LIVES_MAX: usize = 8192;

/// A host name, a colon, a port.
const HTTP_BYTES_MAX: usize = 260;

pub(super) type Lives<'a> = List<AppliedAt<'a>, LIVES_MAX>;

#[derive(Serialize, Deserialize)]
pub(super) struct Beacon<'a> {
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
pub(super) struct AppliedAt<'a> {
    #[serde(borrow)]
    life: Life<'a>,
    seq: u64,
    age_ms: Option<u32>,
}

impl<'a> Beacon<'a> {
    pub(super) fn of(beacon: &'a registry::Beacon) -> Self {
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

    pub(super) fn into_model(self, reading: &mut Reading) -> Result<registry::Beacon, Invalid> {
        let Self { head, state, records, digest, view_digest, http, applied, extras: _ } = self;
        // Peers show it, and dial it: it is a host and a port, or empty.
        if http.len() > HTTP_BYTES_MAX || !http.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Invalid("HTTP address"));
        }
        let applied = to_lives(applied, reading)?;
        Ok(registry::Beacon { head, state: state.into_model(), records, digest, view_digest, http: http.to_owned(), applied })
    }
}

impl NodeState {
    pub(super) fn of(state: registry::NodeState) -> Self {
        match state {
            registry::NodeState::Warming => Self::Warming,
            registry::NodeState::Ready => Self::Ready,
            registry::NodeState::Leaving => Self::Leaving,
        }
    }

    pub(super) fn into_model(self) -> registry::NodeState {
        match self {
            Self::Warming => registry::NodeState::Warming,
            Self::Ready => registry::NodeState::Ready,
            Self::Leaving => registry::NodeState::Leaving,
        }
    }
}

pub(super) fn lives_of(applied: &[registry::AppliedAt]) -> Lives<'_> {
    applied.iter().map(|at| AppliedAt { life: Life::of(&at.life), seq: at.seq, age_ms: at.age_ms }).collect()
}

pub(super) fn to_lives(lives: Lives<'_>, reading: &mut Reading) -> Result<Vec<registry::AppliedAt>, Invalid> {
    lives.into_iter().map(|at| Ok(registry::AppliedAt { life: at.life.into_model(reading)?, seq: at.seq, age_ms: at.age_ms })).collect()
}
