//! Holding: the stream of one attachment, which says what becomes of its instances. When it is dropped they are held no more.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Interval;

use crate::api::Hex;
use crate::api::attach::{Attached, Held, Ping};
use crate::api::consume::Goodbye;
use crate::http::App;
use crate::http::feed::plain;
use crate::http::jitter::jitter;
use crate::http::watch::rhythm;
use crate::metrics::Metrics;
use crate::model::{Incarnation, InstanceKey, Namespace};
use crate::node::{Attachment, Condition};
use crate::registry::{NodeState, Registered};
use crate::shutdown::Shutdown;

/// How often the stream says something, so that both ends notice when the other is gone.
const PING_EVERY: Duration = Duration::from_secs(10);
/// When a provider is to come back at another node, in ms: spread, so that not all come at once.
const RECONNECT_MS: RangeInclusive<u64> = 50..=1500;
/// It is this part of the shortest ttl on the connection at the most: the lease is to be held again before it is late.
const RECONNECT_PART: u64 = 3;

/// One open attachment.
pub(super) struct Holding {
    attachment: Attachment,
    /// The first event, until it is sent.
    first: Option<Bytes>,
    /// How many instances it still holds.
    left: usize,
    reconnect_ms_max: u64,
    has_said_goodbye: bool,
    conditions: watch::Receiver<Condition>,
    shutdown: Shutdown,
    ping: Interval,
    metrics: Arc<Metrics>,
    _place: OwnedSemaphorePermit,
}

/// What an open one waited for.
enum Woken {
    Over(Option<(InstanceKey, Incarnation)>),
    Ping,
    Leaving,
}

impl Holding {
    /// Holds what has just been registered; `order` is that in which it was said.
    pub(super) fn new(
        app: &App,
        order: &[InstanceKey],
        registered: &BTreeMap<InstanceKey, Registered>,
        attachment: Attachment,
        place: OwnedSemaphorePermit,
    ) -> Self {
        app.metrics.attachments.increment(1.0);
        let instances = order
            .iter()
            .filter_map(|key| registered.get(key).map(|registered| to_held(key, registered.incarnation, Some(registered.digest))))
            .collect();
        let first = plain("registered", None, &Attached { instances, owner: app.node.name().as_str().into() });
        let shortest_ms = registered.values().filter_map(|registered| registered.ttl_ms).min().unwrap_or(u64::MAX);
        Self {
            attachment,
            first: Some(first),
            left: registered.len(),
            reconnect_ms_max: (shortest_ms / RECONNECT_PART).clamp(*RECONNECT_MS.start(), *RECONNECT_MS.end()),
            has_said_goodbye: false,
            conditions: app.node.follow_condition(),
            shutdown: app.shutdown.clone(),
            ping: rhythm::after_each(PING_EVERY),
            metrics: Arc::clone(&app.metrics),
            _place: place,
        }
    }

    /// The next event, once there is one; `None`: the stream is over.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        if self.has_said_goodbye || self.left == 0 {
            return None;
        }
        match self.wait().await {
            Woken::Over(Some((key, incarnation))) => {
                self.left -= 1;
                Some(plain("deregistered", None, &to_held(&key, incarnation, None)))
            }
            Woken::Over(None) => None,
            Woken::Ping => Some(plain("ping", None, &Ping {})),
            Woken::Leaving => {
                self.has_said_goodbye = true;
                Some(plain("goodbye", None, &Goodbye { reconnect_ms: jitter(*RECONNECT_MS.start()..=self.reconnect_ms_max) }))
            }
        }
    }

    async fn wait(&mut self) -> Woken {
        // A node that is no more is left as well, and one whose task does not turn: peers that judge it would not know of this connection.
        let is_leaving = |condition: &Condition| condition.state == NodeState::Leaving || condition.is_stalled;
        tokio::select! {
            over = self.attachment.next_over() => Woken::Over(over),
            _ = self.conditions.wait_for(is_leaving) => Woken::Leaving,
            () = self.shutdown.begun() => Woken::Leaving,
            _ = self.ping.tick() => Woken::Ping,
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.metrics.attachments.decrement(1.0);
    }
}

fn to_held(key: &InstanceKey, incarnation: Incarnation, digest: Option<u128>) -> Held<'_> {
    let namespace = &key.service.namespace;
    Held {
        namespace: (*namespace != Namespace::default()).then(|| namespace.as_str().into()),
        service: key.service.service.as_str().into(),
        id: key.id.as_str().into(),
        incarnation: incarnation.get(),
        digest: digest.map(Hex),
    }
}
