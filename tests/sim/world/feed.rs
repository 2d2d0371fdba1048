//! Feeds: how nodes tell consumers what has changed, and what becomes of a stream when its node does not last.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use muster::model::{InstanceId, ServiceKey};
use muster::registry::{Body, View};

use super::{Event, World};
use crate::consumer::{Consumer, Telling, step};
use crate::counts::Injected;
use crate::invariant::{Invariant, Violation};
use crate::provider::Provider;
use crate::teeth::Sabotage;

/// How many views of a service a node keeps for those who come back.
const VIEWS_KEPT: usize = 8;

/// The last views of each service at one node, oldest first; the newest is the present one.
#[derive(Default)]
pub(crate) struct Views(BTreeMap<ServiceKey, VecDeque<Arc<View>>>);

impl Views {
    fn note(&mut self, service: &ServiceKey, view: &Arc<View>) {
        let kept = self.0.entry(service.clone()).or_default();
        kept.push_back(Arc::clone(view));
        if kept.len() > VIEWS_KEPT {
            kept.pop_front();
        }
    }

    fn at(&self, service: &ServiceKey, revision: u128) -> Option<Arc<View>> {
        self.0.get(service)?.iter().find(|view| view.revision() == revision).cloned()
    }
}

impl World {
    /// Somebody begins to follow a service.
    pub(crate) fn add_consumer(&mut self, service: ServiceKey, node: usize) -> usize {
        self.consumers.push(Consumer::new(service, node));
        let consumer = self.consumers.len() - 1;
        self.after(1, Event::Connect { consumer, stream: 0 });
        consumer
    }

    /// The consumer opens a stream where it can: a node that does not know enough, or stops, or does not run, is no use to it.
    pub(super) fn connect(&mut self, index: usize, stream: u32) {
        if self.consumers[index].stream != stream {
            return;
        }
        let node = self.consumers[index].node;
        if self.is_sabotaged(Sabotage::EmptyWhileWarming) && self.registry(node).is_some() && !self.is_ready(node) {
            self.tell(index, Telling::Snapshot { complete: true, view: Arc::default() });
            return self.after(300, Event::Connect { consumer: index, stream });
        }
        if !self.answers(node) || self.is_paused(node) {
            let places = self.places();
            self.consumers[index].node = self.chance.pick(&places);
            let after = self.chance.between(200, 1000);
            return self.after(after, Event::Connect { consumer: index, stream });
        }
        let Some(registry) = self.registry(node) else { return };
        let consumer = &self.consumers[index];
        let (view, complete) = (registry.catalog().view(&consumer.service).cloned().unwrap_or_default(), registry.complete());
        let telling = match consumer.resumes_at().filter(|_| complete) {
            Some(revision) if revision == view.revision() => Telling::Unchanged,
            Some(revision) => match self.slots[node].views.at(&consumer.service, revision) {
                Some(old) => step(&old, &view),
                None => Telling::Snapshot { complete, view: Arc::clone(&view) },
            },
            None => Telling::Snapshot { complete, view: Arc::clone(&view) },
        };
        self.consumers[index].sent = Some((view, complete));
        self.consumers[index].since = self.now;
        self.tell(index, telling);
    }

    fn tell(&mut self, index: usize, telling: Telling) {
        if self.is_sabotaged(Sabotage::StallStreams) && self.now > self.chaos_until {
            return;
        }
        let after = self.chance.between(1, 20);
        let consumer = &mut self.consumers[index];
        consumer.arrives_at = consumer.arrives_at.max(self.now + after);
        let (wait, stream) = (consumer.arrives_at - self.now, consumer.stream);
        self.after(wait, Event::Told { consumer: index, stream, telling });
    }

    /// A view changed at a node: its streams are told.
    pub(super) fn feed_consumers(&mut self, node: usize, service: &ServiceKey) {
        let nothing = Arc::default();
        let Some(view) = self.registry(node).map(|registry| registry.catalog().view(service).unwrap_or(&nothing).clone()) else { return };
        self.slots[node].views.note(service, &view);
        for index in 0..self.consumers.len() {
            let consumer = &mut self.consumers[index];
            if consumer.node != node || consumer.service != *service {
                continue;
            }
            let Some((sent, _)) = &mut consumer.sent else { continue };
            let telling = step(sent, &view);
            *sent = Arc::clone(&view);
            if self.is_sabotaged(Sabotage::SkipDeltas) && self.now.is_multiple_of(3) {
                continue;
            }
            self.tell(index, telling);
        }
    }

    /// A node that has come to know all says the whole again to whom it told a part.
    pub(super) fn complete_consumers(&mut self, node: usize) {
        let is_complete = self.registry(node).is_some_and(muster::registry::Registry::complete);
        for index in 0..if is_complete { self.consumers.len() } else { 0 } {
            let consumer = &mut self.consumers[index];
            if let Some((sent, complete)) = &mut consumer.sent
                && consumer.node == node
                && !*complete
            {
                *complete = true;
                let view = Arc::clone(sent);
                self.tell(index, Telling::Snapshot { complete: true, view });
            }
        }
    }

    /// Every stream of this node ends; who held one looks for another.
    pub(super) fn end_streams(&mut self, node: usize) {
        for index in 0..self.consumers.len() {
            if self.consumers[index].node == node && self.consumers[index].sent.is_some() {
                self.move_consumer(index);
            }
        }
    }

    /// The consumer's stream ends, and it goes on elsewhere.
    pub(crate) fn move_consumer(&mut self, index: usize) {
        self.counts.add(Injected::ConsumerMoved);
        let (places, after) = (self.places(), self.chance.between(50, 1500));
        let node = self.chance.pick(&places);
        let consumer = &mut self.consumers[index];
        consumer.stream += 1;
        consumer.sent = None;
        consumer.node = node;
        let stream = consumer.stream;
        self.after(after, Event::Connect { consumer: index, stream });
    }

    pub(super) fn consumer_hears(&mut self, index: usize, stream: u32, telling: Telling) {
        let consumer = &mut self.consumers[index];
        if consumer.stream != stream {
            return;
        }
        let (before, is_delta) = (consumer.ids(), matches!(telling, Telling::Delta { .. }));
        if let Err(Violation { of, what }) = consumer.hear(telling) {
            return self.violate(of, what);
        }
        let consumer = &self.consumers[index];
        if !before.is_empty() && consumer.count() == 0 && consumer.is_sure() {
            self.check_empty(index, &before, is_delta);
        }
    }

    /// A consumer now holds an empty list that is called complete: nobody whose provider is answered may have been taken from it.
    ///
    /// While things go wrong only what goes by silence counts, as the last of all, and only what a node took from its own list: a node that starts apart from
    /// all others cannot know what they know.
    fn check_empty(&mut self, index: usize, before: &BTreeSet<InstanceId>, is_delta: bool) {
        let consumer = &self.consumers[index];
        let (node, service) = (consumer.node, &consumer.service);
        // What a new process says may not have come here yet, and its former one is silent.
        let went_by_silence = |provider: &Provider| {
            let record = self.registry(node).and_then(|registry| registry.record(&provider.key));
            record.is_some_and(|record| matches!(&record.body, Body::Withdrawn { kept: Some(kept), .. } if **kept == provider.content()))
        };
        // One that hears nobody, and was told a goodbye again that had long been taken back, believes itself alone by right.
        let hears_nobody = self.registry(node).is_none_or(|registry| {
            let nodes = registry.cluster(self.now_at(node)).nodes;
            nodes.iter().skip(1).all(|peer| matches!(peer.state, "suspect" | "dead" | "leaving"))
        });
        let is_misled = hears_nobody && self.counts.of(Injected::Replayed) > 0;
        // A node that left in order is no member: where it starts anew apart from the others, none of them can know whom it answers before
        // they hear it, and to wait for it would keep the last of every service for as long as anybody may come back (seed 96065).
        let knows_who_answers = |provider: &Provider| {
            let name = &self.slots[provider.succeeded_at_node].name;
            self.registry(node).is_some_and(|registry| registry.cluster(self.now_at(node)).nodes.iter().any(|at| at.life.node == *name))
        };
        let lost = self.providers.iter().find(|provider| {
            let is_heard = self.now < provider.succeeded_at + provider.habits.ttl_ms / 2;
            // The first heartbeats after a silence may still be on their way to the owner.
            let is_steady = self.now > provider.steady_since + 2 * provider.habits.ttl_ms;
            let is_answered = provider.runs() && !provider.is_twin() && is_heard && is_steady;
            let is_due = self.protected.contains(&provider.key)
                || self.is_secured(&provider.key)
                || is_delta
                    && before.contains(&provider.key.id)
                    && !is_misled
                    && self.now < self.chaos_until
                    && went_by_silence(provider)
                    && knows_who_answers(provider);
            provider.key.service == *service && is_answered && is_due
        });
        if let Some(lost) = lost {
            let what = format!("a consumer at n{node} sees {service} empty, and {} is answered", lost.key);
            self.violate(Invariant::NoFalseEmpty, what);
        }
    }

    /// What each consumer holds is what is there.
    pub(crate) fn check_consumers(&mut self) {
        // The last node that ran was leaving when all healed: there is nobody to hold a stream with.
        if self.running().is_empty() {
            return;
        }
        let mut broken = None;
        for consumer in &self.consumers {
            let nothing = Arc::default();
            let Some(registry) = self.registry(consumer.node).filter(|_| consumer.sent.is_some()) else {
                broken.get_or_insert(format!("a consumer of {} has no stream", consumer.service));
                continue;
            };
            if let Err(why) = consumer.compare(registry.catalog().view(&consumer.service).unwrap_or(&nothing)) {
                broken.get_or_insert(why);
            }
        }
        if let Some(broken) = broken {
            self.violate(Invariant::WatchersExact, broken);
        }
    }
}
