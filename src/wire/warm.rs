//! The warm file: what a node writes to its disk and starts from, as blocks each of which is whole or not there.
//!
//! | at | bytes | the header |
//! |---:|---:|---|
//! | 0 | 8 | magic, `MSTRWARM` |
//! | 8 | 1 | major version |
//! | 9 | 1 | minor version |
//! | 10 | 1 | 1: the node did not know enough to say what there was not; else 0 |
//! | 11 | 1 | reserved, 0 |
//! | 12 | 4 | CRC-32C of all else of the header |
//! | 16 | 16 | cluster: xxh3-128 of its name |
//! | 32 | 8 | when it was saved, by the wall clock, in ms since 1970 |
//! | 40 | 8 | how many records were saved |
//!
//! Then blocks, the last of which is the end:
//!
//! | at | bytes | a block |
//! |---:|---:|---|
//! | 0 | 8 | marker |
//! | 8 | 1 | kind |
//! | 9 | 3 | reserved, 0 |
//! | 12 | 4 | length of the body |
//! | 16 | 4 | CRC-32C of the header's, of the eight bytes before, and of the body |
//! | 20 | | a bincode body |
//!
//! A length may be what is damaged, so behind a block that is not whole the next marker is looked for. No text holds a marker: it
//! begins with a byte that UTF-8 does not have. A block of another file does not pass for one of this: its checksum began elsewhere.
//! What a block says is checked like what a peer says, and a block of a kind unknown here is a newer version's: it is skipped.

mod window;

use std::io::{self, Read};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::list::List;
use super::overrides::{self, Entries};
use super::reading::Reading;
use super::record::{self, Key, Records};
use super::{Codec, FRAME_BYTES_MAX, Invalid, body};
use crate::registry::{Entry, Record, UnrenewedLease};
use window::Window;

const MAGIC: [u8; 8] = *b"MSTRWARM";
const MAJOR: u8 = 1;
const MINOR: u8 = 0;
const KNOWLEDGE_AT: usize = 10;
const KNEW_LITTLE: u8 = 1;
const KNEW_ENOUGH: u8 = 2;
const CHECKSUM_AT: usize = 12;
const CLUSTER_AT: usize = 16;
const SAVED_AT: usize = 32;
const COUNT_AT: usize = 40;
const HEADER_BYTES: usize = 48;

const MARKER: [u8; 8] = [0xf5, b'M', b'S', b'T', b'R', 0xfa, b'\r', b'\n'];
const BLOCK_LENGTH_AT: usize = 12;
const BLOCK_CHECKSUM_AT: usize = 16;
const BLOCK_HEADER_BYTES: usize = 20;

/// About how much a block carries: what one damaged byte may cost. A record is at most as long, and then has a block for itself.
const BLOCK_BYTES: usize = 60 * 1024;
/// What is read of a file: a hundred times what a million instances take. The rest counts as lost.
const FILE_BYTES_MAX: u64 = 64 << 30;
/// No block is longer: a length above it is damage.
const BLOCK_BYTES_MAX: usize = FRAME_BYTES_MAX;

/// What a block holds; numbers are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Records = 1,
    /// Operators' overrides, with the time that was left of each when it was saved.
    Overrides = 2,
    End = 3,
    /// For how long leases were not renewed that no heartbeat had renewed since they were taken over.
    Unrenewed = 4,
}

impl Kind {
    fn from_number(number: u8) -> Option<Self> {
        [Self::Records, Self::Overrides, Self::End, Self::Unrenewed].into_iter().find(|kind| *kind as u8 == number)
    }
}

/// How many leases a block has: as much is lost with one as with one of records.
const UNRENEWED_MAX: usize = 128;

type UnrenewedLeases<'a> = List<Unrenewed<'a>, UNRENEWED_MAX>;

/// One lease that was not renewed.
#[derive(Serialize, Deserialize)]
struct Unrenewed<'a> {
    #[serde(borrow)]
    key: Key<'a>,
    waited_ms: u64,
}

impl<'a> Unrenewed<'a> {
    fn of(lease: &'a UnrenewedLease) -> Self {
        Self { key: Key::of(&lease.key), waited_ms: lease.waited_ms }
    }

    fn into_model(self, reading: &mut Reading) -> Result<UnrenewedLease, Invalid> {
        Ok(UnrenewedLease { key: self.key.into_model(reading)?, waited_ms: self.waited_ms })
    }
}

/// Behind everything: what there was. A file without it was cut.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Totals {
    records: u64,
    blocks: u64,
}

/// A warm file in its pieces, in order: the header, blocks, the end. Each is made when it is asked for.
pub struct WarmPieces<I> {
    /// Each has a block for itself, before all records.
    overrides: std::vec::IntoIter<Entry>,
    records: I,
    /// Behind all records, before the end.
    unrenewed: std::vec::IntoIter<UnrenewedLease>,
    header: [u8; HEADER_BYTES],
    next: Piece,
    written: Totals,
    /// The first record of the next block: the one that did not fit into the last.
    carried: Option<Arc<Record>>,
    block_bytes: usize,
}

enum Piece {
    Header,
    Block,
    Nothing,
}

/// What a warm file held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warm {
    /// By the wall clock of the node that saved it, in ms since 1970.
    pub saved_at: u64,
    /// Those of the saved records that are sound, in the order in which they were saved.
    pub records: Vec<Arc<Record>>,
    /// Those of the saved overrides that are sound, likewise.
    pub overrides: Vec<Entry>,
    /// For how long leases were not renewed, likewise.
    pub unrenewed: Vec<UnrenewedLease>,
    /// The node that saved it knew enough: what is not there was not there.
    pub knew_enough: bool,
    /// What of the file was not taken.
    pub lost: Lost,
}

/// What of a warm file was not taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Saved records that are not among those read.
    pub records: u64,
    /// Stretches of the file that are no whole block.
    pub stretches: u64,
    /// Whole blocks of kinds unknown here.
    pub unknown_blocks: u64,
    /// The file has no end: it was cut, or its end is damaged.
    pub end: bool,
}

impl Lost {
    /// All that was saved was read.
    #[must_use]
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// Why a warm file was refused; nothing of it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotWarm {
    /// Shorter than a header.
    #[error("it is shorter than its header")]
    Short,
    /// Not a warm file of ours.
    #[error("it is no warm file of muster's")]
    Magic,
    /// Of a major version that this node does not know.
    #[error("it is of major version {0}, which this version does not know")]
    Major(u8),
    /// The header is damaged.
    #[error("its header is damaged")]
    Checksum,
    /// Another cluster's.
    #[error("it is another cluster's")]
    Cluster,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(io::ErrorKind),
}

impl Codec {
    /// A warm file of this cluster with `count` records and these overrides, saved at `saved_at` ms since 1970.
    pub fn warm_pieces<I: Iterator<Item = Arc<Record>>>(
        &self,
        saved_at: u64,
        overrides: Vec<Entry>,
        count: u64,
        records: I,
    ) -> WarmPieces<I> {
        let mut header = [0; HEADER_BYTES];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(MAGIC.len(), &[MAJOR, MINOR]);
        put(CLUSTER_AT, &self.cluster.to_le_bytes());
        put(SAVED_AT, &saved_at.to_le_bytes());
        put(COUNT_AT, &count.to_le_bytes());
        let checksum = header_checksum(&header);
        header[CHECKSUM_AT..CLUSTER_AT].copy_from_slice(&checksum.to_le_bytes());
        WarmPieces {
            overrides: overrides.into_iter(),
            records,
            unrenewed: Vec::new().into_iter(),
            header,
            next: Piece::Header,
            written: Totals { records: 0, blocks: 0 },
            carried: None,
            block_bytes: BLOCK_BYTES,
        }
    }

    /// What a warm file holds, as far as it is whole.
    ///
    /// # Errors
    /// [`NotWarm`] when it is none of this cluster's, or its header is damaged.
    pub fn read_warm(&self, file: &[u8]) -> Result<Warm, NotWarm> {
        self.read_warm_from(file)
    }

    /// The same from a stream, of which no more than a few blocks are held at once.
    ///
    /// # Errors
    /// [`NotWarm`] likewise, and when it cannot be read.
    pub fn read_warm_from(&self, file: impl Read) -> Result<Warm, NotWarm> {
        let unreadable = |error: io::Error| NotWarm::Unreadable(error.kind());
        let mut file = Window::new(file.take(FILE_BYTES_MAX), BLOCK_HEADER_BYTES + BLOCK_BYTES_MAX);
        let header: [u8; HEADER_BYTES] = *file.ahead().map_err(unreadable)?.first_chunk().ok_or(NotWarm::Short)?;
        let header = &header;
        file.pass(HEADER_BYTES);
        if header[..MAGIC.len()] != MAGIC {
            return Err(NotWarm::Magic);
        }
        let major = header[MAGIC.len()];
        if major != MAJOR {
            return Err(NotWarm::Major(major));
        }
        let checksum = header_checksum(header);
        if u32::from_le_bytes(array(header, CHECKSUM_AT)) != checksum {
            return Err(NotWarm::Checksum);
        }
        if u128::from_le_bytes(array(header, CLUSTER_AT)) != self.cluster {
            return Err(NotWarm::Cluster);
        }
        let saved = u64::from_le_bytes(array(header, COUNT_AT));
        let mut blocks = Blocks {
            checksum,
            records: Vec::new(),
            overrides: Vec::new(),
            unrenewed: Vec::new(),
            lost: Lost { end: true, ..Lost::default() },
            reading: Reading::of_nobody(),
        };
        blocks.read_all(&mut file).map_err(unreadable)?;
        let Blocks { records, overrides, unrenewed, lost, .. } = blocks;
        let lost = Lost { records: saved.saturating_sub(records.len() as u64), ..lost };
        // 0 is of a version that did not say.
        let knew_enough = header[KNOWLEDGE_AT] == KNEW_ENOUGH;
        Ok(Warm { saved_at: u64::from_le_bytes(array(header, SAVED_AT)), records, overrides, unrenewed, knew_enough, lost })
    }
}

impl<I: Iterator<Item = Arc<Record>>> Iterator for WarmPieces<I> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        match self.next {
            Piece::Header => {
                self.next = Piece::Block;
                Some(self.header.to_vec())
            }
            Piece::Block => {
                if let Some(entry) = self.overrides.next() {
                    self.written.blocks += 1;
                    return Some(block(&self.header, Kind::Overrides, &overrides::entries_of(&[entry])));
                }
                let records = self.next_records();
                if records.is_empty() {
                    let leases: Vec<UnrenewedLease> = self.unrenewed.by_ref().take(UNRENEWED_MAX).collect();
                    if !leases.is_empty() {
                        self.written.blocks += 1;
                        return Some(block(&self.header, Kind::Unrenewed, &leases.iter().map(Unrenewed::of).collect::<UnrenewedLeases>()));
                    }
                    self.next = Piece::Nothing;
                    return Some(block(&self.header, Kind::End, &self.written));
                }
                self.written.records += records.len() as u64;
                self.written.blocks += 1;
                Some(block(&self.header, Kind::Records, &record::records_of(&records)))
            }
            Piece::Nothing => None,
        }
    }
}

impl<I: Iterator<Item = Arc<Record>>> WarmPieces<I> {
    /// Of a node that did not know enough to say what there was not, unless `knew_enough`.
    #[must_use]
    pub fn of_one_that_knew(mut self, knew_enough: bool) -> Self {
        self.header[KNOWLEDGE_AT] = if knew_enough { KNEW_ENOUGH } else { KNEW_LITTLE };
        let checksum = header_checksum(&self.header);
        self.header[CHECKSUM_AT..CLUSTER_AT].copy_from_slice(&checksum.to_le_bytes());
        self
    }

    /// With leases that were not renewed.
    #[must_use]
    pub fn with_unrenewed(self, leases: Vec<UnrenewedLease>) -> Self {
        Self { unrenewed: leases.into_iter(), ..self }
    }

    /// With blocks of about this many bytes, and not of 60 KiB: smaller ones lose less and take longer.
    #[must_use]
    pub fn in_blocks_of(self, bytes: usize) -> Self {
        Self { block_bytes: bytes.min(BLOCK_BYTES), ..self }
    }

    /// As many records as go into one block; none at the end.
    fn next_records(&mut self) -> Vec<Arc<Record>> {
        let mut bytes = 0;
        let mut records = Vec::new();
        while let Some(record) = self.carried.take().or_else(|| self.records.next()) {
            bytes += record.size_bytes();
            if bytes > self.block_bytes && !records.is_empty() {
                self.carried = Some(record);
                break;
            }
            records.push(record);
        }
        records
    }
}

fn block(header: &[u8; HEADER_BYTES], kind: Kind, said: &impl Serialize) -> Vec<u8> {
    let mut block = vec![0; BLOCK_HEADER_BYTES];
    body::write(said, &mut block).expect("unreachable: a block's few records are fewer than a list may have");
    let body_bytes = (block.len() - BLOCK_HEADER_BYTES) as u32;
    block[..MARKER.len()].copy_from_slice(&MARKER);
    block[MARKER.len()] = kind as u8;
    block[BLOCK_LENGTH_AT..BLOCK_CHECKSUM_AT].copy_from_slice(&body_bytes.to_le_bytes());
    let checksum = block_checksum(header_checksum(header), &block);
    block[BLOCK_CHECKSUM_AT..BLOCK_HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    block
}

/// The blocks of a file, as they are read.
struct Blocks {
    /// The header's, with which each block's begins.
    checksum: u32,
    records: Vec<Arc<Record>>,
    overrides: Vec<Entry>,
    unrenewed: Vec<UnrenewedLease>,
    lost: Lost,
    reading: Reading,
}

impl Blocks {
    fn read_all(&mut self, file: &mut Window<impl Read>) -> io::Result<()> {
        loop {
            let ahead = file.ahead()?;
            if ahead.is_empty() {
                return Ok(());
            }
            if let Some(block) = self.whole_block(ahead) {
                let bytes = block.len();
                self.take(block);
                file.pass(bytes);
            } else {
                self.lost.stretches += 1;
                self.pass_damage(file)?;
            }
        }
    }

    /// The block at the beginning of `rest`; `None` when there is no whole one.
    fn whole_block<'a>(&self, rest: &'a [u8]) -> Option<&'a [u8]> {
        let header: &[u8; BLOCK_HEADER_BYTES] = rest.first_chunk()?;
        let length = u32::from_le_bytes(array(header, BLOCK_LENGTH_AT)) as usize;
        if header[..MARKER.len()] != MARKER || length > BLOCK_BYTES_MAX {
            return None;
        }
        let block = rest.get(..BLOCK_HEADER_BYTES + length)?;
        let is_whole = u32::from_le_bytes(array(header, BLOCK_CHECKSUM_AT)) == block_checksum(self.checksum, block);
        is_whole.then_some(block)
    }

    /// Passes a damaged beginning, up to the next whole block.
    fn pass_damage(&self, file: &mut Window<impl Read>) -> io::Result<()> {
        file.pass(1);
        loop {
            let ahead = file.ahead()?;
            match ahead.windows(MARKER.len()).position(|bytes| bytes == MARKER) {
                Some(0) if self.whole_block(ahead).is_some() => return Ok(()),
                Some(at) => file.pass(at.max(1)),
                None if ahead.len() < MARKER.len() => {
                    let rest = ahead.len();
                    file.pass(rest);
                    return Ok(());
                }
                // A marker may begin in what is passed last.
                None => {
                    let passed = ahead.len() - (MARKER.len() - 1);
                    file.pass(passed);
                }
            }
        }
    }

    fn take(&mut self, block: &[u8]) {
        let (header, bytes) = block.split_at(BLOCK_HEADER_BYTES);
        let is_read = match Kind::from_number(header[MARKER.len()]) {
            Some(Kind::Records) => body::read::<Records>(bytes).map(|records| {
                self.records.extend(record::to_records(records, &mut self.reading));
            }),
            Some(Kind::Overrides) => body::read::<Entries>(bytes).map(|entries| {
                self.overrides.extend(overrides::to_entries(entries, &mut self.reading));
            }),
            Some(Kind::Unrenewed) => body::read::<UnrenewedLeases>(bytes).map(|leases| {
                self.unrenewed.extend(leases.into_iter().filter_map(|lease| lease.into_model(&mut self.reading).ok()));
            }),
            Some(Kind::End) => body::read::<Totals>(bytes).map(|_| self.lost.end = false),
            None => {
                self.lost.unknown_blocks += 1;
                Ok(())
            }
        };
        self.lost.stretches += u64::from(is_read.is_err());
    }
}

fn header_checksum(header: &[u8; HEADER_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..CHECKSUM_AT]), &header[CLUSTER_AT..])
}

/// Of a block, which is at least a header long; `of_file` is the checksum of its file's header.
fn block_checksum(of_file: u32, block: &[u8]) -> u32 {
    let head = crc32c::crc32c_append(crc32c::crc32c(&of_file.to_le_bytes()), &block[MARKER.len()..BLOCK_CHECKSUM_AT]);
    crc32c::crc32c_append(head, &block[BLOCK_HEADER_BYTES..])
}

fn array<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}
