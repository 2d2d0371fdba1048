//! Relays: heartbeats that came to another node than the owner, gathered and passed on to it.
//!
//! Ownership does not move for them: a load balancer in front of the nodes must cost a few bytes, not a change a heartbeat.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Output;
use super::message::{Message, RELAY_MAX, Renewal, To};
use super::record::{Record, content_digest};
use super::time::Mono;
use crate::model::{Incarnation, InstanceKey, NodeName, Registration};

/// How long heartbeats are gathered before they are passed on.
const GATHER_MS: u64 = 200;
/// About how much one relay carries, well below a frame's 256 KiB.
const RELAY_BYTES_MAX: usize = 160 * 1024;
/// What a renewal takes besides its names.
const RENEWAL_BYTES: usize = 48;
/// A relay counts as unanswered after this long.
const UNANSWERED_MS: u64 = 1000;
/// An answer that comes later than this is dropped.
const TICKET_MS: u64 = 10_000;
/// With two relays unanswered for this long, the owner counts as out of reach.
const STUCK_MS: u64 = 3000;
const STUCK_COUNT: u32 = 2;
/// How many relays to one owner may be on their way; past it the oldest counts as unanswered.
const IN_FLIGHT_MAX: usize = 64;

/// How many heartbeats for leases held elsewhere are remembered; one more is relayed all the same, and cannot undo a withdrawal.
const HEARD_MAX: usize = 1 << 20;
/// Those whose time is over are forgotten this often.
const HEARD_FORGET_MS: u64 = 10_000;

#[derive(Default)]
pub(super) struct Relays {
    lanes: BTreeMap<NodeName, Lane>,
    /// The last heartbeats that were answered here for leases held elsewhere: whoever withdraws one of these could not know.
    heard: BTreeMap<InstanceKey, Heard>,
    next_forget: Mono,
}

struct Heard {
    beat: Beat,
    /// So long it counts: for the ttl.
    until: Mono,
}

/// What is on its way to one owner.
#[derive(Default)]
struct Lane {
    gathered: BTreeMap<InstanceKey, Beat>,
    gathered_bytes: usize,
    /// When what is gathered leaves; `None` while nothing is.
    leaves_at: Option<Mono>,
    in_flight: BTreeMap<u64, Flight>,
    unanswered: u32,
    /// When the first of the unanswered left.
    unanswered_since: Option<Mono>,
}

/// A heartbeat that is to be relayed.
#[derive(Debug, Clone)]
pub(super) struct Beat {
    pub(super) incarnation: Incarnation,
    pub(super) digest: Option<u128>,
    pub(super) at: Mono,
}

impl Beat {
    /// It renews what this record says: the same life, with the same content.
    pub(super) fn is_of(&self, record: &Record) -> bool {
        let is_same = |registration: &Arc<Registration>| self.digest.is_none_or(|digest| digest == content_digest(registration));
        self.incarnation == record.version.incarnation && record.registration().is_some_and(is_same)
    }
}

struct Flight {
    sent_at: Mono,
    counted: bool,
    beats: Vec<(InstanceKey, Beat)>,
}

impl Relays {
    /// Remembers a heartbeat that is answered here and whose lease is held elsewhere.
    pub(super) fn note_heard(&mut self, key: &InstanceKey, beat: &Beat, ttl_ms: u64) {
        if self.heard.len() < HEARD_MAX || self.heard.contains_key(key) {
            self.heard.insert(key.clone(), Heard { beat: beat.clone(), until: beat.at + ttl_ms });
        }
    }

    /// The last heartbeat for this that was answered here, while it counts; it is asked for once.
    pub(super) fn take_heard(&mut self, key: &InstanceKey, now: Mono) -> Option<Beat> {
        self.heard.remove(key).filter(|heard| now <= heard.until).map(|heard| heard.beat)
    }

    pub(super) fn forget_heard(&mut self, now: Mono) {
        if now >= self.next_forget {
            self.next_forget = now + HEARD_FORGET_MS;
            self.heard.retain(|_, heard| heard.until >= now);
        }
    }

    /// This node did not run for a while: what was not answered meanwhile says nothing of the owners.
    pub(super) fn forget_unanswered(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.in_flight.clear();
            lane.unanswered = 0;
            lane.unanswered_since = None;
        }
    }

    /// The bus is back: what was not answered while it was away says nothing of the owners. A late answer still counts.
    pub(super) fn forgive_unanswered(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.in_flight.values_mut().for_each(|flight| flight.counted = true);
            lane.unanswered = 0;
            lane.unanswered_since = None;
        }
    }

    /// Gathers a heartbeat for its owner; a full load leaves at once.
    pub(super) fn gather(
        &mut self,
        owner: &NodeName,
        key: InstanceKey,
        beat: Beat,
        now: Mono,
        ticket: impl FnOnce() -> u64,
        out: &mut Vec<Output>,
    ) {
        let lane = self.lanes.entry(owner.clone()).or_default();
        lane.gathered_bytes += key.size_bytes() + RENEWAL_BYTES;
        lane.gathered.insert(key, beat);
        lane.leaves_at.get_or_insert(now + GATHER_MS);
        if lane.gathered.len() >= RELAY_MAX || lane.gathered_bytes >= RELAY_BYTES_MAX {
            lane.leave(owner, now, ticket(), out);
        }
    }

    /// Two relays to this owner have gone unanswered for 3 s.
    pub(super) fn is_stuck(&self, owner: &NodeName, now: Mono) -> bool {
        self.lanes
            .get(owner)
            .is_some_and(|lane| lane.unanswered >= STUCK_COUNT && lane.unanswered_since.is_some_and(|since| since + STUCK_MS <= now))
    }

    /// The heartbeats that this answer of `owner` is about; empty where nothing was asked, or too long ago.
    pub(super) fn answered(&mut self, owner: &NodeName, ticket: u64) -> Vec<(InstanceKey, Beat)> {
        let Some(lane) = self.lanes.get_mut(owner) else { return Vec::new() };
        let Some(flight) = lane.in_flight.remove(&ticket) else { return Vec::new() };
        lane.unanswered = 0;
        lane.unanswered_since = None;
        flight.beats
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let leave = self.lanes.values().filter_map(|lane| lane.leaves_at);
        let count = self.lanes.values().flat_map(|lane| lane.in_flight.values()).map(Flight::next_deadline);
        leave.chain(count).min()
    }

    pub(super) fn advance(&mut self, now: Mono, mut ticket: impl FnMut() -> u64, out: &mut Vec<Output>) {
        for (owner, lane) in &mut self.lanes {
            lane.count_unanswered(now);
            if lane.leaves_at.is_some_and(|at| at <= now) {
                lane.leave(owner, now, ticket(), out);
            }
        }
        self.lanes.retain(|_, lane| {
            lane.leaves_at.is_some() || !lane.in_flight.is_empty() || lane.unanswered_since.is_some_and(|since| since + TICKET_MS > now)
        });
    }
}

impl Lane {
    fn leave(&mut self, owner: &NodeName, now: Mono, ticket: u64, out: &mut Vec<Output>) {
        self.leaves_at = None;
        self.gathered_bytes = 0;
        let beats: Vec<_> = std::mem::take(&mut self.gathered).into_iter().collect();
        let to_renewal = |(key, beat): &(InstanceKey, Beat)| Renewal {
            key: key.clone(),
            incarnation: beat.incarnation,
            digest: beat.digest,
            age_ms: u32::try_from(now.saturating_sub(beat.at)).unwrap_or(u32::MAX),
        };
        let renewals = beats.iter().map(to_renewal).collect();
        if self.in_flight.len() >= IN_FLIGHT_MAX {
            self.in_flight.pop_first();
            self.count_one(now);
        }
        self.in_flight.insert(ticket, Flight { sent_at: now, counted: false, beats });
        out.push(Output::Send(To::Node(owner.clone()), Message::Relay { ticket, renewals }));
    }

    fn count_unanswered(&mut self, now: Mono) {
        let late: Vec<_> = self.in_flight.values_mut().filter(|flight| !flight.counted && flight.sent_at + UNANSWERED_MS <= now).collect();
        let mut sent: Vec<Mono> = Vec::with_capacity(late.len());
        for flight in late {
            flight.counted = true;
            sent.push(flight.sent_at);
        }
        for sent_at in sent {
            self.count_one(sent_at);
        }
        self.in_flight.retain(|_, flight| flight.sent_at + TICKET_MS > now);
    }

    fn count_one(&mut self, sent_at: Mono) {
        self.unanswered += 1;
        self.unanswered_since.get_or_insert(sent_at);
    }
}

impl Flight {
    fn next_deadline(&self) -> Mono {
        self.sent_at + if self.counted { TICKET_MS } else { UNANSWERED_MS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{InstanceId, Namespace, ServiceKey, ServiceName};

    #[test]
    fn what_was_not_answered_while_the_bus_was_away_says_nothing_of_the_owner() {
        let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
        let (owner, key) = (NodeName::parse("n2").unwrap(), InstanceKey { service, id: InstanceId::parse("a").unwrap() });
        let mut relays = Relays::default();
        for ticket in 0..5 {
            let (now, mut out) = (ticket * 1000, Vec::new());
            relays.gather(&owner, key.clone(), Beat { incarnation: Incarnation::FIRST, digest: None, at: now }, now, || 9, &mut out);
            relays.advance(now + GATHER_MS, || ticket, &mut out);
        }
        relays.advance(6000, || 9, &mut Vec::new());
        assert!(relays.is_stuck(&owner, 6000));
        relays.forgive_unanswered();
        relays.advance(9500, || 9, &mut Vec::new());
        assert!(!relays.is_stuck(&owner, 9500));
        assert_eq!(relays.answered(&owner, 4).len(), 1, "a late answer counts");
    }
}
