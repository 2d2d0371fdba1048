//! Beacons on the wire, and how far a node has applied each log, which it also says with what it gives.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::list::List;
use super::reading::Reading;
use super::record::{Extras, Life, counted};
use super::{Invalid, body};
use crate::registry::{self, MEMBERS_MAX};

/// Lives of nodes one node knows of: more than a node of this version says: one of another may say more.
const LIVES_MAX: usize = 8192;

/// A host name, a colon, a port.
const HTTP_BYTES_MAX: usize = 260;

pub(super) type Lives<'a> = List<AppliedAt<'a>, LIVES_MAX>;

#[derive(Serialize, Deserialize)]
pub(super) struct Beacon<'a> {
    head: u64,
    state: NodeState,
    records: u64,
    digest: u128,
    view_digest: u128,
    http: &'a str,
    #[serde(borrow)]
    applied: Lives<'a>,
    #[serde(borrow)]
    extras: Extras<'a>,
}

#[derive(Serialize, Deserialize)]
enum NodeState {
    Warming,
    Ready,
    Leaving,
}

#[derive(Serialize, Deserialize)]
pub(super) struct AppliedAt<'a> {
    #[serde(borrow)]
    life: Life<'a>,
    seq: u64,
    age_ms: Option<u32>,
}

#[derive(Serialize, Deserialize)]
struct Member<'a> {
    node: &'a str,
    age_ms: u32,
    has_left: bool,
}

/// What came to the beacon after its first version: each is left out while it says nothing, and skipped by a node that does not know it.
mod tag {
    pub(super) const MEMBERS: u16 = 1;
    pub(super) const WITHDRAWN_DIGEST: u16 = 2;
    pub(super) const OVERRIDES_DIGEST: u16 = 3;
    /// One byte: see [`super::COMPLETE`], [`super::PRESERVING`] and [`super::GIVES_WAY`].
    pub(super) const FLAGS: u16 = 4;
    /// How many subscribers, and the digest of those that others are told of: eight bytes each.
    pub(super) const AUDIENCE: u16 = 5;
    /// For how many ms more the node settles: four bytes.
    pub(super) const SETTLING: u16 = 7;
    /// What the sender has seen of each member itself, a byte each in their order: see [`super::IS_DIRECT`].
    pub(super) const EVIDENCE: u16 = 9;
}

const COMPLETE: u8 = 1;
const PRESERVING: u8 = 2;
const GIVES_WAY: u8 = 4;

const IS_DIRECT: u8 = 1;
const REFUSES: u8 = 2;
const IS_LOST: u8 = 4;
const IS_ATTESTED: u8 = 8;

impl<'a> Beacon<'a> {
    pub(super) fn of(beacon: &'a registry::Beacon) -> Self {
        let registry::Beacon { head, state, records, digest, view_digest, http, applied, .. } = beacon;
        Self {
            head: *head,
            state: NodeState::of(*state),
            records: *records,
            digest: *digest,
            view_digest: *view_digest,
            http,
            applied: lives_of(applied),
            extras: extras_of(beacon),
        }
    }

    pub(super) fn into_model(self, reading: &mut Reading) -> Result<registry::Beacon, Invalid> {
        let Self { head, state, records, digest, view_digest, http, applied, extras } = self;
        if http.len() > HTTP_BYTES_MAX || !http.bytes().all(is_of_address) {
            return Err(Invalid("HTTP address"));
        }
        let mut beacon = registry::Beacon {
            head: counted(head, "seq")?,
            state: state.into_model(),
            records,
            digest,
            view_digest,
            http: http.to_owned(),
            applied: to_lives(applied, reading)?,
            withdrawn_digest: 0,
            overrides_digest: 0,
            complete: false,
            preserving: false,
            gives_way: false,
            members: Vec::new(),
            audience: registry::AudienceAt::default(),
            settling_ms: None,
        };
        let mut evidence = Vec::new();
        for (tag, bytes) in extras {
            match tag {
                tag::EVIDENCE => evidence = bytes.into_owned(),
                _ => read_extra(&mut beacon, tag, &bytes, reading)?,
            }
        }
        for (member, byte) in beacon.members.iter_mut().zip(evidence) {
            member.evidence = Some(evidence_of(byte));
        }
        Ok(beacon)
    }
}

/// Peers show a host and a port, and ask there of their own accord: nobody is to lead them to a path or a query, or lend them a password.
fn is_of_address(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
}

fn extras_of(beacon: &registry::Beacon) -> Extras<'static> {
    let mut extras = Vec::new();
    if !beacon.members.is_empty() {
        let member = |at: &registry::MemberAt| (at.node.as_str().to_owned(), at.age_ms, at.has_left);
        let members: List<(String, u32, bool), MEMBERS_MAX> = beacon.members.iter().take(MEMBERS_MAX).map(member).collect();
        let mut bytes = Vec::new();
        body::write(&members, &mut bytes).expect("unreachable: the list was cut to its bound");
        extras.push((tag::MEMBERS, Cow::Owned(bytes)));
    }
    let digests = [(tag::WITHDRAWN_DIGEST, beacon.withdrawn_digest), (tag::OVERRIDES_DIGEST, beacon.overrides_digest)];
    extras.extend(
        digests.into_iter().filter(|(_, digest)| *digest != 0).map(|(tag, digest)| (tag, Cow::Owned(digest.to_le_bytes().to_vec()))),
    );
    let flags = [(beacon.complete, COMPLETE), (beacon.preserving, PRESERVING), (beacon.gives_way, GIVES_WAY)];
    let flags = flags.into_iter().filter(|(is_so, _)| *is_so).fold(0, |flags, (_, flag)| flags | flag);
    if flags != 0 {
        extras.push((tag::FLAGS, Cow::Owned(vec![flags])));
    }
    let registry::AudienceAt { count, digest } = beacon.audience;
    if (count, digest) != (0, 0) {
        extras.push((tag::AUDIENCE, Cow::Owned([count.to_le_bytes(), digest.to_le_bytes()].concat())));
    }
    extras.extend(beacon.settling_ms.map(|ms| (tag::SETTLING, Cow::Owned(ms.to_le_bytes().to_vec()))));
    let evidence: Option<Vec<u8>> = beacon.members.iter().take(MEMBERS_MAX).map(|at| at.evidence.map(byte_of)).collect();
    if let Some(evidence) = evidence.filter(|evidence| !evidence.is_empty()) {
        extras.push((tag::EVIDENCE, Cow::Owned(evidence)));
    }
    extras.into_iter().collect()
}

fn read_extra(beacon: &mut registry::Beacon, tag: u16, bytes: &[u8], reading: &mut Reading) -> Result<(), Invalid> {
    let digest = || bytes.try_into().map(u128::from_le_bytes).map_err(|_| Invalid("digest"));
    match tag {
        tag::MEMBERS => {
            let members: List<Member<'_>, MEMBERS_MAX> = body::read(bytes).map_err(|_| Invalid("list of members"))?;
            let to_member = |at: Member<'_>| {
                Ok(registry::MemberAt { node: reading.node.parse(at.node)?, age_ms: at.age_ms, has_left: at.has_left, evidence: None })
            };
            beacon.members = members.into_iter().map(to_member).collect::<Result<_, Invalid>>()?;
        }
        tag::WITHDRAWN_DIGEST => beacon.withdrawn_digest = digest()?,
        tag::OVERRIDES_DIGEST => beacon.overrides_digest = digest()?,
        tag::FLAGS => {
            let flags = bytes.first().copied().unwrap_or(0);
            beacon.complete = flags & COMPLETE != 0;
            beacon.preserving = flags & PRESERVING != 0;
            beacon.gives_way = flags & GIVES_WAY != 0;
        }
        tag::AUDIENCE => {
            let (count, digest) = bytes.split_at_checked(8).ok_or(Invalid("audience"))?;
            let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).map_err(|_| Invalid("audience"));
            beacon.audience = registry::AudienceAt { count: number(count)?, digest: number(digest)? };
        }
        tag::SETTLING => beacon.settling_ms = Some(bytes.try_into().map(u32::from_le_bytes).map_err(|_| Invalid("time of settling"))?),
        _ => {}
    }
    Ok(())
}

fn byte_of(evidence: registry::Evidence) -> u8 {
    let registry::Evidence { is_direct, is_attested, refuses, is_lost } = evidence;
    let flags = [(is_direct, IS_DIRECT), (refuses, REFUSES), (is_lost, IS_LOST), (is_attested, IS_ATTESTED)];
    flags.into_iter().filter(|(is_so, _)| *is_so).fold(0, |flags, (_, flag)| flags | flag)
}

fn evidence_of(byte: u8) -> registry::Evidence {
    let has = |flag: u8| byte & flag != 0;
    registry::Evidence { is_direct: has(IS_DIRECT), is_attested: has(IS_ATTESTED), refuses: has(REFUSES), is_lost: has(IS_LOST) }
}

impl NodeState {
    pub(super) fn of(state: registry::NodeState) -> Self {
        match state {
            registry::NodeState::Warming => Self::Warming,
            registry::NodeState::Ready => Self::Ready,
            registry::NodeState::Leaving => Self::Leaving,
        }
    }

    pub(super) fn into_model(self) -> registry::NodeState {
        match self {
            Self::Warming => registry::NodeState::Warming,
            Self::Ready => registry::NodeState::Ready,
            Self::Leaving => registry::NodeState::Leaving,
        }
    }
}

pub(super) fn lives_of(applied: &[registry::AppliedAt]) -> Lives<'_> {
    applied.iter().map(|at| AppliedAt { life: Life::of(&at.life), seq: at.seq, age_ms: at.age_ms }).collect()
}

pub(super) fn to_lives(lives: Lives<'_>, reading: &mut Reading) -> Result<Vec<registry::AppliedAt>, Invalid> {
    let to_applied =
        |at: AppliedAt<'_>| Ok(registry::AppliedAt { life: at.life.into_model(reading)?, seq: counted(at.seq, "seq")?, age_ms: at.age_ms });
    lives.into_iter().map(to_applied).collect()
}
