//! Differences: in what another node's records differ from ours. It uses what repair asks with, and changes nothing.
//!
//! Both sides go on while they are compared: what is on its way just then may be told as a difference.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::answer::{Answer, Refusal};
use super::describe::{Difference, differences};
use super::io::{Output, Ticket};
use super::message::{Have, Message, To, Want};
use super::record::{Record, listed_digest};
use super::serve::KEYS_MAX;
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::{InstanceId, InstanceKey, Life, NodeName, ServiceKey, Version};

/// A node that answers nothing for this long cannot be compared with.
const SILENT_MS: u64 = 2000;
/// What is not answered for this long is asked again: a full queue may have let go of it.
const AGAIN_MS: u64 = 500;
/// A comparison that takes longer ends with what was found, and says so.
const WHOLE_MS: u64 = 8000;
/// How many comparisons may be on their way; one more is refused as too much.
const ASKED_MAX: usize = 16;
/// How many instances a comparison tells; with one more it ends, and says so.
pub const DIFFERING_MAX: usize = 1000;
/// How many buckets' versions one question asks for.
const BUCKETS_ASKED: usize = 256;

/// In what two nodes' records differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// Whom this node was compared with.
    pub with: NodeName,
    /// The services in which they differ, in order.
    pub services: Vec<ServiceDiff>,
    /// There may be more.
    pub truncated: bool,
}

impl Diff {
    /// Nothing differs.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.services.is_empty() && !self.truncated
    }
}

/// In what one service differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceDiff {
    /// Which.
    pub service: ServiceKey,
    /// Its revision here.
    pub revision: u128,
    /// Its revision there; unknown where not everything was compared.
    pub with_revision: Option<u128>,
    /// Listed here alone.
    pub only_here: Vec<InstanceId>,
    /// Listed there alone.
    pub only_there: Vec<InstanceId>,
    /// Listed on both sides, and not the same.
    pub differ: Vec<InstanceDiff>,
}

/// In what one instance differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceDiff {
    /// Which.
    pub id: InstanceId,
    /// Who holds its lease, as is believed here.
    pub owner: NodeName,
    /// At least one.
    pub fields: Vec<Difference>,
}

#[derive(Default)]
pub(super) struct Comparisons {
    /// By the ticket of the question that is on its way.
    asked: BTreeMap<u64, Comparison>,
}

/// One comparison on its way.
struct Comparison {
    /// The shell's.
    ticket: Ticket,
    /// The life that was asked: an answer of another one does not count.
    of: Life,
    /// Over at the latest.
    until: Mono,
    /// The peer has not answered what was asked since then.
    asked_at: Mono,
    again_at: Mono,
    want: Want,
    stage: Stage,
    /// Buckets that differ and were not asked about yet.
    todo: Vec<u16>,
    /// What the peer has of the instances that differ; `None`: it does not list them.
    found: BTreeMap<InstanceKey, Option<Arc<Record>>>,
    truncated: bool,
}

/// What was asked last.
enum Stage {
    Buckets,
    /// Of these buckets, with what was told of them so far.
    Versions(Vec<u16>, BTreeMap<InstanceKey, Version>),
    /// These.
    Records(Vec<InstanceKey>),
}

impl Comparisons {
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.asked.values().map(|comparison| comparison.again_at.min(comparison.until)).min()
    }

    /// This answer is one of ours; repair's tickets come from the same source, which repeats none.
    pub(super) fn asked(&self, ticket: u64) -> bool {
        self.asked.contains_key(&ticket)
    }
}

impl Registry {
    pub(super) fn handle_diff(&mut self, ticket: Ticket, with: NodeName, now: Now, out: &mut Outbox) {
        if with == self.life.node {
            let diff = Diff { with, services: Vec::new(), truncated: false };
            out.push(Output::Answer(ticket, Answer::Diff(diff)));
            return;
        }
        let Some(epoch) = self.peers.get(&with).filter(|peer| !peer.is_gone(now.mono)).map(|peer| peer.epoch) else {
            out.push(Output::Answer(ticket, Answer::Refused(Refusal::UnknownNode(with))));
            return;
        };
        if self.comparisons.asked.len() >= ASKED_MAX {
            out.push(Output::Answer(ticket, Answer::Refused(Refusal::Busy)));
            return;
        }
        let comparison = Comparison {
            ticket,
            of: Life { node: with, epoch },
            until: now.mono + WHOLE_MS,
            asked_at: now.mono,
            again_at: now.mono,
            want: Want::Buckets,
            stage: Stage::Buckets,
            todo: Vec::new(),
            found: BTreeMap::new(),
            truncated: false,
        };
        self.compare_on(comparison, Want::Buckets, Stage::Buckets, now, out);
    }

    /// The next question of a comparison.
    fn compare_on(&mut self, comparison: Comparison, want: Want, stage: Stage, now: Now, out: &mut Outbox) {
        self.put_question(Comparison { want, stage, asked_at: now.mono, ..comparison }, now, out);
    }

    fn put_question(&mut self, comparison: Comparison, now: Now, out: &mut Outbox) {
        let question = self.rng.next();
        out.push(Output::Send(To::Node(comparison.of.node.clone()), Message::Pull { ticket: question, want: comparison.want.clone() }));
        self.comparisons.asked.insert(question, Comparison { again_at: now.mono + AGAIN_MS, ..comparison });
    }

    /// Asks again what is not answered, and ends what takes too long.
    pub(super) fn advance_comparisons(&mut self, now: Now, out: &mut Outbox) {
        let is_due = |comparison: &Comparison| comparison.again_at.min(comparison.until) <= now.mono;
        let due: Vec<u64> = self.comparisons.asked.iter().filter(|(_, comparison)| is_due(comparison)).map(|(at, _)| *at).collect();
        for question in due {
            let Some(mut comparison) = self.comparisons.asked.remove(&question) else { continue };
            if comparison.asked_at + SILENT_MS <= now.mono {
                let refusal = Refusal::UnreachableNode(comparison.of.node);
                out.push(Output::Answer(comparison.ticket, Answer::Refused(refusal)));
            } else if comparison.until <= now.mono {
                comparison.truncated = true;
                self.finish_comparison(comparison, out);
            } else {
                self.put_question(comparison, now, out);
            }
        }
    }

    /// A peer has answered a question of a comparison.
    pub(super) fn handle_compared(&mut self, from: &Life, question: u64, have: Have, now: Now, out: &mut Outbox) {
        if self.comparisons.asked.get(&question).is_none_or(|comparison| comparison.of != *from) {
            return;
        }
        let Some(mut comparison) = self.comparisons.asked.remove(&question) else { return };
        let stage = std::mem::replace(&mut comparison.stage, Stage::Buckets);
        match (stage, have) {
            (Stage::Buckets, Have::Buckets { live, .. }) => {
                comparison.todo = self.store.live().differing(&live);
                self.compare_next(comparison, now, out);
            }
            (Stage::Versions(buckets, mut theirs), Have::Versions { versions, more }) => {
                let after = versions.last().map(|(key, _)| key.clone()).filter(|_| more);
                theirs.extend(versions);
                if after.is_some() {
                    let want = Want::Versions { buckets: buckets.clone(), after };
                    self.compare_on(comparison, want, Stage::Versions(buckets, theirs), now, out);
                } else {
                    self.compare_versions(comparison, &buckets, &theirs, now, out);
                }
            }
            (Stage::Records(keys), Have::Records(records)) => self.compare_records(comparison, keys, records, now, out),
            // A node that answers beside the question cannot be compared with.
            (
                _,
                Have::NotNow
                | Have::TooOld
                | Have::Changes(_)
                | Have::Buckets { .. }
                | Have::Versions { .. }
                | Have::Records(_)
                | Have::Copy { .. }
                | Have::Digests { .. }
                | Have::Whole { .. }
                | Have::Later { .. },
            ) => {
                let refusal = Refusal::UnreachableNode(comparison.of.node);
                out.push(Output::Answer(comparison.ticket, Answer::Refused(refusal)));
            }
        }
    }

    /// Asks about the next buckets that differ; with none left, or enough found, the comparison is done.
    fn compare_next(&mut self, mut comparison: Comparison, now: Now, out: &mut Outbox) {
        let buckets: Vec<u16> = comparison.todo.drain(..comparison.todo.len().min(BUCKETS_ASKED)).collect();
        if buckets.is_empty() || comparison.truncated {
            self.finish_comparison(comparison, out);
            return;
        }
        let want = Want::Versions { buckets: buckets.clone(), after: None };
        self.compare_on(comparison, want, Stage::Versions(buckets, BTreeMap::new()), now, out);
    }

    /// Finds the keys of these buckets whose records differ, and asks for the peer's side where it lists them.
    fn compare_versions(
        &mut self,
        mut comparison: Comparison,
        buckets: &[u16],
        theirs: &BTreeMap<InstanceKey, Version>,
        now: Now,
        out: &mut Outbox,
    ) {
        let ours: BTreeMap<&InstanceKey, &Version> = buckets.iter().flat_map(|bucket| self.store.versions(*bucket, None)).collect();
        let of_both = |key: &InstanceKey| (ours.get(key).copied().filter(|version| version.live), theirs.get(key).filter(|it| it.live));
        let keys: BTreeSet<&InstanceKey> = ours.keys().copied().chain(theirs.keys()).collect();
        let mut wanted = Vec::new();
        for key in keys {
            match of_both(key) {
                (ours, theirs) if ours == theirs => continue,
                _ if comparison.found.len() >= DIFFERING_MAX => {
                    comparison.truncated = true;
                    break;
                }
                (_, Some(_)) => wanted.push(key.clone()),
                (_, None) => {}
            }
            comparison.found.insert(key.clone(), None);
        }
        self.compare_fetch(comparison, wanted, now, out);
    }

    /// Asks for the peer's records; with none left the comparison goes on.
    fn compare_fetch(&mut self, comparison: Comparison, keys: Vec<InstanceKey>, now: Now, out: &mut Outbox) {
        if keys.is_empty() {
            self.compare_next(comparison, now, out);
            return;
        }
        let want = Want::Records { keys: keys.iter().take(KEYS_MAX).cloned().collect() };
        self.compare_on(comparison, want, Stage::Records(keys), now, out);
    }

    /// Records come in the order asked; those behind the last one that came did not fit. None at all: the peer has forgotten them.
    fn compare_records(
        &mut self,
        mut comparison: Comparison,
        mut asked: Vec<InstanceKey>,
        records: Vec<Arc<Record>>,
        now: Now,
        out: &mut Outbox,
    ) {
        let came = records.last().and_then(|last| asked.iter().position(|key| *key == last.key));
        let rest = asked.split_off(came.map_or(asked.len().min(KEYS_MAX), |position| position + 1));
        for record in records {
            if let Some(place) = comparison.found.get_mut(&record.key) {
                *place = Some(record);
            }
        }
        self.compare_fetch(comparison, rest, now, out);
    }

    /// Everything was compared, or enough: says in what both sides differ now.
    fn finish_comparison(&mut self, comparison: Comparison, out: &mut Outbox) {
        let Comparison { ticket, of, found, truncated, .. } = comparison;
        let mut services: BTreeMap<ServiceKey, ServiceDiff> = BTreeMap::new();
        for (key, theirs) in found {
            let ours = self.store.get(&key).filter(|record| record.registration().is_some());
            let theirs = theirs.filter(|record| record.registration().is_some());
            if ours.map(|record| &record.version) == theirs.as_ref().map(|record| &record.version) {
                continue;
            }
            let place = services.entry(key.service.clone()).or_insert_with(|| self.begin_service(&key.service));
            let digest =
                |record: Option<&Arc<Record>>| record.and_then(|record| self.listed(record)).map_or(0, |listed| listed_digest(&listed));
            let moved = |revision: u128| revision.wrapping_sub(digest(ours)).wrapping_add(digest(theirs.as_ref()));
            // As the other side lists it, whose overrides are ours.
            place.with_revision = place.with_revision.map(moved).filter(|_| !truncated);
            match (ours, theirs) {
                (Some(ours), Some(theirs)) => {
                    let (id, owner) = (key.id, ours.version.owner.node.clone());
                    place.differ.push(InstanceDiff { id, owner, fields: differences(ours, &theirs) });
                }
                (Some(_), None) => place.only_here.push(key.id),
                (None, _) => place.only_there.push(key.id),
            }
        }
        let diff = Diff { with: of.node, services: services.into_values().collect(), truncated };
        out.push(Output::Answer(ticket, Answer::Diff(diff)));
    }

    fn begin_service(&self, service: &ServiceKey) -> ServiceDiff {
        let revision = self.store.catalog().view(service).map_or(0, |view| view.revision());
        let (only_here, only_there, differ) = (Vec::new(), Vec::new(), Vec::new());
        ServiceDiff { service: service.clone(), revision, with_revision: Some(revision), only_here, only_there, differ }
    }
}
