//! Bodies in flight: what of requests has come and is not read yet, bounded over all connections. Memory is taken when bytes come, not when
//! a head promises them. Small bodies have a reserve of their own, so that heartbeats come in while large ones fill all else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;

/// A body up to so long may take from the reserve: a heartbeat, and most registrations.
const SMALL_BYTES: usize = 16 * 1024;
/// The reserve, as a part of the bound.
const RESERVE_PART: usize = 8;
/// What is taken at first: a small body is not moved while it comes.
const FIRST_BYTES: usize = 1024;

/// How much memory bodies may take yet.
#[derive(Debug)]
pub(super) struct Bodies {
    free: AtomicUsize,
    reserve: AtomicUsize,
}

/// A body as it comes.
pub(super) struct Body {
    bytes: Vec<u8>,
    charge: Charge,
}

/// What a body takes of the bound; given back when it is dropped.
struct Charge {
    bodies: Arc<Bodies>,
    free: usize,
    reserve: usize,
}

/// What is read whole, and its charge.
struct Whole {
    bytes: Vec<u8>,
    _charge: Charge,
}

impl Bodies {
    /// So many bytes for all bodies together, and the reserve besides.
    #[must_use]
    pub(super) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { free: AtomicUsize::new(bytes_max), reserve: AtomicUsize::new(bytes_max / RESERVE_PART) })
    }

    /// A body of which nothing has come; `bytes_max` is what its head promises, or may.
    pub(super) fn begin(self: &Arc<Self>) -> Body {
        Body { bytes: Vec::new(), charge: Charge { bodies: Arc::clone(self), free: 0, reserve: 0 } }
    }
}

impl Body {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes what has come; no more than `bytes_max` in all will come. False: there is no memory for it.
    #[must_use]
    pub(super) fn push(&mut self, data: &[u8], bytes_max: usize) -> bool {
        let needed = self.bytes.len() + data.len();
        if needed > self.bytes.capacity() {
            // Doubled, so that it is moved a few times only; what is said to come bounds it.
            let capacity = needed.max((self.bytes.capacity() * 2).max(FIRST_BYTES).min(bytes_max));
            if !self.charge.grow_to(capacity) {
                return false;
            }
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(data);
        true
    }

    /// All of it; its memory is given back with the last of the bytes.
    pub(super) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(Whole { bytes: self.bytes, _charge: self.charge })
    }
}

impl Charge {
    fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes - self.free - self.reserve;
        if take(&self.bodies.free, more) {
            self.free += more;
            return true;
        }
        let is_taken = bytes <= SMALL_BYTES && take(&self.bodies.reserve, more);
        self.reserve += if is_taken { more } else { 0 };
        is_taken
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.bodies.free.fetch_add(self.free, Relaxed);
        self.bodies.reserve.fetch_add(self.reserve, Relaxed);
    }
}

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn take(from: &AtomicUsize, bytes: usize) -> bool {
    from.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1 << 20;

    fn left(bodies: &Bodies) -> (usize, usize) {
        (bodies.free.load(Relaxed), bodies.reserve.load(Relaxed))
    }

    #[test]
    fn memory_is_taken_as_bytes_come_and_given_back_with_the_last_of_them() {
        let bodies = Bodies::new(MAX);
        let mut body = bodies.begin();
        assert!(body.push(b"{", 8 << 20));
        assert_eq!(left(&bodies), (MAX - FIRST_BYTES, MAX / RESERVE_PART));
        assert!(body.push(&vec![b' '; 100_000], 8 << 20));
        let bytes = body.into_bytes();
        assert_eq!(bytes.len(), 100_001);
        let tail = bytes.slice(99_999..);
        drop(bytes);
        assert!(left(&bodies).0 <= MAX - 100_000);
        drop(tail);
        assert_eq!(left(&bodies), (MAX, MAX / RESERVE_PART));
    }

    #[test]
    fn a_body_takes_no_more_than_what_is_said_to_come() {
        let bodies = Bodies::new(MAX);
        let mut body = bodies.begin();
        assert!(body.push(&[0; 900], 1500) && body.push(&[0; 200], 1500));
        assert_eq!((body.len(), left(&bodies).0), (1100, MAX - 1500));
    }

    #[test]
    fn small_bodies_come_in_where_large_ones_have_all_else() {
        let bodies = Bodies::new(MAX);
        let (mut large, mut more, mut small) = (bodies.begin(), bodies.begin(), bodies.begin());
        assert!(large.push(&vec![0; MAX], MAX));
        assert!(!more.push(&vec![0; SMALL_BYTES + 1], MAX), "one that is not small has no part in the reserve");
        assert!(small.push(b"{}", 2));
        let mut grown = bodies.begin();
        assert!(grown.push(&vec![0; SMALL_BYTES], MAX) && !grown.push(b"x", MAX), "nor one that was small");
        drop((large, more, small, grown));
        assert_eq!(left(&bodies), (MAX, MAX / RESERVE_PART));
    }
}
