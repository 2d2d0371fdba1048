//! The protocol: a registry is a value, and everything that happens to it is an [`Input`].
//!
//! No IO, no runtime, no clock, no lock, no log: the same inputs give the same outputs on every machine. Time enters as [`Now`],
//! randomness as a seed. Deadlines are polled with [`Registry::next_deadline`]: an emitted timer could not be recalled.
//!
//! Read in this order: `record`, `stamp`, `merge` and `plausible` (what wins, and what is taken), `ownership`, `words`, `attachment` and `expiry`
//! (who may write), `looking` and `sight` (who answers when looked at), `applied` and `repair` (how nodes come to agree), `consult` (what they
//! ask each other before a write), `join`, `settle`, `restore` and `leave` (how one begins and ends),
//! `health` and `verdict` (whose silence counts), `adoption` and `preserve` (what follows from it), `shared` and `overridden` (what operators
//! will), `drain` and `audience` (who leaves with notice, and who is told).

mod ack;
mod adoption;
mod announce;
mod answer;
mod applied;
mod attachment;
mod audience;
mod cluster;
mod consult;
mod contest;
mod describe;
mod diff;
mod digest;
mod divergence;
mod drain;
mod expiry;
mod forget;
mod handover;
mod health;
mod hearing;
mod inspect;
mod io;
mod join;
mod lease;
mod leave;
mod link;
mod log;
mod looking;
mod lost;
mod majority;
mod members;
mod merge;
mod message;
mod namesake;
mod newborn;
mod notice;
mod over_limit;
mod overridden;
mod ownership;
mod pace;
mod peers;
mod plausible;
mod preserve;
mod probe;
mod probe_budget;
mod pull;
mod pull_turns;
mod record;
mod relay;
mod relayed;
mod repair;
mod restore;
mod reuse;
mod rng;
mod serve;
mod settings;
mod settle;
mod shared;
mod sight;
mod stamp;
mod store;
mod time;
mod turns;
mod unrenewed;
mod verdict;
mod view;
mod walk;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use answer::{Ack, AckReport, Answer, Drained, Inspected, Looked, Missing, Refusal, Registered, Renewed};
pub use applied::LIVES_MAX;
pub use audience::{
    AudienceAt, AudiencePage, Elsewhere, INTEREST_PREFIXES_MAX, INTEREST_SERVICES_MAX, Interest, PAGE_MAX, WATCHERS_MAX, Watcher,
};
pub use cluster::{ClusterView, NODE_STATES, NodeView};
pub use consult::CONSULTED_MAX;
pub use describe::Difference;
pub use diff::{DIFFERING_MAX, Diff, InstanceDiff, ServiceDiff};
pub use digest::BUCKETS;
pub use drain::{DeliveryReport, MISSING_MAX};
pub use handover::Untaken;
pub use io::{Changed, Deregister, Drain, Heartbeat, Input, LeaseTerms, Output, PeerAnswer, Purpose, Register, SetOverride, Ticket};
pub use link::BusHealth;
pub use majority::Majority;
pub use message::{
    AppliedAt, Beacon, Change, ENTRIES_MAX, Envelope, Evidence, Have, LeaseTold, MEMBERS_MAX, MemberAt, Message, NodeState, RELAY_MAX,
    Renewal, To, Verdict, Want,
};
pub use notice::Notice;
pub use over_limit::ReachedLimit;
pub use overridden::Overrides;
pub use probe::{PROBE_WHY_MAX, Probe, ProbeKind, ProbeOutcome};
pub use record::{Body, NOTE_BYTES_MAX, Record, Seen, content_digest, key_hash, listed_digest};
pub use restore::Picture;
pub use settings::{Limits, ProbeLimits, Settings};
pub use settle::Knowledge;
pub use shared::{Entry, Stamp, Willed};
pub use time::{Mono, Now};
pub use unrenewed::UnrenewedLease;
pub use view::{Catalog, View, service_digest};

use crate::model::{InstanceKey, Life, Seq};

/// What the registry wants done, in order; drained by the caller after every call.
pub type Outbox = Vec<Output>;

/// A beacon leaves this often, ± 10 %.
const BEACON_EVERY_MS: u64 = 1000;
/// What is no longer needed is forgotten this often.
const HOUSEKEEPING_MS: u64 = 1000;

/// One node's registry.
pub struct Registry {
    settings: Settings,
    /// This life of this node.
    life: Life,
    rng: rng::Rng,
    state: NodeState,
    /// In this life it knew enough to be ready, whatever it does now.
    has_been_ready: bool,
    /// All that could be known is known.
    complete: bool,
    settle: settle::Settle,
    store: store::Store,
    shared: shared::Shared,
    log: log::Log,
    applied: applied::Applied,
    leases: lease::Leases,
    looking: looking::Looking,
    /// Leases that have ended, until the shell has said when each was last renewed.
    ended: BTreeMap<InstanceKey, lease::Ended>,
    ask_again: ownership::AskAgain,
    stamps: stamp::StampClock,
    words: words::Words,
    attachments: attachment::Attachments,
    relays: relay::Relays,
    peers: peers::Peers,
    /// A majority of the members is heard: nobody's silence before that counts.
    hears_majority: expiry::Regained,
    /// For how long this node has judged nobody for want of one, and whether that was noticed.
    no_majority: majority::NoMajority,
    /// Somebody hears this node, or there is nobody.
    is_heard: expiry::Regained,
    link: link::Link,
    join: join::Join,
    repair: repair::Repair,
    restore: restore::Restore,
    unrenewed: unrenewed::Unrenewed,
    copies: serve::Copies,
    turns: pull_turns::Turns,
    acks: ack::Acks,
    consultations: consult::Consultations,
    drains: drain::Drains,
    audience: audience::Audience,
    inspections: inspect::Inspections,
    health: health::Health,
    preserve: preserve::Preserve,
    checks: verdict::Checks,
    over_limit: over_limit::OverLimit,
    adoption: adoption::Adoption,
    contests: contest::Contests,
    leaving: leave::Leaving,
    handover: handover::Handover,
    namesakes: namesake::Namesakes,
    /// It leaves because another node runs under its name.
    has_stepped_down: bool,
    /// Up to here the withdrawn records were looked at; `None`: from the first on.
    forget_cursor: Option<InstanceKey>,
    comparisons: diff::Comparisons,
    divergence: divergence::Divergence,
    next_beacon: Mono,
    next_housekeeping: Mono,
}

impl Registry {
    /// A registry that knows nothing yet. `seed` feeds every random choice.
    #[must_use]
    pub fn new(settings: Settings, seed: u64, now: Now) -> Self {
        let life = settings.life();
        let is_alone = !settings.has_bus;
        let applied = applied::Applied::new(life.clone(), now.mono);
        Self {
            rng: rng::Rng::new(seed),
            state: if is_alone { NodeState::Ready } else { NodeState::Warming },
            has_been_ready: is_alone,
            complete: is_alone && settings.expect_empty,
            settle: settle::Settle::new(settings.settle_ms, settings.expect_empty, settings.has_bus),
            store: store::Store::new(),
            shared: shared::Shared::default(),
            log: log::Log::default(),
            applied,
            leases: lease::Leases::default(),
            looking: looking::Looking::new(settings.probes),
            ended: BTreeMap::new(),
            ask_again: ownership::AskAgain::default(),
            stamps: stamp::StampClock::new(now),
            words: words::Words::default(),
            attachments: attachment::Attachments::default(),
            relays: relay::Relays::default(),
            peers: peers::Peers::new(settings.node.clone()),
            hears_majority: expiry::Regained::default(),
            no_majority: majority::NoMajority::default(),
            is_heard: expiry::Regained::default(),
            link: link::Link::new(settings.has_bus, now.mono),
            join: join::Join::new(now.mono),
            repair: repair::Repair::default(),
            restore: restore::Restore::new(is_alone),
            unrenewed: unrenewed::Unrenewed::default(),
            copies: serve::Copies::default(),
            turns: pull_turns::Turns::default(),
            acks: ack::Acks::default(),
            consultations: consult::Consultations::default(),
            drains: drain::Drains::default(),
            audience: audience::Audience::default(),
            inspections: inspect::Inspections::default(),
            health: health::Health::new(now.mono),
            preserve: preserve::Preserve::default(),
            checks: verdict::Checks::default(),
            over_limit: over_limit::OverLimit::default(),
            adoption: adoption::Adoption::default(),
            contests: contest::Contests::default(),
            leaving: leave::Leaving::default(),
            handover: handover::Handover::default(),
            namesakes: namesake::Namesakes::default(),
            has_stepped_down: false,
            forget_cursor: None,
            comparisons: diff::Comparisons::default(),
            divergence: divergence::Divergence::default(),
            next_beacon: now.mono,
            next_housekeeping: now.mono + HOUSEKEEPING_MS,
            life,
            settings,
        }
    }

    /// Takes one thing that happened.
    pub fn handle(&mut self, input: Input, now: Now, out: &mut Outbox) {
        self.notice_time(now, out);
        match input {
            Input::Register(ticket, register) => self.handle_register(ticket, register, now, out),
            Input::Attach(ticket, members) => self.handle_attach(ticket, members, now, out),
            Input::Detached(attachment) => self.handle_detached(attachment, now, out),
            Input::Heartbeat(ticket, heartbeat) => self.handle_heartbeat(ticket, &heartbeat, now, out),
            Input::Deregister(ticket, deregister) => self.handle_deregister(ticket, deregister, now, out),
            Input::Drain(ticket, drain) => self.handle_drain(ticket, drain, now, out),
            Input::Delivered { question, report } => self.handle_delivered(question, report, now, out),
            Input::Audience { watchers, count } => self.handle_audience(watchers, count),
            Input::SetOverride(ticket, set) => self.handle_set_override(ticket, set, now, out),
            Input::DeleteOverride(ticket, key) => self.handle_delete_override(ticket, &key, now, out),
            Input::Inspect(ticket, key) => self.handle_inspect(ticket, key, now, out),
            Input::Diff(ticket, with) => self.handle_diff(ticket, with, now, out),
            Input::ForgetNode(ticket, node) => self.handle_forget_node(ticket, &node, now, out),
            Input::Lease { key, last_heartbeat, purpose } => match purpose {
                Purpose::Due => self.handle_due(&key, last_heartbeat, now, out),
                Purpose::Ended => self.handle_ended(&key, last_heartbeat, now, out),
                Purpose::Inspect(ticket) => self.handle_inspected(ticket, &key, last_heartbeat, now, out),
                Purpose::Tell { to, ticket } => self.handle_tell(to, ticket, &key, last_heartbeat, now, out),
                Purpose::HandOver => self.hand_over(&key, last_heartbeat, now, out),
            },
            Input::PeerChecked { ticket, answer } => self.handle_peer_checked(ticket, answer, now, out),
            Input::Probed { ticket, outcome } => self.handle_probed(ticket, outcome, now, out),
            Input::BusConnected => {
                self.link.connected(now.mono);
                self.relays.forgive_unanswered();
                self.repair.hasten_all(now.mono);
                self.next_beacon = now.mono;
            }
            Input::BusDisconnected => self.link.disconnected(),
            Input::Received(envelope) => self.handle_received(envelope, now, out),
            Input::Restore { records, overrides, unrenewed, saved_at, knew_enough } => {
                if knew_enough && self.settings.trusts_file(now.mono.saturating_sub(saved_at)) {
                    self.settle.trust_file();
                }
                self.unrenewed.restore(unrenewed);
                self.handle_restore(&records, overrides, saved_at, now, out);
            }
            Input::Leave => self.become_leaving(now, out),
        }
        self.begin_deliveries(out);
    }

    /// Does what has become due; to be called at [`Registry::next_deadline`] or later.
    pub fn advance(&mut self, now: Now, out: &mut Outbox) {
        self.notice_time(now, out);
        self.watch_link(now, out);
        self.advance_return(now, out);
        self.advance_leases(now, out);
        self.advance_looking(now, out);
        self.advance_attachments(now, out);
        self.advance_overrides(now, out);
        self.advance_consultations(now, out);
        if self.acks.next_deadline().is_some_and(|at| at <= now.mono) {
            self.settle_acks(now, out);
        }
        self.advance_drains(now, out);
        self.advance_inspections(now, out);
        self.advance_comparisons(now, out);
        let rng = &mut self.rng;
        self.relays.advance(now.mono, || rng.next(), out);
        self.advance_join(now, out);
        self.begin_deliveries(out);
        self.advance_repair(now, out);
        if self.turns.next_deadline().is_some_and(|at| at <= now.mono) {
            self.serve_turns(now, out);
        }
        self.advance_adoption(now, out);
        self.advance_leaving(now, out);
        self.advance_handover(now, out);
        if self.link.has_bus() && now.mono >= self.next_beacon {
            self.send_beacon(now, out);
        }
        if now.mono >= self.next_housekeeping {
            self.next_housekeeping = now.mono + HOUSEKEEPING_MS;
            self.keep_house(now, out);
        }
    }

    /// When something becomes due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        let beacon = self.link.has_bus().then_some(self.next_beacon);
        let join = self.is_joining().then(|| self.join.next_deadline());
        [
            Some(self.next_housekeeping),
            beacon,
            join,
            self.link.next_deadline(),
            self.leases.next_due(),
            self.looking.next_due().filter(|_| self.state == NodeState::Ready),
            self.attachments.next_deadline(),
            self.next_override(),
            self.acks.next_deadline(),
            self.consultations.next_deadline(),
            self.drains.next_deadline(),
            self.inspections.next_deadline(),
            self.comparisons.next_deadline(),
            self.relays.next_deadline(),
            self.next_repair(),
            self.turns.next_deadline(),
            self.next_adoption(),
            self.leaving.next_deadline().filter(|_| self.state == NodeState::Leaving),
            self.handover.next_deadline(),
            Some(self.health.next_deadline()),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What this registry was given at its start.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What is believed of every service; while warming, what the disk and messages said of it.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        self.shown_catalog()
    }

    /// The last seq of this life's log.
    #[must_use]
    pub fn head(&self) -> Seq {
        self.log.head()
    }

    /// This node's own state.
    #[must_use]
    pub fn state(&self) -> NodeState {
        self.state
    }

    /// In this life the node knew enough to be ready, whatever it does now.
    #[must_use]
    pub fn has_been_ready(&self) -> bool {
        self.has_been_ready
    }

    /// Nothing that could be known is missing; false when no peer could give a whole copy.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.complete
    }

    /// How the bus is.
    #[must_use]
    pub fn bus(&self) -> BusHealth {
        self.link.health()
    }

    /// What was written may go to the bus: a node that was stopped hears first what it missed.
    #[must_use]
    pub fn may_publish(&self) -> bool {
        !self.health.is_returning()
    }

    /// How many live records are held.
    #[must_use]
    pub fn record_count(&self) -> u64 {
        self.store.live_count()
    }

    /// How many withdrawn records are remembered.
    #[must_use]
    pub fn withdrawn_count(&self) -> u64 {
        self.store.withdrawn_count()
    }

    /// How many leases are held here.
    #[must_use]
    pub fn lease_count(&self) -> usize {
        self.leases.len()
    }

    /// The digest of all live records.
    #[must_use]
    pub fn digest(&self) -> u128 {
        self.store.live().total()
    }

    /// The record of an instance, live or withdrawn.
    #[must_use]
    pub fn record(&self, key: &InstanceKey) -> Option<&Arc<Record>> {
        self.store.get(key)
    }

    /// Every record held, withdrawn ones too, in the order of (bucket, key).
    pub fn records(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.store.records().values()
    }

    /// A lease for this instance is held here.
    #[must_use]
    pub fn holds_lease(&self, key: &InstanceKey) -> bool {
        self.leases.get(key).is_some()
    }

    fn become_state(&mut self, state: NodeState, now: Now, out: &mut Outbox) {
        if self.state == state {
            return;
        }
        self.state = state;
        self.next_beacon = now.mono;
        // What displaced an attached instance while this node warmed is answered now; and before its connections end it says that they were open.
        self.speak_for_all(now.mono);
        out.push(Output::BecameState(state));
    }

    fn watch_link(&mut self, now: Now, out: &mut Outbox) {
        if let Some(has_just_become_deaf) = self.link.is_deaf_now(now.mono) {
            if has_just_become_deaf {
                out.push(Output::Noticed(Notice::Deaf));
            }
            out.push(Output::Reconnect);
        }
    }

    /// Forgets what nobody needs any more, judges who has fallen silent, and notes whose records wait for a new owner.
    fn keep_house(&mut self, now: Now, out: &mut Outbox) {
        self.forget_withdrawn(now, out);
        self.applied.forget(&self.life, now.mono);
        self.peers.forget(now.mono);
        self.contests.forget(now.mono);
        self.relays.forget_heard(now.mono);
        self.words.forget(now.mono);
        self.forget_rests();
        self.forget_told(now.mono);
        self.note_convergence(now);
        for (node, peer) in self.peers.iter_mut() {
            if !peer.is_silent && !peer.has_left() && !peer.is_alive(now.mono) {
                peer.is_silent = true;
                out.push(Output::Noticed(Notice::PeerSilent(node.clone())));
            }
        }
        self.peers.weigh_hearsay(now.mono);
        self.judge_peers(now, out);
        self.note_lost_members(now, out);
        self.note_majority(now, out);
        self.report_over_limit(now, out);
        self.note_lost(now.mono);
        self.keep_audiences(now.mono, out);
        self.advance_preserve(now, out);
    }
}
