//! Leases: the deadlines of the records owned here. The last heartbeats are kept by the shell; they are asked for when a deadline fires.

use std::collections::{BTreeMap, BTreeSet};

use super::time::Mono;
use crate::model::{Incarnation, InstanceKey, ServiceKey};

/// When a lease is looked at that no time ends.
const NEVER: Mono = Mono::MAX;

/// The leases held here, by key and by what is due first.
#[derive(Default)]
pub(super) struct Leases {
    held: BTreeMap<InstanceKey, Lease>,
    due: BTreeSet<(Mono, InstanceKey)>,
    /// Those that are late: their providers are silent.
    silent: BTreeSet<InstanceKey>,
    /// Of all leases here that silence can end.
    all: Tally,
    /// Of each service's.
    services: BTreeMap<ServiceKey, Tally>,
    /// Where their instances listen, but for those whose place is another's by now.
    places: BTreeSet<(Place, InstanceKey)>,
}

/// How many of some leases are late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) held: u64,
    /// Of these.
    pub(super) silent: u64,
}

/// A right to stay listed.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    /// When it is looked at next; `None`: never, it is a fixed address's. Not when it is over: heartbeats do not move it.
    due: Option<Mono>,
    /// How late it is; changed by [`Leases::set_phase`] alone.
    phase: Phase,
    /// The last heartbeat that the registry itself knows of.
    pub(super) renewed_at: Mono,
    /// Silence before this proves nothing: the lease was taken over from another node.
    pub(super) not_before: Mono,
    /// Its provider had not been heard here when it was taken over: `renewed_at` was made up, and was this.
    pub(super) made_up: Option<Mono>,
    /// The life it was given for.
    pub(super) incarnation: Incarnation,
    /// Of the content it was given for.
    pub(super) digest: u128,
    /// Without a heartbeat it lasts so long, if it is ever looked at.
    pub(super) ttl_ms: u64,
    /// Once down, the instance stays listed so long.
    pub(super) evict_after_ms: u64,
    /// An open connection holds it: it is not looked at until that closes.
    attached: bool,
    /// The connection that held it has closed: no heartbeat from before counts.
    detached: bool,
    /// Where its instance listens; `None`: a fixed address's, which no silence ends.
    pub(super) place: Option<Place>,
    /// Another instance has been registered at its place.
    pub(super) replaced: Option<Box<Replaced>>,
    /// Again and again its machine refused; changed by [`Leases::set_refused`] alone.
    refused: bool,
    /// It was registered without an incarnation by a node that knew nothing of the instance: a higher one may be known elsewhere.
    pub(super) unnamed: bool,
}

/// How late a lease is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is held.
    Held,
    /// Its time is over since then; the instance is `suspect`.
    Late(Mono),
    /// Its provider is silent since then, and the instance answers when it is looked at: it is `up`. It counts as silent all the same:
    /// that heartbeats of one who lives do not come is the best reason there is to doubt what the silence of others says.
    Answering(Mono),
    /// It has been late for another ttl, or does not answer, since then; the instance is `down`.
    Over(Mono),
}

/// A lease that ended because a greater record took its place, until the shell has said when it was last renewed.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    /// As it was.
    pub(super) lease: Lease,
    /// What it was held for.
    pub(super) record: std::sync::Arc<super::record::Record>,
}

/// The fingerprint of a namespace, an address and a port.
pub(super) type Place = u128;

/// Another instance was registered where this one listens: its own process is likely gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replaced {
    /// When this node heard of it: a heartbeat after that says that both are there.
    pub(super) since: Mono,
    /// By whom.
    pub(super) by: InstanceKey,
}

impl Phase {
    fn is_silent(self) -> bool {
        match self {
            Self::Held => false,
            Self::Late(_) | Self::Answering(_) | Self::Over(_) => true,
        }
    }
}

impl Leases {
    pub(super) fn get(&self, key: &InstanceKey) -> Option<&Lease> {
        self.held.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &InstanceKey) -> Option<&mut Lease> {
        self.held.get_mut(key)
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Whose leases are held here, in order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &InstanceKey> {
        self.held.keys()
    }

    /// Of all leases held here that silence can end.
    pub(super) fn all(&self) -> Tally {
        self.all
    }

    /// Of one service's leases held here that silence can end.
    pub(super) fn of_service(&self, service: &ServiceKey) -> Tally {
        self.services.get(service).copied().unwrap_or_default()
    }

    /// Holds a lease from now on, in the place of one that was held for the same key. Without `due` no silence ends it.
    pub(super) fn hold(&mut self, key: InstanceKey, mut lease: Lease, due: Option<Mono>) {
        let due = due.map(|due| if lease.attached { NEVER } else { due });
        lease.due = due;
        let is_silent = lease.is_silent();
        let place = lease.free_place();
        if let Some(former) = self.held.insert(key.clone(), lease) {
            self.let_go(&key, &former);
        }
        let Some(due) = due else { return };
        self.places.extend(place.map(|place| (place, key.clone())));
        self.count(&key, is_silent, 1);
        if is_silent {
            self.silent.insert(key.clone());
        }
        self.due.insert((due, key));
    }

    /// Notes how late a lease is.
    pub(super) fn set_phase(&mut self, key: &InstanceKey, phase: Phase) {
        let Some(lease) = self.held.get_mut(key).filter(|lease| lease.due.is_some()) else { return };
        let was_silent = lease.is_silent();
        lease.phase = phase;
        let is_silent = lease.is_silent();
        self.count_anew(key, was_silent, is_silent);
    }

    fn count_anew(&mut self, key: &InstanceKey, was_silent: bool, is_silent: bool) {
        if was_silent != is_silent {
            self.count(key, was_silent, -1);
            self.count(key, is_silent, 1);
            if is_silent {
                self.silent.insert(key.clone());
            } else {
                self.silent.remove(key);
            }
        }
    }

    /// Notes whether there is evidence that its process is gone.
    pub(super) fn set_refused(&mut self, key: &InstanceKey, is_refused: bool) {
        let Some(lease) = self.held.get_mut(key).filter(|lease| lease.due.is_some() && lease.refused != is_refused) else { return };
        let was_silent = lease.is_silent();
        lease.refused = is_refused;
        let is_silent = lease.is_silent();
        self.count_anew(key, was_silent, is_silent);
    }

    /// The leases whose instances listen at this place, and whose place is still theirs.
    pub(super) fn at(&self, place: Place) -> Vec<InstanceKey> {
        self.places.range((place, InstanceKey::least())..).take_while(|(at, _)| *at == place).map(|(_, key)| key.clone()).collect()
    }

    /// Notes that another instance was registered where this one listens; it is looked at at once.
    pub(super) fn replace(&mut self, key: &InstanceKey, replaced: Replaced) {
        // A connection that is open says that it is there, whoever else is.
        let Some(lease) = self.held.get_mut(key).filter(|lease| lease.due.is_some() && !lease.attached) else { return };
        let was_silent = lease.is_silent();
        let since = replaced.since;
        let place = lease.free_place();
        lease.replaced = Some(Box::new(replaced));
        let is_silent = lease.is_silent();
        if let Some(place) = place {
            self.places.remove(&(place, key.clone()));
        }
        self.count_anew(key, was_silent, is_silent);
        self.reschedule(key, since);
    }

    /// Its provider was heard after another instance took its place: both are there.
    pub(super) fn share(&mut self, key: &InstanceKey) {
        let Some(lease) = self.held.get_mut(key) else { return };
        let was_silent = lease.is_silent();
        lease.replaced = None;
        let (is_silent, place) = (lease.is_silent(), lease.free_place());
        self.places.extend(place.map(|place| (place, key.clone())));
        self.count_anew(key, was_silent, is_silent);
    }

    /// Looks at a lease again at `due`; never at a fixed address's.
    pub(super) fn reschedule(&mut self, key: &InstanceKey, due: Mono) {
        let Some(lease) = self.held.get_mut(key) else { return };
        let Some(former) = &mut lease.due else { return };
        let due = if lease.attached { NEVER } else { due };
        self.due.remove(&(std::mem::replace(former, due), key.clone()));
        self.due.insert((due, key.clone()));
    }

    /// A connection holds this lease from now on.
    pub(super) fn attach(&mut self, key: &InstanceKey) {
        self.share(key);
        let Some(lease) = self.held.get_mut(key) else { return };
        lease.attached = true;
        self.reschedule(key, NEVER);
    }

    /// The connection that held this lease has closed; says whether its provider counts as silent for that: a fixed address's does not.
    pub(super) fn detach(&mut self, key: &InstanceKey, now: Mono, evict_after_ms: u64) -> bool {
        let Some(lease) = self.held.get_mut(key).filter(|lease| lease.attached) else { return false };
        lease.attached = false;
        if lease.is_fixed() {
            return false;
        }
        lease.detached = true;
        lease.renewed_at = now;
        lease.evict_after_ms = evict_after_ms;
        true
    }

    /// No connection holds this lease any more, which says nothing of its provider: it is to be heard within its ttl from now on.
    pub(super) fn release(&mut self, key: &InstanceKey, now: Mono) {
        let Some(lease) = self.held.get_mut(key).filter(|lease| lease.attached) else { return };
        lease.attached = false;
        lease.renewed_at = now;
        let due = now + lease.ttl_ms;
        self.reschedule(key, due);
    }

    /// Looks at once at the late leases of a service, or at all that are late.
    pub(super) fn hasten(&mut self, service: Option<&ServiceKey>, now: Mono) {
        let silent: Vec<InstanceKey> = match service {
            None => self.silent.iter().cloned().collect(),
            // Its keys stand together: a service among very many must not cost a look at all of them.
            Some(service) => {
                let first = InstanceKey::least_of(service.clone());
                self.silent.range(first..).take_while(|key| key.service == *service).cloned().collect()
            }
        };
        for key in silent {
            self.reschedule(&key, now);
        }
    }

    pub(super) fn end(&mut self, key: &InstanceKey) -> Option<Lease> {
        let lease = self.held.remove(key)?;
        self.let_go(key, &lease);
        Some(lease)
    }

    /// What follows from a lease that is not held any more.
    fn let_go(&mut self, key: &InstanceKey, lease: &Lease) {
        let Some(due) = lease.due else { return };
        self.due.remove(&(due, key.clone()));
        if let Some(place) = lease.free_place() {
            self.places.remove(&(place, key.clone()));
        }
        let is_silent = lease.is_silent();
        self.count(key, is_silent, -1);
        if is_silent {
            self.silent.remove(key);
        }
    }

    /// When the next lease is to be looked at.
    pub(super) fn next_due(&self) -> Option<Mono> {
        self.due.first().map(|(due, _)| *due)
    }

    /// The next lease that is due, if one is; it is put off to `again`, so that no answer is waited for in vain.
    pub(super) fn take_due(&mut self, now: Mono, again: Mono) -> Option<InstanceKey> {
        let (due, _) = self.due.first()?;
        if *due > now {
            return None;
        }
        let (_, key) = self.due.pop_first()?;
        if let Some(lease) = self.held.get_mut(&key) {
            lease.due = Some(again);
            self.due.insert((again, key.clone()));
        }
        Some(key)
    }

    fn count(&mut self, key: &InstanceKey, is_silent: bool, by: i64) {
        let add = |tally: &mut Tally| {
            tally.held = tally.held.saturating_add_signed(by);
            tally.silent = tally.silent.saturating_add_signed(if is_silent { by } else { 0 });
        };
        add(&mut self.all);
        match self.services.get_mut(&key.service) {
            Some(tally) => {
                add(tally);
                if tally.held == 0 {
                    self.services.remove(&key.service);
                }
            }
            None => add(self.services.entry(key.service.clone()).or_default()),
        }
    }
}

impl Lease {
    /// A lease in this phase, renewed at `renewed_at`; [`Leases::hold`] says when it is looked at.
    pub(super) fn new(incarnation: Incarnation, digest: u128, ttl_ms: u64, evict_after_ms: u64, renewed_at: Mono, phase: Phase) -> Self {
        Self {
            due: None,
            phase,
            renewed_at,
            not_before: 0,
            made_up: None,
            incarnation,
            digest,
            ttl_ms,
            evict_after_ms,
            attached: false,
            detached: false,
            place: None,
            replaced: None,
            refused: false,
            unnamed: false,
        }
    }

    /// Its silence counts among the others': of one whose place is another's by now it says nothing of the network, nor of one whose
    /// machine is reached and says that the process is gone.
    fn is_silent(&self) -> bool {
        self.phase.is_silent() && self.replaced.is_none() && !self.refused
    }

    /// Where it listens, while that is its own.
    fn free_place(&self) -> Option<Place> {
        self.place.filter(|_| self.replaced.is_none())
    }

    pub(super) fn due(&self) -> Option<Mono> {
        self.due
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Held by a connection.
    pub(super) fn attached(self) -> Self {
        Self { attached: true, ..self }
    }

    pub(super) fn is_attached(&self) -> bool {
        self.attached
    }

    /// The last heartbeat that the shell or the registry knows of.
    pub(super) fn last_heard(&self, last_heartbeat: Option<Mono>) -> Mono {
        last_heartbeat.unwrap_or(0).max(self.renewed_at)
    }

    /// The last sign of life: a connection that is open gives one all the time.
    pub(super) fn last_sign(&self, last_heartbeat: Option<Mono>, now: Mono) -> Mono {
        if self.attached { now } else { self.last_heard(last_heartbeat) }
    }

    /// A heartbeat of `last` is a sign of life, though the lease has been late since `since`: one from before is none where another
    /// instance has its place, or its connection has closed.
    pub(super) fn is_renewed_by(&self, last: Mono, since: Mono, now: Mono, is_replaced: bool) -> bool {
        last > since || (!self.detached && !is_replaced && now < last + self.ttl_ms)
    }

    /// Silence says nothing of it.
    pub(super) fn is_fixed(&self) -> bool {
        self.due.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{InstanceId, Namespace, ServiceName};

    fn key(service: &str, id: &str) -> InstanceKey {
        let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse(service).unwrap() };
        InstanceKey { service, id: InstanceId::parse(id).unwrap() }
    }

    #[test]
    fn the_tallies_follow_every_lease() {
        let mut leases = Leases::default();
        let lease = |phase| Lease::new(Incarnation::FIRST, 0, 1000, 1000, 0, phase);
        for id in ["1", "2", "3"] {
            leases.hold(key("a", id), lease(Phase::Held), Some(1000));
        }
        leases.hold(key("b", "1"), lease(Phase::Late(5)), Some(1000));
        assert_eq!(leases.all(), Tally { held: 4, silent: 1 });
        leases.set_phase(&key("a", "1"), Phase::Late(9));
        leases.set_phase(&key("a", "1"), Phase::Over(19));
        assert_eq!(leases.of_service(&key("a", "1").service), Tally { held: 3, silent: 1 });
        leases.set_refused(&key("a", "1"), true);
        assert_eq!((leases.all().silent, leases.of_service(&key("a", "1").service)), (1, Tally { held: 3, silent: 0 }));
        leases.set_refused(&key("a", "1"), false);
        assert_eq!(leases.of_service(&key("a", "1").service), Tally { held: 3, silent: 1 });
        leases.hold(key("a", "1"), lease(Phase::Held), Some(2000));
        leases.hold(key("a", "fixed"), lease(Phase::Held), None);
        leases.set_phase(&key("a", "fixed"), Phase::Late(9));
        leases.end(&key("b", "1"));
        assert_eq!((leases.all(), leases.of_service(&key("b", "1").service)), (Tally { held: 3, silent: 0 }, Tally::default()));
    }

    #[test]
    fn a_service_is_hastened_alone() {
        let mut leases = Leases::default();
        for (service, id) in [("a", "9"), ("b", "0"), ("b", "z"), ("ba", "0")] {
            leases.hold(key(service, id), Lease::new(Incarnation::FIRST, 0, 1000, 1000, 0, Phase::Late(0)), Some(1000));
        }
        leases.hold(key("b", "held"), Lease::new(Incarnation::FIRST, 0, 1000, 1000, 0, Phase::Held), Some(1000));
        leases.hasten(Some(&key("b", "0").service), 500);
        let due: Vec<InstanceKey> = std::iter::from_fn(|| leases.take_due(500, 2000)).collect();
        assert_eq!(due, [key("b", "0"), key("b", "z")]);
    }
}
