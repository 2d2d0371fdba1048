//! The node: the one task that owns the registry and does what it wants done, and the handle through which others reach it.

mod attachments;
mod board;
mod deliveries;
mod dialer;
mod eyes;
pub mod history;
mod inquiry;
mod leases;
mod port;
mod private_file;
mod probe;
mod report;
mod saver;
pub mod store;
mod task;
mod watchdog;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc, oneshot, watch};

pub use attachments::Attachment;
pub use dialer::Guard;
pub use history::{Event, EventId, History};
pub use port::{AskedDelivery, BusPort, FromBus, Said, ToNode};
pub use probe::Probing;
pub use watchdog::Watching;

use crate::clock::Clock;
use crate::metrics::{self, Metrics};
use crate::model::{Epoch, InstanceKey, NodeName, OverrideKey, ServiceKey};
use crate::registry::{
    AckReport, Answer, BusHealth, Catalog, ClusterView, Deregister, Diff, Drain, Drained, Elsewhere, Heartbeat, Input, Inspected,
    Knowledge, Mono, NodeState, Now, Outbox, Overrides, Record, Refusal, Register, Registered, Registry, Renewed, SetOverride, Settings,
    Untaken, View,
};
use crate::shutdown::Shutdown;
use board::Board;
use dialer::Dialer;
use eyes::Eyes;
use history::journal::Journal;
use inquiry::Inquiry;
use leases::LeaseTable;
use probe::Prober;
use saver::Saver;
use store::{Restored, Store};
use task::{BusEnds, Command, Reply, Task};
use watchdog::Pulse;

/// How many questions may wait for the node; one more is refused as overloaded.
const COMMANDS_MAX: usize = 16_384;
/// How many messages from the bus may wait for the node; the bus waits, and beacons show what its own buffer lost.
const HEARD_MAX: usize = 4096;
/// How many relays and questions may wait for the bus; one more is dropped, and said again.
const DIRECT_MAX: usize = 4096;
/// How many pulls and their answers may wait for the bus, each up to a frame; one more is dropped, and asked again.
const BULK_MAX: usize = 64;

/// Reaches a running node. Cheap to clone; reads never enter the node's queue.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

/// What the node's task and its handles have in common.
struct Shared {
    name: NodeName,
    clock: Clock,
    metrics: Arc<Metrics>,
    leases: LeaseTable,
    board: Board,
    /// The subscribers of other nodes, as they are known.
    elsewhere: ArcSwap<Elsewhere>,
    /// Where it is asked who has been sent something; nobody does where there is no door.
    deliveries: OnceLock<mpsc::Sender<AskedDelivery>>,
    history: History,
    pulse: Pulse,
}

/// Why a question was not answered; nothing was changed, but where it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The registry said no.
    ByRegistry(Refusal),
    /// The registry said no to one of several, and so to all.
    Member(InstanceKey, Refusal),
    /// The node's queue is full.
    Overloaded,
    /// The node has stopped.
    Stopped,
    /// The node's task does not turn, and was not asked.
    Stalled,
    /// The node's task was asked and does not turn: what was asked may be done once it does.
    Unanswered,
}

/// How far a node's answers can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Its own state.
    pub state: NodeState,
    /// This life of it.
    pub epoch: Epoch,
    /// Another node runs under its name, and of the two this one ends.
    pub gives_way: bool,
    /// In this life it knew enough to be ready: a leaving node without this never did.
    pub has_been_ready: bool,
    /// Nothing that could be known is missing.
    pub complete: bool,
    /// Whether it may say of a service of which it knows nothing that there is nothing.
    pub knowledge: Knowledge,
    /// It shows, or holds, what was on its disk, and nobody has confirmed that: a node with this can answer before it was ready.
    pub has_restored: bool,
    /// How its bus is.
    pub bus: BusHealth,
    /// When what is shown was last known to be so, where that is not now; how stale an answer is: now less this.
    pub stale_since: Option<Mono>,
    /// Its task does not turn: nothing is heard, decided or written until it does.
    pub is_stalled: bool,
}

impl Condition {
    /// The node has something to show: it knows enough, or what was on its disk.
    #[must_use]
    pub fn can_answer(&self) -> bool {
        match self.state {
            NodeState::Ready => true,
            NodeState::Leaving => self.has_been_ready || self.has_restored,
            NodeState::Warming => self.has_restored,
        }
    }
}

impl Handle {
    /// Whom this reaches.
    #[must_use]
    pub fn name(&self) -> &NodeName {
        &self.shared.name
    }

    /// The node's clock.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.shared.clock
    }

    /// Registers, updates or renews an instance.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed.
    pub async fn register(&self, register: Register) -> Result<Registered, Refused> {
        match self.ask(|reply| Command::Register(register, reply)).await? {
            Answer::Registered(registered) => Ok(registered),
            other => Err(refused(other)),
        }
    }

    /// Registers all of these, in the order of their keys, or none, and holds their leases until the attachment is dropped.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed.
    pub async fn attach(&self, members: BTreeMap<InstanceKey, Register>) -> Result<(Vec<Registered>, Attachment), Refused> {
        let (attachment, end) = attachments::pair(members.len());
        match self.ask(|reply| Command::Attach(members, end, reply)).await? {
            Answer::Attached(registered) => Ok((registered, attachment)),
            Answer::AttachRefused { key, refusal } => Err(Refused::Member(key, refusal)),
            other => Err(refused(other)),
        }
    }

    /// Renews a lease; at its owner without entering the node's queue.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed.
    pub async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<Renewed, Refused> {
        // A renewal that the task never sees keeps nobody listed: peers that judge this node by its silence do not know of it.
        self.check_turns()?;
        if let Some(renewed) = self.shared.leases.renew(&heartbeat) {
            self.shared.metrics.heartbeats_renewed.increment(1);
            return Ok(renewed);
        }
        self.shared.metrics.heartbeats_asked.increment(1);
        match self.ask(|reply| Command::Heartbeat(heartbeat, reply)).await? {
            Answer::Renewed(renewed) => Ok(renewed),
            other => Err(refused(other)),
        }
    }

    /// Takes an instance away; fine when it was gone already.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed.
    pub async fn deregister(&self, deregister: Deregister) -> Result<Option<AckReport>, Refused> {
        match self.ask(|reply| Command::Deregister(deregister, reply)).await? {
            Answer::Deregistered { ack } => Ok(ack),
            other => Err(refused(other)),
        }
    }

    /// Drains an instance: with `wait` until it is over, else `None` at once.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed.
    pub async fn drain(&self, drain: Drain) -> Result<Option<Drained>, Refused> {
        match self.ask(|reply| Command::Drain(drain, reply)).await? {
            Answer::Drained(drained) => Ok(Some(drained)),
            Answer::Draining => Ok(None),
            other => Err(refused(other)),
        }
    }

    /// Everything known of one instance; `None` when no live record is known.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed.
    pub async fn inspect(&self, key: InstanceKey) -> Result<Option<Inspected>, Refused> {
        match self.ask(|reply| Command::Inspect(key, reply)).await? {
            Answer::Inspected(inspected) => Ok(inspected),
            other => Err(refused(other)),
        }
    }

    /// Sets an override, in the place of one of this name; says whether there was none.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed.
    pub async fn set_override(&self, set: SetOverride) -> Result<bool, Refused> {
        match self.ask(|reply| Command::SetOverride(set, reply)).await? {
            Answer::OverrideSet { created } => Ok(created),
            other => Err(refused(other)),
        }
    }

    /// The records of these instances, live or withdrawn, in order; `None`: nothing is known of it. For a thousand at a time at the most:
    /// the node does nothing else meanwhile.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed.
    pub async fn records(&self, keys: Vec<InstanceKey>) -> Result<Vec<Option<Arc<Record>>>, Refused> {
        self.put(|reply| Command::Records(keys, reply)).await
    }

    /// In what another node's records differ from this one's.
    ///
    /// # Errors
    /// [`Refused`], when that node is not known or does not answer.
    pub async fn diff(&self, with: NodeName) -> Result<Diff, Refused> {
        match self.ask(|reply| Command::Diff(with, reply)).await? {
            Answer::Diff(diff) => Ok(diff),
            other => Err(refused(other)),
        }
    }

    /// Counts a node no more that will not come back.
    ///
    /// # Errors
    /// [`Refused`], when that node is heard or not known; nothing was changed.
    pub async fn forget_node(&self, node: NodeName) -> Result<(), Refused> {
        match self.ask(|reply| Command::ForgetNode(node, reply)).await? {
            Answer::NodeForgotten => Ok(()),
            other => Err(refused(other)),
        }
    }

    /// Ends an override.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed.
    pub async fn delete_override(&self, key: OverrideKey) -> Result<(), Refused> {
        match self.ask(|reply| Command::DeleteOverride(key, reply)).await? {
            Answer::OverrideDeleted => Ok(()),
            other => Err(refused(other)),
        }
    }

    /// The overrides that hold, and what they are about.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed.
    pub async fn overrides(&self) -> Result<Overrides, Refused> {
        self.put(Command::Overrides).await
    }

    /// How the cluster looks from here.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed.
    pub async fn cluster(&self) -> Result<ClusterView, Refused> {
        self.put(Command::Cluster).await
    }

    /// Asks the node to leave: it takes no writes from then on, and hands over what it owns. Returns when all of that is owned elsewhere,
    /// or nobody is there to own it.
    pub async fn leave(&self) {
        let (reply, left) = oneshot::channel();
        // It waits for a place where others are refused: an overloaded node hands over too. A node that has stopped has left.
        if self.commands.send(Command::Leave(reply)).await.is_ok() {
            let _ = left.await;
        }
    }

    /// What a node that gives way has written and no other node holds so far.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed.
    pub async fn untaken(&self) -> Result<Untaken, Refused> {
        self.put(Command::Untaken).await
    }

    /// What this node believes, whole and consistent. Holds every write that was answered before.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        self.shared.board.catalog()
    }

    /// How far that can be relied on.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.shared.board.condition()
    }

    /// The condition, as it changes.
    #[must_use]
    pub fn follow_condition(&self) -> watch::Receiver<Condition> {
        self.shared.board.follow_condition()
    }

    /// One service's view, as it changes; of an unknown service an empty one. Only the newest is kept.
    #[must_use]
    pub fn follow(&self, service: &ServiceKey) -> watch::Receiver<Arc<View>> {
        self.shared.board.follow(service)
    }

    /// The whole catalog, as it changes. Only the newest is kept.
    #[must_use]
    pub fn follow_catalog(&self) -> watch::Receiver<Arc<Catalog>> {
        self.shared.board.follow_catalog()
    }

    /// Somebody follows this service's view at this node.
    #[must_use]
    pub fn is_followed(&self, service: &ServiceKey) -> bool {
        self.shared.board.is_followed(service)
    }

    /// What happened to instances, as this node learned of it.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.shared.history
    }

    async fn ask(&self, command: impl FnOnce(Reply) -> Command) -> Result<Answer, Refused> {
        self.put(command).await
    }

    async fn put<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Refused> {
        self.check_turns()?;
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(command(reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refused::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Refused::Stopped,
        })?;
        let mut conditions = self.follow_condition();
        tokio::select! {
            biased;
            answer = answer => answer.map_err(|_| Refused::Stopped),
            Ok(_) = conditions.wait_for(|condition| condition.is_stalled) => Err(Refused::Unanswered),
        }
    }

    fn check_turns(&self) -> Result<(), Refused> {
        if self.condition().is_stalled { Err(Refused::Stalled) } else { Ok(()) }
    }
}

fn refused(answer: Answer) -> Refused {
    match answer {
        Answer::Refused(refusal) => Refused::ByRegistry(refusal),
        Answer::Registered(_)
        | Answer::Attached(_)
        | Answer::AttachRefused { .. }
        | Answer::Renewed(_)
        | Answer::Deregistered { .. }
        | Answer::Drained(_)
        | Answer::Draining
        | Answer::OverrideSet { .. }
        | Answer::OverrideDeleted
        | Answer::Diff(_)
        | Answer::NodeForgotten
        | Answer::Inspected(_) => {
            unreachable!("the registry answers each question in its own kind")
        }
    }
}

/// How a node asks silent peers directly whether they live, and looks at instances.
#[derive(Debug, Clone, Default)]
pub struct Asking {
    /// Peers speak HTTPS, as this node does.
    pub is_secure: bool,
    /// A URL that a node which is not cut off reaches: where there are two nodes, neither is a majority.
    pub witness: Option<String>,
    /// How it looks at instances.
    pub probing: Probing,
}

/// Starts a node that keeps nothing on disk. The port is to be given to a bus, or dropped where there is none.
#[must_use]
pub fn spawn(settings: Settings, clock: Clock, shutdown: &Shutdown) -> (Handle, BusPort) {
    spawn_with(settings, None, clock, &Asking::default(), shutdown)
}

/// Starts a node's task, with what its store held. The port is to be given to a bus, or dropped where there is none.
#[must_use]
pub fn spawn_with(
    settings: Settings,
    disk: Option<(Store, Restored)>,
    clock: Clock,
    asking: &Asking,
    shutdown: &Shutdown,
) -> (Handle, BusPort) {
    let (to_commands, commands) = mpsc::channel(COMMANDS_MAX);
    let (to_heard, heard) = mpsc::channel(HEARD_MAX);
    let (to_changes, changes) = mpsc::channel(1);
    let (to_direct, direct) = mpsc::channel(DIRECT_MAX);
    let (to_bulk, bulk) = mpsc::channel(BULK_MAX);
    let (to_beacons, beacons) = watch::channel(None);
    let reconnect = Arc::new(Notify::new());

    let name = settings.node.clone();
    let seed = settings.epoch.0;
    let (mono, wall) = clock.mono_and_wall();
    let now = Now { mono, wall };
    let mut registry = Registry::new(settings, seed, now);
    let (store, restored) = disk.unzip();
    let mut outbox = Outbox::new();
    if let Some(Restored { records, overrides, unrenewed, age_ms, knew_enough }) = restored {
        let saved_at = now.mono.saturating_sub(age_ms);
        registry.handle(Input::Restore { records, overrides, unrenewed, saved_at, knew_enough }, now, &mut outbox);
    }
    let (recorder, history) = history::open();
    let shared = Arc::new(Shared {
        history: history.clone(),
        metrics: metrics::of(name.as_str()),
        leases: LeaseTable::new(name.clone()),
        board: Board::new(task::condition(&registry, now)),
        elsewhere: ArcSwap::from_pointee(Elsewhere::default()),
        deliveries: OnceLock::new(),
        pulse: Pulse::default(),
        clock,
        name,
    });
    let ends = BusEnds { beacons: to_beacons, changes: to_changes, direct: to_direct, bulk: to_bulk, reconnect: Arc::clone(&reconnect) };
    // Not the probes' own: names of instances that nobody resolves must not make a peer look dead.
    let dialer = Dialer::new(asking.probing.guard.clone(), asking.probing.per_target, clock);
    let inquiry = Inquiry::new(shared.name.clone(), asking.is_secure, asking.witness.clone(), dialer);
    let eyes = Eyes::new(inquiry, Prober::new(asking.probing.clone(), clock), Arc::clone(&shared.metrics));
    shared.board.show(registry.catalog());
    let saver = store.map(|store| {
        let is_full = Arc::new(AtomicBool::new(false));
        let journal = Journal::new(history.clone(), shared.name.clone(), Arc::clone(&shared.metrics), Arc::clone(&is_full));
        shutdown.spawn("journal", journal.run(store.folder().to_owned()));
        let (to_saver, ends) = saver::channel(to_commands.clone());
        shutdown.spawn("saver", Saver::new(store, Arc::clone(&shared), is_full).run(ends, shutdown.clone()));
        to_saver
    });
    let task = Task::new(registry, outbox, Arc::clone(&shared), ends, eyes, saver, recorder);
    shutdown.spawn("node", task.run(commands, heard, shutdown.clone()));
    let port = BusPort { to_node: ToNode(to_heard), beacons, changes, direct, bulk, reconnect, history };
    (Handle { shared, commands: to_commands }, port)
}

#[cfg(test)]
mod tests;
