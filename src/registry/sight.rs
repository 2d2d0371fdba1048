//! Sight: what this node makes of what it sees when it looks at an instance for itself. `looking` says when that is.
//!
//! Of a silent instance the lease's judge, in `expiry`, asks what is seen of it. One whose lease is held, or that sends no heartbeats, is
//! `down` when its check fails, and `up` when that passes again; heartbeats say nothing of it.

use std::sync::Arc;

use super::answer::Looked;
use super::io::{Output, Ticket};
use super::lease::{Lease, Phase};
use super::link::BusHealth;
use super::looking::{Due, Errand, Look, Sight, Turn};
use super::merge::{Step, Why};
use super::message::{Message, NodeState, To};
use super::probe::{Plan, Probe, ProbeOutcome, to_probe};
use super::record::{Body, NOTE_BYTES_MAX, Record, Seen};
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::{Cause, InstanceKey, Life, NodeName, Registration};

/// How many probes one call sends out; the rest is due at once again.
const TRIES_MAX: usize = 2000;
/// How many other nodes are asked to try.
const HELPERS: usize = 2;

impl Registry {
    /// Sends out the probes that are due.
    pub(super) fn advance_looking(&mut self, now: Now, out: &mut Outbox) {
        if self.state != NodeState::Ready {
            return;
        }
        for _ in 0..TRIES_MAX {
            match self.looking.take_due(now.mono) {
                None => break,
                Some((key, Due::Try)) => self.looking.wait(&key),
                Some((key, Due::NoHelp)) if self.to_probe(&key).is_some() => self.give_up(&key, now, out),
                Some((key, Due::NoHelp)) => {
                    self.looking.end(&key);
                }
            }
        }
        for _ in 0..TRIES_MAX {
            let Some(key) = self.looking.take_turn(now.mono) else { return };
            let Some(probe) = self.to_probe(&key) else {
                self.looking.end(&key);
                continue;
            };
            let ticket = self.looking.try_now(&key, probe.timeout_ms, now.mono);
            out.push(Output::Probe { ticket, probe });
        }
    }

    /// What is asked of an instance whose lease is held here; `None`: it is not looked at any more.
    fn to_probe(&self, key: &InstanceKey) -> Option<Probe> {
        self.leases.get(key)?;
        to_probe(self.store.get(key)?.registration()?)
    }

    /// Whether what this node sees, or does not see, can be held against anybody: it is not this node that is late, or cut off.
    fn has_sound_eyes(&self) -> bool {
        self.state == NodeState::Ready && !self.health.is_poor() && !self.health.is_returning() && self.link.health() != BusHealth::Deaf
    }

    /// The shell has looked.
    pub(super) fn handle_probed(&mut self, ticket: Ticket, outcome: ProbeOutcome, now: Now, out: &mut Outbox) {
        match self.looking.take_errand(ticket) {
            None | Some(Errand::Over) => {}
            Some(Errand::Peer { node, question }) => {
                out.push(Output::Send(To::Node(node), Message::ToldProbe { ticket: question, outcome }));
            }
            Some(Errand::Own(key)) => {
                let counts = !outcome.is_failure() || self.has_sound_eyes();
                self.note_try(&key, if counts { &outcome } else { &ProbeOutcome::NotTried }, now, out);
            }
        }
    }

    fn note_try(&mut self, key: &InstanceKey, outcome: &ProbeOutcome, now: Now, out: &mut Outbox) {
        let Some(plan) = self.plan_of(key) else { return };
        let turn = self.looking.note(key, outcome, plan, now.mono, &mut self.rng);
        self.note_evidence(key);
        match turn {
            Turn::Waits => {}
            Turn::NeedsHelp => self.ask_for_help(key, plan, now, out),
            Turn::Seen => self.act_on(key, now, out),
        }
    }

    fn plan_of(&self, key: &InstanceKey) -> Option<Plan> {
        self.store.get(key).and_then(|record| Plan::of(record.registration()?))
    }

    /// This node does not reach it: two others are to try, if there are any.
    fn ask_for_help(&mut self, key: &InstanceKey, plan: Plan, now: Now, out: &mut Outbox) {
        let mut able: Vec<NodeName> =
            self.peers.alive(now.mono).filter(|(_, peer)| peer.is_ready()).map(|(node, _)| node.clone()).collect();
        let mut helpers = Vec::new();
        while helpers.len() < HELPERS
            && let Some(helper) = self.rng.pick(able.clone())
        {
            able.retain(|node| *node != helper);
            helpers.push(helper);
        }
        if helpers.is_empty() {
            return self.give_up(key, now, out);
        }
        let ticket = self.rng.next();
        self.looking.ask_others(key, ticket, helpers.len(), plan.timeout_ms, now.mono);
        for helper in helpers {
            out.push(Output::Send(To::Node(helper), Message::AskProbe { ticket, key: key.clone() }));
        }
    }

    /// Nobody reaches it, as far as this node can tell.
    fn give_up(&mut self, key: &InstanceKey, now: Now, out: &mut Outbox) {
        let Some(plan) = self.plan_of(key) else { return };
        self.looking.give_up(key, plan, now.mono);
        self.note_evidence(key);
        self.act_on(key, now, out);
    }

    /// Refusals are evidence, or are so no more: the lease counts accordingly.
    fn note_evidence(&mut self, key: &InstanceKey) {
        self.leases.set_refused(key, self.is_refused(key));
    }

    /// A peer does not reach an instance, and wants to know whether this node does: at the address under which it is held here.
    pub(super) fn handle_ask_probe(&mut self, from: &Life, question: u64, key: &InstanceKey, now: Now, out: &mut Outbox) {
        let probe = self.store.get(key).and_then(|record| to_probe(record.registration()?)).filter(|_| self.has_sound_eyes());
        let found = probe.and_then(|probe| Some((self.looking.try_for(from.node.clone(), question, now.mono)?, probe)));
        out.push(match found {
            Some((ticket, probe)) => Output::Probe { ticket, probe },
            None => {
                let told = Message::ToldProbe { ticket: question, outcome: ProbeOutcome::NotTried };
                Output::Send(To::Node(from.node.clone()), told)
            }
        });
    }

    /// A peer has tried.
    pub(super) fn handle_told_probe(&mut self, from: &Life, question: u64, outcome: &ProbeOutcome, now: Now, out: &mut Outbox) {
        let Some(plan) = self.looking.asked_about(question).cloned().and_then(|key| self.plan_of(&key)) else { return };
        if let Some(key) = self.looking.note_help(&from.node, question, outcome, plan, now.mono) {
            self.note_evidence(&key);
            self.act_on(&key, now, out);
        }
    }

    /// Something was seen that decides. Of a silent instance the lease's judge decides, who must know its last heartbeat.
    fn act_on(&mut self, key: &InstanceKey, now: Now, out: &mut Outbox) {
        let Some(look) = self.looking.get(key) else { return };
        if look.is_of_silent() {
            return self.leases.reschedule(key, now.mono);
        }
        let (sight, said) = (look.sight, words(look));
        let Some(record) = self.store.get(key).cloned() else { return };
        let Body::Live { seen, .. } = &record.body else { return };
        match (sight, seen) {
            (Sight::Fails, Seen::Well | Seen::Suspect) => {
                self.penalise(key, now.mono);
                self.see_held(&record, Seen::Down, Cause::ProbeFailed, said, now, out);
            }
            (Sight::Answers, Seen::Down | Seen::Suspect) => self.see_held(&record, Seen::Well, Cause::ProbeSucceeded, said, now, out),
            (Sight::Fails, Seen::Down) | (Sight::Answers, Seen::Well) | (Sight::Open | Sight::Blind, _) => {}
        }
    }

    /// Writes what a check shows of an instance whose lease is held.
    fn see_held(&mut self, record: &Record, seen: Seen, cause: Cause, said: Option<String>, now: Now, out: &mut Outbox) {
        let (Some(registration), Some(lease)) = (record.registration(), self.leases.get(&record.key)) else { return };
        let (digest, at) = (lease.digest, lease.renewed_at);
        let body = Body::Live { registration: Arc::clone(registration), seen, draining: record.is_draining() };
        let why = Why { detail: said.map(|said| as_note(said).into()), ..Why::from(cause) };
        let written = self.write(record.key.clone(), Step::same(&record.version), body, why, now, out);
        let terms = self.terms(&written, registration, digest, true);
        out.push(Output::HoldLease { key: record.key.clone(), terms, at });
    }

    /// A lease is held from `at` on, or was taken over: its instance is looked at accordingly.
    pub(super) fn look_from(&mut self, record: &Record, registration: &Registration, phase: Phase, at: Mono) {
        // One that sends no heartbeats is never silent: what its check shows is all there is, also for whoever takes it over while it is down.
        match if registration.ttl().is_some() { phase } else { Phase::Held } {
            Phase::Held => self.looking.watch(&record.key, Plan::of(registration), at, &mut self.rng),
            Phase::Late(_) | Phase::Over(_) => self.look_at_silent(record, Sight::Open, at),
            Phase::Answering(_) => self.look_at_silent(record, Sight::Answers, at),
        }
    }

    pub(super) fn look_at_silent(&mut self, record: &Record, known: Sight, at: Mono) {
        let plan = record.registration().and_then(|registration| Plan::of(registration));
        self.looking.begin_silent(&record.key, plan, known, at, &mut self.rng);
        self.note_evidence(&record.key);
    }

    /// Lets go of a lease, and looks no more.
    pub(super) fn end_lease(&mut self, key: &InstanceKey) -> Option<Lease> {
        self.looking.end(key);
        self.leases.end(key)
    }

    /// What is seen of a silent instance. That a port takes connections proves less than a check that was declared: it counts for as long as
    /// self-preservation may last.
    pub(super) fn sight_of(&self, record: &Record, last: Mono, now: Mono) -> Sight {
        let Some(look) = self.looking.get(&record.key) else { return Sight::Blind };
        // Whoever answers there may be the one that has its place.
        if self.is_replaced(record, last) {
            return Sight::Blind;
        }
        let is_declared = record.registration().and_then(|registration| Plan::of(registration)).is_some_and(|plan| plan.is_declared);
        let is_spent = !is_declared && last + self.settings.preserve_max_ms <= now;
        if look.sight == Sight::Answers && is_spent { Sight::Blind } else { look.sight }
    }

    /// What looking at it has brought, for whoever inspects it.
    pub(super) fn looked(&self, record: &Record) -> Option<Looked> {
        let look = self.looking.get(&record.key)?;
        let Plan { interval_ms, timeout_ms, .. } = Plan::of(record.registration()?)?;
        Some(Looked { interval_ms, timeout_ms, last: look.last.clone(), successes: look.successes, failures: look.failures })
    }

    /// Another instance has its place, since it was heard last.
    pub(super) fn is_replaced(&self, record: &Record, last: Mono) -> bool {
        self.leases.get(&record.key).is_some_and(|lease| lease.replaced_since(last).is_some())
    }

    /// Its check failed, whatever its heartbeats say.
    pub(super) fn is_failing(&self, key: &InstanceKey) -> bool {
        self.looking.get(key).is_some_and(|look| look.is_failing)
    }

    /// Its process is gone: its machine says so, again and again. That is evidence where silence is none.
    pub(super) fn is_refused(&self, key: &InstanceKey) -> bool {
        self.looking.get(key).is_some_and(Look::is_refused)
    }

    /// It has not gone up and down so often lately that it is to wait.
    pub(super) fn is_calm(&self, key: &InstanceKey, now: Mono) -> bool {
        self.looking.get(key).is_none_or(|look| look.is_calm(now))
    }

    pub(super) fn penalise(&mut self, key: &InstanceKey, now: Mono) {
        if let Some(look) = self.looking.get_mut(key) {
            look.penalise(now);
        }
    }

    /// What a provider that is heard can make of its instance: well, unless its check fails.
    pub(super) fn seen_by_check(&self, key: &InstanceKey, cause: Cause) -> (Seen, Why) {
        match self.looking.get(key).filter(|look| look.is_failing) {
            Some(look) => (Seen::Down, Why { detail: words(look).map(|said| as_note(said).into()), ..Why::from(Cause::ProbeFailed) }),
            None => (Seen::Well, cause.into()),
        }
    }

    /// What looking at it has brought, for its record.
    pub(super) fn words_on(&self, key: &InstanceKey) -> Option<String> {
        self.looking.get(key).and_then(words)
    }
}

/// What the look at an instance says, in words.
fn words(look: &Look) -> Option<String> {
    match (look.sight, &look.helper, &look.last) {
        (Sight::Answers, Some(helper), _) => Some(format!("{helper} reaches it")),
        (Sight::Answers, None, Some((_, outcome))) if !outcome.is_failure() => Some(outcome.to_words().to_string()),
        (Sight::Blind, _, Some((_, outcome))) => Some(format!("not looked at: {}", outcome.to_words())),
        (Sight::Open | Sight::Answers | Sight::Fails | Sight::Blind, _, _) => Some(look.to_words()).filter(|said| !said.is_empty()),
    }
}

/// As much of a text as a record holds.
pub(super) fn as_note(mut text: String) -> String {
    let end = (0..=NOTE_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests;
