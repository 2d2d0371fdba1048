//! History: what happened to instances as this node learned of it, kept in a ring in memory, and on disk where the node has one.
//!
//! Whoever follows it (streams, the bus, the disk) reads the ring from a place of its own and is woken when there is more: nothing
//! queues for anybody, and who is slower than the ring is long learns how much was missed. The node's task only ever pushes.

mod event;
pub(super) mod journal;
mod lines;
#[cfg(test)]
mod testing;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

pub use event::{Event, EventId};

/// How many events are kept, about 15 MiB of them; the oldest goes when one more comes. Unit tests fill it, so theirs is short.
pub const KEPT_MAX: usize = if cfg!(test) { 8192 } else { 65_536 };
/// How many are looked at before the ring is let go of for a moment, so that no reader holds up the node's task.
const LOOKED_AT_MAX: usize = 2048;
/// Where the first event of a process stands: what is read from disk comes before it.
const FIRST: Place = 1 << 40;

/// The files of a history on disk.
pub(super) const FILES: [&str; 2] = [lines::CURRENT, lines::PREVIOUS];

/// The disk is full, and something else there matters more than what happened: lets go of a part of it. False: nothing was left.
pub(super) fn make_room(folder: &Path) -> bool {
    lines::make_room(folder)
}

/// Where in this process's history an event stands; grows with each.
pub type Place = u64;

#[derive(Debug)]
struct Ring {
    events: VecDeque<Event>,
    /// Of the oldest that is kept.
    first: Place,
}

impl Ring {
    fn end(&self) -> Place {
        self.first + self.events.len() as u64
    }
}

/// Reads a node's history. Cheap to clone.
#[derive(Debug, Clone)]
pub struct History {
    ring: Arc<Mutex<Ring>>,
    told: watch::Receiver<Place>,
}

/// The node's end: adds to its history. Those who follow it end when this is gone.
pub(super) struct Recorder {
    ring: Arc<Mutex<Ring>>,
    told: watch::Sender<Place>,
    has_more: bool,
}

/// What came since a place.
#[derive(Debug)]
pub struct Since {
    /// In the order in which the node learned of it, each with its place.
    pub events: Vec<(Place, Event)>,
    /// Where to go on.
    pub next: Place,
    /// How many were let go of in between.
    pub missed: u64,
}

/// An empty history, and the way to fill it.
pub(super) fn open() -> (Recorder, History) {
    let ring = Arc::new(Mutex::new(Ring { events: VecDeque::new(), first: FIRST }));
    let (to_told, told) = watch::channel(FIRST);
    (Recorder { ring: Arc::clone(&ring), told: to_told, has_more: false }, History { ring, told })
}

impl Recorder {
    pub(super) fn record(&mut self, event: Event) {
        let mut ring = self.ring.lock();
        if ring.events.len() == KEPT_MAX {
            ring.events.pop_front();
            ring.first += 1;
        }
        ring.events.push_back(event);
        self.has_more = true;
    }

    /// Wakes those who follow, once for all that was recorded since.
    pub(super) fn tell(&mut self) {
        if std::mem::take(&mut self.has_more) {
            let end = self.ring.lock().end();
            self.told.send_replace(end);
        }
    }
}

impl History {
    /// Where the next event will stand.
    #[must_use]
    pub fn end(&self) -> Place {
        self.ring.lock().end()
    }

    /// Where the oldest that is kept stands.
    #[must_use]
    pub fn oldest(&self) -> Place {
        self.ring.lock().first
    }

    /// The newest events before a place that are wanted, the newest first, at most `limit`.
    pub fn newest(&self, before: Place, limit: usize, mut wants: impl FnMut(&Event) -> bool) -> Vec<(Place, Event)> {
        let (mut found, mut at) = (Vec::new(), before);
        loop {
            let ring = self.ring.lock();
            let count = at.min(ring.end()).saturating_sub(ring.first) as usize;
            let part = count.saturating_sub(LOOKED_AT_MAX)..count;
            if part.is_empty() {
                return found;
            }
            at = ring.first + part.start as u64;
            for (offset, event) in ring.events.range(part).enumerate().rev() {
                if wants(event) {
                    if found.len() == limit {
                        return found;
                    }
                    found.push((at + offset as u64, event.clone()));
                }
            }
        }
    }

    /// What came since a place, at most `most` of it.
    #[must_use]
    pub fn since(&self, place: Place, most: usize) -> Since {
        let ring = self.ring.lock();
        let begin = place.clamp(ring.first, ring.end());
        let offset = (begin - ring.first) as usize;
        let part = offset..ring.events.len().min(offset + most);
        let next = ring.first + part.end as u64;
        let events = (begin..).zip(ring.events.range(part).cloned()).collect();
        Since { events, next, missed: begin.saturating_sub(place) }
    }

    /// The place of an event; where its name does not say of which life it is, the oldest of that name: better twice than never.
    #[must_use]
    pub fn place_of(&self, id: &EventId) -> Option<Place> {
        let ring = self.ring.lock();
        let offset = ring.events.iter().position(|event| id.is_of(event))?;
        Some(ring.first + offset as u64)
    }

    /// Whoever follows awaits its changes, then looks with [`History::since`]; an error: the node has ended, and one look is left.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Place> {
        self.told.clone()
    }

    /// Puts what was read from disk before all that came since, as far as there is room.
    fn put_before(&self, older: Vec<Event>) {
        let mut ring = self.ring.lock();
        let room = KEPT_MAX - ring.events.len();
        for event in older.into_iter().rev().take(room) {
            ring.events.push_front(event);
            ring.first -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::event;
    use super::*;

    fn seqs(found: &[(Place, Event)]) -> Vec<u64> {
        found.iter().map(|(_, event)| event.seq).collect()
    }

    #[test]
    fn the_newest_come_first_and_pages_follow_each_other() {
        let (mut recorder, history) = open();
        for seq in 1..=8000 {
            recorder.record(event("a", seq));
        }
        let odd = |event: &Event| event.seq % 2 == 1;
        let first = history.newest(Place::MAX, 3, odd);
        assert_eq!(seqs(&first), [7999, 7997, 7995]);
        let last = first.last().unwrap().0;
        assert_eq!(seqs(&history.newest(last, 2, odd)), [7993, 7991]);
        assert_eq!(history.newest(Place::MAX, 20_000, |_| true).len(), 8000);
        assert_eq!(seqs(&history.newest(Place::MAX, 9, |event| event.seq < 3)), [2, 1]);
        assert!(history.newest(FIRST, 9, |_| true).is_empty());
    }

    #[test]
    fn one_more_than_are_kept_lets_the_oldest_go_and_who_was_there_learns_it() {
        let (mut recorder, history) = open();
        let begin = history.end();
        for seq in 1..=KEPT_MAX as u64 + 5 {
            recorder.record(event("a", seq));
        }
        let since = history.since(begin, 2);
        assert_eq!((seqs(&since.events), since.missed), (vec![6, 7], 5));
        let since = history.since(since.next, KEPT_MAX);
        assert_eq!((since.events.len(), since.missed, since.next), (KEPT_MAX - 2, 0, history.end()));
        let nothing = history.since(since.next, 9);
        assert_eq!((nothing.events.len(), nothing.next), (0, since.next));
    }

    #[test]
    fn what_was_on_disk_comes_before_what_came_since_and_pushes_nothing_out() {
        let (mut recorder, history) = open();
        let begin = history.end();
        recorder.record(event("a", 9));
        history.put_before((1..=3).map(|seq| event("a", seq)).collect());
        assert_eq!(seqs(&history.newest(Place::MAX, 9, |_| true)), [9, 3, 2, 1]);
        assert_eq!(seqs(&history.since(begin, 9).events), [9]);
        history.put_before((1..=KEPT_MAX as u64).map(|seq| event("b", seq)).collect());
        let all = history.newest(Place::MAX, KEPT_MAX + 9, |_| true);
        assert_eq!((all.len(), all[0].1.seq, all[3].1.seq, all[4].1.seq), (KEPT_MAX, 9, 1, KEPT_MAX as u64));
    }

    #[test]
    fn an_event_is_found_by_its_id_and_of_two_lives_the_older() {
        let (mut recorder, history) = open();
        let other = Event { epoch: crate::model::Epoch(2), ..event("a", 1) };
        for event in [event("a", 1), event("a", 2), other.clone()] {
            recorder.record(event);
        }
        assert_eq!(history.place_of(&"n1-1".parse().unwrap()), Some(FIRST));
        assert_eq!(history.place_of(&EventId::of(&other)), Some(FIRST + 2));
        assert_eq!(history.place_of(&"n1-3".parse().unwrap()), None);
    }

    #[tokio::test]
    async fn a_follower_is_woken_once_a_round_and_ends_with_the_node() {
        let (mut recorder, history) = open();
        let mut told = history.follow();
        recorder.record(event("a", 1));
        assert!(!told.has_changed().unwrap(), "nobody is woken before the round ends");
        recorder.tell();
        told.changed().await.unwrap();
        drop(recorder);
        assert!(told.changed().await.is_err());
    }
}
