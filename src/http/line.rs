//! The line: one connection, as those who come over it are told apart, and what it polls.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Version};
use parking_lot::Mutex;

use super::App;
use super::feed::{Held, Seated};
use super::outlet::Outlet;
use crate::model::{Selection, Subscriber, subscriber_name};
use crate::registry::{Interest, Watcher};

/// How many different things one connection is known to poll; of more, the one that began first is forgotten, and is no subscriber of
/// that until it polls it again.
const POLLS_MAX: usize = 64;

/// A connection.
#[derive(Debug)]
pub(super) struct Line {
    outlet: Arc<Outlet>,
    address: SocketAddr,
    /// A poll comes and goes; who polls stays a subscriber as long as its connection.
    polls: Mutex<Vec<Seated>>,
}

/// Over which connection a request came.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// `None`: over none, as in tests.
    line: Option<Arc<Line>>,
    version: Version,
    /// What its headers call it.
    name: Option<Arc<str>>,
}

impl Line {
    pub(super) fn new(outlet: Arc<Outlet>, address: SocketAddr) -> Self {
        Self { outlet, address, polls: Mutex::default() }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self { line: parts.extensions.get::<Arc<Line>>().cloned(), version: parts.version, name: name(&parts.headers) })
    }
}

/// What a caller calls itself in its headers.
pub(super) fn name(headers: &HeaderMap) -> Option<Arc<str>> {
    subscriber_name(headers.get("muster-client")?.to_str().ok()?)
}

impl Caller {
    /// As others are told of it; `name` is what its query calls it.
    pub(super) fn watcher(&self, app: &App, name: Option<&str>, interest: Interest) -> Watcher {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let subscriber = Subscriber {
            name: name.and_then(subscriber_name).or_else(|| self.name.clone()),
            address: self.line.as_ref().map_or(nowhere, |line| line.address),
            since: app.node.clock().wall(),
        };
        Watcher { subscriber, interest: Arc::new(interest) }
    }

    /// Where what it is sent leaves, and how.
    pub(super) fn outlet(&self) -> Option<(Arc<Outlet>, Version)> {
        self.line.as_ref().map(|line| (Arc::clone(&line.outlet), self.version))
    }

    /// Begins a poll of something, by somebody who may have what is current. Over no connection nobody is a subscriber.
    pub(super) fn poll(&self, app: &App, interest: impl FnOnce() -> Interest, selection: &Selection, has_current: bool) -> Option<Held> {
        let line = self.line.as_ref()?;
        let interest = interest();
        let mut polls = line.polls.lock();
        if let Some(known) = polls.iter().find(|known| known.seat().is_for(&interest, selection)) {
            return Some(known.hold(has_current));
        }
        if polls.len() >= POLLS_MAX {
            polls.remove(0);
        }
        let seated = app.feeds.audience().seat_poll(self.watcher(app, None, interest), selection.clone());
        let held = seated.hold(has_current);
        polls.push(seated);
        Some(held)
    }
}
