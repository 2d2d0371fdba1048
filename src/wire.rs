//! Frames: the bytes in which nodes say things to each other, checked before anything in them is believed.
//!
//! A frame is a fixed header of our own and a bincode body. Wire structs are frozen per major version: enums grow at their end only,
//! anything else that is new is a new kind of frame or an entry in the trailing list of (tag, bytes) that records and beacons carry.
//! A frame with a newer minor version is read as far as it is understood; one of another major version is refused.
//!
//! The checks, in order: length, magic, cluster, major version, body length, checksum, origin, codec and kind, the body within its bounds,
//! nothing left over, and then every name and every registration again by the parsers that the HTTP door uses. One record of many that
//! breaks a rule there is left out and noted, and the rest goes on: it may come from a node whose rules are newer. Nothing here panics,
//! and nothing is allocated on the word of a length that was not held against a bound before.

mod audience;
mod beacon;
mod body;
mod change;
mod header;
mod list;
mod message;
mod overrides;
mod probe;
mod pull;
mod reading;
mod record;
mod registration;
mod relay;
mod warm;

use bytes::Bytes;

use crate::model::{Cluster, Life, NodeName, Seq};
use crate::registry::{Change, Envelope, Message};
use header::{HEADER_BYTES, Header, Kind};
use reading::Reading;
pub use warm::{Lost, NotWarm, Warm, WarmPieces};

/// A frame is at most this long: a quarter of what a NATS server takes as it comes, so that one never fills a connection.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;

/// Turns messages into frames and back, for one cluster: frames of another are not its.
#[derive(Debug, Clone, Copy)]
pub struct Codec {
    cluster: u128,
}

/// A message does not fit into a frame. It was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message does not fit into a frame of {FRAME_BYTES_MAX} bytes; it was not sent")]
pub struct TooLarge;

/// Why a frame was refused; nothing of it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Shorter than a header, longer than a frame may be, or not as long as it says.
    #[error("the frame's length is not what it says, or not allowed")]
    Length,
    /// Not a frame of ours.
    #[error("this is no frame of muster's")]
    Magic,
    /// Another cluster's.
    #[error("the frame is another cluster's")]
    Cluster,
    /// Of a major version that this node does not speak.
    #[error("the frame is of major version {0}")]
    Major(u8),
    /// Damaged on its way.
    #[error("the frame's checksum is wrong")]
    Checksum,
    /// Not from whom its subject says.
    #[error("the frame is not from whom its subject says")]
    Origin,
    /// Its body is encoded in a way that this node does not know.
    #[error("the frame's body is encoded in a way unknown here: {0}")]
    Codec(u8),
    /// A kind that this node does not know: a newer node's. It is skipped.
    #[error("the frame is of a kind unknown here: {0}")]
    Kind(u8),
    /// Its body cannot be read within its bounds.
    #[error("the frame's body cannot be read")]
    Malformed,
    /// Its body goes on after its end.
    #[error("the frame's body goes on after its end")]
    Leftover,
    /// Something in it breaks a rule that every node keeps.
    #[error("the frame has an invalid {0}")]
    Invalid(&'static str),
}

/// What a frame said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The message, and who sent it.
    pub envelope: Envelope,
    /// What was among its records and is not in the message.
    pub left_out: Vec<LeftOut>,
}

impl Heard {
    fn whole(self) -> Result<Envelope, Rejected> {
        let Self { envelope, left_out } = self;
        left_out.first().map_or(Ok(envelope), |first| Err(Rejected::Invalid(first.what)))
    }
}

/// A record that broke a rule. It was not taken; those beside it were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut {
    /// In its owner's log; of an override, its counter.
    pub seq: Seq,
    /// What of it was invalid.
    pub what: &'static str,
}

/// What of a value breaks a rule that every node keeps.
struct Invalid(&'static str);

impl From<Invalid> for Rejected {
    fn from(Invalid(what): Invalid) -> Self {
        Self::Invalid(what)
    }
}

impl Rejected {
    /// The word for counters.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Magic => "magic",
            Self::Cluster => "cluster",
            Self::Major(_) => "major",
            Self::Checksum => "checksum",
            Self::Origin => "origin",
            Self::Codec(_) => "codec",
            Self::Kind(_) => "kind",
            Self::Malformed => "malformed",
            Self::Leftover => "leftover",
            Self::Invalid(_) => "invalid",
        }
    }
}

impl Codec {
    /// The codec of a cluster.
    #[must_use]
    pub fn new(cluster: &Cluster) -> Self {
        Self { cluster: xxhash_rust::xxh3::xxh3_128(cluster.as_str().as_bytes()) }
    }

    /// What `from` says, as a frame.
    ///
    /// # Errors
    /// [`TooLarge`] when it does not fit; a change can then be cut: [`Codec::encode_change`].
    pub fn encode(&self, from: &Life, message: &Message) -> Result<Bytes, TooLarge> {
        let mut frame = vec![0; HEADER_BYTES];
        message::write(message, &mut frame)?;
        if frame.len() > FRAME_BYTES_MAX {
            return Err(TooLarge);
        }
        let header =
            Header { cluster: self.cluster, kind: Kind::of(message) as u8, epoch: from.epoch, seq: seq_of(message), origin: &from.node };
        header.write(&mut frame);
        Ok(Bytes::from(frame))
    }

    /// A change as one frame, or as several when it does not fit into one: each covers its own seqs, in order.
    ///
    /// # Errors
    /// [`TooLarge`] when a single record does not fit; nothing of the change is given then.
    pub fn encode_change(&self, from: &Life, change: Change) -> Result<Vec<Bytes>, TooLarge> {
        let mut frames = Vec::new();
        let mut rest = vec![change];
        while let Some(change) = rest.pop() {
            let message = Message::Change(change);
            match (self.encode(from, &message), message) {
                (Ok(frame), _) => frames.push(frame),
                (Err(TooLarge), Message::Change(change)) => {
                    let (earlier, later) = cut(change).ok_or(TooLarge)?;
                    rest.extend([later, earlier]);
                }
                (Err(TooLarge), _) => return Err(TooLarge),
            }
        }
        Ok(frames)
    }

    /// What a frame says, whole.
    ///
    /// # Errors
    /// [`Rejected`], also for a single record that breaks a rule; nothing of the frame was taken.
    pub fn decode(&self, frame: &[u8]) -> Result<Envelope, Rejected> {
        self.hear(frame, None)?.whole()
    }

    /// What a frame says, whole, that came on a subject which only `origin` may write to.
    ///
    /// # Errors
    /// [`Rejected`], also for a single record that breaks a rule; nothing of the frame was taken.
    pub fn decode_from(&self, frame: &[u8], origin: &NodeName) -> Result<Envelope, Rejected> {
        self.hear(frame, Some(origin))?.whole()
    }

    /// What a frame says, as far as it keeps the rules; one that came on a subject which only `origin` may write to must be from there.
    ///
    /// # Errors
    /// [`Rejected`]; nothing of the frame was taken.
    pub fn hear(&self, frame: &[u8], origin: Option<&NodeName>) -> Result<Heard, Rejected> {
        if !(HEADER_BYTES..=FRAME_BYTES_MAX).contains(&frame.len()) {
            return Err(Rejected::Length);
        }
        let (header, body) = header::read(frame, self.cluster)?;
        let node = NodeName::parse(header.origin).map_err(|_| Rejected::Origin)?;
        if origin.is_some_and(|origin| *origin != node) {
            return Err(Rejected::Origin);
        }
        let kind = Kind::from_number(header.kind).ok_or(Rejected::Kind(header.kind))?;
        let mut reading = Reading::new(&node);
        let message = message::read(kind, body, &mut reading)?;
        if seq_of(&message) != header.seq {
            return Err(Rejected::Invalid("seq"));
        }
        let envelope = Envelope { from: Life { node, epoch: header.epoch }, message };
        Ok(Heard { envelope, left_out: reading.left_out })
    }
}

/// What the header says of the sender's log, readable without the body; 0 in frames that say nothing of it.
fn seq_of(message: &Message) -> Seq {
    match message {
        Message::Change(change) => change.last,
        Message::Beacon(beacon) => beacon.head,
        Message::Pull { .. }
        | Message::PullSized { .. }
        | Message::Pulled { .. }
        | Message::Relay { .. }
        | Message::Relayed { .. }
        | Message::Applied { .. }
        | Message::AskLease { .. }
        | Message::ToldLease { .. }
        | Message::AskProbe { .. }
        | Message::ToldProbe { .. }
        | Message::AskAudience { .. }
        | Message::ToldAudience { .. }
        | Message::AskDelivery { .. }
        | Message::ToldDelivery { .. }
        | Message::AskRecords { .. }
        | Message::ToldRecords { .. }
        | Message::HandOver { .. }
        | Message::TookOver { .. }
        | Message::Overrides(_) => 0,
    }
}

/// A change as two halves, each with its own seqs; `None` when it cannot be cut.
fn cut(mut change: Change) -> Option<(Change, Change)> {
    let later = change.records.split_off(change.records.len() / 2);
    let begins = later.first()?.version.seq;
    if change.records.is_empty() || !(change.first + 1..=change.last).contains(&begins) {
        return None;
    }
    let later = Change { first: begins, last: change.last, wants_ack: change.wants_ack, records: later };
    Some((Change { last: begins - 1, ..change }, later))
}
