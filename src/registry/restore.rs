//! Restoring: what a node read from its disk is an old replica, no more. It is shown while nothing better is known, then dropped or merged.
//!
//! Until a warming node knows enough its readers are shown the picture: the records that were restored, and what came since. A whole copy
//! from a peer that knows all makes an end of it. If there is none to be had, the picture becomes what this node holds: of two records for
//! an instance the greater version stands in it, as if the restored ones had been heard. Their owners are lives that are over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::ordmap::DiffItem;

use super::io::{Output, Purpose};
use super::lease::Ended;
use super::message::NodeState;
use super::plausible::implausible;
use super::record::Record;
use super::shared::Entry;
use super::stamp::STAMP_MAX;
use super::store::{Records, Store};
use super::time::{Mono, Now};
use super::unrenewed::Unrenewed;
use super::view::Catalog;
use super::{Outbox, Registry};
use crate::model::{InstanceKey, Life, Listed, Override, OverrideKey, Seq, ServiceKey};

/// A node that became ready with records of lives that are over is not sure that it knows all for at least this long,
const UNSURE_MS_MIN: u64 = 30_000;
/// for as long as a provider may be silent, so that each has had its say, and at most this long.
const UNSURE_MS_MAX: u64 = 300_000;

/// What was restored, and what became of it.
pub(super) struct Restore {
    /// Shown while this node warms: the restored records, and whatever is greater that came since.
    picture: Option<Store>,
    /// When the records that are shown were saved, while they were neither dropped nor confirmed.
    saved_at: Option<Mono>,
    /// The owners of restored records that were merged.
    lives: BTreeSet<Life>,
    /// Until then a ready node that holds records of lives that are over is not sure of itself; `None`: nobody has looked for any.
    unsure_until: Option<Mono>,
    /// What this node holds is its own, or was heard: worth being written to disk. Before that the file that was read holds more.
    is_settled: bool,
}

/// All records of a node and all overrides at one moment. Making it, and the node's going on, cost next to nothing.
#[derive(Clone)]
pub struct Picture {
    records: Records,
    overrides: Vec<Entry>,
    knows_enough: bool,
    pub(super) unrenewed: Unrenewed,
    /// When that was.
    pub(super) at: Mono,
}

impl Picture {
    /// How many records there are, withdrawn ones too.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// They, in the order of (bucket, key).
    pub fn records(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.records.values()
    }

    /// What is not among them was not there: the node knew enough to say so.
    #[must_use]
    pub fn knows_enough(&self) -> bool {
        self.knows_enough
    }

    /// The overrides, deletions too, with the time that is left of each.
    #[must_use]
    pub fn overrides(&self) -> &[Entry] {
        &self.overrides
    }
}

impl Restore {
    pub(super) fn new(is_settled: bool) -> Self {
        Self { picture: None, saved_at: None, lives: BTreeSet::new(), unsure_until: None, is_settled }
    }

    /// Puts a record into the picture, where there is one, if it is greater; says whether a consumer could tell.
    pub(super) fn put(&mut self, record: &Arc<Record>, listed: Option<Listed>, now: Mono) -> Option<bool> {
        let picture = self.picture.as_mut()?;
        let is_greater = picture.get(&record.key).is_none_or(|known| known.version < record.version);
        Some(is_greater && picture.put(record, listed, now).told)
    }

    /// The record that stands in the picture, where there is one.
    pub(super) fn pictured(&self, key: &InstanceKey) -> Option<&Arc<Record>> {
        self.picture.as_ref()?.get(key)
    }

    /// Readers are shown something greater of its instance than this record.
    pub(super) fn shows_greater_than(&self, record: &Record) -> bool {
        self.pictured(&record.key).is_some_and(|pictured| pictured.version > record.version)
    }

    /// Shows a record of the picture otherwise than it was shown; says whether a consumer could tell.
    pub(super) fn show(&mut self, record: &Record, listed: Option<Listed>) -> bool {
        self.picture.as_mut().is_some_and(|picture| picture.show(record, listed))
    }

    /// Shows in the picture that an override holds, or `None`: no longer.
    pub(super) fn show_override(&mut self, key: &OverrideKey, value: Option<Arc<Override>>) {
        if let Some(picture) = &mut self.picture {
            picture.show_override(key, value);
        }
    }

    /// Whether this node has to wait before it is sure is to be looked at anew: another life of it begins.
    pub(super) fn look_anew(&mut self) {
        self.unsure_until = None;
    }

    /// What was restored is confirmed.
    pub(super) fn confirm(&mut self) {
        self.saved_at = None;
    }
}

impl Registry {
    /// Takes what was read from disk; to be done before anything else is handled.
    ///
    /// Overrides are no replica of anything: they hold whatever becomes of the records.
    pub(super) fn handle_restore(&mut self, records: &[Arc<Record>], overrides: Vec<Entry>, saved_at: Mono, now: Now, out: &mut Outbox) {
        let age_ms = now.mono.saturating_sub(saved_at);
        self.restore_shared(overrides.into_iter().map(|entry| entry.older_by(age_ms)).collect(), now, out);
        if records.is_empty() {
            return;
        }
        // Words of this life come after those that its file has.
        let editions = records.iter().map(|record| record.version.edition);
        self.stamps.follow(editions.filter(|edition| *edition <= STAMP_MAX).max().unwrap_or(0), now);
        self.restore.picture = Some(Store::new());
        self.restore.saved_at = Some(saved_at);
        let held: Vec<Arc<Record>> = self.store.records().values().cloned().collect();
        // What no honest node comes to is not passed on: an older version may have taken and kept it.
        let sound = records.iter().filter(|record| implausible(&record.version, None).is_none());
        for record in sound.chain(&held) {
            let listed = self.listed(record);
            self.restore.put(record, listed, now.mono);
        }
        self.override_picture(now.mono);
        Self::tell_difference(&Catalog::default(), self.catalog(), out);
        // A node without a bus has nobody to wait for.
        if self.state != NodeState::Warming {
            self.merge_restored(now, out);
            self.complete = false;
            self.note_complete(now, out);
        }
    }

    /// A picture from disk is shown, or was merged: this node can answer though it does not know enough.
    #[must_use]
    pub fn has_restored(&self) -> bool {
        self.restore.saved_at.is_some()
    }

    /// When what is shown was last known to be so, where that is not now: the picture from disk was saved then, or the bus was last heard,
    /// or this node did not run until then.
    #[must_use]
    pub fn stale_since(&self) -> Option<Mono> {
        [self.restore.saved_at, self.link.unheard_since(), self.health.returning_since()].into_iter().flatten().min()
    }

    /// The lives that owned records which were restored and merged: they are over, and nobody has to wait to see it.
    #[must_use]
    pub fn restored_lives(&self) -> &BTreeSet<Life> {
        &self.restore.lives
    }

    /// All records and overrides, to be written to disk; `None` while what is there holds more.
    #[must_use]
    pub fn picture(&self, now: Now) -> Option<Picture> {
        let knows_enough = self.knowledge(now).is_enough() && self.takes_all(now);
        let picture = || Picture {
            records: self.store.records().clone(),
            overrides: self.shared_entries(now),
            knows_enough,
            unrenewed: self.unrenewed.clone(),
            at: now.mono,
        };
        self.restore.is_settled.then(picture)
    }

    /// What readers are shown of an instance.
    pub(super) fn shown(&self, key: &InstanceKey) -> Option<&Arc<Record>> {
        self.restore.picture.as_ref().unwrap_or(&self.store).get(key)
    }

    pub(super) fn shown_catalog(&self) -> &Catalog {
        self.restore.picture.as_ref().unwrap_or(&self.store).catalog()
    }

    /// How many live records readers are shown.
    pub(super) fn shown_count(&self) -> u64 {
        self.restore.picture.as_ref().unwrap_or(&self.store).live_count()
    }

    /// The picture becomes what this node holds; says whether there was one. What readers are shown does not change.
    pub(super) fn merge_restored(&mut self, now: Now, out: &mut Outbox) -> bool {
        let Some(picture) = self.restore.picture.take() else { return false };
        let held = std::mem::replace(&mut self.store, picture);
        for record in held.records().values() {
            let Some(greater) = self.store.get(&record.key).filter(|known| known.version > record.version).cloned() else { continue };
            self.follow_attached(&greater, now, out);
            if let Some(mut lease) = self.end_lease(&record.key) {
                lease.renewed_at = lease.last_sign(None, now.mono);
                self.ended.insert(record.key.clone(), Ended { lease, record: Arc::clone(record) });
                out.push(Output::AskLease { key: record.key.clone(), purpose: Purpose::Ended });
            }
        }
        let owners = self.store.records().values().map(|record| &record.version.owner);
        let mut last: Option<&Life> = None;
        let mut lives = BTreeSet::new();
        for owner in owners.filter(|owner| **owner != self.life && !self.peers.is_life_alive(owner, now.mono)) {
            if last != Some(owner) && !lives.contains(owner) {
                lives.insert(owner.clone());
            }
            last = Some(owner);
        }
        self.unrenewed.begin(self.store.records(), |owner| lives.contains(owner), now.mono);
        self.restore.lives = lives;
        self.next_beacon = now.mono;
        true
    }

    /// What was restored is of no use any more: a peer that knows all has given all it has.
    fn drop_restored(&mut self, out: &mut Outbox) {
        if let Some(picture) = self.restore.picture.take() {
            self.restore.saved_at = None;
            self.unrenewed.forget_saved();
            Self::tell_difference(picture.catalog(), self.store.catalog(), out);
        }
    }

    /// Warming ends: `knows_all` says that what this node now holds came from a peer that knew all.
    pub(super) fn settle_restored(&mut self, knows_all: bool, now: Now, out: &mut Outbox) {
        if knows_all || self.hears_complete_peer(now.mono) {
            let unheard = self.unheard_words(now.mono);
            self.drop_restored(out);
            self.merge_unheard(&unheard, now, out);
        } else {
            self.merge_restored(now, out);
        }
        self.restore.is_settled = true;
    }

    /// What the last lives of this very node wrote and no ready peer has applied, of lives that ready peers still name: nobody else has it. Not
    /// where such a life was away for so long that peers counted it no more: then what ended it may be forgotten there.
    fn unheard_words(&self, now: Mono) -> Vec<Arc<Record>> {
        let Some(picture) = &self.restore.picture else { return Vec::new() };
        let dead_after_ms = self.settings.dead_after_ms;
        let is_file_old = self.restore.saved_at.is_none_or(|at| at + dead_after_ms < now);
        let mut known: BTreeMap<&Life, (Seq, u64)> = BTreeMap::new();
        let ready = self.peers.alive(now).filter(|(_, peer)| peer.is_ready()).filter_map(|(_, peer)| peer.beacon.as_ref());
        for at in ready.flat_map(|beacon| &beacon.applied).filter(|at| at.life.node == self.life.node && at.life != self.life) {
            let (most, away_ms) = known.entry(&at.life).or_insert((0, u64::MAX));
            *most = at.seq.max(*most);
            *away_ms = at.age_ms.map_or(*away_ms, |age_ms| u64::from(age_ms).min(*away_ms));
        }
        known.retain(|_, (_, away_ms)| !is_file_old || *away_ms <= dead_after_ms);
        let is_unheard = |record: &&Arc<Record>| known.get(&record.version.owner).is_some_and(|(applied, _)| record.version.seq > *applied);
        picture.records().values().filter(is_unheard).cloned().collect()
    }

    fn merge_unheard(&mut self, records: &[Arc<Record>], now: Now, out: &mut Outbox) {
        for record in records {
            let owner = record.version.owner.clone();
            if self.merge(record, &owner, now, out) {
                self.restore.lives.insert(owner);
            }
        }
    }

    /// Merging an old file beside a peer that knows all would bring back what is gone.
    fn hears_complete_peer(&self, now: Mono) -> bool {
        let knows_all = |beacon: &super::Beacon| beacon.state == NodeState::Ready && beacon.complete;
        self.peers.alive(now).filter_map(|(_, peer)| peer.beacon.as_ref()).any(knows_all)
    }

    /// Whether this node has to wait before it is sure. A record of a life that is over came from a disk, here or elsewhere: then
    /// somebody may have known more, and each provider is to have had its say.
    pub(super) fn is_unsure(&mut self, now: Mono) -> bool {
        let until = self.restore.unsure_until.unwrap_or_else(|| now + self.unsure_ms(now));
        self.restore.unsure_until = Some(until);
        now < until
    }

    fn unsure_ms(&self, now: Mono) -> u64 {
        let is_over = |record: &&Arc<Record>| {
            let owner = &record.version.owner;
            *owner != self.life && !self.peers.is_life_alive(owner, now)
        };
        let ttls = self.store.records().values().filter(is_over).filter_map(|record| Some(record.registration()?.ttl()?.ms()));
        ttls.max().map_or(0, |longest| longest.clamp(UNSURE_MS_MIN, UNSURE_MS_MAX))
    }

    /// Tells of every service that looks other than before.
    fn tell_difference(before: &Catalog, after: &Catalog, out: &mut Outbox) {
        let differs = |item: DiffItem<'_, '_, ServiceKey, Arc<super::View>>| match item {
            DiffItem::Add(service, view) | DiffItem::Remove(service, view) => (!view.instances().is_empty()).then(|| service.clone()),
            DiffItem::Update { old: (_, old), new: (service, new) } => (old != new).then(|| service.clone()),
        };
        out.extend(before.services().diff(after.services()).filter_map(differs).map(Output::ViewChanged));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Address, Cause, Epoch, Incarnation, InstanceId, Namespace, NodeName, Port, Registration, RegistrationDraft, ServiceName, Version,
    };
    use crate::registry::{AppliedAt, Beacon, Body, Envelope, Input, Message, Seen, Settings};

    #[test]
    fn a_word_that_nobody_heard_is_merged_beside_who_knows_all_unless_its_life_was_away_for_longer_than_it_counted() {
        const MINUTE: Mono = 60_000;
        let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
        let key = InstanceKey { service, id: InstanceId::parse("a").unwrap() };
        let life = |node, epoch| Life { node: NodeName::parse(node).unwrap(), epoch: Epoch(epoch) };
        let mut draft =
            RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(80).unwrap(), crate::model::Ttl::from_ms(3000).unwrap());
        draft.ttl = None;
        let record = Arc::new(Record {
            key: key.clone(),
            version: Version {
                incarnation: Incarnation::FIRST,
                edition: 5,
                deregistered: false,
                generation: 0,
                live: true,
                owner: life("n1", 4),
                seq: 16,
            },
            body: Body::Live { registration: Arc::new(Registration::new(draft).unwrap()), seen: Seen::Well, draining: false },
            cause: Cause::Registered,
            changed_at: 0,
            actor: None,
            detail: None,
            last_heartbeat_ms: None,
            first_content: None,
        });
        let now = Now { mono: 1000 * MINUTE, wall: 0 };
        for (file_ms, away_ms, is_merged) in [(1, 1, true), (60, 1, true), (1, 60, true), (60, 60, false)] {
            let settings = Settings { dead_after_ms: 10 * MINUTE, ..Settings::new(life("n1", 5).node, Epoch(5)) };
            let mut registry = Registry::new(settings, 1, now);
            let saved_at = now.mono - file_ms * MINUTE;
            registry.handle_restore(&[Arc::clone(&record)], Vec::new(), saved_at, now, &mut Outbox::new());
            let age_ms = Some(u32::try_from(away_ms * MINUTE).unwrap());
            let beacon = Beacon { applied: vec![AppliedAt { life: life("n1", 4), seq: 15, age_ms }], ..Beacon::of(NodeState::Ready) };
            let envelope = Envelope { from: life("n2", 2), message: Message::Beacon(beacon) };
            registry.handle(Input::Received(envelope), now, &mut Outbox::new());
            registry.settle_restored(true, now, &mut Outbox::new());
            assert_eq!(registry.record(&key).is_some(), is_merged, "saved {file_ms} min ago, away for {away_ms} min");
        }
    }
}
