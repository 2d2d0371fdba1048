//! A window onto a file that is read as a stream: as much of it as one block may take, and no more.

use std::io::{self, Read};

/// What of a stream is looked at.
pub(super) struct Window<R> {
    source: R,
    buffer: Vec<u8>,
    /// What stands before is passed.
    start: usize,
    /// How much is looked at at once.
    bytes: usize,
    has_ended: bool,
}

impl<R: Read> Window<R> {
    /// So many bytes are looked at at once.
    pub(super) fn new(source: R, bytes: usize) -> Self {
        Self { source, buffer: Vec::new(), start: 0, bytes, has_ended: false }
    }

    /// What is ahead: as many bytes as are looked at at once, fewer only at the end.
    ///
    /// # Errors
    /// The system's, when the source cannot be read.
    pub(super) fn ahead(&mut self) -> io::Result<&[u8]> {
        if self.buffer.len() - self.start < self.bytes && !self.has_ended {
            self.buffer.drain(..self.start);
            self.start = 0;
            // Twice as much, so that what is left is not moved for every block.
            let wanted = (2 * self.bytes - self.buffer.len()) as u64;
            let read = self.source.by_ref().take(wanted).read_to_end(&mut self.buffer)?;
            self.has_ended = (read as u64) < wanted;
        }
        let ahead = &self.buffer[self.start..];
        Ok(&ahead[..ahead.len().min(self.bytes)])
    }

    /// Passes so many bytes of what is ahead.
    pub(super) fn pass(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.buffer.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_stream_passes_by_in_order() {
        let bytes: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        for step in [1, 7, 64] {
            let mut window = Window::new(&bytes[..], 64);
            let mut seen = Vec::new();
            loop {
                let ahead = window.ahead().unwrap();
                assert!(ahead.len() == 64 || seen.len() + ahead.len() == bytes.len());
                if ahead.is_empty() {
                    break;
                }
                let passed = step.min(ahead.len());
                seen.extend_from_slice(&ahead[..passed]);
                window.pass(passed);
                assert!(window.buffer.len() <= 128);
            }
            assert_eq!(seen, bytes);
        }
    }
}
