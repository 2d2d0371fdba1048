//! Differences: what one node says of another's records, held against what both hold.

#![expect(clippy::unwrap_used, reason = "the values are known to be good, and where one is not the test is to fail")]

use std::sync::Arc;

use muster::model::{Namespace, NodeName, Override, OverrideDraft, OverrideKey, OverrideName};
use muster::registry::{Answer, DIFFERING_MAX, Diff, Input, Refusal, SetOverride};

use crate::lines::Line;
use crate::scenarios::{agree_within, cluster, deregister, port_at, register};
use crate::world::{Event, Mend, World, key};

fn name(node: usize) -> NodeName {
    NodeName::parse(&format!("n{node}")).unwrap()
}

fn diff(world: &mut World, node: usize, with: usize) -> Diff {
    match world.diff(node, &name(with)) {
        Answer::Diff(diff) => diff,
        other => panic!("{other:?}"),
    }
}

/// What is written meanwhile reaches nobody.
fn unheard(world: &mut World, write: impl FnOnce(&mut World)) {
    world.bus.changes_lost_until = u64::MAX;
    write(world);
    world.run_for(10);
    world.bus.changes_lost_until = 0;
}

/// Two nodes that hold different things of three services, and the same of a fourth.
fn diverged() -> World {
    diverged_with(None)
}

/// One of them may be of the version before.
fn diverged_with(elder: Option<usize>) -> World {
    let mut world = cluster(3);
    world.elders.extend(elder);
    world.run_for(if elder.is_some() { 1500 } else { 0 });
    register(&mut world, 0, &key("same", "a"), 1);
    register(&mut world, 0, &key("gone", "a"), 1);
    register(&mut world, 0, &key("user", "both"), 1);
    agree_within(&mut world, 5000);
    unheard(&mut world, |world| {
        register(world, 0, &key("user", "both"), 2);
        register(world, 0, &key("user", "here"), 3);
        register(world, 1, &key("user", "there"), 4);
        register(world, 1, &key("new", "there"), 5);
        deregister(world, 1, &key("gone", "a"), None);
    });
    world
}

#[test]
fn nodes_that_agree_are_equal() {
    let mut world = cluster(3);
    register(&mut world, 0, &key("user", "a"), 1);
    world.run_for(50);
    for (node, with) in [(0, 1), (1, 0), (2, 1), (1, 1)] {
        let diff = diff(&mut world, node, with);
        assert!(diff.is_equal() && diff.with == name(with), "{diff:?}");
    }
}

#[test]
fn every_difference_is_told_from_both_sides_and_nothing_else() {
    for (node, with) in [(0, 1), (1, 0)] {
        let mut world = diverged();
        let revision_at = |world: &World, node: usize, service: &str| {
            world.registry(node).unwrap().catalog().view(&key(service, "x").service).unwrap().revision()
        };
        let told = diff(&mut world, node, with);
        assert!(!told.truncated && !told.is_equal());
        let services: Vec<_> = told.services.iter().map(|service| service.service.service.to_string()).collect();
        assert_eq!(services, ["gone", "new", "user"]);
        for service in &told.services {
            let name = service.service.service.as_str();
            let there = world.registry(with).unwrap().catalog().view(&service.service).map_or(0, |view| view.revision());
            assert_eq!(service.with_revision, Some(there), "{name} at n{with}");
            let here = world.registry(node).unwrap().catalog().view(&service.service).map_or(0, |view| view.revision());
            assert_eq!(service.revision, here, "{name} at n{node}");
        }
        assert_ne!(revision_at(&world, 0, "user"), revision_at(&world, 1, "user"));

        let alone: Vec<_> = told
            .services
            .iter()
            .map(|service| {
                let words = |ids: &[muster::model::InstanceId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
                (words(&service.only_here), words(&service.only_there))
            })
            .collect();
        let (a, here, there) = (vec!["a".to_owned()], vec!["here".to_owned()], vec!["there".to_owned()]);
        let from_n0 = [(a, vec![]), (vec![], there.clone()), (here, there)];
        let expected = if node == 0 { from_n0.to_vec() } else { from_n0.into_iter().map(|(here, there)| (there, here)).collect() };
        assert_eq!(alone, expected);

        let differing: Vec<_> = told.services.iter().flat_map(|service| &service.differ).collect();
        assert_eq!(differing.len(), 1);
        assert_eq!((differing[0].id.as_str(), &differing[0].owner), ("both", &name(0)));
        let fields: Vec<_> =
            differing[0].fields.iter().map(|it| (it.field.as_str(), it.here.as_deref().unwrap(), it.there.as_deref().unwrap())).collect();
        assert_eq!(fields.iter().map(|(field, _, _)| *field).collect::<Vec<_>>(), ["port", "edition", "cause"]);
        let (later, earlier) = if node == 0 { (1, 2) } else { (2, 1) };
        let side = |(_, here, there): (&str, &str, &str), side: i32| if side == 1 { here.to_owned() } else { there.to_owned() };
        let [at_n0, at_n1] = [later, earlier].map(|of| fields.iter().map(|field| side(*field, of)).collect::<Vec<_>>());
        assert_eq!((at_n0[0].as_str(), at_n0[2].as_str(), at_n1[0].as_str(), at_n1[2].as_str()), ("2", "updated", "1", "registered"));
        // Editions follow the stamp clock: the later word has the greater one.
        assert!(at_n0[1].parse::<u64>().unwrap() > at_n1[1].parse::<u64>().unwrap());

        assert_eq!(port_at(&world, 0, &key("new", "there")), None, "to compare is not to merge");
        assert_eq!(port_at(&world, 1, &key("user", "here")), None, "to compare is not to merge");
        agree_within(&mut world, 5000);
        assert!(diff(&mut world, node, with).is_equal());
    }
}

/// A revision is of what is listed, and that is what overrides make of the records.
#[test]
fn the_others_revision_is_as_the_other_lists() {
    let mut world = cluster(2);
    let draft = OverrideDraft { weight: Some(7), reason: "a test".to_owned(), ..OverrideDraft::default() };
    let key_of_it = OverrideKey { namespace: Namespace::default(), name: OverrideName::parse("o").unwrap() };
    let set = SetOverride { key: key_of_it, value: Arc::new(Override::new(draft).unwrap()), expires_in_ms: None };
    world.operate(0, |ticket| Input::SetOverride(ticket, set)).unwrap();
    world.run_for(50);
    unheard(&mut world, |world| {
        register(world, 0, &key("user", "here"), 1);
        register(world, 1, &key("user", "there"), 2);
    });
    let there = world.registry(1).unwrap().catalog().view(&key("user", "x").service).unwrap().revision();
    assert_eq!(diff(&mut world, 0, 1).services[0].with_revision, Some(there));
}

#[test]
fn more_than_can_be_told_is_cut_and_said_to_be() {
    let mut world = cluster(2);
    unheard(&mut world, |world| {
        for number in 0..DIFFERING_MAX + 100 {
            register(world, 0, &key("user", &format!("i{number}")), 1);
            if number % 100 == 0 {
                world.run_for(1);
            }
        }
    });
    let there = diff(&mut world, 1, 0);
    assert!(there.truncated && !there.is_equal());
    assert_eq!(there.services[0].only_there.len(), DIFFERING_MAX);
    assert_eq!(there.services[0].with_revision, None, "not everything was compared");
    let here = diff(&mut world, 0, 1);
    assert_eq!((here.services[0].only_here.len(), here.truncated), (DIFFERING_MAX, true));
}

#[test]
fn a_question_that_is_lost_is_asked_again() {
    let mut world = diverged();
    world.bus.cut_both(0, 1);
    let node = name(1);
    let begun = world.now;
    world.after(700, Event::Mend(Mend::Cuts));
    let Answer::Diff(diff) = world.diff(0, &node) else { panic!("it is answered once the line is whole") };
    assert!(world.now - begun >= 700 && !diff.is_equal());
}

#[test]
fn over_a_long_or_a_thin_line_a_difference_is_found_too() {
    for line in [Line::new(1100, 0), Line::new(20, 25_000)] {
        let mut world = diverged();
        world.bus.set_line(1, line);
        let diff = diff(&mut world, 0, 1);
        // Meanwhile the nodes repair what differs.
        assert!(!diff.truncated && !diff.is_equal(), "{diff:?}");
    }
}

#[test]
fn a_node_of_the_version_before_is_compared_with_as_it_always_was() {
    for elder in [0, 1] {
        let mut world = diverged_with(Some(elder));
        let diff = diff(&mut world, 0, 1);
        assert!(!diff.truncated && diff.services.len() == 3, "{diff:?}");
    }
}

#[test]
fn whoever_is_not_known_or_does_not_answer_is_told_apart() {
    let mut world = cluster(2);
    assert_eq!(world.diff(0, &name(7)), Answer::Refused(Refusal::UnknownNode(name(7))));
    world.bus.cut_both(0, 1);
    let begun = world.now;
    assert_eq!(world.diff(0, &name(1)), Answer::Refused(Refusal::UnreachableNode(name(1))));
    assert!((4000..4600).contains(&(world.now - begun)), "{} ms", world.now - begun);
}
