//! Majority: whether this node may judge who is silent, and if not, why. A node that judges nobody lets nothing expire and takes nothing
//! over: its operator is to know.

use super::io::Output;
use super::link::BusHealth;
use super::message::NodeState;
use super::notice::Notice;
use super::peers::DEAD_MS;
use super::time::{Mono, Now};
use super::{Outbox, Registry};

/// How many silent members are named.
const NAMED_MAX: usize = 5;

/// Whether a node judges, and by whom it is counted, for `/v1/cluster`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Majority {
    /// How many nodes count, this one among them.
    pub members: usize,
    /// How many of them are heard, this one among them.
    pub heard: usize,
    /// It judges who is silent: leases expire, and what the dead owned is taken over.
    pub judges: bool,
    /// Why it does not; `None`: it does.
    pub why: Option<String>,
}

/// Since when there has been no majority.
#[derive(Default)]
pub(super) struct NoMajority {
    since: Option<Mono>,
    /// An operator was told.
    is_noticed: bool,
}

impl Registry {
    /// Whether this node judges who is silent.
    #[must_use]
    pub fn majority(&self, now: Now) -> Majority {
        let why = self.why_not_judging(now.mono);
        Majority { members: self.peers.member_count(now.mono), heard: self.peers.heard_count(now.mono), judges: why.is_none(), why }
    }

    /// This node judges who is silent.
    pub(super) fn judges(&self, now: Mono) -> bool {
        let is_alone = self.peers.member_count(now) == 1;
        if is_alone { self.state == NodeState::Ready } else { self.may_judge(now) }
    }

    fn why_not_judging(&self, now: Mono) -> Option<String> {
        if self.judges(now) {
            return None;
        }
        Some(match (self.state, self.link.health()) {
            (NodeState::Warming, _) => "it is warming".to_owned(),
            (NodeState::Leaving, _) => "it is leaving".to_owned(),
            (NodeState::Ready, bus @ (BusHealth::Down | BusHealth::Deaf)) => format!("its bus is {}", bus.as_str()),
            (NodeState::Ready, BusHealth::None | BusHealth::Up) if !self.peers.hears_majority(now) => self.describe_silent(now),
            (NodeState::Ready, _) if !self.is_heard(now) => "no alive peer hears it".to_owned(),
            (NodeState::Ready, _) if self.health.is_returning() => "it was paused, and compares with a peer first".to_owned(),
            (NodeState::Ready, _) => "it is late itself".to_owned(),
        })
    }

    fn describe_silent(&self, now: Mono) -> String {
        let (members, heard) = (self.peers.member_count(now), self.peers.heard_count(now));
        let silent: Vec<&str> = self.peers.silent_members(now).map(crate::model::NodeName::as_str).collect();
        let named = silent.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
        let more = silent.len().saturating_sub(NAMED_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("it hears {heard} of {members} members, and a majority is {}; silent: {named}{more}", members / 2 + 1)
    }

    /// Raises the alarm when there has been no majority for a while, and says when there is one again.
    pub(super) fn note_majority(&mut self, now: Now, out: &mut Outbox) {
        let (members, heard) = (self.peers.member_count(now.mono), self.peers.heard_count(now.mono));
        if self.peers.hears_majority(now.mono) || self.state != NodeState::Ready {
            if std::mem::take(&mut self.no_majority).is_noticed {
                out.push(Output::Noticed(Notice::Majority { members, heard, judges: true }));
            }
            return;
        }
        let since = *self.no_majority.since.get_or_insert(now.mono);
        if !self.no_majority.is_noticed && since + DEAD_MS <= now.mono {
            self.no_majority.is_noticed = true;
            out.push(Output::Noticed(Notice::Majority { members, heard, judges: false }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, Life, NodeName};
    use crate::registry::{AppliedAt, Beacon, Envelope, Evidence, Input, MEMBERS_MAX, MemberAt, Message, Settings};

    struct Scene {
        registry: Registry,
        now: Mono,
        out: Outbox,
    }

    fn life(name: &str) -> Life {
        Life { node: NodeName::parse(name).unwrap(), epoch: Epoch(1) }
    }

    fn member(name: &str) -> MemberAt {
        MemberAt { node: NodeName::parse(name).unwrap(), age_ms: 100, has_left: false, evidence: None }
    }

    impl Scene {
        fn new() -> Self {
            let now = 10_000_000;
            let registry = Registry::new(Settings::new(life("n1").node, Epoch(1)), 1, Now { mono: now, wall: 0 });
            let mut scene = Self { registry, now, out: Outbox::new() };
            scene.registry.handle(Input::BusConnected, scene.at(), &mut scene.out);
            scene
        }

        fn at(&self) -> Now {
            Now { mono: self.now, wall: 0 }
        }

        fn speak(&mut self, from: &str, members: Vec<MemberAt>) {
            let applied = vec![AppliedAt { life: life("n1"), seq: 0, age_ms: Some(0) }];
            let beacon = Beacon { applied, members, ..Beacon::of(NodeState::Ready) };
            let envelope = Envelope { from: life(from), message: Message::Beacon(beacon) };
            self.registry.handle(Input::Received(envelope), self.at(), &mut self.out);
        }

        /// So many seconds pass, in which these speak and name these.
        fn go_on(&mut self, seconds: usize, alive: &[&str], members: &[&str]) {
            for _ in 0..seconds {
                self.now += 500;
                self.registry.advance(self.at(), &mut self.out);
                self.now += 500;
                self.speak("n1", Vec::new());
                for from in alive {
                    self.speak(from, members.iter().map(|name| member(name)).collect());
                }
                self.registry.advance(self.at(), &mut self.out);
            }
        }

        fn majority(&self) -> (usize, usize, bool) {
            let majority = self.registry.majority(self.at());
            (majority.members, majority.heard, majority.judges)
        }
    }

    #[test]
    fn one_beacon_that_names_a_thousand_counts_for_nothing() {
        let mut scene = Scene::new();
        scene.go_on(40, &["n2", "n3"], &["n1"]);
        let ghosts: Vec<MemberAt> = (0..MEMBERS_MAX).map(|number| member(&format!("ghost-{number}"))).collect();
        scene.speak("n2", ghosts.clone());
        scene.go_on(1, &["n3"], &["n1"]);
        scene.speak("n2", ghosts);
        assert_eq!(scene.majority(), (3, 3, true));
        scene.go_on(2, &["n2", "n3"], &["n1"]);
        assert_eq!(scene.majority(), (3, 3, true));
    }

    #[test]
    fn what_a_majority_names_counts_and_for_minutes_only_where_nobody_had_its_beacons() {
        let mut scene = Scene::new();
        scene.go_on(40, &["n2", "n3"], &["n1", "n4", "n5", "n6", "n7"]);
        assert_eq!(scene.majority(), (7, 3, false), "a newcomer on the smaller side of a partition judges nobody");
        scene.go_on(300, &["n2", "n3"], &["n1", "n4", "n5", "n6", "n7"]);
        assert_eq!(scene.majority(), (3, 3, true));
    }

    #[test]
    fn names_that_come_once_neither_keep_out_who_comes_later_nor_hold_up_verdicts_for_long() {
        let mut scene = Scene::new();
        scene.go_on(40, &["n2", "n3"], &["n1"]);
        for number in 0..2000 {
            scene.speak(&format!("once-{number}"), Vec::new());
        }
        scene.go_on(10, &["n2", "n3", "n4"], &["n1"]);
        let view = scene.registry.cluster(scene.at());
        assert!(view.nodes.iter().any(|node| node.life.node.as_str() == "n4" && node.state == "ready"));
        assert!(!view.majority.judges && !view.converged, "{:?}", view.majority);
        // The others had them as briefly, and say so.
        let brief = |name: &str| MemberAt { evidence: Some(Evidence::default()), ..member(name) };
        let us = MemberAt { evidence: None, ..member("n1") };
        let named: Vec<MemberAt> = (1990..2000).map(|number| brief(&format!("once-{number}"))).chain([us]).collect();
        for _ in 0..60 {
            for from in ["n2", "n3", "n4"] {
                scene.speak(from, named.clone());
            }
            scene.go_on(1, &[], &[]);
        }
        assert_eq!(scene.majority(), (4, 4, true));
    }

    #[test]
    fn an_operator_is_told_once_that_nobody_is_judged_and_why() {
        let mut scene = Scene::new();
        scene.go_on(200, &["n2", "n3", "n4", "n5"], &["n1"]);
        scene.out.clear();
        scene.go_on(60, &["n2"], &["n1"]);
        let view = scene.registry.cluster(scene.at());
        assert_eq!(view.majority.why.as_deref(), Some("it hears 2 of 5 members, and a majority is 3; silent: n3, n4, n5"));
        assert!(!view.converged);
        let told = |out: &Outbox| out.iter().filter(|output| matches!(output, Output::Noticed(Notice::Majority { .. }))).count();
        assert_eq!(told(&scene.out), 1);
        scene.go_on(10, &["n2", "n3"], &["n1"]);
        assert_eq!((told(&scene.out), scene.majority()), (2, (5, 3, true)));
    }
}
