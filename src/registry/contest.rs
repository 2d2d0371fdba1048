//! Contests: two processes that register under one id, each taking the record from the other, again and again.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::io::Output;
use super::notice::Notice;
use super::record::{Record, content_digest};
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::InstanceKey;

/// More than so many registrations within [`WINDOW_MS`], each with the content before the last, are a contest.
const TURNS_MAX: u32 = 3;
const WINDOW_MS: u64 = 60_000;
/// How many instances whose content changed within the window are followed; one more is not.
const FOLLOWED_MAX: usize = 4096;
/// What a contested record says of itself.
const DETAIL: &str = "contested: its content alternates between two; do two processes share this id?";

/// The instances whose content changed lately.
#[derive(Default)]
pub(super) struct Contests {
    changing: BTreeMap<InstanceKey, Turns>,
}

struct Turns {
    since: Mono,
    /// The content before the present one.
    former: u128,
    present: u128,
    count: u32,
    is_said: bool,
}

impl Contests {
    /// The present content of an instance is another than before; says whether that makes it a contest.
    fn turn(&mut self, key: &InstanceKey, from: u128, to: u128, now: Mono) -> bool {
        if !self.changing.contains_key(key) && self.changing.len() >= FOLLOWED_MAX {
            return false;
        }
        let fresh = || Turns { since: now, former: from, present: to, count: 0, is_said: false };
        let turns = self.changing.entry(key.clone()).or_insert_with(fresh);
        if turns.since + WINDOW_MS <= now {
            *turns = fresh();
        }
        let alternates = turns.count == 0 || (turns.present == from && turns.former == to);
        (turns.former, turns.present) = (from, to);
        turns.count = if alternates { turns.count + 1 } else { 1 };
        turns.count > TURNS_MAX && !std::mem::replace(&mut turns.is_said, true)
    }

    pub(super) fn forget(&mut self, now: Mono) {
        self.changing.retain(|_, turns| turns.since + WINDOW_MS > now);
    }

    /// What a new registration of this instance says of itself, where it is contested.
    pub(super) fn detail(&self, key: &InstanceKey, now: Mono) -> Option<Arc<str>> {
        let is_contested = |turns: &&Turns| turns.count >= TURNS_MAX && turns.since + WINDOW_MS > now;
        self.changing.get(key).filter(is_contested).map(|_| Arc::from(DETAIL))
    }
}

impl Registry {
    /// A record took the place of another; the more often they take turns, the less likely it is one process.
    pub(super) fn note_turn(&mut self, before: &Record, after: &Record, now: Now, out: &mut Outbox) {
        let (Some(from), Some(to)) = (before.registration(), after.registration()) else { return };
        if Arc::ptr_eq(from, to) || from == to {
            return;
        }
        if self.contests.turn(&after.key, content_digest(from), content_digest(to), now.mono) {
            out.push(Output::Noticed(Notice::Contested(after.key.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{InstanceId, Namespace, ServiceKey, ServiceName};

    fn key() -> InstanceKey {
        let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
        InstanceKey { service, id: InstanceId::parse("a").unwrap() }
    }

    #[test]
    fn the_fourth_turn_within_a_minute_is_a_contest_and_is_said_once() {
        let mut contests = Contests::default();
        let said: Vec<bool> = (0..6).map(|turn| contests.turn(&key(), turn % 2, 1 - turn % 2, turn as Mono * 1000)).collect();
        assert_eq!(said, [false, false, false, true, false, false]);
        assert!(contests.detail(&key(), 6000).is_some());
        contests.forget(WINDOW_MS);
        assert!(contests.detail(&key(), WINDOW_MS).is_none());
    }

    #[test]
    fn a_content_that_goes_on_changing_is_no_contest() {
        let mut contests = Contests::default();
        assert!((0..20).all(|turn| !contests.turn(&key(), turn, turn + 1, turn as Mono)));
    }
}
