//! What lists and streams show is spelled as the contract spells it.

use std::sync::Arc;

use super::*;
use crate::model::Cause;
use crate::model::{Address, InstanceId, Registration, RegistrationDraft, Ttl, Zone};

fn listed(change: impl FnOnce(&mut RegistrationDraft)) -> Listed {
    let port = Port::new(8080).unwrap();
    let mut draft = RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), port, Ttl::from_ms(15_000).unwrap());
    change(&mut draft);
    Listed {
        id: InstanceId::parse("user-1").unwrap(),
        registration: Arc::new(Registration::new(draft).unwrap()),
        status: Status::Up,
        weight: 100,
        cause: Cause::Registered,
    }
}

#[test]
fn an_instance_carries_what_it_has_and_nothing_empty() {
    let plain = serde_json::to_string(&Instance::from(&listed(|_| ()))).unwrap();
    assert_eq!(plain, r#"{"id":"user-1","address":"10.0.0.7","port":8080,"status":"up","weight":100}"#);

    let full = serde_json::to_string(&Instance::from(&listed(|draft| {
        draft.ports.insert("grpc".to_owned(), Port::new(9090).unwrap());
        draft.zone = Some(Zone::parse("eu-a").unwrap());
        draft.tags.insert("canary".to_owned());
        draft.metadata.insert("version".to_owned(), "1.4.2".to_owned());
    })))
    .unwrap();
    let expected = r#"{"id":"user-1","address":"10.0.0.7","port":8080,"ports":{"grpc":9090},"status":"up","weight":100,"zone":"eu-a","tags":["canary"],"metadata":{"version":"1.4.2"}}"#;
    assert_eq!(full, expected);
    let read: Instance<'_> = serde_json::from_str(&full).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), full);
}

#[test]
fn what_left_a_selection_says_how_it_is_and_what_is_gone_only_why() {
    let left = serde_json::to_string(&Removed::left(&listed(|_| ()))).unwrap();
    assert_eq!(left, r#"{"id":"user-1","cause":"registered","status":"up"}"#);
    let gone = serde_json::to_string(&Removed::gone("user-1", Cause::Expired)).unwrap();
    assert_eq!(gone, r#"{"id":"user-1","cause":"expired"}"#);
}
