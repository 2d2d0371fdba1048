//! The port: what a node and its bus hand each other. Every queue here is bounded and says what happens when it is full.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::{Notify, mpsc, watch};

use crate::registry::{Beacon, Change, Envelope, Message, To};

/// The bus's end.
pub struct BusPort {
    /// Where what was heard goes.
    pub to_node: ToNode,
    /// The newest beacon; a slow bus skips some. `None` until the first.
    pub beacons: watch::Receiver<Option<Arc<Beacon>>>,
    /// The node's changes in the order of its log. The free place is the bus's credit: while it is taken the node gathers,
    /// so that a slow bus means larger batches, never a queue.
    pub changes: mpsc::Receiver<Vec<Change>>,
    /// Relays, questions and their answers. When it is full the node drops the message: it will be said again.
    pub direct: mpsc::Receiver<(To, Message)>,
    /// Pulls and their answers, apart so that bulk silences nobody. When it is full the node drops the message: it will be asked again.
    pub bulk: mpsc::Receiver<(To, Message)>,
    /// Told when the node is deaf: connect anew.
    pub reconnect: Arc<Notify>,
    /// The node's epoch, in which all it says is said; it changes when the node begins a new life without starting anew.
    pub epoch: Arc<AtomicU64>,
}

/// Hands the node what its bus heard. When the node's queue is full the bus waits, and its own buffer overflows: beacons will show the gap.
#[derive(Clone)]
pub struct ToNode(pub(super) mpsc::Sender<FromBus>);

/// What a bus tells its node.
#[derive(Debug)]
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
