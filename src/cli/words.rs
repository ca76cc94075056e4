//! Figures and times as people read them, and text that cannot command a terminal.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::telemetry::HostFigures;

/// A length: `0.4s`, `12s`, `4m12s`, `3h04m`, `2d03h`.
pub(crate) fn span(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    match whole {
        0..10 => format!("{seconds:.1}s"),
        10..60 => format!("{whole}s"),
        60..3600 => format!("{minutes}m{:02}s", whole % 60),
        3600..86_400 => format!("{hours}h{minutes:02}m"),
        _ => format!("{days}d{hours:02}h"),
    }
}

/// A size: `512 B`, `12.3 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A machine in one line.
pub(crate) fn machine(host: &HostFigures) -> String {
    let cores = host.cores as u64;
    let mut parts = vec![plural(cores, "core")];
    parts.extend(host.cpu_percent.map(|percent| format!("{percent:.0} % busy")));
    parts.extend(host.load.map(|[one, ..]| format!("load {one:.1}")));
    let (free, all) = (size(host.memory_available_bytes), size(host.memory_total_bytes));
    parts.push(format!("{free} of {all} memory available"));
    parts.extend(host.disk.as_ref().map(|disk| {
        let (free, all) = (size(disk.available_bytes), size(disk.total_bytes));
        format!("{free} of {all} free on {}", safe(&disk.path.display().to_string()))
    }));
    parts.join(", ")
}

/// A count with thousands apart: `12,345`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 worker`, `2 workers`.
pub(crate) fn plural(number: u64, one: &str) -> String {
    format!("{} {one}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A local time of day with milliseconds: `14:02:31.204`.
pub(crate) fn clock_millis(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%H:%M:%S%.3f").to_string()
}

/// A local time of day, with the date if it is another day than `now`.
pub(crate) fn clock(at: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let (at, now) = (at.to_zoned(zone.clone()), now.to_zoned(zone.clone()));
    let form = if at.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    at.strftime(form).to_string()
}

/// `in 12s`, `now`, or `12s ago`.
pub(crate) fn relative(at: Timestamp, now: Timestamp) -> String {
    let seconds = at.duration_since(now).as_secs_f64();
    if seconds > 0.05 {
        format!("in {}", span(seconds))
    } else if seconds > -1.0 {
        "now".to_owned()
    } else {
        format!("{} ago", span(-seconds))
    }
}

/// Text of a worker, on one line, harmless for a terminal.
pub(crate) fn safe(text: &str) -> String {
    crate::worker::output::escape_for_terminal(text.as_bytes()).replace('\t', " ")
}

/// JSON that cannot command a terminal: what its writers leave as it is stands as an escape, which means the same.
pub(crate) fn harmless_json(text: String) -> String {
    let harmful = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if !text.contains(harmful) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if harmful(c) { out.push_str(&format!("\\u{:04x}", c as u32)) } else { out.push(c) }
    }
    out
}

/// Cut at this many characters, with a mark.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// Text in lines of at most that many columns, broken between words. What is longer than a line stays whole, so that a
/// path can be copied; without a width nothing is broken.
pub(crate) fn wrapped(text: &str, width: Option<usize>) -> Vec<String> {
    let Some(width) = width else { return vec![text.to_owned()] };
    let mut lines = vec![String::new()];
    let (mut line, mut columns) = (0, 0);
    for word in text.split(' ') {
        let length = word.chars().count();
        if columns > 0 && columns + 1 + length > width {
            lines.push(String::new());
            (line, columns) = (line + 1, 0);
        } else if columns > 0 {
            lines[line].push(' ');
            columns += 1;
        }
        lines[line].push_str(word);
        columns += length;
    }
    lines
}

/// A field of a CSV line (RFC 4180); text that a spreadsheet would run is defused.
pub(crate) fn csv(text: &str) -> String {
    let text = safe(text);
    let defused = if text.starts_with(['=', '+', '-', '@']) && text.parse::<f64>().is_err() {
        format!("'{text}")
    } else {
        text
    };
    if defused.contains([',', '"', ' ']) { format!("\"{}\"", defused.replace('"', "\"\"")) } else { defused }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        let spans =
            [(0.42, "0.4s"), (12.9, "12s"), (252.0, "4m12s"), (11_040.0, "3h04m"), (183_600.0, "2d03h")];
        for (seconds, text) in spans {
            assert_eq!(span(seconds), text);
        }
        assert_eq!((size(512), size(12_900_000)), ("512 B".to_owned(), "12.3 MiB".to_owned()));
        assert_eq!((count(999), count(1_234_567)), ("999".to_owned(), "1,234,567".to_owned()));
        assert_eq!(
            (plural(1, "worker"), plural(2, "worker")),
            ("1 worker".to_owned(), "2 workers".to_owned())
        );
    }

    #[test]
    fn hostile_text_stays_text() {
        assert_eq!(safe("\u{1b}]0;x\u{7}\n\u{202e}"), "\\x1b]0;x\\x07\\x0a\\u{202e}");
        let text = "\u{9b}2J \u{202e}ä\u{7f}";
        let json = harmless_json(serde_json::json!({ "a": text }).to_string());
        assert_eq!(json, "{\"a\":\"\\u009b2J \\u202eä\\u007f\"}");
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["a"], text);
        assert_eq!(csv("=1+1"), "'=1+1");
        assert_eq!(csv("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(cut("abcdef", 4), "abc…");
    }

    #[test]
    fn long_lines_are_broken_between_words_and_long_words_stay_whole() {
        assert_eq!(wrapped("it runs and runs", Some(9)), ["it runs", "and runs"]);
        assert_eq!(wrapped("in /a/very/long/path of it", Some(9)), ["in", "/a/very/long/path", "of it"]);
        assert_eq!(wrapped("it runs and runs", None), ["it runs and runs"]);
        assert_eq!(wrapped("", Some(9)), [""]);
    }

    #[test]
    fn times_are_local_and_relative() {
        let at: Timestamp = "2026-01-02T03:04:05.678Z".parse().unwrap();
        let later: Timestamp = "2026-01-02T03:04:17Z".parse().unwrap();
        assert_eq!(clock_millis(at, &TimeZone::UTC), "03:04:05.678");
        assert_eq!(clock(at, later, &TimeZone::UTC), "03:04:05");
        assert_eq!((relative(later, at), relative(at, later)), ("in 11s".to_owned(), "11s ago".to_owned()));
    }
}
