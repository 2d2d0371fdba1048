//! Unheard: leases that were taken over, and whose providers have not been heard since. Each is given its ttl and grace once, over all the
//! lives of a node that starts again and again: what is left is saved with the records, and goes on from there.

use imbl::OrdMap;

use super::restore::Picture;
use super::time::Mono;
use super::{Record, Registry};
use crate::model::{Cause, InstanceKey, Life, Ttl};

/// How many are noted at the most; what is left of one more is not saved, and it is given a whole ttl in the next life.
const UNHEARD_MAX: usize = 100_000;

/// What was left of a lease when it was saved, whose provider had not been heard since the lease was taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseLeft {
    /// Whose.
    pub key: InstanceKey,
    /// In ms; below 0: its time was over for so long.
    pub left_ms: i64,
}

/// At most [`UNHEARD_MAX`].
#[derive(Clone, Default)]
pub(super) struct Unheard(OrdMap<InstanceKey, Patience>);

/// How long a provider is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// It is to be heard by then.
    pub(super) until: Mono,
    /// No heartbeat of then or before was one: that time was made up.
    pub(super) made_up: Mono,
}

impl Unheard {
    /// Notes what was left of leases `age_ms` ago, by a wall clock: a wrong one makes nothing longer than a whole lease.
    pub(super) fn restore(&mut self, left: &[LeaseLeft], age_ms: u64, now: Mono) {
        let age_ms = i64::try_from(age_ms).unwrap_or(i64::MAX);
        for left in left.iter().take(UNHEARD_MAX) {
            let until = now.saturating_add_signed(left.left_ms.saturating_sub(age_ms));
            self.0.insert(left.key.clone(), Patience { until, made_up: now.saturating_sub(1) });
        }
    }

    fn note_heard(&mut self, key: &InstanceKey, last: Mono) {
        if self.0.get(key).is_some_and(|patience| last > patience.made_up) {
            self.0.remove(key);
        }
    }

    /// A record took its place.
    pub(super) fn follow(&mut self, record: &Record, life: &Life) {
        let is_heard = matches!(record.cause, Cause::Registered | Cause::Updated | Cause::Recovered | Cause::Superseded);
        if !self.0.is_empty() && (is_heard || record.registration().is_none() || record.version.owner != *life) {
            self.0.remove(&record.key);
        }
    }
}

impl Picture {
    /// What is left of the leases whose providers were not heard since; `last_heartbeat` is the shell's table.
    #[must_use]
    pub fn left(&self, last_heartbeat: impl Fn(&InstanceKey) -> Option<Mono>) -> Vec<LeaseLeft> {
        let is_unheard = |key: &InstanceKey, patience: &Patience| last_heartbeat(key).is_none_or(|at| at <= patience.made_up);
        let left_ms = |until: Mono| until.cast_signed().saturating_sub(self.at.cast_signed());
        let unheard = self.unheard.0.iter().filter(|(key, patience)| is_unheard(key, patience));
        unheard.map(|(key, patience)| LeaseLeft { key: key.clone(), left_ms: left_ms(patience.until) }).collect()
    }
}

impl Registry {
    /// A lease is looked at whose provider was heard then.
    pub(super) fn note_heard(&mut self, key: &InstanceKey, last: Mono) {
        self.unheard.note_heard(key, last);
    }

    /// How long the provider of a lease that is taken over is waited for: `ttls` of its ttls and its grace, or what a former life left of that.
    pub(super) fn patience_with(&mut self, key: &InstanceKey, ttl: Option<Ttl>, ttls: u64, now: Mono) -> Patience {
        let (is_fixed, ttl) = (ttl.is_none(), ttl.unwrap_or(Ttl::LONGEST));
        let whole = Patience { until: now + ttl.ms() * ttls + ttl.grace_ms(), made_up: now.saturating_sub(ttl.ms()) };
        let patience = match self.unheard.0.get(key) {
            Some(left) => {
                let until = left.until.min(whole.until);
                // Nobody was heard after the time was over.
                Patience { until, made_up: left.made_up.min(whole.made_up).min(until.saturating_sub(ttl.ms())) }
            }
            None => whole,
        };
        if !is_fixed && self.unheard.0.len() < UNHEARD_MAX {
            self.unheard.0.insert(key.clone(), patience);
        }
        patience
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{
        Address, Check, CheckKind, Epoch, InstanceId, Namespace, NodeName, Port, Registration, RegistrationDraft, ServiceKey, ServiceName,
    };
    use crate::registry::{Heartbeat, Input, Now, Outbox, Output, Register, Seen, Settings};

    const TTL_MS: u64 = 6000;
    /// Each life lasts so long, is saved so long after its beginning, and the next begins so long after its end.
    const LIFE_MS: u64 = 3000;
    const SAVED_MS: u64 = 2000;
    const DOWN_MS: u64 = 1000;

    fn key(id: &str) -> InstanceKey {
        let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
        InstanceKey { service, id: InstanceId::parse(id).unwrap() }
    }

    fn register(id: &str, now: Now) -> Input {
        let ttl = Ttl::from_ms(TTL_MS).unwrap();
        let mut draft = RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(80).unwrap(), ttl);
        draft.port = Port::new(u16::from(id.as_bytes()[0])).unwrap();
        draft.evict_after_ms = Some(5000);
        draft.check = Some(Check { kind: CheckKind::None, interval_ms: 10_000, timeout_ms: 1000, failures: 1, successes: 1 });
        Input::Register(1, Register::new(key(id), Arc::new(Registration::new(draft).unwrap()), now.mono))
    }

    struct Lives {
        now: Now,
        count: u64,
        saved: Option<(Picture, Vec<LeaseLeft>, u64)>,
        registry: Registry,
    }

    impl Lives {
        fn new() -> Self {
            let now = Now { mono: 86_400_000, wall: 0 };
            let mut registry = begun(1, now);
            for id in ["dead", "live"] {
                registry.handle(register(id, now), now, &mut Outbox::new());
            }
            let picture = registry.picture(now).unwrap();
            Self { now, count: 1, saved: Some((picture, Vec::new(), now.mono)), registry }
        }

        /// The node is killed, starts again, and lives for a while, in which one provider is heard.
        fn next(&mut self, jump_ms: u64) {
            self.count += 1;
            self.now.mono += DOWN_MS;
            self.registry = begun(self.count, self.now);
            let (picture, left, saved_at) = self.saved.take().unwrap();
            let records = picture.records().cloned().collect();
            let saved_at = saved_at.saturating_sub(jump_ms);
            self.registry.handle(Input::Restore { records, overrides: Vec::new(), left, saved_at }, self.now, &mut Outbox::new());
            for ms in (100..=LIFE_MS).step_by(100) {
                self.now.mono += 100;
                let mut out = Outbox::new();
                self.registry.advance(self.now, &mut out);
                if ms == 1500 {
                    let beat = Heartbeat { key: key("live"), incarnation: None, digest: None, reported: None, at: self.now.mono };
                    self.registry.handle(Input::Heartbeat(2, beat), self.now, &mut out);
                }
                while let Some(output) = out.pop() {
                    if let Output::AskLease { key, purpose } = output {
                        self.registry.handle(Input::Lease { key, last_heartbeat: None, purpose }, self.now, &mut out);
                    }
                }
                if ms == SAVED_MS {
                    let picture = self.registry.picture(self.now).unwrap();
                    let heard = self.now.mono - 500;
                    let left = picture.left(|of| (*of == key("live")).then_some(heard));
                    self.saved = Some((picture, left, self.now.mono));
                }
            }
        }

        fn seen(&self, id: &str) -> Option<Seen> {
            let record = self.registry.record(&key(id))?;
            if let crate::registry::Body::Live { seen, .. } = &record.body { Some(*seen) } else { None }
        }
    }

    fn begun(epoch: u64, now: Now) -> Registry {
        let settings = Settings { has_bus: false, ..Settings::new(NodeName::parse("n1").unwrap(), Epoch(epoch)) };
        Registry::new(settings, epoch, now)
    }

    #[test]
    fn a_node_that_is_killed_again_and_again_lets_the_dead_go_and_keeps_the_living() {
        let mut lives = Lives::new();
        let mut story = vec![lives.seen("dead")];
        for _ in 0..12 {
            lives.next(0);
            assert_eq!(lives.seen("live"), Some(Seen::Well), "life {}", lives.count);
            if story.last() != Some(&lives.seen("dead")) {
                story.push(lives.seen("dead"));
            }
        }
        assert_eq!(story, [Some(Seen::Well), Some(Seen::Suspect), Some(Seen::Down), None]);
    }

    #[test]
    fn a_clock_that_is_wrong_costs_nobody_who_is_heard_and_spares_nobody_for_ever() {
        let mut lives = Lives::new();
        for life in 0..16 {
            // A day ahead at one start, and right again at the next.
            lives.next(if life % 2 == 0 { 86_000_000 } else { 0 });
            assert_eq!(lives.seen("live"), Some(Seen::Well));
        }
        assert_eq!(lives.seen("dead"), None);
    }
}
