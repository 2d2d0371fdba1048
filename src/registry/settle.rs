//! Settling: a node that knows nothing does not say that there is nothing.
//!
//! That a service has no instance is known from a comparison with a peer that is complete, from a warm file, from an operator, or because
//! every provider had its turn: each registers, or renews, within its ttl and the grace. Until then what is known is served as incomplete.

use super::io::Output;
use super::link::BusHealth;
use super::message::{Beacon, NodeState};
use super::notice::Notice;
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::NodeName;

/// So much longer a node waits for peers that it cannot compare with: those that warm, and those that answer no pull.
const UNANSWERED_MS: u64 = 30_000;

/// Whether a node knows enough to say of a service of which it knows no instance that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Knowledge {
    /// It may say so.
    Enough,
    /// It has not joined yet.
    Joining,
    /// It does not join: another node runs under its name.
    NameTaken,
    /// Its bus was never reached: other nodes may hold what it does not.
    Unreached,
    /// It waits until every provider had its turn.
    Settling {
        /// Until then at the latest, where its bus and the peers it hears let it; that may be past.
        until: Mono,
    },
}

impl Knowledge {
    /// An empty list would be the truth.
    #[must_use]
    pub fn is_enough(self) -> bool {
        self == Self::Enough
    }
}

/// What a node has to say of services of which it knows nothing.
pub(super) struct Settle {
    /// How long every provider needs to have its turn.
    ms: u64,
    /// An operator says that nothing was there before.
    expects_empty: bool,
    /// A warm file was read whole that was written by a node which knew enough.
    has_file: bool,
    /// This node has heard itself on its bus once, or has none.
    has_reached: bool,
    /// Since when it takes the word of every provider; `None`: it has not joined.
    since: Option<Mono>,
    /// As it was looked at last: it waits for no provider any more.
    is_over: bool,
    /// That it settles was said.
    is_noticed: bool,
    /// That it waits no longer for peers that it cannot compare with was said.
    is_tired_noticed: bool,
}

impl Settle {
    pub(super) fn new(ms: u64, expects_empty: bool, has_bus: bool) -> Self {
        Self {
            ms,
            expects_empty,
            has_file: false,
            has_reached: !has_bus,
            since: None,
            is_over: false,
            is_noticed: false,
            is_tired_noticed: false,
        }
    }

    /// What was on the disk is all that a node knew which knew enough.
    pub(super) fn trust_file(&mut self) {
        self.has_file = true;
    }

    /// The bus carries what this node says.
    pub(super) fn reach(&mut self) {
        self.has_reached = true;
    }

    pub(super) fn has_reached(&self) -> bool {
        self.has_reached
    }

    /// A new life begins: what the former one knew is as old as its end, and nobody vouches for what came since.
    pub(super) fn begin_anew(&mut self) {
        self.since = None;
        self.expects_empty = false;
        self.has_file = false;
        self.is_over = false;
        self.is_noticed = false;
        self.is_tired_noticed = false;
    }

    /// The node has joined and can be reached by providers.
    fn begin(&mut self, now: Mono) {
        if self.has_reached {
            self.since.get_or_insert(now);
        }
    }

    fn until(&self) -> Option<Mono> {
        self.since.map(|since| since + self.ms)
    }

    /// Peers that cannot be compared with were waited for long enough.
    fn is_tired(&self, now: Mono) -> bool {
        self.until().is_some_and(|until| until + UNANSWERED_MS <= now)
    }

    /// When waiting is over, for providers first, then for peers.
    fn until_at(&self, now: Mono) -> Option<Mono> {
        self.until().map(|until| if now < until { until } else { until + UNANSWERED_MS })
    }

    /// Somebody vouches for what is not known here, or every provider had its turn.
    fn look(&mut self, now: Mono) -> bool {
        self.is_over = self.has_reached && (self.expects_empty || self.has_file || self.until().is_some_and(|until| until <= now));
        self.is_over
    }
}

impl Registry {
    /// Whether this node knows enough to say that a service has no instance.
    #[must_use]
    pub fn knowledge(&self, now: Now) -> Knowledge {
        if self.complete {
            return Knowledge::Enough;
        }
        match self.state {
            NodeState::Warming if self.namesakes.has_name() => Knowledge::NameTaken,
            NodeState::Warming => Knowledge::Joining,
            NodeState::Ready | NodeState::Leaving if !self.settle.has_reached() => Knowledge::Unreached,
            NodeState::Leaving if !self.has_been_ready => Knowledge::Joining,
            NodeState::Ready | NodeState::Leaving => {
                if self.settle.is_over && self.hears_all_it_can(now.mono) {
                    return Knowledge::Enough;
                }
                Knowledge::Settling { until: self.settle.until_at(now.mono).unwrap_or(now.mono + self.settle.ms) }
            }
        }
    }

    /// The node's bus was reached once in its life, or it has none.
    #[must_use]
    pub fn has_reached_bus(&self) -> bool {
        self.settle.has_reached()
    }

    /// For how much longer this node waits until every provider had its turn; `None`: it knows enough, or has not joined.
    #[must_use]
    pub fn settling_ms(&self, now: Now) -> Option<u64> {
        match self.knowledge(now) {
            Knowledge::Settling { until } => Some(until.saturating_sub(now.mono)),
            Knowledge::Enough | Knowledge::Joining | Knowledge::NameTaken | Knowledge::Unreached => None,
        }
    }

    /// Nothing speaks against being sure but what providers may still say: the bus, where there is one, is heard for as long as it takes
    /// to hear a peer, and all that the peers heard hold was compared with.
    pub(super) fn hears_all_it_can(&self, now: Mono) -> bool {
        let is_heard = match self.link.health() {
            BusHealth::None => true,
            BusHealth::Up => self.link.hears_since().is_some_and(|since| since + self.listening_ms() <= now),
            BusHealth::Deaf | BusHealth::Down => false,
        };
        is_heard && self.not_compared_with(now).all(|peer| self.settle.is_tired(now) && !self.repair.is_answered(peer, now))
    }

    /// Every provider had its turn, or somebody vouches that there was none.
    pub(super) fn has_settled(&mut self, now: Now, out: &mut Outbox) -> bool {
        self.settle.begin(now.mono);
        if self.settle.look(now.mono) {
            return true;
        }
        if let Some(until) = self.settle.until().filter(|_| !self.settle.is_noticed) {
            self.settle.is_noticed = true;
            out.push(Output::Noticed(Notice::Settling { ms: until.saturating_sub(now.mono) }));
        }
        false
    }

    /// Who holds something, was waited for, and could not be compared with is said once.
    pub(super) fn notice_not_compared(&mut self, now: Mono, out: &mut Outbox) {
        let peers: Vec<NodeName> = self.not_compared_with(now).cloned().collect();
        if !peers.is_empty() && !self.settle.is_tired_noticed {
            self.settle.is_tired_noticed = true;
            out.push(Output::Noticed(Notice::NotCompared { peers }));
        }
    }

    /// What a beacon says of it.
    pub(super) fn to_settling(&self, now: Now) -> Option<u32> {
        self.settling_ms(now).map(|ms| u32::try_from(ms).unwrap_or(u32::MAX))
    }
}

/// For how much longer a peer settles, as it said.
pub(super) fn settling_ms_of(beacon: &Beacon, heard_ms: u64) -> Option<u64> {
    beacon.settling_ms.map(|ms| u64::from(ms).saturating_sub(heard_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, Life};
    use crate::registry::{Envelope, Input, Message, Settings};

    const START: Now = Now { mono: 1_000_000, wall: 0 };

    fn after(ms: u64) -> Now {
        Now { mono: START.mono + ms, wall: ms }
    }

    fn node(change: impl FnOnce(&mut Settings)) -> Registry {
        let mut settings = Settings::new(NodeName::parse("n1").unwrap(), Epoch(1));
        change(&mut settings);
        Registry::new(settings, 1, START)
    }

    /// Lets it run from `from` to `to`, in steps that are no pause; on a bus it hears itself.
    fn run(registry: &mut Registry, from: u64, to: u64, is_heard: bool) {
        for ms in (from..=to).step_by(50) {
            if is_heard && ms % 1000 == 0 {
                let own = Envelope { from: registry.life.clone(), message: Message::Beacon(Beacon::of(NodeState::Warming)) };
                registry.handle(Input::Received(own), after(ms), &mut Outbox::new());
            }
            registry.advance(after(ms), &mut Outbox::new());
        }
    }

    #[test]
    fn a_node_alone_knows_that_there_is_nothing_once_every_provider_had_its_turn() {
        let mut registry = node(|settings| settings.has_bus = false);
        run(&mut registry, 0, 19_950, false);
        let until = START.mono + 20_000;
        assert_eq!(
            (registry.state(), registry.complete(), registry.knowledge(after(19_950))),
            (NodeState::Ready, false, Knowledge::Settling { until })
        );
        assert_eq!(registry.settling_ms(after(19_950)), Some(50));
        run(&mut registry, 20_000, 20_050, false);
        assert_eq!(
            (registry.complete(), registry.knowledge(after(20_050)), registry.settling_ms(after(20_050))),
            (true, Knowledge::Enough, None)
        );
    }

    #[test]
    fn who_is_told_that_nothing_was_there_does_not_settle() {
        let mut registry = node(|settings| (settings.has_bus, settings.expect_empty) = (false, true));
        run(&mut registry, 0, 50, false);
        assert!(registry.complete() && registry.knowledge(after(50)).is_enough());
    }

    #[test]
    fn a_bus_that_was_never_reached_is_never_settled_whatever_was_expected() {
        let mut registry = node(|settings| settings.expect_empty = true);
        run(&mut registry, 0, 60_000, false);
        assert_eq!((registry.state(), registry.state_word(), registry.complete()), (NodeState::Ready, "warming", false));
        assert_eq!(registry.knowledge(after(60_000)), Knowledge::Unreached);
        registry.handle(Input::BusConnected, after(60_000), &mut Outbox::new());
        run(&mut registry, 60_050, 64_000, true);
        assert_eq!((registry.state_word(), registry.knowledge(after(64_000))), ("ready", Knowledge::Enough));
    }

    #[test]
    fn a_bus_that_carries_while_nobody_else_is_heard_proves_nothing() {
        let mut registry = node(|_| ());
        registry.handle(Input::BusConnected, START, &mut Outbox::new());
        run(&mut registry, 0, 21_950, true);
        assert_eq!((registry.state(), registry.complete()), (NodeState::Ready, false));
        assert!(matches!(registry.knowledge(after(21_950)), Knowledge::Settling { .. }));
        run(&mut registry, 22_000, 22_100, true);
        assert!(registry.complete());
    }

    #[test]
    fn a_peer_that_settles_is_heard_and_vouches_for_nothing() {
        let mut registry = node(|_| ());
        registry.handle(Input::BusConnected, START, &mut Outbox::new());
        let peer = Life { node: NodeName::parse("n2").unwrap(), epoch: Epoch(2) };
        for from in (0..10_000).step_by(1000) {
            let beacon = Beacon { complete: false, settling_ms: Some(9000), ..Beacon::of(NodeState::Warming) };
            registry.handle(
                Input::Received(Envelope { from: peer.clone(), message: Message::Beacon(beacon) }),
                after(from),
                &mut Outbox::new(),
            );
            run(&mut registry, from, from + 950, true);
        }
        assert_eq!((registry.state(), registry.complete()), (NodeState::Ready, false));
        let shown = registry.cluster(after(9950)).nodes;
        assert_eq!((shown[1].settling_ms, shown[0].settling_ms.is_some()), (Some(9000 - 950), true));
    }

    #[test]
    fn a_file_counts_if_it_was_written_by_a_node_that_knew_enough() {
        for knew_enough in [true, false] {
            let mut registry = node(|settings| settings.has_bus = false);
            let restore =
                Input::Restore { records: Vec::new(), overrides: Vec::new(), unrenewed: Vec::new(), saved_at: START.mono, knew_enough };
            registry.handle(restore, START, &mut Outbox::new());
            run(&mut registry, 0, 50, false);
            assert_eq!((registry.complete(), registry.picture(after(50)).unwrap().knows_enough()), (knew_enough, knew_enough));
        }
    }
}
