//! Bombs: a few bytes that claim to be very many are refused before anything is allocated for them.

use muster::wire::Rejected;

use super::{codec, known};

/// Of a frame's header; see the table in `wire::header`.
pub(crate) const HEADER_BYTES: usize = 116;

/// A frame of any kind with any body, its header as it should be.
pub(crate) fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = codec().encode(&known::life(), &known::messages().swap_remove(2).1).unwrap()[..HEADER_BYTES].to_vec();
    frame[6] = kind;
    frame.extend(body);
    frame[12..16].copy_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
    seal(&mut frame);
    frame
}

/// Makes a frame's checksum right.
pub(crate) fn seal(frame: &mut [u8]) {
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&frame[..112]), &frame[HEADER_BYTES..]);
    frame[112..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

/// Lengths that made bincode without bounds take 8 GiB, abort, panic, and spin: as its nine-byte integers.
const CLAIMS: [u64; 6] = [8 << 30, 1 << 62, u64::MAX, 2_000_000_000, u32::MAX as u64, 1 << 20];

fn claim(length: u64) -> Vec<u8> {
    [&[0xfd_u8][..], &length.to_le_bytes()].concat()
}

/// The most address space this process ever had, in KiB.
#[cfg(target_os = "linux")]
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn a_claimed_length_takes_no_memory() {
    let before = peak_kib();
    for (_, message) in known::messages() {
        let plain = codec().encode(&known::life(), &message).unwrap();
        let (kind, body) = (plain[6], &plain[HEADER_BYTES..]);
        for at in 0..=body.len() {
            for length in CLAIMS {
                let bomb = [&body[..at], &claim(length), &body[at..]].concat();
                // Nine bytes more may also make another sound body; what counts is that it costs nothing.
                let _ = codec().decode(&frame(kind, &bomb));
            }
        }
    }
    let grown = peak_kib() - before;
    // Other tests run meanwhile, and each of their threads reserves some; the smallest bomb would be 8 GiB.
    assert!(grown < 2 << 20, "{grown} KiB more");
}

#[test]
fn a_list_longer_than_its_bound_is_refused_before_it_is_read() {
    // A pull for the versions of buckets: ticket, variant, then a list of bucket numbers, really there.
    let buckets = |count: u16| [&[1_u8, 2, 251][..], &count.to_le_bytes(), &vec![0; usize::from(count)], &[0]].concat();
    assert!(codec().decode(&frame(3, &buckets(4096))).is_ok());
    assert_eq!(codec().decode(&frame(3, &buckets(4097))), Err(Rejected::Malformed));
}

#[test]
fn a_text_longer_than_its_frame_is_refused() {
    for length in CLAIMS {
        // Which lease: ticket, then the namespace's length.
        assert_eq!(codec().decode(&frame(8, &[&[1][..], &claim(length)].concat())), Err(Rejected::Malformed));
    }
}
