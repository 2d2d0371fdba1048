//! What is waited for a lease over the lives of a node: killed again and again, down for long, paused, and beside peers.

use std::sync::Arc;

use super::*;
use crate::model::{
    Address, Check, CheckKind, Epoch, InstanceId, Namespace, NodeName, Port, Registration, RegistrationDraft, ServiceKey, ServiceName, Ttl,
};
use crate::registry::{
    Beacon, Body, Change, Envelope, Heartbeat, Input, Message, NodeState, Now, Outbox, Output, Register, Registry, Seen, Settings,
};

const TTL_MS: u64 = 6000;
/// Grace: a third of the ttl, 5 s at the most.
const GRACE_MS: u64 = 2000;
const EVICT_AFTER_MS: u64 = 5000;
/// Each life lasts so long, and was saved so long after its beginning.
const LIFE_MS: u64 = 3000;
const SAVED_MS: u64 = 2500;

fn key(id: &str) -> InstanceKey {
    let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
    InstanceKey { service, id: InstanceId::parse(id).unwrap() }
}

fn register(id: &str, now: Now) -> Input {
    let ttl = Ttl::from_ms(TTL_MS).unwrap();
    let mut draft = RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(u16::from(id.as_bytes()[0])).unwrap(), ttl);
    draft.evict_after_ms = Some(u32::try_from(EVICT_AFTER_MS).unwrap());
    draft.check = Some(Check { kind: CheckKind::None, interval_ms: 10_000, timeout_ms: 1000, failures: 1, successes: 1 });
    Input::Register(1, Register::new(key(id), Arc::new(Registration::new(draft).unwrap()), now.mono))
}

fn begun(epoch: u64, has_bus: bool, now: Now) -> Registry {
    let settings = Settings { has_bus, ..Settings::new(NodeName::parse("n1").unwrap(), Epoch(epoch)) };
    Registry::new(settings, epoch, now)
}

/// A node that is killed and started again and again, and its disk.
struct Lives {
    now: Now,
    count: u64,
    saved: (Picture, Vec<UnrenewedLease>, u64),
    registry: Registry,
}

impl Lives {
    /// The first registers these, and hears none of them again.
    fn new(ids: &[&str]) -> Self {
        let now = Now { mono: 86_400_000, wall: 0 };
        let mut registry = begun(1, false, now);
        for id in ids {
            registry.handle(register(id, now), now, &mut Outbox::new());
        }
        let picture = registry.picture(now).unwrap();
        Self { now, count: 1, saved: (picture, Vec::new(), now.mono), registry }
    }

    /// The node starts after it was down for so long, and lives for a while, in which heartbeats of these come.
    fn next(&mut self, down_ms: u64, renewed: &[&str]) {
        self.count += 1;
        self.now.mono += down_ms;
        self.registry = begun(self.count, false, self.now);
        let (picture, unrenewed, saved_at) = self.saved.clone();
        let records = picture.records().cloned().collect();
        let restore = Input::Restore { records, overrides: Vec::new(), unrenewed, saved_at, knew_enough: true };
        self.registry.handle(restore, self.now, &mut Outbox::new());
        self.run(LIFE_MS, renewed);
    }

    fn run(&mut self, for_ms: u64, renewed: &[&str]) {
        for ms in (100..=for_ms).step_by(100) {
            self.now.mono += 100;
            let mut out = Outbox::new();
            self.registry.advance(self.now, &mut out);
            if ms == 1500 {
                for id in renewed {
                    let beat = Heartbeat { key: key(id), incarnation: None, digest: None, reported: None, at: self.now.mono };
                    self.registry.handle(Input::Heartbeat(2, beat), self.now, &mut out);
                }
            }
            while let Some(output) = out.pop() {
                if let Output::AskLease { key, purpose } = output {
                    self.registry.handle(Input::Lease { key, last_heartbeat: None, purpose }, self.now, &mut out);
                }
            }
            if ms == SAVED_MS {
                let picture = self.registry.picture(self.now).unwrap();
                let unrenewed = picture.unrenewed(|_| None);
                self.saved = (picture, unrenewed, self.now.mono);
            }
        }
    }

    fn seen(&self, id: &str) -> Option<Seen> {
        let record = self.registry.record(&key(id))?;
        if let Body::Live { seen, .. } = &record.body { Some(*seen) } else { None }
    }
}

#[test]
fn a_node_that_is_killed_again_and_again_ends_the_leases_of_the_dead_and_keeps_the_living() {
    let mut lives = Lives::new(&["dead", "live"]);
    let mut story = vec![];
    let mut served_ms = 0;
    while lives.seen("dead").is_some() && lives.count < 30 {
        lives.next(1000, &["live"]);
        served_ms += SAVED_MS;
        assert_eq!(lives.seen("live"), Some(Seen::Well), "life {}", lives.count);
        if story.last() != Some(&lives.seen("dead")) {
            story.push(lives.seen("dead"));
        }
    }
    assert_eq!(story, [Some(Seen::Well), Some(Seen::Suspect), Some(Seen::Down), None]);
    assert!(served_ms <= TTL_MS + GRACE_MS + TTL_MS + EVICT_AFTER_MS + 2 * LIFE_MS, "{served_ms} ms served");
}

#[test]
fn the_last_instance_of_a_service_goes_too_where_there_is_no_other_node() {
    let mut lives = Lives::new(&["dead"]);
    for _ in 0..12 {
        lives.next(1000, &[]);
    }
    assert_eq!(lives.seen("dead"), None);
}

#[test]
fn while_the_node_is_down_no_lease_ends_and_no_clock_counts() {
    for jump_ms in [0, 86_000_000] {
        let mut lives = Lives::new(&["late"]);
        for _ in 0..2 {
            lives.next(600_000, &[]);
            lives.saved.2 = lives.saved.2.saturating_sub(jump_ms);
        }
        // 5.5 s of its 8 are waited, whatever went by beside them.
        lives.next(600_000, &["late"]);
        assert_eq!(lives.seen("late"), Some(Seen::Well));
        for _ in 0..2 {
            lives.next(600_000, &[]);
            assert_eq!(lives.seen("late"), Some(Seen::Well), "it was renewed: its lease is whole");
        }
    }
}

#[test]
fn a_file_without_what_was_waited_gives_a_whole_lease_once() {
    let mut lives = Lives::new(&["dead", "live"]);
    for _ in 0..3 {
        lives.next(1000, &["live"]);
    }
    lives.saved.1.clear();
    lives.next(1000, &["live"]);
    lives.next(1000, &["live"]);
    assert_eq!(lives.seen("dead"), Some(Seen::Well));
    lives.next(1000, &["live"]);
    lives.next(1000, &["live"]);
    assert_eq!(lives.seen("dead"), Some(Seen::Suspect));
}

#[test]
fn a_pause_is_not_waited_for() {
    let mut lives = Lives::new(&["late"]);
    lives.next(1000, &[]);
    lives.now.mono += 60_000;
    lives.run(SAVED_MS, &[]);
    let waited_ms = lives.saved.1.iter().map(|lease| lease.waited_ms).max().unwrap();
    assert!((5000..7000).contains(&waited_ms), "{waited_ms} ms");
}

/// A node on a bus that started from its disk beside nobody, and the record on it that was `n2`'s, waited for.
fn apart(now: &mut Now) -> (Registry, Life) {
    let owner = Life { node: NodeName::parse("n2").unwrap(), epoch: Epoch(7) };
    let mut former = begun(1, false, *now);
    former.handle(register("a", *now), *now, &mut Outbox::new());
    let mut record = Record::clone(former.record(&key("a")).unwrap());
    record.version.owner = owner.clone();
    let mut registry = begun(2, true, *now);
    let unrenewed = vec![UnrenewedLease { key: key("a"), waited_ms: 7000 }];
    let restore =
        Input::Restore { records: vec![Arc::new(record)], overrides: Vec::new(), unrenewed, saved_at: now.mono, knew_enough: true };
    registry.handle(restore, *now, &mut Outbox::new());
    registry.handle(Input::BusConnected, *now, &mut Outbox::new());
    while registry.state() != NodeState::Ready {
        run(&mut registry, now, 1000, None);
    }
    (registry, owner)
}

/// Hears itself, and `peer` where there is one.
fn run(registry: &mut Registry, now: &mut Now, for_ms: u64, peer: Option<&Life>) {
    for ms in (0..for_ms).step_by(100) {
        let mut out = Outbox::new();
        for life in [Some(&registry.life.clone()), peer].into_iter().flatten().filter(|_| ms.is_multiple_of(1000)) {
            let message = Message::Beacon(Beacon::of(NodeState::Ready));
            registry.handle(Input::Received(Envelope { from: life.clone(), message }), *now, &mut out);
        }
        registry.advance(*now, &mut out);
        now.mono += 100;
    }
}

#[test]
fn what_was_waited_for_a_lease_is_forgotten_once_its_owner_is_seen_to_run() {
    let mut now = Now { mono: 86_400_000, wall: 0 };
    let (mut registry, owner) = apart(&mut now);
    assert!(registry.unrenewed.waits.get(&key("a")).is_some_and(|wait| wait.waited_ms(now.mono) >= 7000));
    run(&mut registry, &mut now, 3000, Some(&owner));
    assert!(registry.unrenewed.waits.is_empty());
}

#[test]
fn what_another_node_renews_is_not_waited_for_here() {
    let mut now = Now { mono: 86_400_000, wall: 0 };
    let (mut registry, owner) = apart(&mut now);
    let other = Life { node: NodeName::parse("n3").unwrap(), epoch: Epoch(3) };
    let mut record = Record::clone(registry.record(&key("a")).unwrap());
    assert_ne!(record.version.owner, other);
    (record.version.owner, record.version.seq) = (other.clone(), 1);
    record.version.generation += 5;
    let change = Change { first: 1, last: 1, wants_ack: false, records: vec![Arc::new(record)] };
    registry.handle(Input::Received(Envelope { from: other, message: Message::Change(change) }), now, &mut Outbox::new());
    assert!(registry.unrenewed.waits.is_empty(), "{owner:?}");
}

#[test]
fn no_more_are_noted_than_there_is_room_for_and_those_that_waited_come_first() {
    let mut unrenewed = Unrenewed::default();
    unrenewed.restore((0..UNRENEWED_MAX + 5).map(|at| UnrenewedLease { key: key(&format!("i{at:07}")), waited_ms: 9 }).collect());
    assert_eq!(unrenewed.saved.len(), UNRENEWED_MAX);
    let lasting = |unrenewed: &mut Unrenewed, id: &str| unrenewed.wait_for(&key(id), Ttl::from_ms(TTL_MS).ok(), 1, 1_000_000);
    for at in 0..UNRENEWED_MAX + 5 {
        lasting(&mut unrenewed, &format!("n{at}"));
    }
    assert_eq!(unrenewed.waits.len(), UNRENEWED_MAX);
    assert_eq!(lasting(&mut unrenewed, "other"), Lasting { until: 1_000_000 + TTL_MS + GRACE_MS, made_up: 1_000_000 - TTL_MS });
}
