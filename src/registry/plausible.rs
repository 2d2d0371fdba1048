//! Which numbers of a version a node takes: what no honest node comes to is quarantined, so that no forged number ends what its provider may
//! still write. What is written here is always within these bounds.

use super::stamp::{STAMP_MAX, StampTime};
use crate::model::Version;

/// A number that far above the known one cannot have come about honestly.
pub(super) const JUMP_MAX: u64 = 1 << 20;
/// Up to here an edition is taken whatever is known: it may be a stamp.
pub(super) const EDITION_FREE_MAX: u64 = STAMP_MAX;
/// No greater generation is taken of an edition that is not known.
pub(super) const GENERATION_FIRST_MAX: u64 = 1 << 32;

/// Why this version cannot have come about honestly, beside the known one; `None`: it can. `clock` is as in [`is_plausible_count`].
pub(super) fn implausible(version: &Version, known: Option<&Version>, clock: StampTime) -> Option<&'static str> {
    let is_jump = known.is_some_and(|known| version.edition > known.edition.max(EDITION_FREE_MAX).saturating_add(JUMP_MAX));
    if is_jump || !is_plausible_count(version.edition, clock) {
        return Some("its edition is far above the known one");
    }
    let word = |version: &Version| (version.incarnation, version.edition, version.deregistered);
    let most = match known.filter(|known| word(known) == word(version)) {
        Some(known) => known.generation.saturating_add(JUMP_MAX),
        None => GENERATION_FIRST_MAX,
    };
    (version.generation > most).then_some("its generation is far above the known one")
}

/// Whether a number that words count on from may be so great now. `clock` is the stamp clock as it runs on past its end.
///
/// No fixed bound would do: who forges sends the bound, the next word is one more, and a node that joins later would refuse that. This one
/// runs with the clock that all nodes share, faster than words count.
pub(super) fn is_plausible_count(count: u64, clock: StampTime) -> bool {
    count <= EDITION_FREE_MAX.saturating_add(clock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, Incarnation, Life, NodeName};

    fn version(incarnation: u64, edition: u64, generation: u64) -> Version {
        let owner = Life { node: NodeName::parse("n1").unwrap(), epoch: Epoch(1) };
        let incarnation = Incarnation::new(incarnation).unwrap();
        Version { incarnation, edition, deregistered: false, generation, live: true, owner, seq: 1 }
    }

    #[test]
    fn each_number_has_a_bound_at_first_sight_and_beside_a_known_one() {
        const CLOCK: u64 = 10 * JUMP_MAX;
        let is_taken = |one: (u64, u64), known: Option<(u64, u64)>| {
            let known = known.map(|(edition, generation)| version(1, edition, generation));
            implausible(&version(1, one.0, one.1), known.as_ref(), CLOCK).is_none()
        };
        let small = Some((5, 5));
        assert!(is_taken((EDITION_FREE_MAX, 0), None) && is_taken((EDITION_FREE_MAX, 0), small));
        assert!(is_taken((EDITION_FREE_MAX + CLOCK, 0), None) && !is_taken((EDITION_FREE_MAX + CLOCK + 1, 0), None));
        let above = EDITION_FREE_MAX + JUMP_MAX;
        assert!(is_taken((above, 0), small) && !is_taken((above + 1, 0), small) && is_taken((above + 1, 0), Some((above, 0))));
        assert!(!is_taken((EDITION_FREE_MAX + CLOCK + 1, 0), Some((EDITION_FREE_MAX + CLOCK, 0))));
        assert!(is_taken((5, 5 + JUMP_MAX), small) && !is_taken((5, 6 + JUMP_MAX), small));
        assert!(is_taken((6, GENERATION_FIRST_MAX), small) && !is_taken((6, GENERATION_FIRST_MAX + 1), small));
    }

    /// Whatever somebody drove a number to, a node that comes later takes the word that was written above it.
    #[test]
    fn a_word_above_a_forged_one_is_taken_by_whoever_joins_later() {
        for clock in [0, 1 << 46, STAMP_MAX, STAMP_MAX + 1000] {
            let forged = version(1, EDITION_FREE_MAX + clock, 0);
            assert_eq!(implausible(&forged, None, clock), None);
            let next = version(1, forged.edition + 1, 0);
            assert_eq!(implausible(&next, None, clock + 1), None);
        }
    }
}
