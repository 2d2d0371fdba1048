//! Names: each grammar stands once, and a name that exists is valid.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A name that breaks its rule. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {what} must be {rule}")]
pub struct NameError {
    /// What was being named, in the words of the API.
    pub what: &'static str,
    /// The rule, as a sentence's end.
    pub rule: &'static str,
    /// What was given, its beginning where it is long.
    pub text: Box<str>,
}

/// How much of what was given is shown.
const SHOWN_CHARS_MAX: usize = 64;

impl NameError {
    /// The rule, what was given, and which of its characters looks like another one.
    #[must_use]
    pub fn in_full(&self) -> String {
        format!("{self}, is `{}`{}", self.text.escape_debug(), odd_character(&self.text))
    }
}

/// Names the first character that is not plain ASCII, in brackets: a hyphen that was copied from a text looks like any other. Empty: all are.
#[must_use]
pub fn odd_character(text: &str) -> String {
    let odd = text.chars().find(|char| !char.is_ascii() || char.is_ascii_control());
    odd.map_or_else(String::new, |char| format!(" (`{}` is U+{:04X})", char.escape_debug(), u32::from(char)))
}

/// The rule of namespaces, nodes, clusters, places and overrides as a regular expression.
pub const LABEL_PATTERN: &str = "^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$";
/// The rule of services' names as a regular expression.
pub const SERVICE_PATTERN: &str = "^[A-Za-z0-9]([A-Za-z0-9._:@-]{0,126}[A-Za-z0-9])?$";
/// The rule of instances' ids as a regular expression.
pub const INSTANCE_PATTERN: &str = "^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}$";

const LABEL_RULE: &str = "1 to 63 of a-z, 0-9, `_` and `-`, beginning and ending with a letter or digit";
const SERVICE_RULE: &str = "1 to 128 of A-Z, a-z, 0-9 and `._:@-`, beginning and ending with a letter or digit";
const INSTANCE_RULE: &str = "1 to 128 of A-Z, a-z, 0-9 and `._:@/-`, beginning with a letter or digit";

/// One token of a NATS subject: no dot, no wildcard, no capital.
fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    matches!(bytes.len(), 1..=63)
        && edge(bytes[0])
        && edge(bytes[bytes.len() - 1])
        && bytes.iter().all(|&byte| edge(byte) || matches!(byte, b'_' | b'-'))
}

fn is_service(text: &str) -> bool {
    let bytes = text.as_bytes();
    matches!(bytes.len(), 1..=128)
        && bytes[0].is_ascii_alphanumeric()
        && bytes[bytes.len() - 1].is_ascii_alphanumeric()
        && bytes.iter().all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'@' | b'-'))
}

fn is_instance(text: &str) -> bool {
    let bytes = text.as_bytes();
    matches!(bytes.len(), 1..=128)
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'@' | b'/' | b'-'))
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $accepts:ident, $rule:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Takes `text` as a name, or says the rule it breaks.
            ///
            /// # Errors
            /// [`NameError`] when `text` is not of the grammar.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                if $accepts(text) { Ok(Self(Arc::from(text))) } else { Err(NameError { what: $what, rule: $rule, text: text.chars().take(SHOWN_CHARS_MAX).collect() }) }
            }

            /// The name as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// The set of nodes that agree with each other; also a token of every subject.
    Cluster, "cluster name", is_label, LABEL_RULE
);
name!(
    /// A tenant's or environment's own set of services.
    Namespace, "namespace", is_label, LABEL_RULE
);
name!(
    /// One of our server processes, over all its lives.
    NodeName, "node name", is_label, LABEL_RULE
);
name!(
    /// A place that holds zones.
    Region, "region", is_label, LABEL_RULE
);
name!(
    /// A place whose instances are near each other.
    Zone, "zone", is_label, LABEL_RULE
);
name!(
    /// An operator's override, within its namespace.
    OverrideName, "name for an override", is_label, LABEL_RULE
);
name!(
    /// What callers look up.
    ServiceName, "service name", is_service, SERVICE_RULE
);
name!(
    /// One running copy of a service, as its provider calls it.
    InstanceId, "instance id", is_instance, INSTANCE_RULE
);

impl Default for Namespace {
    fn default() -> Self {
        Self(Arc::from("default"))
    }
}

/// A service within its namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// Where the service is looked up.
    pub namespace: Namespace,
    /// Its name there.
    pub service: ServiceName,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.service)
    }
}

/// An instance, named in full: what a record is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceKey {
    /// The service it is a copy of.
    pub service: ServiceKey,
    /// Which copy.
    pub id: InstanceId,
}

impl InstanceKey {
    /// How many bytes its names take.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.service.namespace.0.len() + self.service.service.0.len() + self.id.0.len()
    }

    /// A key that no name can be less than, to begin an ordered walk with. It names nothing: no grammar lets a name begin with `-`, and none with anything less.
    #[must_use]
    pub fn least() -> Self {
        let least: Arc<str> = Arc::from("-");
        Self::least_of(ServiceKey { namespace: Namespace(Arc::clone(&least)), service: ServiceName(least) })
    }

    /// Likewise before every instance of a service.
    pub(crate) fn least_of(service: ServiceKey) -> Self {
        Self { service, id: InstanceId(Arc::from("-")) }
    }
}

impl fmt::Display for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_one_subject_token() {
        for good in ["a", "n1", "eu-a", "a_b", &"a".repeat(63)] {
            assert!(NodeName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "a.b", "*", ">", "-a", "a-", "a b", "a\n", "é", &"a".repeat(64)] {
            assert!(NodeName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn services_and_instances_refuse_what_could_be_taken_for_something_else() {
        for bad in ["", ".", "..", "../x", "a/b", "a\0", "a\n", "*", ">", "a*", "\u{202e}a", &"a".repeat(1 << 20)] {
            assert!(ServiceName::parse(bad).is_err(), "{:?}", &bad[..bad.len().min(9)]);
        }
        for bad in ["", "/a", "../x", "a\0", "a\r\n", "a*", "a b", &"a".repeat(129)] {
            assert!(InstanceId::parse(bad).is_err(), "{bad:?}");
        }
        assert!(ServiceName::parse("com.acme.User:1.0@eu").is_ok());
        assert!(InstanceId::parse("host/10.0.0.1:80").is_ok());
    }
}
