//! Probes on the wire: what a node that was asked to try an instance has seen.

use serde::{Deserialize, Serialize};

use super::Invalid;
use crate::registry::{PROBE_WHY_MAX, ProbeOutcome};

#[derive(Serialize, Deserialize)]
pub(super) enum Outcome<'a> {
    Passed {
        code: Option<u16>,
        took_ms: u32,
    },
    Refused,
    Failed {
        #[serde(borrow)]
        why: &'a str,
        code: Option<u16>,
    },
    Forbidden {
        #[serde(borrow)]
        why: &'a str,
    },
    NotTried,
}

impl<'a> Outcome<'a> {
    pub(super) fn of(outcome: &'a ProbeOutcome) -> Self {
        match outcome {
            ProbeOutcome::Passed { code, took_ms } => Self::Passed { code: *code, took_ms: *took_ms },
            ProbeOutcome::Refused => Self::Refused,
            ProbeOutcome::Failed { why, code } => Self::Failed { why, code: *code },
            ProbeOutcome::Forbidden { why } => Self::Forbidden { why },
            ProbeOutcome::NotTried => Self::NotTried,
        }
    }

    pub(super) fn into_model(self) -> Result<ProbeOutcome, Invalid> {
        // It is shown to people, as part of a record's detail.
        let is_sound = |why: &str| why.chars().count() <= PROBE_WHY_MAX && !why.chars().any(char::is_control);
        let bounded = |why: &str| if is_sound(why) { Ok(why.into()) } else { Err(Invalid("why")) };
        Ok(match self {
            Self::Passed { code, took_ms } => ProbeOutcome::Passed { code, took_ms },
            Self::Refused => ProbeOutcome::Refused,
            Self::Failed { why, code } => ProbeOutcome::Failed { why: bounded(why)?, code },
            Self::Forbidden { why } => ProbeOutcome::Forbidden { why: bounded(why)? },
            Self::NotTried => ProbeOutcome::NotTried,
        })
    }
}
