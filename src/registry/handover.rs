//! Handing over under a name that another node has: peers take no frame of this life for the present one, so what it wrote is nobody's but
//! its own. It is sent to a peer by itself, with how long ago each provider was heard, until a peer says that it has it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::io::{Output, Purpose};
use super::merge::quarantine;
use super::message::{Message, NodeState, To};
use super::notice::Notice;
use super::record::Record;
use super::serve::ANSWER_BYTES_MAX;
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::{InstanceKey, Life, Seq};

/// What no peer has taken is sent again this often.
const ROUND_MS: u64 = 1000;
/// How many records one round sends.
const ROUND_MAX: usize = 10_000;
/// What nobody took for this long is named to the operator.
const NAME_AFTER_MS: u64 = 10_000;
/// How many are named.
const NAMED_MAX: usize = 20;

#[derive(Default)]
pub(super) struct Handover {
    /// Since when there is something to hand over under a name that is taken.
    began_at: Option<Mono>,
    next_round: Mono,
    /// To be sent, with how long ago each lease was renewed, where there is one.
    batch: VecDeque<(Arc<Record>, Option<u32>)>,
    /// What each message of this round carried.
    sent: BTreeMap<u64, Vec<(InstanceKey, Seq)>>,
    /// What a peer has taken.
    taken: BTreeMap<InstanceKey, Seq>,
    /// How many records were still to be taken when the last round began.
    left: usize,
    is_named: bool,
}

impl Handover {
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let round = if self.batch.is_empty() { self.next_round } else { 0 };
        self.began_at.map(|_| round)
    }

    /// All that this life wrote was taken by a peer, as far as the last round showed.
    pub(super) fn is_done(&self) -> bool {
        self.began_at.is_some() && self.next_round > 0 && self.left == 0 && self.batch.is_empty()
    }

    /// The lease of a record was renewed so long ago.
    pub(super) fn put(&mut self, record: Arc<Record>, age_ms: Option<u32>) {
        self.batch.push_back((record, age_ms));
    }
}

impl Registry {
    /// Another node has this node's name: whatever this one holds is to be held elsewhere.
    pub(super) fn gives_way(&self) -> bool {
        match self.state {
            NodeState::Leaving => self.has_stepped_down,
            NodeState::Warming => self.namesake.has_name(),
            NodeState::Ready => false,
        }
    }

    pub(super) fn advance_handover(&mut self, now: Now, out: &mut Outbox) {
        if !self.gives_way() {
            self.handover = Handover::default();
            return;
        }
        let began_at = *self.handover.began_at.get_or_insert(now.mono);
        self.send_handover(now, out);
        if now.mono < self.handover.next_round {
            return;
        }
        self.handover.next_round = now.mono + ROUND_MS;
        let own: Vec<Arc<Record>> = self.untaken().take(ROUND_MAX).cloned().collect();
        self.handover.left = own.len();
        self.handover.sent.clear();
        if now.mono >= began_at + NAME_AFTER_MS && !own.is_empty() && !self.handover.is_named {
            self.handover.is_named = true;
            let keys = own.iter().take(NAMED_MAX).map(|record| record.key.clone()).collect();
            out.push(Output::Noticed(Notice::NotHandedOver { count: own.len(), keys }));
        }
        for record in own {
            if self.leases.get(&record.key).is_some() {
                out.push(Output::AskLease { key: record.key.clone(), purpose: Purpose::HandOver });
            } else {
                self.handover.put(record, None);
            }
        }
        self.send_handover(now, out);
    }

    /// What this life wrote, withdrawn records too, and no peer is known to have.
    fn untaken(&self) -> impl Iterator<Item = &Arc<Record>> {
        let is_taken = |record: &Record| self.handover.taken.get(&record.key).is_some_and(|seq| *seq >= record.version.seq);
        self.store.records().values().filter(move |record| record.version.owner == self.life && !is_taken(record))
    }

    /// Sends what has gathered to one of those who can take it.
    fn send_handover(&mut self, now: Now, out: &mut Outbox) {
        let heirs = self.heirs(now.mono);
        while !self.handover.batch.is_empty() {
            // What nobody can take is tried again with the next round.
            let Some(heir) = self.rng.pick(heirs.clone()) else { return self.handover.batch.clear() };
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
            let ticket = self.rng.next();
            let carried = records.iter().map(|record| (record.key.clone(), record.version.seq)).collect();
            self.handover.sent.insert(ticket, carried);
            out.push(Output::Send(To::Node(heir), Message::HandOver { ticket, records, heard }));
        }
    }

    /// A peer has all that this message carried.
    pub(super) fn handle_took_over(&mut self, ticket: u64) {
        self.handover.taken.extend(self.handover.sent.remove(&ticket).unwrap_or_default());
    }

    /// A node whose name another one has gives away what it wrote: it is merged as whatever a peer gives, and its leases are held here.
    pub(super) fn handle_hand_over(
        &mut self,
        from: &Life,
        ticket: u64,
        records: &[Arc<Record>],
        heard: &[(Seq, u32)],
        now: Now,
        out: &mut Outbox,
    ) {
        if self.state != NodeState::Ready {
            return;
        }
        let heard: BTreeMap<Seq, u32> = heard.iter().copied().collect();
        for record in records {
            if record.version.owner != *from {
                quarantine(record, from, "it was not written by the one who hands it over", out);
                continue;
            }
            self.merge(record, from, now, out);
            let is_held = self.store.get(&record.key).is_some_and(|held| held.version == record.version);
            if let Some(age_ms) = heard.get(&record.version.seq).filter(|_| is_held) {
                self.inherit(record, now.mono.saturating_sub(u64::from(*age_ms)), now, out);
            }
        }
        out.push(Output::Send(To::Node(from.node.clone()), Message::TookOver { ticket }));
    }
}
