//! The audience: who holds an open stream or a long poll at this node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use parking_lot::Mutex;

use super::delivery::{Receipt, is_told};
use super::mailbox::Mailbox;
use crate::http::outlet::Outlet;
use crate::model::{InstanceKey, Selection, ServiceKey, Subscriber};
use crate::registry::{Interest, View, WATCHERS_MAX, Watcher};

/// Everyone who is here.
#[derive(Debug, Default)]
pub(in crate::http) struct Audience(Mutex<Seats>);

#[derive(Debug, Default)]
struct Seats {
    /// One for each stream and for each thing that a connection polls: as many as streams and connections are allowed.
    taken: BTreeMap<u64, Arc<Seat>>,
    tickets: u64,
    /// Grows when somebody comes or goes.
    changes: u64,
}

/// A subscriber's place: where it is asked whether something has been sent to it.
#[derive(Debug)]
pub(in crate::http) struct Seat {
    watcher: Watcher,
    selection: Selection,
    kind: Kind,
    questions: Mutex<Vec<Question>>,
    is_asked: AtomicBool,
}

#[derive(Debug)]
enum Kind {
    /// A stream, which is woken by this.
    Stream(Arc<Mailbox>),
    /// What a connection polls, again and again.
    Poll(Mutex<Polled>),
}

/// How far a poll is.
#[derive(Debug, Default)]
struct Polled {
    /// Requests that are held.
    held: usize,
    /// What was answered last, and what must have left the outlet for it to be sent. It counts until the next is held.
    answered: Option<Answered>,
}

#[derive(Debug)]
struct Answered {
    view: Arc<View>,
    outlet: Option<Arc<Outlet>>,
    mark: u64,
}

/// Has this subscriber been sent what the instance is now?
#[derive(Debug)]
struct Question {
    key: InstanceKey,
    receipt: Receipt,
}

/// A seat that is taken; free again when this is dropped.
#[derive(Debug)]
pub(in crate::http) struct Seated {
    audience: Arc<Audience>,
    ticket: u64,
    seat: Arc<Seat>,
}

/// A poll that is held; over when this is dropped.
#[derive(Debug)]
pub(in crate::http) struct Held(Arc<Seat>);

impl Audience {
    /// Takes a seat for a stream.
    pub(in crate::http) fn seat_stream(self: &Arc<Self>, watcher: Watcher, selection: Selection, mailbox: Arc<Mailbox>) -> Seated {
        self.seat(watcher, selection, Kind::Stream(mailbox))
    }

    /// Takes a seat for what a connection polls.
    pub(in crate::http) fn seat_poll(self: &Arc<Self>, watcher: Watcher, selection: Selection) -> Seated {
        self.seat(watcher, selection, Kind::Poll(Mutex::default()))
    }

    fn seat(self: &Arc<Self>, watcher: Watcher, selection: Selection, kind: Kind) -> Seated {
        let seat = Arc::new(Seat { watcher, selection, kind, questions: Mutex::default(), is_asked: AtomicBool::new(false) });
        let mut seats = self.0.lock();
        seats.tickets += 1;
        seats.changes += 1;
        let ticket = seats.tickets;
        seats.taken.insert(ticket, Arc::clone(&seat));
        Seated { audience: Arc::clone(self), ticket, seat }
    }

    /// Those who follow or poll this service.
    pub(in crate::http) fn seats_of(&self, service: &ServiceKey) -> Vec<Arc<Seat>> {
        self.0.lock().taken.values().filter(|seat| seat.watcher.interest.includes(service)).cloned().collect()
    }

    /// Grows when somebody comes or goes.
    pub(in crate::http) fn changes(&self) -> u64 {
        self.0.lock().changes
    }

    /// Everyone, as far as others are told, and how many there are.
    pub(in crate::http) fn watchers(&self) -> (Vec<Watcher>, u64) {
        let seats = self.0.lock();
        (seats.taken.values().take(WATCHERS_MAX).map(|seat| seat.watcher.clone()).collect(), seats.taken.len() as u64)
    }
}

impl Seat {
    /// It is for the same as another one would be.
    pub(in crate::http) fn is_for(&self, interest: &Interest, selection: &Selection) -> bool {
        *self.watcher.interest == *interest && self.selection == *selection
    }

    pub(in crate::http) fn selection(&self) -> &Selection {
        &self.selection
    }

    pub(in crate::http) fn subscriber(&self) -> &Subscriber {
        &self.watcher.subscriber
    }

    /// Whether it counts: a poll does while it is held, and where what it was answered last is this.
    pub(super) fn is_here(&self, key: &InstanceKey, view: &View) -> bool {
        match &self.kind {
            Kind::Stream(_) => true,
            Kind::Poll(polled) => {
                let polled = polled.lock();
                polled.held > 0 || polled.answered.as_ref().is_some_and(|answered| is_told(&self.selection, &answered.view, view, &key.id))
            }
        }
    }

    /// Asks it; the receipt is given back once it has been sent what the instance is.
    pub(super) fn ask(&self, key: &InstanceKey, view: &View, receipt: Receipt) {
        match &self.kind {
            Kind::Stream(mailbox) => {
                self.remember(key, receipt);
                mailbox.wake();
            }
            Kind::Poll(polled) => {
                // Held over both looks: an answer that is given meanwhile would see no question.
                let polled = polled.lock();
                match polled.answered.as_ref().filter(|answered| is_told(&self.selection, &answered.view, view, &key.id)) {
                    Some(answered) => answered.keep(receipt),
                    None => self.remember(key, receipt),
                }
            }
        }
    }

    fn remember(&self, key: &InstanceKey, receipt: Receipt) {
        self.questions.lock().push(Question { key: key.clone(), receipt });
        self.is_asked.store(true, SeqCst);
    }

    /// Takes the receipts of the questions that are answered by now.
    pub(in crate::http) fn take_answered(&self, is_told: impl Fn(&InstanceKey) -> bool) -> Vec<Receipt> {
        if !self.is_asked.load(SeqCst) {
            return Vec::new();
        }
        let mut questions = self.questions.lock();
        let (told, rest) = std::mem::take(&mut *questions).into_iter().partition::<Vec<_>, _>(|question| is_told(&question.key));
        self.is_asked.store(!rest.is_empty(), SeqCst);
        *questions = rest;
        told.into_iter().map(|question| question.receipt).collect()
    }
}

impl Answered {
    fn keep(&self, receipt: Receipt) {
        match &self.outlet {
            Some(outlet) => outlet.keep(self.mark, receipt),
            None => receipt.sent(),
        }
    }
}

impl Seated {
    /// The seat.
    pub(in crate::http) fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    /// Begins a poll of this seat, of somebody who has what is current: whatever was asked about that is answered.
    pub(in crate::http) fn hold(&self, has_current: bool) -> Held {
        if let Kind::Poll(polled) = &self.seat.kind {
            let mut polled = polled.lock();
            polled.held += 1;
            polled.answered = None;
            if has_current {
                self.seat.take_answered(|_| true).into_iter().for_each(Receipt::sent);
            }
        }
        Held(Arc::clone(&self.seat))
    }
}

impl Held {
    /// It is answered from this view: sent once so much has left the outlet. `newest` is what holds now.
    pub(in crate::http) fn answer(&self, view: &Arc<View>, newest: &View, outlet: Option<(Arc<Outlet>, u64)>) {
        let Kind::Poll(polled) = &self.0.kind else { return };
        let (outlet, mark) = outlet.unzip();
        let answered = Answered { view: Arc::clone(view), outlet, mark: mark.unwrap_or_default() };
        let mut polled = polled.lock();
        for receipt in self.0.take_answered(|key| is_told(&self.0.selection, view, newest, &key.id)) {
            answered.keep(receipt);
        }
        polled.answered = Some(answered);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Kind::Poll(polled) = &self.0.kind {
            // What was asked and is not answered yet stays so until it polls again, or its connection ends.
            polled.lock().held -= 1;
        }
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        let mut seats = self.audience.0.lock();
        seats.taken.remove(&self.ticket);
        seats.changes += 1;
        drop(seats);
        // Whoever asked need not wait for one that has gone.
        drop(self.seat.take_answered(|_| true));
    }
}
