//! The link: three connections to NATS, one for each lane, and what is given to them.

use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Event};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::StartError;
use super::access::Access;
use crate::bus::outbound::{Carrier, Dropped};
use crate::bus::subject::{Lane, Subject};
use crate::metrics::Metrics;
use crate::model::{Cluster, Life};
use crate::random;

/// Commands that may wait in a connection's queue: enough to keep it busy, few enough that what waits is not stale.
const COMMANDS_MAX: usize = 64;
/// Frames that may wait on a subscription until the node has time. Full of the largest frames: 128 MiB; of beacons: 500 nodes' second.
const HEARD_MAX: usize = 512;
/// Pulls and their answers that may wait; peers have few pulls under way. Full of the largest frames: 16 MiB.
const HEARD_BULK_MAX: usize = 64;
/// A connection that answers no ping is given up after three of these; the client's own 60 s would leave the node blind for minutes.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// For a server to answer the handshake, which takes two to three round trips: of up to 2 s each. One that answers nothing holds up the next
/// for as long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For a frame to find room in its connection's queue.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(1);
/// For a connection's last frames to leave.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// The first and the longest wait before a connection is tried again; each is cut by up to a half at random,
/// so that nodes that lost a server together do not come back together.
const RECONNECT_MS: (u64, u64) = (50, 2000);

/// For nodes to leave a stopping server in; it waits 10 s for them.
const MOVE_WITHIN: Duration = Duration::from_secs(1);

/// What happened to which connection.
pub(super) type LaneEvent = (Lane, Event);

/// A node's connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct Link {
    clients: [Client; Lane::ALL.len()],
    demands_tls: bool,
    cluster: Cluster,
}

impl Link {
    /// Begins to connect. Events that find no room are lost; the states they tell of are not.
    pub(super) async fn open(
        access: &Access,
        life: &Life,
        cluster: &Cluster,
        events: &mpsc::Sender<LaneEvent>,
        numbers: &Arc<Metrics>,
    ) -> Result<Self, StartError> {
        let name = format!("muster {cluster} {}", life.node);
        let open = |lane| open_lane(access, lane, &name, events.clone(), Arc::clone(numbers));
        let clients = [open(Lane::Beacons).await?, open(Lane::Direct).await?, open(Lane::Bulk).await?];
        Ok(Self { clients, demands_tls: access.demands_tls(), cluster: cluster.clone() })
    }

    pub(super) fn client(&self, lane: Lane) -> &Client {
        &self.clients[lane as usize]
    }

    pub(super) fn is_connected(&self, lane: Lane) -> bool {
        self.client(lane).connection_state() == State::Connected
    }

    /// A connection without TLS is none.
    pub(super) fn demands_tls(&self) -> bool {
        self.demands_tls
    }

    /// Leaves a server that is about to stop, before it closes the connection and not together with all the others.
    pub(super) async fn move_away(&self, lane: Lane) {
        tokio::time::sleep(random::jittered(MOVE_WITHIN)).await;
        self.reconnect(lane).await;
    }

    /// Makes a connection anew. One that is not there is being made anyway: asked to, it would be made twice.
    pub(super) async fn reconnect(&self, lane: Lane) {
        if self.is_connected(lane) {
            // A full queue means that the connection does not move: its pings will end it.
            let _ = timeout(PUBLISH_TIMEOUT, self.client(lane).force_reconnect()).await;
        }
    }
}

impl Carrier for Link {
    async fn carry(&self, subject: &Subject, frame: Bytes) -> Result<(), Dropped> {
        let lane = subject.topic.lane();
        if !self.is_connected(lane) {
            return Err(Dropped("bus_not_connected"));
        }
        let client = self.client(lane);
        if frame.len() > client.max_payload() {
            return Err(Dropped("bus_max_payload"));
        }
        match timeout(PUBLISH_TIMEOUT, client.publish(subject.to_text(&self.cluster), frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Dropped("bus_publish_failed")),
            Err(_) => Err(Dropped("bus_publish_stalled")),
        }
    }

    async fn settle(&self, lane: Lane) {
        if self.is_connected(lane) {
            let _ = timeout(FLUSH_TIMEOUT, self.client(lane).flush()).await;
        }
    }
}

async fn open_lane(
    access: &Access,
    lane: Lane,
    name: &str,
    events: mpsc::Sender<LaneEvent>,
    numbers: Arc<Metrics>,
) -> Result<Client, StartError> {
    let options = access
        .to_options()?
        .name(format!("{name} {}", lane.as_str()))
        .retry_on_initial_connect()
        .connection_timeout(CONNECT_TIMEOUT)
        .ping_interval(PING_INTERVAL)
        .client_capacity(COMMANDS_MAX)
        .subscription_capacity(if lane == Lane::Bulk { HEARD_BULK_MAX } else { HEARD_MAX })
        .reconnect_delay_callback(reconnect_delay)
        .event_callback(move |event| {
            note(lane, event, &events, &numbers);
            std::future::ready(())
        });
    options.connect(access.servers.clone()).await.map_err(|error| StartError::Client(error.to_string()))
}

/// Slow consumers are counted here: there is one event for each frame lost, and they must not push out the others.
fn note(lane: Lane, event: Event, events: &mpsc::Sender<LaneEvent>, numbers: &Metrics) {
    if matches!(event, Event::SlowConsumer(_)) {
        numbers.dropped("bus_slow_consumer");
    } else {
        let _ = events.try_send((lane, event));
    }
}

/// How long to wait before this attempt: not at all before the first, then twice as long each time.
fn reconnect_delay(attempts: usize) -> Duration {
    let (first, longest) = RECONNECT_MS;
    let doublings = attempts.saturating_sub(2).min(16) as u32;
    let whole = if attempts <= 1 { 0 } else { (first << doublings).min(longest) };
    random::jittered(Duration::from_millis(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconnects_come_at_once_then_later_and_later_and_never_together() {
        assert_eq!(reconnect_delay(1), Duration::ZERO);
        assert!(reconnect_delay(2) <= Duration::from_millis(50));
        assert!(reconnect_delay(4) >= Duration::from_millis(100));
        let late: Vec<_> = (0..32).map(|_| reconnect_delay(usize::MAX)).collect();
        assert!(late.iter().all(|delay| (Duration::from_secs(1)..=Duration::from_secs(2)).contains(delay)));
        assert!(late.iter().any(|delay| *delay != late[0]));
    }
}
