//! A node's warm file from outside: its blocks, and the ids that stand in them as plain text.

use std::ops::Range;

/// What is before the first block, by the file's format.
pub(crate) const HEADER_BYTES: usize = 48;
/// What each block begins with.
const MARKER: [u8; 8] = [0xf5, b'M', b'S', b'T', b'R', 0xfa, b'\r', b'\n'];

/// The blocks of a file: where each stands, and whose records are in it.
pub(crate) fn blocks(file: &[u8]) -> Vec<(Range<usize>, Vec<String>)> {
    let mut starts: Vec<usize> = file.windows(MARKER.len()).enumerate().filter(|(_, bytes)| *bytes == MARKER).map(|(at, _)| at).collect();
    starts.push(file.len());
    starts.windows(2).map(|pair| (pair[0]..pair[1], ids_in(&file[pair[0]..pair[1]]))).collect()
}

/// The ids of the form `i00042` in some bytes, each with its length before it.
pub(crate) fn ids_in(bytes: &[u8]) -> Vec<String> {
    let is_id = |part: &&[u8]| part[0] == 6 && part[1] == b'i' && part[2..].iter().all(u8::is_ascii_digit);
    bytes.windows(7).filter(is_id).map(|part| String::from_utf8_lossy(&part[1..]).into_owned()).collect()
}
