//! The pace of a pull: how much one answer is to carry, how many may be on their way, and when to ask again, by how soon answers come.
//!
//! As delay-based congestion control does it (TCP Vegas, LEDBAT): while answers take about as long as the quickest did, more is asked for;
//! once they take longer, they wait in a queue on the way, and less is. So a thin line gets small answers, one at a time, and its queue
//! stays below about a second, where beacons wait too; a long, fat one gets several large ones.

use super::serve::ANSWER_BYTES_MAX;

/// What the first answers are to carry.
const BYTES_FIRST: usize = 16 * 1024;
/// Less is not asked for: at this size the question, the frame and its round trip weigh as much as the records.
const BYTES_MIN: usize = 4 * 1024;
const IN_FLIGHT_FIRST: usize = 2;
/// As many of the largest answers as fill a line of 4 MiB/s and 300 ms.
const IN_FLIGHT_MAX: usize = 8;
/// An answer that takes at most this much longer than the quickest is in time.
const IN_TIME_MS: u64 = 250;
/// One that takes this much longer waited in a queue.
const LATE_MS: u64 = 750;
/// Without an answer for so long a question is asked again, where nothing is known of the line yet, and at the most.
const AGAIN_MS: (u64, u64) = (1000, 8000);

#[derive(Debug, Clone)]
pub(super) struct Pace {
    bytes: usize,
    in_flight: usize,
    /// What the quickest answers take; `None` before the first.
    least_ms: Option<u64>,
    /// What answers take lately.
    lately_ms: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { bytes: BYTES_FIRST, in_flight: IN_FLIGHT_FIRST, least_ms: None, lately_ms: 0 }
    }
}

impl Pace {
    /// How much an answer is to carry.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many answers may be on their way.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How long to wait for an answer before the question is asked again.
    pub(super) fn again_ms(&self) -> u64 {
        let (least, most) = AGAIN_MS;
        (2 * self.lately_ms + least / 2).clamp(least, most)
    }

    /// An answer of so many bytes came, after so long, to a question that was asked once for `asked_bytes`.
    pub(super) fn answered(&mut self, took_ms: u64, bytes: usize, asked_bytes: usize) {
        let least_ms = self.least_ms.map_or(took_ms, |least| if took_ms < least { took_ms } else { least + (took_ms - least) / 16 });
        let over_ms = took_ms - self.least_ms.map_or(took_ms, |least| least.min(took_ms));
        self.lately_ms = if self.least_ms.is_none() { took_ms } else { (3 * self.lately_ms + took_ms) / 4 };
        self.least_ms = Some(least_ms);
        if over_ms > LATE_MS {
            self.slow_down();
        } else if over_ms <= IN_TIME_MS && bytes >= asked_bytes / 2 {
            self.speed_up();
        }
    }

    /// A question had to be asked again. Its answer says nothing of the line (Karn's algorithm), so the next one is waited for longer.
    pub(super) fn unanswered(&mut self) {
        self.lately_ms = self.lately_ms.max(self.again_ms());
        self.slow_down();
    }

    /// What went unanswered says nothing of the line: it was not there.
    pub(super) fn forget_unanswered(&mut self) {
        self.lately_ms = self.least_ms.unwrap_or(0);
    }

    fn speed_up(&mut self) {
        if self.bytes < ANSWER_BYTES_MAX {
            self.bytes = (self.bytes * 2).min(ANSWER_BYTES_MAX);
        } else {
            self.in_flight = (self.in_flight + 1).min(IN_FLIGHT_MAX);
        }
    }

    fn slow_down(&mut self) {
        if self.in_flight > 1 {
            self.in_flight /= 2;
        } else {
            self.bytes = (self.bytes / 2).max(BYTES_MIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays a line: so long there and back, so much each second; gives what is on its way in the end.
    fn on_a_line(round_trip_ms: u64, bytes_a_ms: usize) -> (usize, usize) {
        let mut pace = Pace::default();
        for _ in 0..200 {
            let queued = (pace.bytes() * pace.in_flight() / bytes_a_ms) as u64;
            pace.answered(round_trip_ms.max(queued), pace.bytes(), pace.bytes());
        }
        (pace.bytes(), pace.in_flight())
    }

    #[test]
    fn a_long_fat_line_gets_several_large_answers() {
        assert_eq!(on_a_line(300, 100_000), (ANSWER_BYTES_MAX, IN_FLIGHT_MAX));
        assert_eq!(on_a_line(2000, 100_000), (ANSWER_BYTES_MAX, IN_FLIGHT_MAX));
    }

    #[test]
    fn a_thin_line_gets_as_much_as_passes_it_in_about_a_second() {
        for bytes_a_ms in [25, 250] {
            let (bytes, in_flight) = on_a_line(20, bytes_a_ms);
            let queued_ms = bytes * in_flight / bytes_a_ms;
            assert!(queued_ms < 2500, "{bytes_a_ms} bytes a ms: {in_flight} of {bytes} are {queued_ms} ms of it");
        }
    }

    #[test]
    fn what_is_not_answered_is_asked_again_later_where_answers_take_longer() {
        let mut pace = Pace::default();
        assert_eq!(pace.again_ms(), 1000);
        pace.answered(2200, 1, 1);
        assert_eq!(pace.again_ms(), 4900);
        (0..20).for_each(|_| pace.unanswered());
        assert_eq!((pace.bytes(), pace.in_flight()), (BYTES_MIN, 1));
    }
}
