//! Time as the core sees it: plain numbers made by the caller, so that a simulator can forge them.

/// Milliseconds on this process's monotonic clock, from an origin of its own.
pub type Mono = u64;

/// The moment an input is handled at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Orders everything on this node; never compared with another node's.
    pub mono: Mono,
    /// The wall clock, in 1/64 ms since 1970: for people to read, and where the stamp clock starts. The last six bits are the monotonic
    /// clock's, which `mono` leaves out.
    pub wall: u64,
}

impl Now {
    /// What one millisecond is in [`Now::wall`].
    pub const WALL_A_MS: u64 = 64;

    /// The wall clock, in ms since 1970.
    #[must_use]
    pub fn wall_ms(self) -> u64 {
        self.wall / Self::WALL_A_MS
    }

    /// The monotonic clock, in 1/64 ms.
    pub(super) fn mono_fine(self) -> u64 {
        self.mono.saturating_mul(Self::WALL_A_MS).saturating_add(self.wall % Self::WALL_A_MS)
    }
}
