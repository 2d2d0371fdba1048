//! Health: how far this node can rely on itself. One that is late, or was stopped, doubts itself before it blames others (Lifeguard: Dadgar,
//! Phillips, Currey 2018).

use super::io::Output;
use super::message::NodeState;
use super::notice::Notice;
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::NodeName;

/// It looks at its own clock this often.
const TICK_MS: u64 = 500;
/// A look that comes so much later than it should is a sign of strain; a look in time takes one sign back.
const LATE_MS: u64 = 250;
/// How many signs are counted: verdicts wait up to 1 + 7 times as long.
const STRAIN_MAX: u32 = 7;
/// From this multiplier on nothing expires.
const POOR: u32 = 4;
/// A node that did not run for so long was stopped.
const PAUSE_MS: u64 = 2000;
/// After a stop it pulls first; when nobody answers for this long it goes on without.
const RETURN_MS: u64 = 3000;

pub(super) struct Health {
    /// When anything happened here last.
    last_seen: Mono,
    next_tick: Mono,
    /// 0 to [`STRAIN_MAX`].
    strain: u32,
    returning: Option<Returning>,
}

/// The node was stopped, runs again, and has not yet heard what it missed.
struct Returning {
    since: Mono,
    until: Mono,
    /// The peer that is being compared with.
    with: Option<NodeName>,
}

impl Health {
    pub(super) fn new(now: Mono) -> Self {
        Self { last_seen: now, next_tick: now + TICK_MS, strain: 0, returning: None }
    }

    /// How much longer than usual verdicts are to wait: 1 to 8.
    pub(super) fn multiplier(&self) -> u32 {
        1 + self.strain
    }

    /// So late that nothing is to expire.
    pub(super) fn is_poor(&self) -> bool {
        self.multiplier() >= POOR
    }

    pub(super) fn is_returning(&self) -> bool {
        self.returning.is_some()
    }

    /// When the stop ended whose misses are not made up for yet.
    pub(super) fn returning_since(&self) -> Option<Mono> {
        self.returning.as_ref().map(|returning| returning.since)
    }

    pub(super) fn next_deadline(&self) -> Mono {
        self.next_tick
    }

    /// Something happens now; says for how long nothing did, where that was a stop.
    fn see(&mut self, now: Mono) -> Option<u64> {
        let gap = now.saturating_sub(self.last_seen);
        self.last_seen = now;
        (gap > PAUSE_MS).then_some(gap)
    }

    fn tick(&mut self, now: Mono) {
        if now < self.next_tick {
            return;
        }
        let is_late = now >= self.next_tick + LATE_MS;
        self.strain = if is_late { (self.strain + 1).min(STRAIN_MAX) } else { self.strain.saturating_sub(1) };
        self.next_tick = now + TICK_MS;
    }
}

impl Registry {
    /// To be called before anything else whenever anything happens: a node that was stopped must not act on what it believed before.
    pub(super) fn notice_time(&mut self, now: Now, out: &mut Outbox) {
        if let Some(gap_ms) = self.health.see(now.mono) {
            self.resume_after(gap_ms, now, out);
        }
        self.health.tick(now.mono);
    }

    fn resume_after(&mut self, gap_ms: u64, now: Now, out: &mut Outbox) {
        out.push(Output::Noticed(Notice::Paused { ms: gap_ms }));
        if gap_ms > super::applied::FORGET_AFTER_MS {
            self.become_newborn(now, out);
            return;
        }
        // Silence while nobody listened proves nothing, of providers and of peers.
        self.unrenewed.pause(gap_ms);
        self.hears_majority.since = Some(now.mono);
        self.peers.shift(gap_ms);
        self.link.shift(gap_ms);
        self.relays.forget_unanswered();
        self.repair.forget_all();
        self.begin_return(now.mono);
    }

    /// What was missed is pulled before anything expires or is published. With nobody to ask there is nothing to wait for.
    pub(super) fn begin_return(&mut self, now: Mono) {
        if self.state == NodeState::Ready && self.peers.alive(now).next().is_some() {
            self.health.returning = Some(Returning { since: now, until: now + RETURN_MS, with: None });
        }
    }

    pub(super) fn advance_return(&mut self, now: Now, out: &mut Outbox) {
        let Some(returning) = &self.health.returning else { return };
        if now.mono >= returning.until {
            self.health.returning = None;
            return;
        }
        if returning.with.as_ref().is_some_and(|peer| self.repair.is_answered(peer, now.mono)) {
            return;
        }
        let free = |(node, peer): &(&NodeName, &super::peers::Peer)| peer.is_ready() && self.repair.is_free(node, now.mono);
        let candidates: Vec<NodeName> = self.peers.alive(now.mono).filter(free).map(|(node, _)| node.clone()).collect();
        let Some(peer) = self.rng.pick(candidates) else { return };
        self.compare(&peer, false, now, out);
        if let Some(returning) = &mut self.health.returning {
            returning.with = Some(peer);
        }
    }

    /// Everything that this peer had has been pulled from it.
    pub(super) fn has_caught_up(&mut self, peer: &NodeName) {
        if self.health.returning.as_ref().is_some_and(|returning| returning.with.as_ref() == Some(peer)) {
            self.health.returning = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_ticks_strain_and_ticks_in_time_relieve() {
        let mut health = Health::new(0);
        let mut now = 0;
        for _ in 0..20 {
            now += TICK_MS + LATE_MS;
            health.tick(now);
        }
        assert_eq!((health.multiplier(), health.is_poor()), (8, true));
        for _ in 0..5 {
            now += TICK_MS;
            health.tick(now);
        }
        assert_eq!((health.multiplier(), health.is_poor()), (3, false));
    }

    #[test]
    fn only_a_long_silence_is_a_stop() {
        let mut health = Health::new(0);
        assert_eq!((health.see(2000), health.see(4001), health.see(4001)), (None, Some(2001), None));
    }
}
