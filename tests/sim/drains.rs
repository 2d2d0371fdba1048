//! Drains: what is said to have reached everybody has reached everybody.

use std::collections::BTreeSet;

use muster::model::{InstanceKey, Life, Reported, Status, Version};
use muster::registry::{DeliveryReport, Drain, Input, Mono};

use crate::counts::Injected;
use crate::invariant::Invariant;
use crate::provider::Provider;
use crate::world::{Ask, Asker, Event, World};

/// What was drained in this run.
#[derive(Default)]
pub(crate) struct Drains(BTreeSet<InstanceKey>);

/// A node's shell is to say who has been sent what an instance is.
#[derive(Debug, Clone)]
pub(crate) struct AskedDelivery {
    pub(crate) question: u64,
    pub(crate) key: InstanceKey,
    pub(crate) until: Mono,
}

impl World {
    /// Somebody drains an instance at a node.
    pub(crate) fn drain(&mut self, node: usize, provider: usize, within_ms: u64, deregister: bool) {
        self.counts.add(Injected::Drained);
        let provider = &self.providers[provider];
        let (key, wait) = (provider.key.clone(), self.chance.permille(800));
        // What is to go does not come back draining where its next life has another name.
        let incarnation = if deregister { provider.named() } else { None };
        if incarnation.is_none() {
            self.drains.0.insert(key.clone());
        }
        let drain = Drain { key, incarnation, until: within_ms, deregister, wait, actor: None };
        self.ask(node, Ask::Drain(drain), Asker::Nobody);
    }

    /// Whoever follows the service here has it once the events that are on their way have arrived. Now and then somebody does not read.
    pub(crate) fn ask_delivery(&mut self, node: usize, asked: &AskedDelivery) {
        let life = self.slots[node].life;
        let over = asked.until.saturating_sub(self.now_at(node).mono);
        let there = self.consumers.iter().filter(|consumer| consumer.is_at(node, &asked.key.service));
        let arrives = there.clone().map(|consumer| consumer.arrives_at.saturating_sub(self.now)).max().unwrap_or(0);
        let subscribers = there.count() as u64;
        let is_stuck = subscribers > 0 && self.chance.permille(100);
        let missing_count = u64::from(is_stuck || arrives >= over);
        let report = DeliveryReport { subscribers: subscribers.max(missing_count), missing_count, missing: Vec::new() };
        let after = if missing_count > 0 { over } else { arrives + 1 };
        self.after(after, Event::Delivered { node, life, question: asked.question, report });
    }

    pub(crate) fn delivered(&mut self, node: usize, life: u32, question: u64, report: DeliveryReport) {
        if self.slots[node].life == life && self.slots[node].shell.is_some() {
            self.feed(node, Input::Delivered { question, report });
        }
    }

    /// A drain is said to have been delivered: every node that the one who says so could have asked knows of it, and so does everybody
    /// whose stream was open there when it began.
    pub(crate) fn check_delivered(&mut self, at: usize, asked_at: u64, key: &InstanceKey, version: &Version) {
        let Some(registry) = self.registry(at) else { return };
        let now = self.now_at(at);
        let nodes = registry.cluster(now).nodes;
        let believed: Vec<Life> =
            nodes.into_iter().filter(|node| !matches!(node.state, "dead" | "leaving")).map(|node| node.life).collect();
        let is_one_of_two = |node: usize| self.slots.iter().filter(|slot| slot.name == self.slots[node].name).count() > 1;
        let meant = self.running().into_iter().filter(|node| self.life(*node).is_some_and(|life| believed.contains(&life)));
        let mut broken = None;
        for node in meant.filter(|node| !is_one_of_two(*node)) {
            let held = self.registry(node).and_then(|registry| registry.record(key)).map(|record| &record.version);
            if held.is_none_or(|held| held < version) {
                broken = Some(format!("n{at} says that all were sent that {key} drains, and n{node} does not know it"));
            }
            // An override may say that it is up all the same.
            let has_changed = held.is_some_and(|held| held > version) || self.wills.changes > 0;
            let there = self.consumers.iter().filter(|consumer| consumer.is_at(node, &key.service) && consumer.since < asked_at);
            let misses = |listed: &muster::model::Listed| listed.status == Status::Up && listed.weight > 0;
            if !has_changed && there.filter_map(|consumer| consumer.told(&key.id)).any(misses) {
                broken = Some(format!("n{at} says that all were sent that {key} drains, and a consumer at n{node} was not"));
            }
        }
        if let Some(broken) = broken {
            self.violate(Invariant::TrueAnswers, broken);
        }
    }

    /// A drain that was to end with a deregistration has ended: the instance is gone, or its provider has said meanwhile that it is there.
    pub(crate) fn check_drained_away(&mut self, at: usize, key: &InstanceKey, version: &Version, is_deregistered: bool) {
        let Some(record) = self.registry(at).and_then(|registry| registry.record(key)) else { return };
        let is_another = record.version.incarnation != version.incarnation || !record.is_draining();
        if record.registration().is_some() && (is_deregistered || !is_another) {
            let what = format!("n{at} says that {key} has drained, deregistered: {is_deregistered}, and holds {record:?}");
            self.violate(Invariant::TrueAnswers, what);
        }
    }

    /// Whether a running provider may be listed as draining: it was drained, and does not say with each heartbeat that it is up.
    pub(crate) fn may_drain(&self, provider: &Provider) -> bool {
        let says_up = provider.habits.reports && provider.reported == Reported::Up;
        self.drains.0.contains(&provider.key) && !says_up
    }
}
