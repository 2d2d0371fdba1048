//! Heads over HTTP/2: whether a part of a request's head is missing, from the frames as they come (RFC 9113, section 4.1 and 6.2).
//!
//! The library waits for the rest of a frame, and for the frames that continue a head, as long as it takes; on one connection nothing else
//! may come in between, the answers to its pings included.

/// Follows a connection's frames from its preface on.
#[derive(Debug)]
pub(super) struct Http2Heads {
    /// Of the preface, and then of the frame that is coming, so many bytes are still to come.
    rest: usize,
    head: [u8; FRAME_HEAD_BYTES],
    /// So many bytes of the next frame's own head have come.
    head_bytes: usize,
    /// The frame that is coming belongs to a request's head.
    is_of_head: bool,
    /// The last frame of a request's head is still to come.
    is_open: bool,
}

const PREFACE_BYTES: usize = 24;
const FRAME_HEAD_BYTES: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

impl Default for Http2Heads {
    fn default() -> Self {
        Self { rest: PREFACE_BYTES, head: [0; FRAME_HEAD_BYTES], head_bytes: 0, is_of_head: false, is_open: false }
    }
}

impl Http2Heads {
    /// Takes what came, and says whether a part of a head is missing now.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let taken = self.rest.min(bytes.len());
                self.rest -= taken;
                bytes = &bytes[taken..];
                continue;
            }
            self.head[self.head_bytes] = bytes[0];
            self.head_bytes += 1;
            bytes = &bytes[1..];
            if self.head_bytes == FRAME_HEAD_BYTES {
                self.begin_frame();
            }
        }
        self.is_open || (self.is_of_head && self.rest > 0)
    }

    fn begin_frame(&mut self) {
        let [a, b, c, kind, flags, ..] = self.head;
        self.rest = u32::from_be_bytes([0, a, b, c]) as usize;
        self.head_bytes = 0;
        self.is_of_head = matches!(kind, HEADERS | CONTINUATION);
        if self.is_of_head {
            self.is_open = flags & END_HEADERS == 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        bytes.extend(vec![b'x'; length.into()]);
        bytes
    }

    #[test]
    fn a_head_is_missing_a_part_until_its_last_frame_is_whole() {
        let mut heads = Http2Heads::default();
        let mut take = |bytes: &[u8]| heads.take(bytes);
        assert!(!take(&[b'P'; 10]) && !take(&[b'P'; 14]), "the preface");
        assert!(!take(&frame(4, 0, 6)), "settings");
        let headers = frame(HEADERS, END_HEADERS, 20);
        assert!(!take(&headers[..5]) && take(&headers[5..12]) && !take(&headers[12..]), "in pieces");
        assert!(take(&frame(HEADERS, 0, 3)), "to be continued");
        assert!(take(&frame(CONTINUATION, 0, 3)) && !take(&frame(CONTINUATION, END_HEADERS, 0)));
        assert!(!take(&frame(0, 0, 9)[..12]), "a body may come slowly");
        let whole = [frame(0, 0, 9)[12..].to_vec(), frame(HEADERS, END_HEADERS, 1), frame(6, 0, 8)].concat();
        assert!(!take(&whole));
    }

    #[test]
    fn bytes_one_by_one_are_the_same_as_at_once() {
        let bytes =
            [vec![0; PREFACE_BYTES], frame(HEADERS, 0, 5), frame(CONTINUATION, END_HEADERS, 7), frame(HEADERS, END_HEADERS, 2)].concat();
        for end in 0..=bytes.len() {
            let (mut at_once, mut one_by_one) = (Http2Heads::default(), Http2Heads::default());
            let last = bytes[..end].iter().fold(false, |_, byte| one_by_one.take(&[*byte]));
            assert_eq!(at_once.take(&bytes[..end]), last, "{end}");
        }
    }
}
