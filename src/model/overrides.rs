//! Overrides: what an operator wills of instances, whatever their providers say; bounded and valid once made.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::instance::{EVICT_AFTER_MS_HARD_MAX, pointer};
use super::text::{check_printable, check_word};
use super::{
    InstanceId, InstanceKey, Listed, METADATA_KEY_BYTES_MAX, METADATA_KEYS_MAX, METADATA_VALUE_BYTES_MAX, Namespace, OverrideName,
    Selection, ServiceName, Status, Violation,
};

/// How long a reason may be.
pub const REASON_BYTES_MAX: usize = 1024;
/// How long an author's name may be.
pub const AUTHOR_BYTES_MAX: usize = 256;
/// What a whole override may take: every node holds all of them, and gives all of them to who lacks one.
pub const OVERRIDE_BYTES_MAX: usize = 16 * 1024;
/// The longest that an override which ends by itself may last; one that does not say lasts until it is deleted.
pub const EXPIRES_IN_MS_MAX: u64 = 366 * 24 * 3_600_000;

/// An override, named in full.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OverrideKey {
    /// Where it holds.
    pub namespace: Namespace,
    /// Its name there.
    pub name: OverrideName,
}

impl fmt::Display for OverrideKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A status that an operator may impose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Imposed {
    /// To be called, whatever the registry saw.
    Up,
    /// Nothing new is to be sent there; its weight is 0 where no override gives it another.
    Draining,
    /// Not to be called.
    Down,
}

impl Imposed {
    /// Every one, in the order of the API.
    pub const ALL: [Self; 3] = [Self::Up, Self::Draining, Self::Down];

    /// The word of the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Status::from(self).as_str()
    }
}

impl From<Imposed> for Status {
    fn from(imposed: Imposed) -> Self {
        match imposed {
            Imposed::Up => Self::Up,
            Imposed::Draining => Self::Draining,
            Imposed::Down => Self::Down,
        }
    }
}

impl FromStr for Imposed {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|imposed| imposed.as_str() == text).ok_or(())
    }
}

/// How much an override is about: of two the narrower wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Breadth {
    /// Every instance of the namespace.
    Namespace,
    /// Those of one service.
    Service,
    /// Those that a selection admits.
    Selection,
    /// One.
    Instance,
}

/// What an operator wills, valid and immutable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override(OverrideDraft);

/// An override's parts, each of its own type, not yet held against the bounds. Whatever is absent is left as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OverrideDraft {
    /// Only instances of this service.
    pub service: Option<ServiceName>,
    /// Only this instance of that service.
    pub id: Option<InstanceId>,
    /// Only instances that this admits, as their providers report them and the registry sees them.
    pub select: Option<Selection>,
    /// What their status is to be.
    pub status: Option<Imposed>,
    /// What their weight is to be.
    pub weight: Option<u16>,
    /// Put over their own metadata, key by key.
    pub metadata: BTreeMap<String, String>,
    /// How long they stay listed once they are down.
    pub evict_after_ms: Option<u32>,
    /// True: silence never takes them from the list. False: self-preservation never keeps them there.
    pub preserve: Option<bool>,
    /// Why: for whoever finds it later.
    pub reason: String,
    /// Who wants it, where that is known.
    pub author: Option<String>,
    /// When it was set, on that node's wall clock, in ms since 1970: for people, never for ordering.
    pub created_at: u64,
}

impl Override {
    /// Holds a draft against every bound.
    ///
    /// # Errors
    /// Every rule that it breaks; nothing is kept of it.
    pub fn new(draft: OverrideDraft) -> Result<Self, Vec<Violation>> {
        let violations = violations(&draft);
        if violations.is_empty() { Ok(Self(draft)) } else { Err(violations) }
    }

    /// Its parts.
    #[must_use]
    pub fn parts(&self) -> &OverrideDraft {
        &self.0
    }

    /// How much it is about.
    #[must_use]
    pub fn breadth(&self) -> Breadth {
        match self.0 {
            OverrideDraft { id: Some(_), .. } => Breadth::Instance,
            OverrideDraft { select: Some(_), .. } => Breadth::Selection,
            OverrideDraft { service: Some(_), .. } => Breadth::Service,
            OverrideDraft { .. } => Breadth::Namespace,
        }
    }

    /// Whether it is about this instance of its own namespace, which would be listed so if nothing were overridden.
    #[must_use]
    pub fn is_about(&self, key: &InstanceKey, listed: &Listed) -> bool {
        self.0.service.as_ref().is_none_or(|service| *service == key.service.service)
            && self.0.id.as_ref().is_none_or(|id| *id == key.id)
            && self.0.select.as_ref().is_none_or(|select| select.admits(listed))
    }

    /// About how many bytes it takes, here and on the wire.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        size_bytes(&self.0)
    }
}

fn size_bytes(draft: &OverrideDraft) -> usize {
    let names = draft.service.as_ref().map_or(0, |name| name.as_str().len()) + draft.id.as_ref().map_or(0, |id| id.as_str().len());
    let pairs = draft.select.as_ref().map_or_else(Vec::new, Selection::to_pairs);
    let select: usize = pairs.iter().map(|(key, value)| key.len() + value.len() + 4).sum();
    let metadata: usize = draft.metadata.iter().map(|(key, value)| key.len() + value.len() + 4).sum();
    names + select + metadata + draft.reason.len() + draft.author.as_ref().map_or(0, String::len) + 48
}

fn violations(draft: &OverrideDraft) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut say = |parts: &[&str], rule: String| found.push(Violation { pointer: pointer(parts), rule });
    if draft.id.is_some() && draft.service.is_none() {
        say(&["id"], "needs a `service` beside it: ids are unique within their service only".to_owned());
    }
    if let Some(select) = &draft.select {
        if select.looks_at_whole() {
            say(&["select"], "must not have `usable` or `near_zone`: whether they admit one instance depends on the others".to_owned());
        }
        if select.is_everything() {
            say(&["select"], "must have a condition; leave it out to mean all".to_owned());
        }
    }
    if let Err(rule) = check_word(&draft.reason, REASON_BYTES_MAX) {
        say(&["reason"], rule);
    }
    if let Some(Err(rule)) = draft.author.as_ref().map(|author| check_word(author, AUTHOR_BYTES_MAX)) {
        say(&["author"], rule);
    }
    let overrides_nothing = draft.status.is_none()
        && draft.weight.is_none()
        && draft.metadata.is_empty()
        && draft.evict_after_ms.is_none()
        && draft.preserve.is_none();
    if overrides_nothing {
        say(&[], "must override something: status, weight, metadata, evict_after or preserve".to_owned());
    }
    if draft.evict_after_ms.is_some_and(|ms| u64::from(ms) > EVICT_AFTER_MS_HARD_MAX) {
        say(&["evict_after"], "must be at most 24h".to_owned());
    }
    if draft.metadata.len() > METADATA_KEYS_MAX {
        say(&["metadata"], format!("must have at most {METADATA_KEYS_MAX} keys, has {}", draft.metadata.len()));
    }
    for (key, value) in draft.metadata.iter().take(2 * METADATA_KEYS_MAX) {
        // A name too long to be shown is shown cut: an answer must not carry a megabyte back.
        let shown: String = key.chars().take(64).collect();
        if let Err(rule) = check_word(key, METADATA_KEY_BYTES_MAX) {
            say(&["metadata", &shown], format!("a key {rule}"));
        }
        if value.len() > METADATA_VALUE_BYTES_MAX {
            say(&["metadata", &shown], format!("a value must be at most {METADATA_VALUE_BYTES_MAX} bytes, has {}", value.len()));
        } else if let Err(refused) = check_printable(value) {
            say(&["metadata", &shown], format!("a value {refused}"));
        }
    }
    let bytes = size_bytes(draft);
    if found.is_empty() && bytes > OVERRIDE_BYTES_MAX {
        found.push(Violation {
            pointer: String::new(),
            rule: format!("must be at most {OVERRIDE_BYTES_MAX} bytes in all, is about {bytes}"),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> OverrideDraft {
        OverrideDraft { status: Some(Imposed::Draining), reason: "disk swap".to_owned(), ..OverrideDraft::default() }
    }

    fn pointers(change: impl FnOnce(&mut OverrideDraft)) -> Vec<String> {
        let mut draft = draft();
        change(&mut draft);
        Override::new(draft).unwrap_err().into_iter().map(|violation| violation.pointer).collect()
    }

    #[test]
    fn every_broken_rule_is_said() {
        assert_eq!(pointers(|draft| draft.id = Some(InstanceId::parse("a").unwrap())), ["/id"]);
        assert_eq!(pointers(|draft| draft.status = None), [""]);
        assert_eq!(pointers(|draft| draft.reason = String::new()), ["/reason"]);
        assert_eq!(pointers(|draft| draft.reason = "a\nb".to_owned()), ["/reason"]);
        assert_eq!(pointers(|draft| draft.evict_after_ms = Some(u32::MAX)), ["/evict_after"]);
        assert_eq!(pointers(|draft| draft.select = Some(Selection::default())), ["/select"]);
        for whole in [("usable", "true"), ("near_zone", "a")] {
            assert_eq!(pointers(|draft| draft.select = Some(Selection::parse([whole]).unwrap())), ["/select"]);
        }
        let large = (0..40).map(|number| (format!("k{number}"), "x".repeat(1000))).collect();
        assert_eq!(pointers(|draft| draft.metadata = large), [""]);
    }

    #[test]
    fn the_more_is_named_the_narrower_it_is() {
        let breadth = |change: fn(&mut OverrideDraft)| {
            let mut draft = draft();
            change(&mut draft);
            Override::new(draft).unwrap().breadth()
        };
        assert_eq!(breadth(|_| {}), Breadth::Namespace);
        assert_eq!(breadth(|draft| draft.service = ServiceName::parse("s").ok()), Breadth::Service);
        assert_eq!(breadth(|draft| draft.select = Selection::parse([("zone", "a")]).ok()), Breadth::Selection);
        let instance = |draft: &mut OverrideDraft| {
            (draft.service, draft.id) = (ServiceName::parse("s").ok(), InstanceId::parse("a").ok());
        };
        assert_eq!(breadth(instance), Breadth::Instance);
        assert!(Breadth::Namespace < Breadth::Service && Breadth::Service < Breadth::Selection && Breadth::Selection < Breadth::Instance);
    }
}
