//! Two and more nodes of one name, as one of them sees it: who waits, who gives way, and what becomes of what it took.

use std::sync::Arc;

use super::*;
use crate::model::{
    Address, InstanceId, InstanceKey, Life, Namespace, NodeName, Override, OverrideDraft, OverrideKey, OverrideName, Port, Registration,
    RegistrationDraft, ServiceKey, ServiceName, Ttl,
};
use crate::registry::message::To;
use crate::registry::{Ack, Answer, Body, Deregister, Envelope, Input, Knowledge, Message, Record, Refusal, Register, Settings, Untaken};

const BEGAN: u64 = 1_000_000;
const OWN: u64 = 50;

fn at(ms: u64) -> Now {
    Now { mono: BEGAN + ms, wall: 0 }
}

fn life(node: &str, epoch: u64) -> Life {
    Life { node: NodeName::parse(node).unwrap(), epoch: Epoch(epoch) }
}

fn key(id: &str) -> InstanceKey {
    let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
    InstanceKey { service, id: InstanceId::parse(id).unwrap() }
}

/// A node that hears its bus, and what it has been doing.
struct Twin {
    registry: Registry,
    now: u64,
}

impl Twin {
    fn start() -> Self {
        let settings = Settings { expect_empty: true, http: "10.0.0.1:1".into(), ..Settings::new(life("twin", OWN).node, Epoch(OWN)) };
        let mut twin = Self { registry: Registry::new(settings, 1, at(0)), now: 0 };
        twin.feed(Input::BusConnected);
        twin
    }

    /// One that became ready while nobody else of its name was heard.
    fn ready() -> Self {
        let mut twin = Self::start();
        twin.run(4000, &[]);
        assert_eq!(twin.registry.state(), NodeState::Ready);
        twin
    }

    fn feed(&mut self, input: Input) -> Outbox {
        let mut out = Outbox::new();
        self.registry.handle(input, at(self.now), &mut out);
        self.told(out)
    }

    /// The shell's part: it knows of no later heartbeat.
    fn told(&mut self, mut out: Outbox) -> Outbox {
        let asked: Vec<_> = out
            .iter()
            .filter_map(|output| if let Output::AskLease { key, purpose } = output { Some((key.clone(), purpose.clone())) } else { None })
            .collect();
        for (key, purpose) in asked {
            self.registry.handle(Input::Lease { key, last_heartbeat: None, purpose }, at(self.now), &mut out);
        }
        out
    }

    fn receive(&mut self, from: &Life, message: Message) -> Outbox {
        self.feed(Input::Received(Envelope { from: from.clone(), message }))
    }

    /// Time goes on for so long; each of these sends a beacon a second, as this node's own comes back.
    fn run(&mut self, ms: u64, others: &[(Life, NodeState)]) -> Outbox {
        let (until, mut all) = (self.now + ms, Outbox::new());
        while self.now < until {
            if self.now.is_multiple_of(1000) {
                let own = (life("twin", self.registry.settings().epoch.0), NodeState::Warming);
                for (other, state) in others.iter().chain([&own]) {
                    all.extend(self.receive(other, beacon(*state)));
                }
            }
            self.now += 50;
            let mut out = Outbox::new();
            self.registry.advance(at(self.now), &mut out);
            all.extend(self.told(out));
        }
        all
    }

    fn register(&mut self, id: &str) -> Answer {
        let port = Port::new(u16::from(id.as_bytes()[0])).unwrap();
        let draft = RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), port, Ttl::from_ms(60_000).unwrap());
        let register = Register::new(key(id), Arc::new(Registration::new(draft).unwrap()), BEGAN + self.now);
        answer(self.feed(Input::Register(7, register)))
    }

    fn deregister(&mut self, id: &str) {
        self.feed(Input::Deregister(8, Deregister { key: key(id), incarnation: None, actor: None, ack: Ack::Local }));
    }

    fn set_override(&mut self, name: &str) {
        let draft = OverrideDraft { weight: Some(7), reason: "r".to_owned(), ..OverrideDraft::default() };
        let key = OverrideKey { namespace: Namespace::default(), name: OverrideName::parse(name).unwrap() };
        let value = Arc::new(Override::new(draft).unwrap());
        answer(self.feed(Input::SetOverride(9, crate::registry::SetOverride { key, value, expires_in_ms: None })));
    }

    fn untaken(&self) -> Untaken {
        self.registry.untaken(at(self.now))
    }
}

fn beacon(state: NodeState) -> Message {
    Message::Beacon(Beacon { http: "10.0.0.2:1".into(), ..Beacon::of(state) })
}

fn answer(out: Outbox) -> Answer {
    let answers = out.into_iter().filter_map(|output| if let Output::Answer(_, answer) = output { Some(answer) } else { None });
    answers.last().expect("it is answered")
}

/// Which lives were asked over HTTP whether they live, with their questions.
fn asked(out: &Outbox) -> Vec<(u64, Ticket)> {
    let asked = |output: &Output| match output {
        Output::CheckPeer { ticket, epoch: Some(epoch), .. } => Some((epoch.0, *ticket)),
        _ => None,
    };
    out.iter().filter_map(asked).collect()
}

/// What was handed over, to whom.
fn handed(out: &Outbox) -> Vec<(String, Message)> {
    let handed = |output: &Output| match output {
        Output::Send(To::Node(to), message @ Message::HandOver { .. }) => Some((to.to_string(), message.clone())),
        _ => None,
    };
    out.iter().filter_map(handed).collect()
}

fn left(out: &Outbox) -> Option<usize> {
    out.iter().find_map(|output| if let Output::HandedOver { left } = output { Some(*left) } else { None })
}

fn steps_down(mut twin: Twin, others: &[(Life, NodeState)]) -> (Twin, Outbox) {
    let mut out = twin.run(4000, others);
    let (_, ticket) = asked(&out)[0];
    out = twin.feed(Input::PeerChecked { ticket, answer: PeerAnswer::Alive });
    assert_eq!(twin.registry.state(), NodeState::Leaving);
    (twin, out)
}

#[test]
fn a_newcomer_waits_while_a_ready_node_of_its_name_is_heard_and_takes_no_writes() {
    for epoch in [OWN - 1, OWN + 1] {
        let mut twin = Twin::start();
        let ready = [(life("twin", epoch), NodeState::Ready), (life("n2", 2), NodeState::Ready)];
        let out = twin.run(40_000, &ready);
        assert_eq!((twin.registry.state(), twin.registry.knowledge(at(twin.now))), (NodeState::Warming, Knowledge::NameTaken));
        assert_eq!(twin.register("a"), Answer::Refused(Refusal::NameTaken));
        assert!(
            out.iter().any(|output| matches!(output, Output::Noticed(Notice::NameTaken { waits: true, .. }))),
            "the operator hears why"
        );
        let says = |output: &Output| matches!(output, Output::Send(To::All, Message::Beacon(beacon)) if beacon.gives_way);
        assert!(out.iter().any(says), "peers are to take the other one for the node of this name");
    }
}

#[test]
fn a_newcomer_goes_on_by_itself_when_the_other_leaves_or_falls_silent() {
    for ends_as in [None, Some(NodeState::Leaving)] {
        let mut twin = Twin::start();
        twin.run(10_000, &[(life("twin", 3), NodeState::Ready)]);
        let ends: Vec<_> = ends_as.map(|state| (life("twin", 3), state)).into_iter().collect();
        twin.run(6500, &ends);
        assert_eq!(twin.registry.state(), NodeState::Ready, "{ends_as:?}");
    }
}

#[test]
fn a_late_beacon_of_its_own_former_life_holds_up_a_restart_for_a_moment_only() {
    let mut twin = Twin::start();
    twin.receive(&life("twin", 3), beacon(NodeState::Ready));
    twin.run(4000, &[]);
    assert_eq!(twin.registry.state(), NodeState::Ready);
}

#[test]
fn of_several_that_start_together_the_least_epoch_goes_on() {
    let others = |epochs: [u64; 2]| epochs.map(|epoch| (life("twin", epoch), NodeState::Warming));
    for (epochs, state) in [([60, 70], NodeState::Ready), ([40, 70], NodeState::Warming), ([30, 40], NodeState::Warming)] {
        let mut twin = Twin::start();
        twin.run(8000, &others(epochs));
        assert_eq!(twin.registry.state(), state, "beside {epochs:?}");
    }
}

#[test]
fn two_that_wait_do_not_answer_each_others_beacons_for_ever() {
    let mut twin = Twin::start();
    let others = [(life("twin", 3), NodeState::Ready), (life("twin", 70), NodeState::Warming)];
    let out = twin.run(20_000, &others);
    let beacons = out.iter().filter(|output| matches!(output, Output::Send(To::All, Message::Beacon(_)))).count();
    assert!(beacons < 30, "{beacons}");
}

#[test]
fn of_two_ready_ones_the_greater_epoch_steps_down_and_only_once_the_other_answers() {
    for (epoch, answer, state) in [
        (OWN + 1, None, NodeState::Ready),
        (OWN - 1, None, NodeState::Ready),
        (OWN - 1, Some(PeerAnswer::Silent), NodeState::Ready),
        (OWN - 1, Some(PeerAnswer::Refused), NodeState::Ready),
        (OWN - 1, Some(PeerAnswer::Unsure), NodeState::Ready),
        (OWN - 1, Some(PeerAnswer::Alive), NodeState::Leaving),
    ] {
        let mut twin = Twin::ready();
        let out = twin.run(4000, &[(life("twin", epoch), NodeState::Ready)]);
        assert_eq!(asked(&out).len(), usize::from(epoch < OWN));
        assert!(out.iter().any(|output| matches!(output, Output::Noticed(Notice::NameTaken { waits: false, .. }))));
        if let Some(answer) = answer {
            twin.feed(Input::PeerChecked { ticket: asked(&out)[0].1, answer });
        }
        assert_eq!(twin.registry.state(), state, "{epoch} {answer:?}");
    }
}

#[test]
fn beacons_that_somebody_makes_up_neither_make_a_node_step_down_nor_hide_one_that_runs() {
    let mut twin = Twin::ready();
    let made_up = (1..=8).chain(60..80).map(|epoch| (life("twin", epoch), NodeState::Ready));
    let all: Vec<_> = [(life("twin", 40), NodeState::Ready)].into_iter().chain(made_up).collect();
    let mut lives = 0;
    for _ in 0..60 {
        let out = twin.run(1000, &all);
        let asked = asked(&out);
        assert!(asked.len() <= 1, "no storm of questions: {asked:?}");
        for (epoch, ticket) in asked {
            lives += usize::from(epoch == 40);
            let answer = if epoch == 40 && lives > 1 { PeerAnswer::Alive } else { PeerAnswer::Refused };
            twin.feed(Input::PeerChecked { ticket, answer });
        }
    }
    assert_eq!((twin.registry.state(), lives), (NodeState::Leaving, 2), "each has its turn");
}

#[test]
fn of_three_ready_ones_all_but_the_least_step_down() {
    let twin = Twin::ready();
    steps_down(twin, &[(life("twin", 10), NodeState::Ready), (life("twin", 30), NodeState::Ready)]);
}

#[test]
fn who_gives_way_ends_once_another_node_holds_all_and_not_before() {
    let mut twin = Twin::ready();
    for id in ["a", "b", "c"] {
        twin.register(id);
    }
    twin.deregister("c");
    twin.set_override("o");
    let others = [(life("twin", 3), NodeState::Ready), (life("n2", 2), NodeState::Ready)];
    let (mut twin, _) = steps_down(twin, &others);
    let out = twin.run(3000, &others);
    assert_eq!(left(&out), None, "nobody has answered");
    let sent = handed(&out);
    let ids = |message: &Message| match message {
        Message::HandOver { records, heard, overrides, .. } => (records.len(), heard.len(), overrides.len()),
        _ => unreachable!(),
    };
    let counts = sent.iter().map(|(_, message)| ids(message)).fold((0, 0, 0), |all, one| (all.0 + one.0, all.1 + one.1, all.2 + one.2));
    assert_eq!(counts, (3, 2, 1), "two leases, what is deregistered, and the override: {sent:?}");
    assert_eq!(twin.untaken().count, 4);
    // Another node takes it.
    let mut taker = taker();
    for (_, message) in sent {
        let out = taker.receive(&life("twin", OWN), message);
        for output in out {
            if let Output::Send(To::Node(_), message @ Message::TookOver { .. }) = output {
                twin.receive(&life("n2", 2), message);
            }
        }
    }
    let out = twin.run(500, &others);
    assert_eq!((left(&out), twin.untaken()), (Some(0), Untaken::default()));
    for id in ["a", "b"] {
        let record = taker.registry.record(&key(id)).unwrap();
        assert!(matches!(record.body, Body::Live { .. }) && taker.registry.holds_lease(&key(id)), "{record:?}");
    }
    assert!(taker.registry.record(&key("c")).is_some_and(|record| record.version.deregistered));
    assert_eq!(taker.registry.overrides(at(taker.now)).iter().count(), 1);
}

/// A node of another name, ready.
fn taker() -> Twin {
    let settings = Settings { has_bus: false, expect_empty: true, ..Settings::new(life("n2", 2).node, Epoch(2)) };
    Twin { registry: Registry::new(settings, 2, at(0)), now: 0 }
}

#[test]
fn what_the_taker_refuses_is_named() {
    let mut twin = Twin::ready();
    twin.register("a");
    twin.register("b");
    let others = [(life("twin", 3), NodeState::Ready), (life("n2", 2), NodeState::Ready)];
    let (mut twin, _) = steps_down(twin, &others);
    let mut taker = taker();
    taker.registry.settings.limits.instances = 0;
    let mut named = None;
    for _ in 0..30 {
        let out = twin.run(500, &others);
        assert_eq!(left(&out), None, "it is the shell's to say how long is waited");
        for (_, message) in handed(&out) {
            for output in taker.receive(&life("twin", OWN), message) {
                if let Output::Send(To::Node(_), message @ Message::TookOver { .. }) = output {
                    twin.receive(&life("n2", 2), message);
                }
            }
        }
        named = named.or(out.into_iter().find_map(|output| match output {
            Output::Noticed(Notice::NotHandedOver(untaken)) => Some(untaken),
            _ => None,
        }));
    }
    let untaken = Untaken { count: 2, keys: vec!["default/user/a".into(), "default/user/b".into()] };
    assert_eq!((named, twin.untaken()), (Some(untaken.clone()), untaken));
}

#[test]
fn where_nobody_else_is_left_the_namesake_itself_takes_over() {
    let mut twin = Twin::ready();
    twin.register("a");
    let others = [(life("twin", 3), NodeState::Ready)];
    let (mut twin, _) = steps_down(twin, &others);
    let out = twin.run(1000, &others);
    let sent = handed(&out);
    assert_eq!(sent.iter().map(|(to, _)| to.as_str()).collect::<Vec<_>>(), ["twin"]);
    let settings = Settings { has_bus: false, expect_empty: true, ..Settings::new(life("twin", 3).node, Epoch(3)) };
    let mut other = Twin { registry: Registry::new(settings, 3, at(0)), now: 0 };
    let out = other.receive(&life("twin", OWN), sent[0].1.clone());
    let took = out
        .into_iter()
        .find_map(|output| if let Output::Send(_, message @ Message::TookOver { .. }) = output { Some(message) } else { None });
    twin.receive(&life("twin", 3), took.expect("it answers"));
    assert_eq!(left(&twin.run(500, &others)), Some(0));
    assert!(other.registry.holds_lease(&key("a")));
}

#[test]
fn a_newcomer_that_took_something_before_it_heard_of_the_other_hands_it_over_and_leaves_as_one_that_gives_way() {
    let mut twin = Twin::start();
    assert!(matches!(twin.register("a"), Answer::Registered(_)));
    let others = [(life("twin", 70), NodeState::Ready), (life("n2", 2), NodeState::Ready)];
    let out = twin.run(3000, &others);
    assert!(!handed(&out).is_empty());
    let out = twin.feed(Input::Leave);
    assert_eq!((left(&out), twin.registry.has_stepped_down()), (None, true));
    let out = twin.run(4000, &others);
    let Some((_, Message::HandOver { ticket, records, .. })) = handed(&out).pop() else { panic!("it hands over still") };
    let held = records.iter().map(|record: &Arc<Record>| crate::registry::key_hash(&record.key) as u64).collect();
    twin.receive(&life("n2", 2), Message::TookOver { ticket, held });
    assert_eq!(left(&twin.run(500, &others)), Some(0));
}

#[test]
fn an_answer_to_nothing_takes_nothing() {
    let mut twin = Twin::ready();
    twin.register("a");
    let others = [(life("twin", 3), NodeState::Ready), (life("n2", 2), NodeState::Ready)];
    let (mut twin, _) = steps_down(twin, &others);
    twin.run(1000, &others);
    let held = vec![crate::registry::key_hash(&key("a")) as u64];
    twin.receive(&life("n2", 2), Message::TookOver { ticket: 1, held });
    assert_eq!((left(&twin.run(1000, &others)), twin.untaken().count), (None, 1));
}
