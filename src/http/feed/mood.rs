//! The mood: what concerns every stream of a node at once, and how many there are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::api::consume::Trust;
use crate::clock::Clock;
use crate::node::Condition;
use crate::registry::NodeState;
use crate::shutdown::Shutdown;

use super::mailbox::Mailbox;

/// What streams look at whenever they are woken, instead of each waiting for it.
#[derive(Debug)]
pub(in crate::http) struct Mood {
    leaving: AtomicBool,
    stale: AtomicBool,
    complete: AtomicBool,
    knows_enough: AtomicBool,
    streams: Mutex<Streams>,
    streams_max: usize,
}

#[derive(Debug, Default)]
struct Streams {
    open: BTreeMap<u64, Arc<Mailbox>>,
    tickets: u64,
}

/// An open stream's place among all; it is free again when this is dropped.
#[derive(Debug)]
pub(in crate::http) struct Open {
    mood: Arc<Mood>,
    ticket: u64,
}

impl Mood {
    pub(super) fn new(streams_max: usize) -> Self {
        Self {
            leaving: AtomicBool::new(false),
            stale: AtomicBool::new(false),
            complete: AtomicBool::new(true),
            knows_enough: AtomicBool::new(true),
            streams: Mutex::default(),
            streams_max,
        }
    }

    /// Takes a place for a stream; `None`: all are taken.
    pub(in crate::http) fn open(self: &Arc<Self>, mailbox: &Arc<Mailbox>) -> Option<Open> {
        let mut streams = self.streams.lock();
        if streams.open.len() >= self.streams_max {
            return None;
        }
        streams.tickets += 1;
        let ticket = streams.tickets;
        streams.open.insert(ticket, Arc::clone(mailbox));
        Some(Open { mood: Arc::clone(self), ticket })
    }

    /// The node stops: every stream says goodbye.
    pub(in crate::http) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// The bus is not heard.
    pub(in crate::http) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }

    /// Nothing that could be known is missing.
    pub(in crate::http) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Of what the node does not know there is nothing.
    pub(in crate::http) fn knows_enough(&self) -> bool {
        self.knows_enough.load(Ordering::Acquire)
    }

    /// Takes what the node now says of itself, and wakes every stream if that concerns them.
    pub(in crate::http) fn take(&self, condition: Condition) {
        let changed = [
            self.stale.swap(condition.stale_since.is_some(), Ordering::AcqRel) != condition.stale_since.is_some(),
            self.knows_enough.swap(condition.knowledge.is_enough(), Ordering::AcqRel) != condition.knowledge.is_enough(),
            self.complete.swap(condition.complete, Ordering::AcqRel) != condition.complete,
            condition.state == NodeState::Leaving && !self.leaving.swap(true, Ordering::AcqRel),
        ];
        if changed.contains(&true) {
            self.wake_all();
        }
    }

    fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
        self.wake_all();
    }

    fn wake_all(&self) {
        for mailbox in self.streams.lock().open.values() {
            mailbox.wake();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.mood.streams.lock().open.remove(&self.ticket);
    }
}

/// Watches the node for all streams, from the condition on that was seen last.
pub(super) async fn cry(mood: Arc<Mood>, mut conditions: watch::Receiver<Condition>, shutdown: Shutdown) {
    loop {
        tokio::select! {
            changed = conditions.changed() => if changed.is_err() { break },
            () = shutdown.begun() => break,
        }
        let condition = *conditions.borrow_and_update();
        mood.take(condition);
    }
    mood.leave();
}

/// How far this node's answers can be relied on, in the words of the API. The staleness counts whole seconds, so that
/// answers given within one are the same. `preserved`: some of what is told would have expired.
pub(in crate::http) fn trust(condition: &Condition, clock: &Clock, preserved: bool) -> Trust {
    let stale_ms = condition.stale_since.map(|since| clock.mono().saturating_sub(since) / 1000 * 1000);
    Trust { complete: condition.complete, stale: stale_ms.is_some(), stale_ms, preserved }
}
