//! Adoption: the records of a life that is over are taken over by the nodes that run, each by one of them.
//!
//! Which one: the nodes are ranked for each key by rendezvous hashing (Thaler, Ravishankar 1998). The first takes the record at once, the
//! next only when those before it have not: they may not have judged that life yet. Two that take one record write versions of which
//! one wins.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::lease::Phase;
use super::merge::{Step, Why};
use super::record::{Body, Record, Seen, key_hash};
use super::store::Slot;
use super::time::{Mono, Now};
use super::unrenewed::Lasting;
use super::verdict::Fate;
use super::{Outbox, Registry};
use crate::model::{Cause, Life, NodeName, Seq, Ttl};

/// A life must look over for this long before its records are taken: late frames of a former life make it look so for 3 s.
const SETTLE_MS: u64 = 5000;
/// The same for a life of which nothing is known: its node may have only just begun to be heard.
const UNKNOWN_SETTLE_MS: u64 = 15_000;
/// The nodes that come first in a key's ranking have this much longer each before the next takes it.
const RANK_MS: u64 = 5000;
/// How often records are taken, and how many at once: 20,000 a second.
const STEP_MS: u64 = 100;
const TAKEN_MAX: usize = 2000;
/// How many records one step looks at.
const LOOKED_AT_MAX: usize = 50_000;
/// Of two nodes that do not reach each other neither can tell which is cut off: what one takes over from the other is given so many times
/// its ttl.
const PATIENCE_OF_TWO: u64 = 10;
/// With nothing to take, the records are looked through again after this long.
const REST_MS: u64 = 1000;

/// The lives whose records wait for a new owner.
#[derive(Default)]
pub(super) struct Adoption {
    lost: BTreeMap<Life, Lost>,
    /// Behind the last record that was looked at; `None`: the next look begins at the first.
    cursor: Option<Slot>,
    next_step: Mono,
    /// Something was taken in this pass.
    has_taken: bool,
}

struct Lost {
    since: Mono,
    fate: Fate,
}

impl Registry {
    pub(super) fn next_adoption(&self) -> Option<Mono> {
        (!self.adoption.lost.is_empty()).then_some(self.adoption.next_step)
    }

    /// Notes which owners are lives that are over.
    pub(super) fn note_lost(&mut self, now: Mono) {
        let fates = self.store.owners().map(|life| (life, self.fate_of(life, now)));
        let fates: BTreeMap<Life, Fate> = fates.filter(|(_, fate)| *fate != Fate::Open).map(|(life, fate)| (life.clone(), fate)).collect();
        let lost = &mut self.adoption.lost;
        let running: Vec<Life> = lost.keys().filter(|life| !fates.contains_key(life)).cloned().collect();
        lost.retain(|life, _| fates.contains_key(life));
        for (life, fate) in fates {
            lost.entry(life).or_insert(Lost { since: now, fate }).fate = fate;
        }
        let store = &self.store;
        self.unrenewed.end_of(&running, |key| store.get(key).map(|record| record.version.owner.clone()));
    }

    /// Takes over what falls to this node, a part at a time.
    pub(super) fn advance_adoption(&mut self, now: Now, out: &mut Outbox) {
        if self.adoption.lost.is_empty() || now.mono < self.adoption.next_step {
            return;
        }
        self.adoption.next_step = now.mono + STEP_MS;
        if !self.may_adopt(now.mono) {
            return;
        }
        let said = self.most_said(now.mono);
        let is_owed = |life: &Life| said.get(life).is_some_and(|seq| *seq > self.applied.seq(life));
        let ready: BTreeMap<Life, (Mono, Fate)> = self
            .adoption
            .lost
            .iter()
            .map(|(life, lost)| (life.clone(), (lost.since + self.settle_ms(life, lost.fate, now.mono), lost.fate)))
            .filter(|(life, (from, _))| *from <= now.mono && !is_owed(life))
            .collect();
        if ready.is_empty() {
            return;
        }
        let rivals: Vec<NodeName> = self.peers.alive(now.mono).filter(|(_, peer)| peer.is_ready()).map(|(node, _)| node.clone()).collect();
        let from = self.adoption.cursor.take().map_or(Bound::Unbounded, Bound::Excluded);
        let mut mine: Vec<(Arc<Record>, Fate)> = Vec::new();
        let mut looked_at = 0;
        let mut cursor = None;
        for (slot, record) in self.store.records().range((from, Bound::Unbounded)) {
            looked_at += 1;
            if let Some((since, fate)) = ready.get(&record.version.owner)
                && now.mono >= since + RANK_MS * self.rank(record, &rivals)
            {
                mine.push((Arc::clone(record), *fate));
            }
            if mine.len() == TAKEN_MAX || looked_at == LOOKED_AT_MAX {
                cursor = Some(slot.clone());
                break;
            }
        }
        self.adoption.has_taken |= !mine.is_empty();
        if cursor.is_none() && !std::mem::take(&mut self.adoption.has_taken) {
            self.adoption.next_step = now.mono + REST_MS;
        }
        self.adoption.cursor = cursor;
        for (record, fate) in mine {
            self.adopt(&record, fate, now, out);
        }
    }

    /// How long a life must look over. Without a bus no frame of it can be late, and a node that knows of no other is the next of its own.
    fn settle_ms(&self, life: &Life, fate: Fate, now: Mono) -> u64 {
        let is_next = || life.node == self.life.node && self.peers.member_count(now) == 1;
        match fate {
            Fate::Open | Fate::Over | Fate::Unknown if !self.link.has_bus() || is_next() => 0,
            Fate::Open | Fate::Over => SETTLE_MS,
            Fate::Unknown => UNKNOWN_SETTLE_MS,
        }
    }

    /// Without a bus there is nobody else; with one, only a node that has no reason to doubt itself takes what is another's.
    fn may_adopt(&self, now: Mono) -> bool {
        if self.link.has_bus() { self.may_judge(now) } else { self.may_withdraw(now) }
    }

    /// Up to where any alive peer has each life's log.
    pub(super) fn most_said(&self, now: Mono) -> BTreeMap<&Life, Seq> {
        let mut most = BTreeMap::new();
        for at in self.peers.alive(now).filter_map(|(_, peer)| peer.beacon.as_ref()).flat_map(|beacon| &beacon.applied) {
            let seq = most.entry(&at.life).or_insert(at.seq);
            *seq = at.seq.max(*seq);
        }
        most
    }

    /// Some alive peer has more of any life's log than we have.
    pub(super) fn is_owed_anything(&self, now: Mono) -> bool {
        let mut said = self.peers.alive(now).filter_map(|(_, peer)| peer.beacon.as_ref()).flat_map(|beacon| &beacon.applied);
        said.any(|at| at.life != self.life && at.seq > self.applied.seq(&at.life))
    }

    /// How many of the others come before this node in the ranking for a record.
    fn rank(&self, record: &Record, rivals: &[NodeName]) -> u64 {
        let hash = key_hash(&record.key) as u64;
        let own = weight(hash, &self.life.node);
        rivals.iter().filter(|node| (weight(hash, node), *node) > (own, &self.life.node)).count() as u64
    }

    /// The one of these nodes that comes first for a record.
    pub(super) fn first_for(record: &Record, nodes: &[NodeName]) -> Option<NodeName> {
        let hash = key_hash(&record.key) as u64;
        nodes.iter().max_by_key(|node| (weight(hash, node), (*node).clone())).cloned()
    }

    /// Becomes the owner of a record without having heard of its provider: it is given the time to be heard.
    fn adopt(&mut self, record: &Arc<Record>, fate: Fate, now: Now, out: &mut Outbox) {
        let step = Step::generation(&record.version);
        match &record.body {
            Body::Live { registration, seen, draining } => {
                // Nobody vouches for it any more, but for a fixed address nobody ever did.
                let is_doubtful = fate == Fate::Unknown && *seen == Seen::Well && registration.ttl().is_some();
                let seen = if is_doubtful { Seen::Suspect } else { *seen };
                let body = Body::Live { registration: Arc::clone(registration), seen, draining: *draining };
                let detail = format!("its owner {} is gone; unverified until it is heard", record.version.owner.node);
                let why = Why::saying(Cause::OwnerLost, detail);
                let written = self.write(record.key.clone(), step, body, why, now, out);
                self.hold_unheard(&written, now, out);
            }
            Body::Withdrawn { .. } => {
                let Record { cause, actor, detail, last_heartbeat_ms, .. } = Record::clone(record);
                let why = Why { actor, detail, last_heartbeat_ms, ..Why::from(cause) };
                self.write(record.key.clone(), step, record.body.clone(), why, now, out);
            }
        }
    }

    /// Holds the lease of a record that no heartbeat renewed here: for its ttl and grace, whatever its phase, less what former lives waited.
    pub(super) fn hold_unheard(&mut self, record: &Arc<Record>, now: Now, out: &mut Outbox) {
        let Some(registration) = record.registration() else { return };
        let ttls = if self.peers.member_count(now.mono) == 2 { PATIENCE_OF_TWO } else { 1 };
        let ttl = registration.ttl();
        let Lasting { until, made_up } = self.unrenewed.wait_for(&record.key, ttl, ttls, now.mono);
        // Where its time was over in a former life it goes on from there.
        let phase = match &record.body {
            Body::Live { seen: Seen::Down, .. } => Phase::Over((until + ttl.map_or(0, Ttl::ms)).min(now.mono)),
            Body::Live { seen: Seen::Suspect, .. } => Phase::Late(until.min(now.mono)),
            Body::Live { seen: Seen::Well, .. } | Body::Withdrawn { .. } => Phase::Held,
        };
        self.hold_as(record, phase, made_up, until, out);
        if let Some(lease) = self.leases.get_mut(&record.key) {
            lease.made_up = Some(lease.renewed_at);
        }
    }
}

/// How much this node weighs for a key.
fn weight(key_hash: u64, node: &NodeName) -> u64 {
    xxh3_64_with_seed(node.as_str().as_bytes(), key_hash)
}
