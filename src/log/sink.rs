//! A sink: a bounded queue of lines before a stream that may not be read, and the thread that writes them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::limit;
use crate::clock::Clock;

/// How much may wait to be written, about 8,000 lines; one line more is lost.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// The thread looks at what the limits hold back, and whether the loss of lines can be told, this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A stream that somebody made non-blocking is tried again after this long.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// Lines that were not written, of all sinks of this process.
static LOST: AtomicU64 = AtomicU64::new(0);

/// How many lines could not be written since the process started: nobody reads them, or not fast enough.
#[must_use]
pub fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// A stream of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Answers.
    Stdout,
    /// The log, and remarks.
    Stderr,
}

/// What waits to be written. Cheap to clone.
#[derive(Clone)]
pub(super) struct Sink(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    has_more: Condvar,
    is_idle: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines were lost since the last time that was told.
    lost: u64,
    is_writing: bool,
}

/// The sink of a stream, started when it is first needed.
pub(super) fn of(stream: Stream) -> io::Result<&'static Sink> {
    let place = place_of(stream);
    if let Some(sink) = place.get() {
        return Ok(sink);
    }
    // Not through the standard handles: whoever waits for their lock would wait for the reader too.
    let handle: OwnedFd = match stream {
        Stream::Stdout => io::stdout().as_fd().try_clone_to_owned()?,
        Stream::Stderr => io::stderr().as_fd().try_clone_to_owned()?,
    };
    let sink = Sink::start(File::from(handle), stream == Stream::Stderr)?;
    Ok(place.get_or_init(|| sink))
}

fn place_of(stream: Stream) -> &'static OnceLock<Sink> {
    static STDOUT: OnceLock<Sink> = OnceLock::new();
    static STDERR: OnceLock<Sink> = OnceLock::new();
    match stream {
        Stream::Stdout => &STDOUT,
        Stream::Stderr => &STDERR,
    }
}

/// Waits until what waits in any sink is written, for `limit` at the most in all.
pub(super) fn flush(limit: Duration) {
    let began = Clock::start().instant();
    for stream in [Stream::Stdout, Stream::Stderr] {
        if let Some(sink) = place_of(stream).get() {
            sink.flush(limit.saturating_sub(began.elapsed()));
        }
    }
}

impl Sink {
    /// Starts the thread that writes. `is_log`: it looks after the limits of the log, and its losses are told in it.
    pub(super) fn start(output: impl Write + Send + 'static, is_log: bool) -> io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), has_more: Condvar::new(), is_idle: Condvar::new() });
        let sink = Self(Arc::clone(&shared));
        std::thread::Builder::new().name("log".to_owned()).spawn(move || shared.run(output, is_log))?;
        Ok(sink)
    }

    /// Puts lines in the queue; where there is no room they are lost.
    pub(super) fn push(&self, lines: Vec<u8>) {
        let mut queue = self.0.queue.lock();
        if queue.bytes + lines.len() > WAITING_BYTES_MAX {
            queue.lose();
            return;
        }
        queue.bytes += lines.len();
        queue.lines.push_back(lines);
        drop(queue);
        self.0.has_more.notify_one();
    }

    fn flush(&self, limit: Duration) {
        let mut queue = self.0.queue.lock();
        self.0.is_idle.wait_while_for(&mut queue, |queue| queue.is_writing || !queue.lines.is_empty(), limit);
    }
}

impl Queue {
    fn lose(&mut self) {
        self.lost += 1;
        LOST.fetch_add(1, Ordering::Relaxed);
    }
}

impl Shared {
    fn run(&self, mut output: impl Write, is_log: bool) {
        let clock = Clock::start();
        let mut looked_at = clock.instant();
        loop {
            let lines = self.next();
            // However many lines come, what was held back and what was lost is told in its time.
            if is_log && clock.instant().duration_since(looked_at) >= LOOK_EVERY {
                looked_at = clock.instant();
                limit::release_due();
                self.tell_lost();
            }
            let Some(lines) = lines else { continue };
            let is_written = write(&mut output, &lines).is_ok();
            let mut queue = self.queue.lock();
            queue.is_writing = false;
            if !is_written {
                queue.lose();
            }
            if queue.lines.is_empty() {
                self.is_idle.notify_all();
            }
        }
    }

    /// The next lines; `None` after a while without any.
    fn next(&self) -> Option<Vec<u8>> {
        let mut queue = self.queue.lock();
        if queue.lines.is_empty() {
            self.has_more.wait_for(&mut queue, LOOK_EVERY);
        }
        let lines = queue.lines.pop_front()?;
        queue.bytes -= lines.len();
        queue.is_writing = true;
        Some(lines)
    }

    /// The loss itself is a line: where that cannot be written either it is lost and counted as any other, and told once one can.
    fn tell_lost(&self) {
        let lines = std::mem::take(&mut self.queue.lock().lost);
        if lines > 0 {
            tracing::warn!(lines, "lines of the log were lost: whoever reads stderr does not read, or not as fast as they come");
        }
    }
}

/// Writes all of it, however long the reader takes. What was cut by an error is one lost line.
fn write(output: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(RETRY_AFTER),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that can stop to read, and go away.
    #[derive(Clone, Default)]
    struct Reader(Arc<(Mutex<State>, Condvar)>);

    #[derive(Default)]
    struct State {
        read: Vec<u8>,
        is_stopped: bool,
        is_gone: bool,
    }

    impl Reader {
        fn set(&self, set: impl FnOnce(&mut State)) {
            set(&mut self.0.0.lock());
            self.0.1.notify_all();
        }
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.0.0.lock();
            self.0.1.wait_while(&mut state, |state| state.is_stopped);
            if state.is_gone {
                return Err(ErrorKind::BrokenPipe.into());
            }
            state.read.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_reader_that_stops_makes_nobody_wait_and_what_has_no_room_is_counted() {
        let reader = Reader::default();
        reader.set(|state| state.is_stopped = true);
        let sink = Sink::start(reader.clone(), false).unwrap();
        for _ in 0..3 * WAITING_BYTES_MAX / 1024 {
            sink.push(vec![b'x'; 1024]);
        }
        sink.flush(Duration::from_millis(50));
        let lost = sink.0.queue.lock().lost;
        assert!((2 * 1024 - 1..=2 * 1024).contains(&lost), "{lost}");
        reader.set(|state| state.is_stopped = false);
        sink.flush(LONG);
        let read = reader.0.0.lock().read.len() as u64;
        assert_eq!(read / 1024 + lost, 3 * 1024, "what was not lost was written");
    }

    #[test]
    fn a_reader_that_is_gone_loses_lines_and_one_that_comes_back_reads_the_next() {
        let reader = Reader::default();
        reader.set(|state| state.is_gone = true);
        let sink = Sink::start(reader.clone(), false).unwrap();
        sink.push(b"a\n".to_vec());
        sink.flush(LONG);
        assert_eq!(sink.0.queue.lock().lost, 1);
        reader.set(|state| state.is_gone = false);
        sink.push(b"b\n".to_vec());
        sink.flush(LONG);
        assert_eq!(reader.0.0.lock().read, b"b\n");
    }

    #[test]
    fn what_was_lost_is_told_while_lines_go_on() {
        let sink = Sink::start(Reader::default(), true).unwrap();
        sink.0.queue.lock().lose();
        let is_told = (0..200).any(|_| {
            sink.push(b"a\n".to_vec());
            std::thread::sleep(Duration::from_millis(100));
            sink.0.queue.lock().lost == 0
        });
        assert!(is_told);
    }
}
