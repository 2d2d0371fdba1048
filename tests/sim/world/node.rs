//! Nodes in the world: they start, wake when something is due, and what they want done is done.

use std::collections::BTreeMap;

use muster::model::{Epoch, InstanceKey, Life, NodeName, ServiceKey, Status};
use muster::registry::{Input, NodeState, Notice, Now, PeerAnswer, Registry, Settings, Ticket};

use super::feed::Views;
use super::pause::Pause;
use super::request::Pending;
use super::{Event, Reply, World, describe};
use crate::counts::Injected;
use crate::invariant::{Invariant, Violation};
use crate::namesakes::GIVES_WAY_MS;
use crate::provider::TIMEOUT_MS;
use crate::shell::{Effects, Shell};
use crate::teeth::Sabotage;
use crate::watcher::Watcher;

/// When every story begins, in ms since 1970.
pub(crate) const BEGAN_AT: u64 = 1_700_000_000_000;
/// By so much a wall clock strays, and the next node's by as much again.
const STRAYS_MS: u64 = 1_000_003;
/// One call may want so much done at the most; these worlds are small.
const OUTPUTS_MAX: usize = 5000;
/// A node may act so often within one millisecond: one that was stalled takes at once what gathered meanwhile.
const STEPS_A_MS_MAX: u32 = 2000;

/// A place where a node runs, over its lives.
pub(crate) struct Slot {
    pub(crate) name: NodeName,
    pub(crate) life: u32,
    pub(crate) shell: Option<Shell>,
    pub(crate) watcher: Watcher,
    pub(super) views: Views,
    pub(super) mono_offset: u64,
    /// By how much its monotonic clock goes too fast, in millionths.
    pub(crate) drift_ppm: i64,
    pub(crate) wall_offset: u64,
    /// When its line to the bus broke, while it is broken.
    pub(crate) broken_at: Option<u64>,
    /// What its bus client last told it.
    pub(crate) told_up: bool,
    /// In this life the bus was told to be up once.
    pub(crate) has_been_up: bool,
    pub(super) wake_at: Option<u64>,
    pub(super) is_publishing: bool,
    pub(crate) stalled_until: u64,
    /// When it last went on after a pause.
    pub(crate) resumed_at: u64,
    /// Its process is stopped.
    pub(super) pause: Option<Pause>,
    /// In this life it said that it preserves.
    pub(crate) has_preserved: bool,
    /// It is a copy of another slot's machine, name and all, and runs only for a while.
    pub(crate) is_clone: bool,
    pub(super) pending: BTreeMap<Ticket, Pending>,
    pub(super) steps: (u64, u32),
}

impl Slot {
    pub(super) fn new(index: usize, wall_offset: u64) -> Self {
        Self {
            name: NodeName::parse(&format!("n{index}")).expect("unreachable: it is a name"),
            life: 0,
            shell: None,
            watcher: Watcher::default(),
            views: Views::default(),
            mono_offset: 0,
            drift_ppm: 0,
            wall_offset,
            broken_at: None,
            told_up: false,
            has_been_up: false,
            wake_at: None,
            is_publishing: false,
            stalled_until: 0,
            resumed_at: 0,
            pause: None,
            has_preserved: false,
            is_clone: false,
            pending: BTreeMap::new(),
            steps: (0, 0),
        }
    }

    fn mono_at(&self, world_ms: u64) -> u64 {
        (world_ms + self.mono_offset).saturating_add_signed(world_ms.cast_signed() * self.drift_ppm / 1_000_000)
    }

    /// When its clock comes to this.
    fn comes_to(&self, mono: u64) -> u64 {
        let elapsed = mono.saturating_sub(self.mono_offset).cast_signed();
        let mut at = (elapsed - elapsed * self.drift_ppm / 1_000_000 - 1).max(0).cast_unsigned();
        while self.mono_at(at) < mono {
            at += 1;
        }
        at
    }
}

impl World {
    pub(crate) fn now_at(&self, node: usize) -> Now {
        let slot = &self.slots[node];
        // It starts with a right one, or with one that is off for good.
        let strays = if self.wall_clocks_err && slot.shell.is_some() { STRAYS_MS * (node as u64 + 1) } else { 0 };
        let mono_strays = if self.is_sabotaged(Sabotage::WallForMono) { strays } else { 0 };
        let wall_ms = BEGAN_AT + slot.wall_offset + self.now + strays;
        Now { mono: slot.mono_at(self.now) + mono_strays, wall: wall_ms * Now::WALL_A_MS }
    }

    /// All wall clocks agree.
    pub(crate) fn set_clocks_right(&mut self) {
        self.clocks_agree = true;
        self.slots.iter_mut().for_each(|slot| slot.wall_offset = 0);
    }

    pub(crate) fn registry(&self, node: usize) -> Option<&Registry> {
        self.slots[node].shell.as_ref().map(|shell| &shell.registry)
    }

    /// How the cluster looks from a node that runs.
    pub(crate) fn is_converged(&self, node: usize) -> bool {
        self.registry(node).is_some_and(|registry| registry.cluster(self.now_at(node)).converged)
    }

    pub(crate) fn life(&self, node: usize) -> Option<Life> {
        self.registry(node).map(|registry| registry.settings().life())
    }

    /// The nodes that run.
    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.slots.len()).filter(|node| self.slots[*node].shell.is_some()).collect()
    }

    /// Where nodes belong: not where a clone is.
    pub(crate) fn places(&self) -> Vec<usize> {
        (0..self.slots.len()).filter(|node| !self.slots[*node].is_clone).collect()
    }

    pub(crate) fn is_paused(&self, node: usize) -> bool {
        self.slots[node].pause.is_some()
    }

    /// A copy of this node's machine appears: the next slot will run under its name.
    pub(crate) fn add_clone_of(&mut self, node: usize) {
        let wall_offset = if self.clocks_agree { 0 } else { self.chance.between(0, 7_200_000) };
        let mut slot = Slot::new(self.slots.len(), wall_offset);
        slot.name = self.slots[node].name.clone();
        slot.is_clone = true;
        self.slots.push(slot);
    }

    /// Starts a node in a new life that knows nothing.
    pub(crate) fn start(&mut self, node: usize) {
        if self.slots[node].shell.is_some() {
            return;
        }
        self.counts.add(Injected::NodeStarted);
        let drawn = (self.chance.next(), self.chance.next(), self.chance.between(1, 40), self.chance.between(0, 1 << 40));
        let (epoch, seed, connects_after, mono_offset) = drawn;
        let sabotage = self.sabotage;
        let slot = &mut self.slots[node];
        slot.life += 1;
        slot.mono_offset = 86_400_000 + mono_offset;
        slot.told_up = false;
        slot.has_been_up = false;
        slot.has_preserved = false;
        slot.broken_at = None;
        slot.wake_at = None;
        slot.is_publishing = false;
        slot.stalled_until = 0;
        slot.watcher = Watcher::default();
        slot.views = Views::default();
        let life = slot.life;
        let expects_empty = self.expects_empty(life);
        let slot = &mut self.slots[node];
        let epoch = Epoch(if sabotage == Some(Sabotage::ReuseEpochs) { node as u64 } else { epoch });
        let mut settings = Settings::new(slot.name.clone(), epoch);
        settings.http = format!("{}:1", slot.name);
        settings.bootstrap_wait_ms = self.bootstrap_wait_ms;
        settings.expect_empty = expects_empty || matches!(sabotage, Some(Sabotage::ExpectEmpty | Sabotage::LostDisks));
        if sabotage == Some(Sabotage::ForgetWithdrawn) {
            settings.limits.withdrawn = 0;
        }
        if sabotage == Some(Sabotage::PreserveNever) {
            settings.preserve_percent = 100;
        }
        (self.settings)(&mut settings);
        if sabotage == Some(Sabotage::PreserveForEver) {
            settings.preserve_max_ms = 3_600_000;
        }
        let life = slot.life;
        let now = self.now_at(node);
        self.slots[node].shell = Some(Shell::new(settings, seed, now, sabotage));
        self.trace.say(self.now, || format!("n{node} starts, epoch {epoch}"));
        self.restore(node);
        self.check_shown(node);
        self.note_start(node);
        self.note_losses();
        self.bus.attach(node, true);
        self.after(connects_after, Event::TellLink { node, life, up: true });
        self.schedule(node);
    }

    /// A node is gone with all it knew.
    pub(crate) fn crash(&mut self, node: usize) {
        self.trace.say(self.now, || format!("n{node} is gone"));
        for provider in &mut self.providers {
            provider.note_killed(node, self.now);
        }
        self.ended_at = Some(self.now);
        let slot = &mut self.slots[node];
        slot.shell = None;
        slot.pause = None;
        let pending = std::mem::take(&mut slot.pending);
        for pending in pending.into_values() {
            self.reply(pending.asker, Reply::Unreachable, TIMEOUT_MS);
        }
        self.end_streams(node);
        self.end_connections(node);
        self.note_losses();
        self.note_blank();
    }

    pub(crate) fn leave(&mut self, node: usize, stops_after_ms: u64) {
        let life = self.slots[node].life;
        self.feed(node, Input::Leave);
        self.after(stops_after_ms, Event::Stop { node, life });
    }

    pub(crate) fn feed(&mut self, node: usize, input: Input) {
        let now = self.now_at(node);
        let Some(shell) = &mut self.slots[node].shell else { return };
        let effects = shell.feed(input, now);
        self.apply(node, effects);
    }

    pub(super) fn wake(&mut self, node: usize, life: u32) {
        let slot = &mut self.slots[node];
        if slot.life != life || slot.wake_at != Some(self.now) {
            return;
        }
        slot.wake_at = None;
        if slot.stalled_until > self.now {
            self.schedule(node);
            return;
        }
        self.invent(node);
        self.bury_the_silent(node);
        self.expire_fixed(node);
        let now = self.now_at(node);
        let Some(shell) = &mut self.slots[node].shell else { return };
        let effects = shell.advance(now);
        self.apply(node, effects);
    }

    /// Does in the world what a node wants done.
    pub(super) fn apply(&mut self, node: usize, effects: Effects) {
        self.count_step(node, effects.outputs);
        let Some(life) = self.life(node) else { return };
        for changed in &effects.changed {
            if changed.own {
                self.note_written(node, &changed.record);
                self.last_write = self.now;
                self.writes += 1;
            }
            self.trace.say(self.now, || format!("n{node} {} {}", if changed.own { "writes" } else { "takes" }, describe(&changed.record)));
            // A withdrawn record that only changes hands took nothing away.
            if changed.own && (changed.from.is_some() || changed.to.is_some()) {
                let leases = self
                    .registry(node)
                    .map_or(0, |registry| registry.lease_count() - self.fixed.held_by(registry) - self.words.fixed_held_by(registry));
                self.check_seen(node, changed);
                let is_gone = self.is_gone(&changed.record.key);
                if let Err(Violation { of, what }) = self.expiries.note(&life, &changed.record, is_gone, self.now, leases) {
                    self.violate(of, what);
                }
            }
            self.check_attached(node, changed);
            if let Err(Violation { of, what }) = self.ledger.note(&life, changed) {
                self.violate(of, what);
            }
        }
        let is_will = |notice: &Notice| matches!(notice, Notice::OverrideChanged { .. });
        if effects.notices.iter().any(is_will) {
            // One that is over by itself is over at each node by its own clock: a write like any other.
            self.last_write = self.now;
            self.wills.changes += 1;
            self.save_soon(node);
        }
        if !effects.changed.is_empty() || !effects.became.is_empty() {
            self.save_soon(node);
        }
        for notice in &effects.notices {
            self.trace.say(self.now, || format!("n{node} notices {notice:?}"));
            if matches!(notice, Notice::SteppedDown { .. }) {
                self.end_within(node, GIVES_WAY_MS);
            }
        }
        if let Some(left) = effects.handed_over.filter(|_| self.registry(node).is_some_and(Registry::has_stepped_down)) {
            self.check_handed_over(node, left);
            self.end_within(node, 0);
        }
        self.reborn += usize::from(effects.reborn);
        for state in &effects.became {
            self.trace.say(self.now, || format!("n{node} becomes {}", state.as_str()));
            if *state == NodeState::Leaving {
                self.say_goodbye(node);
                self.end_streams(node);
            }
        }
        for service in &effects.views {
            self.follow(node, service);
            self.feed_consumers(node, service);
        }
        self.complete_consumers(node);
        for attachment in effects.over {
            self.connection_is_over(attachment);
        }
        for asked in &effects.deliveries {
            self.ask_delivery(node, asked);
        }
        for (ticket, answer) in effects.answers {
            self.answer(node, ticket, answer);
        }
        for (epoch, to, message) in effects.sends {
            self.send(&Life { node: life.node.clone(), epoch }, node, &to, &message);
        }
        if effects.reconnect {
            self.reconnect(node);
        }
        for (ticket, probe) in effects.probes {
            self.look_out(node, ticket, &probe);
        }
        for (ticket, peer, epoch) in effects.checks {
            let life = self.slots[node].life;
            // Drawn from the question: how often nodes ask is to change nothing else.
            let after = 5 + ticket.wrapping_mul(0x9e37_79b9) % 1996;
            self.after(after, Event::Checked { node, life, ticket, peer, epoch });
        }
        self.schedule(node);
    }

    /// A node that asked a peer directly sees whether it lives.
    pub(super) fn checked(&mut self, node: usize, life: u32, ticket: Ticket, (peer, epoch): (&NodeName, Option<Epoch>)) {
        if self.slots[node].life != life {
            return;
        }
        let answer = match () {
            () if self.is_answered_by(node, peer, epoch) => PeerAnswer::Alive,
            () if self.is_refused_by(node, peer) && !self.is_sabotaged(Sabotage::NeverRefuse) => PeerAnswer::Refused,
            () => PeerAnswer::Silent,
        };
        self.feed(node, Input::PeerChecked { ticket, answer });
    }

    pub(super) fn count_step(&mut self, node: usize, outputs: usize) {
        let now = self.now;
        let steps = &mut self.slots[node].steps;
        *steps = if steps.0 == now { (now, steps.1 + 1) } else { (now, 1) };
        if steps.1 > STEPS_A_MS_MAX {
            self.violate(Invariant::Bounded, format!("n{node} does not come to rest: {STEPS_A_MS_MAX} steps in one millisecond"));
        }
        if outputs > OUTPUTS_MAX {
            self.violate(Invariant::Bounded, format!("n{node} wants {outputs} things done at once"));
        }
    }

    /// A node that is ready says of what stays listed that it is well.
    fn check_late(&mut self, node: usize, service: &ServiceKey) {
        if !self.none_is_late || !self.is_ready(node) {
            return;
        }
        let is_answered = |key: &InstanceKey| {
            let provider = self.providers.iter().find(|provider| provider.key == *key && !provider.is_twin());
            provider.is_some_and(|provider| provider.is_known_to_live(self.now))
        };
        let is_late = |key: &&InstanceKey| {
            let listed = self.registry(node).and_then(|registry| registry.record(key)?.to_listed());
            let looks_late = listed.is_some_and(|listed| matches!(listed.status, Status::Suspect | Status::Down));
            key.service == *service && is_answered(key) && looks_late
        };
        if let Some(late) = self.protected.iter().find(is_late).cloned() {
            let why = self.registry(node).and_then(|registry| registry.record(&late)?.detail.clone());
            self.violate(Invariant::NothingLost, format!("n{node} says that {late} is late, whose provider is answered 200: {why:?}"));
        }
    }

    pub(super) fn follow(&mut self, node: usize, service: &ServiceKey) {
        self.check_late(node, service);
        let slot = &mut self.slots[node];
        let Some(shell) = &slot.shell else { return };
        match slot.watcher.follow(service, shell.registry.catalog()) {
            Ok(removed) => {
                for id in removed {
                    if let Some(key) = self.protected.iter().find(|key| key.service == *service && key.id == id) {
                        let what = format!("n{node} no longer lists {key}, whose provider is answered 200");
                        self.violate(Invariant::NothingLost, what);
                        return;
                    }
                }
            }
            Err(broken) => self.violate(Invariant::WatchersExact, format!("n{node}: {broken}")),
        }
    }

    pub(super) fn schedule(&mut self, node: usize) {
        let publish_ms = self.publish_ms;
        let slot = &mut self.slots[node];
        let Some(shell) = &slot.shell else { return };
        let life = slot.life;
        let publishes = shell.has_to_publish() && !slot.is_publishing;
        slot.is_publishing |= publishes;
        let due = shell.registry.next_deadline().map(|at| slot.comes_to(at).max(self.now).max(slot.stalled_until));
        let wakes = due.filter(|due| slot.wake_at.is_none_or(|at| *due < at));
        if let Some(at) = wakes {
            slot.wake_at = Some(at);
            self.after(at - self.now, Event::Wake { node, life });
        }
        if publishes {
            let after = self.chance.between(0, publish_ms);
            self.after(after, Event::Publish { node, life });
        }
    }

    /// It answers consumers: it is ready, or shows what its disk held.
    pub(crate) fn answers(&self, node: usize) -> bool {
        self.is_ready(node) || self.registry(node).is_some_and(|registry| registry.state() == NodeState::Warming && registry.has_restored())
    }

    pub(crate) fn lists(&self, node: usize, key: &InstanceKey) -> bool {
        let view = self.registry(node).and_then(|registry| registry.catalog().view(&key.service));
        view.is_some_and(|view| view.instances().contains_key(&key.id))
    }

    pub(crate) fn is_ready(&self, node: usize) -> bool {
        self.registry(node).is_some_and(|registry| registry.state() == NodeState::Ready)
    }
}
