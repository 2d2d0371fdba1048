//! The link to the bus: only hearing one's own beacon proves that it carries what one says.

use super::time::Mono;

/// Without an own echo for this long the node is deaf.
const DEAF_MS: u64 = 3000;
/// A deaf node asks for a new connection this often.
const RECONNECT_MS: u64 = 3000;
/// One that never received an own beacon may be on a long line: the next connection has twice as long each time, up to this.
const FIRST_ECHO_MS_MAX: u64 = 12_000;

/// How the bus is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BusHealth {
    /// This node is alone by configuration.
    None,
    /// Own beacons come back.
    Up,
    /// Connected, but own beacons do not come back.
    Deaf,
    /// Not connected.
    Down,
}

impl BusHealth {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::None, Self::Up, Self::Deaf, Self::Down];

    /// The word of the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Up => "up",
            Self::Deaf => "deaf",
            Self::Down => "down",
        }
    }
}

pub(super) struct Link {
    has_bus: bool,
    /// Since when the client is connected.
    connected_at: Option<Mono>,
    /// Of this connection or an earlier one.
    last_echo: Option<Mono>,
    /// The first on this connection.
    echo_since: Option<Mono>,
    started_at: Mono,
    reconnect_at: Option<Mono>,
    /// It was connected once.
    has_connected: bool,
    /// How long a connection has for its first own beacon, while none has brought any.
    first_echo_ms: u64,
}

impl Link {
    pub(super) fn new(has_bus: bool, now: Mono) -> Self {
        Self {
            has_bus,
            connected_at: None,
            last_echo: None,
            echo_since: None,
            started_at: now,
            reconnect_at: None,
            has_connected: false,
            first_echo_ms: DEAF_MS,
        }
    }

    pub(super) fn has_bus(&self) -> bool {
        self.has_bus
    }

    pub(super) fn connected(&mut self, now: Mono) {
        self.connected_at = Some(now);
        self.has_connected = true;
        self.echo_since = None;
        self.reconnect_at = Some(now + if self.last_echo.is_some() { DEAF_MS } else { self.first_echo_ms });
    }

    /// This node did not run for so long: that it heard nothing of itself says nothing of the bus.
    pub(super) fn shift(&mut self, ms: Mono) {
        self.reconnect_at = self.reconnect_at.map(|at| at + ms);
    }

    pub(super) fn disconnected(&mut self) {
        self.connected_at = None;
        self.echo_since = None;
        self.reconnect_at = None;
    }

    /// An own beacon came back; says whether it is the first of this connection or after deafness.
    pub(super) fn echoed(&mut self, now: Mono) -> bool {
        // An echo without a connection is one that was on its way when it ended.
        if self.connected_at.is_none() {
            return false;
        }
        self.last_echo = Some(now);
        self.reconnect_at = Some(now + DEAF_MS);
        let is_first = self.echo_since.is_none();
        self.echo_since.get_or_insert(now);
        is_first
    }

    /// Since when the client is connected, whether or not anything comes; `None`: it is not.
    pub(super) fn connected_since(&self) -> Option<Mono> {
        self.connected_at
    }

    /// The client was connected once: where its own beacons do not come back, they may be on their way.
    pub(super) fn has_connected(&self) -> bool {
        self.has_connected
    }

    /// Own beacons come back since then.
    pub(super) fn hears_since(&self) -> Option<Mono> {
        self.echo_since
    }

    pub(super) fn health(&self) -> BusHealth {
        match (self.has_bus, self.connected_at, self.echo_since) {
            (false, _, _) => BusHealth::None,
            (true, None, _) => BusHealth::Down,
            (true, Some(_), None) => BusHealth::Deaf,
            (true, Some(_), Some(_)) => BusHealth::Up,
        }
    }

    /// When the bus was last heard, where it is not heard now.
    pub(super) fn unheard_since(&self) -> Option<Mono> {
        match self.health() {
            BusHealth::None | BusHealth::Up => None,
            BusHealth::Deaf | BusHealth::Down => Some(self.last_echo.unwrap_or(self.started_at)),
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.reconnect_at
    }

    /// The node has been deaf for 3 s, or 3 s more: it is to connect anew. Says whether it has just become so.
    pub(super) fn is_deaf_now(&mut self, now: Mono) -> Option<bool> {
        if self.reconnect_at.is_none_or(|at| at > now) {
            return None;
        }
        self.reconnect_at = Some(now + RECONNECT_MS);
        self.first_echo_ms = (self.first_echo_ms * 2).min(FIRST_ECHO_MS_MAX);
        Some(self.echo_since.take().is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connected_is_not_heard() {
        let mut link = Link::new(true, 0);
        assert_eq!(link.health(), BusHealth::Down);
        link.connected(10);
        assert_eq!(link.health(), BusHealth::Deaf);
        assert!(link.echoed(20));
        assert!(!link.echoed(1020));
        assert_eq!(link.health(), BusHealth::Up);
        assert_eq!(link.is_deaf_now(4019), None);
        assert_eq!(link.is_deaf_now(4020), Some(true));
        assert_eq!((link.health(), link.unheard_since()), (BusHealth::Deaf, Some(1020)));
        assert_eq!(link.is_deaf_now(7020), Some(false));
    }

    #[test]
    fn a_line_that_never_carried_an_echo_has_longer_for_it_each_time() {
        let mut link = Link::new(true, 0);
        let mut now = 0;
        let waits = [3000, 6000, 12_000, 12_000].map(|_| {
            link.connected(now);
            let began = now;
            while link.is_deaf_now(now).is_none() {
                now += 100;
            }
            now - began
        });
        assert_eq!(waits, [3000, 6000, 12_000, 12_000]);
        link.connected(now);
        link.echoed(now + 5000);
        link.connected(now + 5000);
        assert_eq!((link.is_deaf_now(now + 7900), link.is_deaf_now(now + 8000)), (None, Some(false)));
    }
}
