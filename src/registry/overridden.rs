//! Overridden: what operators' overrides make of records, how they are set and told, and whose instances are looked at again then.
//!
//! An override is no change of a record: it lies over it. What is listed is what the provider reported, what the registry saw and what
//! is overridden, in that order; every node that holds equal records and overrides lists the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::answer::{Answer, Inspected, Refusal};
use super::io::{LeaseTerms, Output, SetOverride};
use super::lease::Phase;
use super::message::{Beacon, Message, NodeState, To};
use super::notice::Notice;
use super::over_limit::OVERRIDES;
use super::record::Record;
use super::serve::ANSWER_BYTES_MAX;
use super::shared::{Entry, Told, Touched, Willed};
use super::store::{Records, slot_of};
use super::time::{Mono, Now};
use super::view::Catalog;
use super::{LeaseTold, Outbox, Registry, Ticket};
use crate::model::{
    Breadth, Cause, Imposed, InstanceId, InstanceKey, Life, Listed, NodeName, Override, OverrideKey, OverrideName, RECORD_BYTES_HARD_MAX,
    Registration, ServiceKey, Status,
};

/// A peer that differs is told our entries at most this often: as often as its beacons come, and not oftener when it speaks for other reasons.
const TELL_AGAIN_MS: u64 = 900;
/// It may have been lost: so often all is told without effect before the next is put off, by twice as long each time, up to 32 times.
const TOLD_IN_VAIN: u32 = 3;
const PUT_OFF_DOUBLINGS_MAX: u32 = 3;
/// In how many messages at the most; the rest is told the next time.
const TELL_PARTS_MAX: usize = 8;
/// Who was not told anything for this long begins anew.
const TOLD_MS: u64 = 60_000;
/// About how many instances one call looks at again; the rest is due at once again, so that an override over everything does not
/// hold up everything else.
const STALE_MAX: usize = 20_000;

/// What overrides make of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Effect {
    /// And by which.
    pub(super) status: Option<(Imposed, OverrideName)>,
    pub(super) weight: Option<u16>,
    /// Put over its own, key by key.
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) evict_after_ms: Option<u64>,
    /// True: silence never takes it from the list. False: self-preservation never keeps it there.
    pub(super) preserve: Option<bool>,
}

impl Effect {
    /// What these make together, each over those before it.
    fn of(overrides: &[(&OverrideName, &Override)]) -> Self {
        let mut effect = Self::default();
        for (name, value) in overrides {
            let parts = value.parts();
            effect.status = parts.status.map(|status| (status, (*name).clone())).or(effect.status);
            effect.weight = parts.weight.or(effect.weight);
            effect.metadata.extend(parts.metadata.iter().map(|(key, value)| (key.clone(), value.clone())));
            effect.evict_after_ms = parts.evict_after_ms.map(u64::from).or(effect.evict_after_ms);
            effect.preserve = parts.preserve.or(effect.preserve);
        }
        effect
    }

    /// What consumers see.
    fn over(&self, mut listed: Listed) -> Listed {
        if let Some((imposed, _)) = &self.status {
            let status = Status::from(*imposed);
            // That it is listed only by self-preservation is told by its cause.
            if status != listed.status && listed.cause != Cause::Preserved {
                listed.cause = Cause::Overridden;
            }
            listed.status = status;
            if *imposed == Imposed::Draining {
                listed.weight = 0;
            }
        }
        listed.weight = self.weight.unwrap_or(listed.weight);
        if let Some(registration) = self.over_metadata(&listed.registration) {
            listed.registration = Arc::new(registration);
        }
        listed
    }

    /// `None`: it is left as it was, because nothing is overridden or because both together break a bound.
    fn over_metadata(&self, registration: &Registration) -> Option<Registration> {
        if self.metadata.is_empty() {
            return None;
        }
        let mut draft = registration.to_draft();
        draft.metadata.extend(self.metadata.iter().map(|(key, value)| (key.clone(), value.clone())));
        Registration::new(draft).ok().filter(|merged| merged.size_bytes() <= RECORD_BYTES_HARD_MAX)
    }
}

/// All overrides and what they are about, as they are at one moment.
pub struct Overrides {
    entries: Vec<Entry>,
    records: Records,
    catalog: Catalog,
}

impl Overrides {
    /// Those that hold, in the order of their names, with how much longer.
    pub fn iter(&self) -> impl Iterator<Item = (&OverrideKey, &Arc<Override>, Option<u64>)> {
        self.entries.iter().filter_map(|entry| match &entry.willed {
            Willed::Set { value, expires_in_ms } => Some((&entry.key, value, *expires_in_ms)),
            Willed::Deleted { .. } => None,
        })
    }

    /// How many visible instances one is about.
    #[must_use]
    pub fn matches(&self, key: &OverrideKey, value: &Override) -> usize {
        let parts = value.parts();
        let is_about = |key: &InstanceKey| {
            let listed = self.records.get(&slot_of(key)).and_then(|record| record.to_listed());
            listed.is_some_and(|listed| value.is_about(key, &listed))
        };
        if let (Some(service), Some(id)) = (&parts.service, &parts.id) {
            let service = ServiceKey { namespace: key.namespace.clone(), service: service.clone() };
            return usize::from(is_about(&InstanceKey { service, id: id.clone() }));
        }
        let count = |(service, view): (&ServiceKey, &Arc<super::View>)| match value.breadth() {
            Breadth::Namespace | Breadth::Service => view.instances().len(),
            Breadth::Selection | Breadth::Instance => {
                view.instances().keys().filter(|id| is_about(&InstanceKey { service: service.clone(), id: (*id).clone() })).count()
            }
        };
        let services = self.catalog.services();
        match &parts.service {
            Some(service) => {
                let service = ServiceKey { namespace: key.namespace.clone(), service: service.clone() };
                services.get_key_value(&service).map_or(0, count)
            }
            None => services.iter().filter(|(service, _)| service.namespace == key.namespace).map(count).sum(),
        }
    }
}

impl Registry {
    /// What consumers see of a record; `None` when it is withdrawn.
    pub(super) fn listed(&self, record: &Record) -> Option<Listed> {
        let listed = record.to_listed()?;
        let about = self.shared.about(&record.key, &listed);
        Some(if about.is_empty() { listed } else { Effect::of(&about).over(listed) })
    }

    /// What overrides make of a record.
    pub(super) fn overridden(&self, record: &Record) -> Effect {
        record.to_listed().map_or_else(Effect::default, |listed| Effect::of(&self.shared.about(&record.key, &listed)))
    }

    /// All that is known of a live record.
    pub(super) fn to_inspected(&self, record: Arc<Record>, lease: Option<LeaseTold>) -> Option<Inspected> {
        let listed = self.listed(&record)?;
        let looked = self.looked(&record);
        Some(Inspected { overridden: self.overridden(&record).status, listed, record, lease, looked })
    }

    /// What a heartbeat must look like to be taken without asking, and what it is answered.
    pub(super) fn terms(&self, record: &Record, registration: &Registration, digest: u128, steady: bool) -> LeaseTerms {
        LeaseTerms {
            incarnation: record.version.incarnation,
            digest,
            reported: registration.reported(),
            status: self.listed(record).map_or_else(|| registration.reported().into(), |listed| listed.status),
            renew_every_ms: registration.renew_every_ms(),
            draining: record.is_draining(),
            steady,
        }
    }

    /// The overrides and what they are about.
    #[must_use]
    pub fn overrides(&self, now: Now) -> Overrides {
        Overrides {
            entries: self.shared.to_entries(now.mono),
            records: self.store.records().clone(),
            catalog: self.store.catalog().clone(),
        }
    }

    /// The digest of the overrides; 0 where there are none.
    #[must_use]
    pub fn overrides_digest(&self) -> u128 {
        self.shared.digest()
    }

    /// Every entry of the shared map, deletions too, with the time that is left of each: to be kept on disk.
    #[must_use]
    pub fn shared_entries(&self, now: Now) -> Vec<Entry> {
        self.shared.to_entries(now.mono)
    }

    /// Takes entries that were kept on disk; of what has become known meanwhile the greater stays.
    pub fn restore_shared(&mut self, entries: Vec<Entry>, now: Now, out: &mut Outbox) {
        let life = self.life.clone();
        self.take_entries(&life, entries, now, out);
    }

    pub(super) fn handle_set_override(&mut self, ticket: Ticket, set: SetOverride, now: Now, out: &mut Outbox) {
        let SetOverride { key, value, expires_in_ms } = set;
        let max = self.settings.limits.overrides;
        let created = self.shared.get(&key).is_none();
        let answer = match self.refuses_overrides() {
            Some(refusal) => Answer::Refused(refusal),
            None if created && self.shared.len() as u64 >= max => Answer::Refused(Refusal::LimitReached { key: "limits.overrides", max }),
            None => {
                self.write_override(&key, Some(value), expires_in_ms, now, out);
                Answer::OverrideSet { created }
            }
        };
        out.push(Output::Answer(ticket, answer));
    }

    pub(super) fn handle_delete_override(&mut self, ticket: Ticket, key: &OverrideKey, now: Now, out: &mut Outbox) {
        let answer = match self.refuses_overrides() {
            Some(refusal) => Answer::Refused(refusal),
            None if self.shared.get(key).is_none() => Answer::Refused(Refusal::UnknownOverride),
            None => {
                self.write_override(key, None, None, now, out);
                Answer::OverrideDeleted
            }
        };
        out.push(Output::Answer(ticket, answer));
    }

    /// A node that does not know the others' entries cannot write above them.
    fn refuses_overrides(&self) -> Option<Refusal> {
        match self.state {
            NodeState::Warming => Some(Refusal::Warming),
            NodeState::Leaving if self.has_stepped_down => Some(Refusal::NameTaken),
            NodeState::Leaving => Some(Refusal::Leaving),
            NodeState::Ready => None,
        }
    }

    fn write_override(&mut self, key: &OverrideKey, value: Option<Arc<Override>>, lasts_ms: Option<u64>, now: Now, out: &mut Outbox) {
        let touched = self.shared.write(key.clone(), value, lasts_ms, &self.life, now.mono);
        let said = self.shared.to_entry(key, now.mono).into_iter().collect::<Vec<_>>();
        let peers = self.peers.alive(now.mono).map(|(peer, _)| To::Node(peer.clone()));
        out.extend(peers.map(|peer| Output::Send(peer, Message::Overrides(said.clone()))));
        self.note_touched(touched, out);
        self.look_again(now, out);
    }

    /// A peer says entries: those that are greater than ours are taken.
    pub(super) fn hear_overrides(&mut self, from: &Life, entries: Vec<Entry>, now: Now, out: &mut Outbox) {
        self.take_entries(from, entries, now, out);
    }

    fn take_entries(&mut self, from: &Life, entries: Vec<Entry>, now: Now, out: &mut Outbox) {
        for entry in entries {
            if let Some(limit) = self.limit_broken_by_override(&entry) {
                self.over_limit.refuse(limit, from, now.mono);
                continue;
            }
            let key = entry.key.clone();
            match self.shared.merge(entry, now.mono) {
                Ok(touched) => self.note_touched(touched, out),
                Err(why) => out.push(Output::Noticed(Notice::OverrideQuarantined { from: from.clone(), key, why })),
            }
        }
        self.look_again(now, out);
    }

    /// Tells a peer our entries when its beacon says that it has others; it does the same.
    pub(super) fn compare_overrides(&mut self, from: &Life, beacon: &Beacon, at: Now, out: &mut Outbox) {
        let (peer, now) = (&from.node, at.mono);
        if beacon.overrides_digest == self.shared.digest() {
            self.shared.told.remove(peer);
            return;
        }
        let digests = (self.shared.digest(), beacon.overrides_digest);
        let told = self.shared.told.get(peer);
        let in_vain = told.filter(|told| told.digests == digests).map_or(0, |told| told.in_vain);
        let rest_ms = TELL_AGAIN_MS << in_vain.saturating_sub(TOLD_IN_VAIN).min(PUT_OFF_DOUBLINGS_MAX);
        if told.is_some_and(|told| now < told.at + rest_ms) {
            return;
        }
        let after = told.and_then(|told| told.up_to.clone());
        let (parts, up_to) = self.shared.parts(after.as_ref(), ANSWER_BYTES_MAX, TELL_PARTS_MAX, now);
        // Whoever says another digest each time is told no more than others.
        if !self.admits_reply(from, parts.iter().flatten().map(Entry::size_bytes).sum(), at) {
            return;
        }
        out.extend(parts.into_iter().map(|part| Output::Send(To::Node(peer.clone()), Message::Overrides(part))));
        // One that does not hear this node was told nothing.
        let was_told_all = up_to.is_none() && self.is_heard_by(beacon);
        self.shared.told.insert(peer.clone(), Told { at: now, up_to, digests, in_vain: in_vain + u32::from(was_told_all) });
    }

    /// This peer has no overrides that this node lacks and may take, as far as both have said.
    pub(super) fn has_overrides_of(&self, peer: &NodeName, now: Mono) -> bool {
        let said = self.peers.get(peer).and_then(|peer| peer.beacon.as_ref()).map_or(0, |beacon| beacon.overrides_digest);
        said == 0 || said == self.shared.digest() || self.over_limit.is_refusing(OVERRIDES, now)
    }

    /// Ends what is over, and looks at instances again whose overrides changed.
    pub(super) fn advance_overrides(&mut self, now: Now, out: &mut Outbox) {
        while let Some(touched) = self.shared.end_one(now.mono) {
            self.note_touched(Some(touched), out);
        }
        self.look_again(now, out);
    }

    /// When something of that becomes due.
    pub(super) fn next_override(&self) -> Option<Mono> {
        if self.shared.stale.is_empty() { self.shared.next_due() } else { Some(0) }
    }

    /// Lets go of what was told to whom, where it cannot matter any more.
    pub(super) fn forget_told(&mut self, now: Mono) {
        self.shared.told.retain(|_, told| told.at + TOLD_MS > now);
    }

    fn note_touched(&mut self, touched: Option<Touched>, out: &mut Outbox) {
        let Some(Touched { key, before, after }) = touched else { return };
        for value in before.iter().chain(&after) {
            self.mark_stale(&key, value);
        }
        let reason = after.as_ref().map(|value| Arc::from(value.parts().reason.as_str()));
        self.restore.show_override(&key, after.clone());
        self.store.show_override(&key, after);
        out.push(Output::Noticed(Notice::OverrideChanged { key, reason }));
    }

    /// A picture is shown from now on: with what holds already.
    pub(super) fn override_picture(&mut self, now: Mono) {
        for entry in self.shared.to_entries(now) {
            if let Willed::Set { value, .. } = entry.willed {
                self.restore.show_override(&entry.key, Some(value));
            }
        }
    }

    fn mark_stale(&mut self, key: &OverrideKey, value: &Override) {
        let parts = value.parts();
        if let Some(service) = &parts.service {
            self.shared.stale.insert((ServiceKey { namespace: key.namespace.clone(), service: service.clone() }, parts.id.clone()));
            return;
        }
        let services = [self.store.catalog(), self.shown_catalog()].into_iter().flat_map(|catalog| catalog.services().keys());
        let services: Vec<ServiceKey> = services.filter(|service| service.namespace == key.namespace).cloned().collect();
        self.shared.stale.extend(services.into_iter().map(|service| (service, None)));
    }

    /// Shows the instances whose overrides changed as they now are.
    fn look_again(&mut self, now: Now, out: &mut Outbox) {
        let mut looked_at = 0;
        while looked_at < STALE_MAX
            && let Some((service, id)) = self.shared.stale.pop_first()
        {
            let ids = id.map_or_else(|| self.ids_of(&service), |id| BTreeSet::from([id]));
            looked_at += ids.len();
            let mut is_told = false;
            for id in ids {
                is_told |= self.look_at_again(&InstanceKey { service: service.clone(), id }, now, out);
            }
            if is_told {
                out.push(Output::ViewChanged(service));
            }
        }
    }

    /// All instances of a service: those that are held, and those that are shown.
    fn ids_of(&self, service: &ServiceKey) -> BTreeSet<InstanceId> {
        let views = [self.store.catalog(), self.shown_catalog()].into_iter().filter_map(|catalog| catalog.view(service));
        views.flat_map(|view| view.instances().keys().cloned()).collect()
    }

    /// Says whether a consumer could tell: while a picture is shown, by that.
    fn look_at_again(&mut self, key: &InstanceKey, now: Now, out: &mut Outbox) -> bool {
        let is_told = self.look_at_held(key, now, out);
        let Some(record) = self.restore.pictured(key).cloned() else { return is_told };
        let listed = self.listed(&record);
        self.restore.show(&record, listed)
    }

    /// What the provider is told changes with it, and when it is evicted, or that it may be.
    fn look_at_held(&mut self, key: &InstanceKey, now: Now, out: &mut Outbox) -> bool {
        let Some(record) = self.store.get(key).cloned() else { return false };
        let Some(registration) = record.registration() else { return false };
        if let Some(lease) = self.leases.get(key) {
            match lease.phase() {
                Phase::Held => {
                    let terms = self.terms(&record, registration, lease.digest, true);
                    out.push(Output::HoldLease { key: key.clone(), terms, at: lease.renewed_at });
                }
                Phase::Late(_) | Phase::Answering(_) | Phase::Over(_) => self.leases.reschedule(key, now.mono),
            }
        }
        let listed = self.listed(&record);
        self.store.show(&record, listed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, Namespace, OverrideDraft};
    use crate::registry::{Envelope, Input, MemberAt, Settings};

    #[test]
    fn a_peer_that_stays_different_is_told_more_and_more_rarely() {
        let name = |name| NodeName::parse(name).unwrap();
        let mut now = 1_000_000;
        let mut registry = Registry::new(Settings::new(name("n1"), Epoch(1)), 1, Now { mono: now, wall: 0 });
        registry.state = NodeState::Ready;
        let mut hear = |registry: &mut Registry, digest: u128, times: u32| {
            let mut out = Outbox::new();
            for _ in 0..times {
                now += 1000;
                let members = vec![MemberAt { node: name("n1"), age_ms: 500, has_left: false, evidence: None }];
                let beacon = Beacon { overrides_digest: digest, members, ..Beacon::of(NodeState::Ready) };
                let from = Life { node: name("n2"), epoch: Epoch(2) };
                registry.handle(Input::Received(Envelope { from, message: Message::Beacon(beacon) }), Now { mono: now, wall: 0 }, &mut out);
            }
            out.iter().filter(|output| matches!(output, Output::Send(To::Node(_), Message::Overrides(_)))).count()
        };
        let key = OverrideKey { namespace: Namespace::default(), name: OverrideName::parse("o").unwrap() };
        let draft = OverrideDraft { status: Some(Imposed::Down), reason: "r".to_owned(), ..OverrideDraft::default() };
        let value = Arc::new(Override::new(draft).unwrap());
        registry.shared.write(key, Some(value), None, &registry.life.clone(), 1_000_000);
        assert_eq!(hear(&mut registry, 5, 3), 3);
        let often = hear(&mut registry, 5, 200);
        assert!((20..=40).contains(&often), "told {often} times");
        assert_eq!(hear(&mut registry, 6, 1), 1, "it has become another: something helps");
    }
}
