//! Differences: in what another node's records differ from ours. It uses what repair asks with, and changes nothing.
//!
//! Both sides go on while they are compared: what is on its way just then may be told as a difference.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::answer::{Answer, Refusal};
use super::describe::{Difference, differences};
use super::io::{Output, Ticket};
use super::message::Have;
use super::pull::{Kind, NotUnderstood, Pull, Task, beside_the_question};
use super::record::{Record, listed_digest};
use super::store::slot_of;
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::{InstanceId, InstanceKey, Life, NodeName, ServiceKey, Version};

/// A node that answers nothing for this long cannot be compared with: twice a long line's way there and back.
const SILENT_MS: u64 = 4000;
/// A comparison that takes longer ends with what was found, and says so.
const WHOLE_MS: u64 = 8000;
/// How many comparisons may be on their way; one more is refused as too much.
const ASKED_MAX: usize = 16;
/// How many instances a comparison tells; with one more it ends, and says so.
pub const DIFFERING_MAX: usize = 1000;

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
    /// By the shell's ticket.
    running: BTreeMap<Ticket, Comparison>,
}

/// One comparison on its way.
struct Comparison {
    /// What is asked of the peer; nothing that comes is merged.
    pull: Pull,
    /// Over at the latest.
    until: Mono,
    /// What the peer has of the instances that differ; `None`: it does not list them.
    found: BTreeMap<InstanceKey, Option<Arc<Record>>>,
    truncated: bool,
}

impl Comparisons {
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let of_one = |comparison: &Comparison| {
            let silent_at = comparison.pull.silent_from() + SILENT_MS;
            comparison.pull.next_deadline().into_iter().fold(comparison.until.min(silent_at), Mono::min)
        };
        self.running.values().map(of_one).min()
    }

    /// This answer is to one of ours; repair's tickets come from the same source, which repeats none.
    pub(super) fn asked(&self, question: u64) -> bool {
        self.of(question).is_some()
    }

    fn of(&self, question: u64) -> Option<Ticket> {
        self.running.iter().find(|(_, comparison)| comparison.pull.has_asked(question)).map(|(ticket, _)| *ticket)
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
        if self.comparisons.running.len() >= ASKED_MAX {
            out.push(Output::Answer(ticket, Answer::Refused(Refusal::Busy)));
            return;
        }
        let is_sized = self.takes_sized(&with);
        let of = Life { node: with, epoch };
        let pull = Pull::new(of, Kind::Buckets, Task::of_comparison(is_sized), is_sized, false, now.mono);
        let comparison = Comparison { pull, until: now.mono + WHOLE_MS, found: BTreeMap::new(), truncated: false };
        self.compare_on(ticket, comparison, now, out);
    }

    /// Asks what is to be asked next; with nothing left, or enough found, the comparison is done.
    fn compare_on(&mut self, ticket: Ticket, mut comparison: Comparison, now: Now, out: &mut Outbox) {
        if comparison.pull.is_done() || comparison.until <= now.mono {
            self.finish_comparison(ticket, comparison, out);
            return;
        }
        let rng = &mut self.rng;
        comparison.pull.ask_next(|| rng.next(), now.mono, out);
        self.comparisons.running.insert(ticket, comparison);
    }

    /// Asks again what is not answered, and ends what takes too long.
    pub(super) fn advance_comparisons(&mut self, now: Now, out: &mut Outbox) {
        let tickets: Vec<Ticket> = self.comparisons.running.keys().copied().collect();
        for ticket in tickets {
            let Some(mut comparison) = self.comparisons.running.remove(&ticket) else { continue };
            if comparison.pull.silent_ms(now.mono) >= SILENT_MS {
                out.push(Output::Answer(ticket, Answer::Refused(Refusal::UnreachableNode(comparison.pull.of.node))));
            } else {
                comparison.truncated |= comparison.until <= now.mono && !comparison.pull.is_done();
                comparison.pull.ask_again(now.mono, out);
                self.compare_on(ticket, comparison, now, out);
            }
        }
    }

    /// A peer has answered a question of a comparison.
    pub(super) fn handle_compared(&mut self, from: &Life, question: u64, have: Have, now: Now, out: &mut Outbox) {
        let Some(ticket) = self.comparisons.of(question) else { return };
        let Some(comparison) = self.comparisons.running.get_mut(&ticket).filter(|comparison| comparison.pull.of == *from) else { return };
        let Some(task) = comparison.pull.answered(question, &have, now.mono) else { return };
        let Some(mut comparison) = self.comparisons.running.remove(&ticket) else { return };
        match self.take_compared(&mut comparison, task, have, now) {
            Ok(()) => self.compare_on(ticket, comparison, now, out),
            // A node that answers beside the question cannot be compared with.
            Err(NotUnderstood) => {
                out.push(Output::Answer(ticket, Answer::Refused(Refusal::UnreachableNode(comparison.pull.of.node))));
            }
        }
    }

    fn take_compared(&self, comparison: &mut Comparison, task: Task, have: Have, now: Now) -> Result<(), NotUnderstood> {
        let is_enough = comparison.truncated;
        let pull = &mut comparison.pull;
        match (task, have) {
            // As many were found as are told: what the peer has of those is all that is waited for.
            (Task::Buckets | Task::Digests { .. } | Task::Versions { .. }, _) if is_enough => {}
            (Task::Buckets, Have::Buckets { live, .. }) => self.compare_buckets(pull, 0, None, &live),
            (Task::Digests { from }, Have::Digests { live, next, .. }) => {
                self.compare_buckets(pull, from, next, &live);
                pull.digests_left(from, next)?;
            }
            (Task::Versions { buckets, after }, Have::Versions { versions, more }) => {
                pull.versions_left(&buckets, after.as_ref(), &versions, more)?;
                self.compare_versions(comparison, &buckets, after.as_ref(), versions, more);
            }
            (Task::Records { keys }, Have::Records(records)) => {
                pull.records_left(keys, &records);
                for record in records {
                    if let Some(place) = comparison.found.get_mut(&record.key) {
                        *place = Some(record);
                    }
                }
            }
            (task, Have::Later { after_ms }) => pull.rest(task, after_ms, now.mono),
            (_, have) => return beside_the_question(&have),
        }
        Ok(())
    }

    /// Asks about the buckets of `from..to` whose live records differ.
    fn compare_buckets(&self, pull: &mut Pull, from: u16, to: Option<u16>, live: &[(u16, u128)]) {
        let mut buckets = self.store.live().differing(live);
        buckets.retain(|bucket| *bucket >= from && to.is_none_or(|to| *bucket < to));
        if !buckets.is_empty() {
            pull.todo.push_back(Task::Versions { buckets, after: None });
        }
    }

    /// Finds the keys whose records differ, as far as the peer's versions go, and asks for the peer's side where it lists them.
    fn compare_versions(
        &self,
        comparison: &mut Comparison,
        buckets: &[u16],
        after: Option<&InstanceKey>,
        versions: Vec<(InstanceKey, Version)>,
        more: bool,
    ) {
        let after = after.map(slot_of);
        let last = versions.last().filter(|_| more).map(|(key, _)| slot_of(key));
        let of_bucket = |bucket: &u16| {
            let after = after.as_ref().filter(|(of, _)| of == bucket).map(|(_, key)| key);
            self.store.versions(*bucket, after)
        };
        let is_told = |key: &InstanceKey| last.as_ref().is_none_or(|last| slot_of(key) <= *last);
        let ours: BTreeMap<&InstanceKey, &Version> = buckets.iter().flat_map(of_bucket).filter(|(key, _)| is_told(key)).collect();
        let theirs: BTreeMap<InstanceKey, Version> = versions.into_iter().collect();
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
        if comparison.truncated {
            comparison.pull.todo.retain(|task| matches!(task, Task::Records { .. }));
        }
        if !wanted.is_empty() {
            comparison.pull.todo.push_front(Task::Records { keys: wanted });
        }
    }

    /// Everything was compared, or enough: says in what both sides differ now.
    fn finish_comparison(&self, ticket: Ticket, comparison: Comparison, out: &mut Outbox) {
        let Comparison { pull, found, truncated, .. } = comparison;
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
        let diff = Diff { with: pull.of.node, services: services.into_values().collect(), truncated };
        out.push(Output::Answer(ticket, Answer::Diff(diff)));
    }

    fn begin_service(&self, service: &ServiceKey) -> ServiceDiff {
        let revision = self.store.catalog().view(service).map_or(0, |view| view.revision());
        let (only_here, only_there, differ) = (Vec::new(), Vec::new(), Vec::new());
        ServiceDiff { service: service.clone(), revision, with_revision: Some(revision), only_here, only_there, differ }
    }
}
