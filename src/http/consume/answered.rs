//! Answered: the body of a poll's answer, which knows when it has been handed over, so that it can be said when it has left.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::Version;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::http::feed::Held;
use crate::http::outlet::Outlet;
use crate::model::ServiceKey;
use crate::node::Handle;
use crate::registry::View;

/// A poll that is not answered yet.
pub(super) struct Pending {
    pub(super) held: Held,
    /// `None`: it came over no connection.
    pub(super) outlet: Option<(Arc<Outlet>, Version)>,
    pub(super) node: Handle,
    pub(super) service: ServiceKey,
}

/// An answer on its way to somebody who polls.
pub(super) struct Answered {
    bytes: Bytes,
    poll: Pending,
    /// From which it was made.
    view: Arc<View>,
    phase: Phase,
}

impl Pending {
    /// Answers it.
    pub(super) fn answered(self, bytes: Bytes, view: Arc<View>) -> Answered {
        Answered { bytes, poll: self, view, phase: Phase::Nothing }
    }
}

/// How much of it was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Nothing,
    /// Over HTTP/2 one is asked for more only when there is room for what was yielded: the end is kept back to see that.
    Bytes,
    All,
}

impl Answered {
    fn say_left(&self) {
        let newest = self.poll.node.catalog().view(&self.poll.service).cloned().unwrap_or_default();
        let outlet = self.poll.outlet.as_ref().map(|(outlet, version)| (Arc::clone(outlet), outlet.mark(*version)));
        self.poll.held.answer(&self.view, &newest, outlet);
    }

    fn is_http2(&self) -> bool {
        self.poll.outlet.as_ref().is_some_and(|(_, version)| *version == Version::HTTP_2)
    }
}

impl Body for Answered {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.phase {
            Phase::Nothing if self.is_http2() => {
                self.phase = Phase::Bytes;
                Poll::Ready(Some(Ok(Frame::data(self.bytes.clone()))))
            }
            Phase::Nothing => {
                self.phase = Phase::All;
                self.say_left();
                Poll::Ready(Some(Ok(Frame::data(self.bytes.clone()))))
            }
            Phase::Bytes => {
                self.phase = Phase::All;
                self.say_left();
                Poll::Ready(None)
            }
            Phase::All => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.phase == Phase::All
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(if self.phase == Phase::Nothing { self.bytes.len() as u64 } else { 0 })
    }
}
