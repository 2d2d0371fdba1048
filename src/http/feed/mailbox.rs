//! A mailbox: how a stream learns which of its services have something new. It holds marks, never events.

use std::task::{Context, Waker};

use parking_lot::Mutex;

/// Where in its stream a service stands.
pub(in crate::http) type Place = u32;

/// One stream's marks. A place is marked once however often its service changes, so a slow stream costs no more than a fast one.
#[derive(Debug, Default)]
pub(in crate::http) struct Mailbox(Mutex<Marks>);

#[derive(Debug, Default)]
struct Marks {
    /// Marked places, in the order of their first mark; at most one entry a place.
    queue: std::collections::VecDeque<Place>,
    is_marked: Vec<bool>,
    waker: Option<Waker>,
}

impl Mailbox {
    /// Marks a place and wakes the stream.
    pub(in crate::http) fn mark(&self, place: Place) {
        let waker = {
            let mut marks = self.0.lock();
            if !marks.set(place) {
                return;
            }
            marks.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes the stream: something that concerns all streams has changed.
    pub(in crate::http) fn wake(&self) {
        if let Some(waker) = self.0.lock().waker.take() {
            waker.wake();
        }
    }

    /// The next marked place; its mark is gone.
    pub(in crate::http) fn take(&self) -> Option<Place> {
        let mut marks = self.0.lock();
        let place = marks.queue.pop_front()?;
        marks.is_marked[place as usize] = false;
        Some(place)
    }

    /// Asks to be woken. To be called before the last look at what one waits for.
    pub(in crate::http) fn listen(&self, context: &Context<'_>) {
        let mut marks = self.0.lock();
        if marks.waker.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
            marks.waker = Some(context.waker().clone());
        }
    }
}

impl Marks {
    /// False: it was marked.
    fn set(&mut self, place: Place) -> bool {
        let index = place as usize;
        if self.is_marked.len() <= index {
            self.is_marked.resize(index + 1, false);
        }
        let is_new = !self.is_marked[index];
        if is_new {
            self.is_marked[index] = true;
            self.queue.push_back(place);
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_marked_twice_is_taken_once_and_can_be_marked_again() {
        let mailbox = Mailbox::default();
        for place in [3, 1, 3, 1, 3] {
            mailbox.mark(place);
        }
        assert_eq!([mailbox.take(), mailbox.take(), mailbox.take()], [Some(3), Some(1), None]);
        mailbox.mark(3);
        assert_eq!([mailbox.take(), mailbox.take()], [Some(3), None]);
    }
}
