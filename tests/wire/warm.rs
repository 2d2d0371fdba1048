//! The warm file under damage: what is read was written, what is lost is one block, and nothing panics.

use std::ops::Range;
use std::sync::Arc;

use muster::model::{Cluster, Version};
use muster::registry::{Record, UnrenewedLease};
use muster::wire::{Codec, Lost, NotWarm, Warm};
use proptest::prelude::*;

use super::{arbitrary, codec, known};

const SAVED_AT: u64 = 1_763_640_000_000;
const HEADER_BYTES: usize = 48;
const BLOCK_HEADER_BYTES: usize = 20;

fn pieces_of(records: &[Arc<Record>], block_bytes: usize) -> Vec<Vec<u8>> {
    codec().warm_pieces(SAVED_AT, Vec::new(), records.len() as u64, records.iter().cloned()).in_blocks_of(block_bytes).collect()
}

/// Eight different records.
fn records() -> Vec<Arc<Record>> {
    let samples = [known::full(), known::silent(), known::deregistered()];
    let numbered = |(seq, record): (u64, &Arc<Record>)| {
        let key = known::key("web", &format!("w-{seq}"));
        Arc::new(Record { key, version: Version { seq, ..record.version.clone() }, ..(**record).clone() })
    };
    (1..=8).zip(samples.iter().cycle()).map(numbered).collect()
}

/// A file of several blocks, each with where it stands and the records in it; the end is the last, with none.
struct Sample {
    file: Vec<u8>,
    blocks: Vec<(Range<usize>, Vec<Arc<Record>>)>,
}

fn sample() -> Sample {
    let pieces = pieces_of(&records(), 500);
    let header = pieces[0].clone();
    let mut from = header.len();
    let mut blocks = Vec::new();
    for piece in &pieces[1..] {
        let alone = [header.as_slice(), piece].concat();
        blocks.push((from..from + piece.len(), codec().read_warm(&alone).unwrap().records));
        from += piece.len();
    }
    assert!(blocks.len() > 3, "{} blocks are too few to tell", blocks.len());
    Sample { file: pieces.concat(), blocks }
}

impl Sample {
    /// What is left without the blocks that `damage` touches.
    fn without(&self, damage: &Range<usize>) -> Vec<Arc<Record>> {
        let is_touched = |block: &Range<usize>| block.start < damage.end && damage.start < block.end;
        self.blocks.iter().filter(|(block, _)| !is_touched(block)).flat_map(|(_, records)| records.clone()).collect()
    }
}

#[test]
fn what_was_saved_is_read() {
    let Sample { file, blocks } = sample();
    let Warm { saved_at, records: read, overrides: _, unrenewed: _, knew_enough: _, lost } = codec().read_warm(&file).unwrap();
    assert_eq!((saved_at, read, lost), (SAVED_AT, records(), Lost::default()));
    assert_eq!(blocks.last().map(|(_, records)| records.len()), Some(0));
}

#[test]
fn nothing_saved_is_nothing_read() {
    let warm = codec().read_warm(&pieces_of(&[], 500).concat()).unwrap();
    assert_eq!((warm.records, warm.lost), (Vec::new(), Lost::default()));
}

#[test]
fn a_flipped_byte_loses_its_block_and_no_other() {
    let sample = sample();
    for at in 0..sample.file.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = sample.file.clone();
            damaged[at] ^= flip;
            match codec().read_warm(&damaged) {
                Err(_) => assert!(at < HEADER_BYTES, "byte {at} is behind the header and cost the whole file"),
                Ok(warm) => {
                    assert!(at >= HEADER_BYTES, "byte {at} of the header was not missed");
                    assert_eq!(warm.records, sample.without(&(at..at + 1)), "byte {at} flipped by {flip:#x}");
                    assert!(!warm.lost.is_nothing(), "byte {at} was lost without a word");
                }
            }
        }
    }
}

#[test]
fn a_file_that_was_cut_is_read_up_to_the_cut() {
    let sample = sample();
    for length in 0..sample.file.len() {
        match codec().read_warm(&sample.file[..length]) {
            Err(error) => assert_eq!((error, length < HEADER_BYTES), (NotWarm::Short, true), "cut at {length}"),
            Ok(warm) => {
                assert_eq!(warm.records, sample.without(&(length..usize::MAX)), "cut at {length}");
                assert!(warm.lost.end, "cut at {length}, and nobody can tell");
            }
        }
    }
}

#[test]
fn a_hole_anywhere_loses_what_it_touches() {
    let sample = sample();
    for from in (HEADER_BYTES..sample.file.len()).step_by(7) {
        for length in [2, 30, 700] {
            let until = (from + length).min(sample.file.len());
            let mut zeroed = sample.file.clone();
            zeroed[from..until].fill(0);
            let mut shorter = sample.file.clone();
            shorter.drain(from..until);
            for damaged in [zeroed, shorter] {
                let warm = codec().read_warm(&damaged).unwrap();
                assert!(warm.records.iter().all(|record| records().contains(record)));
                let least = sample.without(&(from..until));
                assert!(least.iter().all(|record| warm.records.contains(record)), "{length} bytes at {from}");
            }
        }
    }
}

#[test]
fn a_block_of_another_file_does_not_pass() {
    let ours = pieces_of(&records()[..2], 500);
    let theirs: Vec<Vec<u8>> = codec().warm_pieces(SAVED_AT - 1, Vec::new(), 8, records().into_iter()).in_blocks_of(500).collect();
    let mixed = [&ours[0], &theirs[1], &ours[1], &theirs[2]].map(Vec::as_slice).concat();
    let warm = codec().read_warm(&mixed).unwrap();
    assert_eq!(warm.records, codec().read_warm(&[ours[0].as_slice(), &ours[1]].concat()).unwrap().records);
    assert_eq!(warm.lost.stretches, 2);
}

#[test]
fn a_kind_unknown_here_is_skipped() {
    let pieces = pieces_of(&records(), 500);
    let header_checksum = crc32c::crc32c_append(crc32c::crc32c(&pieces[0][..12]), &pieces[0][16..]);
    let mut later = pieces[1].clone();
    later[8] = 200;
    let head = crc32c::crc32c_append(crc32c::crc32c(&header_checksum.to_le_bytes()), &later[8..16]);
    let checksum = crc32c::crc32c_append(head, &later[BLOCK_HEADER_BYTES..]);
    later[16..20].copy_from_slice(&checksum.to_le_bytes());
    let mut file = pieces;
    file.insert(2, later);
    let warm = codec().read_warm(&file.concat()).unwrap();
    assert_eq!((warm.records, warm.lost), (records(), Lost { unknown_blocks: 1, ..Lost::default() }));
}

#[test]
fn what_is_none_of_this_clusters_is_refused() {
    let file = pieces_of(&records(), 500).concat();
    let other = Codec::new(&Cluster::parse("other").unwrap());
    assert_eq!(other.read_warm(&file), Err(NotWarm::Cluster));
    assert_eq!(codec().read_warm(b"{}"), Err(NotWarm::Short));
    assert_eq!(codec().read_warm(&[b'x'; 400]), Err(NotWarm::Magic));
    let mut newer = file;
    newer[8] = 2;
    assert_eq!(codec().read_warm(&newer), Err(NotWarm::Major(2)));
}

/// What the first version wrote is read by every later one, and written as ever; see `golden.rs`.
#[test]
fn the_golden_file_is_written_and_read_as_ever() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wire/golden_warm.bin");
    let file = pieces_of(&records(), 500).concat();
    if std::env::var_os("MUSTER_WRITE_GOLDEN").is_some() {
        std::fs::write(golden, &file).unwrap();
    }
    let golden = std::fs::read(golden).unwrap();
    assert!(file == golden, "the warm file is written in another way than ever");
    assert_eq!(codec().read_warm(&golden).unwrap().records, records());
}

fn unrenewed() -> Vec<UnrenewedLease> {
    [("web", "w-1", 12_345), ("db", "d-1", u64::MAX)]
        .map(|(service, id, waited_ms)| UnrenewedLease { key: known::key(service, id), waited_ms })
        .into()
}

/// As above, with leases that were not renewed.
#[test]
fn the_golden_file_with_unrenewed_leases_is_written_and_read_as_ever() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wire/golden_warm_unrenewed.bin");
    let pieces = codec().warm_pieces(SAVED_AT, Vec::new(), 8, records().into_iter()).in_blocks_of(500).with_unrenewed(unrenewed());
    let file = pieces.flatten().collect::<Vec<u8>>();
    if std::env::var_os("MUSTER_WRITE_GOLDEN").is_some() {
        std::fs::write(golden, &file).unwrap();
    }
    let golden = std::fs::read(golden).unwrap();
    assert!(file == golden, "the warm file is written in another way than ever");
    let warm = codec().read_warm(&golden).unwrap();
    assert_eq!((warm.records, warm.unrenewed, warm.lost), (records(), unrenewed(), Lost::default()));
}

#[test]
fn of_many_unrenewed_leases_a_damaged_block_costs_its_own() {
    let many: Vec<UnrenewedLease> =
        (0..300).map(|at| UnrenewedLease { key: known::key("web", &format!("i{at}")), waited_ms: at }).collect();
    let mut pieces: Vec<Vec<u8>> = codec().warm_pieces(SAVED_AT, Vec::new(), 0, std::iter::empty()).with_unrenewed(many.clone()).collect();
    let whole = codec().read_warm(&pieces.concat()).unwrap();
    assert_eq!((whole.unrenewed, whole.lost), (many.clone(), Lost::default()));
    pieces[2][BLOCK_HEADER_BYTES] ^= 1;
    let rest = codec().read_warm(&pieces.concat()).unwrap();
    assert_eq!((rest.unrenewed, rest.lost.stretches), ([&many[..128], &many[256..]].concat(), 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_records_are_read_as_they_were_saved(records in prop::collection::vec(arbitrary::record(), 0..10), bytes in 0_usize..10_000) {
        let warm = codec().read_warm(&pieces_of(&records, bytes).concat()).unwrap();
        prop_assert_eq!((warm.records, warm.lost), (records, Lost::default()));
    }

    #[test]
    fn noise_behind_a_header_is_nothing(noise in prop::collection::vec(any::<u8>(), 0..4000)) {
        let header = &pieces_of(&[], 500)[0];
        let warm = codec().read_warm(&[header.as_slice(), &noise].concat()).unwrap();
        prop_assert_eq!(warm.records, Vec::new());
    }
}

#[test]
fn overrides_are_read_but_for_the_one_that_is_damaged() {
    let saved = known::overrides();
    let pieces: Vec<_> = codec().warm_pieces(SAVED_AT, saved.clone(), 8, records().into_iter()).collect();
    let whole = codec().read_warm(&pieces.concat()).unwrap();
    assert_eq!((&whole.overrides, whole.records.len(), whole.lost), (&saved, 8, Lost::default()));
    let mut damaged = pieces;
    damaged[2][BLOCK_HEADER_BYTES] ^= 1;
    let rest = codec().read_warm(&damaged.concat()).unwrap();
    assert_eq!((rest.overrides, rest.records.len()), (vec![saved[0].clone(), saved[2].clone()], 8));
}
