//! Delivery: whether everyone at this node whose selection includes an instance has been sent what it is now.
//!
//! It is not the feeds that know this but the sockets: a delivery asks each subscriber, and gets a receipt back once the bytes have left.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::audience::Audience;
use crate::model::{InstanceId, InstanceKey, Listed, Selection, Status, Subscriber};
use crate::node::{AskedDelivery, Handle};
use crate::registry::{DeliveryReport, MISSING_MAX, View};
use crate::shutdown::Shutdown;

/// How often it is looked whether somebody has come or gone, so that other nodes hear of it.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The question whether all have been sent what an instance is now.
pub(in crate::http) struct Delivery {
    asked: Vec<Subscriber>,
    tally: Arc<Tally>,
}

#[derive(Debug)]
struct Tally {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    fates: Vec<Fate>,
    open: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nobody knows yet.
    Open,
    /// It has been sent.
    Sent,
    /// There is nobody any more to send it to.
    Gone,
}

/// What a subscriber owes to a delivery. Dropped without a word it says that the subscriber has gone.
#[derive(Debug)]
pub(in crate::http) struct Receipt {
    tally: Arc<Tally>,
    number: usize,
}

impl Delivery {
    /// Of one subscriber, whose receipt is in somebody else's hands.
    #[cfg(test)]
    pub(super) fn to_one(subscriber: Subscriber) -> (Self, Receipt) {
        let tally = Arc::new(Tally { state: Mutex::new(State { fates: Vec::new(), open: 0 }), changed: Notify::new() });
        let receipt = tally.issue();
        (Self { asked: vec![subscriber], tally }, receipt)
    }

    /// Asks everyone whose selection includes the instance, as it is in this view or as it was before it drained.
    pub(in crate::http) fn begin(audience: &Audience, key: &InstanceKey, view: &View) -> Self {
        let mut included: HashMap<Selection, bool> = HashMap::new();
        let mut delivery = Self {
            asked: Vec::new(),
            tally: Arc::new(Tally { state: Mutex::new(State { fates: Vec::new(), open: 0 }), changed: Notify::new() }),
        };
        for seat in audience.seats_of(&key.service) {
            let selection = seat.selection();
            let is_included = match included.get(selection) {
                Some(is_included) => *is_included,
                None => *included.entry(selection.clone()).or_insert_with(|| includes(selection, view, &key.id)),
            };
            if is_included && seat.is_here(key, view) {
                delivery.asked.push(seat.subscriber().clone());
                seat.ask(key, view, delivery.tally.issue());
            }
        }
        delivery
    }

    /// Returns when everyone has been sent it, or has gone.
    pub(in crate::http) async fn end(&self) {
        loop {
            let changed = self.tally.changed.notified();
            if self.tally.state.lock().open == 0 {
                return;
            }
            changed.await;
        }
    }

    /// How it stands.
    pub(in crate::http) fn report(&self) -> DeliveryReport {
        let state = self.tally.state.lock();
        let with = |fate: Fate| state.fates.iter().zip(&self.asked).filter(move |(of, _)| **of == fate).map(|(_, subscriber)| subscriber);
        let missing_count = with(Fate::Open).count() as u64;
        DeliveryReport {
            subscribers: with(Fate::Sent).count() as u64 + missing_count,
            missing_count,
            missing: with(Fate::Open).take(MISSING_MAX).cloned().collect(),
        }
    }
}

/// Answers the node's questions, and tells it who is here, until the stop begins.
pub(super) async fn serve(node: Handle, audience: Arc<Audience>, mut asked: mpsc::Receiver<AskedDelivery>, shutdown: Shutdown) {
    let mut running = JoinSet::new();
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = 0;
    loop {
        tokio::select! {
            question = asked.recv() => match question {
                Some(question) => drop(running.spawn(prove(node.clone(), &audience, question))),
                None => return,
            },
            Some(_) = running.join_next() => {}
            _ = look.tick() => {
                let changes = audience.changes();
                if std::mem::replace(&mut told, changes) != changes {
                    let (watchers, count) = audience.watchers();
                    node.tell_audience(watchers, count).await;
                }
            }
            () = shutdown.begun() => return,
        }
    }
}

/// Asks everyone at once; the future waits for what they say.
fn prove(node: Handle, audience: &Audience, asked: AskedDelivery) -> impl Future<Output = ()> + use<> {
    let AskedDelivery { question, key, until } = asked;
    let view = node.catalog().view(&key.service).cloned().unwrap_or_default();
    let delivery = Delivery::begin(audience, &key, &view);
    async move {
        let over = tokio::time::sleep_until(node.clock().instant_of(until).into());
        tokio::select! {
            biased;
            () = delivery.end() => {}
            () = over => {}
        }
        node.tell_delivered(question, delivery.report()).await;
    }
}

impl Tally {
    fn issue(self: &Arc<Self>) -> Receipt {
        let mut state = self.state.lock();
        state.fates.push(Fate::Open);
        state.open += 1;
        Receipt { tally: Arc::clone(self), number: state.fates.len() - 1 }
    }

    fn settle(&self, number: usize, fate: Fate) {
        let mut state = self.state.lock();
        if state.fates[number] == Fate::Open {
            state.fates[number] = fate;
            state.open -= 1;
            drop(state);
            self.changed.notify_waiters();
        }
    }
}

impl Receipt {
    /// It has left for the subscriber's socket.
    pub(in crate::http) fn sent(self) {
        self.tally.settle(self.number, Fate::Sent);
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.tally.settle(self.number, Fate::Gone);
    }
}

/// The selection includes the instance as it is, or would if it were not draining.
fn includes(selection: &Selection, view: &View, id: &InstanceId) -> bool {
    let Some(listed) = view.instances().get(id) else { return false };
    let before = Arc::new(undrained(listed));
    if !selection.looks_at_whole() {
        return selection.admits(listed) || selection.admits(&before);
    }
    shown(selection, view, id).is_some()
        || selection.apply(view.instances().update(id.clone(), before).values()).iter().any(|listed| listed.id == *id)
}

fn undrained(listed: &Listed) -> Listed {
    let registration = &listed.registration;
    let status = if listed.status == Status::Draining { registration.reported().into() } else { listed.status };
    let weight = if listed.weight == 0 { registration.weight() } else { listed.weight };
    Listed { status, weight, ..listed.clone() }
}

/// What a subscriber with this selection is shown of an instance.
fn shown<'a>(selection: &Selection, view: &'a View, id: &InstanceId) -> Option<&'a Arc<Listed>> {
    let listed = view.instances().get(id)?;
    if selection.looks_at_whole() {
        return view.select(selection).into_iter().find(|listed| listed.id == *id);
    }
    selection.admits(listed).then_some(listed)
}

/// Whoever was told the one view need not be told of the instance in the other.
pub(in crate::http) fn is_told(selection: &Selection, told: &View, now: &View, id: &InstanceId) -> bool {
    shown(selection, told, id) == shown(selection, now, id)
}
