//! Query strings, read strictly: a key that nobody asks for is refused with the nearest one that is known, and all faults are told at once.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::fault::{Fault, FaultCode, Faults};
use super::problem::{Code, Problem, shown};
use super::said;
use crate::model::{NameError, Namespace};
use crate::nearest::nearest;
use crate::units::{DURATION_RULE, parse_ms, show_ms};

/// A request's query, and what was found wrong with it so far. Ask for every key that is known, then [`Query::finish`].
#[derive(Debug, Default)]
pub struct Query {
    pairs: Vec<Pair>,
    known: Vec<&'static str>,
    faults: Faults,
}

#[derive(Debug)]
struct Pair {
    key: String,
    value: String,
    taken: bool,
}

/// How many keys a query may have; a watch names up to 1,000 services.
const PAIRS_MAX: usize = 4096;

impl Query {
    /// Reads what stands after the `?`.
    #[must_use]
    pub fn parse(raw: Option<&str>) -> Self {
        let mut query = Self::default();
        let Some(raw) = raw.filter(|raw| !raw.is_empty()) else { return query };
        for part in raw.split('&').filter(|part| !part.is_empty()).take(PAIRS_MAX + 1) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match (decoded(key), decoded(value)) {
                (Some(key), Some(value)) => query.pairs.push(Pair { key, value, taken: false }),
                (Some(key), None) => query.fault(&key, FaultCode::InvalidValue, "is not UTF-8 when decoded"),
                (None, _) => query.fault("", FaultCode::InvalidValue, "a query key is not UTF-8 when decoded"),
            }
        }
        if query.pairs.len() > PAIRS_MAX {
            query.fault("", FaultCode::InvalidValue, format!("a query may have at most {PAIRS_MAX} keys"));
        }
        query
    }

    /// The same with the pairs of a JSON object: each key with a text, or with an array of texts as if it were repeated.
    ///
    /// # Errors
    /// A [`Problem`] when the body is no such object.
    pub fn with_body(mut self, body: &[u8]) -> Result<Self, Problem> {
        if body.is_empty() {
            return Ok(self);
        }
        let tree = said::tree(body)?;
        let fields =
            tree.as_object().ok_or_else(|| Problem::new(Code::InvalidRequest, "The body must be an object; nothing was changed."))?;
        for (key, value) in fields {
            let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            for value in values {
                match value {
                    Value::String(text) => self.pairs.push(Pair { key: key.clone(), value: text.clone(), taken: false }),
                    Value::Bool(_) | Value::Number(_) => self.pairs.push(Pair { key: key.clone(), value: value.to_string(), taken: false }),
                    Value::Null | Value::Array(_) | Value::Object(_) => {
                        let at = format!("/{}", shown(key));
                        self.faults.push(Fault::pointer(
                            at,
                            FaultCode::InvalidValue,
                            format!("`{}` must be a string or an array of strings", shown(key)),
                        ));
                    }
                }
            }
            if self.pairs.len() > PAIRS_MAX {
                self.fault("", FaultCode::InvalidValue, format!("may have at most {PAIRS_MAX} values"));
                break;
            }
        }
        Ok(self)
    }

    /// Every value of a key that may be repeated, in order.
    pub fn all(&mut self, key: &'static str) -> Vec<String> {
        self.known.push(key);
        self.pairs.iter_mut().filter(|pair| pair.key == key).map(Pair::take).collect()
    }

    /// The value of a key that may stand once.
    pub fn one(&mut self, key: &'static str) -> Option<String> {
        if self.pairs.is_empty() {
            return None;
        }
        let mut values = self.all(key);
        if values.len() > 1 {
            self.fault(key, FaultCode::RepeatedParameter, "may stand only once");
        }
        (!values.is_empty()).then(|| values.swap_remove(0))
    }

    /// Every key that begins so, and its value, in order: `metadata.`.
    pub fn beginning(&mut self, prefix: &'static str) -> Vec<(String, String)> {
        self.known.push(prefix);
        let begins = |pair: &&mut Pair| pair.key.len() > prefix.len() && pair.key.starts_with(prefix);
        self.pairs.iter_mut().filter(begins).map(|pair| (pair.key.clone(), pair.take())).collect()
    }

    /// A key whose value has a parser that says the rule it breaks.
    pub fn parsed<T: FromStr<Err: Display>>(&mut self, key: &'static str) -> Option<T> {
        let text = self.one(key)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(rule) => self.refuse(key, &text, &rule.to_string()),
        }
    }

    /// A key whose value is a name.
    pub fn name<T: FromStr<Err = NameError>>(&mut self, key: &'static str) -> Option<T> {
        let text = self.one(key)?;
        text.parse().map_err(|error| self.faults.push(Fault::name(key, &error))).ok()
    }

    /// `namespace=`; the default one when it is absent.
    pub fn namespace(&mut self) -> Namespace {
        self.name("namespace").unwrap_or_default()
    }

    /// A duration, in milliseconds, within bounds.
    pub fn ms(&mut self, key: &'static str, bounds: RangeInclusive<u64>) -> Option<u64> {
        let text = self.one(key)?;
        match parse_ms(&text) {
            Some(ms) if bounds.contains(&ms) => Some(ms),
            Some(_) => self.refuse(key, &text, &format!("must be {} to {}", show_ms(*bounds.start()), show_ms(*bounds.end()))),
            None => self.refuse(key, &text, &format!("must be {DURATION_RULE}")),
        }
    }

    /// A whole number within bounds.
    pub fn number(&mut self, key: &'static str, bounds: RangeInclusive<u64>) -> Option<u64> {
        let text = self.one(key)?;
        let digits_only = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits_only && bounds.contains(&number) => Some(number),
            Ok(_) | Err(_) => self.refuse(key, &text, &format!("must be a whole number from {} to {}", bounds.start(), bounds.end())),
        }
    }

    /// `true` or `false`; a key without a value means true.
    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        let text = self.one(key)?;
        match text.as_str() {
            "" | "true" => Some(true),
            "false" => Some(false),
            _ => self.refuse(key, &text, "must be `true` or `false`"),
        }
    }

    /// One of some words.
    pub fn word<T: Copy>(&mut self, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.one(key)?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*meaning);
        }
        let known: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        self.refuse(key, &text, &format!("must be one of {}", known.join(", ")))
    }

    /// Remembers that something is wrong with a parameter.
    pub fn fault(&mut self, parameter: &str, code: FaultCode, detail: impl Display) {
        let parameter = shown(parameter);
        self.faults.push(Fault::parameter(&*parameter, code, format!("`{parameter}` {detail}")));
    }

    /// Remembers what was found wrong elsewhere in the request.
    pub fn add(&mut self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.extend(faults);
    }

    /// Ends the reading: whatever key was not asked for is unknown.
    ///
    /// # Errors
    /// A [`Problem`] with everything that is wrong.
    pub fn finish(mut self) -> Result<(), Problem> {
        let unknown = self.pairs.iter().filter(|pair| !pair.taken).map(|pair| unknown(&pair.key, &self.known));
        self.faults.extend(unknown);
        Problem::unless_empty(self.faults)
    }

    /// Ends the reading, where everything else that the request needs has been read: `None` only when a fault says why.
    ///
    /// # Errors
    /// A [`Problem`] with everything that is wrong.
    pub fn finish_with<T>(self, read: Option<T>) -> Result<T, Problem> {
        self.finish()?;
        read.ok_or_else(Problem::unexplained)
    }

    fn refuse<T>(&mut self, key: &'static str, text: &str, rule: &str) -> Option<T> {
        self.faults.push(Fault::parameter(key, FaultCode::InvalidValue, format!("`{key}` {rule}, is `{}`", shown(text))));
        None
    }
}

impl Pair {
    fn take(&mut self) -> String {
        self.taken = true;
        std::mem::take(&mut self.value)
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query()))
    }
}

fn unknown(key: &str, known: &[&'static str]) -> Fault {
    let key = shown(key);
    let guess = nearest(&key, known.iter().copied());
    let hint = guess.map_or_else(String::new, |guess| format!("; did you mean `{guess}`?"));
    Fault::parameter(&*key, FaultCode::UnknownParameter, format!("unknown query key `{key}`{hint}"))
}

/// `+` is a space, as forms and browsers write it; a `%` that begins nothing stands for itself, and then breaks the name's rule.
fn decoded(text: &str) -> Option<String> {
    let spaced = if text.contains('+') { Cow::Owned(text.replace('+', " ")) } else { Cow::Borrowed(text) };
    percent_decode_str(&spaced).decode_utf8().ok().map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    fn faults(query: Query) -> Vec<(String, String)> {
        let problem = query.finish().unwrap_err();
        problem.errors().iter().map(|fault| (fault.parameter.clone().unwrap(), fault.code.clone())).collect()
    }

    #[test]
    fn values_are_read_and_what_nobody_asked_for_is_refused() {
        let mut query = Query::parse(Some("wait=30s&limit=10&verbose&zone=a&zone=b&metadata.x=1&namespce=test&namespace=test&"));
        assert_eq!(query.ms("wait", 0..=300_000), Some(30_000));
        assert_eq!(query.number("limit", 1..=10_000), Some(10));
        assert_eq!(query.flag("verbose"), Some(true));
        assert_eq!(query.all("zone"), ["a", "b"]);
        assert_eq!(query.beginning("metadata."), [("metadata.x".to_owned(), "1".to_owned())]);
        assert_eq!(query.namespace().as_str(), "test");
        assert_eq!(query.one("absent"), None);
        let problem = query.finish().unwrap_err();
        assert_eq!(problem.errors()[0].detail, "unknown query key `namespce`; did you mean `namespace`?");
    }

    #[test]
    fn each_fault_is_told_once_and_all_together() {
        let mut query = Query::parse(Some("wait=soon&limit=0&limit=5&verbose=yes&x=%ff&ack=no&namespace=A"));
        query.ms("wait", 0..=1);
        query.number("limit", 1..=10);
        query.flag("verbose");
        query.word("ack", &[("all", ())]);
        query.namespace();
        let expected = [
            ("x", "invalid_value"),
            ("wait", "invalid_value"),
            ("limit", "repeated_parameter"),
            ("limit", "invalid_value"),
            ("verbose", "invalid_value"),
            ("ack", "invalid_value"),
            ("namespace", "invalid_value"),
        ];
        assert_eq!(faults(query), expected.map(|(key, code)| (key.to_owned(), code.to_owned())));
    }

    #[test]
    fn numbers_are_digits_and_nothing_else() {
        for bad in ["", "+5", "-1", "5.0", " 5", "0x5", "99999999999999999999999", "11"] {
            let mut query = Query::default();
            query.pairs.push(Pair { key: "limit".to_owned(), value: bad.to_owned(), taken: false });
            assert_eq!(query.number("limit", 1..=10), None, "{bad}");
            assert!(query.finish().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_query_of_a_hundred_thousand_keys_is_cut_and_told_short() {
        let query = Query::parse(Some(&"x&".repeat(100_000)));
        assert!(query.pairs.len() <= PAIRS_MAX + 1);
        assert!(faults(query).len() <= 64);
    }

    proptest! {
        #[test]
        fn whatever_is_encoded_is_read_back(pairs in prop::collection::vec((".{1,8}", ".{0,8}"), 0..6)) {
            let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            let raw: Vec<_> = pairs.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
            let query = Query::parse(Some(&raw.join("&")));
            let read: Vec<_> = query.pairs.into_iter().map(|pair| (pair.key, pair.value)).collect();
            prop_assert_eq!(read, pairs);
        }

        #[test]
        fn nothing_hurts_it(raw in ".{0,80}") {
            let mut query = Query::parse(Some(&raw));
            query.ms("wait", 0..=1000);
            query.number("limit", 1..=10);
            query.beginning("m");
            let _ = query.finish();
        }

        #[test]
        fn a_duration_is_read_as_it_is_shown(ms in 0..=300_000_u64) {
            let mut query = Query::parse(Some(&format!("wait={}", show_ms(ms))));
            prop_assert_eq!(query.ms("wait", 0..=300_000), Some(ms));
        }
    }
}
