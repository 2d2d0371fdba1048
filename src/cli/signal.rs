//! Signals: what asks a running verb to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::{Code, Failure};

/// SIGINT and SIGTERM, as they come.
pub(super) struct Asked {
    interrupt: Signal,
    terminate: Signal,
}

impl Asked {
    /// From now on these signals are heard here, and no longer end the process by themselves.
    pub(super) fn listen() -> Result<Self, Failure> {
        let heard = |kind| signal(kind).map_err(|error| Failure::new(Code::Failed, format!("signals cannot be heard: {error}")));
        Ok(Self { interrupt: heard(SignalKind::interrupt())?, terminate: heard(SignalKind::terminate())? })
    }

    /// Ends with the next of them.
    pub(super) async fn end(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
