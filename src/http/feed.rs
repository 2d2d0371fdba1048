//! Feeds: what has changed, encoded once, for all the streams that follow it.

mod audience;
mod bucket;
mod delivery;
mod event;
mod follow;
mod history;
mod mailbox;
mod mood;
mod step;
#[cfg(test)]
pub(in crate::http) mod testing;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use imbl::ordmap::DiffItem;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

pub(in crate::http) use audience::{Audience, Held, Seated};
#[cfg(test)]
pub(in crate::http) use delivery::Delivery;
pub(in crate::http) use delivery::{Receipt, is_told};
pub(in crate::http) use event::{Event, plain};
pub(in crate::http) use follow::{Feed, Following};
pub(in crate::http) use mailbox::{Mailbox, Place};
pub(in crate::http) use mood::{Mood, Open, trust};

use bucket::Bucket;
use history::History;

use crate::clock::Clock;
use crate::config::WatchConfig;
use crate::model::{Selection, ServiceKey};
use crate::node::Handle;
use crate::registry::{Catalog, View};
use crate::shutdown::Shutdown;

/// How long the historian gathers: of a service that changes more often than this, only the views that streams were told are kept.
const HISTORIAN_PAUSE: Duration = Duration::from_millis(20);

/// How many services the historian looks after at a time: in a storm of changes it is the quiet services that matter.
const HISTORIAN_SERVICES_MAX: usize = 256;

type FeedKey = (ServiceKey, Selection);

/// Every feed of a node. A feed lives as long as somebody follows it.
#[derive(Clone)]
pub(in crate::http) struct Feeds(Arc<Parts>);

struct Parts {
    node: Handle,
    shutdown: Shutdown,
    config: WatchConfig,
    history: Arc<Mutex<History>>,
    feeds: Mutex<HashMap<FeedKey, Weak<Feed>>>,
    mood: Arc<Mood>,
    audience: Arc<Audience>,
}

impl Feeds {
    /// No feeds yet, and the tasks that all of them need.
    pub(in crate::http) fn start(node: Handle, config: WatchConfig, shutdown: Shutdown) -> Self {
        let history = Arc::new(Mutex::new(History::new(config.views_kept)));
        let mut conditions = node.follow_condition();
        let mood = Arc::new(Mood::new(config.streams_max));
        mood.take(*conditions.borrow_and_update());
        shutdown.spawn("historian", keep_history(node.follow_catalog(), Arc::clone(&history), shutdown.clone()));
        shutdown.spawn("crier", mood::cry(Arc::clone(&mood), conditions, shutdown.clone()));
        let audience = Arc::default();
        if let Some(asked) = node.serve_deliveries() {
            shutdown.spawn("deliveries", delivery::serve(node.clone(), Arc::clone(&audience), asked, shutdown.clone()));
        }
        Self(Arc::new(Parts { node, shutdown, config, history, feeds: Mutex::default(), mood, audience }))
    }

    /// What concerns every stream.
    pub(in crate::http) fn mood(&self) -> &Arc<Mood> {
        &self.0.mood
    }

    /// Who is here.
    pub(in crate::http) fn audience(&self) -> &Arc<Audience> {
        &self.0.audience
    }

    /// The feed of this service under this selection; a new one where nobody follows it yet.
    pub(in crate::http) fn of(&self, service: &ServiceKey, selection: &Selection) -> Arc<Feed> {
        let key = (service.clone(), selection.clone());
        let mut feeds = self.0.feeds.lock();
        if let Some(feed) = feeds.get(&key).and_then(Weak::upgrade) {
            return feed;
        }
        let (alive, gone) = oneshot::channel();
        let cell = self.0.node.follow(service);
        let feed = Arc::new(Feed::new(key.0.clone(), key.1.clone(), cell.clone(), Arc::clone(&self.0.history), alive));
        feeds.insert(key.clone(), Arc::downgrade(&feed));
        drop(feeds);
        self.0.shutdown.spawn("feed", self.clone().run(key, Arc::downgrade(&feed), cell, gone));
        feed
    }

    /// How many feeds there are.
    #[cfg(test)]
    pub(in crate::http) fn count(&self) -> usize {
        self.0.feeds.lock().len()
    }

    async fn run(self, key: FeedKey, feed: Weak<Feed>, cell: watch::Receiver<Arc<View>>, mut gone: oneshot::Receiver<Infallible>) {
        let bucket = Bucket::new(self.0.config.burst, self.0.config.coalesce_ms);
        let clock = self.0.node.clock();
        tokio::select! {
            () = tell_all(feed, cell, bucket, clock) => {}
            _ = &mut gone => {}
            () = self.0.shutdown.begun() => {}
        }
        let mut feeds = self.0.feeds.lock();
        if feeds.get(&key).is_some_and(|feed| feed.strong_count() == 0) {
            feeds.remove(&key);
        }
    }
}

/// Tells a feed's followers of each change, as the bucket allows.
async fn tell_all(feed: Weak<Feed>, mut cell: watch::Receiver<Arc<View>>, mut bucket: Bucket, clock: Clock) {
    while cell.changed().await.is_ok() {
        loop {
            match bucket.wait_ms(clock.mono()) {
                0 => break,
                wait => tokio::time::sleep(Duration::from_millis(wait)).await,
            }
        }
        cell.mark_unchanged();
        let Some(feed) = feed.upgrade() else { return };
        if feed.tell() {
            bucket.spend(clock.mono());
        }
    }
}

/// Keeps the views that newer ones replace, also of services that nobody follows here: a consumer may come from another node.
async fn keep_history(mut catalogs: watch::Receiver<Arc<Catalog>>, history: Arc<Mutex<History>>, shutdown: Shutdown) {
    let mut last = Arc::clone(&catalogs.borrow_and_update());
    loop {
        tokio::select! {
            changed = catalogs.changed() => if changed.is_err() { return },
            () = shutdown.begun() => return,
        }
        let newest = Arc::clone(&catalogs.borrow_and_update());
        keep_replaced(&history, &last, &newest);
        last = newest;
        tokio::time::sleep(HISTORIAN_PAUSE).await;
    }
}

fn keep_replaced(history: &Mutex<History>, old: &Catalog, new: &Catalog) {
    for item in old.services().diff(new.services()).take(HISTORIAN_SERVICES_MAX) {
        match item {
            DiffItem::Update { old: (service, view), .. } | DiffItem::Remove(service, view) => history.lock().keep(service, view),
            DiffItem::Add(..) => {}
        }
    }
}
