//! Announcing: the beacon that this node sends every second, by which others know how it is.

use super::io::Output;
use super::message::{Beacon, Message, To};
use super::time::Now;
use super::{BEACON_EVERY_MS, Outbox, Registry};

impl Registry {
    pub(super) fn send_beacon(&mut self, now: Now, out: &mut Outbox) {
        self.next_beacon = now.mono + self.rng.around(BEACON_EVERY_MS);
        let beacon = Beacon {
            head: self.log.head(),
            state: self.state,
            records: self.shown_count(),
            digest: self.store.live().total(),
            view_digest: self.store.catalog().view_digest(),
            http: self.settings.http.clone(),
            applied: self.applied.to_said(&self.life, now.mono),
            withdrawn_digest: self.store.withdrawn().total(),
            overrides_digest: self.shared.digest(),
            complete: self.complete,
            preserving: self.is_preserving(),
            gives_way: self.gives_way(),
            members: self.peers.members.to_said(|node| self.peers.refuses(node, now.mono), now.mono),
            audience: self.audience.to_said(),
            stamp: self.stamp(now),
            settling_ms: self.to_settling(now),
            takes_sized_pulls: true,
        };
        out.push(Output::Send(To::All, Message::Beacon(beacon)));
    }
}
