//! A pull: what is asked of one peer until all it has is here, question by question, several on their way at once.
//!
//! What is to be asked stands in a list of tasks. Each question takes a part of one; its answer may leave a rest of it, or tasks that
//! follow. So nothing depends on the order in which answers come, a question that is lost is asked again by itself, under the same ticket, and
//! an answer counts whenever it comes while its pull goes on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::io::Output;
use super::message::{AppliedAt, Change, Have, Message, To, Want};
use super::notice::Notice;
use super::pace::Pace;
use super::record::Record;
use super::repair::Ended;
use super::serve::KEYS_MAX;
use super::store::slot_of;
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::{InstanceKey, Life, NodeName, Seq, ServiceKey, Version};

/// A pull that brings nothing for this long is over; also what was asked long before is answered in vain then.
const SILENT_MS: u64 = 30_000;
/// A peer that is silent otherwise too ends it after this.
const GONE_MS: u64 = 5000;
/// How many buckets one question is about.
const BUCKETS_ASKED: usize = 128;
/// A record takes at least about this much of an answer.
const RECORD_BYTES_MIN: usize = 128;
/// A peer that asks for patience is believed for this long at the most.
const LATER_MS_MAX: u64 = 5000;

/// A pull on its way.
pub(super) struct Pull {
    /// The life that is asked: an answer of another one does not count.
    pub(super) of: Life,
    pub(super) kind: Kind,
    /// Not asked yet; the first is asked next.
    pub(super) todo: VecDeque<Task>,
    /// By ticket.
    asked: BTreeMap<u64, Question>,
    pace: Pace,
    /// The peer takes questions that say how much the answer is to carry. One that does not is asked one at a time.
    pub(super) is_sized: bool,
    /// When it was begun, or last answered; asking for patience is no answer.
    answered_at: Mono,
    /// The peer asked for patience until then.
    rests_until: Mono,
    /// Records it has brought so far.
    pub(super) gained: usize,
    /// It was begun because the peer had applied the same and held something else.
    pub(super) is_suspicious: bool,
    /// What the peer had applied when its side was first looked at.
    pub(super) theirs: Vec<AppliedAt>,
    /// The peer knows all it can.
    pub(super) knows_all: bool,
    /// Where a live record differs, as far as it was seen.
    pub(super) differing: BTreeSet<ServiceKey>,
}

/// What a pull is after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Changes,
    Buckets,
    Copy,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Changes => "changes",
            Self::Buckets => "buckets",
            Self::Copy => "copy",
        }
    }
}

/// Something to be asked, in one question or in several.
#[derive(Debug, Clone)]
pub(super) enum Task {
    /// The origin's log, from behind this seq on.
    Changes { after: Seq },
    /// The digests of all buckets, of a peer that gives them only together.
    Buckets,
    /// The digests of the buckets from this one on.
    Digests { from: u16 },
    /// The versions in these buckets, in ascending order, behind this key.
    Versions { buckets: Vec<u16>, after: Option<InstanceKey> },
    /// All records in these buckets, in ascending order, behind this key.
    Whole { buckets: Vec<u16>, after: Option<InstanceKey> },
    /// These records.
    Records { keys: Vec<InstanceKey> },
    /// The next chunk of a copy that an older peer keeps for us, and the wrapping sum of the fingerprints that came.
    Copy { copy: Option<u64>, after: Option<InstanceKey>, sum: u128 },
}

impl Task {
    fn to_want(&self) -> Want {
        match self {
            Self::Changes { after } => Want::Changes { after: *after },
            Self::Buckets => Want::Buckets,
            Self::Digests { from } => Want::Digests { from: *from },
            Self::Versions { buckets, after } => Want::Versions { buckets: buckets.clone(), after: after.clone() },
            Self::Whole { buckets, after } => Want::Whole { buckets: buckets.clone(), after: after.clone() },
            Self::Records { keys } => Want::Records { keys: keys.clone() },
            Self::Copy { copy, after, .. } => Want::Copy { copy: *copy, after: after.clone() },
        }
    }

    /// Leaves as much as one question asks for; the rest, if any.
    fn split(&mut self, bytes: usize) -> Option<Self> {
        match self {
            Self::Versions { buckets, .. } => split_off(buckets, BUCKETS_ASKED).map(|buckets| Self::Versions { buckets, after: None }),
            Self::Whole { buckets, .. } => split_off(buckets, BUCKETS_ASKED).map(|buckets| Self::Whole { buckets, after: None }),
            Self::Records { keys } => split_off(keys, (bytes / RECORD_BYTES_MIN).clamp(1, KEYS_MAX)).map(|keys| Self::Records { keys }),
            Self::Changes { .. } | Self::Buckets | Self::Digests { .. } | Self::Copy { .. } => None,
        }
    }
}

fn split_off<T>(items: &mut Vec<T>, most: usize) -> Option<Vec<T>> {
    (items.len() > most).then(|| items.split_off(most))
}

/// A question on its way.
struct Question {
    task: Task,
    /// First.
    asked_at: Mono,
    again_at: Mono,
    was_repeated: bool,
    /// How much its answer is to carry.
    bytes: usize,
}

impl Pull {
    pub(super) fn new(of: Life, kind: Kind, task: Task, is_sized: bool, is_suspicious: bool, now: Mono) -> Self {
        Self {
            of,
            kind,
            todo: VecDeque::from([task]),
            asked: BTreeMap::new(),
            pace: Pace::default(),
            is_sized,
            answered_at: now,
            rests_until: now,
            gained: 0,
            is_suspicious,
            theirs: Vec::new(),
            knows_all: false,
            differing: BTreeSet::new(),
        }
    }

    pub(super) fn has_gained(&mut self, records: usize, out: &mut Outbox) {
        self.gained += records;
        if records > 0 {
            out.push(Output::Noticed(Notice::Repaired { from: self.of.node.clone(), kind: self.kind.as_str(), records }));
        }
    }

    /// It has brought nothing since then.
    pub(super) fn silent_from(&self) -> Mono {
        self.answered_at
    }

    /// It has brought nothing for so long.
    pub(super) fn silent_ms(&self, now: Mono) -> u64 {
        now.saturating_sub(self.silent_from())
    }

    /// This question is its own, and not answered.
    pub(super) fn has_asked(&self, ticket: u64) -> bool {
        self.asked.contains_key(&ticket)
    }

    /// It has brought nothing for longer than an answer should take.
    pub(super) fn is_stalled(&self, now: Mono) -> bool {
        self.silent_ms(now) >= self.pace.again_ms()
    }

    pub(super) fn is_done(&self) -> bool {
        self.todo.is_empty() && self.asked.is_empty()
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let again = self.asked.values().map(|question| question.again_at).min();
        let goes_on = (!self.todo.is_empty() && self.has_room()).then_some(self.rests_until);
        [again, goes_on, Some(self.answered_at + SILENT_MS)].into_iter().flatten().min()
    }

    fn has_room(&self) -> bool {
        self.asked.len() < if self.is_sized { self.pace.in_flight() } else { 1 }
    }

    fn send(&self, ticket: u64, question: &Question, out: &mut Outbox) {
        let want = question.task.to_want();
        let message = if self.is_sized {
            Message::PullSized { ticket, bytes_max: u32::try_from(question.bytes).unwrap_or(u32::MAX), want }
        } else {
            Message::Pull { ticket, want }
        };
        out.push(Output::Send(To::Node(self.of.node.clone()), message));
    }

    /// Asks what there is room for.
    pub(super) fn ask_next(&mut self, mut ticket: impl FnMut() -> u64, now: Mono, out: &mut Outbox) {
        while self.rests_until <= now && self.has_room() {
            let Some(mut task) = self.todo.pop_front() else { return };
            if let Some(rest) = task.split(self.pace.bytes()) {
                self.todo.push_front(rest);
            }
            let bytes = self.pace.bytes();
            let question = Question { task, asked_at: now, again_at: now + self.pace.again_ms(), was_repeated: false, bytes };
            let ticket = ticket();
            self.send(ticket, &question, out);
            self.asked.insert(ticket, question);
        }
    }

    /// Asks again what was not answered, for less.
    pub(super) fn ask_again(&mut self, now: Mono, out: &mut Outbox) {
        let late: Vec<u64> = self.asked.iter().filter(|(_, question)| question.again_at <= now).map(|(ticket, _)| *ticket).collect();
        if !late.is_empty() {
            self.pace.unanswered();
        }
        for ticket in late {
            let Some(mut question) = self.asked.remove(&ticket) else { continue };
            question.again_at = now + self.pace.again_ms();
            question.was_repeated = true;
            question.bytes = question.bytes.min(self.pace.bytes());
            self.send(ticket, &question, out);
            self.asked.insert(ticket, question);
        }
    }

    /// The way to the peer is back: what went unanswered is asked again now.
    pub(super) fn hasten(&mut self, now: Mono) {
        self.pace.forget_unanswered();
        self.asked.values_mut().for_each(|question| question.again_at = question.again_at.min(now));
    }

    /// The question that this answers.
    pub(super) fn answered(&mut self, ticket: u64, have: &Have, now: Mono) -> Option<Task> {
        let question = self.asked.remove(&ticket)?;
        if matches!(have, Have::Later { .. }) {
            return Some(question.task);
        }
        self.answered_at = now;
        if !question.was_repeated {
            self.pace.answered(now.saturating_sub(question.asked_at), have.size_bytes(), question.bytes);
        }
        Some(question.task)
    }
}

impl Registry {
    /// Begins a pull.
    pub(super) fn begin_pull(&mut self, pull: Pull, now: Now, out: &mut Outbox) {
        out.push(Output::Noticed(Notice::Pulled { from: pull.of.node.clone(), kind: pull.kind.as_str() }));
        self.go_on_pulling(pull, now, out);
    }

    /// Asks what is to be asked next; with nothing left the pull is done.
    fn go_on_pulling(&mut self, mut pull: Pull, now: Now, out: &mut Outbox) {
        if pull.is_done() {
            self.finish_pull(pull, now, out);
            return;
        }
        let rng = &mut self.rng;
        pull.ask_next(|| rng.next(), now.mono, out);
        self.repair.pulls.insert(pull.of.node.clone(), pull);
    }

    /// Asks again what was not answered, and ends pulls that bring nothing any more.
    pub(super) fn advance_pulls(&mut self, now: Now, out: &mut Outbox) {
        let is_due = |pull: &Pull| pull.next_deadline().is_some_and(|at| at <= now.mono) || pull.silent_ms(now.mono) >= GONE_MS;
        let due: Vec<NodeName> = self.repair.pulls.iter().filter(|(_, pull)| is_due(pull)).map(|(peer, _)| peer.clone()).collect();
        for peer in due {
            let Some(mut pull) = self.repair.pulls.remove(&peer) else { continue };
            let is_gone = pull.silent_ms(now.mono) >= GONE_MS && !self.peers.is_life_heard(&pull.of, now.mono);
            if is_gone || pull.silent_ms(now.mono) >= SILENT_MS {
                self.end_pull(pull, Ended::Failed, now, out);
            } else {
                pull.ask_again(now.mono, out);
                self.go_on_pulling(pull, now, out);
            }
        }
    }

    /// An answer to a pull: one that was not asked for, or too late, changes nothing.
    pub(super) fn handle_pulled(&mut self, from: &Life, ticket: u64, have: Have, now: Now, out: &mut Outbox) {
        let Some(pull) = self.repair.pulls.get_mut(&from.node).filter(|pull| pull.of == *from) else { return };
        let Some(task) = pull.answered(ticket, &have, now.mono) else { return };
        let Some(mut pull) = self.repair.pulls.remove(&from.node) else { return };
        let (gained_before, is_later) = (pull.gained, matches!(have, Have::Later { .. }));
        let understood = self.take_answer(&mut pull, task, have, now, out);
        if pull.gained > gained_before || (pull.kind == Kind::Copy && understood.is_ok() && !is_later) {
            self.repair.progress_at = now.mono;
        }
        match understood {
            Ok(()) => self.go_on_pulling(pull, now, out),
            Err(NotUnderstood) => self.end_pull(pull, Ended::Failed, now, out),
        }
    }

    fn take_answer(&mut self, pull: &mut Pull, task: Task, have: Have, now: Now, out: &mut Outbox) -> Result<(), NotUnderstood> {
        match (task, have) {
            (Task::Changes { after }, Have::Changes(change)) => self.changes_came(pull, after, change, now, out),
            (Task::Changes { .. }, Have::TooOld) => pull.compare_instead(),
            (Task::Buckets, Have::Buckets { live, withdrawn, applied, complete }) => {
                (pull.theirs, pull.knows_all) = (applied, complete);
                let differing = self.differing(0, None, &live, &withdrawn);
                self.look_into(pull, differing);
            }
            (Task::Digests { from }, Have::Digests { live, withdrawn, next, applied, complete }) => {
                pull.digests_left(from, next)?;
                if from == 0 {
                    (pull.theirs, pull.knows_all) = (applied, complete);
                }
                pull.knows_all &= complete;
                let differing = self.differing(from, next, &live, &withdrawn);
                self.look_into(pull, differing);
            }
            (Task::Versions { buckets, after }, Have::Versions { versions, more }) => {
                return self.versions_came(pull, &buckets, after.as_ref(), (versions, more), now);
            }
            (Task::Whole { buckets, after }, Have::Whole { records, next }) => {
                return self.whole_came(pull, buckets, after.as_ref(), (&records, next), now, out);
            }
            (Task::Records { keys }, Have::Records(records)) => self.records_came(pull, keys, &records, now, out),
            (Task::Copy { copy: begun, after: before, sum }, Have::Copy { copy, records, more, checksum, applied }) => {
                let of = pull.of.clone();
                let gained = self.merge_all(&records, &of, now, out);
                pull.has_gained(gained, out);
                let sum = records.iter().fold(sum, |sum, record| sum.wrapping_add(record.fingerprint()));
                let after = records.last().map(|record| record.key.clone());
                if more && after.as_ref().map(slot_of) > before.as_ref().map(slot_of) {
                    pull.todo.push_front(Task::Copy { copy: Some(copy), after, sum });
                } else if more || sum != checksum || begun.is_some_and(|id| id != copy) {
                    return Err(NotUnderstood);
                }
                pull.theirs = applied;
            }
            (task, Have::Later { after_ms }) => pull.rest(task, after_ms, now.mono),
            (_, have) => return beside_the_question(&have),
        }
        Ok(())
    }

    fn changes_came(&mut self, pull: &mut Pull, after: Seq, change: Change, now: Now, out: &mut Outbox) {
        let of = pull.of.clone();
        let gained = self.apply_change(&of, change, now, out);
        pull.has_gained(gained, out);
        let seq = self.applied.seq(&of);
        let is_behind = self.applied.iter().any(|(life, progress)| *life == of && progress.head > seq);
        if is_behind && seq > after {
            pull.todo.push_front(Task::Changes { after: seq });
        } else if is_behind {
            pull.compare_instead();
        }
    }

    /// All that was asked for is here.
    fn finish_pull(&mut self, pull: Pull, now: Now, out: &mut Outbox) {
        match pull.kind {
            Kind::Changes => {}
            Kind::Buckets => self.finish_walk(&pull, now),
            Kind::Copy => self.finish_copy(&pull, now),
        }
        self.end_pull(pull, Ended::Done, now, out);
    }
}

impl Pull {
    /// The peer gave its digests up to `next`: the rest is asked for.
    pub(super) fn digests_left(&mut self, from: u16, next: Option<u16>) -> Result<(), NotUnderstood> {
        if next.is_some_and(|next| next <= from) {
            return Err(NotUnderstood);
        }
        if let Some(from) = next {
            self.todo.push_front(Task::Digests { from });
        }
        Ok(())
    }

    /// The versions of these buckets came up to the last one: the rest is asked for.
    pub(super) fn versions_left(
        &mut self,
        buckets: &[u16],
        after: Option<&InstanceKey>,
        versions: &[(InstanceKey, Version)],
        more: bool,
    ) -> Result<(), NotUnderstood> {
        let last = versions.last().map(|(key, _)| key);
        if more && last.map(slot_of) <= after.map(slot_of) {
            return Err(NotUnderstood);
        }
        if let Some(last) = last.filter(|_| more) {
            let (of, _) = slot_of(last);
            let buckets = buckets.iter().copied().filter(|bucket| *bucket >= of).collect();
            self.todo.push_front(Task::Versions { buckets, after: Some(last.clone()) });
        }
        Ok(())
    }

    /// Records come in the order asked; those behind the last one that came did not fit. None at all: the peer has forgotten them.
    pub(super) fn records_left(&mut self, mut asked: Vec<InstanceKey>, records: &[Arc<Record>]) {
        let came = records.last().and_then(|last| asked.iter().position(|key| *key == last.key));
        let keys = asked.split_off(came.map_or(asked.len().min(KEYS_MAX), |position| position + 1));
        if !keys.is_empty() {
            self.todo.push_front(Task::Records { keys });
        }
    }

    /// The peer asks for patience: this is asked again later.
    pub(super) fn rest(&mut self, task: Task, after_ms: u32, now: Mono) {
        self.todo.push_front(task);
        self.rests_until = now + u64::from(after_ms).clamp(1, LATER_MS_MAX);
    }

    /// The origin's log does not bring what is lacked: its records may.
    fn compare_instead(&mut self) {
        self.kind = Kind::Buckets;
        self.todo.push_front(Task::of_comparison(self.is_sized));
    }
}

impl Task {
    /// What a comparison begins with.
    pub(super) fn of_comparison(is_sized: bool) -> Self {
        if is_sized { Self::Digests { from: 0 } } else { Self::Buckets }
    }
}

/// An answer that does not fit its question, or refuses it: the pull is over.
pub(super) struct NotUnderstood;

/// What every answer is that fits no question of its pull.
pub(super) fn beside_the_question(have: &Have) -> Result<(), NotUnderstood> {
    match have {
        Have::NotNow
        | Have::TooOld
        | Have::Later { .. }
        | Have::Changes(_)
        | Have::Buckets { .. }
        | Have::Versions { .. }
        | Have::Records(_)
        | Have::Copy { .. }
        | Have::Digests { .. }
        | Have::Whole { .. } => Err(NotUnderstood),
    }
}
