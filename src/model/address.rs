//! Addresses: where an instance listens, in the one spelling that each has.
//!
//! At a door an address becomes its canonical spelling: `2001:DB8::1` is `2001:db8::1` (RFC 5952), `::ffff:10.0.0.7` is `10.0.0.7`, and
//! `Db.Example.` is `db.example`. What no consumer could connect to is refused there. Records of peers and of disks keep the spelling that
//! they have, whatever it is: digests are made of it, and nodes of different versions must come to the same. Those are compared by
//! [`Address::canonical`].

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// How long a host name may be.
pub const ADDRESS_BYTES_MAX: usize = 253;

/// Where an instance listens: an IP address or a host name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(Arc<str>);

impl Address {
    /// Takes an IP address (without brackets) or a host name of RFC 1123, and keeps it in its canonical spelling.
    ///
    /// # Errors
    /// The rule, when `text` is neither, or is no single host's.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let known = Self::parse_recorded(text).map_err(|rule| hint(text).unwrap_or(rule))?;
        let canonical = known.canonical();
        match canonical.parse::<IpAddr>() {
            Ok(ip) => check_single_host(ip)?,
            Err(_) if canonical.split('.').all(is_number) => return Err(NUMBERS),
            Err(_) => {}
        }
        Ok(match canonical {
            Cow::Borrowed(text) if text.len() == known.0.len() => known,
            canonical => Self(Arc::from(canonical)),
        })
    }

    /// Takes what a record of a peer or of a disk says, as it is spelled there: also what [`Address::parse`] refuses, which older nodes took.
    ///
    /// # Errors
    /// The rule, when `text` is neither an IP address nor a host name.
    pub fn parse_recorded(text: &str) -> Result<Self, &'static str> {
        if text.parse::<IpAddr>().is_ok() || is_host_name(text) {
            Ok(Self(Arc::from(text)))
        } else {
            Err("must be an IP address or a host name")
        }
    }

    /// The address as it is kept: canonical, unless it came with a record.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The one spelling of the address: two addresses are one if this is equal.
    #[must_use]
    pub fn canonical(&self) -> Cow<'_, str> {
        let text = &*self.0;
        match text.parse::<IpAddr>() {
            // Of an IPv4 address only one spelling is read.
            Ok(IpAddr::V4(_)) => Cow::Borrowed(text),
            Ok(ip @ IpAddr::V6(_)) => Cow::Owned(ip.to_canonical().to_string()),
            Err(_) => {
                let name = text.strip_suffix('.').unwrap_or(text);
                let is_lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
                if is_lower { Cow::Borrowed(name) } else { Cow::Owned(name.to_ascii_lowercase()) }
            }
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

const NUMBERS: &str =
    "must be an IP address as four decimal numbers (`127.0.0.1`) or a host name: other numbers are read as addresses by some programs only";

/// Whether one host can be meant. `ip` is canonical.
fn check_single_host(ip: IpAddr) -> Result<(), &'static str> {
    let is_nowhere = match ip {
        IpAddr::V4(ip) => ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.is_unspecified(),
    };
    if is_nowhere {
        Err(
            "must be an address that consumers can connect to: `0.0.0.0` and `::` stand for all addresses of a machine, on that machine only",
        )
    } else if ip.is_multicast() {
        Err("must be the address of one host, and not a multicast address")
    } else if ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Err("must be the address of one host, and not the broadcast address")
    } else {
        Ok(())
    }
}

/// What is likely wrong with a text that is no address.
fn hint(text: &str) -> Option<&'static str> {
    let is_ip = |text: &str| text.parse::<IpAddr>().is_ok();
    if text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(is_ip) {
        Some("must be an IP address without brackets")
    } else if text.split_once('%').is_some_and(|(ip, _)| is_ip(ip.trim_start_matches('['))) {
        Some("must be an IP address without a zone id: `%` and an interface mean something on one machine only")
    } else if text.contains("://") {
        Some("must be an IP address or a host name alone, not a URL")
    } else if text.rsplit_once(':').is_some_and(|(host, port)| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        port.parse::<u16>().is_ok() && (is_ip(bare) || is_host_name(bare))
    }) {
        Some("must be an IP address or a host name without a port: the port is a field of its own")
    } else if !text.is_empty() && text.split('.').all(|label| label.is_empty() || is_number(label)) {
        Some(NUMBERS)
    } else {
        None
    }
}

/// Whether `inet_aton` reads this part of an address as a number: decimal, octal, or hexadecimal.
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

fn is_host_name(text: &str) -> bool {
    let looks_like_an_ip = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.len() <= ADDRESS_BYTES_MAX
        && !looks_like_an_ip
        && text.strip_suffix('.').unwrap_or(text).split('.').all(|label| {
            let bytes = label.as_bytes();
            matches!(bytes.len(), 1..=63)
                && bytes[0] != b'-'
                && bytes[bytes.len() - 1] != b'-'
                && bytes.iter().all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_ips_or_host_names() {
        for good in ["10.0.0.7", "::1", "fe80::1", "db-1.example.com", "localhost", "a_b", "db.1", "1.db", "0xg", "240.0.0.1"] {
            assert_eq!(Address::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "10.0.0", "10.0.0.256", "http://a", "a b", "a\n", "-a", "a..b", ".", &"a".repeat(300)] {
            assert!(Address::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_address_has_one_spelling() {
        for (spelled, canonical) in [
            ("0:0:0:0:0:0:0:1", "::1"),
            ("0000::0001", "::1"),
            ("2001:DB8::1", "2001:db8::1"),
            ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
            ("::FFFF:10.0.0.7", "10.0.0.7"),
            ("::ffff:a00:7", "10.0.0.7"),
            ("0:0:0:0:0:ffff:0a00:0007", "10.0.0.7"),
            ("2001:db8::10.0.0.7", "2001:db8::a00:7"),
            ("User.Example", "user.example"),
            ("user.example.", "user.example"),
            ("LOCALHOST.", "localhost"),
        ] {
            assert_eq!(Address::parse(spelled).unwrap().as_str(), canonical, "{spelled}");
            let recorded = Address::parse_recorded(spelled).unwrap();
            assert_eq!((recorded.as_str(), &*recorded.canonical()), (spelled, canonical));
        }
    }

    #[test]
    fn what_is_no_single_hosts_is_refused_and_kept_where_a_record_says_it() {
        let nowhere = ["0.0.0.0", "0.1.2.3", "::", "0:0:0:0:0:0:0:0", "::ffff:0.0.0.0"];
        let many = ["224.0.0.1", "239.255.255.255", "ff02::1", "FF0E::1", "::ffff:224.0.0.1", "255.255.255.255", "::ffff:255.255.255.255"];
        let numbers = ["0x7f.1", "0x7F000001", "1.0x2", "0xa.0.0.7", "0x7f.1.", "0x"];
        for text in nowhere.into_iter().chain(many).chain(numbers) {
            assert!(Address::parse(text).is_err(), "{text}");
            assert_eq!(Address::parse_recorded(text).unwrap().as_str(), text);
        }
        for (text, word) in [
            ("127.1", "four decimal"),
            ("2130706433", "four decimal"),
            ("010.0.0.1", "four decimal"),
            ("0x7f.1", "four decimal"),
            ("1.2.3.4.", "four decimal"),
            ("1.2.3.08", "four decimal"),
            ("fe80::1%eth0", "zone id"),
            ("[::1]", "brackets"),
            ("[fe80::1%25eth0]", "zone id"),
            ("[::1]:80", "port"),
            ("10.0.0.7:80", "port"),
            ("db.example:80", "port"),
            ("http://a", "URL"),
            ("0.0.0.0", "connect"),
            ("ff02::1", "multicast"),
            ("255.255.255.255", "broadcast"),
        ] {
            let rule = Address::parse(text).unwrap_err();
            assert!(rule.starts_with("must be ") && rule.contains(word), "{text}: {rule}");
        }
    }
}
