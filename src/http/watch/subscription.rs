//! A subscription: one stream, as a state that always knows what to send next.
//!
//! It holds no events, only what it told last of each service and marks of what has changed since: whatever it sends is made,
//! or taken from what others were sent, at the moment when the socket has room for it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::Version;
use bytes::Bytes;
use futures_util::Stream;
use tokio::time::Interval;

use crate::api::Hex;
use crate::api::consume::{Synced, Trust, Unchanged};
use crate::http::App;
use crate::http::feed::{Event, Feeds, Following, Mailbox, Open, Place, Seated, is_told, plain, trust};
use crate::http::line::Caller;
use crate::http::outlet::{Nudge, Outlet};
use crate::metrics::Metrics;
use crate::model::{InstanceKey, ServiceKey};
use crate::node::Handle;
use crate::registry::{Interest, View, service_digest};

use super::request::{LastEvent, Request};
use super::rhythm;
use super::roster::Roster;

/// One open stream.
pub(super) struct Subscription {
    node: Handle,
    feeds: Feeds,
    metrics: Arc<Metrics>,
    request: Request,
    mailbox: Arc<Mailbox>,
    _open: Open,
    seated: Seated,
    /// Where what it is sent leaves; `None`: over no connection.
    outlet: Option<(Arc<Outlet>, Version)>,
    nudge: Nudge,
    /// What is followed, by its place in the mailbox.
    followed: Vec<Option<Following>>,
    free: Vec<Place>,
    /// Services to be sent for the first time.
    opening: VecDeque<Asked>,
    /// Places to be sent whole again.
    anew: VecDeque<Place>,
    /// Services of which the node knows nothing yet: nothing was sent of them.
    unknown: BTreeSet<Place>,
    /// Which services there are; only where whole families are asked for.
    roster: Option<Roster>,
    places: HashMap<ServiceKey, Place>,
    /// The consumer holds all that was asked for as it was a moment ago: only what has changed since is sent first.
    holds_all: bool,
    /// Wrapping sum of the digests of what was sent last of each service.
    sent: u128,
    /// The rest of what is being sent.
    rest: Option<Bytes>,
    phase: Phase,
    told_stale: bool,
    told_complete: bool,
    comment: Interval,
}

/// A service that is still to be sent, with the revision that the consumer holds.
struct Asked {
    service: ServiceKey,
    place: Place,
    holds: Option<u128>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing was sent.
    New,
    /// What was asked for is being sent.
    Opening,
    /// What the node knows was sent once; of the rest it cannot say yet whether there is any.
    Waiting,
    /// Everything was sent once.
    Live,
    /// Goodbye was said.
    Over,
}

impl Subscription {
    /// A stream for this request; `open` is its place among all.
    pub(super) fn new(app: &App, request: Request, caller: &Caller, mailbox: Arc<Mailbox>, open: Open) -> Self {
        app.metrics.streams.increment(1.0);
        let interest = Interest::new(request.namespace.clone(), request.names.iter(), &request.prefixes);
        let watcher = caller.watcher(app, request.client.as_deref(), interest);
        let mut subscription = Self {
            node: app.node.clone(),
            feeds: app.feeds.clone(),
            metrics: Arc::clone(&app.metrics),
            roster: (!request.prefixes.is_empty()).then(|| Roster::new(app.node.follow_catalog())),
            told_complete: app.feeds.mood().is_complete(),
            seated: app.feeds.audience().seat_stream(watcher, request.selection.clone(), Arc::clone(&mailbox)),
            outlet: caller.outlet(),
            nudge: Nudge::default(),
            request,
            mailbox,
            _open: open,
            followed: Vec::new(),
            free: Vec::new(),
            opening: VecDeque::new(),
            anew: VecDeque::new(),
            unknown: BTreeSet::new(),
            places: HashMap::new(),
            holds_all: false,
            sent: 0,
            rest: None,
            phase: Phase::New,
            told_stale: false,
            comment: rhythm::comments(),
        };
        subscription.plan();
        subscription
    }

    /// What is to be sent now; `None`: nothing, for the moment or for ever.
    fn next(&mut self) -> Option<Bytes> {
        if let Some(rest) = self.rest.take() {
            return Some(rest);
        }
        if self.feeds.mood().is_leaving() {
            return self.say_goodbye();
        }
        match self.phase {
            Phase::New => Some(self.begin()),
            Phase::Opening => self.open_next().or_else(|| self.end_opening()),
            Phase::Waiting => self.next_waiting(),
            Phase::Live => self.next_live(),
            Phase::Over => None,
        }
    }

    fn end_opening(&mut self) -> Option<Bytes> {
        if self.knows_all_asked() {
            return Some(self.say_synced());
        }
        self.phase = Phase::Waiting;
        self.next_waiting()
    }

    /// What is known goes on being sent; `synced` waits.
    fn next_waiting(&mut self) -> Option<Bytes> {
        if let Some(sent) = self.next_notice().or_else(|| self.send_anew()) {
            return Some(sent);
        }
        if self.knows_all_asked() {
            return Some(self.say_synced());
        }
        self.look_around();
        self.open_next().or_else(|| self.send_marked())
    }

    /// The node can say of all that was asked for whether there is any.
    fn knows_all_asked(&self) -> bool {
        self.unknown.is_empty() && (self.roster.is_none() || self.feeds.mood().knows_enough())
    }

    fn next_live(&mut self) -> Option<Bytes> {
        if let Some(notice) = self.next_notice() {
            return Some(notice);
        }
        self.look_around();
        self.open_next().or_else(|| self.send_anew()).or_else(|| self.send_marked())
    }
}

/// The beginning.
impl Subscription {
    /// Puts every service that was asked for in the order in which it will be sent.
    fn plan(&mut self) {
        let mut services: BTreeSet<ServiceKey> = self.request.services().collect();
        if let Some(roster) = &self.roster {
            services.extend(roster.visible().filter(|service| self.request.covers(service)).cloned());
        }
        let held = std::mem::take(&mut self.request.held);
        for service in services {
            let holds = held.get(&service.service).copied();
            self.expect(service, holds);
        }
        self.resume();
    }

    fn expect(&mut self, service: ServiceKey, holds: Option<u128>) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.followed.push(None);
            (self.followed.len() - 1) as Place
        });
        if self.roster.is_some() {
            self.places.insert(service.clone(), place);
        }
        self.opening.push_back(Asked { service, place, holds });
    }

    /// What the last event's id says weighs more than the revisions in the address, which a browser repeats for ever.
    fn resume(&mut self) {
        let last = match self.request.last_event {
            LastEvent::Unsaid => return,
            LastEvent::Of(id) => Some(id),
            LastEvent::Garbage => None,
        };
        if self.request.is_of_one() {
            self.opening.iter_mut().for_each(|asked| asked.holds = last);
            return;
        }
        let catalog = self.node.catalog();
        let revision = |service: &ServiceKey| catalog.view(service).map_or(0, |view| view.revision());
        let digests = self.opening.iter().map(|asked| service_digest(&asked.service, revision(&asked.service)));
        let current = digests.fold(0, u128::wrapping_add);
        self.holds_all = last == Some(current);
        for asked in &mut self.opening {
            asked.holds = self.holds_all.then(|| revision(&asked.service));
        }
        self.sent = current;
    }

    fn begin(&mut self) -> Bytes {
        self.phase = Phase::Opening;
        if self.holds_all {
            self.count("unchanged");
            let namespace = self.request.namespace.as_str().into();
            self.rest = Some(plain("unchanged", None, &Unchanged { namespace, service: None, revision: Hex(self.sent) }));
        }
        self.sent = 0;
        rhythm::retry()
    }

    /// Sends a service for the first time.
    fn open_next(&mut self) -> Option<Bytes> {
        loop {
            let Asked { service, place, holds } = self.opening.pop_front()?;
            let feed = self.feeds.of(&service, &self.request.selection);
            // Before the view: what was not known then may be known by now, and is sent when it is marked.
            let knows_enough = self.feeds.mood().knows_enough();
            let (following, event) = feed.join(&self.mailbox, place, holds, self.trust());
            if !knows_enough && following.told().instances().is_empty() {
                self.unknown.insert(place);
                self.followed[place as usize] = Some(following);
                continue;
            }
            self.moved(&service, 0, following.revision());
            self.followed[place as usize] = Some(following);
            let is_said = self.holds_all && self.phase == Phase::Opening && event.name() == "unchanged";
            if !is_said {
                return Some(self.send(&event));
            }
        }
    }

    fn say_synced(&mut self) -> Bytes {
        self.phase = Phase::Live;
        self.count("synced");
        plain("synced", self.id(), &Synced { services: self.followed.iter().flatten().count() })
    }
}

/// What comes later.
impl Subscription {
    /// Sends what has changed of a service that is marked.
    fn send_marked(&mut self) -> Option<Bytes> {
        loop {
            let place = self.mailbox.take()?;
            let Some(following) = self.followed.get_mut(place as usize).and_then(Option::as_mut) else { continue };
            if let Some(notice) = following.preservation() {
                // What else has changed of it comes next.
                self.mailbox.mark(place);
                self.count("notice");
                return Some(plain("notice", None, &notice));
            }
            let before = following.revision();
            if self.unknown.contains(&place) {
                if self.node.catalog().view(following.service()).is_none_or(|view| view.instances().is_empty()) {
                    continue;
                }
                self.unknown.remove(&place);
                self.anew.push_back(place);
                return self.send_anew();
            }
            let Some(event) = following.next() else { continue };
            let (service, after) = (following.service().clone(), following.revision());
            self.moved(&service, before, after);
            let bytes = self.send(&event);
            self.let_go_of_empty(place, &service, after);
            return Some(bytes);
        }
    }

    /// Sends a service whole again: what was kept because the node did not know all can go now.
    fn send_anew(&mut self) -> Option<Bytes> {
        loop {
            let place = self.anew.pop_front()?;
            let trust = self.trust();
            let Some(following) = self.followed.get_mut(place as usize).and_then(Option::as_mut) else { continue };
            let before = following.revision();
            let event = following.anew(trust);
            let (service, after) = (following.service().clone(), following.revision());
            self.moved(&service, before, after);
            return Some(self.send(&event));
        }
    }

    fn moved(&mut self, service: &ServiceKey, before: u128, after: u128) {
        self.sent = self.sent.wrapping_sub(service_digest(service, before)).wrapping_add(service_digest(service, after));
    }

    /// A service of a family that has emptied is followed no more: it comes as a snapshot when it appears again.
    fn let_go_of_empty(&mut self, place: Place, service: &ServiceKey, revision: u128) {
        let Some(roster) = &mut self.roster else { return };
        if revision != 0 || self.request.names(service) {
            return;
        }
        self.followed[place as usize] = None;
        self.free.push(place);
        self.places.remove(service);
        roster.doubt(service.clone());
    }

    /// Plans to send the services that have appeared.
    fn look_around(&mut self) {
        let Some(roster) = &mut self.roster else { return };
        for service in roster.appeared() {
            if self.request.covers(&service) && !self.places.contains_key(&service) {
                self.expect(service, None);
            }
        }
    }

    /// Says how far the stream can be relied on, when that has changed.
    fn next_notice(&mut self) -> Option<Bytes> {
        let mood = self.feeds.mood();
        let (stale, complete) = (mood.is_stale(), mood.is_complete());
        if complete && !self.told_complete {
            self.anew = (0..self.followed.len() as Place).collect();
        }
        self.told_complete = complete;
        if !self.unknown.is_empty() && mood.knows_enough() {
            // Sent whole: of these there are none.
            let unknown = std::mem::take(&mut self.unknown);
            self.anew.extend(unknown.into_iter().filter(|_| !complete));
        }
        if stale == self.told_stale {
            return None;
        }
        self.told_stale = stale;
        self.count("notice");
        Some(rhythm::notice(stale))
    }

    fn say_goodbye(&mut self) -> Option<Bytes> {
        if self.phase == Phase::Over {
            return None;
        }
        self.phase = Phase::Over;
        self.count("goodbye");
        Some(rhythm::goodbye())
    }
}

/// What has been sent.
impl Subscription {
    /// Whoever asks for more has put what it got before where the next flush takes it.
    fn answer_questions(&mut self) {
        if self.rest.is_some() {
            return;
        }
        let receipts = self.seated.seat().take_answered(|key| self.has_told(key));
        for receipt in receipts {
            let Some((outlet, version)) = &self.outlet else {
                receipt.sent();
                continue;
            };
            let mark = outlet.mark(*version);
            if *version == Version::HTTP_2 {
                self.nudge.wait_for(mark);
            }
            outlet.keep(mark, receipt);
        }
    }

    /// The consumer has been told what an instance is now, or need not be.
    fn has_told(&self, key: &InstanceKey) -> bool {
        let (catalog, nothing) = (self.node.catalog(), View::default());
        let now = catalog.view(&key.service).map_or(&nothing, |view| view);
        let told = match self.followed.iter().flatten().find(|following| *following.service() == key.service) {
            Some(following) => following.told(),
            None if self.opening.iter().any(|asked| asked.service == key.service) => return false,
            None => &nothing,
        };
        is_told(&self.request.selection, told, now, &key.id)
    }

    /// Over HTTP/2 a line that says nothing is to be said.
    fn is_nudge_due(&mut self, context: &Context<'_>) -> bool {
        self.outlet.as_ref().is_some_and(|(outlet, _)| self.nudge.is_due(outlet, context))
    }
}

/// How it is written.
impl Subscription {
    /// On a stream of one service an event's id is the revision; of several, once all are sent, the digest of what was sent.
    fn send(&mut self, event: &Event) -> Bytes {
        self.count(event.name());
        if self.request.is_of_one() {
            return event.whole();
        }
        self.rest = Some(event.data());
        event.head(self.id())
    }

    fn id(&self) -> Option<u128> {
        (self.phase == Phase::Live && !self.request.is_of_one()).then_some(self.sent)
    }

    fn count(&self, event: &'static str) {
        self.metrics.stream_events(event, 1);
    }

    /// Of the stream as a whole: whether a service is preserved stands in its own events.
    fn trust(&self) -> Trust {
        trust(&self.node.condition(), &self.node.clock(), false)
    }
}

impl Stream for Subscription {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.mailbox.listen(context);
        if let Some(roster) = &mut this.roster {
            roster.listen(context);
        }
        this.answer_questions();
        if let Some(bytes) = this.next() {
            return Poll::Ready(Some(Ok(bytes)));
        }
        if this.phase == Phase::Over {
            return Poll::Ready(None);
        }
        if this.comment.poll_tick(context).is_ready() || this.is_nudge_due(context) {
            return Poll::Ready(Some(Ok(rhythm::comment())));
        }
        Poll::Pending
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.metrics.streams.decrement(1.0);
    }
}
