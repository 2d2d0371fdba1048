//! Agreement: what must hold of all nodes together once nothing goes wrong any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster::model::{Cause, InstanceKey, Listed, Status};
use muster::registry::{Record, Registry};

use crate::eyes::{Looks, REFUSED_MS};
use crate::invariant::Invariant;
use crate::secured::Secured;
use crate::world::{World, describe};

impl World {
    /// Why the nodes that run do not agree; `None` when they do, and say so.
    pub(crate) fn disagreement(&self) -> Option<String> {
        let running = self.running();
        let registries: Vec<(usize, &Registry)> = running.iter().filter_map(|node| Some((*node, self.registry(*node)?))).collect();
        for (node, registry) in &registries {
            if !self.is_ready(*node) {
                return Some(format!("n{node} is {}", registry.state().as_str()));
            }
        }
        let (first, judge) = *registries.first()?;
        for (node, registry) in &registries {
            if registry.digest() != judge.digest() || registry.record_count() != judge.record_count() {
                return Some(format!("n{first} and n{node} do not agree: {}", difference(judge, registry)));
            }
            if registry.catalog().view_digest() != judge.catalog().view_digest() {
                return Some(format!("the views of n{first} and n{node} do not agree"));
            }
        }
        // One that judges nobody does not say that all is well, whatever it holds.
        let judges = |node: &usize| self.registry(*node).is_some_and(|registry| registry.majority(self.now_at(*node)).judges);
        registries.iter().map(|(node, _)| *node).find(|node| judges(node) && !self.is_converged(*node)).map(|node| {
            let view = self.registry(node).map(|registry| registry.cluster(self.now_at(node)));
            format!("n{node} says that nodes do not agree: {view:?}")
        })
    }

    /// What agreement by digest must mean: every live record is the same, and so is every consumer's picture.
    ///
    /// A withdrawn record may be known to one node alone, when whoever wrote it is gone before others heard of it: withdrawn records are no
    /// part of the digest, so nothing shows it until a live record meets it.
    pub(crate) fn check_contents(&mut self) {
        let mut broken = None;
        let running = self.running();
        for node in &running {
            let (Some(one), Some(other)) = (self.registry(running[0]), self.registry(*node)) else { continue };
            let differs = |record: &Arc<Record>| record.registration().is_some() && other.record(&record.key) != Some(record);
            if one.records().any(differs) {
                broken.get_or_insert((
                    Invariant::Convergence,
                    format!("n{} and n{node} hold different records: {}", running[0], difference(one, other)),
                ));
            }
            if !other.complete() {
                broken.get_or_insert((Invariant::Convergence, format!("n{node} does not think that it knows all")));
            }
            if let Err(why) = self.slots[*node].watcher.compare(other.catalog()) {
                broken.get_or_insert((Invariant::WatchersExact, format!("n{node}: {why}")));
            }
        }
        if let Some((of, broken)) = broken {
            self.violate(of, broken);
        }
    }

    /// Exactly one node holds the lease of each live record: the one that the record names, if that life runs.
    pub(crate) fn check_leases(&mut self) {
        let running = self.running();
        let Some(judge) = running.first().and_then(|node| self.registry(*node)) else { return };
        let mut broken = Vec::new();
        for record in judge.records() {
            let holders: Vec<usize> = running
                .iter()
                .copied()
                .filter(|node| self.registry(*node).is_some_and(|registry| registry.holds_lease(&record.key)))
                .collect();
            let is_live = record.registration().is_some();
            let named: Vec<usize> =
                running.iter().copied().filter(|node| is_live && self.life(*node).as_ref() == Some(&record.version.owner)).collect();
            if holders != named {
                broken.push(format!("the lease of {} is held at {holders:?}, its owner is at {named:?}", describe(record)));
            }
        }
        if let Some(broken) = broken.into_iter().next() {
            self.violate(Invariant::OneOwner, broken);
        }
    }

    /// Every provider that runs is listed at every node with what it says now; nothing else is that anybody could have removed.
    pub(crate) fn check_providers(&mut self) {
        let mut broken = None;
        for node in self.running() {
            let Some(registry) = self.registry(node) else { continue };
            for provider in self.providers.iter().filter(|provider| !provider.is_twin()) {
                let record = registry.record(&provider.key);
                let listed = record.and_then(|record| record.to_listed());
                let said = record.map_or("nothing".to_owned(), describe);
                if provider.runs() {
                    let content = provider.content();
                    let is_drained = |listed: &Listed| listed.status == Status::Draining && listed.weight == 0 && self.may_drain(provider);
                    let is_so = |listed: &Listed| listed.status == content.reported().into() || is_drained(listed);
                    let is_right = listed.is_some_and(|listed| *listed.registration == content && is_so(&listed));
                    if !is_right {
                        let what = format!("n{node}: {} says :{}, and is not listed so: {said}", provider.key, content.port());
                        broken.get_or_insert((Invariant::NothingLost, what));
                    }
                } else if let Some(record) = record.filter(|_| listed.is_some())
                    && (record.cause != Cause::Preserved
                        || (provider.habits.looks != Looks::Never && self.now > provider.stopped_at + REFUSED_MS))
                    && self.may_withdraw(record)
                {
                    let what = format!("n{node}: {} stopped at {} and is still listed: {said}", provider.key, provider.stopped_at);
                    broken.get_or_insert((Invariant::NoZombie, what));
                }
            }
        }
        if let Some((of, broken)) = broken {
            self.violate(of, broken);
        }
    }

    /// Self-preservation has ended by itself: whatever fell silent, in however small a group, is long gone or heard again.
    pub(crate) fn check_nothing_preserved(&mut self) {
        for node in self.running() {
            let Some(registry) = self.registry(node) else { continue };
            let is_preserved = |record: &&Arc<Record>| record.cause == Cause::Preserved && record.registration().is_some();
            let kept = registry.records().filter(is_preserved).find(|record| self.may_withdraw(record));
            if let Some(what) = kept.map(|record| format!("n{node} preserves for ever: {}", describe(record))) {
                return self.violate(Invariant::NoZombie, what);
            }
        }
    }

    /// The owner's life runs and hears a majority: else a record stays as it was last heard, until its provider is heard. A node that is
    /// left of two keeps the last instance of each service: it cannot tell which of them is cut off.
    fn may_withdraw(&self, record: &Record) -> bool {
        let running = self.running();
        let view = self.registry(running[0]).and_then(|registry| registry.catalog().view(&record.key.service));
        if running.len() == 1 && view.is_some_and(|view| view.instances().len() == 1) {
            return false;
        }
        let is_owner = |node: &usize| self.life(*node).as_ref() == Some(&record.version.owner);
        match self.running().into_iter().find(is_owner) {
            Some(owner) => self.hears_majority(owner),
            None => self.running().into_iter().all(|node| self.hears_majority(node)),
        }
    }

    fn hears_majority(&self, owner: usize) -> bool {
        self.registry(owner).is_some_and(|registry| registry.hears_majority(self.now_at(owner)))
    }

    /// From now on the instances of the providers that are answered stay listed everywhere.
    pub(crate) fn protect(&mut self) {
        let running = self.running();
        let is_listed = |key: &InstanceKey| {
            running.iter().all(|node| {
                self.registry(*node).and_then(|registry| registry.record(key)).is_some_and(|record| record.registration().is_some())
            })
        };
        let protected: Vec<InstanceKey> = self
            .providers
            .iter()
            .filter(|provider| {
                provider.runs()
                    && !provider.is_twin()
                    && self.now < provider.succeeded_at + provider.habits.ttl_ms / 2
                    && is_listed(&provider.key)
            })
            .map(|provider| provider.key.clone())
            .collect();
        let names = || protected.iter().map(InstanceKey::to_string).collect::<Vec<_>>().join(" ");
        self.trace.say(self.now, || format!("protected from now on: {}", names()));
        self.protected = protected;
        self.secured = Secured::default();
    }
}

/// The first few records in which two nodes differ.
fn difference(one: &Registry, other: &Registry) -> String {
    let records =
        |registry: &Registry| registry.records().map(|record| (record.key.clone(), Arc::clone(record))).collect::<BTreeMap<_, _>>();
    let (ours, theirs) = (records(one), records(other));
    let keys = ours.keys().chain(theirs.keys()).filter(|key| ours.get(*key) != theirs.get(*key));
    let said = |record: Option<&Arc<Record>>| record.map_or("nothing".to_owned(), describe);
    let lines: Vec<String> = keys.take(4).map(|key| format!("{key}: {} | {}", said(ours.get(key)), said(theirs.get(key)))).collect();
    lines.join("; ")
}
