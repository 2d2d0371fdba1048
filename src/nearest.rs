//! The nearest known word, for messages that say "did you mean".

/// How alike two words must be, 0 to 1, to be worth a guess.
const ALIKE_MIN: f64 = 0.6;

/// The known word that is most like `given`, if any is like it at all.
#[must_use]
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .filter(|word| could_be_alike(given.len(), word.len()))
        .map(|word| (strsim::normalized_damerau_levenshtein(given, word), word))
        .filter(|(alike, _)| *alike >= ALIKE_MIN)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, word)| word)
}

/// Words whose lengths differ so much cannot be alike, whatever is in them: so a long text from outside costs nothing.
fn could_be_alike(one: usize, other: usize) -> bool {
    one.min(other) as f64 >= ALIKE_MIN * one.max(other) as f64
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_is_guessed_and_nonsense_is_not() {
        let known = ["address", "port", "ports", "weight"];
        assert_eq!(nearest("prot", known), Some("port"));
        assert_eq!(nearest("adress", known), Some("address"));
        assert_eq!(nearest("colour", known), None);
    }
}
