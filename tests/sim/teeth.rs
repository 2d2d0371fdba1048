//! Teeth: planted faults, in the shell or on the way, each of which the checks must find. A judge that never convicts is none.

use std::sync::Arc;

use muster::registry::{Body, Envelope, Message, Record};

use crate::story::{Story, run};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// No beacon reaches anybody.
    DropBeacons,
    /// Nobody answers a pull.
    NeverAnswerPulls,
    /// A body changes on its way, its version does not.
    CorruptBodies,
    /// The shell says of each due lease that nobody renewed it.
    NeverRenew,
    /// The shell never says when a due lease was renewed.
    NeverExpire,
    /// A node takes the same epoch at each start.
    ReuseEpochs,
    /// Relays vanish, and are answered as if they had not.
    SwallowRelays,
    /// The shell tells no consumer of changes.
    ForgetViewChanges,
    /// A stream leaves out a step.
    SkipDeltas,
}

impl Sabotage {
    /// Whether this message is never sent.
    pub(crate) fn swallows(self, message: &Message) -> bool {
        match self {
            Self::DropBeacons => matches!(message, Message::Beacon(_)),
            Self::NeverAnswerPulls => matches!(message, Message::Pulled { .. }),
            Self::SwallowRelays => matches!(message, Message::Relay { .. } | Message::Relayed { .. }),
            _ => false,
        }
    }

    /// What becomes of a message on its way to `to`.
    pub(crate) fn alter(self, envelope: &mut Envelope, to: usize) {
        match (self, &mut envelope.message) {
            (Self::CorruptBodies, Message::Change(change)) if to == 0 => {
                for record in &mut change.records {
                    *record = Arc::new(corrupted(record));
                }
            }
            _ => {}
        }
    }
}

fn corrupted(record: &Record) -> Record {
    let mut record = record.clone();
    if let Body::Live { registration, .. } = &mut record.body {
        let mut draft = registration.to_draft();
        draft.weight ^= 1;
        *registration = Arc::new(muster::model::Registration::new(draft).expect("unreachable: any weight will do"));
    }
    record
}

/// Some seed among the first few finds it, by saying one of these.
fn is_found(sabotage: Sabotage, says: &[&str]) {
    let found: Vec<String> = (0..20)
        .filter_map(|seed| run(&Story { sabotage: Some(sabotage), ..Story::of(seed) }).violation)
        .map(|violation| violation.to_string())
        .collect();
    assert!(!found.is_empty(), "{sabotage:?} went unnoticed");
    let is_said = found.iter().any(|violation| says.iter().any(|words| violation.contains(words)));
    assert!(is_said, "{sabotage:?} was taken for something else: {found:?}");
}

#[test]
fn nodes_that_hear_no_beacons_are_found() {
    is_found(Sabotage::DropBeacons, &["not agree", "is warming"]);
}

#[test]
fn pulls_that_nobody_answers_are_found() {
    is_found(Sabotage::NeverAnswerPulls, &["not agree", "is warming"]);
}

#[test]
fn a_body_that_changes_under_its_version_is_found() {
    is_found(Sabotage::CorruptBodies, &["one version, two records"]);
}

#[test]
fn leases_that_are_never_renewed_are_found() {
    is_found(Sabotage::NeverRenew, &["listed", "no rest"]);
}

#[test]
fn leases_that_never_expire_are_found() {
    is_found(Sabotage::NeverExpire, &["still listed"]);
}

#[test]
fn an_epoch_that_is_used_twice_is_found() {
    is_found(Sabotage::ReuseEpochs, &["written twice", "one version, two records", "two instances", "rose again", "not agree"]);
}

#[test]
fn relays_that_vanish_are_found() {
    is_found(Sabotage::SwallowRelays, &["listed", "no rest"]);
}

#[test]
fn a_consumer_that_is_not_told_is_found() {
    is_found(Sabotage::ForgetViewChanges, &["nobody was told"]);
}
