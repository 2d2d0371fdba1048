//! Consulting: a word that is to be acknowledged by peers asks before it is written, so that it is written above what they know, and its
//! answer is true. Of a known instance its owner is asked, of an unknown one every peer. Who does not answer in time is named as missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::answer::{Ack, Answer, Refusal};
use super::io::{Deregister, Output, Register, Ticket};
use super::message::{Message, To};
use super::record::Record;
use super::serve::ANSWER_BYTES_MAX;
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::{InstanceKey, Life, NodeName};

/// A word waits for answers this long in all.
const ANSWER_MS: Mono = 200;
/// How many words may wait; one more is written at once, and those that it would have asked are missing.
const WAITING_MAX: usize = 4096;
/// How many instances one question may be about: more words at once make more questions.
pub const CONSULTED_MAX: usize = 256;

/// Words that wait for what peers know.
#[derive(Default)]
pub(super) struct Consultations {
    /// In the order in which they came, and so in that of their ends.
    waiting: BTreeMap<u64, Waiting>,
    /// What is to be asked, of whom: one question for all words that came together.
    gathered: BTreeMap<NodeName, Vec<(u64, InstanceKey)>>,
    /// Questions on their way, by ticket.
    asked: BTreeMap<u64, Question>,
    next: u64,
}

struct Waiting {
    ticket: Ticket,
    word: Word,
    /// Who has not answered.
    awaited: BTreeSet<NodeName>,
    /// Who could not be asked.
    missing: BTreeSet<NodeName>,
    until: Mono,
}

enum Word {
    Register(Register),
    Deregister(Deregister),
}

impl Word {
    fn key(&self) -> &InstanceKey {
        match self {
            Self::Register(register) => &register.key,
            Self::Deregister(deregister) => &deregister.key,
        }
    }

    fn ack(&self) -> Ack {
        match self {
            Self::Register(register) => register.ack,
            Self::Deregister(deregister) => deregister.ack,
        }
    }
}

struct Question {
    of: NodeName,
    about: Vec<(u64, InstanceKey)>,
    until: Mono,
}

impl Consultations {
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        if !self.gathered.is_empty() {
            return Some(0);
        }
        self.waiting.values().next().map(|waiting| waiting.until)
    }

    /// Nothing is waited for any longer than until now.
    pub(super) fn end_all(&mut self, now: Mono) {
        for waiting in self.waiting.values_mut() {
            waiting.until = waiting.until.min(now);
        }
    }
}

/// The node that asks.
impl Registry {
    pub(super) fn handle_register(&mut self, ticket: Ticket, register: Register, now: Now, out: &mut Outbox) {
        self.consult(ticket, Word::Register(register), now, out);
    }

    pub(super) fn handle_deregister(&mut self, ticket: Ticket, deregister: Deregister, now: Now, out: &mut Outbox) {
        self.consult(ticket, Word::Deregister(deregister), now, out);
    }

    /// Writes a word, or asks first.
    fn consult(&mut self, ticket: Ticket, word: Word, now: Now, out: &mut Outbox) {
        let (mut awaited, mut missing) = match word.ack() {
            Ack::Local => (BTreeSet::new(), BTreeSet::new()),
            Ack::Peer { .. } | Ack::All { .. } => self.to_consult(word.key(), now.mono),
        };
        if self.consultations.waiting.len() >= WAITING_MAX {
            missing.append(&mut awaited);
        }
        if awaited.is_empty() {
            self.write_word(ticket, word, missing, now, out);
            return;
        }
        self.consultations.next += 1;
        let number = self.consultations.next;
        for node in &awaited {
            self.consultations.gathered.entry(node.clone()).or_default().push((number, word.key().clone()));
        }
        let until = now.mono + ANSWER_MS;
        self.consultations.waiting.insert(number, Waiting { ticket, word, awaited, missing, until });
    }

    /// Who is to be asked about an instance, and who would be and is silent, though nobody has judged it dead.
    fn to_consult(&self, key: &InstanceKey, now: Mono) -> (BTreeSet<NodeName>, BTreeSet<NodeName>) {
        // An owner whose life is over answers nothing: others may hold by now what it held.
        let is_there = |owner: &Life| {
            let peer = self.peers.get(&owner.node).filter(|peer| peer.epoch == owner.epoch);
            *owner == self.life || peer.is_some_and(|peer| !peer.is_dead && !peer.is_gone(now))
        };
        let owner = self.store.get(key).map(|known| &known.version.owner).filter(|owner| is_there(owner));
        let is_asked = |node: &NodeName, epoch| match owner {
            Some(owner) => owner.node == *node && owner.epoch == epoch,
            None => true,
        };
        // A peer of an older version answers no such question.
        let peers =
            self.peers.iter().filter(|(node, peer)| is_asked(node, peer.epoch) && !peer.is_dead && self.sends_stamps(node) != Some(false));
        let (asked, silent): (Vec<_>, Vec<_>) = peers.partition(|(_, peer)| peer.is_alive(now) || peer.is_leaving(now));
        let silent = silent.into_iter().filter(|(_, peer)| !peer.has_left());
        (asked.into_iter().map(|(node, _)| node.clone()).collect(), silent.map(|(node, _)| node.clone()).collect())
    }

    /// Sends what was gathered, and writes the words that have waited long enough.
    pub(super) fn advance_consultations(&mut self, now: Now, out: &mut Outbox) {
        for (node, about) in std::mem::take(&mut self.consultations.gathered) {
            for about in about.chunks(CONSULTED_MAX) {
                self.ask_records(node.clone(), about.to_vec(), now, out);
            }
        }
        while let Some(entry) = self.consultations.waiting.first_entry().filter(|entry| entry.get().until <= now.mono) {
            let Waiting { ticket, word, awaited, mut missing, .. } = entry.remove();
            let is_dead = |node: &NodeName| self.peers.get(node).is_none_or(|peer| peer.is_dead || peer.has_left());
            missing.extend(awaited.into_iter().filter(|node| !is_dead(node)));
            self.write_word(ticket, word, missing, now, out);
        }
        self.consultations.asked.retain(|_, question| question.until > now.mono);
    }

    fn ask_records(&mut self, of: NodeName, about: Vec<(u64, InstanceKey)>, now: Now, out: &mut Outbox) {
        let ticket = self.rng.next();
        let keys = about.iter().map(|(_, key)| key.clone()).collect();
        out.push(Output::Send(To::Node(of.clone()), Message::AskRecords { ticket, keys }));
        self.consultations.asked.insert(ticket, Question { of, about, until: now.mono + ANSWER_MS });
    }

    /// A peer has told the records that it has of the first so many instances that it was asked about.
    pub(super) fn handle_told_records(
        &mut self,
        from: &Life,
        ticket: u64,
        answered: usize,
        records: &[Arc<Record>],
        now: Now,
        out: &mut Outbox,
    ) {
        let is_of = |question: &Question| question.of == from.node;
        if !self.consultations.asked.get(&ticket).is_some_and(is_of)
            || self.peers.get(&from.node).is_none_or(|peer| peer.epoch != from.epoch)
        {
            return;
        }
        let Some(Question { mut about, .. }) = self.consultations.asked.remove(&ticket) else { return };
        for record in records.iter().filter(|record| about.iter().any(|(_, key)| *key == record.key)) {
            self.merge(record, from, now, out);
        }
        let rest = about.split_off(answered.min(about.len()));
        // What did not fit is asked again; an answer to nothing is none.
        if !rest.is_empty() && !about.is_empty() {
            self.ask_records(from.node.clone(), rest, now, out);
        }
        for (number, _) in about {
            let Some(waiting) = self.consultations.waiting.get_mut(&number) else { continue };
            waiting.awaited.remove(&from.node);
            if !waiting.awaited.is_empty() {
                continue;
            }
            if let Some(Waiting { ticket, word, missing, .. }) = self.consultations.waiting.remove(&number) {
                self.write_word(ticket, word, missing, now, out);
            }
        }
    }

    fn write_word(&mut self, ticket: Ticket, word: Word, missing: BTreeSet<NodeName>, now: Now, out: &mut Outbox) {
        let ack = word.ack();
        let written: Result<(Arc<Record>, Answer), Refusal> = match word {
            Word::Register(register) => {
                self.register(register, now, out).map(|(record, registered)| (record, Answer::Registered(registered)))
            }
            Word::Deregister(deregister) => {
                self.deregister(deregister, now, out).map(|record| (record, Answer::Deregistered { ack: None }))
            }
        };
        match written {
            Ok((record, answer)) => self.answer_when_applied(ticket, ack, &record.version, answer, missing, now, out),
            Err(refusal) => out.push(Output::Answer(ticket, Answer::Refused(refusal))),
        }
    }
}

/// The node that is asked.
impl Registry {
    /// Tells the records of these instances, of as many as fit.
    pub(super) fn handle_ask_records(&mut self, from: &Life, ticket: u64, keys: &[InstanceKey], now: Now, out: &mut Outbox) {
        let (mut bytes, mut answered, mut records) = (0, 0, Vec::new());
        for key in keys {
            let record = self.store.get(key);
            bytes += record.map_or(0, |record| record.size_bytes());
            if answered > 0 && bytes > ANSWER_BYTES_MAX {
                break;
            }
            answered += 1;
            records.extend(record.cloned());
        }
        if !self.may_reply(from, bytes, now) {
            return;
        }
        out.push(Output::Send(To::Node(from.node.clone()), Message::ToldRecords { ticket, answered, records }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Address, Epoch, InstanceId, Namespace, Port, Registration, RegistrationDraft, ServiceKey, ServiceName, Ttl};
    use crate::registry::{Beacon, Change, Envelope, Input, NodeState, Settings};

    const NOW: Now = Now { mono: 1_000_000, wall: 0 };

    fn life(node: &str, epoch: u64) -> Life {
        Life { node: NodeName::parse(node).unwrap(), epoch: Epoch(epoch) }
    }

    fn hear(registry: &mut Registry, from: &Life, message: Message, now: Now) {
        registry.handle(Input::Received(Envelope { from: from.clone(), message }), now, &mut Outbox::new());
    }

    fn beacon(registry: &mut Registry, from: &Life, now: Now) {
        hear(registry, from, Message::Beacon(Beacon { stamp: 1, ..Beacon::of(NodeState::Ready) }), now);
    }

    #[test]
    fn about_an_instance_whose_owner_has_restarted_every_peer_is_asked() {
        let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
        let key = InstanceKey { service, id: InstanceId::parse("a").unwrap() };
        let draft = RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(80).unwrap(), Ttl::from_ms(15_000).unwrap());
        let registration = Arc::new(Registration::new(draft).unwrap());
        let mut owner = Registry::new(Settings::new(life("n2", 2).node, Epoch(2)), 1, NOW);
        owner.handle(Input::Register(1, Register::new(key.clone(), registration, NOW.mono)), NOW, &mut Outbox::new());
        let record = Arc::clone(owner.record(&key).unwrap());

        let mut registry = Registry::new(Settings::new(life("n1", 1).node, Epoch(1)), 1, NOW);
        beacon(&mut registry, &life("n2", 2), NOW);
        beacon(&mut registry, &life("n3", 3), NOW);
        let change = Change { first: 1, last: 1, wants_ack: false, records: vec![record] };
        hear(&mut registry, &life("n2", 2), Message::Change(change), NOW);
        let names = |nodes: BTreeSet<NodeName>| nodes.into_iter().map(|node| node.to_string()).collect::<Vec<_>>();
        assert_eq!(names(registry.to_consult(&key, NOW.mono).0), ["n2"]);

        let later = Now { mono: NOW.mono + 4000, wall: 0 };
        for ms in (200..=4000).step_by(200) {
            beacon(&mut registry, &life("n3", 3), Now { mono: NOW.mono + ms, wall: 0 });
        }
        beacon(&mut registry, &life("n2", 9), later);
        assert_eq!(names(registry.to_consult(&key, later.mono).0), ["n2", "n3"]);
    }
}
