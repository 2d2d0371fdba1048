//! Changes on the wire: a stretch of a log.

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::reading::Reading;
use super::record::{Records, counted, records_of, to_records};
use crate::registry;

#[derive(Serialize, Deserialize)]
pub(super) struct Change<'a> {
    first: u64,
    last: u64,
    wants_ack: bool,
    #[serde(borrow)]
    records: Records<'a>,
}

impl<'a> Change<'a> {
    pub(super) fn of(change: &'a registry::Change) -> Self {
        let registry::Change { first, last, wants_ack, records } = change;
        Self { first: *first, last: *last, wants_ack: *wants_ack, records: records_of(records) }
    }

    pub(super) fn into_model(self, reading: &mut Reading) -> Result<registry::Change, Invalid> {
        let Self { first, last, wants_ack, records } = self;
        // `last` may be the one before `first`: nothing is covered, which answers a pull by a node that has everything.
        if first == 0 || last < first - 1 {
            return Err(Invalid("seq"));
        }
        let last = counted(last, "seq")?;
        Ok(registry::Change { first, last, wants_ack, records: to_records(records, reading) })
    }
}
