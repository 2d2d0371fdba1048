//! JSON's leaves and how each is read: by serde when all is well, from a tree with a sentence when it is not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::CheckSaid;
use crate::api::Hex;
use crate::http::fault::{Fault, FaultCode, Faults};
use crate::http::problem::shown;
use crate::model::{
    Address, INCARNATION_NAMED_MAX, Incarnation, InstanceId, Namespace, Port, Region, Reported, ServiceName, Zone, odd_character,
};
use crate::nearest::nearest;
use crate::units::{DURATION_RULE, parse_ms};

/// Reads a value of a tree; what is wrong with it is told with its place.
pub(super) trait FromJson: Sized {
    fn from_json(value: &Value, at: &str, faults: &mut Faults) -> Option<Self>;
}

/// A value that JSON writes as text.
pub(super) trait FromText: Sized {
    /// The value, or the rule that the text breaks.
    fn from_text(text: &str) -> Result<Self, String>;
}

/// Reads a value that JSON writes as a duration: text with a unit, or whole milliseconds.
trait FromSpan: Sized {
    /// What it must be.
    const RULE: &str;
    fn from_ms(ms: u64) -> Self;
    fn from_words(text: &str) -> Option<Self>;
}

/// Text that becomes a value of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) struct Text<T>(pub(in crate::http) T);

/// A map, each of whose keys stands once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::http) struct Once<T>(pub(in crate::http) BTreeMap<String, T>);

/// A duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct Millis(u64);

/// A duration, or `none`: no heartbeats at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct Ttl(pub(super) Option<u64>);

/// An incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct Life(pub(in crate::http) Incarnation);

/// A digest as a registration's answer gave it. One that this node could not have given belongs to no content: it differs from all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct OpaqueDigest(pub(in crate::http) u128);

/// What an operation of a batch does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum OpWord {
    Register,
    Heartbeat,
    Deregister,
}

/// What a check asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum CheckWord {
    Http,
    Tcp,
    Grpc,
    None,
}

pub(in crate::http) const DIGEST_BYTES_MAX: usize = 128;

impl Millis {
    pub(super) fn get(self) -> u64 {
        self.0
    }

    /// In 32 bits, where more is refused later anyway.
    pub(super) fn saturating(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

/// The place of a field within a place.
pub(super) fn inside(at: &str, name: &str) -> String {
    if name.contains(['~', '/']) || name.len() > 64 {
        return format!("{at}/{}", shown(name).replace('~', "~0").replace('/', "~1"));
    }
    [at, "/", name].concat()
}

/// That a field is not known, and which one was likely meant.
pub(super) fn unknown_field(at: &str, name: &str, known: &[&'static str]) -> Fault {
    let name = shown(name);
    let hint = nearest(&name, known.iter().copied()).map_or_else(String::new, |guess| format!("; did you mean `{guess}`?"));
    Fault::pointer(at, FaultCode::UnknownField, format!("unknown field `{name}`{hint}"))
}

/// The fields of a tree that must be an object.
pub(super) fn is_object<'a>(value: &'a Value, at: &str, faults: &mut Faults) -> Option<&'a Map<String, Value>> {
    value.as_object().or_else(|| refuse(at, "must be an object", value, faults))
}

fn refuse<T>(at: &str, rule: &str, value: &Value, faults: &mut Faults) -> Option<T> {
    let name = if at.is_empty() { "the body" } else { at.trim_start_matches('/') };
    let is = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(bool) => bool.to_string(),
        Value::Number(number) => shown(&number.to_string()).into_owned(),
        Value::String(text) => format!("\"{}\"{}", shown(text).escape_debug(), odd_character(text)),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    };
    faults.push(Fault::pointer(at, FaultCode::InvalidValue, format!("`{name}` {rule}, is {is}")));
    None
}

impl<T: FromText> FromJson for T {
    fn from_json(value: &Value, at: &str, faults: &mut Faults) -> Option<Self> {
        match value.as_str().map(T::from_text) {
            Some(Ok(read)) => Some(read),
            Some(Err(rule)) => refuse(at, &rule, value, faults),
            None => refuse(at, "must be a string", value, faults),
        }
    }
}

impl FromText for String {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

macro_rules! text {
    ($($type:ty),*) => {$(
        impl FromText for Text<$type> {
            fn from_text(text: &str) -> Result<Self, String> {
                <$type>::parse(text).map(Self).map_err(|error| sentence(&error.to_string()))
            }
        }
    )*};
}
text!(Namespace, ServiceName, InstanceId, Region, Zone, Address);

/// A name's rule without its subject: the fault names the field.
fn sentence(error: &str) -> String {
    error.find("must be").map_or(error, |start| &error[start..]).to_owned()
}

impl OpWord {
    /// Each with its word.
    pub(in crate::http) const ALL: [(&str, Self); 3] =
        [("register", Self::Register), ("heartbeat", Self::Heartbeat), ("deregister", Self::Deregister)];
}

impl CheckWord {
    /// Each with its word.
    pub(in crate::http) const ALL: [(&str, Self); 4] =
        [("http", Self::Http), ("tcp", Self::Tcp), ("grpc", Self::Grpc), ("none", Self::None)];
}

impl FromText for Text<Reported> {
    fn from_text(text: &str) -> Result<Self, String> {
        Reported::ALL
            .into_iter()
            .find(|reported| reported.as_str() == text)
            .map(Self)
            .ok_or_else(|| "must be `starting` or `up`".to_owned())
    }
}

impl FromText for OpWord {
    fn from_text(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|(word, _)| *word == text);
        known.map(|(_, op)| op).ok_or_else(|| "must be `register`, `heartbeat` or `deregister`".to_owned())
    }
}

impl FromText for CheckWord {
    fn from_text(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|(word, _)| *word == text);
        known.map(|(_, kind)| kind).ok_or_else(|| "must be `http`, `tcp`, `grpc` or `none`".to_owned())
    }
}

impl FromText for OpaqueDigest {
    fn from_text(text: &str) -> Result<Self, String> {
        if text.len() > DIGEST_BYTES_MAX {
            return Err("must be as a registration's answer gave it".to_owned());
        }
        Ok(Self(Hex::parse(text).map_or(0, |Hex(digest)| digest)))
    }
}

impl FromSpan for Millis {
    const RULE: &str = DURATION_RULE;
    fn from_ms(ms: u64) -> Self {
        Self(ms)
    }
    fn from_words(text: &str) -> Option<Self> {
        parse_ms(text).map(Self)
    }
}

impl FromSpan for Ttl {
    const RULE: &str = "a duration like \"15s\" or \"2m\", whole milliseconds, or \"none\"";
    fn from_ms(ms: u64) -> Self {
        Self(Some(ms))
    }
    fn from_words(text: &str) -> Option<Self> {
        if text == "none" { Some(Self(None)) } else { parse_ms(text).map(Self::from_ms) }
    }
}

fn span_from_json<T: FromSpan>(value: &Value, at: &str, faults: &mut Faults) -> Option<T> {
    let read = match value {
        Value::String(text) => T::from_words(text),
        other => other.as_u64().map(T::from_ms),
    };
    read.or_else(|| refuse(at, &format!("must be {}", T::RULE), value, faults))
}

impl FromJson for Millis {
    fn from_json(value: &Value, at: &str, faults: &mut Faults) -> Option<Self> {
        span_from_json(value, at, faults)
    }
}

impl FromJson for Ttl {
    fn from_json(value: &Value, at: &str, faults: &mut Faults) -> Option<Self> {
        span_from_json(value, at, faults)
    }
}

fn whole(value: &Value, min: u64, max: u64, at: &str, faults: &mut Faults) -> Option<u64> {
    let read = value.as_u64().filter(|number| (min..=max).contains(number));
    read.or_else(|| refuse(at, &format!("must be a whole number from {min} to {max}"), value, faults))
}

impl FromJson for bool {
    fn from_json(value: &Value, at: &str, faults: &mut Faults) -> Option<Self> {
        value.as_bool().or_else(|| refuse(at, "must be true or false", value, faults))
    }
}

impl FromJson for u16 {
    fn from_json(value: &Value, at: &str, faults: &mut Faults) -> Option<Self> {
        whole(value, 0, u64::from(Self::MAX), at, faults).and_then(|number| Self::try_from(number).ok())
    }
}

impl FromJson for Port {
    fn from_json(value: &Value, at: &str, faults: &mut Faults) -> Option<Self> {
        whole(value, 1, u64::from(u16::MAX), at, faults).and_then(|number| u16::try_from(number).ok()).and_then(Self::new)
    }
}

impl FromJson for Life {
    fn from_json(value: &Value, at: &str, faults: &mut Faults) -> Option<Self> {
        whole(value, 1, INCARNATION_NAMED_MAX, at, faults).and_then(Incarnation::named).map(Self)
    }
}

impl<T: FromJson> FromJson for BTreeMap<String, T> {
    fn from_json(value: &Value, at: &str, faults: &mut Faults) -> Option<Self> {
        let mut read = Self::new();
        for (name, value) in is_object(value, at, faults)? {
            read.extend(T::from_json(value, &inside(at, name), faults).map(|value| (name.clone(), value)));
            if faults.is_full() {
                return None;
            }
        }
        Some(read)
    }
}

impl<T: FromJson> FromJson for Once<T> {
    fn from_json(value: &Value, at: &str, faults: &mut Faults) -> Option<Self> {
        BTreeMap::from_json(value, at, faults).map(Self)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Once<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Once<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Once<T>, A::Error> {
                let mut read = BTreeMap::new();
                while let Some((name, value)) = fields.next_entry::<String, T>()? {
                    if read.insert(name, value).is_some() {
                        return Err(A::Error::custom("a key stands twice"));
                    }
                }
                Ok(Once(read))
            }
        }
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

impl FromJson for BTreeSet<String> {
    fn from_json(value: &Value, at: &str, faults: &mut Faults) -> Option<Self> {
        let Some(items) = value.as_array() else { return refuse(at, "must be an array of strings", value, faults) };
        let mut read = Self::new();
        for (index, item) in items.iter().enumerate() {
            read.extend(String::from_json(item, &format!("{at}/{index}"), faults));
            if faults.is_full() {
                return None;
            }
        }
        Some(read)
    }
}

impl FromJson for CheckSaid {
    fn from_json(value: &Value, at: &str, faults: &mut Faults) -> Option<Self> {
        let fields = is_object(value, at, faults)?;
        Some(Self::collect(fields, super::Fields::CHECK, at, faults))
    }
}

/// serde's way to a value that JSON writes as text.
struct TextVisitor<T>(PhantomData<T>);

impl<T: FromText> Visitor<'_> for TextVisitor<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text).map_err(E::custom)
    }
}

macro_rules! deserialize_text {
    ($($type:ty),*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(TextVisitor(PhantomData))
            }
        }
    )*};
}
deserialize_text!(OpWord, CheckWord, OpaqueDigest);

impl<'de, T> Deserialize<'de> for Text<T>
where
    Self: FromText,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor(PhantomData))
    }
}

/// serde's way to a duration.
struct SpanVisitor<T>(PhantomData<T>);

impl<T: FromSpan> Visitor<'_> for SpanVisitor<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::RULE)
    }
    fn visit_u64<E: Error>(self, ms: u64) -> Result<T, E> {
        Ok(T::from_ms(ms))
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::from_words(text).ok_or_else(|| E::custom(T::RULE))
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpanVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpanVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Life {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        Incarnation::named(number).map(Self).ok_or_else(|| D::Error::custom("no incarnation"))
    }
}
