//! What a selection must do, whatever it is made of.

use std::hash::{DefaultHasher, Hash, Hasher};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::model::{Address, Cause, InstanceId, Port, Registration, RegistrationDraft, Ttl};

fn parse(query: &str) -> Result<Selection, SelectionError> {
    Selection::parse(query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap()))
}

fn listed(id: &str, status: Status, weight: u16, zone: Option<&str>, tags: &[&str], metadata: &[(&str, &str)]) -> Arc<Listed> {
    let mut draft = RegistrationDraft::new(Address::parse("10.0.0.1").unwrap(), Port::new(80).unwrap(), Ttl::from_ms(15_000).unwrap());
    draft.zone = zone.map(|zone| Zone::parse(zone).unwrap());
    draft.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    draft.metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let registration = Arc::new(Registration::new(draft).unwrap());
    Arc::new(Listed { id: InstanceId::parse(id).unwrap(), registration, status, weight, cause: Cause::Registered })
}

fn ids(query: &str, instances: &[Arc<Listed>]) -> Vec<String> {
    parse(query).unwrap().apply(instances.iter()).iter().map(|listed| listed.id.to_string()).collect()
}

#[test]
fn a_comma_means_any_a_repeated_key_all_and_different_keys_all() {
    let instances = [
        listed("a", Status::Up, 100, Some("eu-a"), &["x", "y"], &[("v", "1")]),
        listed("b", Status::Suspect, 100, Some("eu-b"), &["x"], &[("v", "2")]),
        listed("c", Status::Down, 100, None, &["y"], &[]),
        listed("d", Status::Up, 100, None, &[], &[("v", "")]),
    ];
    assert_eq!(ids("", &instances), ["a", "b", "c", "d"]);
    assert_eq!(ids("tag=x,y", &instances), ["a", "b", "c"]);
    assert_eq!(ids("tag=x&tag=y", &instances), ["a"]);
    assert_eq!(ids("status=up,down&tag=y", &instances), ["a", "c"]);
    assert_eq!(ids("status=up&status=down", &instances), [""; 0]);
    assert_eq!(ids("zone=eu-a,eu-b", &instances), ["a", "b"]);
    assert_eq!(ids("metadata.v=2,1", &instances), ["a", "b"]);
    assert_eq!(ids("metadata.v=", &instances), ["c"], "an empty value means that the key is absent");
    assert_eq!(ids("metadata.v=,2", &instances), ["b", "c"]);
}

#[test]
fn usable_falls_back_to_suspects_and_never_further() {
    let up = listed("up", Status::Up, 100, None, &[], &[]);
    let spent = listed("spent", Status::Up, 0, None, &[], &[]);
    let suspect = listed("suspect", Status::Suspect, 100, None, &[], &[]);
    let others = [Status::Starting, Status::Down, Status::Draining].map(|status| listed(status.as_str(), status, 100, None, &[], &[]));
    let of = |some: &[&Arc<Listed>]| some.iter().map(|listed| Arc::clone(listed)).chain(others.iter().cloned()).collect::<Vec<_>>();
    assert_eq!(ids("usable=true", &of(&[&up, &spent, &suspect])), ["up"]);
    assert_eq!(ids("usable=true", &of(&[&spent, &suspect])), ["suspect"]);
    assert_eq!(ids("usable=true", &of(&[&spent])), [""; 0]);
    assert_eq!(ids("usable=false", &of(&[&spent])), ["spent", "starting", "down", "draining"]);
    assert_eq!(ids("usable=true&status=suspect", &of(&[&up, &suspect])), ["suspect"], "the filter comes first");
}

#[test]
fn near_zone_keeps_to_the_zone_while_it_has_one_to_call() {
    let near_up = listed("near-up", Status::Up, 100, Some("a"), &[], &[]);
    let near_late = listed("near-late", Status::Suspect, 100, Some("a"), &[], &[]);
    let far_up = listed("far-up", Status::Up, 100, Some("b"), &[], &[]);
    let far_late = listed("far-late", Status::Suspect, 100, None, &[], &[]);
    assert_eq!(ids("near_zone=a", &[near_up.clone(), near_late.clone(), far_up.clone()]), ["near-up", "near-late"]);
    assert_eq!(ids("near_zone=a&usable=true", &[near_late.clone(), far_up.clone()]), ["far-up"]);
    assert_eq!(ids("near_zone=a", &[near_late.clone(), far_up]), ["near-late", "far-up"]);
    assert_eq!(ids("near_zone=a&usable=true", &[near_late, far_late]), ["near-late"]);
    assert_eq!(ids("near_zone=a,b", &[near_up]), ["near-up"]);
}

#[test]
fn what_means_the_same_is_equal() {
    let same = [
        ("tag=x&tag=y", "tag=y&tag=x"),
        ("tag=x,y", "tag=y,x,x"),
        ("tag=x&tag=x,y", "tag=x"),
        ("status=up,suspect&status=up", "status=up"),
        ("status=starting,up,suspect,down,draining", ""),
        ("usable=false", ""),
        ("usable=true&status=up,suspect,down", "usable=true"),
        ("status=up&status=down", "metadata.v=1&metadata.v=2&tag=x"),
        ("usable=true&status=down", "zone=a&zone=b"),
        ("zone=a&near_zone=a", "zone=a"),
        ("zone=a,b&near_zone=a,c", "near_zone=a&zone=b,a"),
        ("near_zone=a&status=down", "status=down"),
    ];
    for (one, other) in same {
        let (one, other) = (parse(one).unwrap(), parse(other).unwrap());
        assert_eq!(one, other);
        assert_eq!(hash_of(&one), hash_of(&other));
    }
    assert_ne!(parse("tag=x,y").unwrap(), parse("tag=x&tag=y").unwrap());
    assert!(parse("usable=true").unwrap().looks_at_whole());
    assert!(!parse("usable=false&zone=a&near_zone=a").unwrap().looks_at_whole());
}

fn hash_of(selection: &Selection) -> u64 {
    let mut hasher = DefaultHasher::new();
    selection.hash(&mut hasher);
    hasher.finish()
}

#[test]
fn errors_name_the_parameter() {
    let long = format!("metadata.{}=v", "k".repeat(129));
    let many = format!("tag={}", vec!["t"; SELECTION_TERMS_MAX + 1].join(","));
    let wrong = [
        ("status=broken", "status"),
        ("status=", "status"),
        ("zone=EU", "zone"),
        ("region=a,", "region"),
        ("near_zone=a&near_zone=b", "near_zone"),
        ("usable=yes", "usable"),
        ("tag=", "tag"),
        ("metadata.=v", "metadata."),
        ("colour=red", "colour"),
        (many.as_str(), "tag"),
    ];
    for (query, parameter) in wrong {
        assert_eq!(parse(query).unwrap_err().parameter, parameter, "{query}");
    }
    assert!(parse(&long).is_err());
}

fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
    let sample = |of: &'static [&'static str]| vec(select(of), 1..4).prop_map(|some| some.join(","));
    let places = || sample(&["a", "b", "c"]);
    let pair = prop_oneof![
        sample(&["starting", "up", "suspect", "down", "draining"]).prop_map(|value| ("status".to_owned(), value)),
        select(&["true", "false"][..]).prop_map(|value| ("usable".to_owned(), value.to_owned())),
        places().prop_map(|value| ("zone".to_owned(), value)),
        places().prop_map(|value| ("near_zone".to_owned(), value)),
        places().prop_map(|value| ("region".to_owned(), value)),
        places().prop_map(|value| ("tag".to_owned(), value)),
        (select(&["k", "l"][..]), sample(&["", "1", "2"])).prop_map(|(key, value)| (format!("metadata.{key}"), value)),
    ];
    vec(pair, 0..6)
}

fn instance() -> impl Strategy<Value = Arc<Listed>> {
    let place = || proptest::option::of(select(&["a", "b", "c"][..]));
    let tags = vec(select(&["a", "b", "c"][..]), 0..3);
    let metadata = vec((select(&["k", "l"][..]), select(&["", "1", "2"][..])), 0..3);
    ("[a-z]{1,3}", select(&Status::ALL[..]), select(&[0u16, 100][..]), place(), tags, metadata)
        .prop_map(|(id, status, weight, zone, tags, metadata)| listed(&id, status, weight, zone, &tags, &metadata))
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(pairs in pairs()) {
        let read = |pairs: &[(String, String)]| Selection::parse(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        if let Ok(selection) = read(&pairs) {
            prop_assert_eq!(read(&selection.to_pairs()), Ok(selection));
        }
    }

    #[test]
    fn selecting_twice_is_selecting_once(pairs in pairs(), instances in vec(instance(), 0..12)) {
        let Ok(selection) = Selection::parse(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))) else { return Ok(()) };
        let once: Vec<_> = selection.apply(instances.iter()).into_iter().cloned().collect();
        let twice: Vec<_> = selection.apply(once.iter()).into_iter().cloned().collect();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn the_order_of_a_query_means_nothing(pairs in pairs(), instances in vec(instance(), 0..12)) {
        let forward = Selection::parse(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        let backward = Selection::parse(pairs.iter().rev().map(|(key, value)| (key.as_str(), value.as_str())));
        if let (Ok(forward), Ok(backward)) = (forward, backward) {
            prop_assert_eq!(&forward, &backward);
            prop_assert_eq!(forward.apply(instances.iter()), backward.apply(instances.iter()));
        }
    }

    /// The one form must mean what the query said, condition by condition.
    #[test]
    fn normalising_changes_no_answer(pairs in pairs(), instances in vec(instance(), 0..12)) {
        let Ok(selection) = Selection::parse(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))) else { return Ok(()) };
        let mut expected: Vec<_> = instances.iter().filter(|listed| pairs.iter().all(|(key, value)| naive(listed, key, value))).collect();
        let wanted = best_status(&expected);
        if pairs.iter().any(|(key, value)| key == "usable" && value == "true") {
            expected.retain(|listed| is_usable(listed, wanted));
        }
        if let Some((_, near)) = pairs.iter().find(|(key, _)| key == "near_zone") {
            let is_near = |listed: &Listed| listed.registration.zone().is_some_and(|zone| near.split(',').any(|near| near == zone.as_str()));
            if expected.iter().any(|listed| is_near(listed) && is_usable(listed, wanted)) {
                expected.retain(|listed| is_near(listed));
            }
        }
        prop_assert_eq!(selection.apply(instances.iter()), expected);
    }

    #[test]
    fn nothing_from_outside_panics(pairs in vec((".{0,20}", ".{0,20}"), 0..6)) {
        let _ = Selection::parse(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    }
}

fn naive(listed: &Listed, key: &str, value: &str) -> bool {
    let registration = &listed.registration;
    value.split(',').any(|value| match key {
        "status" => listed.status.as_str() == value,
        "zone" => registration.zone().is_some_and(|zone| zone.as_str() == value),
        "region" => registration.region().is_some_and(|region| region.as_str() == value),
        "tag" => registration.tags().contains(value),
        "usable" | "near_zone" => true,
        _ => {
            let held = registration.metadata().get(key.strip_prefix("metadata.").unwrap());
            if value.is_empty() { held.is_none() } else { held.is_some_and(|held| held == value) }
        }
    })
}
