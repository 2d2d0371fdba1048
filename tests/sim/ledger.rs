//! The ledger: what holds at every step, whatever goes wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster::model::{InstanceKey, Life, Seq, Version};
use muster::registry::{Changed, Record};

use crate::invariant::{Invariant, Violation};

/// The numbers of a version that never go back.
type Numbers = (u64, u64, bool, u64);

#[derive(Default)]
pub(crate) struct Ledger {
    /// A version has one record, wherever it is held.
    records: BTreeMap<(InstanceKey, Version), Arc<Record>>,
    /// A seq of a life is written once.
    written: BTreeMap<(Life, Seq), InstanceKey>,
    /// What each life of each node has seen of each instance.
    greatest: BTreeMap<(Life, InstanceKey), Numbers>,
}

impl Ledger {
    /// Notes what `holder` now holds of an instance; the error says which invariant it breaks.
    pub(crate) fn note(&mut self, holder: &Life, changed: &Changed) -> Result<(), Violation> {
        let record = &changed.record;
        let version = &record.version;
        let known = self.records.entry((record.key.clone(), version.clone())).or_insert_with(|| Arc::clone(record));
        if **known != **record {
            return broken(Invariant::OneWriter, format!("one version, two records, at {holder}:\n  {known:?}\n  {record:?}"));
        }
        let by = (version.owner.clone(), version.seq);
        if changed.own && self.written.contains_key(&by) {
            return broken(
                Invariant::OneWriter,
                format!("seq {} of {} is written twice: {} and {}", by.1, by.0, self.written[&by], record.key),
            );
        }
        if changed.own && version.owner != *holder {
            return broken(Invariant::OneWriter, format!("{holder} wrote a record of {}'s: {}", version.owner, record.key));
        }
        let first = self.written.entry(by.clone()).or_insert_with(|| record.key.clone());
        if *first != record.key {
            return broken(Invariant::OneWriter, format!("seq {} of {} is of two instances: {first} and {}", by.1, by.0, record.key));
        }
        let numbers = (version.incarnation.get(), version.edition, version.deregistered, version.generation);
        let greatest = self.greatest.entry((holder.clone(), record.key.clone())).or_insert(numbers);
        // A deregistration that was forgotten may be taken again from another node, an older one too: nothing is listed. What is live is held
        // to the greatest that was ever seen.
        let is_gone_again = numbers.2 && greatest.2;
        if numbers < *greatest && !is_gone_again {
            return broken(
                Invariant::NoResurrection,
                format!("{} rose again at {holder}: {greatest:?} was followed by {numbers:?}", record.key),
            );
        }
        *greatest = numbers.max(*greatest);
        Ok(())
    }
}

fn broken(of: Invariant, what: String) -> Result<(), Violation> {
    Err(Violation { of, what })
}
