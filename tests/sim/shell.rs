//! A node without a process: the registry, and the shell's part as `node/task.rs` and `node/leases.rs` play it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use muster::model::{Epoch, InstanceKey, NodeName, Seq, ServiceKey};
use muster::registry::{
    Answer, BusHealth, Change, Changed, Heartbeat, Input, LeaseTerms, Message, Mono, NodeState, Notice, Now, Outbox, Output, Picture,
    Probe, Purpose, Registry, Renewed, Settings, Ticket, To, UnrenewedLease,
};

use crate::drains::AskedDelivery;
use crate::teeth::Sabotage;

/// As in `node/task.rs`.
const BATCH_BYTES_MAX: usize = 176 * 1024;
const BATCHES_MAX: usize = 16;

pub(crate) struct Shell {
    pub(crate) registry: Registry,
    name: NodeName,
    /// In which all is said that the registry wants said now.
    epoch: Epoch,
    leases: BTreeMap<InstanceKey, Cell>,
    is_closed: bool,
    published: Seq,
    outbox: Outbox,
    sabotage: Option<Sabotage>,
}

struct Cell {
    terms: LeaseTerms,
    last_heartbeat: Mono,
}

/// What a call left to be done in the world.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) sends: Vec<(Epoch, To, Message)>,
    pub(crate) answers: Vec<(Ticket, Answer)>,
    pub(crate) changed: Vec<Changed>,
    pub(crate) views: BTreeSet<ServiceKey>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) became: Vec<NodeState>,
    pub(crate) reconnect: bool,
    /// Who has been sent something, to be answered later.
    pub(crate) deliveries: Vec<AskedDelivery>,
    /// Peers to be asked directly whether they live.
    pub(crate) checks: Vec<(Ticket, NodeName, Option<Epoch>)>,
    /// Instances that are to be looked at.
    pub(crate) probes: Vec<(Ticket, Probe)>,
    /// The node began a new life.
    pub(crate) reborn: bool,
    /// The node has handed over what it owned, but for so many leases.
    pub(crate) handed_over: Option<usize>,
    /// Connections that hold their instance no more.
    pub(crate) over: Vec<Ticket>,
    /// How many outputs there were in all.
    pub(crate) outputs: usize,
}

impl Shell {
    pub(crate) fn new(settings: Settings, seed: u64, now: Now, sabotage: Option<Sabotage>) -> Self {
        let (name, epoch) = (settings.node.clone(), settings.epoch);
        let registry = Registry::new(settings, seed, now);
        Self { registry, name, epoch, leases: BTreeMap::new(), is_closed: false, published: 0, outbox: Outbox::new(), sabotage }
    }

    /// A heartbeat that is a renewal and nothing else never reaches the registry.
    pub(crate) fn renew(&mut self, heartbeat: &Heartbeat) -> Option<Renewed> {
        let cell = self.leases.get_mut(&heartbeat.key)?;
        let terms = &cell.terms;
        let fits = terms.steady
            && heartbeat.incarnation.is_none_or(|incarnation| incarnation == terms.incarnation)
            && heartbeat.digest.is_none_or(|digest| digest == terms.digest)
            && heartbeat.reported.is_none_or(|reported| reported == terms.reported && !terms.draining)
            && !self.is_closed;
        if !fits {
            return None;
        }
        cell.last_heartbeat = cell.last_heartbeat.max(heartbeat.at);
        Some(Renewed {
            renew_every_ms: terms.renew_every_ms,
            owner: self.name.clone(),
            incarnation: terms.incarnation,
            status: terms.status,
        })
    }

    /// Lets the registry handle an input and whatever it asks back, and do what has become due.
    pub(crate) fn feed(&mut self, input: Input, now: Now) -> Effects {
        let mut effects = Effects::default();
        self.handle_all(VecDeque::from([input]), now, &mut effects);
        self.advance_into(now, &mut effects);
        effects
    }

    /// Does what has become due.
    pub(crate) fn advance(&mut self, now: Now) -> Effects {
        let mut effects = Effects::default();
        self.advance_into(now, &mut effects);
        effects
    }

    fn advance_into(&mut self, now: Now, effects: &mut Effects) {
        if self.registry.next_deadline().is_some_and(|at| at <= now.mono) {
            self.registry.advance(now, &mut self.outbox);
            let inputs = self.perform(effects);
            self.handle_all(inputs, now, effects);
        }
    }

    fn handle_all(&mut self, mut inputs: VecDeque<Input>, now: Now, effects: &mut Effects) {
        while let Some(input) = inputs.pop_front() {
            self.registry.handle(input, now, &mut self.outbox);
            inputs.extend(self.perform(effects));
        }
    }

    fn perform(&mut self, effects: &mut Effects) -> VecDeque<Input> {
        let mut inputs = VecDeque::new();
        effects.outputs += self.outbox.len();
        for output in std::mem::take(&mut self.outbox) {
            match output {
                Output::Answer(ticket, answer) => effects.answers.push((ticket, answer)),
                Output::HoldLease { key, terms, at } => {
                    let is_late = !terms.steady;
                    let last = self.leases.get(&key).map_or(at, |cell| cell.last_heartbeat.max(at));
                    self.leases.insert(key.clone(), Cell { terms, last_heartbeat: last });
                    if is_late && last > at {
                        inputs.push_back(Input::Lease { key, last_heartbeat: Some(last), purpose: Purpose::Due });
                    }
                }
                Output::RenewLease { key, at } => {
                    if let Some(cell) = self.leases.get_mut(&key) {
                        cell.last_heartbeat = cell.last_heartbeat.max(at);
                    }
                }
                Output::AskLease { key, purpose } => inputs.extend(self.tell_lease(key, purpose)),
                Output::DropLease { key } => {
                    self.leases.remove(&key);
                }
                Output::AttachmentOver { attachment, .. } => effects.over.push(attachment),
                Output::Send(to, message) => effects.sends.push((self.epoch, to, message)),
                Output::Reconnect => effects.reconnect = true,
                Output::CheckPeer { ticket, node, epoch, .. } => effects.checks.push((ticket, node, epoch)),
                Output::Probe { ticket, probe, .. } => effects.probes.push((ticket, probe)),
                Output::HandedOver { left } => effects.handed_over = Some(left),
                Output::Reborn(epoch) => {
                    self.published = 0;
                    self.epoch = epoch;
                    effects.reborn = true;
                }
                Output::Changed(changed) => effects.changed.push(changed),
                Output::AskDelivery { question, key, until } => effects.deliveries.push(AskedDelivery { question, key, until }),
                Output::AudienceChanged => {}
                Output::ViewChanged(service) => {
                    if self.sabotage != Some(Sabotage::ForgetViewChanges) {
                        effects.views.insert(service);
                    }
                }
                Output::BecameState(state) => {
                    self.is_closed = state == NodeState::Leaving;
                    effects.became.push(state);
                }
                Output::Noticed(notice) => {
                    if matches!(notice, Notice::SteppedDown { .. }) && self.sabotage == Some(Sabotage::EndAtOnce) {
                        effects.handed_over = Some(0);
                    }
                    effects.notices.push(notice);
                }
            }
        }
        inputs
    }

    fn tell_lease(&mut self, key: InstanceKey, purpose: Purpose) -> Option<Input> {
        let mut last_heartbeat = self.leases.get(&key).map(|cell| cell.last_heartbeat);
        if purpose == Purpose::Ended {
            self.leases.remove(&key);
        }
        if purpose == Purpose::Due {
            match self.sabotage {
                Some(Sabotage::NeverRenew) => last_heartbeat = Some(0),
                Some(Sabotage::NeverExpire) => return None,
                _ => {}
            }
        }
        Some(Input::Lease { key, last_heartbeat, purpose })
    }

    /// The leases of a picture that no heartbeat renewed.
    pub(crate) fn unrenewed(&self, picture: &Picture) -> Vec<UnrenewedLease> {
        picture.unrenewed(|key| self.leases.get(key).map(|cell| cell.last_heartbeat))
    }

    pub(crate) fn has_to_publish(&self) -> bool {
        self.published < self.registry.head() && self.registry.may_publish()
    }

    /// What the bus is given now; while it is down nothing gathers.
    pub(crate) fn publish(&mut self) -> Vec<Change> {
        let head = self.registry.head();
        if !self.registry.may_publish() {
            return Vec::new();
        }
        if matches!(self.registry.bus(), BusHealth::None | BusHealth::Down) {
            self.published = head;
            return Vec::new();
        }
        let Some(batches) = self.registry.changes_after(self.published, BATCH_BYTES_MAX, BATCHES_MAX) else {
            self.published = head;
            return Vec::new();
        };
        self.published = batches.last().map_or(head, |last| last.last);
        batches
    }
}
