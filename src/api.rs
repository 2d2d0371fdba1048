//! The shapes of the HTTP API's JSON, one file per group of calls; shared by the server, the client and the command line.
//!
//! They are what `/v1/openapi.json` describes. Nothing here checks or decides: names and bounds are the model's.

pub mod attach;
pub mod consume;
pub mod drain;
pub mod events;
pub mod operate;
pub mod overrides;
pub mod problem;
pub mod provide;

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

/// A digest as the API shows it: 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hex(pub u128);

impl Hex {
    /// Takes 32 lower-case hex digits, and nothing else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let canonical = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if canonical { u128::from_str_radix(text, 16).ok().map(Self) } else { None }
    }

    /// The digits, without an allocation.
    #[must_use]
    pub fn digits(self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [b'0'; 32];
        for (place, digit) in digits.iter_mut().enumerate() {
            *digit = DIGITS[(self.0 >> (4 * (31 - place)) & 0xf) as usize];
        }
        digits
    }
}

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(str::from_utf8(&self.digits()).expect("unreachable: hex digits are ASCII"))
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(str::from_utf8(&self.digits()).expect("unreachable: hex digits are ASCII"))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = Hex;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("32 hex digits")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Hex, E> {
                Hex::parse(text).ok_or_else(|| E::custom("must be 32 hex digits"))
            }
        }
        deserializer.deserialize_str(Digits)
    }
}

#[cfg(test)]
mod tests {
    use super::Hex;

    #[test]
    fn a_digest_is_32_digits_there_and_back() {
        for number in [0, 1, 0xab << 64, u128::MAX] {
            let shown = Hex(number).to_string();
            assert_eq!(shown, format!("{number:032x}"));
            assert_eq!(Hex::parse(&shown), Some(Hex(number)));
            assert_eq!(serde_json::from_str::<Hex>(&serde_json::to_string(&Hex(number)).unwrap()).unwrap(), Hex(number));
        }
        for bad in ["", "0", "+f", &"0".repeat(33), &"A".repeat(32), &"+".repeat(32)] {
            assert_eq!(Hex::parse(bad), None, "{bad}");
        }
    }
}
