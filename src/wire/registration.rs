//! Registrations on the wire: the frozen shapes, and the way back through the checks of the HTTP door.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::list::List;
use super::reading::Reading;
use crate::model::{
    self, Address, METADATA_KEYS_MAX, PORTS_MAX, Port, RECORD_BYTES_HARD_MAX, Region, RegistrationDraft, TAGS_MAX, Ttl, Zone,
};

#[derive(Serialize, Deserialize)]
pub(super) struct Registration<'a> {
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

impl<'a> Registration<'a> {
    pub(super) fn of(registration: &'a model::Registration) -> Self {
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
            ttl_ms: registration.ttl().unwrap_or(Ttl::LONGEST).ms(),
            check: registration.check().map(Check::of),
            evict_after_ms: registration.evict_after_ms(),
        }
    }

    /// With `sends_heartbeats` false its ttl is what it has for nodes that know no fixed addresses.
    pub(super) fn into_model(self, sends_heartbeats: bool, reading: &mut Reading) -> Result<Arc<model::Registration>, Invalid> {
        let ttl = Ttl::from_ms(self.ttl_ms).map_err(|_| Invalid("ttl"))?;
        let draft = RegistrationDraft {
            // As it is spelled, whatever a door would say of it: the digests of all nodes are made of that.
            address: Address::parse_recorded(self.address).map_err(|_| Invalid("address"))?,
            port: self.port,
            ports: self.ports.into_iter().map(|(name, port)| (name.to_owned(), port)).collect(),
            weight: self.weight,
            region: self.region.map(|region| reading.region.parse(region)).transpose()?,
            zone: self.zone.map(|zone| reading.zone.parse(zone)).transpose()?,
            tags: self.tags.into_iter().map(str::to_owned).collect(),
            metadata: self.metadata.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            reported: self.reported.into_model(),
            ttl: sends_heartbeats.then_some(ttl),
            check: self.check.map(Check::into_model),
            evict_after_ms: self.evict_after_ms,
        };
        let registration = model::Registration::new(draft).map_err(|_| Invalid("registration"))?;
        if registration.size_bytes() > RECORD_BYTES_HARD_MAX {
            return Err(Invalid("registration"));
        }
        Ok(Arc::new(registration))
    }
}

impl<'a> Check<'a> {
    fn of(check: &'a model::Check) -> Self {
        let kind = match &check.kind {
            model::CheckKind::Http { path, port } => CheckKind::Http { path, port: *port },
            model::CheckKind::Tcp { port } => CheckKind::Tcp { port: *port },
            model::CheckKind::Grpc { port } => CheckKind::Grpc { port: *port },
            model::CheckKind::None => CheckKind::None,
        };
        let model::Check { kind: _, interval_ms, timeout_ms, failures, successes } = *check;
        Self { kind, interval_ms, timeout_ms, failures, successes }
    }

    fn into_model(self) -> model::Check {
        let Self { kind, interval_ms, timeout_ms, failures, successes } = self;
        let kind = match kind {
            CheckKind::Http { path, port } => model::CheckKind::Http { path: path.to_owned(), port },
            CheckKind::Tcp { port } => model::CheckKind::Tcp { port },
            CheckKind::Grpc { port } => model::CheckKind::Grpc { port },
            CheckKind::None => model::CheckKind::None,
        };
        model::Check { kind, interval_ms, timeout_ms, failures, successes }
    }
}

impl Reported {
    fn of(reported: model::Reported) -> Self {
        match reported {
            model::Reported::Starting => Self::Starting,
            model::Reported::Up => Self::Up,
        }
    }

    fn into_model(self) -> model::Reported {
        match self {
            Self::Starting => model::Reported::Starting,
            Self::Up => model::Reported::Up,
        }
    }
}
