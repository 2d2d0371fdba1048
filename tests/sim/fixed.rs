//! Fixed addresses in stories: each is registered once, sends no heartbeats, and stays until somebody deregisters it.
//!
//! Nobody says again what is lost. One that no node holds any more, because every node that did is gone, is not asked for.

use std::collections::BTreeSet;
use std::sync::Arc;

use muster::model::{InstanceKey, Life, Registration, RegistrationDraft, Status};
use muster::registry::{Ack, Answer, Deregister, Input, Register, Registry};

use crate::counts::Injected;
use crate::disk::live;
use crate::invariant::Invariant;
use crate::provider::draft;
use crate::world::{World, key};

/// How many a story has at the most.
const MAX: usize = 4;

#[derive(Default)]
pub(crate) struct Fixed {
    addresses: Vec<Address>,
    /// Which ready lives have been seen to list which.
    seen: BTreeSet<(Life, InstanceKey)>,
}

struct Address {
    key: InstanceKey,
    port: u16,
    wanted: Wanted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Listed,
    Gone,
    /// Nobody can say: whoever knew is gone.
    Either,
}

impl Fixed {
    pub(crate) fn keys(&self) -> impl Iterator<Item = &InstanceKey> {
        self.addresses.iter().map(|address| &address.key)
    }

    /// How many of their leases, which no silence ends, are held there.
    pub(crate) fn held_by(&self, registry: &Registry) -> usize {
        self.keys().filter(|key| registry.holds_lease(key)).count()
    }
}

/// What is said of a fixed address.
pub(crate) fn content(key: &InstanceKey, port: u16) -> Registration {
    let draft = RegistrationDraft { ttl: None, ..draft(key, port, 1000) };
    Registration::new(draft).expect("unreachable: it is within the bounds")
}

impl World {
    pub(crate) fn register_fixed(&mut self, node: usize, service: &str) {
        let count = self.fixed.addresses.len();
        if count == MAX {
            return;
        }
        let (key, port) = (key(service, &format!("fixed{count}")), count as u16 + 1);
        let registration = Arc::new(content(&key, port));
        let register = Register::new(key.clone(), registration, 0);
        if let Some(Answer::Registered(_)) = self.operate(node, |ticket| Input::Register(ticket, register)) {
            self.counts.add(Injected::FixedRegistered);
            self.fixed.addresses.push(Address { key, port, wanted: Wanted::Listed });
        }
    }

    /// A node that does not know it writes that it is gone.
    pub(crate) fn deregister_fixed(&mut self, node: usize, index: usize) {
        let Some(key) = self.fixed.keys().nth(index).cloned() else { return };
        let is_known = self.registry(node).is_some_and(|registry| registry.record(&key).is_some());
        let deregister = Deregister { key: key.clone(), incarnation: None, actor: None, ack: Ack::Local };
        let answer = self.operate(node, |ticket| Input::Deregister(ticket, deregister));
        let is_withdrawn = self.registry(node).and_then(|registry| registry.record(&key)).is_some_and(|record| record.version.deregistered);
        if matches!(answer, Some(Answer::Deregistered { .. })) && is_withdrawn {
            self.counts.add(Injected::FixedDeregistered);
            // Where clocks are hours apart nothing orders the two for a node that started apart from whoever knew of it.
            let is_ordered = self.clocks_agree || is_known;
            self.fixed.addresses[index].wanted = if is_ordered { Wanted::Gone } else { Wanted::Either };
        }
    }

    pub(crate) fn fixed_count(&self) -> usize {
        self.fixed.addresses.len()
    }

    pub(crate) fn note_lost_fixed(&mut self) {
        let running = self.running();
        let is_known = running.iter().any(|node| self.is_ready(*node) && self.registry(*node).is_some_and(Registry::complete));
        let is_open = |address: &Address| match address.wanted {
            Wanted::Listed if running.is_empty() => !self.all_disks(|warm| live(warm, &address.key).is_some()),
            // What a node that starts shows from its disk it drops beside one that knows all.
            Wanted::Listed if is_known => !running.iter().any(|node| self.is_ready(*node) && self.lists(*node, &address.key)),
            Wanted::Listed => !running.iter().any(|node| self.lists(*node, &address.key)),
            Wanted::Gone => !running.iter().any(|node| {
                let record = self.registry(*node).and_then(|registry| registry.record(&address.key));
                record.is_some_and(|record| record.version.deregistered)
            }),
            Wanted::Either => false,
        };
        let open: Vec<usize> = (0..self.fixed.addresses.len()).filter(|index| is_open(&self.fixed.addresses[*index])).collect();
        for index in open {
            self.trace.say(self.now, || format!("whoever knew of {} is gone", self.fixed.addresses[index].key));
            self.fixed.addresses[index].wanted = Wanted::Either;
        }
    }

    /// What a ready node lists it goes on listing.
    pub(crate) fn check_fixed(&mut self, node: usize) {
        let Some(life) = self.life(node).filter(|_| self.is_ready(node)) else { return };
        let keys: Vec<InstanceKey> =
            self.fixed.addresses.iter().filter(|address| address.wanted == Wanted::Listed).map(|address| address.key.clone()).collect();
        for key in keys {
            if self.lists(node, &key) {
                self.fixed.seen.insert((life.clone(), key));
            } else if self.fixed.seen.contains(&(life.clone(), key.clone())) {
                return self.violate(Invariant::FixedStays, format!("n{node} no longer lists {key}, which nobody deregistered"));
            }
        }
    }

    /// In the end each is listed everywhere, or nowhere.
    pub(crate) fn check_fixed_stay(&mut self) {
        let is_wrong = |node: usize, address: &Address| {
            let record = self.registry(node).and_then(|registry| registry.record(&address.key));
            let listed = record.and_then(|record| record.to_listed());
            match address.wanted {
                Wanted::Listed => {
                    listed.is_none_or(|listed| *listed.registration != content(&address.key, address.port) || listed.status != Status::Up)
                }
                Wanted::Gone => listed.is_some(),
                Wanted::Either => false,
            }
        };
        let wrong = self.running().into_iter().find_map(|node| {
            let address = self.fixed.addresses.iter().find(|address| is_wrong(node, address))?;
            let record = self.registry(node).and_then(|registry| registry.record(&address.key)).map(crate::world::describe);
            Some(format!("n{node}: {} is to be {:?}, and is {record:?}", address.key, address.wanted))
        });
        if let Some(what) = wrong {
            self.violate(Invariant::FixedStays, what);
        }
    }
}
