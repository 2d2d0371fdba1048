//! Repeated keys: where in a JSON text an object has a key twice. Readers differ in which of the two they take, so neither is taken.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::DeserializeSeed;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::json::inside;
use crate::http::fault::{FAULTS_MAX, Fault, FaultCode};
use crate::http::problem::Problem;

/// So many values of a body with a fault are read one by one to say where it is: ten times what a batch of the most operations has. A tree of
/// them takes some 20 MiB.
const VALUES_MAX: usize = 1 << 18;

/// A fault for each key that stands twice in its object, with its place. What is no JSON has none.
///
/// # Errors
/// A [`Problem`] when there are so many values that the body is not to be read as a tree either.
pub(in crate::http) fn repeated(body: &[u8]) -> Result<Vec<Fault>, Problem> {
    let mut found = Found::default();
    let mut reader = serde_json::Deserializer::from_slice(body);
    // What is wrong otherwise is found where the body is read.
    let _ = Walk { at: String::new(), found: &mut found }.deserialize(&mut reader);
    if found.values > VALUES_MAX {
        let detail = format!("there is a fault in it, and more than {VALUES_MAX} values, too many to say where: send fewer at once");
        return Err(Problem::invalid(vec![Fault::pointer("", FaultCode::InvalidValue, detail)]));
    }
    Ok(found.faults)
}

#[derive(Default)]
struct Found {
    faults: Vec<Fault>,
    /// How many values were read so far.
    values: usize,
}

/// A value at its place.
struct Walk<'a> {
    at: String,
    found: &'a mut Found,
}

impl Walk<'_> {
    fn refuse(&mut self, name: &str) {
        let (at, name) = (inside(&self.at, name), crate::http::problem::shown(name));
        self.found.faults.push(Fault::pointer(
            at,
            FaultCode::InvalidValue,
            format!("duplicate field `{name}`: a key may stand once in its object"),
        ));
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.found.values += 1;
        if self.found.values > VALUES_MAX {
            return Err(D::Error::custom("too many values"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut index = 0;
        while items.next_element_seed(Walk { at: format!("{}/{index}", self.at), found: &mut *self.found })?.is_some() {
            index += 1;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<(), A::Error> {
        let mut names = BTreeSet::new();
        while let Some(name) = fields.next_key::<String>()? {
            fields.next_value_seed(Walk { at: inside(&self.at, &name), found: &mut *self.found })?;
            if self.found.faults.len() < FAULTS_MAX && names.contains(&name) {
                self.refuse(&name);
            }
            names.insert(name);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_repeated_key_is_told_with_its_place() {
        let places = |body: &str| repeated(body.as_bytes()).unwrap().into_iter().filter_map(|fault| fault.pointer).collect::<Vec<_>>();
        assert_eq!(
            places(r#"{"a":1,"b":{"c":1,"c":2},"d":[{"e":null},{"e":1.5,"e":"x","f/g":true,"f/g":-1}]}"#),
            ["/b/c", "/d/1/e", "/d/1/f~1g"]
        );
        assert_eq!(places(r#"{"a":{"a":{"a":1}},"b":["a","a"]}"#), [""; 0]);
        assert_eq!(places("{"), [""; 0]);
        assert_eq!(places(&format!("{{{}\"a\":1}}", "\"a\":1,".repeat(10_000))).len(), FAULTS_MAX);
        let long = |values: usize| format!("[{}0]", "0,".repeat(values - 2));
        assert!(repeated(long(VALUES_MAX).as_bytes()).is_ok() && repeated(long(VALUES_MAX + 1).as_bytes()).is_err());
    }
}
