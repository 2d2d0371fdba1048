//! Probes: what is asked of an instance, and what asking it brought. The shell asks; what follows is decided in `sight`.

use std::sync::Arc;

use crate::model::{Address, CheckKind, Port, Registration};

/// Without a declared check a late instance's port is tried, and while it answers again this often.
const IMPLICIT_INTERVAL_MS: u64 = 10_000;
/// How long that may take.
const IMPLICIT_TIMEOUT_MS: u64 = 2000;
/// How many characters of what a probe saw are kept.
pub const PROBE_WHY_MAX: usize = 60;

/// What is asked of an instance: always the address that was registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// An IP address or a host name.
    pub address: Address,
    /// The check's, or the instance's own.
    pub port: Port,
    /// How.
    pub kind: ProbeKind,
    /// How long all of it may take.
    pub timeout_ms: u64,
}

/// How an instance is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeKind {
    /// `GET` this path; 2xx is well.
    Http(String),
    /// The port takes a connection.
    Tcp,
    /// grpc.health.v1 says SERVING.
    Grpc,
}

/// What a probe brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// It answers, and says that it is well.
    Passed {
        /// Of an HTTP check.
        code: Option<u16>,
        /// How long that took.
        took_ms: u32,
    },
    /// Its machine says that nobody listens there: evidence that the process is gone.
    Refused,
    /// It does not answer in time, cannot be reached, or says that it is not well.
    Failed {
        /// In a few words, at most [`PROBE_WHY_MAX`].
        why: Arc<str>,
        /// Of an HTTP check that was answered.
        code: Option<u16>,
    },
    /// This node may not ask at that address: nothing was seen.
    Forbidden {
        /// The rule.
        why: Arc<str>,
    },
    /// There are too many probes: nothing was seen yet.
    NotTried,
}

impl ProbeOutcome {
    /// A failure, in words that are not too many.
    #[must_use]
    pub fn failed(why: &str) -> Self {
        Self::Failed { why: shortened(why).into(), code: None }
    }

    /// The word for counters.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Passed { .. } => "passed",
            Self::Refused => "refused",
            Self::Failed { .. } => "failed",
            Self::Forbidden { .. } => "forbidden",
            Self::NotTried => "not_tried",
        }
    }

    /// It was looked, and the instance did not say that it is well.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Refused | Self::Failed { .. } => true,
            Self::Passed { .. } | Self::Forbidden { .. } | Self::NotTried => false,
        }
    }

    /// What was seen, in words.
    #[must_use]
    pub fn to_words(&self) -> Arc<str> {
        match self {
            Self::Passed { code: Some(code), took_ms } => format!("{code} in {took_ms} ms").into(),
            Self::Passed { code: None, took_ms } => format!("answered in {took_ms} ms").into(),
            Self::Refused => "connection refused".into(),
            Self::Failed { why, .. } | Self::Forbidden { why } => Arc::clone(why),
            Self::NotTried => "not tried".into(),
        }
    }
}

/// At most [`PROBE_WHY_MAX`] characters of a text.
fn shortened(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(PROBE_WHY_MAX).collect()
}

/// How an instance is looked at: as its check says, or, without one, once it is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) interval_ms: u64,
    pub(super) timeout_ms: u64,
    /// So many in a row are one.
    pub(super) failures: u32,
    /// So many in a row are one.
    pub(super) successes: u32,
    /// It was declared: it is looked at while its lease is held too, and what is seen counts without limit.
    pub(super) is_declared: bool,
}

impl Plan {
    /// `None`: it is never looked at.
    pub(super) fn of(registration: &Registration) -> Option<Self> {
        match registration.check() {
            Some(check) if check.kind == CheckKind::None => None,
            Some(check) => Some(Self {
                interval_ms: u64::from(check.interval_ms),
                timeout_ms: u64::from(check.timeout_ms),
                failures: u32::from(check.failures),
                successes: u32::from(check.successes),
                is_declared: true,
            }),
            // A fixed address that declares none is listed whether it answers or not.
            None if registration.ttl().is_none() => None,
            None => Some(Self {
                interval_ms: IMPLICIT_INTERVAL_MS,
                timeout_ms: IMPLICIT_TIMEOUT_MS,
                failures: 1,
                successes: 1,
                is_declared: false,
            }),
        }
    }
}

/// What is to be asked of an instance; `None`: nothing.
pub(super) fn to_probe(registration: &Registration) -> Option<Probe> {
    let plan = Plan::of(registration)?;
    let (kind, port) = match registration.check().map(|check| &check.kind) {
        Some(CheckKind::Http { path, port }) => (ProbeKind::Http(path.clone()), *port),
        Some(CheckKind::Grpc { port }) => (ProbeKind::Grpc, *port),
        Some(CheckKind::Tcp { port }) => (ProbeKind::Tcp, *port),
        Some(CheckKind::None) | None => (ProbeKind::Tcp, None),
    };
    let port = port.unwrap_or_else(|| registration.port());
    Some(Probe { address: registration.address().clone(), port, kind, timeout_ms: plan.timeout_ms })
}
