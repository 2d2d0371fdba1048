//! The port: what a node and its bus hand each other. Every queue here is bounded and says what happens when it is full.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};

use super::history::History;
use crate::model::{Epoch, InstanceKey};
use crate::registry::{Beacon, Change, Envelope, Message, Mono, To};

/// The bus's end.
pub struct BusPort {
    /// Where what was heard goes.
    pub to_node: ToNode,
    /// The newest beacon; a slow bus skips some. `None` until the first.
    pub beacons: watch::Receiver<Option<Arc<Said<Beacon>>>>,
    /// The node's changes in the order of its log. The free place is the bus's credit: while it is taken the node gathers,
    /// so that a slow bus means larger batches, never a queue.
    pub changes: mpsc::Receiver<Said<Vec<Change>>>,
    /// Relays, questions and their answers. When it is full the node drops the message: it will be said again.
    pub direct: mpsc::Receiver<Said<(To, Message)>>,
    /// Pulls and their answers, apart so that bulk silences nobody. When it is full the node drops the message: it will be asked again.
    pub bulk: mpsc::Receiver<Said<(To, Message)>>,
    /// Told when the node is deaf: connect anew.
    pub reconnect: Arc<Notify>,
    /// What happened to instances: the bus tells others of what this node wrote.
    pub history: History,
}

/// What a node says, and in which life: it may have begun another before this leaves, and speak of another log then.
#[derive(Debug, Clone)]
pub struct Said<T> {
    /// Of the life that says it.
    pub epoch: Epoch,
    /// What is said.
    pub what: T,
}

/// Hands the node what its bus heard. When the node's queue is full the bus waits, and its own buffer overflows: beacons will show the gap.
#[derive(Clone)]
pub struct ToNode(pub(super) mpsc::Sender<FromBus>);

/// The question who at this node has been sent what an instance is now; to be answered by [`super::Handle::tell_delivered`].
#[derive(Debug, Clone)]
pub struct AskedDelivery {
    /// Comes back with the answer.
    pub question: u64,
    /// Which instance. The catalog shows it.
    pub key: InstanceKey,
    /// When to answer at the latest.
    pub until: Mono,
}

/// What a bus tells its node.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are messages; boxed, each would cost an allocation")]
pub enum FromBus {
    /// It can publish, and hears.
    Connected,
    /// It cannot, or has lost messages.
    Disconnected,
    /// It heard this, and its bytes were sound.
    Received(Envelope),
}

impl ToNode {
    /// Hands over; waits while the node's queue is full. False: the node has stopped.
    pub async fn send(&self, what: FromBus) -> bool {
        self.0.send(what).await.is_ok()
    }
}
