//! Hearing: what each message of a peer does here. Peers' input is checked like strangers'.

use super::applied::{FORGET_AFTER_MS, LIVES_MAX};
use super::drain::WITHIN_MS_MAX;
use super::io::Output;
use super::merge::quarantine;
use super::message::{Beacon, Change, Envelope, Message, NodeState, To};
use super::notice::Notice;
use super::peers::Presence;
use super::time::Now;
use super::{Outbox, Registry};
use crate::model::Life;

/// A newcomer hears from us within this time, so that it need not wait for the next beacon; spread, so that not all speak at once.
const GREETING_MS: u64 = 50;
/// What a peer says of a life that it heard of counts as older by this: its way here makes it look younger, and two nodes that hand it to
/// and fro would remember it for ever.
const HOP_MS: u32 = 500;

impl Registry {
    pub(super) fn handle_received(&mut self, envelope: Envelope, now: Now, out: &mut Outbox) {
        let Envelope { from, message } = envelope;
        if from.node == self.life.node {
            self.hear_own_name(&from, message, now, out);
            return;
        }
        match message {
            Message::Change(change) => self.hear_change(&from, change, now, out),
            Message::Beacon(beacon) => self.hear_beacon(&from, beacon, now, out),
            Message::Pull { ticket, want } => self.handle_pull(&from, ticket, None, want, now, out),
            Message::PullSized { ticket, bytes_max, want } => self.handle_pull(&from, ticket, Some(bytes_max), want, now, out),
            Message::Pulled { ticket, have } if self.comparisons.asked(ticket) => self.handle_compared(&from, ticket, have, now, out),
            Message::Pulled { ticket, have } => self.handle_pulled(&from, ticket, have, now, out),
            Message::Relay { ticket, renewals } => self.handle_relay(&from, ticket, &renewals, now, out),
            Message::Relayed { ticket, verdicts } => self.handle_relayed(&from, ticket, verdicts, now, out),
            Message::Applied { epoch, seq } => {
                if epoch == self.life.epoch && self.peers.is_life_alive(&from, now.mono) {
                    self.note_ack(&from.node, &self.life.clone(), seq);
                    self.settle_acks(now, out);
                }
            }
            Message::AskRecords { ticket, keys } => self.handle_ask_records(&from, ticket, &keys, out),
            Message::ToldRecords { ticket, answered, records } => {
                self.handle_told_records(&from, ticket, answered, &records, now, out);
            }
            Message::AskLease { ticket, key } => Self::handle_ask_lease(&from, ticket, key, out),
            Message::ToldLease { ticket, lease } => self.handle_told(ticket, lease, out),
            Message::AskAudience { ticket, from: first } => self.handle_ask_audience(&from, ticket, first, out),
            Message::ToldAudience { ticket, page } => self.handle_told_audience(&from, ticket, page, now, out),
            Message::AskDelivery { question, key, seq, within_ms } => {
                let until = now.mono + within_ms.min(WITHIN_MS_MAX);
                self.handle_ask_delivery(&from, question, (key, seq), until, out);
            }
            Message::HandOver { ticket, records, heard, overrides } => {
                self.handle_hand_over(&from, ticket, (&records, &heard), &overrides, now, out);
            }
            Message::TookOver { ticket, held } => self.handle_took_over(ticket, &held, now),
            Message::ToldDelivery { question, report } => self.handle_told_delivery(&from, question, report, now, out),
            Message::Overrides(entries) => self.hear_overrides(&from, entries, now, out),
            Message::AskProbe { ticket, key } => self.handle_ask_probe(&from, ticket, &key, now, out),
            Message::ToldProbe { ticket, outcome } => self.handle_told_probe(&from, ticket, &outcome, now, out),
        }
    }

    /// A node of this node's own name sent this: itself, or a namesake.
    fn hear_own_name(&mut self, from: &Life, message: Message, now: Now, out: &mut Outbox) {
        if from.epoch == self.life.epoch {
            if matches!(message, Message::Beacon(_)) && self.link.echoed(now.mono) {
                self.settle.reach();
                out.push(Output::Noticed(Notice::Hearing));
            }
        } else if let Message::Beacon(beacon) = message {
            self.hear_namesake(from.epoch, &beacon, now, out);
        } else if let Message::HandOver { ticket, records, heard, overrides } = message {
            self.handle_hand_over(from, ticket, (&records, &heard), &overrides, now, out);
        } else if let Message::TookOver { ticket, held } = message {
            self.handle_took_over(ticket, &held, now);
        }
    }

    /// Whether a frame of this life counts; a life that has just appeared is greeted.
    fn is_present(&mut self, from: &Life, now: Now, out: &mut Outbox) -> bool {
        match self.peers.presence(from, now.mono) {
            Presence::NotPresent => false,
            Presence::Present => true,
            Presence::Appeared => {
                out.push(Output::Noticed(Notice::PeerAppeared(from.clone())));
                self.repair.forget(&from.node);
                self.acks.forget(&from.node);
                self.greet(now);
                true
            }
        }
    }

    /// Speaks soon, to one who may not know that there is anybody.
    pub(super) fn greet(&mut self, now: Now) {
        self.next_beacon = self.next_beacon.min(now.mono + self.rng.below(GREETING_MS));
    }

    fn hear_change(&mut self, from: &Life, change: Change, now: Now, out: &mut Outbox) {
        if !self.is_present(from, now, out) {
            // A node that has just started again counts once its former life is silent; what a provider said to it is true already.
            let is_known = self.peers.get(&from.node).is_some();
            for record in change.records.iter().filter(|record| is_known && record.version.owner == *from) {
                self.wait_for_word(record, now.mono);
            }
            return;
        }
        let (wants_ack, last) = (change.wants_ack, change.last);
        self.apply_change(from, change, now, out);
        let seq = self.applied.seq(from);
        if wants_ack && seq >= last {
            out.push(Output::Send(To::Node(from.node.clone()), Message::Applied { epoch: from.epoch, seq }));
        }
    }

    /// Merges what a life wrote, and notes how far its log is had; says how many records were new.
    pub(super) fn apply_change(&mut self, from: &Life, change: Change, now: Now, out: &mut Outbox) -> usize {
        let Change { first, last, wants_ack: _, records } = change;
        // An older one is ignored: what it brought and was forgotten since would rise again.
        if first == 0 || last < first || last <= self.applied.seq(from) {
            return 0;
        }
        let mut gained = 0;
        for record in &records {
            if record.version.owner != *from || !(first..=last).contains(&record.version.seq) {
                quarantine(record, from, "it was not written by the one whose log it came in", out);
                continue;
            }
            self.follow_stamp(from, record.version.edition, now, out);
            let is_new = self.merge(record, from, now, out);
            gained += usize::from(is_new);
            if !is_new {
                self.wait_for_word(record, now.mono);
            }
        }
        self.applied.merged(from, first, last, &self.peers, now.mono);
        gained
    }

    fn hear_beacon(&mut self, from: &Life, mut beacon: Beacon, now: Now, out: &mut Outbox) {
        if !self.is_present(from, now, out) {
            // A node that has just started again counts once its former life is silent; it may hear us before.
            if beacon.state == NodeState::Warming {
                self.greet(now);
            }
            self.peers.note_waiting(from, now.mono);
            return;
        }
        // A node follows no more lives than that; its own is the first.
        beacon.applied.truncate(LIVES_MAX);
        if self.applied.said_end(from, beacon.head, now.mono) {
            out.push(Output::Noticed(Notice::LogCut(from.clone())));
        }
        self.applied.heard_itself(from, beacon.head, &self.peers, now.mono);
        self.follow_stamp(from, beacon.stamp, now, out);
        for at in &beacon.applied {
            if at.life != self.life {
                let hop_ms = if at.life == *from { 0 } else { HOP_MS };
                self.applied.heard(&at.life, at.seq, at.age_ms.map(|age_ms| age_ms.saturating_add(hop_ms)), now.mono);
            }
            self.note_ack(&from.node, &at.life, at.seq);
        }
        let leaves = beacon.state == NodeState::Leaving && self.peers.get(&from.node).is_some_and(|peer| !peer.has_left());
        if leaves {
            out.push(Output::Noticed(Notice::PeerLeft(from.node.clone())));
        }
        self.compare_beacon(&from.node, &beacon, now, out);
        let was_long_alone = self.peers.any_heard_at.is_some_and(|at| at + FORGET_AFTER_MS <= now.mono);
        self.compare_overrides(&from.node, &beacon, now.mono, out);
        self.compare_audience(from, &beacon, now.mono, out);
        self.peers.heard(&from.node, beacon, now.mono);
        if was_long_alone {
            self.become_newborn(now, out);
        }
        self.settle_acks(now, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, NodeName};
    use crate::registry::{AppliedAt, Input, LIVES_MAX, Settings};

    const NOW: Now = Now { mono: 1_000_000, wall: 0 };
    const LATER: Now = Now { mono: NOW.mono + 900, wall: 900 };

    fn life(node: &str, epoch: u64) -> Life {
        Life { node: NodeName::parse(node).unwrap(), epoch: Epoch(epoch) }
    }

    fn hear(registry: &mut Registry, from: Life, message: Message, now: Now) {
        registry.handle(Input::Received(Envelope { from, message }), now, &mut Outbox::new());
    }

    /// A node that has ten changes of n2.
    fn node() -> Registry {
        let mut registry = Registry::new(Settings::new(NodeName::parse("n1").unwrap(), Epoch(1)), 1, NOW);
        hear(&mut registry, life("n2", 2), Message::Beacon(Beacon { head: 10, ..Beacon::of(NodeState::Ready) }), NOW);
        hear(&mut registry, life("n2", 2), Message::Change(Change { first: 1, last: 10, wants_ack: false, records: Vec::new() }), NOW);
        registry
    }

    #[test]
    fn made_up_lives_take_no_place_of_those_that_speak_themselves() {
        let said = |number: usize| AppliedAt { life: life(&format!("x{}", number % 200), number as u64), seq: 1, age_ms: Some(0) };
        let beacon = Beacon { applied: (0..2 * LIVES_MAX).map(said).collect(), ..Beacon::of(NodeState::Ready) };
        let mut registry = node();
        hear(&mut registry, life("x", 1), Message::Beacon(beacon), LATER);
        assert_eq!(registry.applied.seq(&life("n2", 2)), 10);
        // A peer that comes now has its place all the same.
        hear(&mut registry, life("n3", 3), Message::Change(Change { first: 1, last: 4, wants_ack: false, records: Vec::new() }), LATER);
        assert_eq!(registry.applied.seq(&life("n3", 3)), 4);
        let own = registry.life.clone();
        let named: Vec<Life> = registry.applied.to_said(&own, LATER.mono).into_iter().map(|at| at.life).collect();
        assert_eq!(named, [own, life("n2", 2), life("n3", 3)], "what nobody has is not passed on");
    }
}
