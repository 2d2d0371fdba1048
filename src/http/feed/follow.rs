//! A feed: one service under one selection, followed once for all the streams that want it.
//!
//! The feed sees a sequence of views, each newer than the one before, and tells its followers of those that differ under the
//! selection. A follower holds what it was told last; marked, it takes the step from there to the newest told view. Steps are
//! encoded once: followers that are at the same place share the bytes.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::api::Hex;
use crate::api::consume::{Instance, Notice, Snapshot, Trust, Unchanged};
use crate::model::{Cause, Selection, ServiceKey};
use crate::registry::View;

use super::event::Event;
use super::history::History;
use super::mailbox::{Mailbox, Place};
use super::step::Difference;

/// Steps whose bytes are kept for followers that come a little later. One that is further behind has its own made.
const STEPS_KEPT: usize = 8;

/// One service under one selection.
pub(in crate::http) struct Feed {
    service: ServiceKey,
    selection: Selection,
    history: Arc<Mutex<History>>,
    state: Mutex<State>,
    /// Locked after `state` where both are.
    followers: Mutex<Followers>,
    /// Dropped with the feed: that ends its task.
    _gone: oneshot::Sender<Infallible>,
}

struct State {
    cell: watch::Receiver<Arc<View>>,
    /// The newest view seen.
    newest: Told,
    /// The newest view that followers were told of.
    told: Told,
    /// The newest view that is under the selection what `told` is: differences are taken from here, so that what others
    /// do outside the selection is looked at once.
    base: Arc<View>,
    /// Somebody joined at a newer view than `told`: that it is again what `told` is must be told too.
    is_ahead: bool,
    steps: VecDeque<Step>,
    snapshot: Option<(u64, Trust, Event)>,
}

#[derive(Default)]
struct Followers {
    marks: BTreeMap<u64, (Arc<Mailbox>, Place)>,
    tickets: u64,
}

/// A view that somebody was told of.
#[derive(Debug, Clone)]
struct Told {
    view: Arc<View>,
    /// Grows with each newer view of this feed.
    stamp: u64,
}

struct Step {
    from: u128,
    to: u128,
    /// `None`: the two are the same under the selection.
    event: Option<Event>,
}

/// One stream's part in a feed; ends when it is dropped.
pub(in crate::http) struct Following {
    feed: Arc<Feed>,
    ticket: u64,
    /// What the stream was told last.
    told: Told,
    /// The stream knows that some of the service's instances would have expired.
    told_preserved: bool,
}

impl Feed {
    /// A feed of the views that come through `cell`; whoever holds the other end of `gone` learns when nobody follows any more.
    pub(super) fn new(
        service: ServiceKey,
        selection: Selection,
        mut cell: watch::Receiver<Arc<View>>,
        history: Arc<Mutex<History>>,
        gone: oneshot::Sender<Infallible>,
    ) -> Self {
        let base = Arc::clone(&cell.borrow_and_update());
        let told = Told { view: Arc::clone(&base), stamp: 0 };
        let state = State { cell, newest: told.clone(), told, base, is_ahead: false, steps: VecDeque::new(), snapshot: None };
        Self { service, selection, history, state: Mutex::new(state), followers: Mutex::default(), _gone: gone }
    }

    /// Looks for a newer view and tells the followers what is other in it; false when there was nothing to tell.
    pub(super) fn tell(&self) -> bool {
        let Some(replaced) = self.state.lock().advance(self) else { return false };
        for (mailbox, place) in self.followers.lock().marks.values() {
            mailbox.mark(*place);
        }
        self.history.lock().keep(&self.service, &replaced);
        true
    }

    /// Begins to follow: from now on the place is marked when there is something to tell. The event is the first one to send:
    /// what leads from the revision the consumer holds, if it holds one and its view is still known, to the newest view.
    pub(in crate::http) fn join(
        self: &Arc<Self>,
        mailbox: &Arc<Mailbox>,
        place: Place,
        holds: Option<u128>,
        trust: Trust,
    ) -> (Following, Event) {
        let mut state = self.state.lock();
        let told = state.refresh();
        state.is_ahead |= told.stamp > state.told.stamp;
        let ticket = self.followers.lock().add(mailbox, place);
        let resumed = holds.and_then(|revision| self.resume(&mut state, revision, &told.view));
        // Only a snapshot says whether the service is preserved; after anything else a notice does.
        let told_preserved = resumed.is_none() && is_preserved(&told.view);
        if is_preserved(&told.view) && !told_preserved {
            mailbox.mark(place);
        }
        let event = resumed.unwrap_or_else(|| state.snapshot(self, &told, trust));
        (Following { feed: Arc::clone(self), ticket, told, told_preserved }, event)
    }

    fn resume(&self, state: &mut State, revision: u128, newest: &View) -> Option<Event> {
        if revision == newest.revision() {
            return Some(unchanged(&self.service, revision));
        }
        let view = self.history.lock().find(&self.service, revision)?;
        let step = state.step(self, &view, newest);
        Some(step.unwrap_or_else(|| Difference::default().into_event(&self.service, revision, newest.revision())))
    }
}

impl Following {
    /// What the stream is to be told now that its place is marked.
    pub(in crate::http) fn next(&mut self) -> Option<Event> {
        let mut state = self.feed.state.lock();
        let told = state.told.clone();
        if told.stamp <= self.told.stamp {
            return None;
        }
        let event = state.step(&self.feed, &self.told.view, &told.view)?;
        self.told = told;
        Some(event)
    }

    /// That the service is preserved, or no longer, where the stream does not know it yet.
    pub(in crate::http) fn preservation(&mut self) -> Option<Notice> {
        let is_preserved = is_preserved(&self.feed.state.lock().newest.view);
        if std::mem::replace(&mut self.told_preserved, is_preserved) == is_preserved {
            return None;
        }
        Some(Notice {
            namespace: Some(self.feed.service.namespace.to_string()),
            service: Some(self.feed.service.service.to_string()),
            preserved: Some(is_preserved),
            cause: is_preserved.then(|| Cause::Preserved.as_str().to_owned()),
            stale: None,
        })
    }

    /// The newest view whole, for a stream that must begin anew.
    pub(in crate::http) fn anew(&mut self, trust: Trust) -> Event {
        let mut state = self.feed.state.lock();
        self.told = state.refresh();
        self.told_preserved = is_preserved(&self.told.view);
        state.is_ahead |= self.told.stamp > state.told.stamp;
        state.snapshot(&self.feed, &self.told, trust)
    }

    /// The view that the stream was told last.
    pub(in crate::http) fn told(&self) -> &View {
        &self.told.view
    }

    /// Of the view that the stream was told last.
    pub(in crate::http) fn revision(&self) -> u128 {
        self.told.view.revision()
    }

    /// The service that is followed.
    pub(in crate::http) fn service(&self) -> &ServiceKey {
        &self.feed.service
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.feed.followers.lock().marks.remove(&self.ticket);
    }
}

impl Followers {
    fn add(&mut self, mailbox: &Arc<Mailbox>, place: Place) -> u64 {
        self.tickets += 1;
        self.marks.insert(self.tickets, (Arc::clone(mailbox), place));
        self.tickets
    }
}

impl State {
    /// Takes the cell's view. Its values come in order, and all of this is under one lock: so stamps say which of two is newer.
    fn refresh(&mut self) -> Told {
        let view = Arc::clone(&self.cell.borrow_and_update());
        if !Arc::ptr_eq(&view, &self.newest.view) {
            self.newest = Told { view, stamp: self.newest.stamp + 1 };
        }
        self.newest.clone()
    }

    /// Moves on to the newest view, if it differs under the selection; gives the one it replaces.
    fn advance(&mut self, feed: &Feed) -> Option<Arc<View>> {
        let newest = self.refresh();
        let base = std::mem::replace(&mut self.base, Arc::clone(&newest.view));
        let difference = Difference::between(&feed.selection, &base, &newest.view);
        // That it is preserved, or no longer, concerns whoever follows the service, under whatever selection.
        let is_same = difference.is_empty() && is_preserved(&base) == is_preserved(&newest.view);
        if is_same && !self.is_ahead {
            return None;
        }
        self.is_ahead = false;
        let (from, to) = (self.told.view.revision(), newest.view.revision());
        let event = (!difference.is_empty()).then(|| difference.into_event(&feed.service, from, to));
        self.keep(Step { from, to, event });
        Some(std::mem::replace(&mut self.told, newest).view)
    }

    /// The step between two views; `None` when there is none under the selection.
    fn step(&mut self, feed: &Feed, from: &View, to: &View) -> Option<Event> {
        let (from_revision, to_revision) = (from.revision(), to.revision());
        if let Some(step) = self.steps.iter().rev().find(|step| step.from == from_revision && step.to == to_revision) {
            return step.event.clone();
        }
        let difference = Difference::between(&feed.selection, from, to);
        let event = (!difference.is_empty()).then(|| difference.into_event(&feed.service, from_revision, to_revision));
        self.keep(Step { from: from_revision, to: to_revision, event: event.clone() });
        event
    }

    fn snapshot(&mut self, feed: &Feed, of: &Told, trust: Trust) -> Event {
        if let Some((_, _, event)) = self.snapshot.as_ref().filter(|(stamp, told, _)| *stamp == of.stamp && *told == trust) {
            return event.clone();
        }
        let event = snapshot(&feed.service, &of.view, &feed.selection, trust);
        self.snapshot = Some((of.stamp, trust, event.clone()));
        event
    }

    fn keep(&mut self, step: Step) {
        if self.steps.len() == STEPS_KEPT {
            self.steps.pop_front();
        }
        self.steps.push_back(step);
    }
}

/// Some of its instances stay listed only because their silence proves nothing.
fn is_preserved(view: &View) -> bool {
    view.preserved() > 0
}

fn snapshot(service: &ServiceKey, view: &View, selection: &Selection, trust: Trust) -> Event {
    let snapshot = Snapshot {
        namespace: service.namespace.as_str().into(),
        service: service.service.as_str().into(),
        revision: Hex(view.revision()),
        trust: Trust { preserved: is_preserved(view), ..trust },
        instances: view.select(selection).into_iter().map(|listed| Instance::from(&**listed)).collect(),
    };
    Event::new("snapshot", view.revision(), &snapshot)
}

fn unchanged(service: &ServiceKey, revision: u128) -> Event {
    let unchanged =
        Unchanged { namespace: service.namespace.as_str().into(), service: Some(service.service.as_str().into()), revision: Hex(revision) };
    Event::new("unchanged", revision, &unchanged)
}

#[cfg(test)]
mod tests;
