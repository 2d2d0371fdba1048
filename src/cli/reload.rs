//! Reload: what a node reads again on SIGHUP. That is the files of `[http.tls]` and `log.filter`, and nothing else; whatever is wrong, what
//! held before holds.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::failure::Failure;
use super::serve::directives;
use crate::config::{Loaded, Origin, Setting};
use crate::log;

/// What is logged about it is shown whatever else is: whoever sends the signal is to see what came of it.
pub(super) const LOG_FILTER: &str = "muster::reload=info";

/// Reads the same sources again as the start did.
type Read = Box<dyn Fn() -> Result<Loaded, Failure> + Send + Sync>;

/// What a signal can change.
pub(super) struct Reload {
    read: Read,
    /// What the keys were at the last reading.
    settings: Mutex<Vec<Setting>>,
    /// One for each node that has a certificate.
    certificates: Vec<Arc<Notify>>,
}

impl Reload {
    /// `certificates`: whoever looks after one is woken here, and says itself what came of it.
    pub(super) fn new(read: Read, loaded: &Loaded, certificates: Vec<Arc<Notify>>) -> Arc<Self> {
        Arc::new(Self { read, settings: Mutex::new(loaded.settings()), certificates })
    }

    /// Reads all of it again, on a thread that may wait: a file may be slow, and signals are not.
    pub(super) fn begin(self: &Arc<Self>) {
        let reload = Arc::clone(self);
        tokio::task::spawn_blocking(move || reload.run());
    }

    fn run(&self) {
        let loaded = match (self.read)() {
            Ok(loaded) => loaded,
            Err(failure) => {
                let why = failure.to_string();
                tracing::warn!(target: "muster::reload", "SIGHUP: nothing is reloaded, what held before holds: {why}");
                return;
            }
        };
        let mut settings = self.settings.lock();
        let (mut reloaded, mut waiting) = (Vec::new(), Vec::new());
        for (before, now) in settings.iter_mut().zip(loaded.settings()) {
            // What nobody gave follows from what somebody did, and is no change of its own.
            let is_given = [&before.origin, &now.origin].iter().any(|origin| **origin != Origin::Default);
            if before.value == now.value || !is_given {
                continue;
            }
            if now.key == "log.filter" {
                if let Err(error) = log::reload(&directives(&loaded.config)) {
                    tracing::warn!(target: "muster::reload", "SIGHUP: log.filter is what it was: {error}");
                    continue;
                }
                reloaded.push(now.key);
                *before = now;
            } else {
                waiting.push(now.key);
            }
        }
        match reloaded.as_slice() {
            [] => tracing::info!(target: "muster::reload", "SIGHUP: log.filter is as it was"),
            keys => tracing::info!(target: "muster::reload", "SIGHUP: {} is reloaded: {}", keys.join(", "), loaded.config.log.filter),
        }
        if !waiting.is_empty() {
            tracing::warn!(target: "muster::reload", "SIGHUP: these keys changed and hold from the next start on: {}", waiting.join(", "));
        }
        for certificate in &self.certificates {
            certificate.notify_one();
        }
    }
}
