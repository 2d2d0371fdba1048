//! Overrides on the wire: entries of the shared map, and the way back through the checks of the HTTP door.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::list::List;
use super::reading::{self, Reading};
use super::record::{Extras, Life};
use crate::model::{self, EXPIRES_IN_MS_MAX, METADATA_KEYS_MAX, OverrideDraft, OverrideKey, SELECTION_TERMS_MAX, Selection};
use crate::registry::{self, ENTRIES_MAX, Stamp};

/// Entries in a row; those that break a rule are left out when they are read, and noted.
pub(super) type Entries<'a> = List<Entry<'a>, ENTRIES_MAX>;

#[derive(Serialize, Deserialize)]
pub(super) struct Entry<'a> {
    namespace: &'a str,
    name: &'a str,
    counter: u64,
    #[serde(borrow)]
    by: Life<'a>,
    #[serde(borrow)]
    willed: Willed<'a>,
    #[serde(borrow)]
    extras: Extras<'a>,
}

#[derive(Serialize, Deserialize)]
enum Willed<'a> {
    Set {
        #[serde(borrow)]
        value: Box<Override<'a>>,
        expires_in_ms: Option<u64>,
    },
    Deleted {
        forget_in_ms: u64,
    },
}

#[derive(Serialize, Deserialize)]
struct Override<'a> {
    #[serde(borrow)]
    service: Option<&'a str>,
    #[serde(borrow)]
    id: Option<&'a str>,
    #[serde(borrow)]
    select: Option<List<(Cow<'a, str>, Cow<'a, str>), SELECTION_TERMS_MAX>>,
    status: Option<Imposed>,
    weight: Option<u16>,
    #[serde(borrow)]
    metadata: List<(&'a str, &'a str), METADATA_KEYS_MAX>,
    evict_after_ms: Option<u32>,
    preserve: Option<bool>,
    reason: &'a str,
    #[serde(borrow)]
    author: Option<&'a str>,
    created_at: u64,
}

#[derive(Serialize, Deserialize)]
enum Imposed {
    Up,
    Draining,
    Down,
}

pub(super) fn entries_of(entries: &[registry::Entry]) -> Entries<'_> {
    entries.iter().map(Entry::of).collect()
}

pub(super) fn to_entries(entries: Entries<'_>, reading: &mut Reading) -> Vec<registry::Entry> {
    reading.sound(entries.into_iter().map(|entry| (entry.counter, entry)), Entry::into_model)
}

impl<'a> Entry<'a> {
    fn of(entry: &'a registry::Entry) -> Self {
        let registry::Entry { key, stamp, willed } = entry;
        let willed = match willed {
            registry::Willed::Set { value, expires_in_ms } => {
                Willed::Set { value: Box::new(Override::of(value.parts())), expires_in_ms: *expires_in_ms }
            }
            registry::Willed::Deleted { forget_in_ms } => Willed::Deleted { forget_in_ms: *forget_in_ms },
        };
        let (namespace, name) = (key.namespace.as_str(), key.name.as_str());
        Self { namespace, name, counter: stamp.counter, by: Life::of(&stamp.by), willed, extras: [].into_iter().collect() }
    }

    fn into_model(self, reading: &mut Reading) -> Result<registry::Entry, Invalid> {
        let Self { namespace, name, counter, by, willed, extras: _ } = self;
        if !(1..=Stamp::COUNTER_MAX).contains(&counter) {
            return Err(Invalid("counter"));
        }
        let key = OverrideKey { namespace: reading.namespace.parse(namespace)?, name: reading::parse(name)? };
        let stamp = Stamp { counter, by: by.into_model(reading)? };
        let willed = match willed {
            Willed::Set { expires_in_ms: Some(ms), .. } if ms > EXPIRES_IN_MS_MAX => return Err(Invalid("expiry")),
            Willed::Set { value, expires_in_ms } => registry::Willed::Set { value: value.into_model(reading)?, expires_in_ms },
            Willed::Deleted { forget_in_ms } => registry::Willed::Deleted { forget_in_ms },
        };
        Ok(registry::Entry { key, stamp, willed })
    }
}

impl<'a> Override<'a> {
    fn of(parts: &'a OverrideDraft) -> Self {
        let OverrideDraft { service, id, select, status, weight, metadata, evict_after_ms, preserve, reason, author, created_at } = parts;
        let to_pairs = |select: &Selection| select.to_pairs().into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self {
            service: service.as_ref().map(model::ServiceName::as_str),
            id: id.as_ref().map(model::InstanceId::as_str),
            select: select.as_ref().map(to_pairs),
            status: status.map(Imposed::of),
            weight: *weight,
            metadata: metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
            evict_after_ms: *evict_after_ms,
            preserve: *preserve,
            reason,
            author: author.as_deref(),
            created_at: *created_at,
        }
    }

    fn into_model(self, reading: &mut Reading) -> Result<Arc<model::Override>, Invalid> {
        let pairs: Option<Vec<_>> = self.select.map(|pairs| pairs.into_iter().collect());
        let select = pairs.map(|pairs| Selection::parse(pairs.iter().map(|(key, value)| (&**key, &**value)))).transpose();
        let draft = OverrideDraft {
            service: self.service.map(|service| reading.service.parse(service)).transpose()?,
            id: self.id.map(reading::parse).transpose()?,
            select: select.map_err(|_| Invalid("selection"))?,
            status: self.status.map(Imposed::into_model),
            weight: self.weight,
            metadata: self.metadata.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            evict_after_ms: self.evict_after_ms,
            preserve: self.preserve,
            reason: self.reason.to_owned(),
            author: self.author.map(str::to_owned),
            created_at: self.created_at,
        };
        model::Override::new(draft).map(Arc::new).map_err(|_| Invalid("override"))
    }
}

impl Imposed {
    fn of(imposed: model::Imposed) -> Self {
        match imposed {
            model::Imposed::Up => Self::Up,
            model::Imposed::Draining => Self::Draining,
            model::Imposed::Down => Self::Down,
        }
    }

    fn into_model(self) -> model::Imposed {
        match self {
            Self::Up => model::Imposed::Up,
            Self::Draining => model::Imposed::Draining,
            Self::Down => model::Imposed::Down,
        }
    }
}
