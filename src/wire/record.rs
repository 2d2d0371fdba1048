//! Records on the wire: frozen shapes, and the way from and to the registry's own.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Rejected;
use super::list::List;
use super::names::{self, Names};
use crate::model::{
    Address, Cause as ModelCause, Check as ModelCheck, CheckKind as ModelCheckKind, Epoch, Incarnation, InstanceKey, Life as ModelLife,
    METADATA_KEYS_MAX, PORTS_MAX, Port, RECORD_BYTES_HARD_MAX, Region, Registration as ModelRegistration, RegistrationDraft,
    Reported as ModelReported, ServiceKey, TAGS_MAX, Ttl, Version as ModelVersion, Zone,
};
use crate::registry::{Body as ModelBody, NOTE_BYTES_MAX, Record as ModelRecord, Seen as ModelSeen};

/// What later versions add to a record or a beacon without a new kind of frame: (tag, bytes), of no meaning to this one, which skips it.
pub(super) type Extras<'a> = List<(u16, &'a [u8]), EXTRAS_MAX>;

const EXTRAS_MAX: usize = 32;

#[derive(Serialize, Deserialize)]
pub(super) struct Record<'a> {
    #[serde(borrow)]
    key: Key<'a>,
    version: Version<'a>,
    body: Body<'a>,
    cause: Cause,
    changed_at: u64,
    #[serde(borrow)]
    actor: Option<&'a str>,
    #[serde(borrow)]
    detail: Option<&'a str>,
    #[serde(borrow)]
    extras: Extras<'a>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Key<'a> {
    namespace: &'a str,
    service: &'a str,
    id: &'a str,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Life<'a> {
    node: &'a str,
    epoch: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Version<'a> {
    incarnation: u64,
    edition: u64,
    deregistered: bool,
    generation: u64,
    live: bool,
    #[serde(borrow)]
    owner: Life<'a>,
    seq: u64,
}

#[derive(Serialize, Deserialize)]
enum Body<'a> {
    Live {
        #[serde(borrow)]
        registration: Registration<'a>,
        seen: Seen,
    },
    Withdrawn {
        #[serde(borrow)]
        kept: Option<Registration<'a>>,
        named: bool,
    },
}

#[derive(Serialize, Deserialize)]
enum Seen {
    Well,
    Suspect,
    Down,
}

#[derive(Serialize, Deserialize)]
enum Cause {
    Registered,
    Updated,
    Expired,
    Recovered,
    Deregistered,
    Superseded,
    Adopted,
}

#[derive(Serialize, Deserialize)]
struct Registration<'a> {
    address: &'a str,
    port: Port,
    #[serde(borrow)]
    ports: List<(&'a str, Port), PORTS_MAX>,
    weight: u16,
    #[serde(borrow)]
    region: Option<&'a str>,
    #[serde(borrow)]
    zone: Option<&'a str>,
    #[serde(borrow)]
    tags: List<&'a str, TAGS_MAX>,
    #[serde(borrow)]
    metadata: List<(&'a str, &'a str), METADATA_KEYS_MAX>,
    reported: Reported,
    ttl_ms: u64,
    #[serde(borrow)]
    check: Option<Check<'a>>,
    evict_after_ms: Option<u32>,
}

#[derive(Serialize, Deserialize)]
enum Reported {
    Starting,
    Up,
}

#[derive(Serialize, Deserialize)]
struct Check<'a> {
    #[serde(borrow)]
    kind: CheckKind<'a>,
    interval_ms: u32,
    timeout_ms: u32,
    failures: u16,
    successes: u16,
}

#[derive(Serialize, Deserialize)]
enum CheckKind<'a> {
    Http { path: &'a str, port: Option<Port> },
    Tcp { port: Option<Port> },
    Grpc { port: Option<Port> },
    None,
}

impl<'a> Record<'a> {
    pub(super) fn of(record: &'a ModelRecord) -> Self {
        let ModelRecord { key, version, body, cause, changed_at, actor, detail } = record;
        Self {
            key: Key::of(key),
            version: Version::of(version),
            body: Body::of(body),
            cause: Cause::of(*cause),
            changed_at: *changed_at,
            actor: actor.as_deref(),
            detail: detail.as_deref(),
            extras: List::EMPTY,
        }
    }

    pub(super) fn into_model(self, names: &mut Names) -> Result<Arc<ModelRecord>, Rejected> {
        let Self { key, version, body, cause, changed_at, actor, detail, extras: _ } = self;
        Ok(Arc::new(ModelRecord {
            key: key.into_model(names)?,
            version: version.into_model(names)?,
            body: body.into_model(names)?,
            cause: cause.into_model(),
            changed_at,
            actor: actor.map(note).transpose()?,
            detail: detail.map(note).transpose()?,
        }))
    }
}

/// An actor or a detail: shown to people, so nothing that moves a terminal's cursor.
fn note(text: &str) -> Result<Arc<str>, Rejected> {
    if text.len() <= NOTE_BYTES_MAX && !text.chars().any(char::is_control) { Ok(Arc::from(text)) } else { Err(Rejected::Invalid("note")) }
}

impl<'a> Key<'a> {
    pub(super) fn of(key: &'a InstanceKey) -> Self {
        Self { namespace: key.service.namespace.as_str(), service: key.service.service.as_str(), id: key.id.as_str() }
    }

    pub(super) fn into_model(self, names: &mut Names) -> Result<InstanceKey, Rejected> {
        let service = ServiceKey { namespace: names.namespace.parse(self.namespace)?, service: names.service.parse(self.service)? };
        Ok(InstanceKey { service, id: names::parse(self.id)? })
    }
}

impl<'a> Life<'a> {
    pub(super) fn of(life: &'a ModelLife) -> Self {
        Self { node: life.node.as_str(), epoch: life.epoch.0 }
    }

    pub(super) fn into_model(self, names: &mut Names) -> Result<ModelLife, Rejected> {
        Ok(ModelLife { node: names.node.parse(self.node)?, epoch: Epoch(self.epoch) })
    }
}

impl<'a> Version<'a> {
    pub(super) fn of(version: &'a ModelVersion) -> Self {
        let ModelVersion { incarnation, edition, deregistered, generation, live, owner, seq } = version;
        Self {
            incarnation: incarnation.get(),
            edition: *edition,
            deregistered: *deregistered,
            generation: *generation,
            live: *live,
            owner: Life::of(owner),
            seq: *seq,
        }
    }

    pub(super) fn into_model(self, names: &mut Names) -> Result<ModelVersion, Rejected> {
        Ok(ModelVersion {
            incarnation: Incarnation::new(self.incarnation).ok_or(Rejected::Invalid("incarnation"))?,
            edition: self.edition,
            deregistered: self.deregistered,
            generation: self.generation,
            live: self.live,
            owner: self.owner.into_model(names)?,
            seq: self.seq,
        })
    }
}

impl<'a> Body<'a> {
    fn of(body: &'a ModelBody) -> Self {
        match body {
            ModelBody::Live { registration, seen } => Self::Live { registration: Registration::of(registration), seen: Seen::of(*seen) },
            ModelBody::Withdrawn { kept, named } => Self::Withdrawn { kept: kept.as_deref().map(Registration::of), named: *named },
        }
    }

    fn into_model(self, names: &mut Names) -> Result<ModelBody, Rejected> {
        Ok(match self {
            Self::Live { registration, seen } => ModelBody::Live { registration: registration.into_model(names)?, seen: seen.into_model() },
            Self::Withdrawn { kept, named } => {
                ModelBody::Withdrawn { kept: kept.map(|registration| registration.into_model(names)).transpose()?, named }
            }
        })
    }
}

impl<'a> Registration<'a> {
    fn of(registration: &'a ModelRegistration) -> Self {
        Self {
            address: registration.address().as_str(),
            port: registration.port(),
            ports: registration.ports().iter().map(|(name, port)| (name.as_str(), *port)).collect(),
            weight: registration.weight(),
            region: registration.region().map(Region::as_str),
            zone: registration.zone().map(Zone::as_str),
            tags: registration.tags().iter().map(String::as_str).collect(),
            metadata: registration.metadata().iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
            reported: Reported::of(registration.reported()),
            ttl_ms: registration.ttl().ms(),
            check: registration.check().map(Check::of),
            evict_after_ms: registration.evict_after_ms(),
        }
    }

    fn into_model(self, names: &mut Names) -> Result<Arc<ModelRegistration>, Rejected> {
        let draft = RegistrationDraft {
            address: Address::parse(self.address).map_err(|_| Rejected::Invalid("address"))?,
            port: self.port,
            ports: self.ports.into_iter().map(|(name, port)| (name.to_owned(), port)).collect(),
            weight: self.weight,
            region: self.region.map(|region| names.region.parse(region)).transpose()?,
            zone: self.zone.map(|zone| names.zone.parse(zone)).transpose()?,
            tags: self.tags.into_iter().map(str::to_owned).collect(),
            metadata: self.metadata.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            reported: self.reported.into_model(),
            ttl: Ttl::from_ms(self.ttl_ms).map_err(|_| Rejected::Invalid("ttl"))?,
            check: self.check.map(Check::into_model),
            evict_after_ms: self.evict_after_ms,
        };
        let registration = ModelRegistration::new(draft).map_err(|_| Rejected::Invalid("registration"))?;
        if registration.size_bytes() > RECORD_BYTES_HARD_MAX {
            return Err(Rejected::Invalid("registration"));
        }
        Ok(Arc::new(registration))
    }
}

impl<'a> Check<'a> {
    fn of(check: &'a ModelCheck) -> Self {
        let kind = match &check.kind {
            ModelCheckKind::Http { path, port } => CheckKind::Http { path, port: *port },
            ModelCheckKind::Tcp { port } => CheckKind::Tcp { port: *port },
            ModelCheckKind::Grpc { port } => CheckKind::Grpc { port: *port },
            ModelCheckKind::None => CheckKind::None,
        };
        let ModelCheck { kind: _, interval_ms, timeout_ms, failures, successes } = *check;
        Self { kind, interval_ms, timeout_ms, failures, successes }
    }

    fn into_model(self) -> ModelCheck {
        let Self { kind, interval_ms, timeout_ms, failures, successes } = self;
        let kind = match kind {
            CheckKind::Http { path, port } => ModelCheckKind::Http { path: path.to_owned(), port },
            CheckKind::Tcp { port } => ModelCheckKind::Tcp { port },
            CheckKind::Grpc { port } => ModelCheckKind::Grpc { port },
            CheckKind::None => ModelCheckKind::None,
        };
        ModelCheck { kind, interval_ms, timeout_ms, failures, successes }
    }
}

impl Seen {
    fn of(seen: ModelSeen) -> Self {
        match seen {
            ModelSeen::Well => Self::Well,
            ModelSeen::Suspect => Self::Suspect,
            ModelSeen::Down => Self::Down,
        }
    }

    fn into_model(self) -> ModelSeen {
        match self {
            Self::Well => ModelSeen::Well,
            Self::Suspect => ModelSeen::Suspect,
            Self::Down => ModelSeen::Down,
        }
    }
}

impl Cause {
    fn of(cause: ModelCause) -> Self {
        match cause {
            ModelCause::Registered => Self::Registered,
            ModelCause::Updated => Self::Updated,
            ModelCause::Expired => Self::Expired,
            ModelCause::Recovered => Self::Recovered,
            ModelCause::Deregistered => Self::Deregistered,
            ModelCause::Superseded => Self::Superseded,
            ModelCause::Adopted => Self::Adopted,
        }
    }

    fn into_model(self) -> ModelCause {
        match self {
            Self::Registered => ModelCause::Registered,
            Self::Updated => ModelCause::Updated,
            Self::Expired => ModelCause::Expired,
            Self::Recovered => ModelCause::Recovered,
            Self::Deregistered => ModelCause::Deregistered,
            Self::Superseded => ModelCause::Superseded,
            Self::Adopted => ModelCause::Adopted,
        }
    }
}

impl Reported {
    fn of(reported: ModelReported) -> Self {
        match reported {
            ModelReported::Starting => Self::Starting,
            ModelReported::Up => Self::Up,
        }
    }

    fn into_model(self) -> ModelReported {
        match self {
            Self::Starting => ModelReported::Starting,
            Self::Up => ModelReported::Up,
        }
    }
}
