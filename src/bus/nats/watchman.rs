//! The watchman: looks after the connections, and tells the node when it can publish and when it cannot.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Event;
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::link::{LaneEvent, Link};
use crate::bus::inbound::Ear;
use crate::bus::subject::Lane;
use crate::metrics::Metrics;
use crate::node::FromBus;
use crate::wire::FRAME_BYTES_MAX;

/// How often the connections are looked at, for their events can be lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The reason why the bus was never reached is written again after so many looks.
const REPEAT_LOOKS: u32 = 30;

/// Knows which connections are there. The node is told that the bus is connected when all of them are.
pub(super) struct Watchman {
    link: Link,
    ear: Ear,
    numbers: Arc<Metrics>,
    connected: [bool; Lane::ALL.len()],
    told: bool,
    was_connected: bool,
    complaint: String,
    /// Without their passwords.
    servers: String,
    /// Looks until the complaint is written again, while no connection comes about.
    looks_to_repeat: u32,
}

impl Watchman {
    pub(super) fn new(link: Link, ear: Ear, numbers: Arc<Metrics>, servers: String) -> Self {
        let connected = [false; Lane::ALL.len()];
        Self { link, ear, numbers, connected, told: false, was_connected: false, complaint: String::new(), servers, looks_to_repeat: 0 }
    }

    /// Watches until the node has ended.
    pub(super) async fn watch(mut self, mut events: mpsc::Receiver<LaneEvent>, reconnect: Arc<Notify>, ended: CancellationToken) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = ended.cancelled() => return,
                Some((lane, event)) = events.recv() => self.take(lane, event).await,
                () = reconnect.notified() => self.reconnect_all().await,
                _ = looks.tick() => self.look(),
            }
            self.tell().await;
        }
    }

    async fn take(&mut self, lane: Lane, event: Event) {
        match event {
            Event::Connected => self.connected[lane as usize] = true,
            Event::Disconnected | Event::Closed => self.lose(lane).await,
            Event::LameDuckMode => self.link.move_away(lane).await,
            Event::ServerError(error) => self.complain(lane, &error.to_string()),
            Event::ClientError(error) => self.complain(lane, &error.to_string()),
            // The client is never drained here, and slow consumers are counted where they are met.
            Event::Draining | Event::SlowConsumer(_) => {}
        }
    }

    /// The node hears of every loss, also of one that is mended by now: what was under way is gone.
    async fn lose(&mut self, lane: Lane) {
        self.connected[lane as usize] = false;
        self.tell().await;
    }

    fn look(&mut self) {
        for lane in Lane::ALL {
            self.connected[lane as usize] = self.link.is_connected(lane);
        }
        self.repeat_complaint();
    }

    async fn tell(&mut self) {
        let connected = self.connected.iter().all(|&connected| connected);
        if connected == self.told {
            return;
        }
        self.told = connected;
        if connected {
            self.welcome();
            self.ear.tell(FromBus::Connected).await;
        } else {
            tracing::warn!("the bus is disconnected; this node goes on alone and tries to reach it");
            self.ear.tell(FromBus::Disconnected).await;
        }
    }

    fn welcome(&mut self) {
        if self.was_connected {
            self.numbers.bus_reconnects.increment(1);
        }
        self.was_connected = true;
        self.complaint.clear();
        let server = self.link.client(Lane::Beacons).server_info();
        tracing::info!(server = %server.server_name, version = %server.version, "the bus is connected");
        if server.max_payload < FRAME_BYTES_MAX {
            tracing::error!(
                max_payload = server.max_payload,
                needed = FRAME_BYTES_MAX,
                "the NATS server takes no messages as long as nodes send: raise its max_payload"
            );
        }
    }

    async fn reconnect_all(&mut self) {
        tracing::warn!("this node does not hear itself: connecting to the bus anew");
        for lane in Lane::ALL {
            self.link.reconnect(lane).await;
        }
    }

    /// Once for each trouble, not once for each attempt.
    fn complain(&mut self, lane: Lane, error: &str) {
        let trouble = in_words(error, self.link.demands_tls());
        if self.complaint != trouble {
            tracing::warn!(connection = lane.as_str(), servers = self.servers, "the bus: {trouble}");
            self.complaint = trouble;
            self.looks_to_repeat = REPEAT_LOOKS;
        }
    }

    /// A bus that was never reached is written down again and again, but seldom: the node is not ready without it.
    fn repeat_complaint(&mut self) {
        if self.was_connected || self.complaint.is_empty() {
            return;
        }
        self.looks_to_repeat = self.looks_to_repeat.saturating_sub(1);
        if self.looks_to_repeat == 0 {
            self.looks_to_repeat = REPEAT_LOOKS;
            tracing::warn!(servers = self.servers, "the bus was never reached, so this node is not ready: {}", self.complaint);
        }
    }
}

/// What the client's few words mean for who runs the node. A handshake that fails is an IO error to it, like a server that is not there.
fn in_words(error: &str, demands_tls: bool) -> String {
    match error.trim_start_matches("nats: ") {
        "authorization violation" => "the NATS server does not accept this node's credentials".to_owned(),
        "failed signing nonce" => "the NATS server's challenge cannot be signed: look at bus.nkey_file or bus.credentials_file".to_owned(),
        "IO error" if demands_tls => {
            "no NATS server takes a connection with TLS: it is not there, or one does not trust the other's certificate".to_owned()
        }
        "IO error" => "no NATS server takes a connection".to_owned(),
        "timed out" => "the NATS server does not answer".to_owned(),
        "TLS error" => "the NATS server and this node do not agree on TLS: look at bus.tls".to_owned(),
        "DNS error" => "the NATS server's name is not known".to_owned(),
        other => format!("the NATS server says: {other}"),
    }
}
