//! Requests: what providers ask nodes, and what becomes of the answers.

use std::sync::Arc;

use muster::model::{InstanceKey, Life, NodeName, Registration, Version};
use muster::registry::{
    Ack, AckReport, Answer, Deregister, Drain, Heartbeat, Input, Mono, Record, Refusal, Register, Ticket, content_digest,
};

use super::{Event, World};
use crate::counts::Injected;
use crate::invariant::Invariant;
use crate::provider::TIMEOUT_MS;
use crate::teeth::Sabotage;

#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Register(Register),
    Attach(Register),
    Heartbeat(Heartbeat),
    Deregister(Deregister),
    Drain(Drain),
}

impl Ask {
    pub(crate) fn key(&self) -> &InstanceKey {
        match self {
            Self::Register(register) | Self::Attach(register) => &register.key,
            Self::Heartbeat(heartbeat) => &heartbeat.key,
            Self::Deregister(deregister) => &deregister.key,
            Self::Drain(drain) => &drain.key,
        }
    }

    /// The digest of what a registration says.
    pub(crate) fn digest(&self) -> Option<u128> {
        match self {
            Self::Register(register) | Self::Attach(register) => Some(content_digest(&register.registration)),
            Self::Heartbeat(_) | Self::Deregister(_) | Self::Drain(_) => None,
        }
    }

    /// The moment it reaches a socket, by that node's clock.
    fn arrive(&mut self, mono: Mono) {
        let settle = |ack: &mut Ack| match ack {
            Ack::Local => {}
            Ack::Peer { until } | Ack::All { until } => *until += mono,
        };
        match self {
            Self::Register(register) | Self::Attach(register) => {
                register.at = mono;
                settle(&mut register.ack);
            }
            Self::Heartbeat(heartbeat) => heartbeat.at = mono,
            Self::Deregister(deregister) => settle(&mut deregister.ack),
            Self::Drain(drain) => drain.until += mono,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Asker {
    Provider {
        provider: usize,
        process: u32,
        asked: u64,
        from_ms: u64,
    },
    /// One of those that speak at any node.
    Speaker {
        speaker: usize,
        asked: u64,
    },
    /// A scenario, which reads the answer itself.
    Scenario,
    Nobody,
}

#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Answered(Answer),
    Unreachable,
}

/// A question that a node has not answered yet.
pub(super) struct Pending {
    pub(super) asker: Asker,
    /// What the answer is about, once it is written.
    written: Option<(InstanceKey, Version)>,
    /// The instance that it is about, while nothing is written: a word that is to be acknowledged asks first.
    awaits: Option<(InstanceKey, Option<Arc<Registration>>)>,
    /// When.
    asked_at: u64,
    /// The node was ready when it was asked.
    was_ready: bool,
    /// The lives that ran when it was asked.
    lives: Vec<u32>,
    /// The instance is to be deregistered once that is done.
    deregisters: bool,
}

impl Pending {
    /// A scenario's question, about no instance.
    fn of_scenario(asked_at: u64) -> Self {
        Self { asker: Asker::Scenario, written: None, awaits: None, asked_at, was_ready: false, lives: Vec::new(), deregisters: false }
    }
}

impl World {
    /// A provider asks a node.
    pub(crate) fn ask(&mut self, node: usize, ask: Ask, asker: Asker) {
        let after = self.chance.between(1, 5);
        self.ask_after(after, node, ask, asker);
    }

    pub(crate) fn ask_after(&mut self, after_ms: u64, node: usize, ask: Ask, asker: Asker) {
        self.after(after_ms, Event::Request { node, ask, asker });
    }

    pub(super) fn arrive(&mut self, node: usize, mut ask: Ask, asker: Asker) {
        let now = self.now_at(node);
        let slot = &mut self.slots[node];
        let Some(shell) = &mut slot.shell else {
            self.counts.add(Injected::Unreachable);
            return self.reply(asker, Reply::Unreachable, 1);
        };
        let is_late = slot.stalled_until > self.now;
        if !is_late || matches!(ask, Ask::Heartbeat(_)) {
            ask.arrive(now.mono);
        }
        if let Ask::Heartbeat(heartbeat) = &ask
            && let Some(renewed) = shell.renew(heartbeat)
        {
            return self.answered(node, asker, Answer::Renewed(renewed));
        }
        if is_late {
            let wait = slot.stalled_until - self.now;
            return self.ask_after(wait, node, ask, asker);
        }
        self.submit(node, ask, asker);
    }

    pub(crate) fn submit(&mut self, node: usize, ask: Ask, asker: Asker) {
        if self.is_nothing_to_end(node, &ask) {
            return self.answered(node, asker, Answer::Deregistered { ack: None });
        }
        if matches!(ask, Ask::Register(_) | Ask::Attach(_)) {
            self.clear_overrides(node);
        }
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        let key = ask.key().clone();
        self.trace.say_more(self.now, || format!("n{node} is asked {ask:?}"));
        let lives = self.slots.iter().map(|slot| slot.life).collect();
        // A node that still settles cannot say of an unknown instance that there is nothing to drain.
        let knows = |registry: &muster::registry::Registry| registry.knowledge(self.now_at(node)).is_enough();
        let was_ready = self.is_ready(node) && (!matches!(&ask, Ask::Drain(_)) || self.registry(node).is_some_and(knows));
        let deregisters = matches!(&ask, Ask::Drain(drain) if drain.deregister);
        let is_acknowledged = match &ask {
            Ask::Register(register) => register.ack != Ack::Local,
            Ask::Deregister(deregister) => deregister.ack != Ack::Local,
            Ask::Attach(_) | Ask::Heartbeat(_) | Ask::Drain(_) => false,
        };
        // What is said again is a heartbeat: it writes nothing, and its answer is about the record that is there.
        self.note_overtaken(&ask, asker);
        let known = self.registry(node).and_then(|registry| registry.record(&key)).and_then(|record| record.registration().cloned());
        let repeats = matches!(&ask, Ask::Register(register) if known.as_ref() == Some(&register.registration) && !known.as_ref().is_some_and(|known| known.is_fixed()));
        let content = if let Ask::Register(register) = &ask { Some(Arc::clone(&register.registration)) } else { None };
        let awaits = (is_acknowledged && !repeats).then(|| (key.clone(), content));
        let pending = Pending { asker, written: None, awaits, asked_at: self.now, was_ready, lives, deregisters };
        self.slots[node].pending.insert(ticket, pending);
        let input = match ask {
            Ask::Register(register) => Input::Register(ticket, register),
            Ask::Attach(register) => {
                self.open_connection(node, ticket, &register.key, asker);
                Input::Attach(ticket, [(register.key.clone(), register)].into())
            }
            Ask::Heartbeat(heartbeat) => Input::Heartbeat(ticket, heartbeat),
            Ask::Deregister(deregister) => Input::Deregister(ticket, deregister),
            Ask::Drain(drain) => Input::Drain(ticket, drain),
        };
        self.feed(node, input);
        let version = self.registry(node).and_then(|registry| registry.record(&key)).map(|record| record.version.clone());
        if let Some(pending) = self.slots[node].pending.get_mut(&ticket)
            && pending.awaits.is_none()
        {
            pending.written = version.map(|version| (key, version));
        }
    }

    /// A registration that is read when its provider has long asked something else is the later word all the same, where nothing orders them.
    fn note_overtaken(&mut self, ask: &Ask, asker: Asker) {
        let is_present = match asker {
            Asker::Provider { provider, process, asked, .. } => self.providers[provider].is_asking(process, asked),
            Asker::Speaker { .. } | Asker::Scenario => true,
            Asker::Nobody => false,
        };
        if let Some(digest) = ask.digest().filter(|_| !is_present) {
            self.overtaken.insert((ask.key().clone(), digest));
        }
    }

    /// A node has written a record: the first one since the question is what it is answered with.
    pub(super) fn note_written(&mut self, node: usize, record: &Record) {
        let written = Some((record.key.clone(), record.registration().cloned()));
        for pending in self.slots[node].pending.values_mut().filter(|pending| pending.awaits == written) {
            pending.awaits = None;
            pending.written = Some((record.key.clone(), record.version.clone()));
        }
    }

    /// Asks a node now, as a scenario does, and gives the answer where there is one at once.
    pub(crate) fn ask_now(&mut self, node: usize, ask: Ask) -> Option<Answer> {
        self.answers.clear();
        self.arrive(node, ask, Asker::Scenario);
        self.answers.pop()
    }

    /// Asks a node now what is about no instance, as a scenario does, and gives the answer where there is one at once.
    pub(crate) fn operate(&mut self, node: usize, question: impl FnOnce(Ticket) -> Input) -> Option<Answer> {
        self.answers.clear();
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        self.slots[node].pending.insert(ticket, Pending::of_scenario(self.now));
        self.feed(node, question(ticket));
        self.answers.pop()
    }

    /// Asks a node in what another one's records differ, and lets time pass until it says so.
    pub(crate) fn diff(&mut self, node: usize, with: &NodeName) -> Answer {
        self.answers.clear();
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        self.slots[node].pending.insert(ticket, Pending::of_scenario(self.now));
        self.feed(node, Input::Diff(ticket, with.clone()));
        while self.answers.is_empty() && self.violation.is_none() {
            self.run_for(1);
        }
        self.answers.pop().expect("it is answered before anything is wrong")
    }

    pub(super) fn answer(&mut self, node: usize, ticket: Ticket, mut answer: Answer) {
        if self.is_sabotaged(Sabotage::AnswerWarming) && !self.bus.is_attached(node) {
            answer = Answer::Refused(Refusal::Warming);
        }
        let Some(pending) = self.slots[node].pending.remove(&ticket) else {
            return self.violate(Invariant::TrueAnswers, format!("n{node} answers a question twice: {answer:?}"));
        };
        if pending.was_ready && matches!(answer, Answer::Refused(Refusal::Warming)) {
            self.violate(Invariant::AloneIsEnough, format!("n{node} is ready, and answers that it is warming"));
        }
        let report = match &answer {
            Answer::Registered(registered) => registered.ack.as_ref(),
            Answer::Deregistered { ack } => ack.as_ref(),
            Answer::Attached(_)
            | Answer::AttachRefused { .. }
            | Answer::Renewed(_)
            | Answer::Inspected(_)
            | Answer::Diff(_)
            | Answer::NodeForgotten
            | Answer::Drained(_)
            | Answer::Draining
            | Answer::OverrideSet { .. }
            | Answer::OverrideDeleted
            | Answer::Refused(_) => None,
        };
        if let (Some(report), Some((key, version))) = (report, &pending.written) {
            self.check_report(node, &pending, key, version, report);
        }
        if let (Answer::Drained(drained), Some((key, version))) = (&answer, &pending.written) {
            if drained.delivered {
                self.check_delivered(node, pending.asked_at, key, version);
            }
            if pending.deregisters {
                self.check_drained_away(node, key, version, drained.deregistered);
            }
        }
        self.answered(node, pending.asker, answer);
    }

    /// Whoever is said to have applied a write holds it, or something greater; it may have started again since, unheard.
    pub(super) fn check_report(&mut self, at: usize, pending: &Pending, key: &InstanceKey, version: &Version, report: &AckReport) {
        let Some(registry) = self.registry(at) else { return };
        let believed: Vec<Life> = registry.cluster(self.now_at(at)).nodes.into_iter().map(|node| node.life).collect();
        let runs =
            |node: &usize| self.life(*node).is_some_and(|life| believed.contains(&life)) && self.slots[*node].life == pending.lives[*node];
        let is_one_of_two = |node: &usize| self.slots.iter().filter(|slot| slot.name == self.slots[*node].name).count() > 1;
        let said = (0..self.slots.len()).filter(|node| report.applied.contains(&self.slots[*node].name)).filter(runs);
        let said = said.filter(|node| !is_one_of_two(node));
        let has =
            |node: usize| self.registry(node).and_then(|registry| registry.record(key)).is_some_and(|record| record.version >= *version);
        if let Some(node) = said.into_iter().find(|node| !has(*node)) {
            self.violate(Invariant::TrueAnswers, format!("n{node} is said to have applied {key} {version:?}, and has not"));
        }
    }

    pub(super) fn answered(&mut self, node: usize, asker: Asker, answer: Answer) {
        let answer = match answer {
            Answer::AttachRefused { refusal, .. } => Answer::Refused(refusal),
            other => other,
        };
        self.trace.say_more(self.now, || format!("n{node} answers {asker:?} {answer:?}"));
        let is_lost = self.now < self.chaos_until && self.chance.permille(self.answers_lost);
        if is_lost && matches!(asker, Asker::Provider { .. } | Asker::Speaker { .. }) {
            self.counts.add(Injected::AnswerLost);
            self.reply(asker, Reply::Unreachable, TIMEOUT_MS);
        } else {
            let after = self.chance.between(1, 5);
            self.reply(asker, Reply::Answered(answer), after);
        }
    }

    pub(crate) fn reply(&mut self, asker: Asker, reply: Reply, after_ms: u64) {
        match (asker, reply) {
            (Asker::Provider { provider, process, asked, from_ms }, reply) => {
                self.after(after_ms, Event::Reply { provider, process, asked, from_ms, reply });
            }
            (Asker::Speaker { speaker, asked }, reply) => self.after(after_ms, Event::SpeakerHears { speaker, asked, reply }),
            (Asker::Scenario, Reply::Answered(answer)) => self.answers.push(answer),
            (Asker::Scenario, Reply::Unreachable) | (Asker::Nobody, _) => {}
        }
    }
}
