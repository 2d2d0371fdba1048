//! Lost: a node whose address refuses everybody who knows it, for `cluster.dead_after`, does not come back under that address, and counts
//! no more. What a partition can do too (no answer, a time-out, an address that was never reached) proves nothing of the kind: such
//! a node counts on, until an operator forgets it.

use super::answer::{Answer, Refusal};
use super::io::{Output, PeerAnswer, Ticket};
use super::message::Evidence;
use super::notice::Notice;
use super::peers::{ALIVE_MS, Peers};
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::NodeName;

/// How old a refusal may be that still counts: it is asked again before.
const REFUSED_MS: u64 = 45_000;

/// What asking a peer's address has brought.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reached {
    /// It once answered there, under its own name: so the address is its own, and this node has a way to it.
    pub(super) is_proven: bool,
    /// When it last refused, where nothing else was seen since.
    refused_at: Option<Mono>,
}

impl Reached {
    /// What was seen just now.
    pub(super) fn note(&mut self, answer: PeerAnswer, now: Mono) {
        self.is_proven |= answer == PeerAnswer::Alive;
        self.refused_at = (self.is_proven && answer == PeerAnswer::Refused).then_some(now);
    }

    /// Its node runs in another life: an address that was its own is so until it names another. One that starts again and again may never live
    /// long enough to be asked.
    pub(super) fn begin_life(&mut self) {
        self.refused_at = None;
    }

    fn refuses(self, now: Mono) -> bool {
        self.refused_at.is_some_and(|at| at + REFUSED_MS > now)
    }
}

impl Peers {
    /// The address of this node refuses this one.
    pub(super) fn refuses(&self, node: &NodeName, now: Mono) -> bool {
        self.get(node).is_some_and(|peer| !peer.is_alive(now) && peer.reached.refuses(now))
    }

    /// The silent members that cease to count now: whoever knows their address has been refused there for so long.
    pub(super) fn take_lost(&mut self, dead_after_ms: u64, now: Mono) -> Vec<NodeName> {
        let silent: Vec<NodeName> =
            self.members.iter(now).filter(|node| self.get(node).is_none_or(|peer| !peer.is_alive(now))).cloned().collect();
        let refused: Vec<bool> = silent.iter().map(|node| self.refuses_all(node, now)).collect();
        let members = &mut self.members;
        let is_lost = |(node, is_refused): &(NodeName, bool)| members.note_refused(node, *is_refused, dead_after_ms, now);
        silent.into_iter().zip(refused).filter(is_lost).map(|(node, _)| node).collect()
    }

    /// All that know its address are refused there, this node among them, and somebody is.
    fn refuses_all(&self, node: &NodeName, now: Mono) -> bool {
        let own = Evidence { is_direct: self.members.is_direct(node, now), refuses: self.refuses(node, now), ..Evidence::default() };
        let mut is_any = own.refuses;
        if own.is_direct && !own.refuses {
            return false;
        }
        for beacon in self.alive(now).filter_map(|(_, peer)| peer.beacon.as_ref()) {
            let Some(at) = beacon.member(node).filter(|at| !at.has_left) else { continue };
            // A node of a former version does not say what it sees.
            let Some(theirs) = at.evidence else { return false };
            if theirs.is_direct && !theirs.refuses && !theirs.is_lost {
                return false;
            }
            is_any |= theirs.refuses || theirs.is_lost;
        }
        is_any
    }

    /// Some alive peer, or this node, hears it now.
    fn is_heard_anywhere(&self, node: &NodeName, now: Mono) -> bool {
        let is_heard_here = self.get(node).is_some_and(|peer| now <= peer.heard_at + ALIVE_MS && !peer.has_left());
        let is_recent = |at: &super::message::MemberAt| !at.has_left && u64::from(at.age_ms) <= ALIVE_MS;
        is_heard_here || self.alive(now).filter_map(|(_, peer)| peer.beacon.as_ref()?.member(node)).any(is_recent)
    }
}

impl Registry {
    /// Notes who counts no more because its address refuses everybody.
    pub(super) fn note_lost_members(&mut self, now: Now, out: &mut Outbox) {
        let lost = self.peers.take_lost(self.settings.dead_after_ms, now.mono);
        out.extend(lost.into_iter().map(|node| Output::Noticed(Notice::MemberLost(node))));
    }

    /// An operator says that a node does not come back. It is told as a goodbye of it, which others take however late they hear it.
    pub(super) fn handle_forget_node(&mut self, ticket: Ticket, node: &NodeName, now: Now, out: &mut Outbox) {
        let answer = if *node == self.life.node || self.peers.is_heard_anywhere(node, now.mono) {
            Answer::Refused(Refusal::NodeAlive(node.clone()))
        } else if !self.peers.knows(node, now.mono) {
            Answer::Refused(Refusal::UnknownNode(node.clone()))
        } else {
            self.peers.forget_node(node, now.mono);
            self.next_beacon = now.mono;
            out.push(Output::Noticed(Notice::NodeForgotten(node.clone())));
            Answer::NodeForgotten
        };
        out.push(Output::Answer(ticket, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, Life};
    use crate::registry::{AppliedAt, Beacon, Envelope, Input, MemberAt, Message, NodeState, Settings};

    fn name(number: usize) -> NodeName {
        NodeName::parse(&format!("n{number}")).unwrap()
    }

    fn life(number: usize) -> Life {
        Life { node: name(number), epoch: Epoch(number as u64) }
    }

    /// A node that has been with `n2` to `n7` for an hour; what peers say of the others and what asking them brings is set by each test.
    struct Scene {
        registry: Registry,
        now: Mono,
        out: Outbox,
        /// What `n2` and `n3` say that they see of a silent member; `None`: they are of a former version.
        seen: [Option<Evidence>; 2],
        /// What asking a silent peer brings.
        answer: PeerAnswer,
        /// When all were heard last.
        heard_at: Mono,
    }

    impl Scene {
        fn new() -> Self {
            let now = 10_000_000;
            let settings = Settings { dead_after_ms: 600_000, ..Settings::new(name(1), Epoch(1)) };
            let registry = Registry::new(settings, 1, Now { mono: now, wall: 0 });
            let direct = Some(Evidence { is_direct: true, ..Evidence::default() });
            let mut scene = Self { registry, now, out: Outbox::new(), seen: [direct; 2], answer: PeerAnswer::Alive, heard_at: now };
            scene.feed(Input::BusConnected);
            scene.go_on(2000, 2..=7);
            scene
        }

        fn feed(&mut self, input: Input) {
            self.registry.handle(input, Now { mono: self.now, wall: 0 }, &mut self.out);
        }

        fn speak(&mut self, number: usize, members: Vec<MemberAt>) {
            let applied = vec![AppliedAt { life: life(1), seq: 0, age_ms: Some(0) }];
            let beacon = Beacon { applied, members, http: format!("h{number}:1"), ..Beacon::of(NodeState::Ready) };
            self.feed(Input::Received(Envelope { from: life(number), message: Message::Beacon(beacon) }));
        }

        /// So many seconds pass, in which these speak, and questions are answered.
        fn go_on(&mut self, seconds: usize, alive: std::ops::RangeInclusive<usize>) {
            for _ in 0..seconds {
                self.now += 500;
                self.registry.advance(Now { mono: self.now, wall: 0 }, &mut self.out);
                self.now += 500;
                if alive.contains(&7) {
                    self.heard_at = self.now;
                }
                let own = Message::Beacon(Beacon::of(NodeState::Ready));
                self.feed(Input::Received(Envelope { from: life(1), message: own }));
                for number in alive.clone() {
                    let evidence = self.seen[number % 2];
                    let silent = (2..=7).filter(|other| !alive.contains(other));
                    let age_ms = u32::try_from(self.now - self.heard_at).unwrap();
                    let of = |other| MemberAt { node: name(other), age_ms, has_left: false, evidence };
                    let us = MemberAt { node: name(1), age_ms: 0, has_left: false, evidence: None };
                    self.speak(number, silent.map(of).chain([us]).collect());
                }
                self.registry.advance(Now { mono: self.now, wall: 0 }, &mut self.out);
                for output in std::mem::take(&mut self.out) {
                    if let Output::CheckPeer { ticket, node, .. } = output {
                        let is_alive = alive.clone().any(|number| name(number) == node);
                        let answer = if is_alive { PeerAnswer::Alive } else { self.answer };
                        self.feed(Input::PeerChecked { ticket, answer });
                    }
                }
            }
        }

        fn majority(&self) -> (usize, usize, bool) {
            let majority = self.registry.majority(Now { mono: self.now, wall: 0 });
            (majority.members, majority.heard, majority.judges)
        }

        fn forget(&mut self, number: usize) -> Answer {
            self.out.clear();
            self.feed(Input::ForgetNode(1, name(number)));
            let answer = |output| if let Output::Answer(1, answer) = output { Some(answer) } else { None };
            std::mem::take(&mut self.out).into_iter().find_map(answer).unwrap()
        }
    }

    const REFUSED: Option<Evidence> = Some(Evidence { is_direct: true, is_attested: false, refuses: true, is_lost: false });

    #[test]
    fn who_is_refused_by_all_for_long_counts_no_more_and_is_judged() {
        let mut scene = Scene::new();
        assert_eq!(scene.majority(), (7, 7, true));
        scene.answer = PeerAnswer::Refused;
        scene.seen = [REFUSED; 2];
        scene.go_on(600, 2..=3);
        assert_eq!(scene.majority(), (7, 3, false), "{:?}", scene.registry.majority(Now { mono: scene.now, wall: 0 }));
        scene.go_on(60, 2..=3);
        assert_eq!(scene.majority(), (3, 3, true));
        scene.go_on(1, 2..=4);
        assert_eq!(scene.majority(), (4, 4, true), "one that is heard again counts again");
    }

    #[test]
    fn what_a_partition_can_do_too_proves_nothing() {
        let direct = Some(Evidence { is_direct: true, ..Evidence::default() });
        for (answer, seen) in [
            (PeerAnswer::Silent, [REFUSED; 2]),
            (PeerAnswer::Unsure, [REFUSED; 2]),
            (PeerAnswer::Refused, [REFUSED, direct]),
            (PeerAnswer::Refused, [REFUSED, None]),
        ] {
            let mut scene = Scene::new();
            (scene.answer, scene.seen) = (answer, seen);
            scene.go_on(2000, 2..=3);
            assert_eq!(scene.majority(), (7, 3, false), "{answer:?} {seen:?}");
        }
    }

    #[test]
    fn an_address_at_which_nobody_ever_answered_proves_nothing() {
        let mut scene = Scene::new();
        for (_, peer) in scene.registry.peers.iter_mut() {
            peer.reached = Reached::default();
        }
        (scene.answer, scene.seen) = (PeerAnswer::Refused, [REFUSED; 2]);
        scene.go_on(2000, 2..=3);
        assert_eq!(scene.majority(), (7, 3, false));
    }

    #[test]
    fn whom_an_operator_forgets_counts_no_more_here_or_where_it_is_told() {
        let mut scene = Scene::new();
        assert_eq!(scene.forget(4), Answer::Refused(Refusal::NodeAlive(name(4))));
        assert_eq!(scene.forget(1), Answer::Refused(Refusal::NodeAlive(name(1))));
        scene.answer = PeerAnswer::Silent;
        scene.go_on(30, 2..=3);
        assert_eq!(scene.majority(), (7, 3, false));
        assert_eq!(scene.forget(9), Answer::Refused(Refusal::UnknownNode(name(9))));
        assert_eq!(scene.forget(4), Answer::NodeForgotten);
        scene.go_on(30, 2..=3);
        assert_eq!(scene.majority(), (6, 3, false), "hearsay does not bring it back");
        assert_eq!(scene.forget(4), Answer::Refused(Refusal::UnknownNode(name(4))));
        // The next is forgotten at another node, which tells of it as of a goodbye.
        let us = MemberAt { node: name(1), age_ms: 0, has_left: false, evidence: None };
        let left = MemberAt { node: name(5), age_ms: 100, has_left: true, evidence: Some(Evidence::default()) };
        scene.speak(2, vec![us, left]);
        scene.go_on(30, 2..=3);
        assert_eq!(scene.majority(), (5, 3, true));
    }
}
