//! Counting: a stream for consoles, which tells of each service how many instances have which status, and of no instance.
//!
//! It holds the catalog it has told, and tells what differs from the newest: what a service was in between nobody hears.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use imbl::ordmap::DiffItem;
use tokio::sync::watch;
use tokio::time::Interval;

use super::request::TEXT_BYTES_MAX;
use super::rhythm;
use crate::api::consume::Synced;
use crate::http::App;
use crate::http::consume::page;
use crate::http::consume::services::{service_counts, visible_from};
use crate::http::feed::{Open, plain};
use crate::http::problem::{FaultCode, Problem};
use crate::http::query::Query;
use crate::metrics::Metrics;
use crate::model::{Namespace, ServiceKey};
use crate::node::Condition;
use crate::registry::{Catalog, NodeState, View};
use crate::shutdown::Shutdown;

/// How long changes gather after some were told: people look at it, and a storm of changes is not to drown them.
const PAUSE: Duration = Duration::from_millis(250);

/// Which services are counted.
#[derive(Debug)]
pub(super) struct Request {
    /// Of which namespace; `None`: of all.
    namespace: Option<Namespace>,
    /// Whose names begin with one of these.
    prefixes: Vec<String>,
}

impl Request {
    /// Reads the query of a watch with `detail=counts`.
    ///
    /// # Errors
    /// A [`Problem`] with everything that is wrong.
    pub(super) fn read(mut query: Query) -> Result<Self, Problem> {
        let namespace = page::namespaces(&mut query);
        let mut prefixes = query.all("prefix");
        if prefixes.iter().any(|prefix| prefix.len() > TEXT_BYTES_MAX) {
            query.fault("prefix", FaultCode::InvalidValue, format!("may be at most {TEXT_BYTES_MAX} bytes"));
        }
        for name in query.all("service") {
            if name != "*" {
                query.fault("service", FaultCode::InvalidValue, "can only be `*` where services are counted; narrow it with `prefix`");
            }
            prefixes.push(String::new());
        }
        // Named or not: only the log would tell. Its events have no ids: there is nothing to resume.
        let _ = (query.one("client"), query.one("lastEventId"));
        query.finish()?;
        Ok(Self { namespace, prefixes })
    }

    fn covers(&self, service: &ServiceKey) -> bool {
        let is_prefixed = |prefix: &String| service.service.as_str().starts_with(prefix);
        self.namespace.as_ref().is_none_or(|namespace| service.namespace == *namespace)
            && (self.prefixes.is_empty() || self.prefixes.iter().any(is_prefixed))
    }
}

/// The stream's state between two events.
struct Counting {
    request: Request,
    catalogs: watch::Receiver<Arc<Catalog>>,
    conditions: watch::Receiver<Condition>,
    shutdown: Shutdown,
    metrics: Arc<Metrics>,
    _open: Open,
    /// What is told, or in `todo`.
    shown: Arc<Catalog>,
    /// Services whose counts are still to be told.
    todo: VecDeque<ServiceKey>,
    /// How many were told before the first `synced`.
    told: usize,
    phase: Phase,
    told_stale: bool,
    comments: Interval,
    /// Ready when it may look again.
    pace: Interval,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    New,
    Opening,
    Live,
    Over,
}

/// What a live stream waited for.
enum Woken {
    Comment,
    Changed,
    Condition,
    Stop,
}

/// The stream; `open` is its place among all.
pub(super) fn stream(app: &App, request: Request, open: Open) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
    let mut catalogs = app.node.follow_catalog();
    let shown = Arc::clone(&catalogs.borrow_and_update());
    let visible = visible_from(&shown, request.namespace.as_ref(), None).map(|(service, _)| service);
    let todo = visible.filter(|service| request.covers(service)).cloned().collect();
    app.metrics.streams.increment(1.0);
    let counting = Counting {
        catalogs,
        conditions: app.node.follow_condition(),
        shutdown: app.shutdown.clone(),
        metrics: Arc::clone(&app.metrics),
        _open: open,
        shown,
        todo,
        told: 0,
        phase: Phase::New,
        told_stale: false,
        comments: rhythm::comments(),
        pace: rhythm::every(PAUSE),
        request,
    };
    unfold(counting, async |mut counting| {
        let bytes = counting.next().await?;
        Some((Ok(bytes), counting))
    })
}

impl Counting {
    async fn next(&mut self) -> Option<Bytes> {
        match self.phase {
            Phase::New => {
                self.phase = Phase::Opening;
                Some(rhythm::retry())
            }
            Phase::Opening | Phase::Live => loop {
                if let Some(bytes) = self.tell_next() {
                    return Some(bytes);
                }
                // Until then there may be services of which the node does not know.
                if self.phase == Phase::Opening && self.conditions.borrow().knowledge.is_enough() {
                    self.phase = Phase::Live;
                    self.metrics.stream_events("synced", 1);
                    return Some(plain("synced", None, &Synced { services: self.told }));
                }
                match self.wait().await {
                    Woken::Comment => return Some(rhythm::comment()),
                    Woken::Changed => self.look().await,
                    Woken::Condition => {
                        let condition = *self.conditions.borrow_and_update();
                        if condition.state == NodeState::Leaving {
                            return Some(self.say_goodbye());
                        }
                        let is_stale = condition.stale_since.is_some();
                        if std::mem::replace(&mut self.told_stale, is_stale) != is_stale {
                            self.metrics.stream_events("notice", 1);
                            return Some(rhythm::notice(is_stale));
                        }
                    }
                    Woken::Stop => return Some(self.say_goodbye()),
                }
            },
            Phase::Over => None,
        }
    }

    async fn wait(&mut self) -> Woken {
        tokio::select! {
            changed = self.catalogs.changed() => if changed.is_ok() { Woken::Changed } else { Woken::Stop },
            changed = self.conditions.changed() => if changed.is_ok() { Woken::Condition } else { Woken::Stop },
            _ = self.comments.tick() => Woken::Comment,
            () = self.shutdown.begun() => Woken::Stop,
        }
    }

    /// Finds the services that differ from what is told; after a look the next one waits.
    async fn look(&mut self) {
        tokio::select! {
            _ = self.pace.tick() => {}
            () = self.shutdown.begun() => {}
        }
        let newest = Arc::clone(&self.catalogs.borrow_and_update());
        let request = &self.request;
        let changed = self.shown.services().diff(newest.services()).filter_map(|item| match item {
            DiffItem::Add(service, view) | DiffItem::Remove(service, view) => (!view.instances().is_empty()).then_some(service),
            DiffItem::Update { old: (_, old), new: (service, new) } => (old.revision() != new.revision()).then_some(service),
        });
        self.todo.extend(changed.filter(|service| request.covers(service)).cloned());
        self.shown = newest;
    }

    /// The counts of one service as they are now; of one that has emptied they are zero.
    fn tell_next(&mut self) -> Option<Bytes> {
        let service = self.todo.pop_front()?;
        let nothing = View::default();
        let view = self.shown.view(&service).map_or(&nothing, |view| view);
        self.told += 1;
        self.metrics.stream_events("counts", 1);
        Some(plain("counts", None, &service_counts(&service, view)))
    }

    fn say_goodbye(&mut self) -> Bytes {
        self.phase = Phase::Over;
        self.metrics.stream_events("goodbye", 1);
        rhythm::goodbye()
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.metrics.streams.decrement(1.0);
    }
}
