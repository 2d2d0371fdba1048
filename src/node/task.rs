//! The one task that owns the registry: takes what happened, lets the registry decide, and does what it wants done.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::attachments::{End, Ends};
use super::eyes::Eyes;
use super::history::{Event, Recorder};
use super::port::{FromBus, Said};
use super::saver::ToSaver;
use super::{AskedDelivery, Condition, Shared, report};
use crate::model::{Epoch, InstanceKey, NodeName, OverrideKey, Seq, ServiceKey};
use crate::registry::{
    Answer, Beacon, BusHealth, Change, ClusterView, DeliveryReport, Deregister, Drain, Heartbeat, Input, Message, NodeState, Notice, Now,
    Outbox, Output, Overrides, Picture, Purpose, Record, Register, Registry, SetOverride, Ticket, To, Untaken, Watcher,
};
use crate::shutdown::Shutdown;

/// How many commands one round takes at the most, before what changed is shown and answered.
const ROUND_MAX: usize = 1024;
/// About how much one batch of changes carries, well below a frame's 256 KiB: the registry's sizes are estimates.
const BATCH_BYTES_MAX: usize = 176 * 1024;
/// How many batches one credit is good for.
const BATCHES_MAX: usize = 16;
/// What nobody looks at any more is let go, and the gauges are set, this often.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// A question to the node, with where its answer goes.
pub(super) enum Command {
    Register(Register, Reply),
    Attach(BTreeMap<InstanceKey, Register>, End, Reply),
    Heartbeat(Heartbeat, Reply),
    Deregister(Deregister, Reply),
    Drain(Drain, Reply),
    Delivered(u64, DeliveryReport),
    Audience(Vec<Watcher>, u64),
    Inspect(InstanceKey, Reply),
    SetOverride(SetOverride, Reply),
    DeleteOverride(OverrideKey, Reply),
    Overrides(oneshot::Sender<Overrides>),
    Diff(NodeName, Reply),
    ForgetNode(NodeName, Reply),
    Cluster(oneshot::Sender<ClusterView>),
    Records(Vec<InstanceKey>, oneshot::Sender<Vec<Option<Arc<Record>>>>),
    Leave(oneshot::Sender<()>),
    Untaken(oneshot::Sender<Untaken>),
    Picture(oneshot::Sender<Option<Picture>>),
}

pub(super) type Reply = oneshot::Sender<Answer>;

/// The node's ends of its queues to the bus.
pub(super) struct BusEnds {
    pub(super) beacons: watch::Sender<Option<Arc<Said<Beacon>>>>,
    pub(super) changes: mpsc::Sender<Said<Vec<Change>>>,
    pub(super) direct: mpsc::Sender<Said<(To, Message)>>,
    pub(super) bulk: mpsc::Sender<Said<(To, Message)>>,
    pub(super) reconnect: Arc<Notify>,
}

pub(super) struct Task {
    registry: Registry,
    /// In which all is said that the registry wants said now.
    epoch: Epoch,
    shared: Arc<Shared>,
    bus: BusEnds,
    /// `None`: nothing is written to disk.
    saver: Option<ToSaver>,
    /// Records have changed in this round.
    has_changed: bool,
    /// Changes up to here were given to the bus, or will be pulled.
    published: Seq,
    next_ticket: Ticket,
    /// Questions that the registry has not answered yet: those that wait for peers.
    waiting: HashMap<Ticket, Reply, RandomState>,
    /// Answers of this round, given once what they speak of can be read.
    answers: Vec<(Reply, Answer)>,
    changed: BTreeSet<ServiceKey>,
    /// An override changed: readers see which there are even where no view changed with it.
    overrides_changed: bool,
    /// Who has been sent something, to be asked once it can be seen.
    deliveries: Vec<AskedDelivery>,
    outbox: Outbox,
    eyes: Eyes,
    /// Connections that hold leases here.
    attachments: Ends,
    /// Whoever waits until this node has handed over what it owns.
    leaving: Vec<oneshot::Sender<()>>,
    has_handed_over: bool,
    history: Recorder,
    /// While it warms a node learns of what has long been so: that is nothing that happens.
    is_warming: bool,
}

impl Task {
    /// `outbox` is what the registry wants done already.
    pub(super) fn new(
        registry: Registry,
        outbox: Outbox,
        shared: Arc<Shared>,
        bus: BusEnds,
        eyes: Eyes,
        saver: Option<ToSaver>,
        history: Recorder,
    ) -> Self {
        let has_changed = registry.has_restored();
        Self {
            epoch: registry.settings().epoch,
            history,
            is_warming: registry.state() == NodeState::Warming,
            registry,
            shared,
            bus,
            saver,
            // What was read from disk is soon written again, with what was waited for its leases by then.
            has_changed,
            published: 0,
            next_ticket: 0,
            waiting: HashMap::default(),
            answers: Vec::new(),
            changed: BTreeSet::new(),
            overrides_changed: false,
            deliveries: Vec::new(),
            outbox,
            eyes,
            attachments: Ends::default(),
            leaving: Vec::new(),
            has_handed_over: false,
        }
    }

    /// Runs until the stop begins. The bus's queues close with it, after the last beacon and the last changes.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>, mut heard: mpsc::Receiver<FromBus>, shutdown: Shutdown) {
        let mut asked = Vec::with_capacity(ROUND_MAX);
        let mut told = Vec::with_capacity(ROUND_MAX);
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        // After a stop of an hour one sweep is as good as the 3,600 that were missed.
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let clock = self.shared.clock;
            self.shared.pulse.turn(clock.mono());
            let due = self.registry.next_deadline().map_or(clock.instant_of(clock.mono()) + SWEEP_EVERY, |at| clock.instant_of(at));
            let changes = self.bus.changes.clone();
            let has_more = self.published < self.registry.head() && self.registry.may_publish();
            let mut seen = Vec::new();
            let mut detached = None;
            tokio::select! {
                _ = commands.recv_many(&mut asked, ROUND_MAX), if !commands.is_closed() => {}
                _ = heard.recv_many(&mut told, ROUND_MAX), if !heard.is_closed() => {}
                Ok(_) = changes.reserve(), if has_more && !changes.is_closed() => {}
                () = tokio::time::sleep_until(due.into()) => {}
                inputs = self.eyes.next() => seen = inputs,
                Some(attachment) = self.attachments.next_closed() => detached = Some(attachment),
                _ = sweep.tick() => self.sweep(),
                () = shutdown.begun() => break,
            }
            let now = self.now();
            for command in asked.drain(..) {
                self.take(command, now);
            }
            for what in told.drain(..) {
                self.hear(what, now);
            }
            for input in seen {
                self.feed(input, now);
            }
            self.detach(detached, now);
            self.finish_round(now);
        }
        self.finish_round(self.now());
        if let Some(saver) = self.saver.take() {
            // A saver that has ended has nobody to tell.
            let _ = saver.last.send(self.registry.picture(self.now()));
        }
    }

    fn now(&self) -> Now {
        let (mono, wall) = self.shared.clock.mono_and_wall();
        Now { mono, wall }
    }

    fn take(&mut self, command: Command, now: Now) {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        let (input, reply) = match command {
            Command::Register(register, reply) => (Input::Register(ticket, register), reply),
            Command::Attach(members, end, reply) => {
                self.waiting.insert(ticket, reply);
                self.feed(Input::Attach(ticket, members), now);
                self.attachments.insert(ticket, end);
                return;
            }
            Command::Heartbeat(heartbeat, reply) => (Input::Heartbeat(ticket, heartbeat), reply),
            Command::Deregister(deregister, reply) => (Input::Deregister(ticket, deregister), reply),
            Command::Drain(drain, reply) => (Input::Drain(ticket, drain), reply),
            Command::Delivered(question, report) => return self.feed(Input::Delivered { question, report }, now),
            Command::Audience(watchers, count) => return self.feed(Input::Audience { watchers, count }, now),
            Command::Inspect(key, reply) => (Input::Inspect(ticket, key), reply),
            Command::SetOverride(set, reply) => (Input::SetOverride(ticket, set), reply),
            Command::DeleteOverride(key, reply) => (Input::DeleteOverride(ticket, key), reply),
            Command::Overrides(reply) => {
                // Nobody to tell: whoever asked has gone.
                let _ = reply.send(self.registry.overrides(now));
                return;
            }
            Command::Diff(with, reply) => (Input::Diff(ticket, with), reply),
            Command::ForgetNode(node, reply) => (Input::ForgetNode(ticket, node), reply),
            Command::Cluster(reply) => {
                // Nobody to tell: whoever asked has gone.
                let _ = reply.send(self.registry.cluster(now));
                return;
            }
            Command::Picture(reply) => {
                let _ = reply.send(self.registry.picture(now));
                return;
            }
            Command::Records(keys, reply) => {
                let _ = reply.send(keys.iter().map(|key| self.registry.record(key).cloned()).collect());
                return;
            }
            Command::Untaken(reply) => {
                let _ = reply.send(self.registry.untaken(now));
                return;
            }
            Command::Leave(reply) => {
                self.feed(Input::Leave, now);
                self.leaving.push(reply);
                self.tell_leaving();
                return;
            }
        };
        self.waiting.insert(ticket, reply);
        self.feed(input, now);
    }

    /// Takes the end of a connection that held leases, and of those that have closed with it: many do when a machine dies.
    fn detach(&mut self, first: Option<Ticket>, now: Now) {
        let mut next = first;
        for _ in 0..ROUND_MAX {
            let Some(attachment) = next else { return };
            self.feed(Input::Detached(attachment), now);
            next = self.attachments.take_closed();
        }
        if let Some(attachment) = next {
            self.feed(Input::Detached(attachment), now);
        }
    }

    /// Those who wait for it hear that nothing is left to hand over.
    fn tell_leaving(&mut self) {
        if self.has_handed_over {
            for reply in self.leaving.drain(..) {
                // Nobody to tell: whoever asked has gone.
                let _ = reply.send(());
            }
        }
    }

    fn hear(&mut self, what: FromBus, now: Now) {
        self.feed(
            match what {
                FromBus::Connected => Input::BusConnected,
                FromBus::Disconnected => Input::BusDisconnected,
                FromBus::Received(envelope) => Input::Received(envelope),
            },
            now,
        );
    }

    /// Lets the registry handle an input, and whatever it asks back at once.
    fn feed(&mut self, input: Input, now: Now) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.registry.handle(input, now, &mut self.outbox);
            self.perform(&mut inputs);
        }
    }

    /// Does what has become due, shows what changed, answers, gives the bus what it has credit for, and wakes who follows what changed.
    fn finish_round(&mut self, now: Now) {
        if self.registry.next_deadline().is_some_and(|at| at <= now.mono) {
            self.registry.advance(now, &mut self.outbox);
            let mut inputs = VecDeque::new();
            self.perform(&mut inputs);
            for input in inputs {
                self.feed(input, now);
            }
        }
        let changed = std::mem::take(&mut self.changed);
        if std::mem::take(&mut self.overrides_changed) || !changed.is_empty() {
            self.shared.board.show(self.registry.catalog());
        }
        self.ask_deliveries();
        for (reply, answer) in self.answers.drain(..) {
            // Nobody to tell: whoever asked has gone.
            let _ = reply.send(answer);
        }
        self.publish();
        self.history.tell();
        // The task that is woken last runs next on this thread, the others wait for one that is free: a change is told soonest this way.
        self.shared.board.tell(&changed);
        // Last: nobody may hold a picture from disk and hear that it is the present.
        self.shared.board.show_condition(condition(&self.registry, now));
        if let Some(saver) = self.saver.as_ref().filter(|_| std::mem::take(&mut self.has_changed)) {
            saver.changed.notify_one();
        }
    }

    /// Asks who has been sent what can be seen now.
    fn ask_deliveries(&mut self) {
        let Some(door) = self.shared.deliveries.get() else { return };
        for asked in self.deliveries.drain(..) {
            if door.try_send(asked).is_err() {
                // Its drain ends at its deadline, and says that nobody here knows.
                self.shared.metrics.dropped("deliveries");
            }
        }
    }

    /// The one match over what the registry wants done.
    fn perform(&mut self, inputs: &mut VecDeque<Input>) {
        for output in std::mem::take(&mut self.outbox) {
            match output {
                Output::Answer(ticket, answer) => self.answers.extend(self.waiting.remove(&ticket).map(|reply| (reply, answer))),
                Output::HoldLease { key, terms, at } => {
                    let is_late = !terms.steady;
                    let last = self.shared.leases.hold(&key, terms, at);
                    // A heartbeat that came just as the deadline fired was answered: it counts.
                    if is_late && last > at {
                        inputs.push_back(Input::Lease { key, last_heartbeat: Some(last), purpose: Purpose::Due });
                    }
                }
                Output::RenewLease { key, at } => self.shared.leases.store(&key, at),
                Output::AskLease { key, purpose } => {
                    let last_heartbeat = self.shared.leases.last(&key);
                    if purpose == Purpose::Ended {
                        self.shared.leases.drop_lease(&key);
                    }
                    inputs.push_back(Input::Lease { key, last_heartbeat, purpose });
                }
                Output::DropLease { key } => self.shared.leases.drop_lease(&key),
                Output::AttachmentOver { attachment, key, incarnation } => self.attachments.tell_over(attachment, key, incarnation),
                Output::Send(_, Message::Beacon(beacon)) => {
                    self.bus.beacons.send_replace(Some(Arc::new(self.said(beacon))));
                }
                Output::Send(to, message) => self.send(to, message),
                Output::Reconnect => self.bus.reconnect.notify_one(),
                Output::CheckPeer { ticket, node, epoch, http, needs_witness } => {
                    self.eyes.ask_peer(ticket, (node, epoch), http, needs_witness);
                }
                Output::Probe { ticket, probe } => self.eyes.look_at(ticket, probe),
                Output::HandedOver { left } => {
                    report::handed_over(&self.shared, left);
                    self.has_handed_over = true;
                    self.tell_leaving();
                }
                Output::Reborn(epoch) => {
                    self.published = 0;
                    self.has_handed_over = false;
                    self.epoch = epoch;
                }
                Output::Changed(changed) => {
                    self.has_changed = true;
                    report::changed(&self.shared, &changed);
                    let is_news = !self.is_warming || changed.own || changed.from.is_some();
                    if let Some(event) = Event::of(&changed).filter(|_| is_news) {
                        self.history.record(event);
                    }
                }
                // Where there is no door nobody is missing.
                Output::AskDelivery { question, .. } if self.shared.deliveries.get().is_none() => {
                    inputs.push_back(Input::Delivered { question, report: DeliveryReport::default() });
                }
                Output::AskDelivery { question, key, until } => self.deliveries.push(AskedDelivery { question, key, until }),
                Output::AudienceChanged => self.shared.elsewhere.store(Arc::new(self.registry.audience_elsewhere(self.now()))),
                Output::ViewChanged(service) => {
                    self.changed.insert(service);
                }
                Output::BecameState(state) => {
                    self.has_changed = true;
                    self.is_warming = state == NodeState::Warming;
                    self.shared.leases.set_closed(state == NodeState::Leaving);
                    report::became(&self.shared, state, self.registry.has_reached_bus());
                }
                Output::Noticed(notice) => {
                    let is_of_override = matches!(notice, Notice::OverrideChanged { .. });
                    self.overrides_changed |= is_of_override;
                    self.has_changed |= is_of_override;
                    report::noticed(&self.shared, &notice);
                }
            }
        }
    }

    fn said<T>(&self, what: T) -> Said<T> {
        Said { epoch: self.epoch, what }
    }

    fn send(&self, to: To, message: Message) {
        let (queue, name) = match &message {
            Message::Pull { .. }
            | Message::PullSized { .. }
            | Message::Pulled { .. }
            | Message::AskAudience { .. }
            | Message::ToldAudience { .. } => (&self.bus.bulk, "bulk"),
            Message::Change(_)
            | Message::Beacon(_)
            | Message::Relay { .. }
            | Message::Relayed { .. }
            | Message::Applied { .. }
            | Message::AskLease { .. }
            | Message::ToldLease { .. }
            | Message::AskProbe { .. }
            | Message::ToldProbe { .. }
            | Message::AskRecords { .. }
            | Message::ToldRecords { .. }
            | Message::AskDelivery { .. }
            | Message::ToldDelivery { .. }
            | Message::HandOver { .. }
            | Message::TookOver { .. }
            | Message::Overrides(_) => (&self.bus.direct, "direct"),
        };
        if let Err(mpsc::error::TrySendError::Full(_)) = queue.try_send(self.said((to, message))) {
            self.shared.metrics.dropped(name);
        }
    }

    /// Gives the bus everything it has not had, where it has credit. While the bus is down nothing gathers: peers will pull.
    fn publish(&mut self) {
        let head = self.registry.head();
        if self.published == head || !self.registry.may_publish() {
            return;
        }
        if matches!(self.registry.bus(), BusHealth::None | BusHealth::Down) {
            self.published = head;
            return;
        }
        let Ok(credit) = self.bus.changes.try_reserve() else { return };
        match self.registry.changes_after(self.published, BATCH_BYTES_MAX, BATCHES_MAX) {
            Some(batches) => {
                self.published = batches.last().map_or(head, |last| last.last);
                credit.send(self.said(batches));
            }
            None => self.published = head,
        }
    }

    fn sweep(&self) {
        self.shared.board.sweep();
        report::gauges(&self.shared, &self.registry, self.now());
        self.eyes.measure();
    }
}

/// How far the registry's answers can be relied on.
pub(super) fn condition(registry: &Registry, now: Now) -> Condition {
    Condition {
        state: registry.state(),
        epoch: registry.settings().epoch,
        gives_way: registry.has_stepped_down(),
        has_been_ready: registry.has_been_ready(),
        complete: registry.complete(),
        knowledge: registry.knowledge(now),
        has_restored: registry.has_restored(),
        bus: registry.bus(),
        stale_since: registry.stale_since(),
        is_stalled: false,
    }
}
