//! Hostile bytes: damage, forgeries and noise are refused, each by the check that is there for it; nothing panics.

use std::sync::Arc;

use muster::model::Version;
use muster::registry::{AppliedAt, Beacon, Change, Message, Record};
use muster::wire::{FRAME_BYTES_MAX, Heard, LeftOut, Rejected};
use proptest::prelude::*;

use super::bombs::{HEADER_BYTES, frame, seal};
use super::{codec, known};

/// Every known message's frame.
fn frames() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    known::messages().into_iter().map(|(name, message)| (name, codec().encode(&known::life(), &message).unwrap().to_vec()))
}

/// One known frame, changed, with a right checksum again.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let (_, mut frame) = frames().next().unwrap();
    change(&mut frame);
    seal(&mut frame);
    frame
}

#[test]
fn a_frame_cut_short_anywhere_is_refused() {
    for (name, frame) in frames() {
        for length in 0..frame.len() {
            assert_eq!(codec().decode(&frame[..length]), Err(Rejected::Length), "{name} cut at {length}");
        }
    }
}

#[test]
fn a_frame_with_any_byte_flipped_is_refused() {
    for (name, frame) in frames() {
        for at in 0..frame.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = frame.clone();
                damaged[at] ^= flip;
                assert!(codec().decode(&damaged).is_err(), "{name}: byte {at} flipped by {flip:#x}");
            }
        }
    }
}

/// The checksum is no defence against somebody who can compute it: behind it, whatever is read is read by the rules.
#[test]
fn a_forged_byte_anywhere_does_no_harm() {
    for (name, frame) in frames() {
        for at in 0..frame.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut forged = frame.clone();
                forged[at] ^= flip;
                seal(&mut forged);
                if let Ok(envelope) = codec().decode(&forged) {
                    let again = codec().encode(&envelope.from, &envelope.message);
                    assert!(again.is_ok(), "{name}: what byte {at} made of it cannot be said again");
                }
            }
        }
    }
}

#[test]
fn each_check_refuses_what_it_is_there_for() {
    let (_, mut good) = frames().next().unwrap();
    let cases: [(&str, Vec<u8>, Rejected); 12] = [
        ("nothing", Vec::new(), Rejected::Length),
        ("too long", frame(1, &vec![0; FRAME_BYTES_MAX]), Rejected::Length),
        ("magic", changed(|frame| frame[0] = b'X'), Rejected::Magic),
        ("cluster", changed(|frame| frame[16] ^= 1), Rejected::Cluster),
        ("major", changed(|frame| frame[4] = 2), Rejected::Major(2)),
        ("body length", changed(|frame| frame[12] ^= 1), Rejected::Length),
        ("codec", changed(|frame| frame[7] = 9), Rejected::Codec(9)),
        ("kind", changed(|frame| frame[6] = 200), Rejected::Kind(200)),
        ("origin's length", changed(|frame| frame[48] = 64), Rejected::Origin),
        ("origin's name", changed(|frame| frame[49] = b'*'), Rejected::Origin),
        ("seq", changed(|frame| frame[40] ^= 1), Rejected::Invalid("seq")),
        (
            "checksum",
            {
                good[112] ^= 1;
                good
            },
            Rejected::Checksum,
        ),
    ];
    for (what, bytes, expected) in cases {
        assert_eq!(codec().decode(&bytes), Err(expected), "{what}");
    }
}

#[test]
fn checks_come_in_their_order() {
    let mut bytes = frames().next().unwrap().1;
    let mut refused = Vec::new();
    let mends: [fn(&mut [u8]); 5] =
        [|frame| frame[0] ^= 1, |frame| frame[16] ^= 1, |frame| frame[4] ^= 1, |frame| frame[12] ^= 1, |frame| frame[112] ^= 1];
    for damage in mends {
        damage(&mut bytes);
    }
    for mend in mends {
        refused.push(codec().decode(&bytes).unwrap_err().label());
        mend(&mut bytes);
    }
    assert_eq!(refused, ["magic", "cluster", "major", "length", "checksum"]);
    assert!(codec().decode(&bytes).is_ok());
}

#[test]
fn a_newer_minor_version_is_read() {
    assert!(codec().decode(&changed(|frame| frame[5] = 250)).is_ok());
}

#[test]
fn what_later_versions_add_is_skipped() {
    let (_, message) = known::messages().swap_remove(1);
    let plain = codec().encode(&known::life(), &message).unwrap();
    let mut body = plain[HEADER_BYTES..].to_vec();
    assert_eq!(body.pop(), Some(0), "a beacon ends with an empty list of extras");
    body.extend([2, 201, 3, b'a', b'b', b'c', 200, 0]);
    let mut longer = frame(2, &body);
    longer[40..48].copy_from_slice(&plain[40..48]);
    seal(&mut longer);
    assert_eq!(codec().decode(&longer).unwrap().message, message);
}

#[test]
fn a_record_that_breaks_a_rule_is_left_out_and_the_rest_goes_on() {
    let (_, mut forged) = frames().next().unwrap();
    let id = forged.windows(4).position(|bytes| bytes == b"\x03w-1").unwrap();
    forged[id + 2] = b'*';
    seal(&mut forged);
    let Heard { envelope, left_out } = codec().hear(&forged, None).unwrap();
    assert_eq!(left_out, [LeftOut { seq: 41, what: "instance id" }]);
    let Message::Change(change) = envelope.message else { panic!("a change's frame holds a change") };
    assert_eq!((change.first, change.last, change.records.len()), (41, 43, 2));
    assert_eq!(codec().decode(&forged), Err(Rejected::Invalid("instance id")), "who wants all takes none");
}

/// Whoever goes on counting from such a number would begin again at 0.
#[test]
fn a_number_that_nobody_can_count_on_from_is_refused() {
    let refused = |message: &Message| codec().decode(&codec().encode(&known::life(), message).unwrap()).unwrap_err();
    let seen = known::messages();
    let (Message::Change(change), Message::Beacon(beacon)) = (&seen[0].1, &seen[1].1) else { panic!("the first two are known") };
    let with = |number: fn(&mut Version)| {
        let mut record = Record::clone(&change.records[0]);
        number(&mut record.version);
        Message::Change(Change { records: vec![Arc::new(record)], ..change.clone() })
    };
    assert_eq!(refused(&with(|version| version.edition = u64::MAX)), Rejected::Invalid("edition"));
    assert_eq!(refused(&with(|version| version.generation = u64::MAX)), Rejected::Invalid("generation"));
    assert_eq!(refused(&Message::Change(Change { last: u64::MAX, ..change.clone() })), Rejected::Invalid("seq"));
    assert_eq!(refused(&Message::Beacon(Beacon { head: u64::MAX, ..beacon.clone() })), Rejected::Invalid("seq"));
    let applied = vec![AppliedAt { seq: u64::MAX, ..beacon.applied[1].clone() }];
    assert_eq!(refused(&Message::Beacon(Beacon { applied, ..beacon.clone() })), Rejected::Invalid("seq"));
}

/// A node asks there of its own accord.
#[test]
fn an_address_that_is_more_than_a_host_and_a_port_is_refused() {
    let Message::Beacon(beacon) = known::messages().swap_remove(1).1 else { panic!("the second is a beacon") };
    for http in ["10.0.0.1:80/admin?drop=all&", "10.0.0.1:80#", "user:password@10.0.0.1:80", "10.0.0.1\\x:80", "a b:80"] {
        let frame = codec().encode(&known::life(), &Message::Beacon(Beacon { http: http.to_owned(), ..beacon.clone() })).unwrap();
        assert_eq!(codec().decode(&frame), Err(Rejected::Invalid("HTTP address")), "{http}");
    }
    for http in ["", "n1.example-a:6878", "[fe80::1]:6878", "node_1:1"] {
        let frame = codec().encode(&known::life(), &Message::Beacon(Beacon { http: http.to_owned(), ..beacon.clone() })).unwrap();
        assert!(codec().decode(&frame).is_ok(), "{http}");
    }
}

#[test]
fn a_body_that_goes_on_after_its_end_is_refused() {
    let (_, plain) = frames().find(|(name, _)| *name == "told_no_lease").unwrap();
    let body = [&plain[HEADER_BYTES..], &[0]].concat();
    assert_eq!(codec().decode(&frame(9, &body)), Err(Rejected::Leftover));
}

proptest! {
    #[test]
    fn noise_is_refused(noise in prop::collection::vec(any::<u8>(), 0..2048)) {
        prop_assert!(codec().decode(&noise).is_err());
    }

    #[test]
    fn noise_in_a_sound_frame_does_no_harm(kind in 0_u8..13, noise in prop::collection::vec(any::<u8>(), 0..2048)) {
        if let Ok(envelope) = codec().decode(&frame(kind, &noise)) {
            prop_assert!(codec().encode(&envelope.from, &envelope.message).is_ok());
        }
    }

    #[test]
    fn several_forged_bytes_do_no_harm(which in 0..known::messages().len(), edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let (_, mut forged) = frames().nth(which).unwrap();
        for (at, byte) in edits {
            let at = at.index(forged.len());
            forged[at] = byte;
        }
        seal(&mut forged);
        if let Ok(envelope) = codec().decode(&forged) {
            prop_assert!(codec().encode(&envelope.from, &envelope.message).is_ok());
        }
    }
}
