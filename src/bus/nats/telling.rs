//! Telling: what this node wrote and somebody can see, as JSON on `muster.<cluster>.event.<namespace>`, for whoever listens there.
//!
//! No node hears these: nodes have the changes themselves. It goes out on the connection for bulk, so it holds up neither changes nor
//! beacons, and follows the history as a stream does: what it cannot say in time is counted and left out.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::link::Link;
use crate::bus::subject::Lane;
use crate::metrics::Metrics;
use crate::model::Cluster;
use crate::node::history::Place;
use crate::node::{Event, History};

/// How many events are looked at in one go.
const LOOKED_AT_MAX: usize = 256;
/// For an event to find room in its connection's queue.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(1);

/// Tells others of what happens here.
pub(super) struct Teller {
    link: Link,
    cluster: Cluster,
    history: History,
    numbers: Arc<Metrics>,
    /// Up to here all is told, or lost.
    at: Place,
}

impl Teller {
    pub(super) fn new(link: Link, cluster: Cluster, history: History, numbers: Arc<Metrics>) -> Self {
        Self { link, cluster, at: history.end(), history, numbers }
    }

    /// Tells until the node has ended.
    pub(super) async fn tell(mut self, ended: CancellationToken) {
        let mut told = self.history.follow();
        loop {
            let is_over = tokio::select! {
                changed = told.changed() => changed.is_err(),
                () = ended.cancelled() => true,
            };
            self.tell_all().await;
            if is_over {
                return;
            }
        }
    }

    async fn tell_all(&mut self) {
        loop {
            let since = self.history.since(self.at, LOOKED_AT_MAX);
            self.at = since.next;
            // Some of those were other nodes' to tell: how many nobody knows any more.
            let mut lost = since.missed;
            for (_, event) in since.events.iter().filter(|(_, event)| event.is_own) {
                lost += u64::from(!self.tell_one(event).await);
            }
            if lost > 0 {
                self.numbers.events_lost("bus", lost);
            }
            if since.events.is_empty() {
                return;
            }
        }
    }

    /// Says whether it was given to the connection. What it cannot carry now would be old news when it can.
    async fn tell_one(&self, event: &Event) -> bool {
        if !self.link.is_connected(Lane::Bulk) {
            return false;
        }
        let subject = format!("muster.{}.event.{}", self.cluster, event.key.service.namespace);
        let json = event.to_json();
        let bytes = json.len();
        let published = timeout(PUBLISH_TIMEOUT, self.link.client(Lane::Bulk).publish(subject, json.into())).await;
        let is_told = matches!(published, Ok(Ok(())));
        if is_told {
            self.numbers.frame_sent("event", bytes);
        }
        is_told
    }
}
