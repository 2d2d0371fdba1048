//! Eyes: what a node sees that looks at a provider's process, and what it may make of that.
//!
//! Each process that is looked at has an address of its own. It answers where it runs, on the port that it says; where it does not run its
//! machine refuses; who cannot reach it sees nothing until the time is over.

use muster::model::{Cause, Check, CheckKind, InstanceKey};
use muster::registry::{Body, Changed, Probe, ProbeOutcome, Ticket};

use crate::counts::Injected;
use crate::invariant::Invariant;
use crate::provider::Provider;
use crate::teeth::Sabotage;
use crate::world::{Event, World};

/// One that has answered every look for so long is not held for gone by anybody: the longest interval, a tenth more, and what may come
/// between.
const ANSWERED_MS: u64 = 15_000;
/// One that is gone, and whose machine says so, is not kept for longer than this by self-preservation.
pub(crate) const REFUSED_MS: u64 = 60_000;

/// How the nodes may look at a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Looks {
    /// Never: silence is the only evidence.
    Never,
    /// Once it is late.
    Late,
    /// Every two seconds, whatever its heartbeats say.
    Always,
}

impl Looks {
    pub(crate) fn to_check(self) -> Option<Check> {
        let of = |kind| Some(Check { kind, interval_ms: 2000, timeout_ms: 1000, failures: 2, successes: 1 });
        match self {
            Self::Never => of(CheckKind::None),
            Self::Late => None,
            Self::Always => of(CheckKind::Tcp { port: None }),
        }
    }
}

/// The address of a provider's machine.
pub(crate) fn address_of(key: &InstanceKey) -> String {
    let text = key.to_string();
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [_, a, b, c] = hash.to_be_bytes();
    format!("10.{a}.{b}.{c}")
}

impl Provider {
    /// This node's packets do not come to its machine, nor that one's to the node.
    fn is_hidden_from(&self, node: usize, now: u64) -> bool {
        now < self.cut_off_until || self.hidden_from.iter().any(|(from, until)| *from == node && now < *until)
    }
}

impl World {
    /// A node looks: what it will see, and when.
    pub(crate) fn look_out(&mut self, node: usize, ticket: Ticket, probe: &Probe) {
        self.counts.add(Injected::Looked);
        let (life, now) = (self.slots[node].life, self.now);
        let is_lost = now < self.chaos_until && self.chance.permille(20);
        let after = self.chance.between(1, 20);
        let here = |provider: &&mut Provider| address_of(&provider.key) == probe.address.as_str();
        let mut outcome = ProbeOutcome::Refused;
        for provider in self.providers.iter_mut().filter(here) {
            let answers = provider.runs() && provider.content().port() == probe.port;
            if is_lost || provider.is_hidden_from(node, now) {
                outcome = ProbeOutcome::failed("no answer");
            } else if answers {
                outcome = ProbeOutcome::Passed { code: None, took_ms: after as u32 };
            }
            if !matches!(outcome, ProbeOutcome::Passed { .. }) {
                provider.answers_since = now;
            }
        }
        if self.is_sabotaged(Sabotage::SeeNobody) {
            outcome = ProbeOutcome::Refused;
        }
        let after = if matches!(outcome, ProbeOutcome::Failed { .. }) { probe.timeout_ms } else { after };
        self.trace.say_more(now, || format!("n{node} looks at {}:{} and sees {outcome:?}", probe.address, probe.port));
        self.after(after, Event::Seen { node, life, ticket, outcome });
    }

    /// Whether this process is gone, as whoever looks at it is told.
    pub(crate) fn is_gone(&self, key: &InstanceKey) -> bool {
        !self.providers.iter().any(|provider| provider.key == *key && provider.runs())
    }

    /// An owner says that an instance is down, or takes it from the list: not while it answers everybody who looks.
    pub(crate) fn check_seen(&mut self, node: usize, changed: &Changed) {
        let record = &changed.record;
        let says_gone = match &record.body {
            Body::Live { seen, .. } => *seen == muster::registry::Seen::Down,
            Body::Withdrawn { kept, .. } => kept.is_some(),
        };
        let said = match &record.body {
            Body::Live { registration, .. } => Some(registration),
            Body::Withdrawn { kept, .. } => kept.as_ref(),
        };
        let of_silence = matches!(record.cause, Cause::Expired | Cause::ProbeFailed);
        if !says_gone || !of_silence || self.is_contested(&record.key) {
            return;
        }
        // What a port says by taking connections counts for as long as self-preservation may last.
        let spent_ms = self.registry(node).map_or(0, |registry| registry.settings().preserve_max_ms);
        let is_spent = record.last_heartbeat_ms.is_some_and(|ms| u64::from(ms) >= spent_ms);
        let is_wronged = |provider: &&Provider| {
            provider.key == record.key
                && !(is_spent && provider.habits.looks == Looks::Late)
                && provider.habits.looks != Looks::Never
                && provider.runs()
                && said.is_some_and(|said| said.port() == provider.content().port())
                // A node that is paused looks at nobody meanwhile.
                && self.now > provider.answers_since.max(self.slots[node].resumed_at) + ANSWERED_MS
        };
        if let Some(wronged) = self.providers.iter().find(is_wronged) {
            let what = format!(
                "n{node} says that {} is gone, which has answered every look since {}: {} {:?}",
                record.key, wronged.answers_since, record.cause, record.detail
            );
            self.violate(Invariant::NothingLost, what);
        }
    }
}
