//! Steps: what a consumer must be told to get from one view to another, under its selection.

use std::cmp::Ordering;
use std::sync::Arc;

use imbl::ordmap::DiffItem;

use crate::api::Hex;
use crate::api::consume::{Delta, Instance, Removed};
use crate::model::{Listed, Selection, ServiceKey};
use crate::registry::View;

use super::event::Event;

/// What is other under a selection.
#[derive(Debug, Default)]
pub(super) struct Difference<'a> {
    upsert: Vec<&'a Listed>,
    remove: Vec<Removed<'a>>,
}

impl<'a> Difference<'a> {
    /// From `old` to `new`, in the order of ids.
    pub(super) fn between(selection: &Selection, old: &'a View, new: &'a View) -> Self {
        let mut difference = Self::default();
        if selection.looks_at_whole() {
            difference.compare(&old.select(selection), &new.select(selection), new);
        } else {
            difference.skim(selection, old, new);
        }
        difference
    }

    pub(super) fn is_empty(&self) -> bool {
        self.upsert.is_empty() && self.remove.is_empty()
    }

    /// As the event that says so.
    pub(super) fn into_event(self, service: &ServiceKey, from: u128, to: u128) -> Event {
        let delta = Delta {
            namespace: service.namespace.as_str().into(),
            service: service.service.as_str().into(),
            from: Hex(from),
            revision: Hex(to),
            upsert: self.upsert.iter().map(|listed| Instance::from(*listed)).collect(),
            remove: self.remove,
        };
        Event::new("delta", to, &delta)
    }

    /// Where each instance is judged on its own, what the two views share is skipped: the cost is what changed.
    fn skim(&mut self, selection: &Selection, old: &'a View, new: &'a View) {
        for item in old.instances().diff(new.instances()) {
            match item {
                DiffItem::Add(_, listed) => self.admit(selection, None, listed),
                DiffItem::Update { old: (_, before), new: (_, listed) } => self.admit(selection, Some(before), listed),
                DiffItem::Remove(_, before) if selection.admits(before) => self.gone(before, new),
                DiffItem::Remove(..) => {}
            }
        }
    }

    fn admit(&mut self, selection: &Selection, before: Option<&Arc<Listed>>, listed: &'a Listed) {
        if selection.admits(listed) {
            self.upsert.push(listed);
        } else if before.is_some_and(|before| selection.admits(before)) {
            self.remove.push(Removed::left(listed));
        }
    }

    /// Where one change may let others in or out, both selected sets are walked together.
    fn compare(&mut self, old: &[&'a Arc<Listed>], new: &[&'a Arc<Listed>], view: &'a View) {
        let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(before), Some(listed)) => before.id.cmp(&listed.id),
            };
            let before = if order.is_le() { old.next() } else { None };
            let listed = if order.is_ge() { new.next() } else { None };
            match (before, listed) {
                (Some(before), Some(listed)) if before == listed => {}
                (_, Some(listed)) => self.upsert.push(listed),
                (Some(before), None) => self.gone(before, view),
                (None, None) => return,
            }
        }
    }

    fn gone(&mut self, before: &'a Listed, new: &'a View) {
        self.remove.push(match new.instances().get(&before.id) {
            Some(listed) => Removed::left(listed),
            None => Removed::gone(before.id.as_str(), new.departed(&before.id)),
        });
    }
}
