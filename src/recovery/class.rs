//! Failures that are the same failure.
//!
//! What helped last time is worth knowing only if this time is the same. A failure's fingerprint is what it left,
//! its exit code or signal, the probe, its message, without all that differs between two occurrences of one fault:
//! numbers, ids, addresses, times and paths. The user's `[[error_class]]` come first and give it a name that ladders
//! can use.

use std::fmt::Write as _;
use std::sync::Arc;

use regex::Regex;

use crate::cause::Cause;

/// A fingerprint is at most this long: enough to tell messages apart, short enough for a table's column.
const LONGEST: usize = 96;

/// `[[error_class]]`: a failure that has a name.
#[derive(Debug, Clone)]
pub struct ErrorClass {
    /// Its name, which is a cause.
    pub name: Arc<str>,
    /// Found in the exit's message, the last lines of output, or the probe's message.
    pub pattern: Option<Regex>,
    /// The exit code it comes with.
    pub exit_code: Option<i32>,
}

impl PartialEq for ErrorClass {
    fn eq(&self, other: &Self) -> bool {
        let pattern = |class: &Self| class.pattern.as_ref().map(|pattern| pattern.as_str().to_owned());
        self.name == other.name && self.exit_code == other.exit_code && pattern(self) == pattern(other)
    }
}

/// What a failure left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// How it shows.
    pub cause: Option<Cause>,
    /// The exit code, where it ended with one.
    pub exit_code: Option<i32>,
    /// The signal's name, where one ended it.
    pub signal: Option<String>,
    /// The probe that failed.
    pub probe: Option<String>,
    /// The exit's message, or the probe's.
    pub message: String,
    /// The class that the worker itself gave it.
    pub named: Option<String>,
    /// The last lines of its output, the newest last.
    pub lines: Vec<String>,
}

impl Evidence {
    /// The one of the user's classes that the worker named, else the first that it fits: all that a class asks for must
    /// be there.
    #[must_use]
    pub fn class_of(&self, classes: &[ErrorClass]) -> Option<Arc<str>> {
        let named = |class: &&ErrorClass| self.named.as_deref() == Some(&*class.name);
        let found = classes.iter().find(named).or_else(|| classes.iter().find(|class| self.fits(class)));
        found.map(|class| Arc::clone(&class.name))
    }

    /// The name under which experience with it is kept: its class, else its fingerprint.
    #[must_use]
    pub fn key(&self, classes: &[ErrorClass]) -> Arc<str> {
        self.class_of(classes).unwrap_or_else(|| self.fingerprint().into())
    }

    /// What is the same in every occurrence of it, such as `crash 70 connection to # refused`.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut text = self.cause.map_or("unknown", Cause::word).to_owned();
        match (self.exit_code, &self.signal) {
            (Some(code), _) => {
                let _ = write!(text, " {code}");
            }
            (None, Some(signal)) => {
                let _ = write!(text, " {signal}");
            }
            (None, None) => {}
        }
        if let Some(probe) = &self.probe {
            let _ = write!(text, " {probe}");
        }
        let said = self.lines.iter().rev().map(String::as_str).find(|line| !line.trim().is_empty());
        let message = fingerprint(said.unwrap_or(&self.message));
        if !message.is_empty() {
            let _ = write!(text, " {message}");
        }
        text
    }

    fn fits(&self, class: &ErrorClass) -> bool {
        let code = class.exit_code.is_none_or(|code| self.exit_code == Some(code));
        let said = class.pattern.as_ref().is_none_or(|pattern| {
            pattern.is_match(&self.message) || self.lines.iter().any(|line| pattern.is_match(line))
        });
        code && said && (class.exit_code.is_some() || class.pattern.is_some())
    }
}

/// A message without what differs between two occurrences of one fault: words with a digit in them become `#`, paths
/// become `/…`, and everything is lower-case with single spaces.
///
/// ```
/// use regrow::recovery::fingerprint;
/// let one = fingerprint("2026-11-30T10:00:01Z cannot open /var/lib/a.db: job 4711 (0x7ffe) timed out");
/// let two = fingerprint("2026-12-01T23:59:59Z cannot open /tmp/x/b.db: job 12 (0xdead) timed out");
/// assert_eq!(one, two);
/// assert_eq!(one, "# cannot open /… job # # timed out");
/// ```
#[must_use]
pub fn fingerprint(message: &str) -> String {
    let mut out = String::new();
    let words = message
        .split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '[' | ']' | '"' | '\'' | '=' | ','));
    for word in words {
        let bare = word.trim_matches(|c: char| !(c.is_alphanumeric() || c == '/' || c == '.'));
        let sign = if bare.is_empty() {
            continue;
        } else if bare.contains('/') {
            "/…".to_owned()
        } else if is_changing(bare) {
            "#".to_owned()
        } else {
            bare.trim_matches('.').to_lowercase()
        };
        if sign.is_empty() || (sign == "#" && out.ends_with("# #")) {
            continue;
        }
        if out.chars().count() + sign.chars().count() + 1 > LONGEST {
            break;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(&sign);
    }
    out
}

/// Numbers, times, addresses and ids: whatever has a digit, and long runs of hexadecimal letters.
fn is_changing(word: &str) -> bool {
    let digits = word.bytes().any(|byte| byte.is_ascii_digit());
    let hex = word.len() >= 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    digits || hex
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn broker() -> ErrorClass {
        ErrorClass {
            name: "broker_gone".into(),
            pattern: Some(Regex::new("(?i)connection (refused|reset).*broker").unwrap()),
            exit_code: Some(70),
        }
    }

    #[test]
    fn a_class_asks_for_all_that_it_names_and_the_first_match_wins() {
        let line = "ERROR Connection refused by broker at 10.0.0.7:5672".to_owned();
        let mut found =
            Evidence { exit_code: Some(70), lines: vec![line, String::new()], ..Evidence::default() };
        let second = ErrorClass { name: "second".into(), pattern: None, exit_code: Some(70) };
        assert_eq!(found.class_of(&[broker(), second.clone()]).as_deref(), Some("broker_gone"));
        found.exit_code = Some(1);
        assert_eq!(found.class_of(&[broker(), second]), None);
    }

    #[test]
    fn the_same_fault_has_the_same_key_and_another_one_does_not() {
        let evidence = |code, message: &str| Evidence {
            cause: Some(Cause::Crash),
            exit_code: Some(code),
            message: message.to_owned(),
            ..Evidence::default()
        };
        let one = evidence(70, "no answer from 10.0.0.1:5672 after 300 ms").key(&[]);
        assert_eq!(one, evidence(70, "no answer from 192.168.7.9:5671 after 12 ms").key(&[]));
        assert_ne!(one, evidence(71, "no answer from 10.0.0.1:5672 after 300 ms").key(&[]));
        assert_ne!(one, evidence(70, "disk full").key(&[]));
        assert_eq!(&*one, "crash 70 no answer from # after # ms");
    }

    proptest! {
        #[test]
        fn any_message_has_a_short_fingerprint_without_digits(message in "\\PC{0,400}") {
            let print = fingerprint(&message);
            prop_assert!(print.chars().count() <= LONGEST);
            prop_assert!(!print.bytes().any(|byte| byte.is_ascii_digit()));
        }

        #[test]
        fn numbers_and_paths_make_no_difference(a: u32, b: u32, p in "[a-z]{1,8}", q in "[a-z]{1,8}") {
            let one = fingerprint(&format!("job {a} failed at /srv/{p}/x: id={a:08x}"));
            prop_assert_eq!(one, fingerprint(&format!("job {b} failed at /srv/{q}/x: id={b:08x}")));
        }
    }
}
