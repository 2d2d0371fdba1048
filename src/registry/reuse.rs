//! Reuse: an instance registers where another one is listed to listen. One port is one process's: the older one's is likely gone.
//!
//! A container that starts anew under another id, at the address it had, is what this is for: its former self is not to be listed twice until
//! its time is over. Of one service the older is `suspect` after a moment, in which it may still say goodbye. A process may well offer several
//! services at one port: of another service it is `suspect` once it has missed a heartbeat. Whoever is heard since the other came is `up`:
//! both are there, and neither is asked again.

use super::Registry;
use super::lease::{Lease, Place, Replaced};
use super::record::{Canonical, Record};
use super::time::{Mono, Now};
use crate::model::{Namespace, Registration, ServiceKey};

/// How long the older of two has to be heard, or to be deregistered by whoever restarts it.
const HEARD_WITHIN_MS: u64 = 1000;

/// Where an instance listens, seen from its namespace; `None`: it sends no heartbeats, and nothing could bring it back.
pub(super) fn place_of(namespace: &Namespace, registration: &Registration) -> Option<Place> {
    registration.ttl()?;
    let mut hash = Canonical::default();
    hash.text(namespace.as_str());
    // By value: a record may spell it in another way.
    hash.text(&registration.address().canonical());
    hash.number(u64::from(registration.port().get()));
    Some(hash.finish())
}

fn place(record: &Record) -> Option<Place> {
    place_of(&record.key.service.namespace, record.registration()?)
}

impl Registry {
    /// A record took the place of `before`: whoever else listens where its instance does now, and is owned here, is looked at.
    pub(super) fn note_place(&mut self, record: &Record, before: Option<&Record>, now: Now) {
        let Some(here) = place(record) else { return };
        let is_new = before.is_none_or(|before| before.version.incarnation < record.version.incarnation || place(before) != Some(here));
        if !is_new {
            return;
        }
        for key in self.leases.at(here) {
            if key != record.key {
                self.leases.replace(&key, Replaced { since: now.mono, by: record.key.clone() });
            }
        }
    }
}

impl Lease {
    /// Another instance has its place, and its provider was not heard since.
    pub(super) fn replaced_since(&self, last: Mono) -> Option<&Replaced> {
        self.replaced.as_deref().filter(|replaced| last <= replaced.since)
    }

    /// When it becomes `suspect` for that.
    pub(super) fn replaced_due(&self, service: &ServiceKey, last: Mono) -> Option<Mono> {
        let replaced = self.replaced_since(last)?;
        let due = replaced.since + HEARD_WITHIN_MS;
        // Heartbeats come each third of the ttl.
        let missed = last + self.ttl_ms / 2;
        Some(if replaced.by.service == *service { due } else { due.max(missed) })
    }
}

/// Why it is suspect, in words.
pub(super) fn detail(replaced: &Replaced, of: &Record) -> String {
    if replaced.by.service == of.key.service {
        format!("`{}` was registered at its address and port", replaced.by.id)
    } else {
        format!("an instance of `{}` was registered at its address and port", replaced.by.service.service)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{
        Address, Cause, Epoch, Incarnation, InstanceId, InstanceKey, NodeName, Port, RegistrationDraft, ServiceKey, ServiceName, Status,
        Ttl,
    };
    use crate::registry::{Heartbeat, Input, Outbox, Output, Purpose, Register, Settings};

    const TTL_MS: u64 = 12_000;
    const STEP_MS: u64 = 100;

    fn key(service: &str, id: &str) -> InstanceKey {
        let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse(service).unwrap() };
        InstanceKey { service, id: InstanceId::parse(id).unwrap() }
    }

    /// A node alone, and the time there.
    struct Alone {
        registry: Registry,
        now: Now,
    }

    impl Alone {
        fn new() -> Self {
            let now = Now { mono: 1_000_000, wall: 0 };
            let settings = Settings { has_bus: false, expect_empty: true, ..Settings::new(NodeName::parse("n1").unwrap(), Epoch(9)) };
            Self { registry: Registry::new(settings, 1, now), now }
        }

        /// Handles an input, and answers what is asked of leases: no heartbeat came but those the registry knows of.
        fn handle(&mut self, input: Input) {
            let mut out = Outbox::new();
            self.registry.handle(input, self.now, &mut out);
            self.registry.advance(self.now, &mut out);
            while let Some(output) = out.pop() {
                if let Output::AskLease { key, purpose } = output {
                    self.registry.handle(Input::Lease { key, last_heartbeat: None, purpose }, self.now, &mut out);
                }
            }
        }

        fn register(&mut self, key: InstanceKey, address: &str, incarnation: Option<u64>) {
            let draft =
                RegistrationDraft::new(Address::parse_recorded(address).unwrap(), Port::new(80).unwrap(), Ttl::from_ms(TTL_MS).unwrap());
            let registration = Arc::new(Registration::new(draft).unwrap());
            let incarnation = incarnation.and_then(Incarnation::new);
            let register = Register { incarnation, ..Register::new(key, registration, self.now.mono) };
            self.handle(Input::Register(1, register));
        }

        fn beat(&mut self, key: InstanceKey) {
            let heartbeat = Heartbeat { key, incarnation: None, digest: None, reported: None, at: self.now.mono };
            self.handle(Input::Heartbeat(2, heartbeat));
        }

        /// In small steps: a node whose timer comes late would doubt itself.
        fn pass(&mut self, ms: u64) {
            for _ in 0..ms / STEP_MS {
                self.now.mono += STEP_MS;
                let mut out = Outbox::new();
                self.registry.advance(self.now, &mut out);
                for output in out {
                    if let Output::AskLease { key, purpose: Purpose::Due } = output {
                        self.handle(Input::Lease { key, last_heartbeat: None, purpose: Purpose::Due });
                    }
                }
            }
        }

        fn stands(&self, key: &InstanceKey) -> (Option<Status>, Cause) {
            let record = self.registry.record(key).unwrap();
            (record.to_listed().map(|listed| listed.status), record.cause)
        }
    }

    const WELL: (Option<Status>, Cause) = (Some(Status::Up), Cause::Registered);
    const SUSPECT: (Option<Status>, Cause) = (Some(Status::Suspect), Cause::AddressReused);

    #[test]
    fn of_one_service_the_older_is_suspect_and_goes_unless_it_is_heard() {
        let mut alone = Alone::new();
        let (old, new) = (key("user", "a"), key("user", "b"));
        alone.register(old.clone(), "10.0.0.7", None);
        alone.pass(1000);
        alone.register(new.clone(), "10.0.0.7", None);
        assert_eq!((alone.stands(&old), alone.stands(&new)), (WELL, WELL));
        alone.pass(1000);
        assert_eq!((alone.stands(&old), alone.stands(&new)), (SUSPECT, WELL));
        alone.pass(500);
        assert_eq!(alone.stands(&old), SUSPECT, "what was heard before proves nothing");
        alone.beat(old.clone());
        assert_eq!(alone.stands(&old), (Some(Status::Up), Cause::Recovered));
        // Both are there: neither what the new one says again nor a heartbeat makes the older suspect once more.
        alone.register(new.clone(), "10.0.0.7", None);
        alone.pass(1000);
        assert_eq!(alone.stands(&old).0, Some(Status::Up));

        alone.register(new.clone(), "10.0.0.7", Some(9));
        alone.pass(1000);
        assert_eq!(alone.stands(&old), SUSPECT, "a new life of the other");
        for _ in 0..4 {
            alone.beat(new.clone());
            alone.pass(TTL_MS / 3);
        }
        assert_eq!(alone.stands(&old), (Some(Status::Down), Cause::AddressReused));
        for _ in 0..20 {
            alone.beat(new.clone());
            alone.pass(TTL_MS / 3);
        }
        assert_eq!(alone.stands(&old), (None, Cause::AddressReused));
        assert_eq!(alone.stands(&new).0, Some(Status::Up));
    }

    #[test]
    fn of_another_service_it_is_suspect_once_it_has_missed_a_heartbeat() {
        let mut alone = Alone::new();
        let (old, beating) = (key("admin", "a"), key("metrics", "a"));
        alone.register(old.clone(), "10.0.0.7", None);
        alone.register(beating.clone(), "10.0.0.7", None);
        alone.register(key("user", "a"), "10.0.0.7", None);
        assert_eq!((alone.stands(&old), alone.stands(&beating)), (WELL, WELL));
        alone.pass(TTL_MS / 3);
        alone.beat(beating.clone());
        alone.pass(TTL_MS / 6);
        assert_eq!((alone.stands(&old), alone.stands(&beating)), (SUSPECT, WELL));
    }

    #[test]
    fn one_address_is_one_place_however_it_is_spelled() {
        for (one, other) in [("::1", "0:0:0:0:0:0:0:1"), ("10.0.0.7", "::ffff:10.0.0.7"), ("2001:DB8::1", "2001:db8::1"), ("Db.", "db")] {
            let mut alone = Alone::new();
            alone.register(key("user", "a"), one, None);
            alone.register(key("user", "b"), other, None);
            alone.pass(1000);
            assert_eq!(alone.stands(&key("user", "a")), SUSPECT, "{one} and {other}");
        }
    }

    #[test]
    fn another_address_namespace_or_a_fixed_address_is_another_place() {
        let mut alone = Alone::new();
        let old = key("user", "a");
        alone.register(old.clone(), "10.0.0.7", None);
        alone.register(key("user", "b"), "10.0.0.8", None);
        let mut elsewhere = key("user", "a");
        elsewhere.service.namespace = Namespace::parse("test").unwrap();
        alone.register(elsewhere, "10.0.0.7", None);
        alone.pass(1000);
        assert_eq!(alone.stands(&old), WELL);
    }

    #[test]
    fn those_whose_places_are_anothers_are_no_outage() {
        let mut alone = Alone::new();
        for number in 0..10 {
            alone.register(key("user", &format!("old-{number}")), &format!("10.0.0.{number}"), None);
        }
        for number in 0..10 {
            alone.register(key("user", &format!("new-{number}")), &format!("10.0.0.{number}"), None);
        }
        alone.pass(1000);
        assert_eq!(alone.stands(&key("user", "old-3")), SUSPECT);
        assert!(!alone.registry.is_preserving());
    }
}
