//! What every write can ask for: who must have applied it before it is answered.

use super::query::Query;
use crate::registry::{Ack, Mono};

const ACK_TIMEOUT_MS: u64 = 2_000;
const ACK_TIMEOUT_MS_MAX: u64 = 300_000;

/// When a write came, and when it is to be answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write {
    /// When its head had been read.
    pub(super) at: Mono,
    /// Who must have applied it.
    pub(super) asked: Asked,
    timeout_ms: u64,
}

/// Who must have applied a write before it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Asked {
    #[default]
    Local,
    Peer,
    All,
}

impl Asked {
    const WORDS: [(&str, Self); 3] = [("local", Self::Local), ("peer", Self::Peer), ("all", Self::All)];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Peer => "peer",
            Self::All => "all",
        }
    }
}

impl Write {
    /// Reads `ack` and `ack_timeout`; the query holds what is wrong with them.
    pub(super) fn read(query: &mut Query, at: Mono) -> Self {
        let asked = query.word("ack", &Asked::WORDS).unwrap_or_default();
        let timeout_ms = query.ms("ack_timeout", 1..=ACK_TIMEOUT_MS_MAX).unwrap_or(ACK_TIMEOUT_MS);
        Self { at, asked, timeout_ms }
    }

    /// Answered once it is in this node's memory.
    pub(super) fn local(at: Mono) -> Self {
        Self { at, asked: Asked::Local, timeout_ms: 0 }
    }

    /// For the node.
    pub(super) fn ack(self) -> Ack {
        let until = self.at.saturating_add(self.timeout_ms);
        match self.asked {
            Asked::Local => Ack::Local,
            Asked::Peer => Ack::Peer { until },
            Asked::All => Ack::All { until },
        }
    }
}
