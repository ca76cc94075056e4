//! Durations and sizes as people write them: `250ms 5s 2m 1h 7d`, `512MiB`.
//!
//! One number and one unit, nothing else: `1h30m` and `1.5 h` are errors with a hint, because a silently
//! misread timeout is worse than a start that is refused.

use std::time::Duration;

/// Why a text is no duration or size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a number followed by a unit.
    #[error("expected a number and a unit, such as {0}")]
    Form(&'static str),
    /// A unit that does not exist.
    #[error("unknown unit `{0}`, expected one of {1}")]
    Unit(String, &'static str),
    /// Larger than can be kept.
    #[error("too large")]
    TooLarge,
}

/// Parses `250ms 5s 2m 1h 7d`; a plain `0` is allowed.
///
/// # Errors
/// [`UnitError`] says what was expected.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(regrow::units::parse_duration("250ms").unwrap(), Duration::from_millis(250));
/// assert!(regrow::units::parse_duration("5").is_err());
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    const FORM: &str = "`250ms`, `5s`, `2m`, `1h` or `7d`";
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (number, unit) = split(text).ok_or(UnitError::Form(FORM))?;
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        other => return Err(UnitError::Unit(other.to_owned(), "ms s m h d")),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or(UnitError::TooLarge)
}

/// Writes a duration so that [`parse_duration`] reads it back: the largest unit that divides it.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(regrow::units::format_duration(Duration::from_secs(120)), "2m");
/// ```
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
        if millis > 0 && millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") }
}

/// A number of things in words.
///
/// ```
/// assert_eq!(regrow::units::plural(1, "worker"), "1 worker");
/// assert_eq!(regrow::units::plural(2, "worker"), "2 workers");
/// ```
#[must_use]
pub fn plural(number: u64, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

/// Parses `512MiB`, `64KiB`, `2GiB`, `1TiB`, `100B` and the decimal `kB MB GB`.
///
/// # Errors
/// [`UnitError`] says what was expected.
///
/// ```
/// assert_eq!(regrow::units::parse_size("64KiB").unwrap(), 65_536);
/// ```
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text).ok_or(UnitError::Form("`64KiB`, `512MiB` or `2GiB`"))?;
    let factor: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        other => return Err(UnitError::Unit(other.to_owned(), "B KiB MiB GiB TiB kB MB GB")),
    };
    number.checked_mul(factor).ok_or(UnitError::TooLarge)
}

/// Writes a size so that [`parse_size`] reads it back.
///
/// ```
/// assert_eq!(regrow::units::format_size(20 << 20), "20MiB");
/// ```
#[must_use]
pub fn format_size(bytes: u64) -> String {
    for (unit, size) in [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes > 0 && bytes.is_multiple_of(size) {
            return format!("{}{unit}", bytes / size);
        }
    }
    format!("{bytes}B")
}

/// The beginning of a text that is longer than this many bytes, and how long it is; any other as it is. For what comes
/// from outside and is kept or shown: an error can say millions of bytes.
pub(crate) fn shortened(text: &str, most: usize) -> std::borrow::Cow<'_, str> {
    if text.len() <= most {
        return text.into();
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}… ({} bytes in all)", &text[..end], text.len()).into()
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters_and_says_how_long_it_was() {
        assert_eq!(shortened("good", 4), "good");
        assert_eq!(shortened("größer", 3), "gr… (8 bytes in all)");
    }
}
