//! The world: simulated time, and one ordered queue of what happens next.

mod feed;
mod line;
mod node;
mod pause;
mod reach;
mod request;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use muster::model::{Cluster, Epoch, InstanceId, InstanceKey, Namespace, NodeName, ServiceKey, ServiceName};
use muster::registry::{Answer, Body, DeliveryReport, Input, Now, ProbeOutcome, Record, Settings, Ticket};
use muster::wire::Codec;

pub(crate) use node::{BEGAN_AT, Slot};
pub(crate) use request::{Ask, Asker, Reply};

use crate::attached::Connections;
use crate::blank::Blank;
use crate::bounds::Expiries;
use crate::bus::Bus;
use crate::chance::Chance;
use crate::consumer::{Consumer, Telling};
use crate::counts::Counts;
use crate::disk::Disk;
use crate::drains::Drains;
use crate::fixed::Fixed;
use crate::invariant::{Invariant, Violation};
use crate::ledger::Ledger;
use crate::provider::Provider;
use crate::secured::Secured;
use crate::teeth::Sabotage;
use crate::trace::Trace;
use crate::wills::Wills;
use crate::words::Words;

pub(crate) enum Event {
    Frame {
        from: usize,
        to: usize,
        frame: Bytes,
    },
    /// The node's next deadline.
    Wake {
        node: usize,
        life: u32,
    },
    Publish {
        node: usize,
        life: u32,
    },
    /// The bus's client tells the node how its connection is.
    TellLink {
        node: usize,
        life: u32,
        up: bool,
    },
    Request {
        node: usize,
        ask: Ask,
        asker: Asker,
    },
    Reply {
        provider: usize,
        process: u32,
        asked: u64,
        from_ms: u64,
        reply: Reply,
    },
    Tick {
        provider: usize,
        process: u32,
        tick: u64,
    },
    Start {
        node: usize,
    },
    Stop {
        node: usize,
        life: u32,
    },
    /// What a node saw of a peer that it asked directly.
    Checked {
        node: usize,
        life: u32,
        ticket: Ticket,
        peer: NodeName,
        epoch: Option<Epoch>,
    },
    /// What a node sees that looked at an instance.
    Seen {
        node: usize,
        life: u32,
        ticket: Ticket,
        outcome: ProbeOutcome,
    },
    /// A node's shell says who has been sent something.
    Delivered {
        node: usize,
        life: u32,
        question: u64,
        report: DeliveryReport,
    },
    /// A node is cut off from all others.
    Isolate(usize),
    /// A paused node goes on.
    Resume {
        node: usize,
        life: u32,
    },
    /// What a node holds is written to its disk.
    Save {
        node: usize,
        life: u32,
    },
    /// What was broken is whole again.
    Mend(Mend),
    /// Something goes wrong.
    Chaos,
    Told {
        consumer: usize,
        stream: u32,
        telling: Telling,
    },
    /// A consumer looks for a stream.
    Connect {
        consumer: usize,
        stream: u32,
    },
    /// It is looked whether everything is within its bounds.
    Look,
    /// The node's end of a connection that holds a lease sees that it is closed.
    Detached {
        node: usize,
        life: u32,
        attachment: Ticket,
    },
    /// The provider's end does.
    ConnectionEnds {
        provider: usize,
        process: u32,
        attachment: Ticket,
    },
    /// One that speaks at any node has its next word.
    Speak {
        speaker: usize,
        asked: u64,
    },
    SpeakerHears {
        speaker: usize,
        asked: u64,
        reply: Reply,
    },
    /// A provider starts again.
    Restart {
        provider: usize,
    },
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Mend {
    Cuts,
    /// Over HTTP.
    Reach,
    Isolation(usize),
    Line(usize),
    SlowLine(usize),
    Weather,
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) chance: Chance,
    pub(crate) bus: Bus,
    /// While a node runs its wall clock strays.
    pub(crate) wall_clocks_err: bool,
    /// All wall clocks are right where nodes start, and no clock is faster than another.
    pub(crate) clocks_agree: bool,
    /// How often a node began a new life without starting anew.
    pub(crate) reborn: usize,
    /// When a node's process ended last.
    pub(crate) ended_at: Option<u64>,
    /// (from, to) that does not get through over HTTP.
    http_cuts: BTreeSet<(usize, usize)>,
    pub(crate) slots: Vec<Slot>,
    /// Of the nodes that have one.
    pub(crate) disks: BTreeMap<usize, Disk>,
    pub(crate) providers: Vec<Provider>,
    pub(crate) connections: Connections,
    /// What providers said that a node took when they had said something else.
    pub(crate) overtaken: BTreeSet<(InstanceKey, u128)>,
    pub(crate) consumers: Vec<Consumer>,
    pub(crate) counts: Counts,
    pub(crate) trace: Trace,
    /// Applied to each node that starts.
    pub(crate) settings: fn(&mut Settings),
    pub(crate) bootstrap_wait_ms: u64,
    pub(crate) sabotage: Option<Sabotage>,
    /// No answer of this node to a pull gets through.
    pub(crate) mutes_pulls_of: Option<usize>,
    /// These pull, and are asked, as the version before did.
    pub(crate) elders: BTreeSet<usize>,
    pub(crate) violation: Option<Violation>,
    /// Answers get lost, in thousandths, until the end of chaos.
    pub(crate) answers_lost: u64,
    pub(crate) chaos_until: u64,
    /// How long a node takes to give a change to the bus.
    pub(crate) publish_ms: u64,
    pub(crate) last_write: u64,
    pub(crate) writes: u64,
    /// Change frames that went out.
    pub(crate) change_frames: u64,
    /// Relay frames that went out, and the renewals in them.
    pub(crate) relays: (u64, u64),
    /// Bytes of relay frames and of their answers.
    pub(crate) relay_bytes: u64,
    /// From then on these must stay listed everywhere.
    pub(crate) protected: Vec<InstanceKey>,
    /// And none of them is even late.
    pub(crate) none_is_late: bool,
    /// What no restart may make shorter, while all nodes were killed and have started again from sound disks.
    pub(crate) secured: Secured,
    /// What no node can know, while none that knew is left.
    pub(crate) blank: Blank,
    /// What operators said.
    pub(crate) wills: Wills,
    pub(crate) fixed: Fixed,
    pub(crate) words: Words,
    pub(crate) drains: Drains,
    pub(crate) answers: Vec<Answer>,
    /// How many names that no node has were heard.
    pub(crate) ghosts: usize,
    /// How many of them said something that changed records.
    pub(crate) strangers: usize,
    ledger: Ledger,
    expiries: Expiries,
    pub(crate) codec: Codec,
    queue: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    next_ticket: Ticket,
}

impl World {
    pub(crate) fn new(seed: u64, nodes: usize) -> Self {
        let mut chance = Chance::new(seed);
        let slots = (0..nodes).map(|index| Slot::new(index, chance.between(0, 7_200_000))).collect();
        let cluster = Cluster::parse("sim").expect("unreachable: it is a name");
        Self {
            now: 0,
            chance,
            bus: Bus::new(),
            wall_clocks_err: false,
            clocks_agree: false,
            ended_at: None,
            reborn: 0,
            http_cuts: BTreeSet::new(),
            slots,
            disks: BTreeMap::new(),
            providers: Vec::new(),
            connections: Connections::new(),
            overtaken: BTreeSet::new(),
            consumers: Vec::new(),
            counts: Counts::default(),
            trace: Trace::default(),
            settings: |_| {},
            bootstrap_wait_ms: 200,
            sabotage: None,
            mutes_pulls_of: None,
            elders: BTreeSet::new(),
            violation: None,
            answers_lost: 0,
            chaos_until: 0,
            publish_ms: 0,
            last_write: 0,
            writes: 0,
            change_frames: 0,
            relays: (0, 0),
            relay_bytes: 0,
            protected: Vec::new(),
            none_is_late: false,
            secured: Secured::default(),
            blank: Blank::default(),
            wills: Wills::default(),
            fixed: Fixed::default(),
            words: Words::default(),
            drains: Drains::default(),
            answers: Vec::new(),
            ghosts: 0,
            strangers: 0,
            ledger: Ledger::default(),
            expiries: Expiries::default(),
            codec: Codec::new(&cluster),
            queue: BTreeMap::new(),
            next_event: 0,
            next_ticket: 0,
        }
    }

    /// The first violation is the one that counts.
    pub(crate) fn violate(&mut self, of: Invariant, what: String) {
        let (now, violation) = (self.now, Violation { of, what });
        self.trace.say(now, || format!("VIOLATION {violation}"));
        self.violation.get_or_insert(violation);
    }

    pub(crate) fn after(&mut self, ms: u64, event: Event) {
        self.next_event += 1;
        self.queue.insert((self.now + ms, self.next_event), event);
    }

    /// Lets everything happen until then, or until something is wrong.
    pub(crate) fn run_until(&mut self, until: u64) {
        while self.violation.is_none() {
            let Some(entry) = self.queue.first_entry() else { break };
            let (at, _) = *entry.key();
            if at > until {
                break;
            }
            let event = entry.remove();
            self.now = at;
            self.happen(event);
        }
        self.now = self.now.max(until);
    }

    pub(crate) fn run_for(&mut self, ms: u64) {
        self.run_until(self.now + ms);
    }

    fn happen(&mut self, event: Event) {
        let Some(event) = self.unless_paused(event) else { return };
        match event {
            Event::Frame { from, to, frame } => self.deliver(from, to, frame),
            Event::Wake { node, life } => self.wake(node, life),
            Event::Publish { node, life } => self.publish(node, life),
            Event::TellLink { node, life, up } => self.tell_link(node, life, up),
            Event::Request { node, ask, asker } => self.arrive(node, ask, asker),
            Event::Reply { provider, process, asked, from_ms, reply } => self.provider_hears(provider, process, asked, from_ms, reply),
            Event::Tick { provider, process, tick } => self.provider_acts(provider, process, tick),
            // What was to start later stays down: nothing is new once everything has healed.
            Event::Start { node } if self.now > self.chaos_until => self.trace.say(self.now, || format!("n{node} stays down")),
            Event::Start { node } => self.start(node),
            Event::Stop { node, life } => {
                if self.slots[node].life == life {
                    self.crash(node);
                }
            }
            Event::Checked { node, life, ticket, peer, epoch } => self.checked(node, life, ticket, (&peer, epoch)),
            Event::Seen { node, life, ticket, outcome } => {
                if self.slots[node].life == life {
                    self.feed(node, Input::Probed { ticket, outcome });
                }
            }
            Event::Delivered { node, life, question, report } => self.delivered(node, life, question, report),
            // As with starts: what was to break later stays whole.
            Event::Isolate(_) if self.now >= self.chaos_until => {}
            Event::Isolate(node) => {
                self.trace.say(self.now, || format!("n{node} is cut off"));
                self.bus.isolate(node);
            }
            Event::Resume { node, life } => {
                if self.slots[node].life == life {
                    self.resume(node);
                }
            }
            Event::Save { node, life } => self.save(node, life),
            Event::Mend(mend) => self.mend(mend),
            Event::Chaos => self.chaos(),
            Event::Look => self.look(),
            Event::Told { consumer, stream, telling } => self.consumer_hears(consumer, stream, telling),
            Event::Connect { consumer, stream } => self.connect(consumer, stream),
            Event::Detached { node, life, attachment } => self.detach(node, life, attachment),
            Event::ConnectionEnds { provider, process, attachment } => self.connection_ends(provider, process, attachment),
            Event::Speak { speaker, asked } => self.speak(speaker, asked),
            Event::SpeakerHears { speaker, asked, reply } => self.speaker_hears(speaker, asked, reply),
            Event::Restart { provider } => {
                if !self.providers[provider].runs() {
                    self.start_provider(provider);
                }
            }
        }
    }
}

/// An instance's name.
pub(crate) fn key(service: &str, id: &str) -> InstanceKey {
    let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse(service).expect("unreachable: it is a name") };
    InstanceKey { service, id: InstanceId::parse(id).expect("unreachable: it is a name") }
}

/// A record in a line.
pub(crate) fn describe(record: &Arc<Record>) -> String {
    let version = &record.version;
    let body = match &record.body {
        Body::Live { registration, seen, draining } => {
            let draining = if *draining { " draining" } else { "" };
            format!(":{} {:?} {seen:?}{draining}", registration.port(), registration.reported())
        }
        Body::Withdrawn { kept, named, of_unknown, draining } => {
            let unknown = if *of_unknown { " unknown" } else { "" };
            let draining = if *draining { " draining" } else { "" };
            format!("withdrawn kept={} named={named}{unknown}{draining}", kept.is_some())
        }
    };
    let life = (version.incarnation, version.deregistered, version.generation, version.live);
    let (incarnation, deregistered, generation, live) = life;
    let numbers = format!("({incarnation}, {}, {deregistered}, {generation}, {live})", describe_edition(version.edition));
    format!("{} {numbers} {}/{} {} {body}", record.key.id, version.owner, version.seq, record.cause)
}

/// A stamp as the ms of the story by a clock that is right, with the words after it in that.
fn describe_edition(edition: u64) -> String {
    let Some(stamp) = edition.checked_sub(BEGAN_AT * Now::WALL_A_MS) else { return edition.to_string() };
    let (ms, rest) = (stamp / Now::WALL_A_MS, stamp % Now::WALL_A_MS);
    if rest == 0 { format!("@{ms}") } else { format!("@{ms}+{rest}") }
}
