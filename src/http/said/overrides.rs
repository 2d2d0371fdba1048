//! What an operator says: an override's JSON into the model's types, and everything that is wrong with it at once.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::json::{self, FromJson, FromText, Millis, Once, Text, is_object, unknown_field};
use super::{Fields, needed, tree};
use crate::http::fault::{Fault, FaultCode, Faults};
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::http::select;
use crate::model::{EXPIRES_IN_MS_MAX, Imposed, InstanceId, Override, OverrideDraft, Selection, ServiceName};
use crate::units::show_ms;

/// Shorter, and it would be over before every node has heard of it.
const EXPIRES_IN_MS_MIN: u64 = 1000;

body! {
    /// Everything that can be said of an override.
    pub(in crate::http) struct OverrideSaid {
        service: Text<ServiceName>,
        id: Text<InstanceId>,
        select: String,
        status: Text<Imposed>,
        weight: u16,
        metadata: Once<String>,
        evict_after: Millis,
        preserve: bool,
        reason: String,
        expires_in: Millis,
    }
}

impl OverrideSaid {
    const FIELDS: Fields = Fields::of(Self::NAMES, Self::NAMES);

    /// Reads a body; what is wrong is left out and told.
    ///
    /// # Errors
    /// A [`Problem`] when it is no JSON at all.
    pub(in crate::http) fn read(body: &[u8], faults: &mut Faults) -> Result<Self, Problem> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        match serde_json::from_slice::<Self>(body) {
            Ok(said) if said.stray(Self::FIELDS, "").is_none() => Ok(said),
            read => {
                let tree = tree(body)?;
                let before = faults.len();
                let fields = if tree.is_null() { None } else { is_object(&tree, "", faults) };
                let said = fields.map(|fields| Self::collect(fields, Self::FIELDS, "", faults)).unwrap_or_default();
                if let Some(error) = read.err().filter(|_| faults.len() == before && !tree.is_null()) {
                    // The tree hides what serde saw: a key that stands twice.
                    faults.push(Fault::pointer("", FaultCode::InvalidValue, error.to_string()));
                }
                Ok(said)
            }
        }
    }

    /// The override that is said, and for how long; `None`: the faults say why not.
    pub(in crate::http) fn into_override(
        self,
        author: Option<String>,
        created_at: u64,
        faults: &mut Faults,
    ) -> Option<(Arc<Override>, Option<u64>)> {
        let before = faults.len();
        let expires_in_ms = self.expires_in.map(Millis::get);
        if let Some(ms) = expires_in_ms.filter(|ms| !(EXPIRES_IN_MS_MIN..=EXPIRES_IN_MS_MAX).contains(ms)) {
            let detail =
                format!("`expires_in` must be {} to {}, is {}", show_ms(EXPIRES_IN_MS_MIN), show_ms(EXPIRES_IN_MS_MAX), show_ms(ms));
            faults.push(Fault::pointer("/expires_in", FaultCode::InvalidValue, detail));
        }
        let select = self.select.map(|text| selection(&text, faults));
        let reason = needed(self.reason, "reason", "", faults);
        let draft = OverrideDraft {
            service: self.service.map(|Text(service)| service),
            id: self.id.map(|Text(id)| id),
            select,
            status: self.status.map(|Text(status)| status),
            weight: self.weight,
            metadata: self.metadata.map(|Once(metadata)| metadata).unwrap_or_default(),
            evict_after_ms: self.evict_after.map(Millis::saturating),
            preserve: self.preserve,
            reason: reason.unwrap_or_default(),
            author,
            created_at,
        };
        match Override::new(draft) {
            Ok(value) if faults.len() == before => Some((Arc::new(value), expires_in_ms)),
            Ok(_) => None,
            Err(violations) => {
                // What is wrong already was told with its place.
                let news = violations.into_iter().filter(|violation| !faults.has(&violation.pointer)).collect::<Vec<_>>();
                faults.extend(news.into_iter().map(|violation| match violation.pointer.as_str() {
                    "" => Fault::pointer("", FaultCode::InvalidValue, format!("an override {}", violation.rule)),
                    _ => Fault::from(violation),
                }));
                None
            }
        }
    }
}

/// Reads a selection as queries spell it; what is wrong with it is told of the field.
fn selection(text: &str, faults: &mut Faults) -> Selection {
    let mut query = Query::parse(Some(text));
    let selection = select::selection(&mut query);
    if let Err(problem) = query.finish() {
        let of_field = |fault: &Fault| Fault { pointer: Some("/select".to_owned()), parameter: None, ..fault.clone() };
        faults.extend(problem.errors().iter().map(of_field));
    }
    selection
}

impl FromText for Text<Imposed> {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|()| "must be `up`, `draining` or `down`".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = (Arc<Override>, Option<u64>);

    fn read(body: &str) -> Result<Read, Vec<(String, String)>> {
        let mut faults = Faults::default();
        let said = OverrideSaid::read(body.as_bytes(), &mut faults).unwrap();
        let read = said.into_override(None, 0, &mut faults);
        let is_sound = faults.is_empty();
        let told = || faults.into_iter().map(|fault| (fault.pointer.unwrap(), fault.code)).collect();
        read.filter(|_| is_sound).ok_or_else(told)
    }

    #[test]
    fn the_whole_of_the_contract_is_taken() {
        let body = r#"{"service":"user","id":"u1","select":"zone=eu-a&tag=canary,x&metadata.v=1%2C5","status":"draining","weight":7,
            "metadata":{"a":"b"},"evict_after":"2m","preserve":true,"reason":"disk swap","expires_in":"2h"}"#;
        let (value, expires_in_ms) = read(body).unwrap();
        let parts = value.parts();
        assert_eq!(expires_in_ms, Some(7_200_000));
        assert_eq!(
            (parts.status, parts.weight, parts.evict_after_ms, parts.preserve),
            (Some(Imposed::Draining), Some(7), Some(120_000), Some(true))
        );
        assert_eq!(parts.select, Selection::parse([("zone", "eu-a"), ("tag", "canary,x"), ("metadata.v", "1,5")]).ok());
    }

    #[test]
    fn every_fault_is_told_at_once_with_its_place() {
        let body = r#"{"servce":"user","id":"-","select":"zon=a&usable=true","status":"sideways","preserve":"yes","weight":70000,"expires_in":"1ms"}"#;
        let mut found = read(body).unwrap_err();
        found.sort();
        let expected = [
            ("", "invalid_value"),
            ("/expires_in", "invalid_value"),
            ("/id", "invalid_value"),
            ("/preserve", "invalid_value"),
            ("/reason", "missing_field"),
            ("/select", "unknown_parameter"),
            ("/servce", "unknown_field"),
            ("/status", "invalid_value"),
            ("/weight", "invalid_value"),
        ];
        assert_eq!(found, expected.map(|(place, code)| (place.to_owned(), code.to_owned())));
    }

    #[test]
    fn a_key_that_stands_twice_is_refused() {
        let refused = OverrideSaid::read(br#"{"reason":"a","reason":"b","weight":1}"#, &mut Faults::default()).unwrap_err();
        assert_eq!(refused.errors()[0].pointer.as_deref(), Some("/reason"));
        assert_eq!(read("[]").unwrap_err()[0], (String::new(), "invalid_value".to_owned()));
    }
}
