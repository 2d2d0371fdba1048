//! Tried: what the failures in a row were, each once with how often.

use std::sync::Arc;

use super::Look;

/// How many different things that were seen are told.
const TRIED_MAX: usize = 4;

impl Look {
    /// What the tries saw, in words.
    pub(in crate::registry) fn to_words(&self) -> String {
        let one = |(what, times): &(Arc<str>, u32)| if *times == 1 { what.to_string() } else { format!("{what} ({times} times)") };
        self.tried.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn note_tried(&mut self, what: Arc<str>) {
        if let Some((_, times)) = self.tried.iter_mut().find(|(known, _)| *known == what) {
            *times += 1;
        } else if self.tried.len() < TRIED_MAX {
            self.tried.push((what, 1));
        }
    }
}
