//! Each planted fault is found by the check that it is for.

use super::Sabotage;
use crate::invariant::Invariant;
use crate::provider::Route;
use crate::scenarios::{cluster, provider, register};
use crate::story::{Story, run};
use crate::trace::Level;
use crate::world::{World, key};

/// So many seeds a fault may hide from.
const SEEDS: u64 = 120;

/// Some seed among the first finds it, and says that one of these does not hold.
fn is_found(sabotage: Sabotage, breaks: &[Invariant]) {
    is_found_as(sabotage, breaks, "");
}

/// The same, where one check of several is meant: what it says has these words.
fn is_found_as(sabotage: Sabotage, breaks: &[Invariant], words: &str) {
    let mut found = Vec::new();
    for seed in 0..SEEDS {
        let Some(violation) = run(&Story { sabotage: Some(sabotage), ..Story::of(seed) }).violation else { continue };
        if breaks.contains(&violation.of) && violation.what.contains(words) {
            println!("{sabotage:?} is found by seed {seed}: {violation}");
            return;
        }
        found.push(violation.to_string());
    }
    assert!(!found.is_empty(), "{sabotage:?} went unnoticed");
    panic!("{sabotage:?} was taken for something else: {found:#?}");
}

#[test]
fn nodes_that_hear_no_beacons_are_found() {
    is_found(Sabotage::DropBeacons, &[Invariant::Convergence]);
}

#[test]
fn pulls_that_nobody_answers_are_found() {
    is_found(Sabotage::NeverAnswerPulls, &[Invariant::Convergence]);
}

#[test]
fn a_body_that_changes_under_its_version_is_found() {
    is_found(Sabotage::CorruptBodies, &[Invariant::OneWriter]);
}

#[test]
fn leases_that_are_never_renewed_are_found() {
    is_found(Sabotage::NeverRenew, &[Invariant::NothingLost, Invariant::Convergence]);
}

#[test]
fn leases_that_never_expire_are_found() {
    is_found(Sabotage::NeverExpire, &[Invariant::NoZombie]);
}

#[test]
fn ends_of_connections_that_nobody_sees_are_found() {
    is_found_as(Sabotage::MissEnds, &[Invariant::NoZombie], "saw the connection");
}

#[test]
fn the_end_of_a_former_connection_that_is_taken_for_that_of_the_present_one_is_found() {
    is_found_as(Sabotage::MistakeEnds, &[Invariant::NothingLost], "whose connection");
}

#[test]
fn an_epoch_that_is_used_twice_is_found() {
    is_found(Sabotage::ReuseEpochs, &[Invariant::OneWriter]);
}

#[test]
fn relays_that_vanish_are_found() {
    is_found(Sabotage::SwallowRelays, &[Invariant::NothingLost, Invariant::Convergence]);
}

#[test]
fn a_consumer_that_is_not_told_is_found() {
    is_found(Sabotage::ForgetViewChanges, &[Invariant::WatchersExact]);
}

#[test]
fn a_stream_that_leaves_out_a_step_is_found() {
    is_found(Sabotage::SkipDeltas, &[Invariant::WatchersExact]);
}

#[test]
fn withdrawn_records_that_are_forgotten_at_once_are_found() {
    is_found(Sabotage::ForgetWithdrawn, &[Invariant::NoResurrection]);
}

#[test]
fn a_gap_that_is_passed_over_is_found() {
    is_found(Sabotage::SkipGaps, &[Invariant::TrueAnswers]);
}

#[test]
fn a_lack_that_is_taken_for_a_deletion_is_found() {
    is_found(Sabotage::LackIsDeletion, &[Invariant::NothingLost, Invariant::NoFalseEmpty]);
}

#[test]
fn a_node_that_hears_itself_without_a_bus_is_found() {
    is_found(Sabotage::EchoWithoutBus, &[Invariant::AloneIsEnough]);
}

#[test]
fn ownership_that_moves_with_each_relay_is_found() {
    is_found(Sabotage::MoveOnRelay, &[Invariant::Convergence]);
}

#[test]
fn digests_of_keys_alone_are_found() {
    is_found(Sabotage::DigestOfKeys, &[Invariant::Convergence]);
}

#[test]
fn an_empty_list_of_a_warming_node_is_found() {
    is_found(Sabotage::EmptyWhileWarming, &[Invariant::NoFalseEmpty]);
}

#[test]
fn a_wall_clock_that_decides_is_found() {
    let differs = (0..SEEDS).any(|seed| {
        let [right, wrong] = [false, true].map(|wall_clocks_err| {
            run(&Story { sabotage: Some(Sabotage::WallForMono), level: Level::Changes, wall_clocks_err, ..Story::of(seed) })
        });
        right.trace.lines() != wrong.trace.lines()
    });
    assert!(differs, "a wall clock that decides went unnoticed");
}

#[test]
fn frames_of_another_cluster_that_are_read_are_found() {
    is_found(Sabotage::HearForeign, &[Invariant::Isolation]);
}

#[test]
fn a_registry_that_grows_for_ever_is_found() {
    is_found(Sabotage::GrowForEver, &[Invariant::Bounded]);
}

#[test]
fn peers_that_are_believed_too_early_are_found() {
    is_found(Sabotage::AcknowledgeEarly, &[Invariant::TrueAnswers]);
}

#[test]
fn disks_that_nobody_reads_are_found() {
    is_found_as(Sabotage::BlankDisks, &[Invariant::AloneIsEnough], "does not show what its disk held");
}

#[test]
fn lists_that_are_called_whole_without_what_was_on_disk_are_found() {
    is_found_as(Sabotage::LostDisks, &[Invariant::NoFalseEmpty], "which it had on disk");
}

#[test]
fn a_start_that_takes_its_ignorance_for_emptiness_is_found() {
    is_found_as(Sabotage::ExpectEmpty, &[Invariant::NoFalseEmpty], "though all that knew are gone");
}

#[test]
fn overrides_that_reach_nobody_are_found() {
    is_found(Sabotage::MuteOverrides, &[Invariant::Convergence, Invariant::WillHolds]);
}

#[test]
fn overrides_that_a_registration_clears_are_found() {
    is_found(Sabotage::ClearOnRegister, &[Invariant::WillHolds]);
}

#[test]
fn fixed_addresses_that_are_let_go_are_found() {
    is_found(Sabotage::ExpireFixed, &[Invariant::FixedStays]);
}

/// No story keeps nodes apart for as long as this takes to show, with nothing else in between.
#[test]
fn a_silent_node_that_is_taken_to_have_left_is_found() {
    let apart = |sabotage| {
        let mut world = cluster(3);
        provider(&mut world, "a", Route::Sticky);
        world.run_for(2000);
        world.protect();
        world.sabotage = sabotage;
        world.bus.split(&[vec![0, 1], vec![2]]);
        world.run_for(60_000);
        world.violation.map(|violation| violation.of)
    };
    assert_eq!(apart(None), None);
    assert_eq!(apart(Some(Sabotage::BurySilent)), Some(Invariant::NothingLost));
}

/// Four of ten fall silent together.
/// In a story a namesake that was ready apart seldom holds what nobody else has. Which of two gives way their epochs say: of some
/// it is the one that was apart.
#[test]
fn a_node_that_gives_way_before_it_has_handed_over_is_found() {
    let apart = |sabotage, draws| {
        let mut world = cluster(3);
        world.sabotage = sabotage;
        world.add_clone_of(0);
        for _ in 0..draws {
            world.chance.next();
        }
        world.start(3);
        world.break_line(3, 0);
        world.run_for(6000);
        for (node, id) in [(0, "a"), (3, "b")] {
            register(&mut world, node, &key("s", id), 7);
        }
        world.mend_line(3);
        world.run_for(20_000);
        let gave_way = [0, 3].into_iter().filter(|node| !world.is_ready(*node)).count();
        (gave_way, world.violation.map(|violation| violation.of))
    };
    for draws in 0..12 {
        assert_eq!(apart(None, draws), (1, None), "{draws}");
    }
    assert!((0..12).any(|draws| apart(Some(Sabotage::EndAtOnce), draws).1 == Some(Invariant::HandedOver)), "it went unnoticed");
}

#[test]
fn a_registry_that_preserves_nothing_is_found() {
    let found = |sabotage| {
        let mut world = World::new(7, 3);
        world.sabotage = sabotage;
        (0..3).for_each(|node| world.start(node));
        world.run_for(3000);
        for id in 0..10 {
            provider(&mut world, &format!("i{id}"), Route::Sticky);
        }
        world.run_for(20_000);
        (0..4).for_each(|index| world.stop_provider(index));
        world.run_for(30_000);
        world.violation.map(|violation| violation.of)
    };
    assert_eq!(found(None), None);
    assert_eq!(found(Some(Sabotage::PreserveNever)), Some(Invariant::BoundedExpiry));
}

/// Three that nobody looks at and that one node holds fall silent in few histories, and fewer of them go on for long enough.
#[test]
fn small_groups_that_are_preserved_for_ever_are_found() {
    let ended = |sabotage, count: usize| {
        let mut world = World::new(7, 3);
        world.settings = |settings| settings.preserve_max_ms = 15_000;
        world.sabotage = sabotage;
        (0..3).for_each(|node| world.start(node));
        world.run_for(3000);
        let group: Vec<usize> = (0..count).map(|id| provider(&mut world, &format!("i{id}"), Route::Sticky)).collect();
        world.run_for(20_000);
        for index in group {
            world.stop_provider(index);
        }
        world.run_for(120_000);
        world.check_nothing_preserved();
        world.violation.map(|violation| violation.what)
    };
    for count in 1..=9 {
        assert_eq!(ended(None, count), None, "{count} fall silent");
    }
    let what = ended(Some(Sabotage::PreserveForEver), 3).unwrap_or_default();
    assert!(what.contains("preserves for ever"), "{what}");
}

#[test]
fn a_node_that_says_that_it_preserves_and_does_not_is_found() {
    is_found_as(Sabotage::SayPreserving, &[Invariant::NoZombie], "preserves 0 of its own");
}

#[test]
fn a_record_that_is_too_far_ahead_and_is_taken_is_found() {
    is_found_as(Sabotage::ForgeNear, &[Invariant::Isolation], "too far ahead");
}

#[test]
fn leases_that_are_handed_over_without_their_time_are_found() {
    is_found_as(Sabotage::ForgetHeartbeats, &[Invariant::NothingLost], "is late");
}

#[test]
fn a_stream_that_falls_silent_is_found() {
    is_found_as(Sabotage::StallStreams, &[Invariant::WatchersExact], "holds");
}

#[test]
fn a_ready_node_that_calls_itself_warming_is_found() {
    is_found_as(Sabotage::AnswerWarming, &[Invariant::AloneIsEnough], "answers that it is warming");
}

#[test]
fn a_forged_record_that_is_taken_is_found() {
    is_found_as(Sabotage::ForgeNext, &[Invariant::Isolation], "that nobody wrote");
}

/// No story is as long as it takes to ask a node whether it lives, before it is gone, and often enough after that.
#[test]
fn nodes_that_nobody_sees_to_be_gone_are_found() {
    let found = |sabotage| {
        let mut world = World::new(7, 5);
        world.settings = |settings| settings.dead_after_ms = 15_000;
        world.sabotage = sabotage;
        (0..5).for_each(|node| world.start(node));
        world.run_for(20_000);
        (2..5).for_each(|node| world.crash(node));
        world.run_for(90_000);
        world.check_judging();
        world.violation.map(|violation| violation.what)
    };
    assert_eq!(found(None), None);
    let what = found(Some(Sabotage::NeverRefuse)).unwrap_or_default();
    assert!(what.contains("judges nobody"), "{what}");
}

#[test]
fn nodes_that_all_name_and_nobody_is_are_found() {
    is_found_as(Sabotage::NameGhosts, &[Invariant::BoundedExpiry], "judges nobody");
}

#[test]
fn a_look_that_sees_nobody_is_found() {
    is_found(Sabotage::SeeNobody, &[Invariant::NothingLost]);
}
