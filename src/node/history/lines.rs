//! Lines: events on disk, one a line with its checksum, in two files of bounded size: when the newer one is full the older one goes.
//!
//! What is damaged or cut costs the lines it touches and no others. Nothing here is forced to the disk: a machine that loses its power
//! may lose the last seconds.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::event::Event;
use crate::node::private_file;

/// How long one file gets; there are at most two.
pub(super) const FILE_BYTES_MAX: u64 = 16 << 20;

/// The file that is written to.
pub(super) const CURRENT: &str = "events";
/// The one before it.
pub(super) const PREVIOUS: &str = "events.previous";

/// Lets go of what is written, the older file first: the disk is full, and something else there matters more. False: nothing was left to
/// let go of.
pub(super) fn make_room(folder: &Path) -> bool {
    if fs::remove_file(folder.join(PREVIOUS)).is_ok() {
        return true;
    }
    // Whoever has it open goes on at its beginning.
    let emptied = private_file::append(&folder.join(CURRENT)).and_then(|file| {
        let had_any = file.metadata()?.len() > 0;
        file.set_len(0).map(|()| had_any)
    });
    emptied.unwrap_or(false)
}

/// Appends events.
#[derive(Debug)]
pub(super) struct Lines {
    folder: PathBuf,
    /// `None`: it is opened with the next write.
    file: Option<(File, u64)>,
    file_bytes_max: u64,
}

impl Lines {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, file: None, file_bytes_max: FILE_BYTES_MAX }
    }

    /// Appends events in one piece. After an error some of it may be there; the next write begins on a line of its own.
    pub(super) fn append(&mut self, events: &[Event]) -> io::Result<()> {
        let bytes: Vec<u8> = events.iter().flat_map(to_line).collect();
        let (mut file, length) = match self.file.take() {
            Some(open) => open,
            None => open(&self.folder)?,
        };
        let is_full = length > 0 && length + bytes.len() as u64 > self.file_bytes_max;
        let mut length = length;
        if is_full {
            fs::rename(self.folder.join(CURRENT), self.folder.join(PREVIOUS))?;
            (file, length) = open(&self.folder)?;
        }
        file.write_all(&bytes)?;
        self.file = Some((file, length + bytes.len() as u64));
        Ok(())
    }
}

/// Opens the file at its end, which is the beginning of a line.
fn open(folder: &Path) -> io::Result<(File, u64)> {
    let mut file = private_file::append(&folder.join(CURRENT))?;
    let mut length = file.seek(SeekFrom::End(0))?;
    if length > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            length += 1;
        }
    }
    Ok((file, length))
}

/// What is there, the oldest first, and how many lines could not be read. A file that cannot be read at all is said in the log.
pub(super) fn read(folder: &Path) -> (Vec<Event>, usize) {
    let (mut events, mut lost) = (Vec::new(), 0);
    for name in [PREVIOUS, CURRENT] {
        let path = folder.join(name);
        let bytes = match read_end(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "this file of events cannot be read: the node starts without them");
                continue;
            }
        };
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match from_line(line) {
                Some(event) => events.push(event),
                None => lost += 1,
            }
        }
    }
    (events, lost)
}

/// A file, or as much of its end as we write: one that something else has made longer is not taken into memory whole.
fn read_end(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = private_file::read(path)?;
    let length = file.metadata()?.len();
    // One write more than the limit can stand in it.
    file.seek(SeekFrom::Start(length.saturating_sub(2 * FILE_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.take(2 * FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Eight hex digits, a space, the event.
fn to_line(event: &Event) -> Vec<u8> {
    let json = event.to_json();
    let mut line = format!("{:08x} ", crc32c::crc32c(&json)).into_bytes();
    line.extend_from_slice(&json);
    line.push(b'\n');
    line
}

fn from_line(line: &[u8]) -> Option<Event> {
    let (sum, json) = line.split_at_checked(9)?;
    let sum = u32::from_str_radix(str::from_utf8(sum).ok()?.strip_suffix(' ')?, 16).ok()?;
    if sum == crc32c::crc32c(json) { Event::from_json(json) } else { None }
}

#[cfg(test)]
mod tests {
    use super::super::testing::event;
    use super::*;

    fn seqs(folder: &Path) -> (Vec<u64>, usize) {
        let (events, lost) = read(folder);
        (events.iter().map(|event| event.seq).collect(), lost)
    }

    fn written(folder: &Path, seqs: std::ops::RangeInclusive<u64>) -> Lines {
        let mut lines = Lines::new(folder.to_owned());
        for seq in seqs {
            lines.append(&[event("a", seq)]).unwrap();
        }
        lines
    }

    #[test]
    fn what_was_written_is_read_and_written_on() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(seqs(folder.path()), (vec![], 0));
        written(folder.path(), 1..=2);
        written(folder.path(), 3..=3);
        assert_eq!(seqs(folder.path()), (vec![1, 2, 3], 0));
    }

    #[test]
    fn two_files_are_kept_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let line = to_line(&event("a", 10)).len() as u64;
        let mut lines = Lines { file_bytes_max: 3 * line, ..Lines::new(folder.path().to_owned()) };
        for seq in 10..=17 {
            lines.append(&[event("a", seq)]).unwrap();
        }
        assert_eq!(seqs(folder.path()), (vec![13, 14, 15, 16, 17], 0));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn room_is_made_by_the_older_file_first_and_what_comes_then_is_written() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!make_room(folder.path()));
        let mut lines = written(folder.path(), 1..=2);
        fs::rename(folder.path().join(CURRENT), folder.path().join(PREVIOUS)).unwrap();
        drop(lines);
        lines = written(folder.path(), 3..=4);
        assert!(make_room(folder.path()));
        assert_eq!(seqs(folder.path()), (vec![3, 4], 0));
        assert!(make_room(folder.path()));
        assert!(!make_room(folder.path()), "all is gone");
        lines.append(&[event("a", 5)]).unwrap();
        assert_eq!(seqs(folder.path()), (vec![5], 0));
    }

    #[test]
    fn a_cut_or_a_flipped_bit_costs_the_line_it_touches() {
        let folder = tempfile::tempdir().unwrap();
        written(folder.path(), 1..=5);
        let path = folder.path().join(CURRENT);
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(7) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x20;
            fs::write(&path, &damaged).unwrap();
            let (read, _) = read(folder.path());
            // A flipped line's end costs both lines it parted.
            assert!(read.len() >= 3 && read.iter().all(|read| *read == event("a", read.seq)), "{at}: {read:?}");
        }
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            let complete = String::from_utf8_lossy(&whole[..end]).matches('\n').count();
            let (read, _) = seqs(folder.path());
            assert!(read.len() >= complete && read.len() <= complete + 1, "{end}");
            written(folder.path(), 9..=9);
            assert_eq!(seqs(folder.path()).0.last(), Some(&9), "{end}: what is written after a cut stands alone");
        }
    }

    #[test]
    fn a_write_that_fails_is_told_and_the_next_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("gone");
        let mut lines = Lines::new(inner.clone());
        assert!(lines.append(&[event("a", 1)]).is_err());
        fs::create_dir(&inner).unwrap();
        lines.append(&[event("a", 2)]).unwrap();
        assert_eq!(seqs(&inner), (vec![2], 0));
    }
}
