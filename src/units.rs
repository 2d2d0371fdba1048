//! Units as people write them: `15s`, `16KiB`; and back again.

const DURATIONS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
const SIZES: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// What a duration must look like, as a sentence's end.
pub const DURATION_RULE: &str = "a duration like \"500ms\", \"15s\", \"2m\" or \"1h\", or whole milliseconds";

/// The same as a regular expression, without its anchors.
pub const DURATION_PATTERN: &str = "[0-9]+(ms|s|m|h)?";

/// What a size must look like, as a sentence's end.
pub const SIZE_RULE: &str = "a size like \"16KiB\" or \"1MiB\", or whole bytes";

/// Takes `15s`, `500ms`, `2m`, `1h`, or a number of milliseconds. `None`: it is none of these.
#[must_use]
pub fn parse_ms(text: &str) -> Option<u64> {
    parse(text, &DURATIONS)
}

/// Takes `16KiB`, `1MiB`, or a number of bytes. `None`: it is none of these.
#[must_use]
pub fn parse_bytes(text: &str) -> Option<u64> {
    parse(text, &SIZES)
}

/// The shortest way to write a duration exactly: `90s`, not `1.5m`.
#[must_use]
pub fn show_ms(ms: u64) -> String {
    show(ms, &DURATIONS)
}

/// The shortest way to write a size exactly.
#[must_use]
pub fn show_bytes(bytes: u64) -> String {
    show(bytes, &SIZES)
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = if unit.is_empty() { 1 } else { units.iter().find(|(name, _)| *name == unit)?.1 };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn show(number: u64, units: &[(&str, u64)]) -> String {
    let fits = |(_, factor): &&(&str, u64)| number >= *factor && number.is_multiple_of(*factor);
    let (unit, factor) = units.iter().rev().find(fits).unwrap_or(&units[0]);
    format!("{}{unit}", number / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_the_api_says() {
        let good = [("15s", 15_000), ("500ms", 500), ("2m", 120_000), ("1h", 3_600_000), ("1500", 1500), ("0", 0)];
        for (text, ms) in good {
            assert_eq!(parse_ms(text), Some(ms), "{text}");
        }
        for bad in ["", "s", "1.5s", "-1s", "15 s", "15S", "1w", "18446744073709551615h", "1s1s"] {
            assert_eq!(parse_ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for number in [0, 1, 999, 1000, 1500, 60_000, 90_000, 3_600_000, 86_400_000, 1 << 20, 16 << 10] {
            assert_eq!(parse_ms(&show_ms(number)), Some(number));
            assert_eq!(parse_bytes(&show_bytes(number)), Some(number));
        }
        assert_eq!(show_ms(90_000), "90s");
        assert_eq!(show_bytes(16 << 10), "16KiB");
    }
}
