//! Acknowledgement: a write that is answered once other nodes have applied it. The wait has a deadline, and what is said at it is the truth.

use std::collections::{BTreeMap, BTreeSet};

use super::answer::{Ack, AckReport, Answer};
use super::io::{Output, Ticket};
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::{Life, NodeName, Seq, Version};

/// How many writes may wait at once; one more is answered at once, truthfully.
const WAITING_MAX: usize = 65_536;

#[derive(Default)]
pub(super) struct Acks {
    waiting: BTreeMap<Ticket, Waiting>,
}

struct Waiting {
    /// The change: which log, and where in it.
    life: Life,
    seq: Seq,
    wants_all: bool,
    until: Mono,
    applied: BTreeSet<NodeName>,
    /// Who was to be asked before it was written, and did not answer.
    unasked: BTreeSet<NodeName>,
    answer: Answer,
}

impl Acks {
    /// Somebody waits for peers to have applied a change of this life among these.
    pub(super) fn is_waited_for(&self, life: &Life, first: Seq, last: Seq) -> bool {
        self.waiting.values().any(|waiting| waiting.life == *life && (first..=last).contains(&waiting.seq))
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.waiting.values().map(|waiting| waiting.until).min()
    }

    /// A peer has said that it has this life's log up to `seq`.
    pub(super) fn note(&mut self, peer: &NodeName, life: &Life, seq: Seq) {
        for waiting in self.waiting.values_mut().filter(|waiting| waiting.seq <= seq && waiting.life == *life) {
            waiting.applied.insert(peer.clone());
        }
    }

    /// Nothing is waited for any longer than until now.
    pub(super) fn end_all(&mut self, now: Mono) {
        for waiting in self.waiting.values_mut() {
            waiting.until = waiting.until.min(now);
        }
    }

    /// A peer has a new life, which has applied nothing yet.
    pub(super) fn forget(&mut self, peer: &NodeName) {
        for waiting in self.waiting.values_mut() {
            waiting.applied.remove(peer);
        }
    }
}

impl Registry {
    /// A peer has said that it has this life's log up to `seq`; nobody can have more of this node's than was written.
    pub(super) fn note_ack(&mut self, peer: &NodeName, life: &Life, seq: Seq) {
        if *life != self.life || seq <= self.log.head() {
            self.acks.note(peer, life, seq);
        }
    }

    /// Answers a write now, or when those who are to apply it have.
    #[expect(clippy::too_many_arguments, reason = "each is a value of its own")]
    pub(super) fn answer_when_applied(
        &mut self,
        ticket: Ticket,
        ack: Ack,
        version: &Version,
        answer: Answer,
        unasked: BTreeSet<NodeName>,
        now: Now,
        out: &mut Outbox,
    ) {
        let (wants_all, until) = match ack {
            Ack::Local => {
                out.push(Output::Answer(ticket, answer));
                return;
            }
            Ack::Peer { until } => (false, until),
            Ack::All { until } => (true, until),
        };
        let (life, seq) = (version.owner.clone(), version.seq);
        let has = self.peers.alive(now.mono).filter(|(_, peer)| peer.has_applied(&life, seq));
        let mut applied: BTreeSet<NodeName> = has.map(|(node, _)| node.clone()).collect();
        // An owner has what it wrote, while it is in the life that wrote it.
        applied.extend(self.peers.is_life_alive(&life, now.mono).then(|| life.node.clone()));
        let until = if self.acks.waiting.len() < WAITING_MAX { until } else { now.mono };
        self.acks.waiting.insert(ticket, Waiting { life, seq, wants_all, until, applied, unasked, answer });
        self.settle_acks(now, out);
    }

    /// Answers the writes that enough peers have applied, that nobody else can apply, or whose time is over.
    pub(super) fn settle_acks(&mut self, now: Now, out: &mut Outbox) {
        if self.acks.waiting.is_empty() {
            return;
        }
        let alive: Vec<&NodeName> = self.peers.alive(now.mono).map(|(node, _)| node).collect();
        let report = |waiting: &Waiting| {
            let (applied, missing): (Vec<_>, Vec<_>) =
                alive.iter().map(|node| (*node).clone()).partition(|node| waiting.applied.contains(node));
            let is_applied = if waiting.wants_all { missing.is_empty() } else { !applied.is_empty() };
            let unasked = waiting.unasked.iter().filter(|node| !missing.contains(node)).cloned();
            let missing: Vec<NodeName> = missing.iter().cloned().chain(unasked).collect();
            (is_applied, AckReport { met: is_applied && waiting.unasked.is_empty(), applied, missing })
        };
        let settled: Vec<(Ticket, AckReport)> = self
            .acks
            .waiting
            .iter()
            .map(|(ticket, waiting)| (*ticket, waiting, report(waiting)))
            .filter(|(_, waiting, (is_applied, _))| *is_applied || alive.is_empty() || waiting.until <= now.mono)
            .map(|(ticket, _, (_, report))| (ticket, report))
            .collect();
        for (ticket, report) in settled {
            if let Some(waiting) = self.acks.waiting.remove(&ticket) {
                out.push(Output::Answer(ticket, with_report(waiting.answer, report)));
            }
        }
    }
}

fn with_report(answer: Answer, report: AckReport) -> Answer {
    match answer {
        Answer::Registered(mut registered) => {
            registered.ack = Some(report);
            Answer::Registered(registered)
        }
        Answer::Deregistered { .. } => Answer::Deregistered { ack: Some(report) },
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
        | Answer::Refused(_) => answer,
    }
}
