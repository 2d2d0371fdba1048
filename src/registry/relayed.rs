//! Relayed heartbeats: what the owner says to them, and what the node that relayed them makes of that.

use std::sync::Arc;

use super::lease::Phase;
use super::merge::{Step, Why};
use super::message::{Message, NodeState, Renewal, To, Verdict};
use super::ownership::Unless;
use super::record::{Body, Record, Seen, content_digest};
use super::relay::Beat;
use super::serve::ANSWER_BYTES_MAX;
use super::time::{Mono, Now};
use super::{Outbox, Output, Registry};
use crate::model::{Cause, InstanceKey, Life, Ttl};

impl Registry {
    /// A relay's heartbeats, judged by the owner.
    pub(super) fn handle_relay(&mut self, from: &Life, ticket: u64, renewals: &[Renewal], now: Now, out: &mut Outbox) {
        // Verdicts that do not fit one answer are left out: those heartbeats come again.
        let mut bytes = 0;
        let mut verdicts = Vec::with_capacity(renewals.len());
        for renewal in renewals {
            let verdict = self.judge(from, renewal, now, out);
            bytes += if let Verdict::Gone(record) = &verdict { record.size_bytes() } else { 1 };
            if bytes > ANSWER_BYTES_MAX {
                break;
            }
            verdicts.push(verdict);
        }
        out.push(Output::Send(To::Node(from.node.clone()), Message::Relayed { ticket, verdicts }));
    }

    fn judge(&mut self, from: &Life, renewal: &Renewal, now: Now, out: &mut Outbox) -> Verdict {
        if self.state == NodeState::Leaving {
            return Verdict::Unknown;
        }
        let Some(record) = self.store.get(&renewal.key).cloned() else { return Verdict::Unknown };
        if renewal.incarnation > record.version.incarnation {
            return Verdict::Unknown;
        }
        let at = now.mono.saturating_sub(u64::from(renewal.age_ms));
        let beat = Beat { incarnation: renewal.incarnation, digest: renewal.digest, at };
        if renewal.incarnation < record.version.incarnation {
            return Verdict::Gone(record);
        }
        match &record.body {
            Body::Live { .. } if record.version.owner == *from && self.is_leaving(from) => {
                self.inherit(&record, at, now, out);
                Verdict::Renewed
            }
            Body::Live { .. } if record.version.owner != self.life => Verdict::Gone(record),
            Body::Live { registration, .. } if beat.digest.is_some_and(|digest| digest != content_digest(registration)) => Verdict::Differs,
            Body::Live { .. } => {
                self.renew_own(record, at, now, out);
                Verdict::Renewed
            }
            Body::Withdrawn { .. } => match self.revive(&record, &beat, now, out) {
                Some(_) => Verdict::Renewed,
                None => Verdict::Gone(record),
            },
        }
    }

    fn is_leaving(&self, life: &Life) -> bool {
        self.peers.get(&life.node).is_some_and(|peer| peer.epoch == life.epoch && peer.has_left())
    }

    /// A node that leaves hands a lease over: the record stays as it is, and so does the time that is left of it.
    fn inherit(&mut self, record: &Arc<Record>, at: Mono, now: Now, out: &mut Outbox) {
        let Body::Live { seen, .. } = &record.body else { return };
        let phase = match seen {
            Seen::Well => Phase::Held,
            Seen::Suspect => Phase::Late(now.mono),
            Seen::Down => Phase::Over(now.mono),
        };
        let why = Why { cause: Cause::Adopted, actor: None, detail: Some(Arc::from(format!("{} left", record.version.owner.node))) };
        let written = self.write(record.key.clone(), Step::generation(&record.version), record.body.clone(), why, now, out);
        let ttl_ms = written.registration().and_then(|registration| registration.ttl()).map_or(0, Ttl::ms);
        let due = if phase == Phase::Held { at + ttl_ms } else { now.mono + ttl_ms };
        self.hold_as(&written, phase, at, due, out);
        if phase != Phase::Held {
            self.consider_preserving(&written.key.service, now, out);
        }
    }

    /// An owner's answers to what was relayed to it.
    pub(super) fn handle_relayed(&mut self, from: &Life, ticket: u64, verdicts: Vec<Verdict>, now: Now, out: &mut Outbox) {
        for ((key, beat), verdict) in self.relays.answered(&from.node, ticket).into_iter().zip(verdicts) {
            match verdict {
                Verdict::Renewed => {}
                Verdict::Differs => self.ask_again.mark(key, Unless::Nothing),
                Verdict::Gone(record) => {
                    self.merge(&record, from, now, out);
                }
                Verdict::Unknown => self.claim_unknown(&key, &beat, from, now, out),
            }
        }
    }

    /// The owner does not know the instance (any more): this node takes it over, if it is still the same.
    fn claim_unknown(&mut self, key: &InstanceKey, beat: &Beat, from: &Life, now: Now, out: &mut Outbox) {
        let Some(record) = self.store.get(key).cloned() else { return };
        let Some(registration) = record.registration() else { return };
        let is_same = record.version.incarnation == beat.incarnation && record.version.owner.node == from.node;
        if is_same && beat.digest.is_none_or(|digest| digest == content_digest(registration)) {
            self.claim(&record, beat.at, now, out);
        }
    }
}
