//! The HTTP door: one listener, one edge that every request passes, and the routes of the API behind it.

pub mod body;
pub mod extract;
pub mod problem;
pub mod query;

use std::ops::Deref;
use std::sync::Arc;

use crate::config::Config;
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
}

impl App {
    /// The door to this node.
    #[must_use]
    pub fn new(node: Handle, config: Arc<Config>, shutdown: Shutdown) -> Self {
        Self(Arc::new(Parts { node, config, shutdown }))
    }
}

impl Deref for App {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}
