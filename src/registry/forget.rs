//! Forgetting: a withdrawn record is there so that nothing older brings its instance back; once every member has applied what withdrew it,
//! nothing older is on its way for long.

use std::collections::BTreeMap;

use super::applied::FORGET_AFTER_MS;
use super::io::Output;
use super::notice::Notice;
use super::record::{Body, Record};
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::{InstanceKey, Life, NodeName, Seq};

/// For so long every member must have been seen to have applied a withdrawal.
const KNOWN_TO_ALL_MS: u64 = 60_000;
/// How many withdrawn records are looked at a second.
const LOOKED_AT_MAX: usize = 20_000;

impl Registry {
    /// Forgets what no member needs any more, what is older than a day, and the oldest of what is too much.
    pub(super) fn forget_withdrawn(&mut self, now: Now, out: &mut Outbox) {
        self.forget_known_to_all(now.mono);
        let until = now.mono.saturating_sub(FORGET_AFTER_MS);
        let mut early = 0;
        while let Some(oldest) = self.store.oldest_gone() {
            if self.store.forget_one(until, self.settings.limits.withdrawn).is_none() {
                break;
            }
            early += usize::from(oldest > until);
        }
        while self.store.forget_unknown(self.unknown_max()) {
            early += 1;
        }
        if early > 0 {
            out.push(Output::Noticed(Notice::ForgotEarly(early)));
        }
    }

    fn forget_known_to_all(&mut self, now: Mono) {
        let Some(least) = self.applied_by_all(now) else {
            self.forget_cursor = None;
            return;
        };
        let looked_at: Vec<InstanceKey> = self.store.gone_after(self.forget_cursor.as_ref()).take(LOOKED_AT_MAX).cloned().collect();
        self.forget_cursor = looked_at.last().filter(|_| looked_at.len() == LOOKED_AT_MAX).cloned();
        for key in looked_at {
            let Some(record) = self.store.get(&key) else { continue };
            let owner = &record.version.owner;
            let applied = if *owner == self.life { self.log.head() } else { self.applied.seq(owner) };
            let is_known = least(owner).min(applied) >= record.version.seq;
            let is_needed = self.can_still_revive(record, now);
            let since = self.store.note_known(&key, is_known, now);
            if !is_needed && since.is_some_and(|since| since + KNOWN_TO_ALL_MS <= now) {
                self.store.forget(&key);
            }
        }
    }

    /// A heartbeat may bring it back.
    fn can_still_revive(&self, record: &Record, now: Mono) -> bool {
        match &record.body {
            Body::Withdrawn { kept: Some(_), .. } => {
                self.store.gone_at(&record.key).is_some_and(|at| now <= at + self.settings.revive_for_ms)
            }
            Body::Withdrawn { kept: None, .. } | Body::Live { .. } => false,
        }
    }

    /// How far every other member has each life's log; `None` while one of them does not say. Who left is one of them for an hour: it may come
    /// back with a disk that knows an instance and not that it is gone.
    fn applied_by_all(&self, now: Mono) -> Option<impl Fn(&Life) -> Seq + use<>> {
        let members: Vec<NodeName> = self.peers.members.iter_with_left(now).cloned().collect();
        let mut least: Option<BTreeMap<Life, Seq>> = None;
        for node in &members {
            let beacon = self.peers.get(node)?.beacon.as_ref()?;
            let theirs: BTreeMap<Life, Seq> = beacon.applied.iter().map(|at| (at.life.clone(), at.seq)).collect();
            least = Some(match least {
                None => theirs,
                Some(least) => least.into_iter().filter_map(|(life, seq)| Some((life.clone(), seq.min(*theirs.get(&life)?)))).collect(),
            });
        }
        Some(move |life: &Life| least.as_ref().map_or(Seq::MAX, |least| least.get(life).copied().unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Address, Epoch, InstanceId, Namespace, Port, Registration, RegistrationDraft, ServiceKey, ServiceName, Ttl};
    use crate::registry::{Ack, AppliedAt, Beacon, Deregister, Envelope, Input, Message, NodeState, Register, Settings};

    fn life(node: &str, epoch: u64) -> Life {
        Life { node: NodeName::parse(node).unwrap(), epoch: Epoch(epoch) }
    }

    fn at(mono: Mono) -> Now {
        Now { mono, wall: 0 }
    }

    /// A peer that has applied all that `n1` wrote speaks.
    fn speak(registry: &mut Registry, from: &Life, state: NodeState, now: Mono) {
        let applied = vec![AppliedAt { life: life("n1", 1), seq: registry.head(), age_ms: Some(0) }];
        let message = Message::Beacon(Beacon { applied, ..Beacon::of(state) });
        registry.handle(Input::Received(Envelope { from: from.clone(), message }), at(now), &mut Outbox::new());
    }

    #[test]
    fn what_one_that_left_may_still_have_on_its_disk_is_not_forgotten() {
        let mut now = 1_000_000;
        let mut registry = Registry::new(Settings::new(NodeName::parse("n1").unwrap(), Epoch(1)), 1, at(now));
        let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
        let key = InstanceKey { service, id: InstanceId::parse("a").unwrap() };
        let draft = RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(80).unwrap(), Ttl::from_ms(15_000).unwrap());
        let registration = Arc::new(Registration::new(draft).unwrap());
        let register = Register::new(key.clone(), registration, now);
        registry.handle(Input::Register(7, register), at(now), &mut Outbox::new());
        speak(&mut registry, &life("n2", 2), NodeState::Ready, now);
        speak(&mut registry, &life("n2", 2), NodeState::Leaving, now);
        let deregister = Deregister { key: key.clone(), incarnation: None, actor: None, ack: Ack::Local };
        registry.handle(Input::Deregister(8, deregister), at(now), &mut Outbox::new());
        let mut go_on = |registry: &mut Registry, others: &[Life]| {
            for _ in 0..100 {
                now += 1000;
                for other in others {
                    speak(registry, other, NodeState::Ready, now);
                }
                registry.advance(at(now), &mut Outbox::new());
            }
        };
        go_on(&mut registry, &[life("n3", 3)]);
        assert!(registry.record(&key).is_some(), "n2 may come back with its disk");
        go_on(&mut registry, &[life("n3", 3), life("n2", 4)]);
        assert!(registry.record(&key).is_none(), "it has come back, and knows");
    }
}
