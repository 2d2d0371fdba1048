//! What a registration may be, and when two instances look the same.

use super::*;

fn draft() -> RegistrationDraft {
    RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(80).unwrap(), Ttl::from_ms(15_000).unwrap())
}

#[test]
fn every_broken_bound_is_said_at_once() {
    let mut draft = draft();
    draft.metadata = (0..65).map(|n| (format!("k{n}"), "v".to_owned())).collect();
    draft.metadata.insert("long".to_owned(), "x".repeat(1025));
    draft.tags.insert("a\nb".to_owned());
    let pointers: Vec<_> = Registration::new(draft).unwrap_err().into_iter().map(|violation| violation.pointer).collect();
    assert_eq!(pointers, ["/tags", "/metadata", "/metadata/long"]);
}

#[test]
fn what_consumers_do_not_see_does_not_make_two_instances_differ() {
    let listed = |draft| Listed {
        id: InstanceId::parse("a").unwrap(),
        registration: Arc::new(Registration::new(draft).unwrap()),
        status: Status::Up,
        weight: 100,
        cause: Cause::Registered,
    };
    let mut longer = draft();
    longer.ttl = Some(Ttl::from_ms(30_000).unwrap());
    assert_eq!(listed(draft()), listed(longer));
    let mut tagged = draft();
    tagged.tags.insert("canary".to_owned());
    assert_ne!(listed(draft()), listed(tagged));
    let mut fixed = draft();
    fixed.ttl = None;
    assert_ne!(listed(draft()), listed(fixed));
}

#[test]
fn an_address_is_fixed_when_nothing_speaks_for_it() {
    let is_fixed = |ttl, kind: Option<CheckKind>| {
        let check = kind.map(|kind| Check { kind, interval_ms: 10_000, timeout_ms: 2000, failures: 3, successes: 2 });
        Registration::new(RegistrationDraft { ttl, check, ..draft() }).unwrap().is_fixed()
    };
    assert!(is_fixed(None, None) && is_fixed(None, Some(CheckKind::None)));
    assert!(!is_fixed(None, Some(CheckKind::Tcp { port: None })));
    assert!(!is_fixed(Some(Ttl::LONGEST), None));
}
