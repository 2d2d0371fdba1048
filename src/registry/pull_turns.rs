//! Turns: pulls are served turn by turn among the lives that ask, within what may be given in a second.
//!
//! Two token buckets of bytes: one for all, and one for each life, which holds half as much, so that one that asks for everything, or somebody
//! in its name, leaves room for others. An answer is given while there is a token, and takes its size: what is overdrawn is waited for.

use std::collections::{BTreeMap, VecDeque};

use super::message::Want;
use super::time::Mono;
use crate::model::Life;

/// Questions that may wait for one life: twice what a puller has on its way.
const WAITING_MAX: usize = 16;
/// Questions that may wait in all: of the largest, which name 400 keys, some 20 MiB. A life that has none waiting has room all the same: in
/// place of the last one of the life that has most, or, where none has more than one, beyond it.
const WAITING_IN_ALL_MAX: usize = 512;
/// Who finds no room asks again after this long.
pub(super) const LATER_MS: u32 = 1000;
/// A question that has waited for longer is dropped: who asked it has asked again, or is gone.
const STALE_MS: u64 = 15_000;
/// A bucket holds what comes into it within this time.
const BURST_MS: u64 = 250;
/// A life that has not asked for this long is forgotten, whatever it took.
const IDLE_MS: u64 = 60_000;
/// How many lives are known; past it the one that asked longest ago makes room, if nothing of it waits. As many as peers are followed, with a
/// life of each that runs and one that has just started.
const LIVES_MAX: usize = 2048;

/// A question that waits for its turn.
pub(super) struct Asked {
    pub(super) ticket: u64,
    pub(super) bytes_max: Option<u32>,
    pub(super) want: Want,
    pub(super) at: Mono,
}

/// Who waits, and what may be given.
#[derive(Default)]
pub(super) struct Turns {
    lives: BTreeMap<Life, Asker>,
    /// Whose turn was last.
    last: Option<Life>,
    all: Tokens,
    /// When the buckets were filled last.
    filled_at: Mono,
    /// Nobody can be given anything before; `None` while nobody waits.
    next_at: Option<Mono>,
}

#[derive(Default)]
struct Asker {
    waiting: VecDeque<Asked>,
    tokens: Tokens,
    asked_at: Mono,
}

/// Bytes that may be given.
#[derive(Default)]
struct Tokens {
    /// In bytes: below 0 what was given beyond it is waited for. `None`: full, nothing was given yet.
    left: Option<i64>,
    filled_at: Mono,
}

impl Tokens {
    fn fill(&mut self, bytes_a_second: u64, now: Mono) {
        let rate = i64::try_from(bytes_a_second).unwrap_or(i64::MAX);
        let most = rate.saturating_mul(BURST_MS.cast_signed()) / 1000;
        let elapsed_ms = i64::try_from(now.saturating_sub(self.filled_at)).unwrap_or(i64::MAX);
        let left = self.left.map_or(most, |left| left.saturating_add(rate.saturating_mul(elapsed_ms) / 1000));
        self.left = Some(left.min(most));
        self.filled_at = now;
    }

    fn is_full(&self, bytes_a_second: u64) -> bool {
        let most = i64::try_from(bytes_a_second).unwrap_or(i64::MAX).saturating_mul(BURST_MS.cast_signed()) / 1000;
        self.left.is_none_or(|left| left >= most)
    }

    fn has_any(&self) -> bool {
        self.left.is_none_or(|left| left > 0)
    }

    fn take(&mut self, bytes: usize) {
        self.left = self.left.map(|left| left.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX)));
    }

    /// In how many ms there is one.
    fn wait_ms(&self, bytes_a_second: u64) -> u64 {
        let lacking = self.left.map_or(0, |left| (1 - left).max(0)).unsigned_abs();
        lacking.saturating_mul(1000).div_ceil(bytes_a_second.max(1)).max(1)
    }
}

impl Turns {
    /// Lets a question wait for its turn; gives it back where there is no room.
    pub(super) fn ask(&mut self, from: &Life, asked: Asked) -> Option<Asked> {
        let waiting: usize = self.lives.values().map(|asker| asker.waiting.len()).sum();
        if !self.lives.contains_key(from) && self.lives.len() >= LIVES_MAX && !self.forget_idle() {
            return Some(asked);
        }
        if waiting >= WAITING_IN_ALL_MAX && self.lives.get(from).is_none_or(|asker| asker.waiting.is_empty()) {
            let most = self.lives.values_mut().max_by_key(|asker| asker.waiting.len()).filter(|asker| asker.waiting.len() > 1);
            // Who asked it asks again.
            most.and_then(|asker| asker.waiting.pop_back());
        }
        let asker = self.lives.entry(from.clone()).or_default();
        asker.asked_at = asked.at;
        // It was asked again.
        if let Some(same) = asker.waiting.iter_mut().find(|waiting| waiting.ticket == asked.ticket) {
            *same = asked;
        } else if asker.waiting.len() >= WAITING_MAX || (waiting >= WAITING_IN_ALL_MAX && !asker.waiting.is_empty()) {
            return Some(asked);
        } else {
            asker.waiting.push_back(asked);
        }
        self.next_at = None;
        None
    }

    /// Whose turn it is, where something may be given now.
    pub(super) fn next(&mut self, bytes_a_second: u64, now: Mono) -> Option<(Life, Asked)> {
        let of_one = (bytes_a_second / 2).max(1);
        self.all.fill(bytes_a_second, now);
        self.fill(of_one, now);
        let may = |(_, asker): &(&Life, &Asker)| !asker.waiting.is_empty() && asker.tokens.has_any();
        let after_last = |(life, _): &(&Life, &Asker)| self.last.as_ref().is_none_or(|last| *life > last);
        let next = self.lives.iter().filter(may).find(after_last).or_else(|| self.lives.iter().find(may)).map(|(life, _)| life.clone());
        let Some(life) = next.filter(|_| self.all.has_any()) else {
            let waiting = self.lives.values().filter(|asker| !asker.waiting.is_empty());
            let wait_ms = waiting.map(|asker| if asker.tokens.has_any() { 1 } else { asker.tokens.wait_ms(of_one) }).min();
            let all_ms = if self.all.has_any() { 1 } else { self.all.wait_ms(bytes_a_second) };
            self.next_at = wait_ms.map(|ms| now + ms.max(all_ms));
            return None;
        };
        let asked = self.lives.get_mut(&life)?.waiting.pop_front()?;
        self.last = Some(life.clone());
        Some((life, asked))
    }

    /// Once for each moment: one whose bucket is full again, and of which nothing waits, is as one that never asked.
    fn fill(&mut self, of_one: u64, now: Mono) {
        if std::mem::replace(&mut self.filled_at, now) == now {
            return;
        }
        self.lives.retain(|_, asker| {
            asker.waiting.retain(|asked| asked.at + STALE_MS > now);
            asker.tokens.fill(of_one, now);
            !asker.waiting.is_empty() || (!asker.tokens.is_full(of_one) && asker.asked_at + IDLE_MS > now)
        });
    }

    /// Forgets the life that asked longest ago and of which nothing waits; says whether there is one.
    fn forget_idle(&mut self) -> bool {
        let idle = self.lives.iter().filter(|(_, asker)| asker.waiting.is_empty());
        let oldest = idle.min_by_key(|(_, asker)| asker.asked_at).map(|(life, _)| life.clone());
        oldest.is_some_and(|oldest| self.lives.remove(&oldest).is_some())
    }

    /// A life was given so much.
    pub(super) fn gave(&mut self, life: &Life, bytes: usize) {
        self.all.take(bytes);
        if let Some(asker) = self.lives.get_mut(life) {
            asker.tokens.take(bytes);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.next_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, NodeName};

    const RATE: u64 = 1_000_000;

    fn life(number: u64) -> Life {
        Life { node: NodeName::parse(&format!("n{number}")).unwrap(), epoch: Epoch(number) }
    }

    fn question(ticket: u64, at: Mono) -> Asked {
        Asked { ticket, bytes_max: None, want: Want::Buckets, at }
    }

    /// Serves answers of so many bytes until then; how often each life had its turn.
    fn serve(turns: &mut Turns, bytes: usize, until: Mono) -> BTreeMap<Life, usize> {
        let mut served = BTreeMap::new();
        for now in 0..until {
            while let Some((life, _)) = turns.next(RATE, now) {
                turns.gave(&life, bytes);
                *served.entry(life).or_default() += 1;
            }
        }
        served
    }

    #[test]
    fn whoever_asks_for_little_is_not_behind_one_that_asks_for_much() {
        let mut turns = Turns::default();
        for ticket in 0..16 {
            turns.ask(&life(1), question(ticket, 0));
        }
        turns.ask(&life(2), question(99, 0));
        turns.ask(&life(3), question(99, 0));
        let served = serve(&mut turns, 150_000, 600);
        assert_eq!((served[&life(2)], served[&life(3)]), (1, 1));
        assert!(served[&life(1)] < 5, "{served:?}");
    }

    #[test]
    fn no_life_is_given_more_than_half_of_what_all_are() {
        let mut turns = Turns::default();
        let mut bytes = 0;
        for now in 0..10_000 {
            turns.ask(&life(1), question(now, now));
            while let Some((life, _)) = turns.next(RATE, now) {
                turns.gave(&life, 10_000);
                bytes += 10_000;
            }
        }
        assert!((4_900_000..5_300_000).contains(&bytes), "{bytes} in 10 s");
    }

    #[test]
    fn what_finds_no_room_is_given_back_and_what_is_asked_again_takes_none() {
        let mut turns = Turns::default();
        for ticket in 0..16 {
            assert!(turns.ask(&life(1), question(ticket, 0)).is_none());
        }
        assert!(turns.ask(&life(1), question(3, 5)).is_none());
        assert_eq!(turns.ask(&life(1), question(16, 0)).map(|asked| asked.ticket), Some(16));
        assert!(turns.ask(&life(2), question(1, 0)).is_none());
    }

    #[test]
    fn whoever_has_nothing_waiting_has_room_however_many_wait() {
        let mut turns = Turns::default();
        for number in 2..100 {
            (0..16).for_each(|ticket| drop(turns.ask(&life(number), question(ticket, 0))));
        }
        assert!(turns.ask(&life(1), question(1, 0)).is_none());
        assert!(turns.ask(&life(1), question(2, 0)).is_some());
    }

    #[test]
    fn names_that_asked_once_are_not_kept_once_their_answers_are_paid_for() {
        let mut turns = Turns::default();
        for number in 0..2000 {
            let now = number / 10;
            turns.ask(&life(number), question(number, now));
            while let Some((life, _)) = turns.next(RATE, now) {
                turns.gave(&life, 10);
            }
        }
        assert!(turns.lives.len() < 100, "{}", turns.lives.len());
    }

    #[test]
    fn there_is_a_time_to_wait_for_while_somebody_waits() {
        let mut turns = Turns::default();
        for ticket in 0..3 {
            turns.ask(&life(1), question(ticket, 0));
        }
        while let Some((life, _)) = turns.next(RATE, 0) {
            turns.gave(&life, 200_000);
        }
        let at = turns.next_deadline().unwrap();
        assert!(at > 0 && at < 1000, "{at}");
        assert!(turns.next(RATE, at).is_some());
    }
}
