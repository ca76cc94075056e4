//! Sizes and times of other supervisors, in regrow's words.

use std::time::Duration;

use crate::units::{format_duration, format_size};

/// `"5s"` from seconds, whole or not.
pub(super) fn seconds(text: &str) -> Option<String> {
    let seconds: f64 = text.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().map(whole)
}

/// `"1600ms"` from milliseconds.
pub(super) fn millis(number: f64) -> Option<String> {
    Duration::try_from_secs_f64(number / 1000.0).ok().map(whole)
}

/// To the millisecond, and never down to nothing.
pub(super) fn whole(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let up = u64::try_from(nanos.div_ceil(1_000_000)).unwrap_or(u64::MAX);
    format_duration(Duration::from_millis(up))
}

/// systemd's `5`, `1min 30s`, `500ms`; `None` also for `infinity`.
pub(super) fn systemd_time(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "us" | "usec" | "µs" | "μs" => 1e-6,
            "ms" | "msec" => 1e-3,
            "" | "s" | "sec" | "second" | "seconds" => 1.0,
            "m" | "min" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86_400.0,
            "w" | "week" | "weeks" => 604_800.0,
            "M" | "month" | "months" => 2_629_800.0,
            "y" | "year" | "years" => 31_557_600.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number * unit).ok()?;
        total = total.checked_add(part)?;
        rest = rest[letters..].trim_start();
    }
    Some(total)
}

/// `512M`, `1G`, `50MB`, `300`: a thousand is 1024, as supervisord, PM2 and systemd have it.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim().to_ascii_uppercase().trim_end_matches('B').trim_end_matches('I') {
        "" => 1.0,
        "K" => 1024.0,
        "M" => 1024.0 * 1024.0,
        "G" => 1024.0 * 1024.0 * 1024.0,
        "T" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    let bytes = number * unit;
    // Beyond a pebibyte nothing is meant.
    (bytes.is_finite() && (0.0..=1.2e15).contains(&bytes)).then_some(bytes as u64)
}

/// The same, as regrow writes it.
pub(super) fn size(text: &str) -> Option<String> {
    bytes(text).map(format_size)
}

/// `true`, `yes`, `on`, `1`, and their opposites.
pub(super) fn yes(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" | "t" | "y" => Some(true),
        "false" | "no" | "off" | "0" | "f" | "n" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_of_others_are_read() {
        for (text, time) in
            [("5", "5s"), ("1min 30s", "90s"), ("500ms", "500ms"), ("2h", "2h"), ("1.5", "1500ms")]
        {
            assert_eq!(systemd_time(text).map(whole).as_deref(), Some(time), "{text}");
        }
        for text in ["infinity", "", "5 parsecs", "999999999999999999999y"] {
            assert_eq!(systemd_time(text), None, "{text}");
        }
        for (text, bytes_of) in
            [("300M", 300 << 20), ("1G", 1 << 30), ("50MB", 50 << 20), ("100", 100), ("2KiB", 2048)]
        {
            assert_eq!(bytes(text), Some(bytes_of), "{text}");
        }
        assert_eq!((bytes("80%"), bytes("x"), seconds("-1"), millis(f64::NAN)), (None, None, None, None));
        assert_eq!((seconds("0.5").as_deref(), millis(1600.0).as_deref()), (Some("500ms"), Some("1600ms")));
        assert_eq!((yes("Yes"), yes("off"), yes("unexpected")), (Some(true), Some(false), None));
    }
}
