//! Hiding secrets in what is kept of a failure: output, stacks and captures are full of them.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

/// What stands in place of a secret.
const HIDDEN: &str = "(hidden)";

/// What looks like a secret: after a word that names one, after `Bearer`, and between `://` and `@`. A pattern that does
/// not compile would hide nothing, so a test holds all of them.
const PATTERNS: [(&str, &str); 3] = [
    (
        r#"(?i)((?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential)[a-z0-9_]*["']?\s*[=:]\s*["']?)([^\s"',;&]+)"#,
        "${1}(hidden)",
    ),
    (r"(?i)\b(bearer|basic)(\s+)[A-Za-z0-9._~+/=-]{6,}", "${1}${2}(hidden)"),
    (r"(://)[^\s/@]+@", "${1}(hidden)@"),
];

static COMPILED: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    PATTERNS.iter().filter_map(|(pattern, by)| Some((Regex::new(pattern).ok()?, *by))).collect()
});

/// A text without the secrets that are known, and without what looks like one.
///
/// ```
/// use regrow::recovery::redact;
/// let text = redact("db_password=hunter2 url=postgres://app:s3cr3t@db/x key 4711", &["4711".to_owned()]);
/// assert_eq!(text, "db_password=(hidden) url=postgres://(hidden)@db/x key (hidden)");
/// ```
#[must_use]
pub fn redact(text: &str, secrets: &[String]) -> String {
    let mut text = Cow::Borrowed(text);
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        if text.contains(secret.as_str()) {
            text = Cow::Owned(text.replace(secret.as_str(), HIDDEN));
        }
    }
    for (pattern, by) in COMPILED.iter() {
        if let Cow::Owned(changed) = pattern.replace_all(&text, *by) {
            text = Cow::Owned(changed);
        }
    }
    text.into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_pattern_compiles_and_hides_what_it_is_for() {
        assert_eq!(COMPILED.len(), PATTERNS.len());
        for (text, hidden) in [
            ("API_KEY: abc123", "API_KEY: (hidden)"),
            ("{\"token\":\"abc.def\",\"n\":1}", "{\"token\":\"(hidden)\",\"n\":1}"),
            ("Authorization: Bearer eyJhbGciOi.x-y", "Authorization: Bearer (hidden)"),
            ("amqp://guest:guest@mq:5672/", "amqp://(hidden)@mq:5672/"),
        ] {
            assert_eq!(redact(text, &[]), hidden);
        }
        assert_eq!(redact("job 4711 failed: no such file", &[]), "job 4711 failed: no such file");
    }

    proptest! {
        #[test]
        fn a_known_secret_is_nowhere(before in "\\PC{0,40}", secret in "[a-zA-Z0-9]{6,20}", after in "\\PC{0,40}") {
            let text = redact(&format!("{before}{secret}{after}"), std::slice::from_ref(&secret));
            prop_assert!(!text.contains(&secret));
        }
    }
}
