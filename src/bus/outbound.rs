//! Outbound: what a node wants said, as frames on their subjects, each lane by its own task so that none waits for another.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::subject::{Lane, Subject, Topic};
use crate::metrics::Metrics;
use crate::model::{Epoch, Life, NodeName};
use crate::node::Said;
use crate::registry::{Beacon, Change, Message, To};
use crate::shutdown::Shutdown;
use crate::wire::{Codec, TooLarge};

/// Carries frames: all in which NATS and memory differ.
pub(super) trait Carrier: Clone + Send + Sync + 'static {
    /// Puts a frame on its subject. One that cannot be carried now is dropped and counted: the protocol makes up for it.
    fn carry(&self, subject: &Subject, frame: Bytes) -> impl Future<Output = Result<(), Dropped>> + Send;

    /// Ends when what was given to this lane has left, as far as can be known, or after a short time.
    fn settle(&self, lane: Lane) -> impl Future<Output = ()> + Send;
}

/// A frame was not carried; the word says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dropped(pub(super) &'static str);

/// What a node wants said: the outgoing parts of its port.
pub(super) struct Queues {
    pub(super) beacons: watch::Receiver<Option<Arc<Said<Beacon>>>>,
    pub(super) changes: mpsc::Receiver<Said<Vec<Change>>>,
    pub(super) direct: mpsc::Receiver<Said<(To, Message)>>,
    pub(super) bulk: mpsc::Receiver<Said<(To, Message)>>,
}

/// One node's voice.
#[derive(Clone)]
pub(super) struct Voice<C> {
    codec: Codec,
    node: NodeName,
    carrier: C,
    metrics: Arc<Metrics>,
}

impl<C: Carrier> Voice<C> {
    pub(super) fn new(codec: Codec, node: NodeName, carrier: C, metrics: Arc<Metrics>) -> Self {
        Self { codec, node, carrier, metrics }
    }

    fn life(&self, epoch: Epoch) -> Life {
        Life { node: self.node.clone(), epoch }
    }

    /// Starts the tasks. They end when the node has, its last beacon said; the token is cancelled when all have.
    pub(super) fn start(self, queues: Queues, shutdown: &Shutdown) -> CancellationToken {
        let ended = CancellationToken::new();
        let guard = Arc::new(ended.clone().drop_guard());
        let Queues { beacons, changes, direct, bulk } = queues;
        let (voice, until) = (self.clone(), Arc::clone(&guard));
        shutdown.spawn("bus beacons", async move { voice.say_beacons(beacons, until).await });
        let (voice, until) = (self.clone(), Arc::clone(&guard));
        shutdown.spawn("bus changes", async move { voice.say_changes(changes, until).await });
        let (voice, until) = (self.clone(), Arc::clone(&guard));
        shutdown.spawn("bus direct", async move { voice.say_messages(direct, Lane::Direct, until).await });
        shutdown.spawn("bus bulk", async move { self.say_messages(bulk, Lane::Bulk, guard).await });
        ended
    }

    /// The newest beacon, whenever there is one; also the last, which says that the node leaves.
    async fn say_beacons(self, mut beacons: watch::Receiver<Option<Arc<Said<Beacon>>>>, _until: Arc<DropGuard>) {
        while beacons.changed().await.is_ok() {
            let newest = beacons.borrow_and_update().clone();
            if let Some(beacon) = newest {
                self.say(beacon.epoch, &To::All, &Message::Beacon(beacon.what.clone())).await;
            }
        }
        self.carrier.settle(Lane::Beacons).await;
    }

    /// One batch after the other: while this one leaves, the node gathers the next.
    async fn say_changes(self, mut changes: mpsc::Receiver<Said<Vec<Change>>>, _until: Arc<DropGuard>) {
        let subject = Subject { topic: Topic::Change, node: self.node.clone() };
        while let Some(Said { epoch, what: batch }) = changes.recv().await {
            let life = self.life(epoch);
            for change in batch {
                match self.codec.encode_change(&life, change) {
                    Ok(frames) => self.carry_all(&subject, frames).await,
                    Err(TooLarge) => self.drop_frame(&subject, Dropped("too_large")),
                }
            }
        }
        self.carrier.settle(Lane::Direct).await;
    }

    async fn say_messages(self, mut messages: mpsc::Receiver<Said<(To, Message)>>, lane: Lane, _until: Arc<DropGuard>) {
        while let Some(Said { epoch, what: (to, message) }) = messages.recv().await {
            self.say(epoch, &to, &message).await;
        }
        self.carrier.settle(lane).await;
    }

    async fn say(&self, epoch: Epoch, to: &To, message: &Message) {
        let Some(subject) = Subject::of(message, &self.node, to) else {
            self.metrics.dropped("bus_misaddressed");
            return;
        };
        match self.codec.encode(&self.life(epoch), message) {
            Ok(frame) => self.carry(&subject, frame).await,
            Err(TooLarge) => self.drop_frame(&subject, Dropped("too_large")),
        }
    }

    async fn carry_all(&self, subject: &Subject, frames: Vec<Bytes>) {
        for frame in frames {
            self.carry(subject, frame).await;
        }
    }

    async fn carry(&self, subject: &Subject, frame: Bytes) {
        let bytes = frame.len();
        match self.carrier.carry(subject, frame).await {
            Ok(()) => self.metrics.frame_sent(subject.topic.as_str(), bytes),
            Err(dropped) => self.drop_frame(subject, dropped),
        }
    }

    fn drop_frame(&self, subject: &Subject, Dropped(why): Dropped) {
        self.metrics.dropped(why);
        tracing::debug!(topic = subject.topic.as_str(), node = %subject.node, why, "a frame was dropped");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parking_lot::Mutex;

    use super::*;
    use crate::model::Cluster;
    use crate::{metrics, wire};

    /// Keeps what it is given.
    #[derive(Clone, Default)]
    struct Shelf(Arc<Mutex<Vec<Bytes>>>);

    impl Carrier for Shelf {
        async fn carry(&self, _: &Subject, frame: Bytes) -> Result<(), Dropped> {
            self.0.lock().push(frame);
            Ok(())
        }

        async fn settle(&self, _: Lane) {}
    }

    #[tokio::test]
    async fn what_a_former_life_said_leaves_as_its_own() {
        let (shelf, shutdown) = (Shelf::default(), Shutdown::new());
        let node = NodeName::parse("outbound-a").unwrap();
        let codec = wire::Codec::new(&Cluster::parse("test").unwrap());
        let voice = Voice::new(codec, node.clone(), shelf.clone(), metrics::of(node.as_str()));
        let ((_, beacons), (_, changes)) = (watch::channel(None), mpsc::channel(1));
        let ((to_direct, direct), (_, bulk)) = (mpsc::channel(2), mpsc::channel(1));
        for epoch in [1, 2].map(Epoch) {
            to_direct.send(Said { epoch, what: (To::Node(node.clone()), Message::Applied { epoch, seq: 1 }) }).await.unwrap();
        }
        drop(to_direct);
        voice.start(Queues { beacons, changes, direct, bulk }, &shutdown);
        shutdown.begin();
        assert!(shutdown.ended(Duration::from_secs(10)).await);
        let codec = wire::Codec::new(&Cluster::parse("test").unwrap());
        let said_by: Vec<Epoch> = shelf.0.lock().iter().map(|frame| codec.decode(frame).unwrap().from.epoch).collect();
        assert_eq!(said_by, [Epoch(1), Epoch(2)]);
    }
}
