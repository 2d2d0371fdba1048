//! A roster: which services there are, for streams that ask for whole families of them.

use std::sync::Arc;
use std::task::{Context, Poll};

use imbl::ordmap::DiffItem;
use tokio::sync::watch;
use tokio_util::sync::ReusableBoxFuture;

use crate::model::ServiceKey;
use crate::registry::{Catalog, View};

type Catalogs = watch::Receiver<Arc<Catalog>>;

/// Follows the catalog, and knows what it has said.
pub(super) struct Roster {
    catalogs: Catalogs,
    last: Arc<Catalog>,
    /// Services whose absence is to be looked at again.
    doubted: Vec<ServiceKey>,
    changed: ReusableBoxFuture<'static, Catalogs>,
}

impl Roster {
    pub(super) fn new(mut catalogs: Catalogs) -> Self {
        let last = Arc::clone(&catalogs.borrow_and_update());
        let changed = ReusableBoxFuture::new(change(catalogs.clone()));
        Self { catalogs, last, doubted: Vec::new(), changed }
    }

    /// Every service with a visible instance, in order.
    pub(super) fn visible(&self) -> impl Iterator<Item = &ServiceKey> {
        self.last.services().iter().filter(|(_, view)| is_visible(view)).map(|(service, _)| service)
    }

    /// The services with a visible instance that may be new since the last question.
    pub(super) fn appeared(&mut self) -> Vec<ServiceKey> {
        let newest = Arc::clone(&self.catalogs.borrow_and_update());
        let mut appeared = std::mem::take(&mut self.doubted);
        appeared.retain(|service| newest.view(service).is_some_and(is_visible));
        if Arc::ptr_eq(&self.last, &newest) {
            return appeared;
        }
        appeared.extend(self.last.services().diff(newest.services()).filter_map(|item| match item {
            DiffItem::Add(service, view) | DiffItem::Update { new: (service, view), .. } if is_visible(view) => Some(service.clone()),
            DiffItem::Add(..) | DiffItem::Update { .. } | DiffItem::Remove(..) => None,
        }));
        self.last = newest;
        appeared
    }

    /// This service was let go of: it may have come back already, in a catalog that was looked at before.
    pub(super) fn doubt(&mut self, service: ServiceKey) {
        self.doubted.push(service);
    }

    /// Asks to be woken when the catalog changes.
    pub(super) fn listen(&mut self, context: &mut Context<'_>) {
        while let Poll::Ready(catalogs) = self.changed.poll(context) {
            if catalogs.has_changed().is_err() {
                // The node is gone: the future that never ends, so that the stream waits for its goodbye.
                self.changed.set(std::future::pending());
            } else {
                self.changed.set(change(catalogs));
            }
        }
    }
}

fn is_visible(view: &Arc<View>) -> bool {
    !view.instances().is_empty()
}

async fn change(mut catalogs: Catalogs) -> Catalogs {
    // An error is seen by whoever asks the receiver again.
    let _ = catalogs.changed().await;
    catalogs
}
