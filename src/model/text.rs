//! Free text, as in tags, metadata and reasons: which characters it may not have, since it goes into lines, headers and pages.
//!
//! Everything is text but control characters (Unicode's Cc: U+0000 to U+001F, U+007F to U+009F), the separators of lines and paragraphs,
//! and what is not seen or turns the text around it. U+200C and U+200D are text: Persian and the scripts of India are spelled with them,
//! and so are many emoji. Nodes hold records of peers against the same rule, so no character may be added to what is refused.

use std::fmt;

/// The rule, as the end of a sentence.
const RULE: &str = "must have no control characters, and none of U+200B, U+200E, U+200F, U+2028 to U+202E, U+2060 to U+2069 and U+FEFF, \
     which hide, break or turn text";

/// A character that text may not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unprintable(char);

impl fmt::Display for Unprintable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{RULE}; it has U+{:04X}", u32::from(self.0))
    }
}

/// Holds a text against the rule.
///
/// # Errors
/// The first character that breaks it.
pub(super) fn check_printable(text: &str) -> Result<(), Unprintable> {
    text.chars().find(|&char| is_refused(char)).map_or(Ok(()), |char| Err(Unprintable(char)))
}

/// Holds a text of 1 to `bytes_max` bytes against the rule.
///
/// # Errors
/// What it must be, as the end of a sentence.
pub(super) fn check_word(text: &str, bytes_max: usize) -> Result<(), String> {
    if text.is_empty() || text.len() > bytes_max {
        return Err(format!("must be 1 to {bytes_max} bytes, has {}", text.len()));
    }
    check_printable(text).map_err(|refused| refused.to_string())
}

fn is_refused(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joiners_are_text_and_what_hides_or_turns_text_is_not() {
        for text in ["", "می\u{200c}خواهم", "क्\u{200d}ष", "👩\u{200d}💻", "ü ñ 中", "\u{a0}\u{ad}"] {
            assert_eq!(check_printable(text), Ok(()), "{text:?}");
        }
        let refused = "\0\t\n\u{7f}\u{9f}\u{200b}\u{200e}\u{200f}\u{2028}\u{202e}\u{2060}\u{2066}\u{2069}\u{feff}";
        for char in refused.chars() {
            assert_eq!(check_printable(&format!("a{char}b")), Err(Unprintable(char)), "{char:?}");
        }
        assert!(check_word("a\u{202e}b", 9).unwrap_err().ends_with("it has U+202E"));
        assert_eq!(check_word("", 9).unwrap_err(), "must be 1 to 9 bytes, has 0");
        assert!(check_word("abc", 2).is_err() && check_word("abc", 3).is_ok());
    }
}
