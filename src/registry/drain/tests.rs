//! Drains: what a node that is asked does, and those it asks.

use super::*;
use crate::model::{
    Address, Incarnation, InstanceId, Namespace, Port, Registration, RegistrationDraft, ServiceKey, ServiceName, Status, Subscriber, Ttl,
};
use crate::registry::NodeState;
use crate::registry::{Ack, Beacon, Change, Envelope, Heartbeat, Input, Register, Settings};

const START: Now = Now { mono: 1_000_000, wall: 0 };

fn life(name: &str) -> Life {
    Life { node: NodeName::parse(name).unwrap(), epoch: Epoch(2) }
}

fn at(ms: u64) -> Now {
    Now { mono: START.mono + ms, wall: ms * Now::WALL_A_MS }
}

fn node(name: &str) -> Registry {
    let mut registry = Registry::new(Settings { has_bus: false, expect_empty: true, ..Settings::new(life(name).node, Epoch(2)) }, 1, START);
    for peer in ["n1", "n2", "n3"] {
        beacon(&mut registry, peer, NodeState::Ready, START);
    }
    registry
}

fn hear(registry: &mut Registry, from: &str, message: Message, now: Now) -> Outbox {
    let mut out = Outbox::new();
    registry.handle(Input::Received(Envelope { from: life(from), message }), now, &mut out);
    out
}

fn beacon(registry: &mut Registry, from: &str, state: NodeState, now: Now) {
    hear(registry, from, Message::Beacon(Beacon::of(state)), now);
}

fn key() -> InstanceKey {
    let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
    InstanceKey { service, id: InstanceId::parse("a").unwrap() }
}

fn registration() -> Arc<Registration> {
    let draft = RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(80).unwrap(), Ttl::from_ms(15_000).unwrap());
    Arc::new(Registration::new(draft).unwrap())
}

fn register(registry: &mut Registry, says_up: bool, now: Now) -> Outbox {
    let (incarnation, takeover, actor, ack, at) = (None, false, None, Ack::Local, now.mono);
    let register = Register { key: key(), registration: registration(), incarnation, takeover, says_up, attaches: false, actor, ack, at };
    let mut out = Outbox::new();
    registry.handle(Input::Register(1, register), now, &mut out);
    out
}

fn drain(registry: &mut Registry, deadline_ms: u64, wait: bool, deregister: bool) -> Outbox {
    let drain = Drain { key: key(), incarnation: None, until: START.mono + deadline_ms, deregister, wait, actor: Some("ops".into()) };
    let mut out = Outbox::new();
    registry.handle(Input::Drain(7, drain), START, &mut out);
    out
}

fn subscriber(port: u16) -> Subscriber {
    Subscriber { name: Some("cart/1.4".into()), address: ([10, 0, 0, 9], port).into(), since: 0 }
}

fn report(subscribers: u64, missing: Vec<Subscriber>) -> DeliveryReport {
    DeliveryReport { subscribers, missing_count: missing.len() as u64, missing }
}

/// What the shell is asked.
fn asked(out: &Outbox) -> Option<u64> {
    out.iter().find_map(|output| if let Output::AskDelivery { question, .. } = output { Some(*question) } else { None })
}

/// Which nodes are asked.
fn nodes_asked(out: &Outbox) -> Vec<&str> {
    let node = |output| match output {
        &Output::Send(To::Node(ref to), Message::AskDelivery { .. }) => Some(to.as_str()),
        _ => None,
    };
    out.iter().filter_map(node).collect()
}

fn drained(out: &Outbox) -> Option<Drained> {
    out.iter().find_map(|output| if let Output::Answer(7, Answer::Drained(drained)) = output { Some(drained.clone()) } else { None })
}

fn tell_own(registry: &mut Registry, question: u64, report: DeliveryReport, now: Now) -> Outbox {
    let mut out = Outbox::new();
    registry.handle(Input::Delivered { question, report }, now, &mut out);
    out
}

fn advance(registry: &mut Registry, now: Now) -> Outbox {
    let mut out = Outbox::new();
    registry.advance(now, &mut out);
    out
}

fn status(registry: &Registry) -> (Status, u16) {
    let listed = registry.record(&key()).unwrap().to_listed().unwrap();
    (listed.status, listed.weight)
}

#[test]
fn a_drain_is_over_when_every_node_has_said_that_all_were_sent_it() {
    let mut registry = node("n1");
    register(&mut registry, false, START);
    let out = drain(&mut registry, 30_000, true, true);
    assert_eq!((status(&registry), nodes_asked(&out)), ((Status::Draining, 0), vec!["n2", "n3"]));
    let record = registry.record(&key()).unwrap();
    assert_eq!((record.cause, record.actor.as_deref(), record.version.seq), (Cause::Drained, Some("ops"), 2));
    let question = asked(&out).unwrap();
    assert_eq!(drained(&tell_own(&mut registry, question, report(10, Vec::new()), at(10))), None);
    let told = |report| Message::ToldDelivery { question, report };
    assert_eq!(drained(&hear(&mut registry, "n2", told(report(20, Vec::new())), at(20))), None);
    // Only who is silent is asked again.
    assert_eq!(nodes_asked(&advance(&mut registry, at(1100))), ["n3"]);
    let out = hear(&mut registry, "n3", told(report(30, Vec::new())), at(1200));
    let expected = Drained { delivered: true, subscribers: 60, missing: Vec::new(), truncated: false, deregistered: true };
    assert_eq!(drained(&out), Some(expected));
    let record = registry.record(&key()).unwrap();
    assert_eq!((record.cause, record.registration().is_none()), (Cause::Deregistered, true));
}

#[test]
fn a_registration_elsewhere_after_the_drain_is_later_than_the_deregistration_in_which_that_ends() {
    let mut registry = node("n1");
    register(&mut registry, false, START);
    let before = Record::clone(registry.record(&key()).unwrap());
    drain(&mut registry, 2000, false, true);
    // n2 has not met the drain.
    let draft = RegistrationDraft { weight: 7, ..registration().to_draft() };
    let body = Body::Live { registration: Arc::new(Registration::new(draft).unwrap()), seen: crate::registry::Seen::Well, draining: false };
    let version = crate::model::Version { edition: 1000 * Now::WALL_A_MS, owner: life("n2"), seq: 1, ..before.version.clone() };
    let word = Arc::new(Record { version, body, ..before });
    advance(&mut registry, at(2000));
    assert!(registry.record(&key()).unwrap().registration().is_none());
    hear(&mut registry, "n2", Message::Change(Change { first: 1, last: 1, wants_ack: false, records: vec![word] }), at(2100));
    assert_eq!(status(&registry).0, Status::Up);
}

#[test]
fn at_the_deadline_whoever_was_not_sent_it_is_named_and_a_silent_node_by_those_it_had() {
    let mut registry = node("n1");
    register(&mut registry, false, START);
    let interest = Arc::new(crate::registry::Interest::new(Namespace::default(), [key().service.service].iter(), &[]));
    let watcher = crate::registry::Watcher { subscriber: subscriber(2), interest };
    let page = crate::registry::AudiencePage { digest: 0, watchers: Vec::new(), more: false };
    let mut there = node("n2");
    there.handle(Input::Audience { watchers: vec![watcher.clone()], count: 1 }, START, &mut Outbox::new());
    let said = Message::Beacon(Beacon { audience: there.audience.to_said(), ..Beacon::of(NodeState::Ready) });
    let out = hear(&mut registry, "n2", said, START);
    let ticket = out.iter().find_map(|output| match output {
        Output::Send(_, Message::AskAudience { ticket, .. }) => Some(*ticket),
        _ => None,
    });
    let page = crate::registry::AudiencePage { digest: there.audience.to_said().digest, watchers: vec![watcher], ..page };
    hear(&mut registry, "n2", Message::ToldAudience { ticket: ticket.unwrap(), page }, START);

    let question = asked(&drain(&mut registry, 2000, true, true)).unwrap();
    tell_own(&mut registry, question, report(3, vec![subscriber(1)]), at(1500));
    // The third node is not known to have anybody.
    assert_eq!(drained(&advance(&mut registry, at(1999))), None);
    let drained = drained(&advance(&mut registry, at(2000))).unwrap();
    let missing = |node: &str, subscriber| Missing { node: life(node).node, subscriber };
    let expected = vec![missing("n1", Some(subscriber(1))), missing("n2", Some(subscriber(2))), missing("n3", None)];
    assert_eq!(drained, Drained { delivered: false, subscribers: 4, missing: expected, truncated: false, deregistered: true });
}

#[test]
fn nobody_waits_for_a_node_that_is_dead() {
    let mut registry = node("n1");
    register(&mut registry, false, START);
    let question = asked(&drain(&mut registry, 60_000, true, false)).unwrap();
    tell_own(&mut registry, question, report(1, Vec::new()), at(10));
    hear(&mut registry, "n2", Message::ToldDelivery { question, report: report(1, Vec::new()) }, at(20));
    registry.peers.get_mut(&life("n3").node).unwrap().is_dead = true;
    let drained = drained(&advance(&mut registry, at(1000))).unwrap();
    assert_eq!(drained, Drained { delivered: true, subscribers: 2, missing: Vec::new(), truncated: false, deregistered: false });
    assert_eq!(status(&registry), (Status::Draining, 0));
}

#[test]
fn without_waiting_it_is_answered_at_once_and_deregistered_all_the_same() {
    let mut registry = node("n1");
    register(&mut registry, false, START);
    let out = drain(&mut registry, 1000, false, true);
    assert!(out.iter().any(|output| matches!(output, Output::Answer(7, Answer::Draining))));
    let out = advance(&mut registry, at(1000));
    assert!(!out.iter().any(|output| matches!(output, Output::Answer(..))));
    assert!(registry.record(&key()).unwrap().registration().is_none());
}

#[test]
fn the_instance_goes_with_the_node_that_was_asked_whoever_has_answered() {
    let mut registry = node("n1");
    register(&mut registry, false, START);
    let question = asked(&drain(&mut registry, 30_000, true, true)).unwrap();
    tell_own(&mut registry, question, report(10, Vec::new()), at(10));
    let mut out = Outbox::new();
    registry.handle(Input::Leave, at(20), &mut out);
    let Drained { delivered, missing, deregistered, .. } = drained(&out).unwrap();
    assert_eq!((delivered, missing.len(), deregistered), (false, 2, true), "n2 and n3 have said nothing");
    assert!(registry.record(&key()).unwrap().registration().is_none());
}

#[test]
fn a_provider_that_says_up_ends_it_and_one_that_says_nothing_does_not() {
    for ends_by_heartbeat in [false, true] {
        let mut registry = node("n1");
        register(&mut registry, false, START);
        drain(&mut registry, 1000, true, true);
        register(&mut registry, false, at(100));
        assert_eq!(status(&registry), (Status::Draining, 0));
        if ends_by_heartbeat {
            let heartbeat = Heartbeat { key: key(), incarnation: None, digest: None, reported: Some(Reported::Up), at: at(200).mono };
            registry.handle(Input::Heartbeat(2, heartbeat), at(200), &mut Outbox::new());
        } else {
            register(&mut registry, true, at(200));
        }
        let record = registry.record(&key()).unwrap();
        assert_eq!((status(&registry), record.cause), ((Status::Up, 100), Cause::Updated));
        let stamp = 200 * Now::WALL_A_MS + at(200).wall % Now::WALL_A_MS;
        assert_eq!(record.version.edition, stamp, "each is a word, written with its stamp");
        let drained = drained(&advance(&mut registry, at(1000))).unwrap();
        assert!(!drained.deregistered, "what is up again stays");
        assert_eq!(status(&registry), (Status::Up, 100));
    }
}

#[test]
fn the_node_that_is_asked_becomes_the_owner_and_the_flag_stays_through_silence() {
    let mut owner = node("n2");
    register(&mut owner, false, START);
    let mut registry = node("n1");
    let change = owner.changes_after(0, usize::MAX, 1).unwrap().remove(0);
    hear(&mut registry, "n2", Message::Change(change), START);
    drain(&mut registry, 300_000, true, true);
    let record = Arc::clone(registry.record(&key()).unwrap());
    assert_eq!((&record.version.owner, record.version.edition, registry.holds_lease(&key())), (&life("n1"), 1, true));
    let change = Change { first: record.version.seq, last: record.version.seq, wants_ack: false, records: vec![record] };
    hear(&mut owner, "n1", Message::Change(change), at(10));
    assert!(owner.record(&key()).unwrap().is_draining());
    let mut ms = 0;
    while status(&registry).0 == Status::Draining {
        ms += 500;
        for peer in ["n2", "n3"] {
            beacon(&mut registry, peer, NodeState::Ready, at(ms));
        }
        let out = advance(&mut registry, at(ms));
        for output in out {
            if let Output::AskLease { key, purpose } = output {
                registry.handle(Input::Lease { key, last_heartbeat: None, purpose }, at(ms), &mut Outbox::new());
            }
        }
    }
    assert_eq!(status(&registry), (Status::Suspect, 0), "what was seen of it counts for more");
    assert!(registry.record(&key()).unwrap().is_draining());
}

#[test]
fn who_went_by_silence_while_it_left_still_leaves_when_it_comes_back() {
    for comes_back in ["heartbeat", "registration", "up", "beat up", "life"] {
        let mut registry = node("n1");
        let registration = registration();
        let said = |says_up, incarnation, now: Now| {
            let of = Register::new(key(), Arc::clone(&registration), now.mono);
            Input::Register(1, Register { incarnation, says_up, ..of })
        };
        registry.handle(said(false, None, START), START, &mut Outbox::new());
        drain(&mut registry, 1000, false, false);
        let record = Arc::clone(registry.record(&key()).unwrap());
        registry.withdraw(&record, Cause::Expired, START.mono, at(90_000), &mut Outbox::new());
        assert!(registry.record(&key()).unwrap().registration().is_none());
        let now = at(90_500);
        let input = match comes_back {
            "heartbeat" => Input::Heartbeat(2, Heartbeat { key: key(), incarnation: None, digest: None, reported: None, at: now.mono }),
            "beat up" => {
                let reported = Some(Reported::Up);
                Input::Heartbeat(2, Heartbeat { key: key(), incarnation: None, digest: None, reported, at: now.mono })
            }
            "registration" => said(false, None, now),
            "up" => said(true, None, now),
            _ => said(false, Incarnation::new(2), now),
        };
        registry.handle(input, now, &mut Outbox::new());
        let expected = if ["heartbeat", "registration"].contains(&comes_back) { (Status::Draining, 0) } else { (Status::Up, 100) };
        assert_eq!(status(&registry), expected, "{comes_back}");
    }
}

#[test]
fn who_went_by_silence_before_its_drain_ended_is_not_brought_back_by_a_late_heartbeat() {
    let mut registry = node("n1");
    register(&mut registry, false, START);
    drain(&mut registry, 60_000, false, true);
    let record = Arc::clone(registry.record(&key()).unwrap());
    registry.withdraw(&record, Cause::Expired, START.mono, at(30_000), &mut Outbox::new());
    advance(&mut registry, at(61_000));
    assert!(registry.record(&key()).unwrap().version.deregistered);
    let now = at(62_000);
    let beat = Heartbeat { key: key(), incarnation: None, digest: None, reported: None, at: now.mono };
    registry.handle(Input::Heartbeat(2, beat), now, &mut Outbox::new());
    assert!(registry.record(&key()).unwrap().registration().is_none());
}

#[test]
fn a_peer_answers_once_it_knows_the_change_and_again_when_it_is_asked_again() {
    let mut asker = node("n1");
    register(&mut asker, false, START);
    drain(&mut asker, 30_000, true, true);
    let mut peer = node("n2");
    let question = Message::AskDelivery { question: 9, key: key(), seq: 2, within_ms: 29_500 };
    assert_eq!(asked(&hear(&mut peer, "n1", question.clone(), START)), None, "it does not know of it yet");
    let change = asker.changes_after(0, usize::MAX, 1).unwrap().remove(0);
    let own = asked(&hear(&mut peer, "n1", Message::Change(change), at(10))).unwrap();
    assert_eq!(asked(&hear(&mut peer, "n1", question.clone(), at(1000))), None, "it has asked already");
    let told = |out: &Outbox| out.iter().any(|output| matches!(output, Output::Send(_, Message::ToldDelivery { question: 9, .. })));
    assert!(told(&tell_own(&mut peer, own, report(5, Vec::new()), at(1100))));
    assert!(told(&hear(&mut peer, "n1", question, at(2000))));
}

#[test]
fn an_answer_is_kept_for_a_while_after_it_was_given_and_not_until_the_deadline() {
    let mut asker = node("n1");
    register(&mut asker, false, START);
    drain(&mut asker, 300_000, true, true);
    let mut peer = node("n2");
    let change = asker.changes_after(0, usize::MAX, 1).unwrap().remove(0);
    hear(&mut peer, "n1", Message::Change(change), START);
    let ask = |question, seq| Message::AskDelivery { question, key: key(), seq, within_ms: 299_500 };
    // As many as are kept, and one more.
    let mut own: Vec<u64> = (0..ASKED_MAX as u64).map(|question| asked(&hear(&mut peer, "n1", ask(question, 2), START)).unwrap()).collect();
    assert_eq!(asked(&hear(&mut peer, "n1", ask(9999, 2), START)), None);
    let last = own.pop().unwrap();
    for own in own {
        tell_own(&mut peer, own, report(1, Vec::new()), at(20));
    }
    advance(&mut peer, at(20 + KEEP_MS - 1));
    assert_eq!(peer.drains.asked.len(), ASKED_MAX);
    advance(&mut peer, at(20 + KEEP_MS));
    assert_eq!(peer.drains.asked.len(), 1, "what is not answered yet stays");
    assert_eq!(asked(&hear(&mut peer, "n1", ask(10_000, 3), at(6000))), None, "it does not know of that change");
    assert_eq!(peer.drains.waiting, 1);
    assert!(asked(&hear(&mut peer, "n1", ask(9999, 2), at(6000))).is_some());
    assert_eq!(peer.drains.waiting, 1);
    tell_own(&mut peer, last, report(1, Vec::new()), at(6000));
    advance(&mut peer, at(299_500 + 6000 + KEEP_MS));
    assert_eq!((peer.drains.asked.len(), peer.drains.waiting), (0, 0), "what waits in vain is forgotten too");
}

/// A node that warms, and shows what its disk held of the instance: greater than what `n1` to `n3` write.
fn warming(name: &str) -> Registry {
    let mut former = node("n9");
    register(&mut former, false, at(1));
    let records = vec![Arc::clone(former.record(&key()).unwrap())];
    let mut registry = Registry::new(Settings::new(life(name).node, Epoch(2)), 1, START);
    let restore = Input::Restore { records, overrides: Vec::new(), unrenewed: Vec::new(), saved_at: START.mono, knew_enough: true };
    registry.handle(restore, START, &mut Outbox::new());
    registry
}

#[test]
fn what_readers_are_not_shown_does_not_drain() {
    let mut registry = warming("n1");
    register(&mut registry, false, START);
    assert_eq!(refused(&drain(&mut registry, 1000, true, true)), Some(Refusal::Warming));
    assert_eq!(status(&registry).0, Status::Up, "nothing was changed");
}

#[test]
fn a_peer_that_shows_something_greater_does_not_say_that_a_drain_was_sent() {
    let mut asker = node("n1");
    register(&mut asker, false, START);
    drain(&mut asker, 30_000, true, true);
    let mut peer = warming("n2");
    let change = asker.changes_after(0, usize::MAX, 1).unwrap().remove(0);
    hear(&mut peer, "n1", Message::Change(change), START);
    let question = Message::AskDelivery { question: 9, key: key(), seq: 2, within_ms: 29_500 };
    assert_eq!(asked(&hear(&mut peer, "n1", question, START)), None);
    peer.merge_restored(at(100), &mut Outbox::new());
    assert!(asked(&advance(&mut peer, at(100))).is_some(), "what all were sent is greater");
}

fn refused(out: &Outbox) -> Option<Refusal> {
    out.iter().find_map(|output| if let Output::Answer(7, Answer::Refused(why)) = output { Some(why.clone()) } else { None })
}

#[test]
fn what_is_not_there_cannot_drain_and_one_too_many_is_refused() {
    let mut registry = node("n1");
    assert_eq!(refused(&drain(&mut registry, 1000, true, true)), Some(Refusal::UnknownInstance));
    register(&mut registry, false, START);
    for _ in 0..DRAINS_MAX {
        assert_eq!(refused(&drain(&mut registry, 1000, true, true)), None);
    }
    assert_eq!(refused(&drain(&mut registry, 1000, true, true)), Some(Refusal::Busy));
}
