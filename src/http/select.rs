//! Selections in queries: the one way in which lists, searches and watches read them.

use super::problem::FaultCode;
use super::query::Query;
use crate::model::{Selection, SelectionDraft};

/// Takes a selection's keys out of a query; what is wrong with them is remembered there.
pub(in crate::http) fn selection(query: &mut Query) -> Selection {
    let mut draft = SelectionDraft::default();
    for key in Selection::KEYS {
        for value in query.all(key) {
            take(&mut draft, key, &value, query);
        }
    }
    for (key, value) in query.beginning(Selection::METADATA) {
        take(&mut draft, &key, &value, query);
    }
    draft.finish()
}

fn take(draft: &mut SelectionDraft, key: &str, value: &str, query: &mut Query) {
    if let Err(error) = draft.take(key, value) {
        query.fault(&error.parameter, FaultCode::InvalidValue, error.detail);
    }
}
