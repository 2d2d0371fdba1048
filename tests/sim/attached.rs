//! Attached providers: they hold their leases by a connection to one node, and open another one when it ends. A connection has two ends, and
//! where the line between them is cut each notices in its own time.

use std::collections::BTreeMap;

use muster::model::{InstanceKey, Status};
use muster::registry::{Body, Changed, Input, NodeState, Seen, Ticket};

use crate::counts::Injected;
use crate::invariant::Invariant;
use crate::provider::Doing;
use crate::teeth::Sabotage;
use crate::world::{Asker, Event, World};

/// A provider that hears nothing of a node for so long takes its connection for dead.
const UNPINGED_MS: u64 = 6000;
/// A cut line is noticed within this time, by either end.
const CUT_NOTICED_MS: u64 = 8000;
/// A provider that is told goodbye is back elsewhere within this time.
const GOODBYE_MS: u64 = 900;

/// One connection, for as long as the node's end is open.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    key: InstanceKey,
    node: usize,
    life: u32,
    provider: usize,
    process: u32,
    asked: u64,
    /// Nothing gets through, and one end or the other may not know yet.
    is_cut: bool,
}

/// By the question that opened it.
pub(crate) type Connections = BTreeMap<Ticket, Connection>;

impl World {
    /// A node is about to be asked to hold a lease by the connection that the question comes on.
    pub(crate) fn open_connection(&mut self, node: usize, ticket: Ticket, key: &InstanceKey, asker: Asker) {
        let life = self.slots[node].life;
        let Asker::Provider { provider, process, asked, .. } = asker else {
            // Whoever asked has gone meanwhile.
            return self.after(0, Event::Detached { node, life, attachment: ticket });
        };
        let connection = Connection { key: key.clone(), node, life, provider, process, asked, is_cut: false };
        self.connections.insert(ticket, connection);
    }

    /// The provider has heard that its connection is open. Any former one it closes.
    pub(crate) fn attached(&mut self, provider: usize, process: u32, asked: u64) {
        let is_it = |(_, at): &(&Ticket, &Connection)| (at.provider, at.process, at.asked) == (provider, process, asked);
        let ticket = self.connections.iter().find(is_it).map(|(ticket, _)| *ticket);
        let former = std::mem::replace(&mut self.providers[provider].connection, ticket);
        if let Some(former) = former {
            self.close(former);
        }
        // It may have ended before its opening was heard of.
        let next = if ticket.is_some() { Doing::Attached } else { Doing::Registering };
        self.providers[provider].doing = next;
    }

    /// Nobody waits for the answer to this question any more. Whatever it opened took the place of a former connection, which is let go too.
    pub(crate) fn abandon(&mut self, provider: usize, process: u32, asked: u64) {
        let is_it = |(_, at): &(&Ticket, &Connection)| (at.provider, at.process, at.asked) == (provider, process, asked);
        let Some(ticket) = self.connections.iter().find(is_it).map(|(ticket, _)| *ticket) else { return };
        if self.providers[provider].process == process
            && let Some(former) = self.providers[provider].connection.take()
        {
            self.close(former);
            self.providers[provider].doing = Doing::Registering;
        }
        self.close(ticket);
    }

    /// The process ends, and with it all its connections.
    pub(crate) fn close_all_of(&mut self, provider: usize) {
        self.providers[provider].connection = None;
        let tickets: Vec<Ticket> = self.connections.iter().filter(|(_, at)| at.provider == provider).map(|(ticket, _)| *ticket).collect();
        for ticket in tickets {
            self.close(ticket);
        }
    }

    /// The provider's end closes; the node's end sees it at once, unless nothing gets through.
    fn close(&mut self, ticket: Ticket) {
        let Some(at) = self.connections.get(&ticket).cloned() else { return };
        let (node, life) = (at.node, at.life);
        if at.is_cut {
            // The node's end has its own time for it.
            return;
        }
        if self.is_paused(node) || self.slots[node].stalled_until > self.now {
            return self.after(0, Event::Detached { node, life, attachment: ticket });
        }
        self.detach(node, life, ticket);
        self.check_detached(&at);
    }

    /// The node's end of a connection sees that it is closed.
    pub(crate) fn detach(&mut self, node: usize, life: u32, attachment: Ticket) {
        if self.slots[node].stalled_until > self.now {
            let wait = self.slots[node].stalled_until - self.now;
            return self.after(wait, Event::Detached { node, life, attachment });
        }
        self.connections.remove(&attachment);
        if self.slots[node].life == life && self.slots[node].shell.is_some() {
            self.trace.say(self.now, || format!("n{node} sees connection {attachment} closed"));
            match self.sabotage {
                Some(Sabotage::MissEnds) => {}
                Some(Sabotage::MistakeEnds) => {
                    let newest = self.of_node(node).last().map_or(attachment, |(ticket, _)| *ticket);
                    self.feed(node, Input::Detached(newest));
                }
                _ => self.feed(node, Input::Detached(attachment)),
            }
        }
    }

    /// What its owner knew to be held by a connection that has just closed is late at once.
    fn check_detached(&mut self, at: &Connection) {
        let Some(registry) = self.registry(at.node).filter(|registry| registry.state() != NodeState::Leaving) else { return };
        let is_held_anew = self.connections.values().any(|other| other.node == at.node && other.key == at.key);
        let Some(record) = registry.record(&at.key).filter(|record| Some(&record.version.owner) == self.life(at.node).as_ref()) else {
            return;
        };
        let is_well = record.to_listed().is_some_and(|listed| matches!(listed.status, Status::Up | Status::Starting));
        let is_of_it = self.providers[at.provider].process == at.process || self.providers[at.provider].process == at.process + 1;
        if is_well && !is_held_anew && is_of_it && !self.is_contested(&at.key) && self.was_attached(at) {
            let what = format!("n{} saw the connection of {} closed, and says that it is well", at.node, at.key);
            self.violate(Invariant::NoZombie, what);
        }
    }

    /// The last question about the instance at this node is the one that opened the connection: else something else holds its lease there.
    fn was_attached(&self, at: &Connection) -> bool {
        self.providers[at.provider].asked_last == Some(at.asked)
    }

    /// A node wrote this: of what a connection holds there, and both ends know to be open, nothing is late.
    pub(crate) fn check_attached(&mut self, node: usize, changed: &Changed) {
        let record = &changed.record;
        let is_late = matches!(record.body, Body::Live { seen: Seen::Suspect | Seen::Down, .. } | Body::Withdrawn { kept: Some(_), .. });
        let by_silence =
            matches!(record.cause, muster::model::Cause::Expired | muster::model::Cause::Detached | muster::model::Cause::Preserved);
        if !changed.own || !is_late || !by_silence || self.is_contested(&record.key) {
            return;
        }
        let holds = |(ticket, at): &(&Ticket, &Connection)| {
            let provider = &self.providers[at.provider];
            at.node == node
                && at.key == record.key
                && at.life == self.slots[node].life
                && !at.is_cut
                && provider.process == at.process
                && provider.connection == Some(**ticket)
        };
        if let Some((ticket, _)) = self.connections.iter().find(holds) {
            let what = format!("n{node} says that {} is late ({}), whose connection {ticket} is open", record.key, record.cause);
            self.violate(Invariant::NothingLost, what);
        }
    }

    /// The provider's end of a connection sees that it is over.
    pub(crate) fn connection_ends(&mut self, provider: usize, process: u32, attachment: Ticket) {
        let nodes = self.slots.len();
        let at = &mut self.providers[provider];
        if at.process != process || at.connection != Some(attachment) {
            return;
        }
        at.connection = None;
        at.doing = Doing::Registering;
        self.providers[provider].home = self.chance.index(nodes);
        self.tick_provider(provider, 1);
        self.close(attachment);
    }

    fn of_node(&self, node: usize) -> Vec<(Ticket, Connection)> {
        self.connections.iter().filter(|(_, at)| at.node == node).map(|(ticket, at)| (*ticket, at.clone())).collect()
    }

    /// The node is gone: the other ends see it, unless nothing gets through.
    pub(crate) fn end_connections(&mut self, node: usize) {
        for (ticket, at) in self.of_node(node) {
            self.connections.remove(&ticket);
            if !at.is_cut {
                let after = self.chance.between(1, 50);
                self.after(after, Event::ConnectionEnds { provider: at.provider, process: at.process, attachment: ticket });
            }
        }
    }

    /// The node leaves: it says goodbye, and closes.
    pub(crate) fn say_goodbye(&mut self, node: usize) {
        for (ticket, at) in self.of_node(node) {
            self.after(0, Event::Detached { node, life: at.life, attachment: ticket });
            if !at.is_cut {
                let after = self.chance.between(50, GOODBYE_MS);
                self.after(after, Event::ConnectionEnds { provider: at.provider, process: at.process, attachment: ticket });
            }
        }
    }

    /// A node has told a connection that it holds nothing any more.
    pub(crate) fn connection_is_over(&mut self, attachment: Ticket) {
        let Some(at) = self.connections.remove(&attachment) else { return };
        self.trace.say(self.now, || format!("connection {attachment} holds {} no more", at.key));
        if !at.is_cut {
            let after = self.chance.between(1, 5);
            self.after(after, Event::ConnectionEnds { provider: at.provider, process: at.process, attachment });
        }
    }

    /// A node is paused: whoever waits for its pings gives up.
    pub(crate) fn miss_pings(&mut self, node: usize, paused_ms: u64) {
        if paused_ms > UNPINGED_MS {
            for (ticket, at) in self.of_node(node) {
                self.after(UNPINGED_MS, Event::ConnectionEnds { provider: at.provider, process: at.process, attachment: ticket });
            }
        }
    }

    /// Nothing gets through on a provider's connection any more.
    pub(crate) fn cut_connection(&mut self, provider: usize) {
        let Some(ticket) = self.providers[provider].connection else { return };
        let noticed = [self.chance.between(1, CUT_NOTICED_MS / 2), self.chance.between(1, CUT_NOTICED_MS)];
        let Some(at) = self.connections.get_mut(&ticket).filter(|at| !at.is_cut) else { return };
        at.is_cut = true;
        let (node, life, process) = (at.node, at.life, at.process);
        self.counts.add(Injected::ConnectionCut);
        self.trace.say(self.now, || format!("connection {ticket} is cut, which is noticed after {noticed:?} ms"));
        self.after(noticed[0], Event::ConnectionEnds { provider, process, attachment: ticket });
        self.after(noticed[1], Event::Detached { node, life, attachment: ticket });
    }

    /// Both ends of its connection are open, and the node runs.
    pub(crate) fn is_held(&self, provider: usize) -> bool {
        let ticket = self.providers[provider].connection;
        ticket.and_then(|ticket| self.connections.get(&ticket)).is_some_and(|at| !at.is_cut && !self.is_paused(at.node))
    }
}
