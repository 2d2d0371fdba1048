//! What nodes say to each other, as values. `wire` gives it bytes, `bus` carries it.

mod question;

use std::sync::Arc;

pub(super) use question::{APPLIED_BYTES, DIGEST_BYTES, version_bytes};
pub use question::{Have, Want};

use super::audience::{AudienceAt, AudiencePage};
use super::drain::DeliveryReport;
use super::probe::ProbeOutcome;
use super::record::Record;
use super::shared::Entry;
use crate::model::{Epoch, Incarnation, InstanceKey, Life, NodeName, Seq};

/// A message as it arrived: from which life of which node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Who sent it.
    pub from: Life,
    /// What it says.
    pub message: Message,
}

/// Everything a node says to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// To all: records the sender wrote.
    Change(Change),
    /// To all, every second: how the sender is.
    Beacon(Beacon),
    /// To one: give me what I lack.
    Pull {
        /// Comes back with the answer.
        ticket: u64,
        /// What is lacked.
        want: Want,
    },
    /// To one: as `Pull`, and how much the answer is to carry. Only to whom says in its beacon that it takes these.
    PullSized {
        /// Comes back with the answer.
        ticket: u64,
        /// About how many bytes; one record is given however large it is.
        bytes_max: u32,
        /// What is lacked.
        want: Want,
    },
    /// The answer to a `Pull` or a `PullSized`.
    Pulled {
        /// The question's.
        ticket: u64,
        /// What there is.
        have: Have,
    },
    /// To an owner: heartbeats that came to the sender.
    Relay {
        /// Comes back with the answer.
        ticket: u64,
        /// At most [`RELAY_MAX`].
        renewals: Vec<Renewal>,
    },
    /// The answer to a `Relay`.
    Relayed {
        /// The question's.
        ticket: u64,
        /// One for each renewal, in order.
        verdicts: Vec<Verdict>,
    },
    /// To an origin that asked for it: the sender has applied that life's log up to `seq`.
    Applied {
        /// The origin's life.
        epoch: Epoch,
        /// Up to here.
        seq: Seq,
    },
    /// To an owner: how is this lease?
    AskLease {
        /// Comes back with the answer.
        ticket: u64,
        /// Of this instance.
        key: InstanceKey,
    },
    /// The answer to an `AskLease`.
    ToldLease {
        /// The question's.
        ticket: u64,
        /// `None`: the answering node holds no such lease.
        lease: Option<LeaseTold>,
    },
    /// To all, or to one that has others: overrides as the sender holds them.
    Overrides(Vec<Entry>),
    /// To one: the sender does not reach this instance; try it at the address under which you hold it.
    AskProbe {
        /// Comes back with the answer.
        ticket: u64,
        /// Which.
        key: InstanceKey,
    },
    /// The answer to an `AskProbe`.
    ToldProbe {
        /// The question's.
        ticket: u64,
        /// What was seen.
        outcome: ProbeOutcome,
    },
    /// To one: which records have you of these instances?
    AskRecords {
        /// Comes back with the answer.
        ticket: u64,
        /// At most [`super::CONSULTED_MAX`].
        keys: Vec<InstanceKey>,
    },
    /// The answer to an `AskRecords`.
    ToldRecords {
        /// The question's.
        ticket: u64,
        /// It is about so many of the instances, in the order in which they were asked about; the others did not fit.
        answered: usize,
        /// Those of them that are known.
        records: Vec<Arc<Record>>,
    },
    /// To one: who follows what at your node?
    AskAudience {
        /// Comes back with the answer.
        ticket: u64,
        /// From the one after so many on.
        from: u32,
    },
    /// The answer to an `AskAudience`.
    ToldAudience {
        /// The question's.
        ticket: u64,
        /// A part of them.
        page: AudiencePage,
    },
    /// To one: have those who follow this instance's service been sent what I wrote of it?
    AskDelivery {
        /// Comes back with the answer.
        question: u64,
        /// Of this instance.
        key: InstanceKey,
        /// In the sender's log.
        seq: Seq,
        /// To be answered within this time.
        within_ms: u64,
    },
    /// To one: what this life wrote under a name that another node has, so that nobody heard it. Hold it.
    HandOver {
        /// Comes back with the answer.
        ticket: u64,
        /// The sender's own, withdrawn ones too; and what lives wrote that it does not hear.
        records: Vec<Arc<Record>>,
        /// Of those of them whose lease the sender holds: its seq, and how long ago it was renewed, in ms.
        heard: Vec<(Seq, u32)>,
        /// All that the sender knows.
        overrides: Vec<Entry>,
    },
    /// The answer to a `HandOver`.
    TookOver {
        /// The question's.
        ticket: u64,
        /// What of it is held here, or something greater; a limit or another rule may have refused the rest. The low half of the key's hash
        /// for a record, of the fingerprint for an override.
        held: Vec<u64>,
    },
    /// The answer to an `AskDelivery`.
    ToldDelivery {
        /// The question's.
        question: u64,
        /// Who has been sent it.
        report: DeliveryReport,
    },
}

/// How many entries one `Overrides` may carry: more than fit into a frame.
pub const ENTRIES_MAX: usize = 4096;

/// How many renewals one `Relay` may carry.
pub const RELAY_MAX: usize = 1000;

/// Records one life of a node wrote, in the order of its log: all of `first..=last`. Empty where `last` is before `first`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Seq of the first change covered, ≥ 1.
    pub first: Seq,
    /// Seq of the last change covered; `first - 1` where there is none.
    pub last: Seq,
    /// Somebody waits for peers to have applied this: say so with `Applied`.
    pub wants_ack: bool,
    /// What was written.
    pub records: Vec<Arc<Record>>,
}

/// How a node is, as it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beacon {
    /// The last seq of its log.
    pub head: Seq,
    /// How it is.
    pub state: NodeState,
    /// Live records it holds; while it warms also those of its disk, which it may come to hold.
    pub records: u64,
    /// Of its live records.
    pub digest: u128,
    /// Of all its services' revisions.
    pub view_digest: u128,
    /// Where its HTTP is reached, `host:port`.
    pub http: String,
    /// For every life of a node it knows, its own first.
    pub applied: Vec<AppliedAt>,
    /// Of the withdrawn records it holds.
    pub withdrawn_digest: u128,
    /// Of the overrides it holds; 0 where there are none.
    pub overrides_digest: u128,
    /// It knows all that could be known.
    pub complete: bool,
    /// Some of its leases are late, and so many that none of them is let go.
    pub preserving: bool,
    /// It waits or leaves because another node runs under its name: the node of this name does not.
    pub gives_way: bool,
    /// Every other node it has heard of, by itself or through others, within a day.
    pub members: Vec<MemberAt>,
    /// Who follows what at it.
    pub audience: AudienceAt,
    /// Its stamp clock, in 1/64 ms; 0: it has none.
    pub stamp: u64,
    /// For how much longer it settles; `None`: it does not.
    pub settling_ms: Option<u32>,
    /// It takes `PullSized`, with what came to [`Want`] together with it.
    pub takes_sized_pulls: bool,
}

#[cfg(test)]
impl Beacon {
    /// Of a node in this state that holds nothing.
    pub(super) fn of(state: NodeState) -> Self {
        Self {
            head: 0,
            state,
            records: 0,
            digest: 0,
            view_digest: 0,
            http: String::new(),
            applied: Vec::new(),
            withdrawn_digest: 0,
            overrides_digest: 0,
            complete: state != NodeState::Warming,
            preserving: false,
            gives_way: false,
            members: Vec::new(),
            audience: AudienceAt::default(),
            stamp: 0,
            settling_ms: None,
            takes_sized_pulls: false,
        }
    }
}

/// What somebody knows of a node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberAt {
    /// Which.
    pub node: NodeName,
    /// How long ago anybody heard it last, in ms.
    pub age_ms: u32,
    /// It said goodbye then: nobody waits for it.
    pub has_left: bool,
    /// What the sender itself has seen of it; `None`: it is of a version that does not say.
    pub evidence: Option<Evidence>,
}

/// What a node has seen of a member itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Beacons of it came there, for longer than a moment.
    pub is_direct: bool,
    /// It counts there on what others know of it. Where it counts for neither, it came for a moment: nobody else is to count it.
    pub is_attested: bool,
    /// Its address refuses connections, or another node answers there.
    pub refuses: bool,
    /// That was so for `cluster.dead_after`, for everybody who knows the address: the sender counts it no more.
    pub is_lost: bool,
}

impl Beacon {
    /// What it says of a member, where its members are in order.
    pub(super) fn member(&self, node: &NodeName) -> Option<&MemberAt> {
        self.members.binary_search_by(|at| at.node.cmp(node)).ok().map(|at| &self.members[at])
    }
}

/// How many members one beacon names.
pub const MEMBERS_MAX: usize = 1024;

/// How far somebody has applied a life's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedAt {
    /// Whose log.
    pub life: Life,
    /// Everything up to here.
    pub seq: Seq,
    /// How long ago that node's last beacon was heard, in ms; `None`: never, or long ago. 0 for the sender's own.
    pub age_ms: Option<u32>,
}

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeState {
    /// Does not know enough to answer yet.
    Warming,
    /// Answers.
    Ready,
    /// Stops: its leases are to be taken over.
    Leaving,
}

impl NodeState {
    /// The word of the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warming => "warming",
            Self::Ready => "ready",
            Self::Leaving => "leaving",
        }
    }
}

/// A heartbeat on its way to the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// Of which instance.
    pub key: InstanceKey,
    /// The life that the provider named, or that the relaying node knows.
    pub incarnation: Incarnation,
    /// The content digest, if the provider sent it.
    pub digest: Option<u128>,
    /// How long ago it reached the relaying node, in ms.
    pub age_ms: u32,
}

/// What an owner says to a relayed heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The lease is renewed.
    Renewed,
    /// No record of that life: the relaying node may claim it.
    Unknown,
    /// The provider's digest is not the content's: it is to register again.
    Differs,
    /// Gone, or owned elsewhere: this record says how.
    Gone(Arc<Record>),
}

/// What only a lease's owner knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTold {
    /// Until the deadline, in ms; 0 when it has passed.
    pub remaining_ms: u64,
    /// Since the last heartbeat, in ms; `None`: the lease was taken over, and none has come since.
    pub last_heartbeat_ms: Option<u64>,
    /// An open connection to the owner holds it: no time ends it.
    pub attached: bool,
}

/// Who a message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// Every node of the cluster.
    All,
    /// One node.
    Node(NodeName),
}
