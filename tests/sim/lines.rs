//! Lines: between some nodes and the bus it is far, or little fits through, and what waits to pass stands in a queue for each direction.

/// What a node's line to the bus is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    /// One way.
    pub(crate) delay_ms: u64,
    /// In each direction; 0: as much as comes.
    pub(crate) bytes_a_s: u64,
    /// In microseconds: until then each direction is busy with what it was given.
    busy_until_us: [u64; 2],
    queue_ms_max: u64,
}

/// Whether a frame goes to the bus or comes from it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Direction {
    Out,
    In,
}

/// What would wait longer than this is lost: nobody's buffers hold more.
const QUEUE_MS_MAX: u64 = 10_000;

impl Line {
    pub(crate) fn new(delay_ms: u64, bytes_a_s: u64) -> Self {
        Self { delay_ms, bytes_a_s, busy_until_us: [0; 2], queue_ms_max: QUEUE_MS_MAX }
    }

    /// What would wait longer than this is lost.
    pub(crate) fn with_queue_ms(self, queue_ms_max: u64) -> Self {
        Self { queue_ms_max, ..self }
    }

    /// When a frame that comes to the line at `at_ms` has passed it; `None`: its queue is full.
    pub(crate) fn pass(&mut self, direction: Direction, bytes: usize, at_ms: u64) -> Option<u64> {
        if self.bytes_a_s == 0 {
            return Some(at_ms + self.delay_ms);
        }
        let busy_until = &mut self.busy_until_us[direction as usize];
        let begins = (at_ms * 1000).max(*busy_until);
        if begins > (at_ms + self.queue_ms_max) * 1000 {
            return None;
        }
        *busy_until = begins + bytes as u64 * 1_000_000 / self.bytes_a_s;
        Some(busy_until.div_ceil(1000) + self.delay_ms)
    }
}
