//! Handing over under a name that another node has: peers take no frame of this life for the present one, so what it wrote is nobody's but
//! its own. It is sent to one of them by itself, with how long ago each provider was heard, until that one answers that it holds it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::io::{Output, Purpose};
use super::message::{Message, NodeState, To};
use super::notice::Notice;
use super::record::{Record, key_hash};
use super::serve::ANSWER_BYTES_MAX;
use super::shared::{Entry, Stamp, fingerprint};
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::{InstanceKey, Life, NodeName, OverrideKey, Seq, Version};

/// What is still to be sent is looked for this often.
const ROUND_MS: u64 = 1000;
/// What was sent and not answered is sent again after this long.
const AGAIN_MS: u64 = 3000;
/// An answer counts for this long: on a long line it is late.
const ANSWER_MS: u64 = 10_000;
/// How many records one round sends.
const ROUND_MAX: usize = 10_000;
/// What nobody took for this long is named to the operator.
const NAME_AFTER_MS: u64 = 10_000;
/// How many are named.
const NAMED_MAX: usize = 20;

/// What was written here and no other node is known to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Untaken {
    /// How many records and overrides.
    pub count: usize,
    /// The first of them, at most 20: instances, then overrides.
    pub keys: Vec<String>,
}

#[derive(Default)]
pub(super) struct Handover {
    /// Since when there is something to hand over under a name that is taken.
    began_at: Option<Mono>,
    next_round: Mono,
    /// To be sent, with how long ago each lease was renewed, where there is one.
    batch: VecDeque<(Arc<Record>, Option<u32>)>,
    /// By ticket, until it is answered or its time is over.
    sent: BTreeMap<u64, Parcel>,
    /// What another node holds.
    taken: BTreeMap<InstanceKey, Version>,
    taken_overrides: BTreeMap<OverrideKey, Stamp>,
    is_done: bool,
    is_named: bool,
}

/// What one message carried, in its order.
struct Parcel {
    at: Mono,
    records: Vec<(InstanceKey, Version)>,
    overrides: Vec<(OverrideKey, Stamp)>,
}

impl Handover {
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let round = if self.batch.is_empty() { self.next_round } else { 0 };
        self.began_at.map(|_| round)
    }

    /// Another node holds all of it, as the last round found.
    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Looks again at once whether anything is left.
    pub(super) fn look_again(&mut self) {
        (self.is_done, self.next_round) = (false, 0);
    }

    /// The lease of a record was renewed so long ago; `None`: no lease is held.
    pub(super) fn put(&mut self, record: Arc<Record>, age_ms: Option<u32>) {
        self.batch.push_back((record, age_ms));
    }

    fn has_taken(&self, record: &Record) -> bool {
        self.taken.get(&record.key).is_some_and(|taken| *taken >= record.version)
    }

    fn has_taken_override(&self, entry: &Entry) -> bool {
        self.taken_overrides.get(&entry.key).is_some_and(|taken| *taken >= entry.stamp)
    }

    /// What was sent a moment ago.
    fn under_way(&self, now: Mono) -> (BTreeSet<InstanceKey>, BTreeSet<OverrideKey>) {
        let recent = || self.sent.values().filter(|parcel| now < parcel.at + AGAIN_MS);
        let records = recent().flat_map(|parcel| &parcel.records).map(|(key, _)| key.clone()).collect();
        (records, recent().flat_map(|parcel| &parcel.overrides).map(|(key, _)| key.clone()).collect())
    }
}

/// The node that hands over.
impl Registry {
    /// Another node has this node's name: what this one wrote is to be held elsewhere.
    pub(super) fn gives_way(&self) -> bool {
        match self.state {
            NodeState::Leaving => self.has_stepped_down,
            NodeState::Warming => self.namesakes.has_name(),
            NodeState::Ready => false,
        }
    }

    /// It has stepped down, and ends once what it wrote is held elsewhere.
    #[must_use]
    pub fn has_stepped_down(&self) -> bool {
        self.has_stepped_down
    }

    /// What a node that gives way could not hand over so far.
    #[must_use]
    pub fn untaken(&self, now: Now) -> Untaken {
        let overrides = self.untaken_overrides(now);
        let count = self.untaken_records(now.mono).count() + overrides.len();
        let records = self.untaken_records(now.mono).map(|record| record.key.to_string());
        let overrides = overrides.iter().map(|entry| format!("override {}/{}", entry.key.namespace, entry.key.name));
        Untaken { count, keys: records.chain(overrides).take(NAMED_MAX).collect() }
    }

    pub(super) fn advance_handover(&mut self, now: Now, out: &mut Outbox) {
        if !self.gives_way() {
            self.handover = Handover::default();
            return;
        }
        let began_at = *self.handover.began_at.get_or_insert(now.mono);
        self.send_records(now, out);
        if now.mono < self.handover.next_round {
            return;
        }
        self.handover.next_round = now.mono + ROUND_MS;
        self.handover.sent.retain(|_, parcel| now.mono < parcel.at + ANSWER_MS);
        let untaken = self.untaken(now);
        self.handover.is_done = untaken.count == 0;
        if now.mono >= began_at + NAME_AFTER_MS && untaken.count > 0 && !self.handover.is_named {
            self.handover.is_named = true;
            out.push(Output::Noticed(Notice::NotHandedOver(untaken)));
        }
        let (records, overrides) = self.handover.under_way(now.mono);
        let due: Vec<Arc<Record>> =
            self.untaken_records(now.mono).filter(|record| !records.contains(&record.key)).take(ROUND_MAX).cloned().collect();
        for record in due {
            if self.leases.get(&record.key).is_some() {
                out.push(Output::AskLease { key: record.key.clone(), purpose: Purpose::HandOver });
            } else {
                self.handover.put(record, None);
            }
        }
        self.send_records(now, out);
        let due = self.untaken_overrides(now).into_iter().filter(|entry| !overrides.contains(&entry.key)).collect();
        self.send_overrides(due, now, out);
    }

    /// What this life wrote, withdrawn records too; of a node that ends also what lives wrote of which none is heard.
    fn untaken_records(&self, now: Mono) -> impl Iterator<Item = &Arc<Record>> {
        let is_leaving = self.state == NodeState::Leaving;
        let is_namesake = move |life: &Life| life.node == self.life.node && self.namesakes.is_running(life.epoch, now);
        let is_ours = move |life: &Life| *life == self.life || (is_leaving && !self.peers.is_life_alive(life, now) && !is_namesake(life));
        self.store.records().values().filter(move |record| is_ours(&record.version.owner) && !self.handover.has_taken(record))
    }

    /// A node that warms has taken none.
    fn untaken_overrides(&self, now: Now) -> Vec<Entry> {
        if self.state != NodeState::Leaving {
            return Vec::new();
        }
        self.shared.to_entries(now.mono).into_iter().filter(|entry| !self.handover.has_taken_override(entry)).collect()
    }

    /// Those who can take something over; the namesake is one of them.
    pub(super) fn takers(&self, now: Mono) -> Vec<NodeName> {
        let mut takers = self.heirs(now);
        takers.extend(self.namesakes.is_ready(now).then(|| self.life.node.clone()));
        takers
    }

    /// Sends what has gathered.
    fn send_records(&mut self, now: Now, out: &mut Outbox) {
        while !self.handover.batch.is_empty() {
            let (mut records, mut heard, mut bytes) = (Vec::new(), Vec::new(), 0);
            while let Some((record, age_ms)) = self.handover.batch.pop_front() {
                bytes += record.size_bytes();
                if bytes > ANSWER_BYTES_MAX && !records.is_empty() {
                    self.handover.batch.push_front((record, age_ms));
                    break;
                }
                heard.extend(age_ms.map(|age_ms| (record.version.seq, age_ms)));
                records.push(record);
            }
            self.send_parcel(records, heard, Vec::new(), now, out);
        }
    }

    fn send_overrides(&mut self, entries: Vec<Entry>, now: Now, out: &mut Outbox) {
        let (mut part, mut bytes) = (Vec::new(), 0);
        for entry in entries {
            bytes += entry.size_bytes();
            if bytes > ANSWER_BYTES_MAX && !part.is_empty() {
                self.send_parcel(Vec::new(), Vec::new(), std::mem::take(&mut part), now, out);
                bytes = entry.size_bytes();
            }
            part.push(entry);
        }
        if !part.is_empty() {
            self.send_parcel(Vec::new(), Vec::new(), part, now, out);
        }
    }

    /// Sends a parcel to any of those who can take it; where there is nobody it is tried again with the next round.
    fn send_parcel(&mut self, records: Vec<Arc<Record>>, heard: Vec<(Seq, u32)>, overrides: Vec<Entry>, now: Now, out: &mut Outbox) {
        let Some(taker) = self.rng.pick(self.takers(now.mono)) else { return };
        let ticket = self.rng.next();
        let parcel = Parcel {
            at: now.mono,
            records: records.iter().map(|record| (record.key.clone(), record.version.clone())).collect(),
            overrides: overrides.iter().map(|entry| (entry.key.clone(), entry.stamp.clone())).collect(),
        };
        self.handover.sent.insert(ticket, parcel);
        out.push(Output::Send(To::Node(taker), Message::HandOver { ticket, records, heard, overrides }));
    }

    /// Another node holds these of what this message carried.
    pub(super) fn handle_took_over(&mut self, ticket: u64, held: &[u64], now: Now) {
        let Some(Parcel { mut records, mut overrides, .. }) = self.handover.sent.remove(&ticket) else { return };
        let held: BTreeSet<u64> = held.iter().copied().collect();
        let count = records.len() + overrides.len();
        records.retain(|(key, _)| held.contains(&half(key_hash(key))));
        overrides.retain(|(key, stamp)| held.contains(&half(fingerprint(key, stamp))));
        let is_whole = records.len() + overrides.len() == count;
        self.handover.taken.extend(records);
        self.handover.taken_overrides.extend(overrides);
        // What was refused waits for the next round.
        if is_whole && self.handover.sent.is_empty() {
            self.handover.next_round = now.mono;
        }
    }
}

/// As a message says it.
fn half(hash: u128) -> u64 {
    hash as u64
}

/// The node that takes over.
impl Registry {
    /// A node whose name another one has gives away what it wrote: it is merged as whatever a peer gives, and its leases are held here.
    pub(super) fn handle_hand_over(
        &mut self,
        from: &Life,
        ticket: u64,
        (records, heard): (&[Arc<Record>], &[(Seq, u32)]),
        overrides: &[Entry],
        now: Now,
        out: &mut Outbox,
    ) {
        // Who asks again finds one that is.
        if self.state != NodeState::Ready {
            return;
        }
        let heard: BTreeMap<Seq, u32> = heard.iter().copied().collect();
        for record in records {
            let is_own = record.version.owner == *from;
            if is_own {
                self.follow_stamp(from, record.version.edition, now, out);
            }
            self.merge(record, from, now, out);
            let is_held = self.store.get(&record.key).is_some_and(|held| held.version == record.version);
            if let Some(age_ms) = heard.get(&record.version.seq).filter(|_| is_own && is_held) {
                self.inherit(record, now.mono.saturating_sub(u64::from(*age_ms)), now, out);
            }
        }
        self.hear_overrides(from, overrides.to_vec(), now, out);
        let is_held = |record: &&Arc<Record>| self.store.get(&record.key).is_some_and(|held| held.version >= record.version);
        let records = records.iter().filter(is_held).map(|record| half(key_hash(&record.key)));
        let overrides = overrides.iter().filter(|entry| self.shared.holds(entry)).map(|entry| half(fingerprint(&entry.key, &entry.stamp)));
        let held = records.chain(overrides).collect();
        out.push(Output::Send(To::Node(from.node.clone()), Message::TookOver { ticket, held }));
    }
}
