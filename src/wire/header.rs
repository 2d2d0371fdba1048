//! The header: what every frame begins with, at fixed places, little-endian.
//!
//! | at | bytes | what |
//! |---:|---:|---|
//! | 0 | 4 | magic, `MSTR` |
//! | 4 | 1 | major version |
//! | 5 | 1 | minor version |
//! | 6 | 1 | kind |
//! | 7 | 1 | codec of the body |
//! | 8 | 2 | shard, 0 |
//! | 10 | 2 | reserved, 0 |
//! | 12 | 4 | length of the body |
//! | 16 | 16 | cluster: xxh3-128 of its name |
//! | 32 | 8 | epoch |
//! | 40 | 8 | seq |
//! | 48 | 64 | origin: a length byte, the name, zeros |
//! | 112 | 4 | CRC-32C of all else, header and body |
//!
//! Magic, major version and cluster stand where they stand in every version to come.

use super::Rejected;
use crate::model::{Epoch, NodeName, Seq};
use crate::registry::Message;

pub(super) const HEADER_BYTES: usize = 116;

const MAGIC: [u8; 4] = *b"MSTR";
const MAJOR: u8 = 1;
const MINOR: u8 = 0;
/// bincode 2, little-endian, variable-length integers.
const CODEC: u8 = 1;
const BODY_LENGTH_AT: usize = 12;
const CLUSTER_AT: usize = 16;
const EPOCH_AT: usize = 32;
const SEQ_AT: usize = 40;
const ORIGIN_AT: usize = 48;
const CHECKSUM_AT: usize = 112;
const ORIGIN_BYTES_MAX: usize = CHECKSUM_AT - ORIGIN_AT - 1;

/// What a frame's body is; numbers are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Change = 1,
    Beacon = 2,
    Pull = 3,
    Pulled = 4,
    Relay = 5,
    Relayed = 6,
    Applied = 7,
    AskLease = 8,
    ToldLease = 9,
    Overrides = 10,
    AskProbe = 12,
    ToldProbe = 13,
    AskAudience = 14,
    ToldAudience = 15,
    AskDelivery = 16,
    ToldDelivery = 17,
    AskRecords = 18,
    ToldRecords = 19,
    PullSized = 20,
    HandOver = 24,
    TookOver = 25,
}

impl Kind {
    pub(super) const ALL: [Self; 21] = [
        Self::Change,
        Self::Beacon,
        Self::Pull,
        Self::Pulled,
        Self::Relay,
        Self::Relayed,
        Self::Applied,
        Self::AskLease,
        Self::ToldLease,
        Self::Overrides,
        Self::AskProbe,
        Self::ToldProbe,
        Self::AskAudience,
        Self::ToldAudience,
        Self::AskDelivery,
        Self::ToldDelivery,
        Self::AskRecords,
        Self::ToldRecords,
        Self::PullSized,
        Self::HandOver,
        Self::TookOver,
    ];

    pub(super) fn of(message: &Message) -> Self {
        match message {
            Message::Change(_) => Self::Change,
            Message::Beacon(_) => Self::Beacon,
            Message::Pull { .. } => Self::Pull,
            Message::PullSized { .. } => Self::PullSized,
            Message::Pulled { .. } => Self::Pulled,
            Message::Relay { .. } => Self::Relay,
            Message::Relayed { .. } => Self::Relayed,
            Message::Applied { .. } => Self::Applied,
            Message::AskLease { .. } => Self::AskLease,
            Message::ToldLease { .. } => Self::ToldLease,
            Message::Overrides(_) => Self::Overrides,
            Message::AskProbe { .. } => Self::AskProbe,
            Message::ToldProbe { .. } => Self::ToldProbe,
            Message::AskAudience { .. } => Self::AskAudience,
            Message::ToldAudience { .. } => Self::ToldAudience,
            Message::AskDelivery { .. } => Self::AskDelivery,
            Message::ToldDelivery { .. } => Self::ToldDelivery,
            Message::AskRecords { .. } => Self::AskRecords,
            Message::ToldRecords { .. } => Self::ToldRecords,
            Message::HandOver { .. } => Self::HandOver,
            Message::TookOver { .. } => Self::TookOver,
        }
    }

    pub(super) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// A header to be written.
pub(super) struct Header<'a> {
    pub(super) cluster: u128,
    pub(super) kind: u8,
    pub(super) epoch: Epoch,
    pub(super) seq: Seq,
    pub(super) origin: &'a NodeName,
}

/// A header as it was read: its frame is whole and of this cluster; the origin is not yet known to be a name.
pub(super) struct Heard<'a> {
    pub(super) kind: u8,
    pub(super) epoch: Epoch,
    pub(super) seq: Seq,
    pub(super) origin: &'a str,
}

impl Header<'_> {
    /// Fills the first [`HEADER_BYTES`] of a frame whose body is there.
    pub(super) fn write(&self, frame: &mut [u8]) {
        let body_bytes = (frame.len() - HEADER_BYTES) as u32;
        let name = self.origin.as_str().as_bytes();
        let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(MAGIC.len(), &[MAJOR, MINOR, self.kind, CODEC]);
        put(BODY_LENGTH_AT, &body_bytes.to_le_bytes());
        put(CLUSTER_AT, &self.cluster.to_le_bytes());
        put(EPOCH_AT, &self.epoch.0.to_le_bytes());
        put(SEQ_AT, &self.seq.to_le_bytes());
        put(ORIGIN_AT, &[name.len() as u8]);
        put(ORIGIN_AT + 1, name);
        let checksum = checksum(frame);
        frame[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// Reads the header of a frame that is at least [`HEADER_BYTES`] long, and gives its body.
pub(super) fn read(frame: &[u8], cluster: u128) -> Result<(Heard<'_>, &[u8]), Rejected> {
    let (header, body) = frame.split_at(HEADER_BYTES);
    if header[..MAGIC.len()] != MAGIC {
        return Err(Rejected::Magic);
    }
    if u128::from_le_bytes(array(header, CLUSTER_AT)) != cluster {
        return Err(Rejected::Cluster);
    }
    let [major, _minor, kind, codec] = array(header, MAGIC.len());
    if major != MAJOR {
        return Err(Rejected::Major(major));
    }
    if u32::from_le_bytes(array(header, BODY_LENGTH_AT)) as usize != body.len() {
        return Err(Rejected::Length);
    }
    if u32::from_le_bytes(array(header, CHECKSUM_AT)) != checksum(frame) {
        return Err(Rejected::Checksum);
    }
    let origin = origin(&header[ORIGIN_AT..CHECKSUM_AT]).ok_or(Rejected::Origin)?;
    if codec != CODEC {
        return Err(Rejected::Codec(codec));
    }
    let epoch = Epoch(u64::from_le_bytes(array(header, EPOCH_AT)));
    Ok((Heard { kind, epoch, seq: u64::from_le_bytes(array(header, SEQ_AT)), origin }, body))
}

/// Of all but the checksum itself.
fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..CHECKSUM_AT]), &frame[HEADER_BYTES..])
}

fn origin(field: &[u8]) -> Option<&str> {
    let (&length, name) = field.split_first()?;
    std::str::from_utf8(name.get(..usize::from(length))?).ok()
}

fn array<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}

const _: () = assert!(ORIGIN_BYTES_MAX == 63, "as long as a node's name may be");
