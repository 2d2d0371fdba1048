//! The node: the one task that owns the registry and does what it wants done, and the handle through which others reach it.

mod port;

use std::sync::Arc;

use tokio::sync::watch;

pub use port::{BusPort, FromBus, ToNode};

use crate::clock::Clock;
use crate::model::{InstanceKey, NodeName, ServiceKey};
use crate::registry::{
    AckReport, BusHealth, Catalog, ClusterView, Deregister, Heartbeat, Inspected, Mono, NodeState, Refusal, Register, Registered, Renewed,
    Settings, View,
};
use crate::shutdown::Shutdown;

/// Reaches a running node. Cheap to clone; reads never enter the node's queue.
#[derive(Clone)]
pub struct Handle {}

/// Why a question was not answered; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The registry said no.
    ByRegistry(Refusal),
    /// The node's queue is full.
    Overloaded,
    /// The node has stopped.
    Stopped,
}

/// How far a node's answers can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Its own state.
    pub state: NodeState,
    /// Nothing that could be known is missing.
    pub complete: bool,
    /// How its bus is.
    pub bus: BusHealth,
    /// When the bus was last heard, where it is not heard now; how stale an answer is: now less this.
    pub unheard_since: Option<Mono>,
}

impl Handle {
    /// Whom this reaches.
    #[must_use]
    pub fn name(&self) -> &NodeName {
        todo!()
    }

    /// The node's clock.
    #[must_use]
    pub fn clock(&self) -> Clock {
        todo!()
    }

    /// Registers, updates or renews an instance.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed.
    pub async fn register(&self, register: Register) -> Result<Registered, Refused> {
        let _ = register;
        todo!()
    }

    /// Renews a lease; at its owner without entering the node's queue.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed.
    pub async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<Renewed, Refused> {
        let _ = heartbeat;
        todo!()
    }

    /// Takes an instance away; fine when it was gone already.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed.
    pub async fn deregister(&self, deregister: Deregister) -> Result<Option<AckReport>, Refused> {
        let _ = deregister;
        todo!()
    }

    /// Everything known of one instance; `None` when no live record is known.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed.
    pub async fn inspect(&self, key: InstanceKey) -> Result<Option<Inspected>, Refused> {
        let _ = key;
        todo!()
    }

    /// How the cluster looks from here.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed.
    pub async fn cluster(&self) -> Result<ClusterView, Refused> {
        todo!()
    }

    /// What this node believes, whole and consistent. Holds every write that was answered before.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        todo!()
    }

    /// How far that can be relied on.
    #[must_use]
    pub fn condition(&self) -> Condition {
        todo!()
    }

    /// The condition, as it changes.
    #[must_use]
    pub fn follow_condition(&self) -> watch::Receiver<Condition> {
        todo!()
    }

    /// One service's view, as it changes; of an unknown service an empty one. Only the newest is kept.
    #[must_use]
    pub fn follow(&self, service: &ServiceKey) -> watch::Receiver<Arc<View>> {
        let _ = service;
        todo!()
    }

    /// The whole catalog, as it changes. Only the newest is kept.
    #[must_use]
    pub fn follow_catalog(&self) -> watch::Receiver<Arc<Catalog>> {
        todo!()
    }

    /// How many follow this service's view at this node (feeds, not subscribers).
    #[must_use]
    pub fn is_followed(&self, service: &ServiceKey) -> bool {
        let _ = service;
        todo!()
    }

    /// Asks the node to say goodbye to its peers and stop; returns when it has.
    pub async fn leave(&self) {
        todo!()
    }
}

/// Starts a node's task. The port is to be given to a bus, or dropped where there is none.
#[must_use]
pub fn spawn(settings: Settings, clock: Clock, shutdown: &Shutdown) -> (Handle, BusPort) {
    let _ = (settings, clock, shutdown);
    todo!()
}
