//! The limit of lines: a place in the code that logs again and again writes a few lines at once and then one in a while.
//!
//! The last line that was held back is written when its place may write again, with how many like it were left out before. So nothing from
//! outside, a connection, a peer, a system without file handles, can fill a disk with one sentence, and nothing is silent for it.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::sink::{self, Stream};
use crate::clock::Clock;

/// Of the lines of one place so many may come at once, and one more each [`Rate::every_ms`].
#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: u64,
    every_ms: u64,
}

/// Of warnings and errors.
const WARNINGS: Rate = Rate { burst: 10, every_ms: 10_000 };
/// Of what is only said: a cluster of many nodes greets each of them.
const REMARKS: Rate = Rate { burst: 100, every_ms: 1000 };

static LIMITS: OnceLock<Limits> = OnceLock::new();
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// How many lines the limit left out since the process started.
#[must_use]
pub fn left_out() -> u64 {
    LEFT_OUT.load(Ordering::Relaxed)
}

/// What each place has written lately: as many as there are places in the code that log.
pub(super) struct Limits {
    places: Mutex<HashMap<Identifier, Place>>,
    clock: Clock,
    json: bool,
}

#[derive(Debug)]
struct Place {
    rate: Rate,
    /// When its burst will be whole again, in milliseconds of the clock.
    whole_at: u64,
    /// The last line that it might not write.
    held: Option<Vec<u8>>,
    /// How many it might not write before that.
    left_out: u64,
}

/// One line in the making.
pub(super) struct Line<'a> {
    limits: &'a Limits,
    /// `None`: it is not limited.
    place: Option<(Identifier, Rate)>,
}

/// Writes what was held back and may be written now; the log's thread asks now and then.
pub(super) fn release_due() {
    if let Some(limits) = LIMITS.get() {
        limits.release(Place::takes);
    }
}

/// Writes all that is held back: the process ends.
pub(super) fn release_all() {
    if let Some(limits) = LIMITS.get() {
        limits.release(|_, _| true);
    }
}

impl Limits {
    /// The limits of this process's log.
    pub(super) fn start(json: bool) -> &'static Self {
        LIMITS.get_or_init(|| Self::new(json))
    }

    fn new(json: bool) -> Self {
        Self { places: Mutex::default(), clock: Clock::start(), json }
    }

    /// The line, where its place may write it now; else it is held back.
    fn admit(&self, id: Identifier, rate: Rate, line: &[u8], now: u64) -> bool {
        let mut places = self.places.lock();
        let place = places.entry(id).or_insert_with(|| Place { rate, whole_at: now, held: None, left_out: 0 });
        if place.held.is_none() && place.takes(now) {
            return true;
        }
        if place.held.replace(line.to_vec()).is_some() {
            place.left_out += 1;
            LEFT_OUT.fetch_add(1, Ordering::Relaxed);
        }
        false
    }

    fn release(&self, may: impl Fn(&mut Place, u64) -> bool) {
        let now = self.clock.mono();
        let mut due = Vec::new();
        for place in self.places.lock().values_mut() {
            if place.held.is_some() && may(place, now) {
                due.extend(place.held.take().map(|line| with_left_out(line, std::mem::take(&mut place.left_out), self.json)));
            }
        }
        due.into_iter().for_each(put);
    }
}

impl Place {
    /// Whether it may write one more now; if so that counts.
    fn takes(&mut self, now: u64) -> bool {
        let whole_at = self.whole_at.max(now) + self.rate.every_ms;
        let takes = whole_at <= now + self.rate.burst * self.rate.every_ms;
        if takes {
            self.whole_at = whole_at;
        }
        takes
    }
}

fn put(line: Vec<u8>) {
    // A process that has no stderr has nobody who reads it.
    if let Ok(sink) = sink::of(Stream::Stderr) {
        sink.push(line);
    }
}

/// A formatted line with one field more.
fn with_left_out(mut line: Vec<u8>, count: u64, json: bool) -> Vec<u8> {
    if count == 0 {
        return line;
    }
    let (end, field): (&[u8], _) =
        if json { (b"}\n", format!(",\"left_out_before\":{count}}}\n")) } else { (b"\n", format!(" left_out_before={count}\n")) };
    if line.ends_with(end) {
        line.truncate(line.len() - end.len());
        line.extend_from_slice(field.as_bytes());
    }
    line
}

impl<'a> MakeWriter<'a> for &'static Limits {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { limits: self, place: None }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Self::Writer {
        // Whoever asks for details is to get all of them.
        let rate = match *meta.level() {
            Level::ERROR | Level::WARN => Some(WARNINGS),
            Level::INFO => Some(REMARKS),
            Level::DEBUG | Level::TRACE => None,
        };
        Line { limits: self, place: rate.map(|rate| (meta.callsite(), rate)) }
    }
}

impl Write for Line<'_> {
    /// The formatter writes a line in one piece.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let is_admitted = match self.place.take() {
            Some((id, rate)) => self.limits.admit(id, rate, line, self.limits.clock.mono()),
            None => true,
        };
        if is_admitted {
            put(line.to_vec());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tracing::callsite::Callsite;
    use tracing::subscriber::Interest;

    use super::*;

    /// A place in the code, to have an identity.
    fn place() -> Identifier {
        struct Place;
        impl Callsite for Place {
            fn set_interest(&self, _: Interest) {}
            fn metadata(&self) -> &Metadata<'_> {
                unreachable!("nobody logs here")
            }
        }
        static PLACE: Place = Place;
        Identifier(&PLACE)
    }

    #[test]
    fn a_place_writes_its_burst_then_one_in_a_while_with_what_was_left_out() {
        let limits = Limits::new(false);
        let admitted = (0..1000).filter(|second| limits.admit(place(), WARNINGS, b"no files\n", 100_000 + second)).count();
        assert_eq!(admitted, 10);
        let mut places = limits.places.lock();
        let state = places.get_mut(&place()).unwrap();
        assert_eq!((state.held.as_deref(), state.left_out), (Some(&b"no files\n"[..]), 989));
        assert!(!state.takes(105_000), "its ten are used up");
        assert!(state.takes(110_000) && !state.takes(110_001), "one more after ten seconds");
        assert!((0..10).all(|_| state.takes(900_000)) && !state.takes(900_000), "a quiet place has its burst again, and no more");
    }

    #[test]
    fn what_was_left_out_is_a_field_of_the_line() {
        assert_eq!(with_left_out(b"no files\n".to_vec(), 3, false), b"no files left_out_before=3\n");
        assert_eq!(with_left_out(b"{\"a\":1}\n".to_vec(), 3, true), b"{\"a\":1,\"left_out_before\":3}\n");
        assert_eq!(with_left_out(b"no files\n".to_vec(), 0, false), b"no files\n");
    }
}
