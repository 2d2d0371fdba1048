//! Draining: an instance leaves with notice. It stays listed, and whoever asked is told whether everyone who follows its service has been
//! sent that; then it is deregistered.
//!
//! The node that is asked writes the record, and asks its own shell and every other node who has been sent it. A node answers once it has
//! applied that change and all of its subscribers have been sent it, or at the deadline. One that does not answer is named.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::answer::{Answer, Drained, Missing, Refusal};
use super::io::{Drain, Output, Register, Ticket};
use super::merge::{Step, Why};
use super::message::{Message, To};
use super::record::{Body, Record};
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::{Cause, Epoch, Incarnation, InstanceKey, Life, NodeName, Reported, Seq, Subscriber};

/// How many drains may be under way at a node; one more is refused as too many.
const DRAINS_MAX: usize = 1024;
/// How many questions of peers are kept; one more is not answered, and asked again.
const ASKED_MAX: usize = 4096;
/// How many of those who were not sent it one report names.
pub const MISSING_MAX: usize = 1000;
/// Nodes that have not answered are asked again this often.
const ASK_EVERY_MS: Mono = 1000;
/// Who has to answer at the deadline is told an earlier one, by at most this: the answer has a way to go.
const ANSWER_MS: Mono = 500;
/// How long an answer is kept for a peer that asks again, and a question past its deadline.
const KEEP_MS: Mono = 5000;
/// No deadline of a peer's counts for more.
pub(super) const WITHIN_MS_MAX: u64 = 300_000;

/// Who at one node has been sent a change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeliveryReport {
    /// Everyone whose selection includes the instance.
    pub subscribers: u64,
    /// How many of these have not been sent it.
    pub missing_count: u64,
    /// Those, at most [`MISSING_MAX`].
    pub missing: Vec<Subscriber>,
}

/// What is under way.
#[derive(Default)]
pub(super) struct Drains {
    running: BTreeMap<u64, Running>,
    asked: BTreeMap<(NodeName, u64), Asked>,
    /// How many of those wait for a change: mostly none, and then nobody has to look for them.
    waiting: usize,
}

/// A drain that was begun here.
struct Running {
    /// Who is to be answered; `None`: nobody waits.
    ticket: Option<Ticket>,
    key: InstanceKey,
    incarnation: Incarnation,
    /// Of the record that says it, in this life's log.
    seq: Seq,
    until: Mono,
    /// When those who are asked are to have answered.
    answer_by: Mono,
    deregister: bool,
    actor: Option<Arc<str>>,
    own: Option<DeliveryReport>,
    told: BTreeMap<NodeName, (Epoch, DeliveryReport)>,
    ask_at: Mono,
}

/// A question of a peer's.
struct Asked {
    from: Life,
    key: InstanceKey,
    seq: Seq,
    /// To be answered until then; once it is, when that was.
    until: Mono,
    state: State,
}

enum State {
    /// The change is not known here yet.
    Waiting,
    /// The shell was asked, under this number.
    Shell(u64),
    /// Answered so.
    Told(DeliveryReport),
}

impl Drains {
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let running = self.running.values().map(|running| running.until.min(running.ask_at));
        running.chain(self.asked.values().map(|asked| asked.until + KEEP_MS)).min()
    }

    /// Forgets the questions that are long over.
    fn forget_asked(&mut self, now: Mono) {
        self.asked.retain(|_, asked| asked.until + KEEP_MS > now);
        self.waiting = self.asked.values().filter(|asked| matches!(asked.state, State::Waiting)).count();
    }

    /// Nothing is waited for any longer than until now.
    pub(super) fn end_all(&mut self, now: Mono) {
        for running in self.running.values_mut() {
            running.until = running.until.min(now);
        }
    }
}

/// The node that is asked.
impl Registry {
    pub(super) fn handle_drain(&mut self, ticket: Ticket, drain: Drain, now: Now, out: &mut Outbox) {
        if let Err(refusal) = self.begin_drain(ticket, drain, now, out) {
            out.push(Output::Answer(ticket, Answer::Refused(refusal)));
        }
    }

    fn begin_drain(&mut self, ticket: Ticket, drain: Drain, now: Now, out: &mut Outbox) -> Result<(), Refusal> {
        self.refuse_if_leaving()?;
        let unknown = if self.knowledge(now).is_enough() { Refusal::UnknownInstance } else { Refusal::Warming };
        let Some(known) = self.store.get(&drain.key).filter(|known| known.registration().is_some()).cloned() else {
            return Err(unknown);
        };
        let incarnation = known.version.incarnation;
        match drain.incarnation {
            Some(named) if named < incarnation => return Err(Refusal::Superseded { incarnation }),
            Some(named) if named > incarnation => return Err(unknown),
            Some(_) | None => {}
        }
        // Readers would not see it drain, and what was restored may yet take its place.
        if self.restore.shows_greater_than(&known) {
            return Err(Refusal::Warming);
        }
        if self.drains.running.len() >= DRAINS_MAX {
            return Err(Refusal::Busy);
        }
        let record = self.write_draining(&known, drain.actor.clone(), now, out);
        let question = self.rng.next();
        let span = drain.until.saturating_sub(now.mono);
        let answer_by = drain.until - ANSWER_MS.min(span / 4).min(drain.until);
        let running = Running {
            ticket: drain.wait.then_some(ticket),
            key: drain.key.clone(),
            incarnation,
            seq: record.version.seq,
            until: drain.until,
            answer_by,
            deregister: drain.deregister,
            actor: drain.actor,
            own: None,
            told: BTreeMap::new(),
            ask_at: now.mono,
        };
        self.drains.running.insert(question, running);
        if !drain.wait {
            out.push(Output::Answer(ticket, Answer::Draining));
        }
        out.push(Output::AskDelivery { question, key: drain.key, until: answer_by });
        self.advance_drains(now, out);
        Ok(())
    }

    /// Says in a record of this life's that the instance drains. Its silence so far stays what it is.
    fn write_draining(&mut self, known: &Arc<Record>, actor: Option<Arc<str>>, now: Now, out: &mut Outbox) -> Arc<Record> {
        let Body::Live { registration, seen, .. } = &known.body else { unreachable!("only a live record drains") };
        self.clear_words(&known.key);
        let step = Step::word(&known.version, self.stamp(now));
        let body = Body::Live { registration: Arc::clone(registration), seen: *seen, draining: true };
        let written = self.write(known.key.clone(), step, body, Why { actor, ..Why::from(Cause::Drained) }, now, out);
        if !self.hold_again(&written, out) {
            self.hold_unheard(&written, now, out);
        }
        written
    }

    /// The shell has told who here has been sent it.
    pub(super) fn handle_delivered(&mut self, question: u64, report: DeliveryReport, now: Now, out: &mut Outbox) {
        if let Some(running) = self.drains.running.get_mut(&question) {
            running.own = Some(report);
            self.settle_drains(now, out);
            return;
        }
        let is_it = |asked: &Asked| matches!(asked.state, State::Shell(number) if number == question);
        let Some((place, asked)) = self.drains.asked.iter_mut().find(|(_, asked)| is_it(asked)) else { return };
        asked.state = State::Told(report.clone());
        // Most are answered at once, and may have minutes yet: kept so long they would leave no room for others.
        asked.until = now.mono;
        out.push(Output::Send(To::Node(place.0.clone()), Message::ToldDelivery { question: place.1, report }));
    }

    /// A peer has told who there has been sent it.
    pub(super) fn handle_told_delivery(&mut self, from: &Life, question: u64, report: DeliveryReport, now: Now, out: &mut Outbox) {
        if let Some(running) = self.drains.running.get_mut(&question) {
            running.told.insert(from.node.clone(), (from.epoch, report));
            self.settle_drains(now, out);
        }
    }

    /// Asks again who has not answered, and ends what is over.
    pub(super) fn advance_drains(&mut self, now: Now, out: &mut Outbox) {
        let due: Vec<u64> =
            self.drains.running.iter().filter(|(_, running)| running.ask_at <= now.mono).map(|(question, _)| *question).collect();
        for question in due {
            for node in self.silent(question, now.mono) {
                let Some(running) = self.drains.running.get(&question) else { continue };
                let within_ms = running.answer_by.saturating_sub(now.mono);
                let message = Message::AskDelivery { question, key: running.key.clone(), seq: running.seq, within_ms };
                out.push(Output::Send(To::Node(node), message));
            }
            if let Some(running) = self.drains.running.get_mut(&question) {
                running.ask_at = now.mono + ASK_EVERY_MS;
            }
        }
        self.settle_drains(now, out);
        self.drains.forget_asked(now.mono);
    }

    /// The nodes that are not dead, and have not answered in their present life.
    fn silent(&self, question: u64, now: Mono) -> Vec<NodeName> {
        let Some(running) = self.drains.running.get(&question) else { return Vec::new() };
        let has_told = |node: &NodeName, epoch: Epoch| running.told.get(node).is_some_and(|(told, _)| *told == epoch);
        let silent = self.peers.iter().filter(|(node, peer)| !peer.is_dead && !peer.is_gone(now) && !has_told(node, peer.epoch));
        silent.map(|(node, _)| node.clone()).collect()
    }

    pub(super) fn settle_drains(&mut self, now: Now, out: &mut Outbox) {
        let over = |question: &u64, running: &Running| {
            running.until <= now.mono || (running.own.is_some() && self.silent(*question, now.mono).is_empty())
        };
        let over: Vec<u64> =
            self.drains.running.iter().filter(|(question, running)| over(question, running)).map(|(question, _)| *question).collect();
        for question in over {
            self.conclude(question, now, out);
        }
    }

    /// Says who has been sent it, and takes the instance away.
    fn conclude(&mut self, question: u64, now: Now, out: &mut Outbox) {
        let silent = self.silent(question, now.mono);
        let Some(mut running) = self.drains.running.remove(&question) else { return };
        let mut sum = Sum::default();
        let own = self.life.node.clone();
        match running.own.take() {
            Some(report) => sum.add(&own, &report),
            None => sum.add_silent(&own, self.audience.own(&running.key.service)),
        }
        for (node, (_, report)) in running.told.iter().filter(|(node, _)| !silent.contains(node)) {
            sum.add(node, report);
        }
        for node in &silent {
            sum.add_silent(node, self.audience.at(node, &running.key.service));
        }
        let deregistered = running.deregister && self.deregister_drained(&running, now, out);
        let Sum { subscribers, missing_count, missing } = sum;
        if let Some(ticket) = running.ticket {
            let truncated = (missing.len() as u64) < missing_count;
            let drained = Drained { delivered: missing_count == 0, subscribers, missing, truncated, deregistered };
            out.push(Output::Answer(ticket, Answer::Drained(drained)));
        }
    }

    /// Only what still drains goes: its provider may have said meanwhile that it is up, or be another life.
    fn deregister_drained(&mut self, running: &Running, now: Now, out: &mut Outbox) -> bool {
        let Some(record) = self.store.get(&running.key) else { return true };
        // One that went by silence meanwhile is gone, and a late heartbeat would bring it back.
        let is_draining = match &record.body {
            Body::Live { draining, .. } | Body::Withdrawn { kept: Some(_), draining, .. } => *draining,
            Body::Withdrawn { kept: None, .. } => false,
        };
        if !is_draining || record.version.incarnation != running.incarnation {
            return record.registration().is_none();
        }
        if self.refuse_if_leaving().is_err() {
            return false;
        }
        // It is as old as the drain: a word that came meanwhile, and has not reached this node, is later.
        let step = Step::end(&record.version, 0);
        let key = record.key.clone();
        let body = Body::Withdrawn { kept: None, named: false, of_unknown: false, draining: false };
        let why = Why { actor: running.actor.clone(), ..Why::from(Cause::Deregistered) };
        self.write_deregistration(&key, step, body, why, now, out);
        true
    }
}

/// The nodes it asks.
impl Registry {
    /// Whether those who are here were sent what `from` wrote of an instance, at `seq` of its log; to be answered until then.
    pub(super) fn handle_ask_delivery(&mut self, from: &Life, question: u64, about: (InstanceKey, Seq), until: Mono, out: &mut Outbox) {
        let (key, seq) = about;
        let place = (from.node.clone(), question);
        if let Some(asked) = self.drains.asked.get(&place) {
            if let State::Told(report) = &asked.state {
                out.push(Output::Send(To::Node(place.0), Message::ToldDelivery { question, report: report.clone() }));
            }
            return;
        }
        if self.drains.asked.len() < ASKED_MAX {
            self.drains.asked.insert(place, Asked { from: from.clone(), key, seq, until, state: State::Waiting });
            self.drains.waiting += 1;
        }
    }

    /// Asks the shell about the changes that are known by now, and shown to those who are here.
    pub(super) fn begin_deliveries(&mut self, out: &mut Outbox) {
        if self.drains.waiting == 0 {
            return;
        }
        let rng = &mut self.rng;
        let is_shown = |key: &InstanceKey| self.store.get(key).is_none_or(|held| !self.restore.shows_greater_than(held));
        let is_known = |asked: &Asked| self.applied.seq(&asked.from) >= asked.seq && is_shown(&asked.key);
        let waiting = self.drains.asked.values_mut().filter(|asked| matches!(asked.state, State::Waiting) && is_known(asked));
        for asked in waiting {
            let question = rng.next();
            asked.state = State::Shell(question);
            self.drains.waiting -= 1;
            out.push(Output::AskDelivery { question, key: asked.key.clone(), until: asked.until });
        }
    }
}

/// What all nodes have told together.
#[derive(Default)]
struct Sum {
    subscribers: u64,
    missing_count: u64,
    missing: Vec<Missing>,
}

impl Sum {
    fn add(&mut self, node: &NodeName, report: &DeliveryReport) {
        self.subscribers = self.subscribers.saturating_add(report.subscribers);
        self.missing_count = self.missing_count.saturating_add(report.missing_count);
        report.missing.iter().for_each(|subscriber| self.name(node, Some(subscriber)));
    }

    /// Nobody knows whom it has told: all who were there are missing, and where nobody is known the node itself.
    fn add_silent<'a>(&mut self, node: &NodeName, there: impl Iterator<Item = &'a Subscriber>) {
        let before = self.subscribers;
        for subscriber in there {
            self.subscribers += 1;
            self.missing_count += 1;
            self.name(node, Some(subscriber));
        }
        if self.subscribers == before {
            self.missing_count += 1;
            self.name(node, None);
        }
    }

    fn name(&mut self, node: &NodeName, subscriber: Option<&Subscriber>) {
        if self.missing.len() < MISSING_MAX {
            self.missing.push(Missing { node: node.clone(), subscriber: subscriber.cloned() });
        }
    }
}

/// A registration of the same life leaves a drain as it is, unless it says that the instance is up.
pub(super) fn stays_draining(known: Option<&Record>, step: Step, register: &Register) -> bool {
    let is_same_life = |known: &Record| known.version.incarnation == step.incarnation;
    !register.says_up && !register.takeover && known.is_some_and(|known| known.keeps_drain() && is_same_life(known))
}

/// A heartbeat that says so means that the instance is to be used again.
pub(super) fn ends_drain(reported: Reported, record: &Record) -> bool {
    reported == Reported::Up && record.is_draining()
}

#[cfg(test)]
mod tests;
