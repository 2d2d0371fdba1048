//! The HTTP door: one listener, one edge that every request passes, and the routes of the API behind it.

mod actor;
mod attach;
mod batch;
mod bodies;
pub mod body;
mod connection;
mod consume;
mod contract;
mod drain;
pub mod edge;
mod events;
pub mod extract;
pub mod fault;
mod feed;
mod http2_heads;
mod index;
mod jitter;
mod line;
pub mod listener;
mod operate;
mod origin;
mod outlet;
mod overrides;
mod params;
mod places;
pub mod problem;
mod provide;
pub mod query;
mod request_id;
mod said;
mod select;
mod socket;
mod templates;
mod tls;
mod unread;
mod waits;
mod watch;
mod write;

use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::Semaphore;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

pub use edge::Edge;
pub use listener::Bound;
pub use tls::{Tls, TlsError};

use crate::config::Config;
use crate::metrics::{self, Metrics};
use crate::node::Handle;
use crate::shutdown::Shutdown;

/// What every handler reaches: one pointer, cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// What an [`App`] holds.
pub struct Parts {
    /// The node that answers.
    pub node: Handle,
    /// As it was configured.
    pub config: Arc<Config>,
    /// Streams and held polls end when this begins.
    pub shutdown: Shutdown,
    /// The node's numbers.
    pub metrics: Arc<Metrics>,
    /// What streams follow.
    feeds: feed::Feeds,
    /// Places for connections that hold leases.
    attachments: Arc<Semaphore>,
    /// Lists as they were sent last.
    lists: consume::Lists,
    /// Memory for what of requests is coming.
    bodies: Arc<bodies::Bodies>,
}

impl App {
    /// The door to this node; to be made within a runtime.
    #[must_use]
    pub fn new(node: Handle, config: Arc<Config>, shutdown: Shutdown) -> Self {
        let metrics = metrics::of(node.name().as_str());
        let feeds = feed::Feeds::start(node.clone(), config.watch.clone(), shutdown.clone());
        let attachments = Arc::new(Semaphore::new(config.leases.attachments_max.min(Semaphore::MAX_PERMITS)));
        let bodies = bodies::Bodies::new(config.http.bodies_bytes_max);
        Self(Arc::new(Parts { node, config, shutdown, metrics, feeds, attachments, lists: consume::Lists::new(), bodies }))
    }
}

impl Deref for App {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// The API's description: the routes', and what stands above them.
#[must_use]
pub fn openapi() -> OpenApi {
    let mut openapi = routes().into_openapi();
    index::describe(&mut openapi);
    openapi
}

fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(provide::routes())
        .merge(attach::routes())
        .merge(batch::routes())
        .merge(drain::routes())
        .merge(operate::routes())
        .merge(overrides::routes())
        .merge(index::routes())
        .merge(consume::routes())
        .merge(watch::routes())
        .merge(events::routes())
}

#[cfg(test)]
mod tests;
