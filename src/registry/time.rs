//! Time as the core sees it: plain numbers made by the caller, so that a simulator can forge them.

/// Milliseconds on this process's monotonic clock, from an origin of its own.
pub type Mono = u64;

/// The moment an input is handled at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Orders everything on this node; never compared with another node's.
    pub mono: Mono,
    /// Milliseconds since 1970, for people to read; never compared with anything.
    pub wall: u64,
}
