//! Attachments: the ends of the connections that hold leases. Dropping one is the message that it has closed, so no queue can be full.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use foldhash::fast::RandomState;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};

use crate::model::{Incarnation, InstanceKey};
use crate::registry::Ticket;

/// What a connection holds its leases by: they are silent once this is dropped.
#[derive(Debug)]
pub struct Attachment {
    #[expect(dead_code, reason = "its dropping is the message")]
    guard: oneshot::Sender<Infallible>,
    over: mpsc::Receiver<(InstanceKey, Incarnation)>,
}

/// The node's end of one.
pub(super) struct End {
    closed: oneshot::Receiver<Infallible>,
    over: mpsc::Sender<(InstanceKey, Incarnation)>,
}

/// Both ends for a connection that is to hold so many leases.
pub(super) fn pair(members: usize) -> (Attachment, End) {
    let (guard, closed) = oneshot::channel();
    // Each member is over once at the most: there is always room.
    let (to_over, over) = mpsc::channel(members.max(1));
    (Attachment { guard, over }, End { closed, over: to_over })
}

impl Attachment {
    /// The next of its members whose lease it holds no more: it was deregistered, or a later life of it registered. `None`: none is left
    /// that could be.
    pub async fn next_over(&mut self) -> Option<(InstanceKey, Incarnation)> {
        self.over.recv().await
    }
}

/// All that are open.
#[derive(Default)]
pub(super) struct Ends {
    /// Each is woken by itself: thousands that stay open cost nothing.
    closing: FuturesUnordered<Closing>,
    over: HashMap<Ticket, mpsc::Sender<(InstanceKey, Incarnation)>, RandomState>,
}

struct Closing {
    attachment: Ticket,
    closed: oneshot::Receiver<Infallible>,
}

impl Future for Closing {
    type Output = Ticket;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ticket> {
        let attachment = self.attachment;
        Pin::new(&mut self.closed).poll(context).map(|_| attachment)
    }
}

impl Ends {
    pub(super) fn insert(&mut self, attachment: Ticket, end: End) {
        self.over.insert(attachment, end.over);
        self.closing.push(Closing { attachment, closed: end.closed });
    }

    /// The next that has closed; `None`: none is open. What is not awaited to its end is lost to nobody.
    pub(super) async fn next_closed(&mut self) -> Option<Ticket> {
        let attachment = self.closing.next().await?;
        self.over.remove(&attachment);
        Some(attachment)
    }

    /// One that has closed already.
    pub(super) fn take_closed(&mut self) -> Option<Ticket> {
        let attachment = futures_util::FutureExt::now_or_never(self.closing.next())??;
        self.over.remove(&attachment);
        Some(attachment)
    }

    /// Tells a connection that it holds this lease no more.
    pub(super) fn tell_over(&self, attachment: Ticket, key: InstanceKey, incarnation: Incarnation) {
        if let Some(over) = self.over.get(&attachment) {
            // Nobody to tell: it has closed.
            let _ = over.try_send((key, incarnation));
        }
    }
}
