//! What a provider says: JSON straight into the model's types, and everything that is wrong with it at once.
//!
//! A body that is right, as nearly all are, is read by serde in one pass. One that is not is read again as a tree, field by field, so that
//! each fault is told with its place. Both passes come from one list of fields.

mod bounded;
mod json;
mod repeated;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

use self::json::{FromJson, Life, Millis, Once, OpaqueDigest, Ttl, is_object, unknown_field};
use super::fault::{Fault, FaultCode, Faults};
use super::problem::{Code, Problem};
use crate::config::LeasesConfig;
use crate::model::{
    Address, Check, CheckKind, InstanceId, Namespace, Port, Region, Registration, RegistrationDraft, Reported, ServiceName,
    Ttl as ModelTtl, WEIGHT_DEFAULT, Zone,
};
use crate::units::show_ms;

pub(super) use self::bounded::Bounded;
pub(super) use self::json::{CheckWord, DIGEST_BYTES_MAX, OpWord, Text};
pub(super) use self::overrides::OverrideSaid;
pub(super) use self::repeated::repeated;

/// Declares a body's fields once, for both passes. Every field may be absent here; what is needed is said where it is used.
macro_rules! body {
    ($(#[$doc:meta])* $vis:vis struct $body:ident { $($field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        $vis struct $body { $(pub(super) $field: Option<$type>,)* }

        impl $body {
            /// Every field's name.
            const NAMES: &[&'static str] = &[$(stringify!($field),)*];

            /// Which fields are there: one bit each, in the order of the names.
            fn present(&self) -> u32 {
                let mut bits = 0;
                let mut bit = 1;
                $(if self.$field.is_some() { bits |= bit; } bit <<= 1;)*
                let _ = bit;
                bits
            }

            /// A field that this kind of body does not take, if one is there.
            pub(super) fn stray(&self, allowed: Fields, at: &str) -> Option<Fault> {
                let stray = self.present() & !allowed.bits;
                let name = Self::NAMES.get(stray.trailing_zeros() as usize)?;
                Some(unknown_field(&json::inside(at, name), name, allowed.names))
            }

            /// Reads field by field what serde reads; the first fault ends it. Unlike the derived reading this takes no array for a struct.
            fn read_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
                #[derive(Deserialize, Clone, Copy)]
                #[serde(field_identifier)]
                #[expect(non_camel_case_types, reason = "the variants are the fields' names")]
                enum Key { $($field,)* }

                let (mut body, mut met) = (Self::default(), 0_u32);
                while let Some(key) = map.next_key::<Key>()? {
                    // Also where the first of two is null.
                    let bit = 1 << key as u32;
                    if met & bit != 0 {
                        return Err(A::Error::duplicate_field(Self::NAMES[key as usize]));
                    }
                    met |= bit;
                    match key {
                        $(Key::$field => body.$field = map.next_value()?,)*
                    }
                }
                Ok(body)
            }

            /// Reads a tree field by field; what is wrong is left out and told.
            fn collect(fields: &Map<String, Value>, allowed: Fields, at: &str, faults: &mut Faults) -> Self {
                let mut body = Self::default();
                for (name, value) in fields {
                    if faults.is_full() {
                        break;
                    }
                    let at = json::inside(at, name);
                    match name.as_str() {
                        $(stringify!($field) if value.is_null() || allowed.has(stringify!($field)) => {
                            if !value.is_null() { body.$field = <$type>::from_json(value, &at, faults); }
                        })*
                        _ => faults.push(unknown_field(&at, name, allowed.names)),
                    }
                }
                body
            }
        }

        impl<'de> Deserialize<'de> for $body {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Fields;
                impl<'de> Visitor<'de> for Fields {
                    type Value = $body;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an object")
                    }
                    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<$body, A::Error> {
                        $body::read_map(map)
                    }
                }
                deserializer.deserialize_map(Fields)
            }
        }
    };
}

// Below the macro: it declares a body by it.
mod overrides;

body! {
    /// Everything that a write can say of an instance; which of it may be said depends on the write.
    pub(super) struct Said {
        op: OpWord,
        namespace: Text<Namespace>,
        service: Text<ServiceName>,
        id: Text<InstanceId>,
        address: Text<Address>,
        port: Port,
        ports: Once<Port>,
        weight: u16,
        region: Text<Region>,
        zone: Text<Zone>,
        tags: BTreeSet<String>,
        metadata: Once<String>,
        status: Text<Reported>,
        ttl: Ttl,
        evict_after: Millis,
        check: CheckSaid,
        incarnation: Life,
        digest: OpaqueDigest,
    }
}

body! {
    /// How the registry may look for itself.
    pub(super) struct CheckSaid {
        kind: CheckWord,
        path: String,
        port: Port,
        interval: Millis,
        timeout: Millis,
        failures: u16,
        successes: u16,
    }
}

/// What a registration says in a batch: what to do, of which instance, and the registration itself.
const OP_REGISTER_NAMES: &[&str] = &[
    "op",
    "namespace",
    "service",
    "id",
    "address",
    "port",
    "ports",
    "weight",
    "region",
    "zone",
    "tags",
    "metadata",
    "status",
    "ttl",
    "evict_after",
    "check",
    "incarnation",
];

/// Which of a body's fields one kind of it takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields {
    names: &'static [&'static str],
    /// One bit each, in the order of the body's own names.
    bits: u32,
}

impl Fields {
    pub(super) const REGISTER: Self = Self::of(Said::NAMES, Self::after(4, OP_REGISTER_NAMES));
    pub(super) const HEARTBEAT: Self = Self::of(Said::NAMES, &["incarnation", "digest", "status"]);
    /// Of a batch's operation of any kind.
    pub(super) const OP: Self = Self::of(Said::NAMES, Said::NAMES);
    pub(super) const OP_REGISTER: Self = Self::of(Said::NAMES, OP_REGISTER_NAMES);
    /// Of an instance that a connection holds.
    pub(super) const MEMBER: Self = Self::of(Said::NAMES, Self::after(1, OP_REGISTER_NAMES));
    pub(super) const OP_HEARTBEAT: Self = Self::of(Said::NAMES, &["op", "namespace", "service", "id", "incarnation", "digest", "status"]);
    pub(super) const OP_DEREGISTER: Self = Self::of(Said::NAMES, &["op", "namespace", "service", "id", "incarnation"]);
    const CHECK: Self = Self::of(CheckSaid::NAMES, CheckSaid::NAMES);
    const CHECK_PORT: Self = Self::of(CheckSaid::NAMES, &["kind", "port", "interval", "timeout", "failures", "successes"]);
    const CHECK_NONE: Self = Self::of(CheckSaid::NAMES, &["kind", "interval", "timeout", "failures", "successes"]);

    fn has(self, name: &str) -> bool {
        self.names.contains(&name)
    }

    /// The names behind the first so many.
    const fn after(count: usize, names: &'static [&'static str]) -> &'static [&'static str] {
        names.split_at(count).1
    }

    const fn of(all: &[&'static str], names: &'static [&'static str]) -> Self {
        let mut bits = 0;
        let mut place = 0;
        while place < all.len() {
            let mut at = 0;
            while at < names.len() {
                if same(all[place], names[at]) {
                    bits |= 1 << place;
                }
                at += 1;
            }
            place += 1;
        }
        Self { names, bits }
    }
}

impl Said {
    /// Reads a body; an empty one says nothing. What is wrong is left out and told.
    ///
    /// # Errors
    /// A [`Problem`] when it is no JSON at all.
    pub(super) fn read(body: &[u8], allowed: Fields, faults: &mut Faults) -> Result<Self, Problem> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        match serde_json::from_slice::<Self>(body) {
            Ok(said) if said.is_within(allowed) => Ok(said),
            Ok(_) => Ok(Self::diagnose(&tree(body)?, allowed, "", faults)),
            Err(error) => {
                let tree = tree(body)?;
                let before = faults.len();
                let said = Self::diagnose(&tree, allowed, "", faults);
                if faults.len() == before && !tree.is_null() {
                    // The tree hides what serde saw: a key that stands twice.
                    faults.push(Fault::pointer("", FaultCode::InvalidValue, error.to_string()));
                }
                Ok(said)
            }
        }
    }

    /// Nothing is said that this kind of write does not take.
    pub(super) fn is_within(&self, allowed: Fields) -> bool {
        self.present() & !allowed.bits == 0
    }

    /// Reads a tree; what is wrong is left out and told.
    pub(super) fn diagnose(tree: &Value, allowed: Fields, at: &str, faults: &mut Faults) -> Self {
        // Null says nothing, here as in every field.
        if tree.is_null() {
            return Self::default();
        }
        is_object(tree, at, faults).map(|fields| Self::collect(fields, allowed, at, faults)).unwrap_or_default()
    }

    /// The registration that is said; `None`: the faults say why not.
    pub(super) fn take_registration(&mut self, leases: &LeasesConfig, at: &str, faults: &mut Faults) -> Option<Arc<Registration>> {
        let before = faults.len();
        let ttl = self.ttl_within(leases, at, faults);
        let check = self.check.take().and_then(|check| check.into_check(&json::inside(at, "check"), faults));
        let address = needed(self.address.take(), "address", at, faults);
        let port = needed(self.port, "port", at, faults);
        let (Some(Text(address)), Some(port)) = (address, port) else { return None };
        let registration = Registration::new(RegistrationDraft {
            ports: self.ports.take().map(|Once(ports)| ports).unwrap_or_default(),
            weight: self.weight.unwrap_or(WEIGHT_DEFAULT),
            region: self.region.take().map(|Text(region)| region),
            zone: self.zone.take().map(|Text(zone)| zone),
            tags: self.tags.take().unwrap_or_default(),
            metadata: self.metadata.take().map(|Once(metadata)| metadata).unwrap_or_default(),
            reported: self.status.as_ref().map_or(Reported::Up, |Text(status)| *status),
            check,
            evict_after_ms: self.evict_after.map(Millis::saturating),
            ..RegistrationDraft::new(address, port, ttl)
        });
        match registration {
            Ok(registration) if faults.len() == before => Some(Arc::new(registration)),
            Ok(_) => None,
            Err(violations) => {
                faults.extend(violations.into_iter().map(|violation| Fault::from(violation).under(at)));
                None
            }
        }
    }

    /// The ttl that is said; `None`: it is a fixed address, or the faults say what is wrong.
    fn ttl_within(&self, leases: &LeasesConfig, at: &str, faults: &mut Faults) -> Option<ModelTtl> {
        let bounds = leases.ttl_min_ms..=leases.ttl_max_ms;
        let Ttl(Some(ms)) = self.ttl.unwrap_or(Ttl(Some(leases.ttl_ms))) else { return None };
        let ttl = ModelTtl::from_ms(ms).ok().filter(|_| bounds.contains(&ms));
        if ttl.is_none() {
            let detail = format!("`ttl` must be {} to {}, is {}", show_ms(*bounds.start()), show_ms(*bounds.end()), show_ms(ms));
            faults.push(Fault::pointer(json::inside(at, "ttl"), FaultCode::InvalidValue, detail));
        }
        ttl
    }
}

impl CheckSaid {
    const INTERVAL_MS: u32 = 10_000;
    const TIMEOUT_MS: u32 = 2_000;
    const FAILURES: u16 = 3;
    const SUCCESSES: u16 = 2;

    fn into_check(mut self, at: &str, faults: &mut Faults) -> Option<Check> {
        let kind = needed(self.kind, "kind", at, faults)?;
        let allowed = match kind {
            CheckWord::Http => Fields::CHECK,
            CheckWord::Tcp | CheckWord::Grpc => Fields::CHECK_PORT,
            CheckWord::None => Fields::CHECK_NONE,
        };
        faults.extend(self.stray(allowed, at));
        let (path, port) = (self.path.take(), self.port);
        Some(Check {
            kind: match kind {
                CheckWord::Http => CheckKind::Http { path: path.unwrap_or_else(|| "/".to_owned()), port },
                CheckWord::Tcp => CheckKind::Tcp { port },
                CheckWord::Grpc => CheckKind::Grpc { port },
                CheckWord::None => CheckKind::None,
            },
            interval_ms: self.interval.map_or(Self::INTERVAL_MS, Millis::saturating),
            timeout_ms: self.timeout.map_or(Self::TIMEOUT_MS, Millis::saturating),
            failures: self.failures.unwrap_or(Self::FAILURES),
            successes: self.successes.unwrap_or(Self::SUCCESSES),
        })
    }
}

/// A field that must be there. That it is there but wrong has been told already.
pub(super) fn needed<T>(value: Option<T>, name: &str, at: &str, faults: &mut Faults) -> Option<T> {
    let pointer = json::inside(at, name);
    if value.is_none() && !faults.has(&pointer) {
        faults.push(Fault::pointer(pointer, FaultCode::MissingField, format!("`{name}` is needed")));
    }
    value
}

/// A body as a tree.
///
/// # Errors
/// A [`Problem`] when it is no JSON, or too long for a tree.
pub(super) fn tree(body: &[u8]) -> Result<Value, Problem> {
    // A tree holds the last of two: that there were two would be hidden.
    let repeated = repeated(body)?;
    let tree = serde_json::from_slice(body)
        .map_err(|error| Problem::new(Code::InvalidJson, format!("The body is no JSON: {error}; nothing was changed.")))?;
    if repeated.is_empty() { Ok(tree) } else { Err(Problem::invalid(repeated)) }
}

const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests;
