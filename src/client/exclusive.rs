//! A value that may be shared between threads though what it holds may not: it is reached only by who may change it.

use std::sync::{Mutex, PoisonError};

/// Holds a value whose shared references are of no use. Never locked: a lock is only the standard library's way to say so.
#[derive(Debug)]
pub(super) struct Exclusive<T>(Mutex<T>);

impl<T> Exclusive<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(super) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}
