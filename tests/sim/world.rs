//! The world: simulated time, the nodes, and one ordered queue of what happens next.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use muster::model::{Cluster, Epoch, InstanceId, InstanceKey, Life, Namespace, NodeName, ServiceKey, ServiceName, Version};
use muster::registry::{
    Ack, AckReport, Answer, Body, Deregister, Heartbeat, Input, Message, Mono, NodeState, Now, Record, Register, Registry, Settings,
    Ticket, To,
};
use muster::wire::Codec;

use crate::bus::Bus;
use crate::chance::Chance;
use crate::counts::{Counts, Injected};
use crate::ledger::Ledger;
use crate::provider::{Provider, TIMEOUT_MS};
use crate::shell::{Effects, Shell};
use crate::teeth::Sabotage;
use crate::trace::Trace;
use crate::watcher::Watcher;

/// One call may want so much done at the most; these worlds are small.
const OUTPUTS_MAX: usize = 5000;
/// A node may act so often within one millisecond.
const STEPS_A_MS_MAX: u32 = 500;

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
    /// What was broken is whole again.
    Mend(Mend),
    /// Something goes wrong.
    Chaos,
    /// A provider starts again.
    Restart {
        provider: usize,
    },
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Mend {
    Cuts,
    Line(usize),
    Weather,
}

#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Register(Register),
    Heartbeat(Heartbeat),
    Deregister(Deregister),
}

impl Ask {
    pub(crate) fn key(&self) -> &InstanceKey {
        match self {
            Self::Register(register) => &register.key,
            Self::Heartbeat(heartbeat) => &heartbeat.key,
            Self::Deregister(deregister) => &deregister.key,
        }
    }

    /// The moment it reaches a socket, by that node's clock.
    fn arrive(&mut self, mono: Mono) {
        let settle = |ack: &mut Ack| match ack {
            Ack::Local => {}
            Ack::Peer { until } | Ack::All { until } => *until += mono,
        };
        match self {
            Self::Register(register) => {
                register.at = mono;
                settle(&mut register.ack);
            }
            Self::Heartbeat(heartbeat) => heartbeat.at = mono,
            Self::Deregister(deregister) => settle(&mut deregister.ack),
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
struct Pending {
    asker: Asker,
    key: InstanceKey,
    /// What the answer is about, once it is written.
    version: Option<Version>,
    /// The lives that ran when it was asked.
    lives: Vec<u32>,
}

/// A place where a node runs, over its lives.
pub(crate) struct Slot {
    pub(crate) name: NodeName,
    pub(crate) life: u32,
    pub(crate) shell: Option<Shell>,
    pub(crate) watcher: Watcher,
    mono_offset: u64,
    pub(crate) wall_offset: u64,
    /// What its bus client last told it.
    told_up: bool,
    wake_at: Option<u64>,
    is_publishing: bool,
    pub(crate) stalled_until: u64,
    pending: BTreeMap<Ticket, Pending>,
    steps: (u64, u32),
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) chance: Chance,
    pub(crate) bus: Bus,
    pub(crate) slots: Vec<Slot>,
    pub(crate) providers: Vec<Provider>,
    pub(crate) counts: Counts,
    pub(crate) trace: Trace,
    /// Applied to each node that starts.
    pub(crate) settings: fn(&mut Settings),
    pub(crate) bootstrap_wait_ms: u64,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) violation: Option<String>,
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
    /// From then on these must stay listed everywhere.
    pub(crate) protected: Vec<InstanceKey>,
    pub(crate) answers: Vec<Answer>,
    ledger: Ledger,
    codec: Codec,
    queue: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    next_ticket: Ticket,
}

impl World {
    pub(crate) fn new(seed: u64, nodes: usize) -> Self {
        let mut chance = Chance::new(seed);
        let slots = (0..nodes)
            .map(|index| Slot {
                name: NodeName::parse(&format!("n{index}")).expect("unreachable: it is a name"),
                life: 0,
                shell: None,
                watcher: Watcher::default(),
                mono_offset: 0,
                wall_offset: chance.between(0, 7_200_000),
                told_up: false,
                wake_at: None,
                is_publishing: false,
                stalled_until: 0,
                pending: BTreeMap::new(),
                steps: (0, 0),
            })
            .collect();
        let cluster = Cluster::parse("sim").expect("unreachable: it is a name");
        Self {
            now: 0,
            chance,
            bus: Bus::new(),
            slots,
            providers: Vec::new(),
            counts: Counts::default(),
            trace: Trace::default(),
            settings: |_| {},
            bootstrap_wait_ms: 200,
            sabotage: None,
            violation: None,
            answers_lost: 0,
            chaos_until: 0,
            publish_ms: 0,
            last_write: 0,
            writes: 0,
            change_frames: 0,
            relays: (0, 0),
            protected: Vec::new(),
            answers: Vec::new(),
            ledger: Ledger::default(),
            codec: Codec::new(&cluster),
            queue: BTreeMap::new(),
            next_event: 0,
            next_ticket: 0,
        }
    }

    /// The first violation is the one that counts.
    pub(crate) fn violate(&mut self, what: String) {
        let now = self.now;
        self.trace.say(now, || format!("VIOLATION {what}"));
        self.violation.get_or_insert(what);
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
            Event::Mend(mend) => self.mend(mend),
            Event::Chaos => self.chaos(),
            Event::Restart { provider } => {
                if !self.providers[provider].runs() {
                    self.start_provider(provider);
                }
            }
        }
    }

    // Nodes.

    pub(crate) fn now_at(&self, node: usize) -> Now {
        let slot = &self.slots[node];
        Now { mono: self.now + slot.mono_offset, wall: 1_700_000_000_000 + slot.wall_offset + self.now }
    }

    pub(crate) fn registry(&self, node: usize) -> Option<&Registry> {
        self.slots[node].shell.as_ref().map(|shell| &shell.registry)
    }

    /// How the cluster looks from a node that runs.
    pub(crate) fn is_converged(&self, node: usize) -> bool {
        self.registry(node).is_some_and(|registry| registry.cluster(self.now_at(node)).converged)
    }

    pub(crate) fn life(&self, node: usize) -> Option<Life> {
        self.registry(node).map(|registry| registry.settings().life())
    }

    /// The nodes that run.
    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.slots.len()).filter(|node| self.slots[*node].shell.is_some()).collect()
    }

    /// Starts a node in a new life that knows nothing.
    pub(crate) fn start(&mut self, node: usize) {
        if self.slots[node].shell.is_some() {
            return;
        }
        self.counts.add(Injected::NodeStarted);
        let drawn = (self.chance.next(), self.chance.next(), self.chance.between(1, 40), self.chance.between(0, 1 << 40));
        let (epoch, seed, connects_after, mono_offset) = drawn;
        let sabotage = self.sabotage;
        let slot = &mut self.slots[node];
        slot.life += 1;
        slot.mono_offset = 86_400_000 + mono_offset;
        slot.told_up = false;
        slot.wake_at = None;
        slot.is_publishing = false;
        slot.stalled_until = 0;
        slot.watcher = Watcher::default();
        let epoch = Epoch(if sabotage == Some(Sabotage::ReuseEpochs) { node as u64 } else { epoch });
        let mut settings = Settings::new(slot.name.clone(), epoch);
        settings.http = format!("{}:1", slot.name);
        settings.bootstrap_wait_ms = self.bootstrap_wait_ms;
        (self.settings)(&mut settings);
        let life = slot.life;
        let now = self.now_at(node);
        self.slots[node].shell = Some(Shell::new(settings, seed, now, sabotage));
        self.trace.say(self.now, || format!("n{node} starts, epoch {epoch}"));
        self.bus.attach(node, true);
        self.after(connects_after, Event::TellLink { node, life, up: true });
        self.schedule(node);
    }

    /// A node is gone with all it knew.
    pub(crate) fn crash(&mut self, node: usize) {
        self.trace.say(self.now, || format!("n{node} is gone"));
        let slot = &mut self.slots[node];
        slot.shell = None;
        let pending = std::mem::take(&mut slot.pending);
        for pending in pending.into_values() {
            self.reply(pending.asker, Reply::Unreachable, TIMEOUT_MS);
        }
    }

    pub(crate) fn leave(&mut self, node: usize, stops_after_ms: u64) {
        let life = self.slots[node].life;
        self.feed(node, Input::Leave);
        self.after(stops_after_ms, Event::Stop { node, life });
    }

    pub(crate) fn feed(&mut self, node: usize, input: Input) {
        let now = self.now_at(node);
        let Some(shell) = &mut self.slots[node].shell else { return };
        let effects = shell.feed(input, now);
        self.apply(node, effects);
    }

    fn wake(&mut self, node: usize, life: u32) {
        let slot = &mut self.slots[node];
        if slot.life != life || slot.wake_at != Some(self.now) {
            return;
        }
        slot.wake_at = None;
        if slot.stalled_until > self.now {
            self.schedule(node);
            return;
        }
        let now = self.now_at(node);
        let Some(shell) = &mut self.slots[node].shell else { return };
        let effects = shell.advance(now);
        self.apply(node, effects);
    }

    /// Does in the world what a node wants done.
    fn apply(&mut self, node: usize, effects: Effects) {
        self.count_step(node, effects.outputs);
        let Some(life) = self.life(node) else { return };
        for changed in &effects.changed {
            if changed.own {
                self.last_write = self.now;
                self.writes += 1;
            }
            self.trace.say(self.now, || format!("n{node} {} {}", if changed.own { "writes" } else { "takes" }, describe(&changed.record)));
            if let Err(broken) = self.ledger.note(&life, changed) {
                self.violate(broken);
            }
        }
        for notice in &effects.notices {
            self.trace.say(self.now, || format!("n{node} notices {notice:?}"));
        }
        for state in &effects.became {
            self.trace.say(self.now, || format!("n{node} becomes {}", state.as_str()));
        }
        for service in &effects.views {
            self.follow(node, service);
        }
        for (ticket, answer) in effects.answers {
            self.answer(node, ticket, answer);
        }
        for (to, message) in effects.sends {
            self.send(node, &to, &message);
        }
        if effects.reconnect {
            self.reconnect(node);
        }
        self.schedule(node);
    }

    fn count_step(&mut self, node: usize, outputs: usize) {
        let now = self.now;
        let steps = &mut self.slots[node].steps;
        *steps = if steps.0 == now { (now, steps.1 + 1) } else { (now, 1) };
        if steps.1 > STEPS_A_MS_MAX {
            self.violate(format!("n{node} does not come to rest: {STEPS_A_MS_MAX} steps in one millisecond"));
        }
        if outputs > OUTPUTS_MAX {
            self.violate(format!("n{node} wants {outputs} things done at once"));
        }
    }

    fn follow(&mut self, node: usize, service: &ServiceKey) {
        let slot = &mut self.slots[node];
        let Some(shell) = &slot.shell else { return };
        match slot.watcher.follow(service, shell.registry.catalog()) {
            Ok(removed) => {
                for id in removed {
                    if let Some(key) = self.protected.iter().find(|key| key.service == *service && key.id == id) {
                        let what = format!("n{node} no longer lists {key}, whose provider is answered 200");
                        self.violate(what);
                        return;
                    }
                }
            }
            Err(broken) => self.violate(format!("n{node}: {broken}")),
        }
    }

    fn schedule(&mut self, node: usize) {
        let publish_ms = self.publish_ms;
        let slot = &mut self.slots[node];
        let Some(shell) = &slot.shell else { return };
        let life = slot.life;
        let publishes = shell.has_to_publish() && !slot.is_publishing;
        slot.is_publishing |= publishes;
        let due = shell.registry.next_deadline().map(|at| at.saturating_sub(slot.mono_offset).max(self.now).max(slot.stalled_until));
        let wakes = due.filter(|due| slot.wake_at.is_none_or(|at| *due < at));
        if let Some(at) = wakes {
            slot.wake_at = Some(at);
            self.after(at - self.now, Event::Wake { node, life });
        }
        if publishes {
            let after = self.chance.between(0, publish_ms);
            self.after(after, Event::Publish { node, life });
        }
    }

    // The bus.

    fn publish(&mut self, node: usize, life: u32) {
        let slot = &mut self.slots[node];
        if slot.life != life {
            return;
        }
        slot.is_publishing = false;
        let Some(shell) = &mut slot.shell else { return };
        let changes = shell.publish();
        let from = shell.registry.settings().life();
        for change in changes {
            self.trace.say(self.now, || format!("n{node} publishes {}..={}", change.first, change.last));
            match self.codec.encode_change(&from, change) {
                Ok(frames) => {
                    for frame in frames {
                        self.change_frames += 1;
                        if self.now < self.bus.changes_lost_until {
                            self.counts.add(Injected::LostTail);
                        } else {
                            self.carry_to_all(node, &frame);
                        }
                    }
                }
                Err(too_large) => self.violate(format!("n{node} publishes what does not fit: {too_large}")),
            }
        }
        self.schedule(node);
    }

    fn send(&mut self, node: usize, to: &To, message: &Message) {
        if self.sabotage.is_some_and(|sabotage| sabotage.swallows(message)) {
            return;
        }
        if let Message::Relay { renewals, .. } = message {
            self.relays = (self.relays.0 + 1, self.relays.1 + renewals.len() as u64);
        }
        let Some(from) = self.life(node) else { return };
        let frame = match self.codec.encode(&from, message) {
            Ok(frame) => frame,
            Err(too_large) => return self.violate(format!("n{node} sends what does not fit: {too_large}")),
        };
        match to {
            To::All => self.carry_to_all(node, &frame),
            To::Node(name) => {
                if let Some(to) = self.slots.iter().position(|slot| slot.name == *name) {
                    self.carry(node, to, &frame);
                }
            }
        }
    }

    fn carry_to_all(&mut self, from: usize, frame: &Bytes) {
        for to in 0..self.slots.len() {
            self.carry(from, to, frame);
        }
    }

    fn carry(&mut self, from: usize, to: usize, frame: &Bytes) {
        for delay in self.bus.deliveries(from, to, frame, &mut self.chance, &mut self.counts) {
            self.after(delay, Event::Frame { from, to, frame: frame.clone() });
        }
    }

    fn deliver(&mut self, from: usize, to: usize, frame: Bytes) {
        let slot = &self.slots[to];
        if slot.shell.is_none() || !self.bus.carries(from, to) {
            return;
        }
        if slot.stalled_until > self.now {
            let wait = slot.stalled_until - self.now;
            return self.after(wait, Event::Frame { from, to, frame });
        }
        match self.codec.decode_from(&frame, &self.slots[from].name) {
            Ok(mut envelope) => {
                if let Some(sabotage) = self.sabotage {
                    sabotage.alter(&mut envelope, to);
                }
                self.trace.say_more(self.now, || format!("n{to} <- {} {}", envelope.from, envelope.message.brief()));
                self.feed(to, Input::Received(envelope));
            }
            Err(rejected) => self.violate(format!("n{to} refused a frame of n{from}'s: {rejected}")),
        }
    }

    fn tell_link(&mut self, node: usize, life: u32, up: bool) {
        let slot = &mut self.slots[node];
        let is_attached = self.bus.is_attached(node);
        if slot.life != life || slot.told_up == up || up && !is_attached {
            return;
        }
        slot.told_up = up;
        self.trace.say(self.now, || format!("n{node} is told that its bus is {}", if up { "up" } else { "down" }));
        self.feed(node, if up { Input::BusConnected } else { Input::BusDisconnected });
        if !up && is_attached {
            // The line works: the client is connected again before long.
            let after = self.chance.between(5, 300);
            self.after(after, Event::TellLink { node, life, up: true });
        }
    }

    /// The node's line to the bus breaks; its client notices some time later.
    pub(crate) fn break_line(&mut self, node: usize, noticed_after_ms: u64) {
        self.bus.attach(node, false);
        let life = self.slots[node].life;
        self.after(noticed_after_ms, Event::TellLink { node, life, up: false });
    }

    pub(crate) fn mend_line(&mut self, node: usize) {
        self.bus.attach(node, true);
        let life = self.slots[node].life;
        let after = self.chance.between(5, 200);
        self.after(after, Event::TellLink { node, life, up: true });
    }

    /// The node's client connects anew, because the node hears nothing of its own.
    fn reconnect(&mut self, node: usize) {
        let life = self.slots[node].life;
        self.after(0, Event::TellLink { node, life, up: false });
    }

    // Requests.

    /// A provider asks a node.
    pub(crate) fn ask(&mut self, node: usize, ask: Ask, asker: Asker) {
        let after = self.chance.between(1, 5);
        self.ask_after(after, node, ask, asker);
    }

    pub(crate) fn ask_after(&mut self, after_ms: u64, node: usize, ask: Ask, asker: Asker) {
        self.after(after_ms, Event::Request { node, ask, asker });
    }

    fn arrive(&mut self, node: usize, mut ask: Ask, asker: Asker) {
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

    fn submit(&mut self, node: usize, ask: Ask, asker: Asker) {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        let key = ask.key().clone();
        self.trace.say_more(self.now, || format!("n{node} is asked {ask:?}"));
        let lives = self.slots.iter().map(|slot| slot.life).collect();
        self.slots[node].pending.insert(ticket, Pending { asker, key: key.clone(), version: None, lives });
        let input = match ask {
            Ask::Register(register) => Input::Register(ticket, register),
            Ask::Heartbeat(heartbeat) => Input::Heartbeat(ticket, heartbeat),
            Ask::Deregister(deregister) => Input::Deregister(ticket, deregister),
        };
        self.feed(node, input);
        let version = self.registry(node).and_then(|registry| registry.record(&key)).map(|record| record.version.clone());
        if let Some(pending) = self.slots[node].pending.get_mut(&ticket) {
            pending.version = version;
        }
    }

    /// Asks a node now, as a scenario does, and gives the answer where there is one at once.
    pub(crate) fn ask_now(&mut self, node: usize, ask: Ask) -> Option<Answer> {
        self.answers.clear();
        self.arrive(node, ask, Asker::Scenario);
        self.answers.pop()
    }

    fn answer(&mut self, node: usize, ticket: Ticket, answer: Answer) {
        let Some(pending) = self.slots[node].pending.remove(&ticket) else {
            return self.violate(format!("n{node} answers a question twice: {answer:?}"));
        };
        let report = match &answer {
            Answer::Registered(registered) => registered.ack.as_ref(),
            Answer::Deregistered { ack } => ack.as_ref(),
            Answer::Renewed(_) | Answer::Inspected(_) | Answer::Refused(_) => None,
        };
        if let (Some(report), Some(version)) = (report, &pending.version) {
            self.check_report(node, &pending, version, report);
        }
        self.answered(node, pending.asker, answer);
    }

    /// Whoever is said to have applied a write holds it, or something greater; it may have started again since, unheard.
    fn check_report(&mut self, at: usize, pending: &Pending, version: &Version, report: &AckReport) {
        let Some(registry) = self.registry(at) else { return };
        let believed: Vec<Life> = registry.cluster(self.now_at(at)).nodes.into_iter().map(|node| node.life).collect();
        let runs =
            |node: &usize| self.life(*node).is_some_and(|life| believed.contains(&life)) && self.slots[*node].life == pending.lives[*node];
        let said = (0..self.slots.len()).filter(|node| report.applied.contains(&self.slots[*node].name)).filter(runs);
        let has = |node: usize| {
            self.registry(node).and_then(|registry| registry.record(&pending.key)).is_some_and(|record| record.version >= *version)
        };
        if let Some(node) = said.into_iter().find(|node| !has(*node)) {
            self.violate(format!("n{node} is said to have applied {} {version:?}, and has not", pending.key));
        }
    }

    fn answered(&mut self, node: usize, asker: Asker, answer: Answer) {
        self.trace.say_more(self.now, || format!("n{node} answers {asker:?} {answer:?}"));
        let is_lost = self.now < self.chaos_until && self.chance.permille(self.answers_lost);
        if is_lost && matches!(asker, Asker::Provider { .. }) {
            self.counts.add(Injected::AnswerLost);
            self.reply(asker, Reply::Unreachable, TIMEOUT_MS);
        } else {
            let after = self.chance.between(1, 5);
            self.reply(asker, Reply::Answered(answer), after);
        }
    }

    fn reply(&mut self, asker: Asker, reply: Reply, after_ms: u64) {
        match (asker, reply) {
            (Asker::Provider { provider, process, asked, from_ms }, reply) => {
                self.after(after_ms, Event::Reply { provider, process, asked, from_ms, reply });
            }
            (Asker::Scenario, Reply::Answered(answer)) => self.answers.push(answer),
            (Asker::Scenario, Reply::Unreachable) | (Asker::Nobody, _) => {}
        }
    }

    pub(crate) fn is_ready(&self, node: usize) -> bool {
        self.registry(node).is_some_and(|registry| registry.state() == NodeState::Ready)
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
        Body::Live { registration, seen } => format!(":{} {:?} {seen:?}", registration.port(), registration.reported()),
        Body::Withdrawn { kept, named } => format!("withdrawn kept={} named={named}", kept.is_some()),
    };
    let numbers = (version.incarnation.get(), version.edition, version.deregistered, version.generation, version.live);
    format!("{} {numbers:?} {}/{} {} {body}", record.key.id, version.owner, version.seq, record.cause)
}

/// A message in a word or two, for traces.
trait Brief {
    fn brief(&self) -> String;
}

impl Brief for Message {
    fn brief(&self) -> String {
        let whole = format!("{self:?}");
        whole.chars().take(400).collect()
    }
}
