//! Teeth: planted faults, in the shell or on the way, each of which the checks must find. A judge that never convicts is none.
//!
//! The crate's doc lists them. The registry itself is never touched: what a wrong one would do is done around it.

mod found;

use std::collections::BTreeSet;
use std::sync::Arc;

use muster::model::InstanceKey;
use muster::registry::{Ack, Beacon, Body, Deregister, Envelope, Have, Input, Message, NodeState, Record, Register, Registry, Verdict};

use crate::chaos::hostile::ghost_member;
use crate::provider::draft;
use crate::world::{Ask, Asker, World, key};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// No beacon reaches anybody.
    DropBeacons,
    /// Nobody answers a pull.
    NeverAnswerPulls,
    /// A body changes on its way, its version does not.
    CorruptBodies,
    /// The shell says of each due lease that nobody renewed it.
    NeverRenew,
    /// The shell never says when a due lease was renewed.
    NeverExpire,
    /// The shell does not see that a connection is closed.
    MissEnds,
    /// The end of any connection is taken for that of the newest.
    MistakeEnds,
    /// A node takes the same epoch at each start.
    ReuseEpochs,
    /// Relays vanish, and are answered as if they had not.
    SwallowRelays,
    /// The shell tells no consumer of changes.
    ForgetViewChanges,
    /// A stream leaves out a step.
    SkipDeltas,
    /// Withdrawn records are forgotten at once.
    ForgetWithdrawn,
    /// A batch counts as if everything before it had come.
    SkipGaps,
    /// What a peer lacks that has just started is taken for deleted.
    LackIsDeletion,
    /// A node whose line is broken believes that it hears itself.
    EchoWithoutBus,
    /// Each relayed heartbeat moves the ownership.
    MoveOnRelay,
    /// Digests tell which keys there are, and not in which version.
    DigestOfKeys,
    /// A node that does not know enough yet says that there is nothing.
    EmptyWhileWarming,
    /// The wall clock is taken for the monotonic one.
    WallForMono,
    /// Another cluster's frames are read.
    HearForeign,
    /// Every look says that nobody listens there.
    SeeNobody,
    /// The registry invents a record now and then.
    GrowForEver,
    /// Peers are taken to have applied what they were only sent.
    AcknowledgeEarly,
    /// The shell finds nothing on its disk.
    BlankDisks,
    /// It does not either, and an operator says that nothing was there.
    LostDisks,
    /// A node that starts without knowledge is told that nothing was there.
    ExpectEmpty,
    /// No override reaches another node.
    MuteOverrides,
    /// Whoever registers ends all overrides.
    ClearOnRegister,
    /// A fixed address is let go by its owner.
    ExpireFixed,
    /// A silent node is taken to have left: its records are adopted at once, and nobody counts it.
    BurySilent,
    /// However many are silent, nothing is preserved.
    PreserveNever,
    /// What is preserved stays so for as long as a run lasts.
    PreserveForEver,
    /// A node says that it preserves for as long as it ever did.
    SayPreserving,
    /// A node that leaves says nothing of when its providers were heard last.
    ForgetHeartbeats,
    /// Once everything has healed no stream says anything.
    StallStreams,
    /// A ready node without a bus answers that it is warming.
    AnswerWarming,
    /// A forged record stands where the next one of that log would.
    ForgeNext,
    /// A record that is too far ahead comes as one of which nobody can tell that.
    ForgeNear,
    /// A deregistration of what a node does not hold the lease of is answered and not written.
    DeregisterNothing,
    /// A machine on which a node has died is never seen to say so.
    NeverRefuse,
    /// Every beacon names nodes that there are not.
    NameGhosts,
    /// A node that gives way to another of its name ends without waiting until what it took is held elsewhere.
    EndAtOnce,
    /// What a node's digest says is never what the others have: planted to see that it makes no storm.
    WrongDigests,
}

impl Sabotage {
    /// Whether this message is never sent.
    pub(crate) fn swallows(self, message: &Message) -> bool {
        match self {
            Self::DropBeacons => matches!(message, Message::Beacon(_)),
            Self::NeverAnswerPulls => matches!(message, Message::Pulled { .. }),
            Self::MuteOverrides => matches!(message, Message::Overrides(_)),
            Self::SwallowRelays => matches!(message, Message::Relay { .. } | Message::Relayed { .. }),
            _ => false,
        }
    }
}

impl World {
    pub(crate) fn is_sabotaged(&self, by: Sabotage) -> bool {
        self.sabotage == Some(by)
    }

    /// What becomes of a message on its way.
    pub(crate) fn sabotage_message(&mut self, from: usize, to: usize, envelope: &mut Envelope) {
        match (self.sabotage, &mut envelope.message) {
            (Some(Sabotage::CorruptBodies), Message::Change(change)) if to == 0 => {
                for record in &mut change.records {
                    *record = Arc::new(corrupted(record));
                }
            }
            (Some(Sabotage::SkipGaps), Message::Change(change)) => change.first = 1,
            (Some(Sabotage::NameGhosts), Message::Beacon(beacon)) => beacon.members.extend((0..9).map(|number| ghost_member(0, number))),
            (Some(Sabotage::LackIsDeletion), Message::Beacon(beacon)) if beacon.state == NodeState::Warming => {
                self.delete_lacking(from, to);
            }
            (Some(Sabotage::ForgetHeartbeats), Message::Relay { renewals, .. }) if self.is_leaving(from) => {
                for renewal in renewals {
                    renewal.age_ms = u32::MAX;
                }
            }
            (Some(Sabotage::MoveOnRelay), Message::Relayed { verdicts, .. }) => verdicts.fill(Verdict::Unknown),
            (Some(Sabotage::DigestOfKeys), message) if self.has_keys_of(from, to) => self.equate(to, message),
            (Some(Sabotage::WrongDigests), Message::Beacon(beacon)) if from == 0 => beacon.digest ^= 1,
            (Some(Sabotage::AcknowledgeEarly), Message::Beacon(beacon)) => {
                let Some(registry) = self.registry(to) else { return };
                let life = registry.settings().life();
                let head = registry.head();
                beacon.applied.iter_mut().filter(|at| at.life == life).for_each(|at| at.seq = head);
            }
            _ => {}
        }
    }

    fn delete_lacking(&mut self, from: usize, to: usize) {
        let lacks = |key: &InstanceKey| self.registry(from).is_some_and(|registry| registry.record(key).is_none());
        let lacking: Vec<InstanceKey> =
            self.registry(to).into_iter().flat_map(live_keys).filter(|key| self.is_ready(to) && lacks(key)).cloned().collect();
        for key in lacking {
            let deregister = Deregister { key, incarnation: None, actor: None, ack: Ack::Local };
            self.submit(to, Ask::Deregister(deregister), Asker::Nobody);
        }
    }

    fn has_keys_of(&self, from: usize, to: usize) -> bool {
        let keys = |node| self.registry(node).map(|registry| live_keys(registry).collect::<BTreeSet<_>>());
        keys(from) == keys(to)
    }

    /// The digests in a message become the receiver's own.
    fn equate(&self, to: usize, message: &mut Message) {
        let Some(registry) = self.registry(to) else { return };
        match message {
            Message::Beacon(beacon) => beacon.digest = registry.digest(),
            Message::Pulled { have: Have::Versions { versions, .. }, .. } => {
                versions.retain(|(key, _)| registry.record(key).is_none());
            }
            _ => {}
        }
    }

    /// A node that has lost its bus hears its own beacon all the same.
    pub(crate) fn echo_falsely(&mut self, node: usize, message: &Message) {
        if self.is_sabotaged(Sabotage::EchoWithoutBus) && matches!(message, Message::Beacon(_)) && !self.bus.is_attached(node) {
            let Some(from) = self.life(node) else { return };
            self.feed(node, Input::Received(Envelope { from, message: message.clone() }));
        }
    }

    /// A node takes whoever is silent to have left.
    pub(crate) fn bury_the_silent(&mut self, node: usize) {
        if !self.is_sabotaged(Sabotage::BurySilent) {
            return;
        }
        let Some(view) = self.registry(node).map(|registry| registry.cluster(self.now_at(node))) else { return };
        for peer in view.nodes.into_iter().skip(1).filter(|peer| peer.state == "ready" && peer.heard_ms > 2500) {
            let beacon = Beacon { state: NodeState::Leaving, ..empty_beacon() };
            self.feed(node, Input::Received(Envelope { from: peer.life, message: Message::Beacon(beacon) }));
        }
    }

    /// What an owner lets go that nobody else may.
    pub(crate) fn expire_fixed(&mut self, node: usize) {
        if !self.is_sabotaged(Sabotage::ExpireFixed) {
            return;
        }
        let holds = |key: &&InstanceKey| self.registry(node).is_some_and(|registry| registry.holds_lease(key));
        let Some(key) = self.fixed.keys().find(holds).cloned() else { return };
        let deregister = Deregister { key, incarnation: None, actor: None, ack: Ack::Local };
        self.submit(node, Ask::Deregister(deregister), Asker::Nobody);
    }

    /// Whoever registers clears what operators willed.
    pub(crate) fn clear_overrides(&mut self, node: usize) {
        if self.is_sabotaged(Sabotage::ClearOnRegister) {
            let entries = self.registry(node).map_or_else(Vec::new, |registry| registry.shared_entries(self.now_at(node)));
            for entry in entries {
                self.operate(node, |ticket| Input::DeleteOverride(ticket, entry.key));
            }
        }
    }

    /// A deregistration that this node takes for one of nothing.
    pub(crate) fn is_nothing_to_end(&self, node: usize, ask: &Ask) -> bool {
        let holds = |key| self.registry(node).is_some_and(|registry| registry.holds_lease(key));
        matches!(ask, Ask::Deregister(deregister) if self.is_sabotaged(Sabotage::DeregisterNothing) && !holds(&deregister.key))
    }

    fn is_leaving(&self, node: usize) -> bool {
        self.registry(node).is_some_and(|registry| registry.state() == NodeState::Leaving)
    }

    /// A record comes from nowhere.
    pub(crate) fn invent(&mut self, node: usize) {
        if self.is_sabotaged(Sabotage::GrowForEver) && self.is_ready(node) {
            let key = key("a", &format!("x{}", self.now));
            let registration = muster::model::Registration::new(draft(&key, 1, 60_000)).expect("unreachable: it is within the bounds");
            let registration = Arc::new(registration);
            let register = Register::new(key, registration, 0);
            self.submit(node, Ask::Register(register), Asker::Nobody);
        }
    }
}

pub(crate) fn empty_beacon() -> Beacon {
    Beacon {
        head: 0,
        state: NodeState::Ready,
        records: 0,
        digest: 0,
        view_digest: 0,
        http: String::new(),
        applied: Vec::new(),
        withdrawn_digest: 0,
        overrides_digest: 0,
        complete: true,
        preserving: false,
        members: Vec::new(),
        gives_way: false,
        audience: muster::registry::AudienceAt::default(),
        stamp: 0,
        settling_ms: None,
        takes_sized_pulls: true,
    }
}

fn live_keys(registry: &Registry) -> impl Iterator<Item = &InstanceKey> {
    registry.records().filter(|record| record.registration().is_some()).map(|record| &record.key)
}

fn corrupted(record: &Record) -> Record {
    let mut record = record.clone();
    if let Body::Live { registration, .. } = &mut record.body {
        let mut draft = registration.to_draft();
        draft.weight ^= 1;
        *registration = Arc::new(muster::model::Registration::new(draft).expect("unreachable: any weight will do"));
    }
    record
}
