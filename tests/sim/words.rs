//! Words: providers that send one request after the other, each once the one before was answered, at different nodes. The last one that was
//! answered must hold at every node once faults stop.

use std::sync::Arc;

use muster::model::{Incarnation, InstanceKey, Life, Listed, Registration, RegistrationDraft, Reported, Status, Version};
use muster::registry::{Ack, Answer, Deregister, Drain, Heartbeat, Refusal, Register, Registry, content_digest};

use crate::counts::Injected;
use crate::invariant::Invariant;
use crate::provider::draft;
use crate::world::{Ask, Asker, Event, Reply, World, describe, key};

/// A request that was not answered within this time may have been taken all the same.
const UNREACHED_MS: u64 = 50;
/// After a node that cannot be asked another one is, this much later.
const AGAIN_MS: u64 = 50;

/// All of them.
#[derive(Default)]
pub(crate) struct Words {
    speakers: Vec<Speaker>,
    /// New words are sent until then; after that heartbeats alone.
    pub(crate) until: u64,
    /// The order of words that have not met is decided by clocks that agree.
    pub(crate) is_checked: bool,
    /// Both writes of one word and the next may be at one node.
    pub(crate) moves_always: bool,
}

/// A provider that speaks at any node.
struct Speaker {
    key: InstanceKey,
    /// `None`: a fixed address.
    ttl_ms: Option<u64>,
    names_incarnation: bool,
    gap_ms: u64,
    incarnation: u64,
    /// What the last answered word said; `None`: that nothing is listed.
    said: Option<Said>,
    asked: u64,
    asking: Option<Asking>,
    /// Where the last word was answered, and the record that it left there.
    last: Option<(Life, Option<Version>)>,
    node: usize,
    /// A request came to no end, so nobody knows what was taken last.
    is_void: bool,
    words: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Said {
    port: u16,
    reported: Reported,
    is_draining: bool,
}

struct Asking {
    word: Word,
    at: u64,
    node: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Register(Said),
    Deregister,
    Report(Said),
    Drain(Said),
    /// No word: a heartbeat.
    Renew,
}

impl Words {
    pub(crate) fn keys(&self) -> impl Iterator<Item = &InstanceKey> {
        self.speakers.iter().map(|speaker| &speaker.key)
    }

    /// How many of their leases, which no silence ends, are held there.
    pub(crate) fn fixed_held_by(&self, registry: &Registry) -> usize {
        self.speakers.iter().filter(|speaker| speaker.ttl_ms.is_none() && registry.holds_lease(&speaker.key)).count()
    }

    /// How many words were answered, and how many speakers are judged.
    pub(crate) fn counts(&self) -> (u64, usize) {
        (self.speakers.iter().map(|speaker| speaker.words).sum(), self.speakers.iter().filter(|speaker| !speaker.is_void).count())
    }
}

impl Speaker {
    fn content(&self, said: Said) -> Registration {
        let ttl_ms = self.ttl_ms.unwrap_or(1000);
        let draft = draft(&self.key, said.port, ttl_ms);
        let ttl = self.ttl_ms.and(draft.ttl);
        Registration::new(RegistrationDraft { ttl, reported: said.reported, ..draft }).expect("unreachable: it is within the bounds")
    }

    fn named(&self) -> Option<Incarnation> {
        self.names_incarnation.then(|| Incarnation::new(self.incarnation).expect("unreachable: it is small"))
    }

    fn is_right(&self, listed: Option<&Listed>) -> bool {
        match (self.said, listed) {
            (None, listed) => listed.is_none(),
            (Some(_), None) => false,
            (Some(said), Some(listed)) => {
                let status = if said.is_draining { Status::Draining } else { said.reported.into() };
                *listed.registration == self.content(said) && listed.status == status
            }
        }
    }
}

impl World {
    /// Somebody begins to speak.
    pub(crate) fn add_speaker(&mut self, ttl_ms: Option<u64>, names_incarnation: bool, gap_ms: u64) {
        let index = self.words.speakers.len();
        self.words.speakers.push(Speaker {
            key: key("w", &format!("w{index}")),
            ttl_ms,
            names_incarnation,
            gap_ms,
            incarnation: 1,
            said: None,
            asked: 0,
            asking: None,
            last: None,
            node: 0,
            is_void: false,
            words: 0,
        });
        let after = self.chance.between(1, 500);
        self.after(after, Event::Speak { speaker: index, asked: 0 });
    }

    pub(crate) fn speak(&mut self, index: usize, asked: u64) {
        let speaker = &self.words.speakers[index];
        if speaker.asked != asked || speaker.is_void {
            return;
        }
        let word = if self.now < self.words.until { self.next_word(index) } else { Word::Renew };
        self.say_word(index, word);
    }

    fn next_word(&mut self, index: usize) -> Word {
        let drawn = self.chance.index(8);
        let speaker = &mut self.words.speakers[index];
        let port = |said: Option<Said>| said.map_or(1, |said| said.port % 1000 + 1);
        let fresh = |port| Said { port, reported: Reported::Up, is_draining: false };
        match (speaker.said, drawn) {
            (None, 0) if speaker.words > 0 => Word::Deregister,
            (None, _) => {
                speaker.incarnation += 1;
                Word::Register(fresh(1 + (speaker.incarnation % 7) as u16))
            }
            (Some(_), 0..=3) => Word::Deregister,
            // What does not say that it is up leaves a drain as it is where that is known, and ends it where it is not: nobody asks for it here.
            (Some(said), 4) => Word::Register(Said { reported: Reported::Up, is_draining: false, ..said }),
            (Some(said), 5) if speaker.ttl_ms.is_some() => {
                let is_up = said.reported == Reported::Up && !said.is_draining;
                let reported = if is_up { Reported::Starting } else { Reported::Up };
                Word::Report(Said { reported, is_draining: false, ..said })
            }
            (Some(said), 6) => Word::Drain(Said { is_draining: true, ..said }),
            (said, _) => Word::Register(fresh(port(said))),
        }
    }

    fn say_word(&mut self, index: usize, word: Word) {
        let nodes: Vec<usize> = self.running().into_iter().filter(|node| !self.slots[*node].is_clone && !self.is_paused(*node)).collect();
        let last = self.words.speakers[index].node;
        let others: Vec<usize> = nodes.iter().copied().filter(|node| *node != last).collect();
        let from = if others.is_empty() || (!self.words.moves_always && self.chance.permille(250)) { &nodes } else { &others };
        if from.is_empty() {
            return self.speak_later(index, AGAIN_MS);
        }
        let node = self.chance.pick(from);
        let ack = match self.chance.index(6) {
            0 => Ack::Peer { until: 500 },
            1 => Ack::All { until: 500 },
            _ => Ack::Local,
        };
        // A drain and a status bring no content: where the last registration is not known yet, they would be about the one before.
        let word = match (word, self.words.speakers[index].said) {
            (Word::Report(_) | Word::Drain(_), Some(said)) if !self.knows_last_word(index, node) => {
                Word::Register(Said { reported: Reported::Up, is_draining: false, ..said })
            }
            (word, _) => word,
        };
        let speaker = &mut self.words.speakers[index];
        let (key, incarnation) = (speaker.key.clone(), speaker.named());
        let ask = match word {
            Word::Register(said) => {
                let registration = Arc::new(speaker.content(said));
                let says_up = said.reported == Reported::Up;
                Ask::Register(Register { incarnation, says_up, ack, ..Register::new(key, registration, 0) })
            }
            Word::Deregister => Ask::Deregister(Deregister { key, incarnation, actor: None, ack }),
            Word::Drain(_) => Ask::Drain(Drain { key, incarnation, until: 20, deregister: false, wait: false, actor: None }),
            Word::Report(said) => {
                let digest = speaker.said.map(|said| content_digest(&speaker.content(said)));
                Ask::Heartbeat(Heartbeat { key, incarnation, digest, reported: Some(said.reported), at: 0 })
            }
            Word::Renew => {
                let Some((said, ttl_ms)) = speaker.said.zip(speaker.ttl_ms) else { return };
                let digest = Some(content_digest(&speaker.content(said)));
                let reported = (!said.is_draining).then_some(said.reported);
                let ask = Ask::Heartbeat(Heartbeat { key, incarnation, digest, reported, at: 0 });
                speaker.asked += 1;
                self.speak_later(index, ttl_ms / 3);
                let asked = self.words.speakers[index].asked;
                self.words.speakers[index].asking = Some(Asking { word, at: self.now, node });
                return self.ask(node, ask, Asker::Speaker { speaker: index, asked });
            }
        };
        speaker.asked += 1;
        speaker.asking = Some(Asking { word, at: self.now, node });
        let asked = speaker.asked;
        self.ask(node, ask, Asker::Speaker { speaker: index, asked });
    }

    /// The record that the last word left has reached this node.
    fn knows_last_word(&self, index: usize, node: usize) -> bool {
        let speaker = &self.words.speakers[index];
        let last = speaker.last.as_ref().and_then(|(_, version)| version.as_ref());
        let known = self.registry(node).and_then(|registry| registry.record(&speaker.key));
        known.zip(last).is_some_and(|(known, last)| known.version >= *last)
    }

    fn speak_later(&mut self, index: usize, after_ms: u64) {
        let asked = self.words.speakers[index].asked;
        self.after(after_ms, Event::Speak { speaker: index, asked });
    }

    pub(crate) fn speaker_hears(&mut self, index: usize, asked: u64, reply: Reply) {
        let speaker = &mut self.words.speakers[index];
        if speaker.asked != asked || speaker.is_void {
            return;
        }
        let Some(Asking { word, at, node }) = speaker.asking.take() else { return };
        let is_late = self.now > at + UNREACHED_MS;
        let said = match (word, reply) {
            (Word::Renew, Reply::Answered(Answer::Refused(Refusal::UnknownLease | Refusal::Superseded { .. }))) => {
                // It is to register again, and that is a word: one that says that it is up ends a drain.
                let Some(said) = speaker.said else { return };
                return self.say_word(index, Word::Register(Said { reported: Reported::Up, is_draining: false, ..said }));
            }
            (Word::Renew, _) => return,
            (_, Reply::Unreachable) if is_late => {
                speaker.is_void = true;
                return;
            }
            (Word::Register(said), Reply::Answered(Answer::Registered(_)))
            | (Word::Report(said), Reply::Answered(Answer::Renewed(_)))
            | (Word::Drain(said), Reply::Answered(Answer::Draining)) => Some(said),
            (Word::Deregister, Reply::Answered(Answer::Deregistered { .. })) => None,
            // What a node does not know yet cannot drain there, nor say how it is: the next word is another one.
            (Word::Report(_) | Word::Drain(_), _) => return self.speak_later(index, AGAIN_MS),
            // The same again, at another node.
            (_, _) => {
                speaker.node = node;
                return self.say_word(index, word);
            }
        };
        speaker.said = said;
        speaker.node = node;
        speaker.words += 1;
        let (key, gap_ms) = (speaker.key.clone(), speaker.gap_ms);
        let version = self.registry(node).and_then(|registry| registry.record(&key)).map(|record| record.version.clone());
        self.words.speakers[index].last = self.life(node).map(|life| (life, version));
        self.counts.add(Injected::Word);
        self.trace.say(self.now, || format!("{key} was answered {word:?} at n{node}"));
        self.speak_later(index, gap_ms);
    }

    /// Nodes came or went: a word that nobody holds any more cannot be asked for.
    pub(crate) fn note_lost_words(&mut self) {
        for index in 0..self.words.speakers.len() {
            let speaker = &self.words.speakers[index];
            let Some((life, version)) = &speaker.last else { continue };
            let holds = |node: &usize| match version {
                Some(version) => {
                    let record = self.registry(*node).and_then(|registry| registry.record(&speaker.key));
                    record.is_some_and(|record| record.version >= *version)
                }
                None => self.life(*node).as_ref() == Some(life),
            };
            if !self.running().iter().any(holds) {
                self.trace.say(self.now, || format!("whoever took the last word of {} is gone", speaker.key));
                self.words.speakers[index].is_void = true;
            }
        }
    }

    /// The speakers of whom some node lists something else than their last word.
    pub(crate) fn wrong_words(&self) -> Vec<String> {
        let judged = self.words.speakers.iter().filter(|speaker| !speaker.is_void);
        let wrong = judged.filter_map(|speaker| {
            let node = self.running().into_iter().find(|node| {
                let record = self.registry(*node).and_then(|registry| registry.record(&speaker.key));
                !speaker.is_right(record.and_then(|record| record.to_listed()).as_ref())
            })?;
            let record = self.registry(node).and_then(|registry| registry.record(&speaker.key));
            let is = record.map_or("nothing".to_owned(), describe);
            Some(format!("n{node}: the last word of {} was {:?}, and there is {is}", speaker.key, speaker.said))
        });
        wrong.collect()
    }

    pub(crate) fn check_words(&mut self) {
        if let Some(what) = self.wrong_words().into_iter().next().filter(|_| self.words.is_checked) {
            self.violate(Invariant::LastWord, what);
        }
    }
}

mod tests {
    use crate::scenarios::cluster;
    use crate::teeth::Sabotage;

    /// How wall clocks stand to each other, in ms.
    type Offsets = [u64; 3];
    const AGREE: Offsets = [0, 0, 0];
    /// In a plain `cargo test` this is one of many.
    const SEEDS: u64 = 12;
    const HOURS: Offsets = [3_600_000, 0, 7_200_000];

    /// Three nodes, eight speakers, for five seconds, in the second of which n0 is cut off: how many were judged, and what is wrong.
    fn played(seed: u64, offsets: Offsets, gap_ms: u64, cuts: bool, sabotage: Option<Sabotage>) -> (usize, Vec<String>) {
        let mut world = cluster(3);
        world.sabotage = sabotage;
        world.chance = crate::chance::Chance::new(seed);
        for (node, wall_offset) in offsets.into_iter().enumerate() {
            world.crash(node);
            world.slots[node].wall_offset = wall_offset;
            world.start(node);
        }
        world.run_for(4000);
        world.words.moves_always = true;
        world.words.until = world.now + 5000;
        for index in 0..8 {
            world.add_speaker((index % 2 == 0).then_some(6000), index % 4 > 1, gap_ms);
        }
        if cuts {
            world.run_for(1500);
            world.bus.cut_both(0, 1);
            world.bus.cut_both(0, 2);
            world.run_for(3500);
            world.bus.heal();
        }
        world.run_for(25_000);
        assert_eq!(world.violation, None, "seed {seed}");
        (world.words.counts().1, world.wrong_words())
    }

    fn share(offsets: Offsets, gap_ms: u64, cuts: bool) -> Vec<String> {
        let (mut judged, mut wrong) = (0, Vec::new());
        for seed in 0..SEEDS {
            let (count, mut what) = played(seed, offsets, gap_ms, cuts, None);
            judged += count;
            wrong.append(&mut what);
        }
        println!("clocks {offsets:?}, {gap_ms} ms apart, cut: {cuts}: {} of {judged} end wrong", wrong.len());
        wrong
    }

    #[test]
    fn a_deregistration_at_another_node_that_is_not_written_is_found() {
        let wrong =
            (0..SEEDS).map(|seed| played(seed, AGREE, 0, false, Some(Sabotage::DeregisterNothing)).1).find(|wrong| !wrong.is_empty());
        assert!(wrong.is_some_and(|wrong| wrong[0].contains("the last word of")));
    }

    #[test]
    fn the_last_word_holds_where_clocks_agree() {
        let wrong = [share(AGREE, 0, false), share(AGREE, 0, true)].concat();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn the_last_word_holds_where_clocks_are_hours_apart_and_words_are_not_a_message_s_way() {
        let wrong = [share(HOURS, 20, false), share(HOURS, 20, true)].concat();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
