//! Following: one stream of events. It holds a place in the node's history and nothing else; what it sends is read from there when its
//! socket has room, so a stream that is slower than the history is long learns of a gap and costs nobody anything.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::watch;
use tokio::time::Interval;

use super::asked::{Begin, Wanted};
use crate::api::events::Gap;
use crate::http::App;
use crate::http::feed::{Open, plain};
use crate::http::watch::rhythm;
use crate::metrics::Metrics;
use crate::node::history::Place;
use crate::node::{Condition, Event, History};
use crate::registry::NodeState;
use crate::shutdown::Shutdown;

/// How many events are looked at for one write.
const LOOKED_AT_MAX: usize = 256;

struct Following {
    history: History,
    told: watch::Receiver<Place>,
    conditions: watch::Receiver<Condition>,
    shutdown: Shutdown,
    metrics: Arc<Metrics>,
    _open: Open,
    wanted: Wanted,
    /// Up to here all that is wanted was sent.
    at: Place,
    phase: Phase,
    comments: Interval,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    New,
    /// The event that it was to go on after is not there.
    Lost,
    Live,
    Over,
}

/// The stream; `open` is its place among all.
pub(super) fn stream(
    app: &App,
    wanted: Wanted,
    begin: &Begin,
    open: Open,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
    let history = app.node.history().clone();
    let (at, is_lost) = match begin {
        Begin::Now => (history.end(), false),
        Begin::Oldest => (history.oldest(), false),
        Begin::After(id) => history.place_of(id).map_or((history.end(), true), |place| (place + 1, false)),
        Begin::Garbage => (history.end(), true),
    };
    app.metrics.streams.increment(1.0);
    let following = Following {
        told: history.follow(),
        history,
        conditions: app.node.follow_condition(),
        shutdown: app.shutdown.clone(),
        metrics: Arc::clone(&app.metrics),
        _open: open,
        wanted,
        at,
        phase: Phase::New,
        comments: rhythm::comments(),
    };
    unfold((following, is_lost), async |(mut following, is_lost)| {
        let bytes = following.next(is_lost).await?;
        Some((Ok(bytes), (following, is_lost)))
    })
}

impl Following {
    async fn next(&mut self, is_lost: bool) -> Option<Bytes> {
        match self.phase {
            Phase::New => {
                self.phase = if is_lost { Phase::Lost } else { Phase::Live };
                Some(rhythm::retry())
            }
            Phase::Lost => {
                self.phase = Phase::Live;
                Some(self.say_gap(Gap::default()))
            }
            Phase::Live => self.next_live().await,
            Phase::Over => None,
        }
    }

    async fn next_live(&mut self) -> Option<Bytes> {
        loop {
            let is_leaving = self.conditions.borrow_and_update().state == NodeState::Leaving;
            if let Some(bytes) = self.read().await {
                return Some(bytes);
            }
            if is_leaving || self.shutdown.has_begun() {
                self.phase = Phase::Over;
                self.metrics.stream_events("goodbye", 1);
                return Some(rhythm::goodbye());
            }
            tokio::select! {
                told = self.told.changed() => if told.is_err() { self.shutdown.begun().await },
                _ = self.conditions.changed() => {}
                () = self.shutdown.begun() => {}
                _ = self.comments.tick() => return Some(rhythm::comment()),
            }
        }
    }

    /// What came since and is wanted; `None`: nothing, for now.
    async fn read(&mut self) -> Option<Bytes> {
        loop {
            let since = self.history.since(self.at, LOOKED_AT_MAX);
            if since.missed > 0 {
                self.at += since.missed;
                self.metrics.events_lost("stream", since.missed);
                return Some(self.say_gap(Gap { missed: Some(since.missed) }));
            }
            if since.events.is_empty() {
                return None;
            }
            self.at = since.next;
            let wanted: Vec<&Event> = since.events.iter().map(|(_, event)| event).filter(|event| self.wanted.wants(event)).collect();
            if !wanted.is_empty() {
                self.metrics.stream_events("change", wanted.len() as u64);
                return Some(wanted.into_iter().flat_map(to_bytes).collect());
            }
            tokio::task::yield_now().await;
        }
    }

    fn say_gap(&self, gap: Gap) -> Bytes {
        self.metrics.stream_events("gap", 1);
        plain("gap", None, &gap)
    }
}

/// JSON has no line breaks of its own: its strings escape them.
fn to_bytes(event: &Event) -> Vec<u8> {
    let head = format!("event: change\nid: {}\ndata: ", event.id());
    [head.as_bytes(), &event.to_json(), b"\n\n"].concat()
}

impl Drop for Following {
    fn drop(&mut self) {
        self.metrics.streams.decrement(1.0);
    }
}
