//! Laws: what is written is read as it was, whatever it is; and a change that was cut says, piece by piece, what it said whole.

use std::sync::Arc;

use muster::model::{Cluster, Epoch, Life, NodeName};
use muster::registry::{
    AppliedAt, AudienceAt, BUCKETS, Beacon, Change, Evidence, Have, LIVES_MAX, MEMBERS_MAX, MemberAt, Message, NodeState, Record,
};
use muster::wire::{Codec, FRAME_BYTES_MAX, Rejected, TooLarge};
use proptest::prelude::*;

use super::{arbitrary, codec, known};

proptest! {
    #[test]
    fn what_is_written_is_read(from in arbitrary::life(), message in arbitrary::message()) {
        let frame = codec().encode(&from, &message).unwrap();
        let envelope = codec().decode_from(&frame, &from.node).unwrap();
        prop_assert_eq!(envelope.from, from);
        prop_assert_eq!(envelope.message, message);
    }

    #[test]
    fn the_same_is_written_twice(message in arbitrary::message()) {
        prop_assert_eq!(codec().encode(&known::life(), &message).unwrap(), codec().encode(&known::life(), &message).unwrap());
    }

    #[test]
    fn what_one_cluster_says_no_other_hears(message in arbitrary::message()) {
        let other = Codec::new(&Cluster::parse("other").unwrap());
        prop_assert_eq!(other.decode(&codec().encode(&known::life(), &message).unwrap()), Err(Rejected::Cluster));
    }

    #[test]
    fn nobody_speaks_for_another(from in arbitrary::life(), subject in arbitrary::node(), message in arbitrary::message()) {
        prop_assume!(from.node != subject);
        prop_assert_eq!(codec().decode_from(&codec().encode(&from, &message).unwrap(), &subject), Err(Rejected::Origin));
    }

    #[test]
    fn a_frame_never_outgrows_its_bound(records in prop::collection::vec(arbitrary::record(), 1..4), times in 1_usize..2000) {
        let change = Change { first: 1, last: 1, wants_ack: false, records: records.into_iter().cycle().take(times).collect() };
        match codec().encode(&known::life(), &Message::Change(change)) {
            Ok(frame) => prop_assert!(frame.len() <= FRAME_BYTES_MAX),
            Err(TooLarge) => prop_assert!(times > 1),
        }
    }
}

/// As a burst of registrations leaves the log: seqs in order, every third overtaken by a later one.
fn burst(count: u64) -> Change {
    let Message::Change(one) = known::messages().swap_remove(0).1 else { panic!("the first known message is a change") };
    let record = |seq: u64| {
        let mut record = Record::clone(&one.records[0]);
        record.key = known::key("web", &format!("w-{seq}"));
        record.version.seq = seq;
        Arc::new(record)
    };
    Change { first: 1, last: count, wants_ack: true, records: (1..=count).filter(|seq| seq % 3 != 0).map(record).collect() }
}

#[test]
fn a_change_too_large_for_a_frame_leaves_in_several() {
    let whole = burst(10_000);
    assert_eq!(codec().encode(&known::life(), &Message::Change(whole.clone())), Err(TooLarge));
    let frames = codec().encode_change(&known::life(), whole.clone()).unwrap();
    assert!(frames.len() > 1);
    let mut records = Vec::new();
    let mut next = whole.first;
    for frame in frames {
        let Message::Change(part) = codec().decode(&frame).unwrap().message else { panic!("a change's frame holds a change") };
        assert_eq!(part.first, next, "no seq is left out and none is said twice");
        assert!(part.records.iter().all(|record| (part.first..=part.last).contains(&record.version.seq)));
        assert!(part.wants_ack);
        next = part.last + 1;
        records.extend(part.records);
    }
    assert_eq!(next, whole.last + 1);
    assert_eq!(records, whole.records);
}

#[test]
fn a_change_that_fits_stays_whole() {
    assert_eq!(codec().encode_change(&known::life(), burst(100)).unwrap().len(), 1);
}

#[test]
fn a_change_whose_seqs_are_not_in_order_is_not_cut() {
    let mut change = burst(10_000);
    change.records.reverse();
    change.records.rotate_left(1);
    let middle = change.records.len() / 2;
    let mut record = Record::clone(&change.records[middle]);
    record.version.seq = change.last + 1;
    change.records[middle] = Arc::new(record);
    assert_eq!(codec().encode_change(&known::life(), change), Err(TooLarge));
}

#[test]
fn a_peers_name_is_held_once_in_a_frame() {
    let frame = codec().encode(&known::life(), &Message::Change(burst(3))).unwrap();
    let envelope = codec().decode(&frame).unwrap();
    let Message::Change(change) = envelope.message else { panic!("a change's frame holds a change") };
    let place = |name: &NodeName| name.as_str().as_ptr();
    assert!(change.records.iter().all(|record| place(&record.version.owner.node) == place(&envelope.from.node)));
}

fn longest(number: usize) -> NodeName {
    NodeName::parse(&format!("{number:x<63}")).unwrap()
}

fn life(number: usize) -> Life {
    Life { node: longest(number), epoch: Epoch(u64::MAX) }
}

/// As many lives as a node remembers.
fn lives() -> Vec<AppliedAt> {
    (0..LIVES_MAX).map(|number| AppliedAt { life: life(number), seq: 1 << 40, age_ms: Some(u32::MAX) }).collect()
}

#[test]
fn the_largest_digests_of_buckets_fit_their_frame() {
    let all = || (0..BUCKETS as u16).map(|bucket| (bucket, u128::MAX)).collect();
    let have = Have::Buckets { live: all(), withdrawn: all(), applied: lives(), complete: true };
    assert!(codec().encode(&life(0), &Message::Pulled { ticket: u64::MAX, have }).is_ok());
}

#[test]
fn the_largest_of_beacons_fits_its_frame() {
    let beacon = Beacon {
        head: 1 << 40,
        state: NodeState::Ready,
        records: u64::MAX,
        digest: u128::MAX,
        view_digest: u128::MAX,
        http: "h".repeat(256),
        applied: lives(),
        withdrawn_digest: u128::MAX,
        overrides_digest: u128::MAX,
        complete: true,
        preserving: true,
        gives_way: true,
        members: (0..MEMBERS_MAX)
            .map(|number| MemberAt {
                node: longest(number),
                age_ms: u32::MAX,
                has_left: true,
                evidence: Some(Evidence { is_direct: true, is_attested: true, refuses: true, is_lost: true }),
            })
            .collect(),
        audience: AudienceAt { count: u64::MAX, digest: u64::MAX },
        settling_ms: Some(u32::MAX),
    };
    let frame = codec().encode(&life(0), &Message::Beacon(beacon.clone())).unwrap();
    assert_eq!(codec().decode(&frame).unwrap().message, Message::Beacon(beacon));
}
