//! The log of a process: lines on stderr that never block and never end whoever writes them.
//!
//! A line is formatted where it arises and put into a bounded queue; a thread of its own writes it. Where stderr is not read, or its
//! reader is gone, lines are lost and counted, and the loss is a line once lines can be written again. A place in the code that writes the
//! same line again and again is limited: what is left out is counted in the next line of that place.

mod limit;
mod sink;

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::reload;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

pub use limit::left_out;
pub use sink::{Stream, lost};

use limit::Limits;

/// How long the end of the process waits for lines that are not written yet.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// How lines are written.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// One JSON object a line instead of words.
    pub json: bool,
    /// With colours, where it is no JSON.
    pub coloured: bool,
}

type Reload = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// Replaces the filter of the log that was started.
static RELOAD: OnceLock<Reload> = OnceLock::new();

/// Why the log is not as it was asked to be; it is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The directives cannot be read.
    #[error("{0}")]
    Filter(#[from] ParseError),
    /// Something else has taken the process's log already.
    #[error("{0}")]
    Taken(#[from] TryInitError),
    /// It was not started.
    #[error("the log was not started")]
    NotStarted,
    /// The library refuses.
    #[error("{0}")]
    Refused(#[from] reload::Error),
}

/// Turns the log of this process on, on stderr. Panics are lines of it from then on.
///
/// # Errors
/// [`LogError`]; there is no log then.
pub fn start(directives: &str, style: Style) -> Result<(), LogError> {
    let (filter, handle) = reload::Layer::new(EnvFilter::try_new(directives)?);
    let limits = Limits::start(style.json);
    let layer = fmt::layer().with_writer(limits).with_target(true).log_internal_errors(false);
    let layer = if style.json { layer.json().flatten_event(true).boxed() } else { layer.with_ansi(style.coloured).boxed() };
    tracing_subscriber::registry().with(filter).with(layer).try_init()?;
    // A second start fails above.
    let _ = RELOAD.set(Box::new(move |filter| handle.reload(filter)));
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let backtrace = std::backtrace::Backtrace::capture();
        let shown = matches!(backtrace.status(), std::backtrace::BacktraceStatus::Captured).then(|| backtrace.to_string());
        tracing::error!(thread = thread.name(), backtrace = shown, "{panic}");
    }));
    Ok(())
}

/// Logs by other directives from now on.
///
/// # Errors
/// [`LogError`]; the directives from before hold.
pub fn reload(directives: &str) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(directives)?;
    RELOAD.get().ok_or(LogError::NotStarted)?(filter)?;
    Ok(())
}

/// Waits until all lines so far are written, for a second at the most: whoever does not read keeps no process.
pub fn flush() {
    limit::release_all();
    sink::flush(FLUSH_MAX);
}

/// Writes on one of the process's streams from a thread of its own; the caller never waits.
///
/// # Errors
/// What the system says, where there is no such stream or no thread.
pub fn write(stream: Stream, text: impl Into<Vec<u8>>) -> io::Result<()> {
    sink::of(stream)?.push(text.into());
    Ok(())
}
