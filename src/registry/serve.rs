//! Serving pulls: what this node gives to a peer that lacks something. It decides nothing about its own records.
//!
//! A question of some bytes may be answered with a thousand times as many. So only lives that are here are answered, those whose beacons come;
//! and what is given in a second has a bound, for each of them and for all together, within which they are served turn by turn (`pull_turns`).

use std::collections::BTreeMap;
use std::ops::Bound;

use super::digest::BUCKETS;
use super::message::{APPLIED_BYTES, AppliedAt, DIGEST_BYTES, Have, Message, To, Want, version_bytes};
use super::pull_turns::{Asked, Turns};
use super::store::{Records, slot_of};
use super::time::{Mono, Now};
use super::{Outbox, Output, Registry};
use crate::model::{InstanceKey, Life, Version};

/// About how much one answer carries at the most, well below a frame's 256 KiB: sizes here are estimates.
pub(super) const ANSWER_BYTES_MAX: usize = 176 * 1024;
/// How many records one question may name.
pub(super) const KEYS_MAX: usize = 400;
/// What peers ask beside pulls may take as much again as one in so many parts of what pulls may.
const REPLIES_SHARE: u64 = 4;
/// How many copies may be kept at once for nodes that take them chunk by chunk; past it they are told to ask another.
const COPIES_MAX: usize = 8;
/// A copy nobody has asked about for this long is let go.
const COPY_IDLE_MS: u64 = 10_000;

/// The whole copies that are kept for nodes that take them chunk by chunk, and what was given beside pulls.
#[derive(Default)]
pub(super) struct Copies {
    replies: Turns,
    given: BTreeMap<u64, Copy>,
}

/// A picture of all records at one moment.
struct Copy {
    records: Records,
    checksum: u128,
    applied: Vec<AppliedAt>,
    asked_at: Mono,
}

impl Registry {
    /// A question for what somebody lacks; `bytes_max`: how much the answer is to carry, where it says.
    pub(super) fn handle_pull(&mut self, from: &Life, ticket: u64, bytes_max: Option<u32>, want: Want, now: Now, out: &mut Outbox) {
        if !self.peers.is_asking_life(from, now.mono) {
            return;
        }
        let asked = Asked { ticket, bytes_max, want, at: now.mono };
        if let Some(refused) = self.turns.ask(from, asked) {
            let have = if refused.bytes_max.is_some() { Have::Later { after_ms: super::pull_turns::LATER_MS } } else { Have::NotNow };
            out.push(Output::Send(To::Node(from.node.clone()), Message::Pulled { ticket: refused.ticket, have }));
        }
        self.serve_turns(now, out);
    }

    /// Whether this life, whose beacons come, may be given so much of what peers ask beside pulls. Who asks again asks later.
    pub(super) fn may_reply(&mut self, to: &Life, bytes: usize, now: Now) -> bool {
        self.peers.is_asking_life(to, now.mono) && self.admits_reply(to, bytes, now)
    }

    /// As [`Registry::may_reply`], to a life whose beacon came.
    pub(super) fn admits_reply(&mut self, to: &Life, bytes: usize, now: Now) -> bool {
        let rate = (self.settings.limits.pull_bytes_per_second / REPLIES_SHARE).max(1);
        self.copies.replies.admit(to, bytes, rate, now.mono)
    }

    /// Answers who has waited for its turn, as far as what may be given allows.
    pub(super) fn serve_turns(&mut self, now: Now, out: &mut Outbox) {
        let rate = self.settings.limits.pull_bytes_per_second;
        while let Some((life, Asked { ticket, bytes_max, want, .. })) = self.turns.next(rate, now.mono) {
            let bytes = bytes_max.map_or(ANSWER_BYTES_MAX, |bytes| (bytes as usize).clamp(1, ANSWER_BYTES_MAX));
            let have = self.answer_pull(want, bytes, now);
            self.turns.gave(&life, have.size_bytes());
            out.push(Output::Send(To::Node(life.node), Message::Pulled { ticket, have }));
        }
    }

    fn answer_pull(&mut self, want: Want, bytes_max: usize, now: Now) -> Have {
        match want {
            Want::Changes { after } => self.log.after(after, bytes_max).map_or(Have::TooOld, Have::Changes),
            Want::Buckets => Have::Buckets {
                live: self.store.live().occupied(),
                withdrawn: self.store.withdrawn().occupied(),
                applied: self.applied.to_said(&self.life, now.mono),
                complete: self.has_been_ready && self.complete,
            },
            Want::Digests { from } => self.digests_from(from, bytes_max, now),
            Want::Versions { buckets, after } => self.versions_of(&buckets, after.as_ref(), bytes_max),
            Want::Whole { buckets, after } => self.whole_of(&buckets, after.as_ref(), bytes_max),
            Want::Records { keys } => self.records_of(&keys, bytes_max),
            Want::Copy { copy, after } => self.copy_chunk(copy, after.as_ref(), now),
        }
    }

    fn digests_from(&self, from: u16, bytes_max: usize, now: Now) -> Have {
        let applied = if from == 0 { self.applied.to_said(&self.life, now.mono) } else { Vec::new() };
        let of_lives: usize = applied.iter().map(|at| at.life.node.as_str().len() + APPLIED_BYTES).sum();
        let (mut live, mut withdrawn, mut next) = (Vec::new(), Vec::new(), None);
        for bucket in from..BUCKETS as u16 {
            if of_lives + (live.len() + withdrawn.len()) * DIGEST_BYTES >= bytes_max && bucket > from {
                next = Some(bucket);
                break;
            }
            live.extend(self.store.live().of(bucket));
            withdrawn.extend(self.store.withdrawn().of(bucket));
        }
        Have::Digests { live, withdrawn, next, applied, complete: self.has_been_ready && self.complete }
    }

    fn versions_of(&self, buckets: &[u16], after: Option<&InstanceKey>, bytes_max: usize) -> Have {
        let after_slot = after.map(slot_of);
        let mut bytes = 0;
        let mut versions: Vec<(InstanceKey, Version)> = Vec::new();
        for bucket in buckets {
            let after = match &after_slot {
                Some((of, _)) if bucket < of => continue,
                Some((of, key)) if bucket == of => Some(key),
                Some(_) | None => None,
            };
            for (key, version) in self.store.versions(*bucket, after) {
                if bytes >= bytes_max {
                    return Have::Versions { versions, more: true };
                }
                bytes += version_bytes(key, version);
                versions.push((key.clone(), version.clone()));
            }
        }
        Have::Versions { versions, more: false }
    }

    fn whole_of(&self, buckets: &[u16], after: Option<&InstanceKey>, bytes_max: usize) -> Have {
        let after_slot = after.map(slot_of);
        let mut bytes = 0;
        let mut records: Vec<std::sync::Arc<super::record::Record>> = Vec::new();
        for bucket in buckets {
            let after = match &after_slot {
                Some((of, _)) if bucket < of => continue,
                Some((of, key)) if bucket == of => Some(key),
                Some(_) | None => None,
            };
            for record in self.store.of_bucket(*bucket, after) {
                if bytes > 0 && bytes + record.size_bytes() > bytes_max {
                    let next = records.last().map(|last| last.key.clone());
                    return Have::Whole { records, next };
                }
                bytes += record.size_bytes();
                records.push(record.clone());
            }
        }
        Have::Whole { records, next: None }
    }

    fn records_of(&self, keys: &[InstanceKey], bytes_max: usize) -> Have {
        let mut bytes = 0;
        let known = keys.iter().take(KEYS_MAX).filter_map(|key| self.store.get(key));
        let fitting = known.take_while(|record| {
            let fits = bytes == 0 || bytes + record.size_bytes() <= bytes_max;
            bytes += record.size_bytes();
            fits
        });
        Have::Records(fitting.cloned().collect())
    }

    fn copy_chunk(&mut self, copy: Option<u64>, after: Option<&InstanceKey>, now: Now) -> Have {
        let Some(id) = copy.or_else(|| self.begin_copy(now)) else { return Have::NotNow };
        let Some(copy) = self.copies.given.get_mut(&id) else { return Have::NotNow };
        copy.asked_at = now.mono;
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(slot_of(key)));
        // They are said with each chunk.
        let mut bytes: usize = copy.applied.iter().map(|at| at.life.node.as_str().len() + APPLIED_BYTES).sum();
        let mut records = Vec::new();
        let mut more = false;
        for (_, record) in copy.records.range((from, Bound::Unbounded)) {
            if !records.is_empty() && bytes + record.size_bytes() > ANSWER_BYTES_MAX {
                more = true;
                break;
            }
            bytes += record.size_bytes();
            records.push(record.clone());
        }
        let answer = Have::Copy { copy: id, records, more, checksum: copy.checksum, applied: copy.applied.clone() };
        if !more {
            self.copies.given.remove(&id);
        }
        answer
    }

    /// A node that leaves gives copies too: it may be the last that can.
    fn begin_copy(&mut self, now: Now) -> Option<u64> {
        self.copies.given.retain(|_, copy| copy.asked_at + COPY_IDLE_MS > now.mono);
        if !self.has_been_ready || self.copies.given.len() >= COPIES_MAX {
            return None;
        }
        let id = self.rng.next();
        let checksum = self.store.live().total().wrapping_add(self.store.withdrawn().total());
        let applied = self.applied.to_said(&self.life, now.mono);
        self.copies.given.insert(id, Copy { records: self.store.records().clone(), checksum, applied, asked_at: now.mono });
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, NodeName};
    use crate::registry::message::Beacon;
    use crate::registry::{Envelope, Input, NodeState, Settings};

    const NOW: Now = Now { mono: 1_000_000, wall: 0 };

    fn life(node: &str, epoch: u64) -> Life {
        Life { node: NodeName::parse(node).unwrap(), epoch: Epoch(epoch) }
    }

    fn hear(registry: &mut Registry, from: Life, message: Message, now: Now) -> Outbox {
        let mut out = Outbox::new();
        registry.handle(Input::Received(Envelope { from, message }), now, &mut out);
        out
    }

    fn answers(out: &Outbox) -> usize {
        out.iter().filter(|output| matches!(output, Output::Send(_, Message::Pulled { .. }))).count()
    }

    fn sized(ticket: u64, bytes_max: u32) -> Message {
        Message::PullSized { ticket, bytes_max, want: Want::Digests { from: 0 } }
    }

    #[test]
    fn only_lives_whose_beacons_come_are_answered() {
        let mut registry = Registry::new(Settings::new(NodeName::parse("n1").unwrap(), Epoch(1)), 1, NOW);
        let ask = |registry: &mut Registry, from: Life, now| {
            let sized = answers(&hear(registry, from.clone(), sized(1, 1000), now));
            (sized, answers(&hear(registry, from, Message::Pull { ticket: 2, want: Want::Buckets }, now)))
        };
        assert_eq!(ask(&mut registry, life("n2", 2), NOW), (0, 0), "a stranger");
        hear(&mut registry, life("n2", 2), Message::Beacon(Beacon::of(NodeState::Warming)), NOW);
        assert_eq!(ask(&mut registry, life("n2", 2), NOW), (1, 1));
        assert_eq!(ask(&mut registry, life("n2", 3), NOW), (0, 0), "another life of it");
        // One that has just started again is not the present life yet, and is answered all the same.
        hear(&mut registry, life("n2", 3), Message::Beacon(Beacon::of(NodeState::Warming)), NOW);
        assert_eq!(ask(&mut registry, life("n2", 3), NOW), (1, 1));
        let later = Now { mono: NOW.mono + 31_000, wall: 0 };
        for second in 1..31 {
            registry.advance(Now { mono: NOW.mono + second * 1000, wall: 0 }, &mut Outbox::new());
        }
        assert_eq!(ask(&mut registry, life("n2", 2), later), (0, 0), "silent for long");
    }

    #[test]
    fn no_records_are_given_to_strangers_beside_pulls_either() {
        let mut registry = Registry::new(Settings::new(NodeName::parse("n1").unwrap(), Epoch(1)), 1, NOW);
        let ask = |registry: &mut Registry| {
            let out = hear(registry, life("n2", 2), Message::AskRecords { ticket: 2, keys: Vec::new() }, NOW);
            out.iter().filter(|output| matches!(output, Output::Send(To::Node(_), _))).count()
        };
        assert_eq!(ask(&mut registry), 0);
        hear(&mut registry, life("n2", 2), Message::Beacon(Beacon::of(NodeState::Ready)), NOW);
        assert_eq!(ask(&mut registry), 1);
    }

    #[test]
    fn what_is_given_in_a_second_has_a_bound_and_who_finds_no_room_is_told_so() {
        let mut registry = Registry::new(Settings::new(NodeName::parse("n1").unwrap(), Epoch(1)), 1, NOW);
        registry.settings.limits.pull_bytes_per_second = 1000;
        hear(&mut registry, life("n2", 2), Message::Beacon(Beacon::of(NodeState::Ready)), NOW);
        let mut out = Outbox::new();
        for ticket in 0..30 {
            out.extend(hear(&mut registry, life("n2", 2), sized(ticket, 1000), NOW));
        }
        let is_later = |output: &&Output| matches!(output, Output::Send(_, Message::Pulled { have: Have::Later { .. }, .. }));
        let later = out.iter().filter(is_later).count();
        assert!(later > 10 && answers(&out) - later < 3, "{later} of {}", answers(&out));
        let mut out = Outbox::new();
        for ms in 1..3000 {
            let now = Now { mono: NOW.mono + ms, wall: 0 };
            if registry.next_deadline().is_some_and(|at| at <= now.mono) {
                registry.advance(now, &mut out);
            }
        }
        assert!((4..12).contains(&answers(&out)), "{} more in three seconds", answers(&out));
    }
}
