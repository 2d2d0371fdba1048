//! Descriptions: two records of one instance side by side, field by field, in words.

use std::collections::{BTreeMap, BTreeSet};

use super::record::{Body, Record, Seen};
use crate::model::{Check, CheckKind, Registration};

/// One field that is not the same in two records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// As the API calls it; of a named port or a key of the metadata `ports.NAME`, `metadata.KEY`.
    pub field: String,
    /// What it is here; `None`: it is not said.
    pub here: Option<String>,
    /// What it is there; `None`: it is not said.
    pub there: Option<String>,
}

/// Every field in which two live records differ, in the order in which the API tells them; at least one if their versions differ.
pub(super) fn differences(here: &Record, there: &Record) -> Vec<Difference> {
    let (ours, theirs) = (fields_of(here), fields_of(there));
    // Two versions that name one life's changes differ in their place in its log, if in nothing else.
    let log = here.version.seq != there.version.seq && ours == theirs;
    let seqs = log.then(|| ("seq".to_owned(), here.version.seq.to_string(), there.version.seq.to_string()));
    let seqs = seqs.map(|(field, here, there)| Difference { field, here: Some(here), there: Some(there) });
    let names: BTreeSet<&(usize, String)> = ours.keys().chain(theirs.keys()).collect();
    let differing = names.into_iter().filter(|name| ours.get(name) != theirs.get(name));
    let told = differing.map(|name| Difference { field: name.1.clone(), here: ours.get(name).cloned(), there: theirs.get(name).cloned() });
    told.chain(seqs).collect()
}

/// What a record says, by field; the number puts fields in the API's order.
fn fields_of(record: &Record) -> BTreeMap<(usize, String), String> {
    let mut said = Said::default();
    if let Body::Live { registration, seen, .. } = &record.body {
        said.listed(record, registration);
        said.registered(registration, *seen);
        said.say_maybe("draining", record.is_draining().then(|| "true".to_owned()));
    }
    let version = &record.version;
    said.say("owner", version.owner.node.to_string());
    said.say("owner_epoch", version.owner.epoch.to_string());
    said.say("incarnation", version.incarnation.get().to_string());
    said.say("edition", version.edition.to_string());
    said.say("generation", version.generation.to_string());
    said.say("cause", record.cause.to_string());
    said.fields
}

#[derive(Default)]
struct Said {
    fields: BTreeMap<(usize, String), String>,
    place: usize,
}

impl Said {
    fn say(&mut self, field: &str, value: String) {
        self.say_maybe(field, Some(value));
    }

    fn say_maybe(&mut self, field: &str, value: Option<String>) {
        self.place += 1;
        self.fields.extend(value.map(|value| ((self.place, field.to_owned()), value)));
    }

    /// Several fields in one place of the order.
    fn say_each<K: AsRef<str>, V: ToString>(&mut self, field: &str, pairs: impl Iterator<Item = (K, V)>) {
        self.place += 1;
        let place = self.place;
        self.fields.extend(pairs.map(|(key, value)| ((place, format!("{field}.{}", key.as_ref())), value.to_string())));
    }

    /// What consumers see.
    fn listed(&mut self, record: &Record, registration: &Registration) {
        let listed = record.to_listed();
        self.say("address", registration.address().to_string());
        self.say("port", registration.port().to_string());
        self.say_each("ports", registration.ports().iter());
        self.say_maybe("status", listed.as_ref().map(|listed| listed.status.to_string()));
        self.say_maybe("weight", listed.map(|listed| listed.weight.to_string()));
        self.say_maybe("region", registration.region().map(ToString::to_string));
        self.say_maybe("zone", registration.zone().map(ToString::to_string));
        let tags: Vec<&str> = registration.tags().iter().map(String::as_str).collect();
        self.say_maybe("tags", (!tags.is_empty()).then(|| tags.join(",")));
        self.say_each("metadata", registration.metadata().iter());
    }

    /// What it was registered with besides, and what was seen of it.
    fn registered(&mut self, registration: &Registration, seen: Seen) {
        self.say("reported", registration.reported().as_str().to_owned());
        let seen = match seen {
            Seen::Well => "up",
            Seen::Suspect => "suspect",
            Seen::Down => "down",
        };
        self.say("seen", seen.to_owned());
        self.say("ttl_ms", registration.ttl().map_or_else(|| "none".to_owned(), |ttl| ttl.ms().to_string()));
        self.say_maybe("evict_after_ms", registration.evict_after_ms().map(|ms| ms.to_string()));
        self.say_maybe("check", registration.check().map(check));
    }
}

fn check(check: &Check) -> String {
    let (kind, path, port) = match &check.kind {
        CheckKind::Http { path, port } => ("http", path.as_str(), *port),
        CheckKind::Tcp { port } => ("tcp", "", *port),
        CheckKind::Grpc { port } => ("grpc", "", *port),
        CheckKind::None => ("none", "", None),
    };
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    let Check { interval_ms, timeout_ms, failures, successes, .. } = check;
    format!("{kind}{port}{path} every {interval_ms}ms within {timeout_ms}ms, {failures} failures, {successes} successes")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{
        Address, Cause, Epoch, Incarnation, InstanceId, InstanceKey, Life, Namespace, NodeName, Port, RegistrationDraft, ServiceKey,
        ServiceName, Ttl, Version,
    };

    fn record(change: impl FnOnce(&mut RegistrationDraft), seq: u64) -> Record {
        let mut draft = RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(80).unwrap(), Ttl::from_ms(15_000).unwrap());
        change(&mut draft);
        let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
        let owner = Life { node: NodeName::parse("n1").unwrap(), epoch: Epoch(1) };
        let version = Version { incarnation: Incarnation::FIRST, edition: 0, deregistered: false, generation: 0, live: true, owner, seq };
        Record {
            key: InstanceKey { service, id: InstanceId::parse("u1").unwrap() },
            version,
            body: Body::Live { registration: Arc::new(Registration::new(draft).unwrap()), seen: Seen::Well, draining: false },
            cause: Cause::Registered,
            changed_at: 0,
            actor: None,
            detail: None,
            last_heartbeat_ms: None,
            first_content: None,
        }
    }

    fn told(here: &Record, there: &Record) -> Vec<(String, Option<String>, Option<String>)> {
        differences(here, there).into_iter().map(|it| (it.field, it.here, it.there)).collect()
    }

    #[test]
    fn each_field_that_differs_is_named_with_both_sides() {
        let text = |text: &str| Some(text.to_owned());
        let here = record(|draft| draft.metadata = [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())].into(), 1);
        let there = record(
            |draft| {
                draft.metadata = [("b".to_owned(), "3".to_owned())].into();
                draft.weight = 7;
            },
            2,
        );
        let expected = [("weight", text("100"), text("7")), ("metadata.a", text("1"), None), ("metadata.b", text("2"), text("3"))];
        assert_eq!(told(&here, &there), expected.map(|(field, here, there)| (field.to_owned(), here, there)));
    }

    #[test]
    fn two_versions_that_say_the_same_differ_in_their_place_in_the_log() {
        let (one, other) = (record(|_| {}, 1), record(|_| {}, 2));
        assert_eq!(told(&one, &other), [("seq".to_owned(), Some("1".to_owned()), Some("2".to_owned()))]);
        assert_eq!(told(&one, &one), []);
    }
}
