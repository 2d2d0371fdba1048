//! What follows from looking, on one node, and on one that can ask others.

mod preserved;
mod turns;

use std::collections::VecDeque;

use super::*;
use crate::model::{
    Address, Check, CheckKind, Epoch, InstanceId, Namespace, Port, Registration, RegistrationDraft, ServiceKey, ServiceName, Status, Ttl,
};
use crate::registry::{
    Ack, Beacon, Deregister, Envelope, Heartbeat, Input, MemberAt, Probe, ProbeKind, ProbeLimits, Purpose, Register, Settings,
};

const TTL_MS: u64 = 3000;
const EVICT_MS: u64 = 5000;

/// A node, what its shell knows, and what becomes of each look.
struct Stage {
    registry: Registry,
    now: Now,
    /// What instances answer.
    answer: fn(&Probe) -> ProbeOutcome,
    /// The shell never answers.
    is_mute: bool,
    /// Looks on their way.
    looks: VecDeque<(Ticket, Probe)>,
    probes: Vec<(Mono, Probe)>,
    sent: Vec<(To, Message)>,
    /// What the records became: status and cause.
    steps: Vec<(InstanceKey, Option<Status>, Cause)>,
}

fn passes(_: &Probe) -> ProbeOutcome {
    ProbeOutcome::Passed { code: None, took_ms: 1 }
}

fn refuses(_: &Probe) -> ProbeOutcome {
    ProbeOutcome::Refused
}

fn times_out(_: &Probe) -> ProbeOutcome {
    ProbeOutcome::failed("no answer")
}

fn key(id: &str) -> InstanceKey {
    let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
    InstanceKey { service, id: InstanceId::parse(id).unwrap() }
}

fn peer(name: &str) -> Life {
    Life { node: NodeName::parse(name).unwrap(), epoch: Epoch(2) }
}

fn check(kind: CheckKind) -> Check {
    Check { kind, interval_ms: 2000, timeout_ms: 500, failures: 3, successes: 2 }
}

impl Stage {
    fn new(answer: fn(&Probe) -> ProbeOutcome) -> Self {
        Self::with(answer, ProbeLimits::default())
    }

    fn with(answer: fn(&Probe) -> ProbeOutcome, probes: ProbeLimits) -> Self {
        let now = Now { mono: 10_000_000, wall: 0 };
        let settings = Settings { has_bus: false, expect_empty: true, probes, ..Settings::new(NodeName::parse("n1").unwrap(), Epoch(9)) };
        let (looks, probes, sent, steps) = Default::default();
        Self { registry: Registry::new(settings, 7, now), now, answer, is_mute: false, looks, probes, sent, steps }
    }

    fn register(&mut self, id: &str, change: impl FnOnce(&mut RegistrationDraft)) {
        // No two are at one place.
        let place = format!("10.0.1.{}", id.as_bytes()[0]);
        let mut draft = RegistrationDraft::new(Address::parse(&place).unwrap(), Port::new(80).unwrap(), Ttl::from_ms(TTL_MS).unwrap());
        draft.evict_after_ms = Some(EVICT_MS as u32);
        change(&mut draft);
        let registration = Arc::new(Registration::new(draft).unwrap());
        self.feed(Input::Register(1, Register::new(key(id), registration, self.now.mono)));
    }

    fn beat(&mut self, id: &str) {
        let at = self.now.mono;
        self.feed(Input::Heartbeat(2, Heartbeat { key: key(id), incarnation: None, digest: None, reported: None, at }));
    }

    fn feed(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut out = Outbox::new();
            self.registry.handle(input, self.now, &mut out);
            self.registry.advance(self.now, &mut out);
            self.perform(out, &mut inputs);
        }
    }

    fn perform(&mut self, out: Outbox, inputs: &mut VecDeque<Input>) {
        for output in out {
            match output {
                // Every heartbeat here goes to the registry, which knows it then.
                Output::AskLease { key, purpose } => inputs.push_back(Input::Lease { key, last_heartbeat: None, purpose }),
                Output::Probe { ticket, probe } => {
                    self.probes.push((self.now.mono, probe.clone()));
                    self.looks.push_back((ticket, probe));
                }
                Output::Send(to, message) => self.sent.push((to, message)),
                Output::Changed(changed) => {
                    self.steps.push((changed.record.key.clone(), changed.to, changed.record.cause));
                }
                _ => {}
            }
        }
    }

    /// Lets time pass; each look is answered at the next step.
    fn run(&mut self, ms: u64) {
        let until = self.now.mono + ms;
        while self.now.mono < until {
            let registry = &self.registry;
            assert_eq!(registry.state_word() == "preserving", registry.catalog().preserved_count() > 0, "all say the same");
            self.now.mono += 10;
            for (ticket, probe) in std::mem::take(&mut self.looks) {
                let outcome = (self.answer)(&probe);
                if !self.is_mute {
                    self.feed(Input::Probed { ticket, outcome });
                }
            }
            let mut out = Outbox::new();
            self.registry.advance(self.now, &mut out);
            let mut inputs = VecDeque::new();
            self.perform(out, &mut inputs);
            for input in inputs {
                self.feed(input);
            }
        }
    }

    fn record(&self, id: &str) -> Record {
        Record::clone(self.registry.record(&key(id)).unwrap())
    }

    fn status(&self, id: &str) -> Option<Status> {
        self.record(id).to_listed().map(|listed| listed.status)
    }

    fn steps(&self, id: &str) -> Vec<(Option<Status>, Cause)> {
        self.steps.iter().filter(|(of, ..)| *of == key(id)).map(|(_, status, cause)| (*status, *cause)).collect()
    }
}

const REGISTERED: (Option<Status>, Cause) = (Some(Status::Up), Cause::Registered);
const SUSPECT: (Option<Status>, Cause) = (Some(Status::Suspect), Cause::Expired);

#[test]
fn a_silent_one_that_answers_is_up_and_stays_so_until_heartbeats_return() {
    let mut stage = Stage::new(passes);
    stage.register("a", |_| {});
    assert!(stage.probes.is_empty(), "without a check nothing is looked at before it is late");
    stage.run(TTL_MS + 1000);
    let answers = (Some(Status::Up), Cause::ProbeSucceeded);
    assert_eq!(stage.steps("a"), [REGISTERED, SUSPECT, answers]);
    let said = stage.record("a").detail.unwrap();
    assert!(said.starts_with("no heartbeat for 3.") && said.ends_with("answered in 1 ms"), "{said}");
    assert_eq!(stage.probes[0].1.kind, ProbeKind::Tcp);
    let before = stage.probes.len();
    stage.run(60_000);
    assert!((5..=8).contains(&(stage.probes.len() - before)), "every ten seconds: {}", stage.probes.len());
    assert_eq!(stage.steps("a").len(), 3, "nothing changes meanwhile");
    stage.beat("a");
    assert_eq!((stage.status("a"), stage.record("a").cause), (Some(Status::Up), Cause::Recovered));
    let before = stage.probes.len();
    for _ in 0..20 {
        stage.run(TTL_MS / 3);
        stage.beat("a");
    }
    assert_eq!(stage.probes.len(), before, "a heartbeat ends the look");
}

#[test]
fn one_that_nobody_reaches_is_down_and_goes() {
    let mut stage = Stage::new(refuses);
    stage.register("a", |_| {});
    stage.run(TTL_MS + 15_000);
    let down = (Some(Status::Down), Cause::ProbeFailed);
    assert_eq!(stage.steps("a"), [REGISTERED, SUSPECT, down, (None, Cause::ProbeFailed)]);
    let at: Vec<Mono> = stage.probes.iter().map(|(at, _)| at - stage.probes[0].0).collect();
    // Six quick ones: each pause ± 10 %; then one at the interval.
    for (at, about) in at.iter().zip([0, 200, 400, 1400, 3400, 7400]) {
        assert!(at.abs_diff(about) <= about / 10 + 60, "{at} is about {about}");
    }
    assert_eq!(at.len(), 6, "evicted before the seventh");
    assert!(stage.record("a").detail.unwrap().ends_with("connection refused (6 times)"));
    assert!(stage.record("a").last_heartbeat_ms.unwrap() >= 3000);
    stage.beat("a");
    assert_eq!(stage.record("a").cause, Cause::Recovered, "a late heartbeat brings it back as ever");
}

#[test]
fn one_that_answers_late_comes_back_from_down() {
    let mut stage = Stage::new(times_out);
    stage.register("a", |draft| draft.evict_after_ms = Some(60_000));
    stage.run(TTL_MS + 10_000);
    assert_eq!(stage.status("a"), Some(Status::Down));
    stage.answer = passes;
    stage.run(12_000);
    assert_eq!((stage.status("a"), stage.record("a").cause), (Some(Status::Up), Cause::ProbeSucceeded));
    // And when it ceases to answer, it is suspect first, and is looked at as quickly.
    stage.answer = times_out;
    stage.run(12_000);
    assert_eq!(stage.steps("a")[4], (Some(Status::Suspect), Cause::ProbeFailed));
    stage.run(10_000);
    assert_eq!(stage.status("a"), Some(Status::Down));
}

#[test]
fn a_port_that_takes_connections_does_not_speak_for_ever() {
    let mut stage = Stage::new(passes);
    stage.registry.settings.preserve_max_ms = 60_000;
    stage.register("a", |_| {});
    stage.register("declared", |draft| draft.check = Some(check(CheckKind::Tcp { port: None })));
    stage.run(50_000);
    assert_eq!(stage.status("a"), Some(Status::Up));
    stage.run(40_000);
    assert_eq!((stage.status("a"), stage.record("a").cause), (None, Cause::Expired));
    assert_eq!((stage.status("declared"), stage.record("declared").cause), (Some(Status::Up), Cause::ProbeSucceeded));
}

#[test]
fn with_a_check_of_none_silence_is_the_only_evidence() {
    let mut stage = Stage::new(passes);
    stage.register("a", |draft| draft.check = Some(check(CheckKind::None)));
    stage.run(2 * TTL_MS + EVICT_MS + 1000);
    assert_eq!(stage.steps("a"), [REGISTERED, SUSPECT, (Some(Status::Down), Cause::Expired), (None, Cause::Expired)]);
    assert!(stage.probes.is_empty());
}

#[test]
fn what_may_not_be_looked_at_is_judged_by_silence_and_what_was_not_tried_by_nothing() {
    let mut stage = Stage::new(|_| ProbeOutcome::Forbidden { why: "loopback".into() });
    stage.register("a", |_| {});
    stage.run(2 * TTL_MS + EVICT_MS + 1000);
    assert_eq!(stage.steps("a"), [REGISTERED, SUSPECT, (Some(Status::Down), Cause::Expired), (None, Cause::Expired)]);
    let mut stage = Stage::new(|_| ProbeOutcome::NotTried);
    stage.register("a", |_| {});
    stage.run(60_000);
    assert_eq!(stage.steps("a"), [REGISTERED, SUSPECT], "nothing was seen yet");
    assert!(stage.probes.len() > 50, "and it is tried again and again");
}

#[test]
fn a_look_that_the_shell_never_answers_is_no_evidence() {
    let mut stage = Stage::new(refuses);
    stage.register("a", |_| {});
    stage.is_mute = true;
    stage.run(60_000);
    assert_eq!(stage.steps("a"), [REGISTERED, SUSPECT]);
    (stage.answer, stage.is_mute) = (passes, false);
    stage.run(8000);
    assert_eq!(stage.status("a"), Some(Status::Up));
}

#[test]
fn of_many_that_fall_silent_those_refused_leave_and_those_out_of_reach_stay() {
    let mut stage = Stage::new(|probe| if probe.port.get() == 1 { ProbeOutcome::Refused } else { ProbeOutcome::failed("unreachable") });
    for id in ["a", "b", "c", "d"] {
        stage.register(id, |draft| draft.port = Port::new(if id == "a" { 1 } else { 2 }).unwrap());
    }
    stage.run(60_000);
    assert!(stage.registry.is_preserving());
    assert_eq!((stage.status("a"), stage.record("a").cause), (None, Cause::ProbeFailed));
    for id in ["b", "c", "d"] {
        assert_eq!((stage.status(id), stage.record(id).cause), (Some(Status::Suspect), Cause::Preserved), "{id}");
    }
    stage.answer = passes;
    stage.run(15_000);
    assert_eq!((stage.status("b"), stage.record("b").cause), (Some(Status::Up), Cause::ProbeSucceeded));
}

#[test]
fn a_declared_check_is_done_while_heartbeats_come_and_they_do_not_override_it() {
    let mut stage = Stage::new(passes);
    stage.register("a", |draft| draft.check = Some(check(CheckKind::Http { path: "/h".to_owned(), port: Port::new(81) })));
    let live = |stage: &mut Stage, ms: u64| {
        for _ in 0..ms / 1000 {
            stage.run(1000);
            stage.beat("a");
        }
    };
    live(&mut stage, 10_000);
    assert!(stage.probes.len() >= 4, "{}", stage.probes.len());
    let (_, first) = stage.probes[0].clone();
    assert_eq!((first.kind, first.port.get(), first.timeout_ms), (ProbeKind::Http("/h".to_owned()), 81, 500));
    assert_eq!(stage.steps("a"), [REGISTERED]);
    stage.answer = |_| ProbeOutcome::Failed { why: "HTTP 503".into(), code: Some(503) };
    live(&mut stage, 3000);
    assert_eq!(stage.steps("a"), [REGISTERED], "fewer than its threshold");
    live(&mut stage, 6000);
    assert_eq!(stage.steps("a"), [REGISTERED, (Some(Status::Down), Cause::ProbeFailed)]);
    assert!(stage.record("a").detail.unwrap().starts_with("HTTP 503"));
    live(&mut stage, 60_000);
    assert_eq!(stage.status("a"), Some(Status::Down), "it is held by its heartbeats, and down");
    // A late heartbeat does not make it well either.
    stage.run(TTL_MS + 1000);
    stage.beat("a");
    assert_eq!((stage.status("a"), stage.record("a").cause), (Some(Status::Down), Cause::ProbeFailed));
    stage.answer = passes;
    live(&mut stage, 7000);
    assert_eq!((stage.status("a"), stage.record("a").cause), (Some(Status::Up), Cause::ProbeSucceeded));
}

#[test]
fn a_fixed_address_whose_check_fails_is_down_and_stays() {
    let mut stage = Stage::new(refuses);
    stage.register("a", |draft| (draft.ttl, draft.check) = (None, Some(check(CheckKind::Tcp { port: None }))));
    stage.register("unchecked", |draft| draft.ttl = None);
    stage.run(600_000);
    assert_eq!(stage.steps("a"), [REGISTERED, (Some(Status::Down), Cause::ProbeFailed)]);
    assert_eq!(stage.steps("unchecked"), [REGISTERED]);
    // Whoever takes it over while it is down goes on looking.
    let (record, now) = (Arc::new(stage.record("a").clone()), stage.now);
    stage.registry.hold_unheard(&record, now, &mut Outbox::new());
    stage.answer = passes;
    stage.run(10_000);
    assert_eq!((stage.status("a"), stage.record("a").cause), (Some(Status::Up), Cause::ProbeSucceeded));
}

#[test]
fn one_that_flaps_waits_until_it_has_been_calm() {
    let mut stage = Stage::new(refuses);
    let one = |kind| Check { failures: 1, successes: 1, ..check(kind) };
    stage.register("a", |draft| (draft.ttl, draft.check) = (None, Some(one(CheckKind::Tcp { port: None }))));
    stage.run(12_000);
    for _ in 0..3 {
        stage.answer = passes;
        stage.run(3000);
        stage.answer = refuses;
        stage.run(3000);
    }
    stage.answer = passes;
    stage.run(5000);
    assert_eq!(stage.status("a"), Some(Status::Down), "{:?}", stage.steps("a"));
    stage.run(60_000);
    assert_eq!(stage.status("a"), Some(Status::Up));
}

#[test]
fn a_deregistration_ends_the_look() {
    let mut stage = Stage::new(times_out);
    stage.register("a", |_| {});
    stage.run(TTL_MS + 500);
    stage.feed(Input::Deregister(3, Deregister { key: key("a"), incarnation: None, actor: None, ack: Ack::Local }));
    let before = stage.probes.len();
    stage.run(60_000);
    assert_eq!(stage.probes.len(), before);
    assert_eq!(stage.registry.looking.next_due(), None);
}

/// Hears from these nodes every second, and lets time pass.
fn run_among(stage: &mut Stage, names: &[&str], ms: u64) {
    for _ in 0..ms / 500 {
        for name in names {
            let members = vec![MemberAt { node: NodeName::parse("n1").unwrap(), age_ms: 0, has_left: false, evidence: None }];
            let message = Message::Beacon(Beacon { members, ..Beacon::of(NodeState::Ready) });
            stage.feed(Input::Received(Envelope { from: peer(name), message }));
        }
        stage.run(500);
    }
}

fn asked(stage: &Stage) -> Vec<(NodeName, u64)> {
    let asked = stage.sent.iter().filter_map(|(to, message)| match (to, message) {
        (To::Node(node), Message::AskProbe { ticket, .. }) => Some((node.clone(), *ticket)),
        _ => None,
    });
    asked.collect()
}

#[test]
fn two_others_are_asked_and_one_that_reaches_it_is_believed() {
    let mut stage = Stage::new(times_out);
    let names = ["n2", "n3", "n4"];
    run_among(&mut stage, &names, 1000);
    stage.register("a", |_| {});
    run_among(&mut stage, &names, TTL_MS + 8500);
    let helpers = asked(&stage);
    assert_eq!(helpers.len(), 2);
    assert_ne!(helpers[0].0, helpers[1].0);
    assert_eq!(stage.status("a"), Some(Status::Suspect), "it is waited for what they see");
    let tell = |stage: &mut Stage, (node, ticket): (NodeName, u64), outcome| {
        let message = Message::ToldProbe { ticket, outcome };
        stage.feed(Input::Received(Envelope { from: Life { node, epoch: Epoch(2) }, message }));
    };
    tell(&mut stage, helpers[0].clone(), ProbeOutcome::Refused);
    assert_eq!(stage.status("a"), Some(Status::Suspect));
    tell(&mut stage, helpers[1].clone(), ProbeOutcome::Passed { code: None, took_ms: 1 });
    stage.run(20);
    assert_eq!((stage.status("a"), stage.record("a").cause), (Some(Status::Up), Cause::ProbeSucceeded));
    assert!(stage.record("a").detail.unwrap().ends_with(&format!("{} reaches it", helpers[1].0)));
    // This node still does not: the others are asked again, and meanwhile it is up.
    stage.sent.clear();
    let steps = stage.steps("a").len();
    run_among(&mut stage, &names, 11_500);
    let helpers = asked(&stage);
    assert_eq!((helpers.len(), stage.steps("a").len()), (2, steps));
    for helper in helpers {
        tell(&mut stage, helper, ProbeOutcome::failed("no answer"));
    }
    stage.run(50);
    assert_eq!((stage.status("a"), stage.record("a").cause), (Some(Status::Down), Cause::ProbeFailed));
    let said = stage.record("a").detail.unwrap();
    assert!(said.contains(": no answer"), "{said}");
}

#[test]
fn others_that_do_not_answer_are_not_waited_for_for_ever() {
    let mut stage = Stage::new(times_out);
    run_among(&mut stage, &["n2"], 1000);
    stage.register("a", |_| {});
    run_among(&mut stage, &["n2"], TTL_MS + 8500);
    assert_eq!((asked(&stage).len(), stage.status("a")), (1, Some(Status::Suspect)));
    run_among(&mut stage, &["n2"], 4000);
    assert_eq!((stage.status("a"), stage.record("a").cause), (Some(Status::Down), Cause::ProbeFailed));
}

#[test]
fn who_is_asked_looks_only_where_it_knows_an_instance_to_be() {
    let mut stage = Stage::new(refuses);
    run_among(&mut stage, &["n2"], 500);
    stage.register("a", |draft| draft.address = Address::parse("10.9.9.9").unwrap());
    stage.register("fixed", |draft| draft.ttl = None);
    stage.sent.clear();
    for (ticket, id) in [(70, "a"), (71, "unknown"), (72, "fixed")] {
        stage.feed(Input::Received(Envelope { from: peer("n2"), message: Message::AskProbe { ticket, key: key(id) } }));
    }
    assert_eq!(stage.probes.len(), 1);
    assert_eq!(stage.probes[0].1.address.as_str(), "10.9.9.9");
    stage.run(20);
    let told = |ticket, outcome| (To::Node(peer("n2").node), Message::ToldProbe { ticket, outcome });
    let expected = [told(71, ProbeOutcome::NotTried), told(72, ProbeOutcome::NotTried), told(70, ProbeOutcome::Refused)];
    assert!(expected.iter().all(|one| stage.sent.contains(one)), "{:?}", stage.sent);
    assert_eq!(stage.status("a"), Some(Status::Up), "what it saw for another changes nothing here");
}

#[test]
fn others_that_had_no_turn_are_none_that_failed() {
    let mut stage = Stage::new(times_out);
    let names = ["n2", "n3", "n4"];
    run_among(&mut stage, &names, 1000);
    stage.register("a", |_| {});
    run_among(&mut stage, &names, TTL_MS + 8500);
    let tell = |stage: &mut Stage, outcome: &ProbeOutcome| {
        let helpers = asked(stage);
        stage.sent.clear();
        for (node, ticket) in &helpers {
            let message = Message::ToldProbe { ticket: *ticket, outcome: outcome.clone() };
            stage.feed(Input::Received(Envelope { from: Life { node: node.clone(), epoch: Epoch(2) }, message }));
        }
        helpers.len()
    };
    assert_eq!(tell(&mut stage, &ProbeOutcome::NotTried), 2);
    run_among(&mut stage, &names, 3500);
    assert_eq!(tell(&mut stage, &ProbeOutcome::NotTried), 2, "they are asked again");
    assert_eq!(stage.status("a"), Some(Status::Suspect), "nothing was seen of it");
    run_among(&mut stage, &names, 3500);
    assert_eq!(tell(&mut stage, &ProbeOutcome::Refused), 2);
    stage.run(TTL_MS);
    assert!(matches!(stage.status("a"), Some(Status::Down) | None));
}

#[test]
fn a_node_that_is_late_itself_holds_nothing_against_anybody() {
    let mut stage = Stage::new(refuses);
    stage.register("a", |_| {});
    stage.run(TTL_MS + 100);
    assert_eq!(stage.status("a"), Some(Status::Suspect));
    for _ in 0..40 {
        stage.now.mono += 1600;
        stage.run(10);
    }
    assert_eq!(stage.status("a"), Some(Status::Suspect));
    stage.run(30_000);
    assert_eq!(stage.status("a"), None);
}

#[test]
fn purposes_of_leases_are_asked_as_ever() {
    let mut stage = Stage::new(passes);
    stage.register("a", |_| {});
    stage.run(TTL_MS + 1000);
    // The look brings the lease to its judge, who asks when its provider was heard last: one that was heard meanwhile is not late.
    let last = stage.now.mono;
    stage.feed(Input::Lease { key: key("a"), last_heartbeat: Some(last), purpose: Purpose::Due });
    assert_eq!(stage.record("a").cause, Cause::Recovered);
}
