//! Which numbers of a version a node takes: what no honest node comes to is quarantined, so that no forged number ends what its provider may
//! still write. What is written here is always within these bounds.
//!
//! The bounds of editions, generations and counters are the same whatever a node knows: one that missed something, or has just started, takes
//! what the others took, and nodes stay equal. Whoever writes above the greatest counts on in another number of the version (`merge`), or of the
//! stamp (`shared`).

use super::stamp::STAMP_MAX;
use crate::model::{INCARNATION_NAMED_MAX, Incarnation, Version};

/// Up to here an edition may be a stamp.
pub(super) const EDITION_FREE_MAX: u64 = STAMP_MAX;
/// No greater edition is taken: a clock that was driven to its end stands still, and words count on from there.
pub(super) const EDITION_MAX: u64 = EDITION_FREE_MAX + (1 << 20);
/// No greater generation is taken: after it an edition begins.
pub(super) const GENERATION_MAX: u64 = 1 << 20;
/// No greater incarnation is taken of an instance of which none so great is known.
pub(super) const INCARNATION_FIRST_MAX: u64 = INCARNATION_NAMED_MAX;

/// Why this version cannot have come about honestly, beside the known one; `None`: it can.
pub(super) fn implausible(version: &Version, known: Option<&Version>) -> Option<&'static str> {
    let is_known_life = known.is_some_and(|known| known.incarnation.get() > INCARNATION_FIRST_MAX);
    if version.incarnation.get() > INCARNATION_FIRST_MAX && !is_known_life {
        return Some("its incarnation is above 2^52");
    }
    if !is_plausible_count(version.edition) {
        return Some("its edition is above all that stamps come to");
    }
    (version.generation > GENERATION_MAX).then_some("its generation is above all that an edition comes to")
}

/// Whether a number that follows the stamp clock, and counts on where that stands still, may be so great.
pub(super) fn is_plausible_count(count: u64) -> bool {
    count <= EDITION_MAX
}

/// The life after this one, where peers take it.
pub(super) fn next_life(known: Incarnation) -> Option<Incarnation> {
    Some(known.next()).filter(|next| next.get() <= INCARNATION_FIRST_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, INCARNATION_MAX, Life, NodeName};

    fn version(incarnation: u64, edition: u64, generation: u64) -> Version {
        let owner = Life { node: NodeName::parse("n1").unwrap(), epoch: Epoch(1) };
        let incarnation = Incarnation::new(incarnation).unwrap();
        Version { incarnation, edition, deregistered: false, generation, live: true, owner, seq: 1 }
    }

    #[test]
    fn each_number_has_a_bound_whatever_is_known() {
        let is_taken = |one: (u64, u64, u64), known: Option<(u64, u64, u64)>| {
            let known = known.map(|(incarnation, edition, generation)| version(incarnation, edition, generation));
            implausible(&version(one.0, one.1, one.2), known.as_ref()).is_none()
        };
        let small = Some((1, 5, 5));
        assert!(is_taken((1, EDITION_FREE_MAX, 0), None) && is_taken((1, EDITION_FREE_MAX, 0), small));
        // Whatever is known: else one node would hold for good what another refuses.
        for known in [None, small, Some((1, EDITION_MAX, 0))] {
            assert!(is_taken((1, EDITION_MAX, 0), known) && !is_taken((1, EDITION_MAX + 1, 0), known), "{known:?}");
            assert!(is_taken((1, 5, GENERATION_MAX), known) && !is_taken((1, 5, GENERATION_MAX + 1), known), "{known:?}");
        }
        assert!(is_taken((INCARNATION_FIRST_MAX, 0, 0), None) && !is_taken((INCARNATION_FIRST_MAX + 1, 0, 0), small));
        assert!(is_taken((INCARNATION_MAX, 6, 0), Some((INCARNATION_MAX, 5, 0))));
    }
}
