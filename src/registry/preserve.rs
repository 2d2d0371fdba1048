//! Self-preservation: where too many fall silent together, their silence proves nothing, and nobody is taken away for it.
//!
//! Judged for all leases of this node, and for those of each service: a network that is out between providers and registry shows in the
//! one, a service that is out of reach in the other.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::io::Output;
use super::lease::Tally;
use super::notice::Notice;
use super::record::Record;
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::ServiceKey;

/// Fewer silent ones than this are no sign of anything wider.
const SILENT_MIN: u64 = 3;
/// It ends when at most so many of a hundred are silent…
const CALM_PERCENT: u64 = 10;
/// …for so long: two windows.
const CALM_MS: u64 = 2 * 15_000;
/// How many services are looked at a second, whether they are well again.
const LOOKED_AT_MAX: usize = 5000;

/// What is preserved now. At most as many services as have leases here.
#[derive(Default)]
pub(super) struct Preserve {
    all: Group,
    services: BTreeMap<ServiceKey, Group>,
    /// How many of them are preserved, and not spent.
    count: usize,
    /// Behind the last service that was looked at; `None`: the next look begins at the first.
    cursor: Option<ServiceKey>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Group {
    /// Since when it is preserved.
    since: Option<Mono>,
    /// Since when it has looked well again.
    calm_since: Option<Mono>,
    /// It was preserved for as long as may be; it is not again until it has been well.
    is_spent: bool,
}

/// What becomes of a group at a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Begins,
    Ends,
    Stays,
}

impl Group {
    fn is_idle(&self) -> bool {
        self.since.is_none() && !self.is_spent
    }

    fn look(&mut self, tally: Tally, percent: u64, max_ms: u64, now: Mono) -> Turn {
        let is_many = tally.silent >= SILENT_MIN && tally.silent * 100 > tally.held * percent;
        let is_calm = tally.silent * 100 <= tally.held * CALM_PERCENT;
        self.is_spent &= is_many;
        match self.since {
            None if is_many && !self.is_spent => {
                *self = Self { since: Some(now), calm_since: None, is_spent: false };
                Turn::Begins
            }
            None => Turn::Stays,
            Some(since) => {
                self.calm_since = if is_calm { self.calm_since.or(Some(now)) } else { None };
                let is_over = self.calm_since.is_some_and(|calm| calm + CALM_MS <= now);
                let is_spent = since + max_ms <= now;
                if !is_over && !is_spent {
                    return Turn::Stays;
                }
                *self = Self { since: None, calm_since: None, is_spent: is_spent && is_many };
                Turn::Ends
            }
        }
    }
}

impl Preserve {
    fn group(&self, service: &ServiceKey) -> Group {
        self.services.get(service).copied().unwrap_or_default()
    }

    fn put(&mut self, service: &ServiceKey, group: Group) {
        let former = if group.is_idle() { self.services.remove(service) } else { self.services.insert(service.clone(), group) };
        self.count -= usize::from(former.is_some_and(|former| former.since.is_some()));
        self.count += usize::from(group.since.is_some());
    }

    /// The services that are looked at next, so many at the most; behind the last it begins anew.
    fn next(&mut self, most: usize) -> Vec<ServiceKey> {
        let from = self.cursor.take().map_or(Bound::Unbounded, Bound::Excluded);
        let next: Vec<ServiceKey> = self.services.range((from, Bound::Unbounded)).take(most).map(|(service, _)| service.clone()).collect();
        self.cursor = next.last().filter(|_| next.len() == most).cloned();
        next
    }
}

impl Registry {
    /// Some group of leases here is preserved.
    #[must_use]
    pub fn is_preserving(&self) -> bool {
        self.preserved_groups() > 0
    }

    /// How many groups of leases are preserved here: services, and one for all leases of this node.
    #[must_use]
    pub fn preserved_groups(&self) -> usize {
        usize::from(self.preserve.all.since.is_some()) + self.preserve.count
    }

    /// This instance is not taken away for being silent; an operator may have said that it is to be all the same.
    pub(super) fn is_preserved(&self, record: &Record) -> bool {
        let is_on = |group: &Group| group.since.is_some();
        let in_group = is_on(&self.preserve.all) || self.preserve.services.get(&record.key.service).is_some_and(is_on);
        in_group && self.overridden(record).preserve != Some(false)
    }

    /// A lease of this service has just become late.
    pub(super) fn consider_preserving(&mut self, service: &ServiceKey, now: Now, out: &mut Outbox) {
        self.look_at_all(now, out);
        self.look_at(service, now, out);
    }

    /// Looks whether what is preserved is well again, or has been preserved for too long.
    pub(super) fn advance_preserve(&mut self, now: Now, out: &mut Outbox) {
        self.look_at_all(now, out);
        for service in self.preserve.next(LOOKED_AT_MAX) {
            self.look_at(&service, now, out);
        }
    }

    fn look_at_all(&mut self, now: Now, out: &mut Outbox) {
        let (percent, max_ms) = (self.settings.preserve_percent, self.settings.preserve_max_ms);
        let turn = self.preserve.all.look(self.leases.all(), percent, max_ms, now.mono);
        self.take_turn(turn, None, now, out);
    }

    fn look_at(&mut self, service: &ServiceKey, now: Now, out: &mut Outbox) {
        let (percent, max_ms) = (self.settings.preserve_percent, self.settings.preserve_max_ms);
        let tally = self.leases.of_service(service);
        let mut group = self.preserve.group(service);
        let turn = group.look(tally, percent, max_ms, now.mono);
        self.preserve.put(service, group);
        self.take_turn(turn, Some(service), now, out);
    }

    fn take_turn(&mut self, turn: Turn, service: Option<&ServiceKey>, now: Now, out: &mut Outbox) {
        if turn == Turn::Stays {
            return;
        }
        let begins = turn == Turn::Begins;
        self.leases.hasten(service, now.mono);
        self.next_beacon = now.mono;
        out.push(Output::Noticed(Notice::Preserving { service: service.cloned(), begins }));
    }

    /// The last visible instance of its service goes by silence only when nothing is unclear: its provider may be heard by a node that is
    /// not heard here. One whose bus is away cannot even tell whether there are others.
    pub(super) fn is_last_while_unclear(&self, record: &Record, now: Mono) -> bool {
        let visible = self.store.catalog().view(&record.key.service).map_or(0, |view| view.instances().len());
        let doubts_itself =
            || !self.complete || self.is_preserving() || self.health.multiplier() > 1 || self.link.unheard_since().is_some();
        visible <= 1 && (doubts_itself() || self.peers.has_doubtful(now) || self.is_owed_anything(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Namespace, ServiceName};

    const HOUR: Mono = 3_600_000;

    fn tally(held: u64, silent: u64) -> Tally {
        Tally { held, silent }
    }

    #[test]
    fn it_takes_three_and_more_than_the_share() {
        let begins = |held, silent| Group::default().look(tally(held, silent), 15, HOUR, 0) == Turn::Begins;
        assert!(!begins(2, 2) && !begins(20, 3) && begins(19, 3) && begins(3, 3));
    }

    #[test]
    fn it_ends_when_all_has_been_well_for_two_windows() {
        let mut group = Group::default();
        group.look(tally(10, 5), 15, HOUR, 0);
        assert_eq!(group.look(tally(10, 1), 15, HOUR, 1000), Turn::Stays);
        assert_eq!(group.look(tally(10, 2), 15, HOUR, 30_999), Turn::Stays);
        assert_eq!(group.look(tally(10, 1), 15, HOUR, 31_000), Turn::Stays);
        assert_eq!(group.look(tally(10, 1), 15, HOUR, 61_000), Turn::Ends);
        assert!(group.is_idle());
    }

    #[test]
    fn it_ends_at_its_longest_and_does_not_begin_again_until_all_was_well() {
        let mut group = Group::default();
        group.look(tally(10, 9), 15, HOUR, 0);
        assert_eq!(group.look(tally(10, 9), 15, HOUR, HOUR), Turn::Ends);
        assert_eq!(group.look(tally(10, 8), 15, HOUR, HOUR + 1), Turn::Stays);
        assert_eq!(group.look(tally(10, 0), 15, HOUR, HOUR + 2), Turn::Stays);
        assert_eq!(group.look(tally(10, 3), 15, HOUR, HOUR + 3), Turn::Begins);
    }

    #[test]
    fn each_service_has_its_turn_however_many_there_are() {
        let services: Vec<ServiceKey> = ["a", "b", "c", "d", "e"]
            .map(|name| ServiceKey { namespace: Namespace::default(), service: ServiceName::parse(name).unwrap() })
            .into();
        let mut preserve = Preserve::default();
        let preserved = Group { since: Some(0), ..Group::default() };
        for service in &services {
            preserve.put(service, preserved);
        }
        assert_eq!((preserve.next(2), preserve.next(2)), (services[..2].to_vec(), services[2..4].to_vec()));
        // What goes meanwhile does not hold it up.
        preserve.put(&services[3], Group::default());
        assert_eq!((preserve.next(2), preserve.next(2)), (services[4..].to_vec(), services[..2].to_vec()));
        preserve.put(&services[0], Group { is_spent: true, ..Group::default() });
        assert_eq!((preserve.count, preserve.services.len()), (3, 4));
    }
}
