//! The bus in memory: nodes of one process, for `dev` and for tests. Frames are bytes here too, made and read by the same codec as on NATS.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::inbound::Ear;
use super::outbound::{Carrier, Dropped, Queues, Voice};
use super::subject::{Lane, Subject};
use crate::metrics::{self, Metrics};
use crate::model::{Cluster, Life};
use crate::node::{BusPort, FromBus};
use crate::shutdown::Shutdown;
use crate::wire::Codec;

/// Frames that may wait for one node on one lane; what comes when it is full is lost to that node, as on a real bus.
/// In bytes: 1,024 frames of 256 KiB at the very most, a few MiB as frames are.
const WAITING_MAX: usize = 1024;

/// A bus that carries frames between the nodes attached to it. Cheap to clone; every clone is the same bus.
#[derive(Clone)]
pub struct Hub {
    cluster: Cluster,
    nodes: Arc<RwLock<Vec<Attached>>>,
}

/// One node's end of the hub: a queue for each lane.
struct Attached {
    life: Life,
    lanes: [mpsc::Sender<Waiting>; Lane::ALL.len()],
    numbers: Arc<Metrics>,
}

/// A frame on its way, and the text of its subject.
type Waiting = (Arc<str>, Bytes);

impl Hub {
    /// A bus of this cluster, with nobody on it.
    #[must_use]
    pub fn new(cluster: Cluster) -> Self {
        Self { cluster, nodes: Arc::default() }
    }

    /// Puts a node on the bus, until it ends.
    pub fn attach(&self, port: BusPort, life: Life, shutdown: &Shutdown) {
        let BusPort { to_node, beacons, changes, direct, bulk, reconnect: _, history: _ } = port;
        let numbers = metrics::of(life.node.as_str());
        let ear = Ear::new(&self.cluster, &life.node, to_node, Arc::clone(&numbers));
        let (queues, waiting): (Vec<_>, Vec<_>) = Lane::ALL.iter().map(|_| mpsc::channel(WAITING_MAX)).unzip();
        let lanes = queues.try_into().unwrap_or_else(|_| unreachable!("as many queues as lanes"));
        self.nodes.write().push(Attached { life: life.clone(), lanes, numbers: Arc::clone(&numbers) });

        let voice = Voice::new(Codec::new(&self.cluster), life.node.clone(), self.clone(), numbers);
        let ended = voice.start(Queues { beacons, changes, direct, bulk }, shutdown);
        for waiting in waiting {
            shutdown.spawn("bus reader", read(waiting, ear.clone(), ended.clone()));
        }
        let hub = self.clone();
        shutdown.spawn("bus", async move {
            ear.tell(FromBus::Connected).await;
            ended.cancelled().await;
            hub.nodes.write().retain(|node| node.life != life);
        });
    }

    fn deliver(&self, subject: &Subject, frame: &Bytes) {
        let text: Arc<str> = subject.to_text(&self.cluster).into();
        let lane = subject.topic.lane() as usize;
        for node in self.nodes.read().iter().filter(|node| subject.topic.is_to_all() || node.life.node == subject.node) {
            if node.lanes[lane].try_send((Arc::clone(&text), frame.clone())).is_err() {
                node.numbers.dropped("bus_slow_consumer");
            }
        }
    }
}

impl Carrier for Hub {
    async fn carry(&self, subject: &Subject, frame: Bytes) -> Result<(), Dropped> {
        self.deliver(subject, &frame);
        Ok(())
    }

    async fn settle(&self, _: Lane) {}
}

async fn read(mut waiting: mpsc::Receiver<Waiting>, ear: Ear, ended: CancellationToken) {
    let heard = async {
        while let Some((subject, frame)) = waiting.recv().await {
            if !ear.hear(&subject, &frame).await {
                break;
            }
        }
    };
    ended.run_until_cancelled(heard).await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::model::{
        Address, Epoch, InstanceId, InstanceKey, Namespace, NodeName, Port, Registration, RegistrationDraft, ServiceKey, ServiceName, Ttl,
    };
    use crate::node::{self, Handle};
    use crate::registry::{NodeState, Register, Settings};

    fn start(hub: &Hub, name: &str, epoch: u64, shutdown: &Shutdown) -> Handle {
        let settings = Settings { bootstrap_wait_ms: 200, ..Settings::new(NodeName::parse(name).unwrap(), Epoch(epoch)) };
        let life = settings.life();
        let (handle, port) = node::spawn(settings, Clock::start(), shutdown);
        hub.attach(port, life, shutdown);
        handle
    }

    fn service() -> ServiceKey {
        ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("web").unwrap() }
    }

    fn register(at: &Handle, id: &str) -> Register {
        let draft = RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(80).unwrap(), Ttl::from_ms(15_000).unwrap());
        Register::new(
            InstanceKey { service: service(), id: InstanceId::parse(id).unwrap() },
            Arc::new(Registration::new(draft).unwrap()),
            at.clock().mono(),
        )
    }

    async fn within_10s(what: &str, holds: impl Fn() -> bool) {
        let wait = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap_or_else(|_| panic!("not within 10 s: {what}"));
    }

    #[tokio::test]
    async fn what_is_registered_at_one_node_is_seen_at_the_others_and_a_bus_outlives_its_nodes() {
        let hub = Hub::new(Cluster::parse("memory").unwrap());
        let (first, rest) = (Shutdown::new(), Shutdown::new());
        let a = start(&hub, "memory-a", 1, &first);
        let b = start(&hub, "memory-b", 2, &rest);
        let c = start(&hub, "memory-c", 3, &rest);
        let nodes = [&a, &b, &c];
        within_10s("all ready", || nodes.iter().all(|node| node.condition().state == NodeState::Ready)).await;

        a.register(register(&a, "w-1")).await.unwrap();
        let seen_by = |node: &Handle| node.catalog().view(&service()).map_or(0, |view| view.instances().len());
        within_10s("seen everywhere", || nodes.iter().all(|node| seen_by(node) == 1)).await;

        first.begin();
        assert!(first.ended(Duration::from_secs(10)).await, "a node's bus ends with it");
        b.register(register(&b, "w-2")).await.unwrap();
        within_10s("seen by who is left", || seen_by(&c) == 2).await;
        assert_eq!(hub.nodes.read().len(), 2);

        rest.begin();
        assert!(rest.ended(Duration::from_secs(10)).await);
        assert!(hub.nodes.read().is_empty());
    }
}
