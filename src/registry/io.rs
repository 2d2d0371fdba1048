//! The core's two enums: what can happen to a registry, and what it wants done.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::answer::{Ack, Answer};
use super::audience::Watcher;
use super::drain::DeliveryReport;
use super::message::{Envelope, Message, NodeState, To};
use super::notice::Notice;
use super::probe::{Probe, ProbeOutcome};
use super::record::Record;
use super::shared::Entry;
use super::time::Mono;
use super::unrenewed::UnrenewedLease;
use crate::model::{Cause, Epoch, Incarnation, InstanceKey, NodeName, Override, OverrideKey, Registration, Reported, ServiceKey, Status};

/// Names a question of the shell's, so that its answer finds back. Chosen by the shell, never repeated within a life.
pub type Ticket = u64;

/// Everything that can happen to a registry.
#[derive(Debug, Clone)]
pub enum Input {
    /// A provider registers; answered by [`Answer::Registered`] or [`Answer::Refused`].
    Register(Ticket, Register),
    /// A provider registers instances and holds their leases by the connection on which it asks, whose end the shell tells by
    /// [`Input::Detached`]: all of them or none; answered by [`Answer::Attached`], [`Answer::AttachRefused`] or [`Answer::Refused`]. The
    /// ticket names the connection from then on.
    Attach(Ticket, BTreeMap<InstanceKey, Register>),
    /// The connection that asked with this ticket has closed.
    Detached(Ticket),
    /// A provider says that it lives; answered by [`Answer::Renewed`] or [`Answer::Refused`].
    Heartbeat(Ticket, Heartbeat),
    /// A provider leaves; answered by [`Answer::Deregistered`] or [`Answer::Refused`].
    Deregister(Ticket, Deregister),
    /// A provider or an operator drains an instance; answered by [`Answer::Drained`], [`Answer::Draining`] or [`Answer::Refused`].
    Drain(Ticket, Drain),
    /// The answer to [`Output::AskDelivery`].
    Delivered {
        /// The question's.
        question: u64,
        /// Who has been sent it.
        report: DeliveryReport,
    },
    /// Who holds streams and polls at this node has changed.
    Audience {
        /// At most [`super::WATCHERS_MAX`]; of more only so many are known to others.
        watchers: Vec<Watcher>,
        /// How many there are.
        count: u64,
    },
    /// An operator overrides; answered by [`Answer::OverrideSet`] or [`Answer::Refused`].
    SetOverride(Ticket, SetOverride),
    /// An operator ends an override; answered by [`Answer::OverrideDeleted`] or [`Answer::Refused`].
    DeleteOverride(Ticket, OverrideKey),
    /// Somebody wants to know all of one instance; answered by [`Answer::Inspected`].
    Inspect(Ticket, InstanceKey),
    /// Somebody wants to know in what another node's records differ from ours; answered by [`Answer::Diff`] or [`Answer::Refused`].
    Diff(Ticket, NodeName),
    /// An operator says that a node does not come back; answered by [`Answer::NodeForgotten`] or [`Answer::Refused`].
    ForgetNode(Ticket, NodeName),
    /// The answer to [`Output::AskLease`].
    Lease {
        /// Which lease.
        key: InstanceKey,
        /// When its provider was last heard; `None`: the shell has no such lease.
        last_heartbeat: Option<Mono>,
        /// As it was asked.
        purpose: Purpose,
    },
    /// The bus's client is connected, or connected again.
    BusConnected,
    /// The bus's client is not connected.
    BusDisconnected,
    /// A message came in, its bytes checked.
    Received(Envelope),
    /// This is what was on disk: the first input of all, where there is one.
    Restore {
        /// In any order.
        records: Vec<Arc<Record>>,
        /// With the time that was left of each when it was saved.
        overrides: Vec<Entry>,
        /// For how long the leases were not renewed while the lives before could be reached; those that are not here were.
        unrenewed: Vec<UnrenewedLease>,
        /// When they were saved, as far as a wall clock can tell; the present where it cannot.
        saved_at: Mono,
        /// All that was saved was read, and the node that saved it knew enough: what is not there was not there.
        knew_enough: bool,
    },
    /// The answer to [`Output::CheckPeer`].
    PeerChecked {
        /// The question's.
        ticket: Ticket,
        /// What was seen.
        answer: PeerAnswer,
    },
    /// The answer to [`Output::Probe`].
    Probed {
        /// The question's.
        ticket: Ticket,
        /// What was seen.
        outcome: ProbeOutcome,
    },
    /// This node is to stop: it hands over what it owns, and says so by [`Output::HandedOver`].
    Leave,
}

/// What asking a peer directly brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerAnswer {
    /// It answers, under its own name.
    Alive,
    /// Nothing came in time, or what came says nothing: a partition may be why.
    Silent,
    /// The connection was refused, or a third node answers there: no node of this name is at that address.
    Refused,
    /// Nobody can say: the peer's address is unknown, or the witness is out of reach too.
    Unsure,
}

/// A registration at the door.
#[derive(Debug, Clone)]
pub struct Register {
    /// Of which instance.
    pub key: InstanceKey,
    /// What its provider says.
    pub registration: Arc<Registration>,
    /// Which life it named.
    pub incarnation: Option<Incarnation>,
    /// Register as a life above whatever is known.
    pub takeover: bool,
    /// It was said, not assumed, that the status is `up`: that ends a drain.
    pub says_up: bool,
    /// It came on a connection that holds the lease from now on; so does what came on one that has ended since.
    pub attaches: bool,
    /// Who asks, where that is known.
    pub actor: Option<Arc<str>>,
    /// When it is to be answered.
    pub ack: Ack,
    /// When it reached the socket.
    pub at: Mono,
}

impl Register {
    /// A registration that names no life and asks for nothing besides, of nobody known.
    #[must_use]
    pub fn new(key: InstanceKey, registration: Arc<Registration>, at: Mono) -> Self {
        Self { key, registration, incarnation: None, takeover: false, says_up: false, attaches: false, actor: None, ack: Ack::Local, at }
    }
}

/// A heartbeat at the door.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// Of which instance.
    pub key: InstanceKey,
    /// Which life it named.
    pub incarnation: Option<Incarnation>,
    /// The content digest, as the registration's answer gave it.
    pub digest: Option<u128>,
    /// What its provider now says of its state.
    pub reported: Option<Reported>,
    /// When it reached the socket.
    pub at: Mono,
}

/// A deregistration at the door.
#[derive(Debug, Clone)]
pub struct Deregister {
    /// Of which instance.
    pub key: InstanceKey,
    /// Which life is meant: a lower one than the known changes nothing.
    pub incarnation: Option<Incarnation>,
    /// Who asks, where that is known.
    pub actor: Option<Arc<str>>,
    /// When it is to be answered.
    pub ack: Ack,
}

/// A drain at the door.
#[derive(Debug, Clone)]
pub struct Drain {
    /// Of which instance.
    pub key: InstanceKey,
    /// Which life is meant.
    pub incarnation: Option<Incarnation>,
    /// When it is over at the latest.
    pub until: Mono,
    /// Take the instance away then.
    pub deregister: bool,
    /// Answer when it is over, not at once.
    pub wait: bool,
    /// Who asks, where that is known.
    pub actor: Option<Arc<str>>,
}

/// An override at the door; one that is known under its name is replaced.
#[derive(Debug, Clone)]
pub struct SetOverride {
    /// Its name.
    pub key: OverrideKey,
    /// What is willed.
    pub value: Arc<Override>,
    /// For how long; `None`: until it is deleted. At most [`crate::model::EXPIRES_IN_MS_MAX`].
    pub expires_in_ms: Option<u64>,
}

/// Why a lease's last heartbeat is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// Its deadline has come.
    Due,
    /// It ended: a greater record took its place. The shell has let go of it.
    Ended,
    /// Somebody at this node inspects it.
    Inspect(Ticket),
    /// A peer asks.
    Tell {
        /// Who.
        to: NodeName,
        /// The question's.
        ticket: u64,
    },
    /// This node leaves and hands it over.
    HandOver,
}

/// Everything a registry wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Answer the question with this ticket.
    Answer(Ticket, Answer),
    /// Keep the last heartbeat of this lease from now on; what was kept of it stays, if later.
    HoldLease {
        /// Which.
        key: InstanceKey,
        /// What a heartbeat must look like to be taken without asking the registry.
        terms: LeaseTerms,
        /// The last heartbeat, as far as it is known.
        at: Mono,
    },
    /// This lease was renewed.
    RenewLease {
        /// Which.
        key: InstanceKey,
        /// When the heartbeat came; an earlier one than the known changes nothing.
        at: Mono,
    },
    /// Say when this lease was last renewed: at once, by [`Input::Lease`]. With [`Purpose::Ended`] also let go of it.
    AskLease {
        /// Which.
        key: InstanceKey,
        /// Give it back.
        purpose: Purpose,
    },
    /// Let go of this lease; nobody asks when it was last renewed.
    DropLease {
        /// Which.
        key: InstanceKey,
    },
    /// This connection holds the lease no more: the instance was deregistered, or a later life of it registered. Told once for each.
    AttachmentOver {
        /// The question's by which it was attached.
        attachment: Ticket,
        /// Which instance.
        key: InstanceKey,
        /// The life that was held.
        incarnation: Incarnation,
    },
    /// Give this to the bus. Changes are not sent so: see [`super::Registry::changes_after`].
    Send(To, Message),
    /// Ask this peer directly, over HTTP, whether it lives; to be answered by [`Input::PeerChecked`].
    CheckPeer {
        /// Comes back with the answer.
        ticket: Ticket,
        /// Whom: an answer counts only if it says this name.
        node: NodeName,
        /// In which life: an answer of another life of that name is none; `None`: in any.
        epoch: Option<Epoch>,
        /// Where its HTTP is reached, `host:port`; empty where it is not known.
        http: String,
        /// There is no majority that could tell: the witness, where there is one, must be in reach, or the answer is unsure.
        needs_witness: bool,
    },
    /// Look at this instance; to be answered by [`Input::Probed`], also where it may not be looked at or its target is asked too often.
    Probe {
        /// Comes back with the answer.
        ticket: Ticket,
        /// What is asked.
        probe: Probe,
    },
    /// All that this leaving node owned is owned elsewhere, or nobody is there who could own it, now or once it has warmed.
    HandedOver {
        /// How many leases nobody took.
        left: usize,
    },
    /// This node has a new epoch: what it says from now on is said in it.
    Reborn(Epoch),
    /// The bus is deaf: connect anew.
    Reconnect,
    /// A record changed: for the log, the counters, and history.
    Changed(Changed),
    /// Say who here has been sent what this instance is now, once all have been or at `until`; to be answered by [`Input::Delivered`].
    AskDelivery {
        /// Comes back with the answer.
        question: u64,
        /// Which instance.
        key: InstanceKey,
        /// When to answer at the latest.
        until: Mono,
    },
    /// What is known of other nodes' subscribers changed.
    AudienceChanged,
    /// What consumers of this service see changed.
    ViewChanged(ServiceKey),
    /// This node's own state changed.
    BecameState(NodeState),
    /// Something that an operator should hear of.
    Noticed(Notice),
}

/// What a heartbeat must look like to be a renewal and nothing else, and what it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseTerms {
    /// The instance's life.
    pub incarnation: Incarnation,
    /// Of the content.
    pub digest: u128,
    /// What the provider says of its state.
    pub reported: Reported,
    /// What the provider is told of its effective status.
    pub status: Status,
    /// What the provider is told.
    pub renew_every_ms: Option<u64>,
    /// The instance drains: a heartbeat that says `up` ends that.
    pub draining: bool,
    /// A heartbeat may be taken without asking; false while the lease is late, when one changes the record.
    pub steady: bool,
}

/// A change of a record that this node wrote or took over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The record as it now is.
    pub record: Arc<Record>,
    /// The effective status before; `None`: it was not visible.
    pub from: Option<Status>,
    /// The effective status now; `None`: it is not visible.
    pub to: Option<Status>,
    /// Why.
    pub cause: Cause,
    /// It was written here, not heard.
    pub own: bool,
    /// Another life of a node held the lease of the live instance before.
    pub moved: bool,
    /// Somebody who looks sees a difference: in whether it is listed, or in what, whose, or why it is.
    pub is_visible: bool,
}
