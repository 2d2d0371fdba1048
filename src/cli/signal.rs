//! Signals: what asks a running verb to end, or a node to read again what it can read again.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::{Code, Failure};

/// SIGINT, SIGTERM and SIGHUP, as they come.
pub(super) struct Asked {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    on_hangup: OnHangup,
    /// Taken so that a write past the limit of a file's length fails as any other, and ends nothing.
    _file_size: Option<Signal>,
}

/// The same on Linux and the BSDs, whatever the processor, but for MIPS.
const SIGXFSZ: i32 = 25;

/// What the next signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    /// The end.
    End,
    /// That the configuration is read again.
    Reload,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnHangup {
    End,
    Reload,
    /// `nohup` said so.
    Nothing,
}

impl Asked {
    /// For a verb that holds something: from now on these signals are heard here, and no longer end the process by themselves. SIGHUP, which
    /// a terminal that is closed sends, asks for the end as SIGTERM does, but not where the verb was started to outlive its terminal.
    pub(super) fn listen() -> Result<Self, Failure> {
        Self::with(if is_hangup_ignored() { OnHangup::Nothing } else { OnHangup::End })
    }

    /// For nodes: SIGHUP asks that the configuration is read again.
    pub(super) fn listen_to_reload() -> Result<Self, Failure> {
        Self::with(OnHangup::Reload)
    }

    fn with(on_hangup: OnHangup) -> Result<Self, Failure> {
        let heard = |kind| signal(kind).map_err(|error| Failure::new(Code::Failed, format!("signals cannot be heard: {error}")));
        Ok(Self {
            interrupt: heard(SignalKind::interrupt())?,
            terminate: heard(SignalKind::terminate())?,
            hangup: heard(SignalKind::hangup())?,
            on_hangup,
            // A system that has no such signal has no such end.
            _file_size: signal(SignalKind::from_raw(SIGXFSZ)).ok(),
        })
    }

    /// Ends with the next signal that asks for the end.
    pub(super) async fn end(&mut self) {
        while self.next().await != Asks::End {}
    }

    /// The next signal that asks for anything.
    pub(super) async fn next(&mut self) -> Asks {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return Asks::End,
                _ = self.terminate.recv() => return Asks::End,
                _ = self.hangup.recv() => match self.on_hangup {
                    OnHangup::End => return Asks::End,
                    OnHangup::Reload => return Asks::Reload,
                    OnHangup::Nothing => {}
                },
            }
        }
    }
}

/// SIGHUP was to be ignored when the process started. Where the system does not tell it was not.
fn is_hangup_ignored() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
    status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok())
        .is_some_and(|ignored| ignored & 1 == 1)
}
