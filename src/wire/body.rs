//! The one place that knows bincode: bodies to bytes and back, always within a limit.
//!
//! bincode 2.0.1 is the last there will be (RUSTSEC-2025-0141). The way out, should one be needed, is `wincode` with varints,
//! which writes the same bytes.

use bincode::config::{Configuration, Limit, LittleEndian, Varint, standard};
use serde::{Deserialize, Serialize};

use super::{FRAME_BYTES_MAX, Rejected, TooLarge};

/// bincode counts what values take in memory, not on the wire: a number of one byte may be read as sixteen.
const DECODED_BYTES_MAX: usize = 16 * FRAME_BYTES_MAX;

const CONFIGURATION: Configuration<LittleEndian, Varint, Limit<DECODED_BYTES_MAX>> = standard().with_limit::<DECODED_BYTES_MAX>();

/// Appends a body to a frame. Fails only when one of its lists is longer than its bound.
pub(super) fn write<T: Serialize>(body: &T, frame: &mut Vec<u8>) -> Result<(), TooLarge> {
    bincode::serde::encode_into_std_write(body, frame, CONFIGURATION).map(drop).map_err(|_| TooLarge)
}

/// Reads a body that must fill all of `bytes`; its texts are borrowed from them.
pub(super) fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Rejected> {
    let (body, consumed) = bincode::serde::borrow_decode_from_slice(bytes, CONFIGURATION).map_err(|_| Rejected::Malformed)?;
    if consumed == bytes.len() { Ok(body) } else { Err(Rejected::Leftover) }
}
