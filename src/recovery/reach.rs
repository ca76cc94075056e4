//! How long it takes at worst until a worker that falls ill is well again, and which keys make it so.

use std::time::Duration;

use crate::units::format_duration;

/// One part of the time, and the keys that make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// What happens in it.
    pub what: &'static str,
    /// How long it takes at worst.
    pub time: Duration,
    /// The keys, as written in the file.
    pub keys: Vec<String>,
}

/// The worst time from the first evidence to a verified recovery by the first step that restarts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Its parts in the order in which they pass.
    pub terms: Vec<Term>,
}

impl Reach {
    /// Adds a part.
    #[must_use]
    pub fn then(mut self, what: &'static str, time: Duration, keys: &[&str]) -> Self {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        self.terms.push(Term { what, time, keys });
        self
    }

    /// The same, where it takes any time at all.
    #[must_use]
    pub fn then_if(self, what: &'static str, time: Duration, keys: &[&str]) -> Self {
        if time.is_zero() { self } else { self.then(what, time, keys) }
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.terms.iter().fold(Duration::ZERO, |sum, term| sum.saturating_add(term.time))
    }

    /// The part that takes longest.
    #[must_use]
    pub fn longest(&self) -> Option<&Term> {
        self.terms.iter().max_by_key(|term| term.time)
    }

    /// One line, such as `detected within 15s (heartbeat.lost), stopped within 3s (…) … = 58s`.
    #[must_use]
    pub fn line(&self) -> String {
        let parts: Vec<String> = self
            .terms
            .iter()
            .map(|term| format!("{} {} ({})", term.what, format_duration(term.time), term.keys.join(" + ")))
            .collect();
        format!("{} = {}", parts.join(", "), format_duration(self.total()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_says_which_keys_make_it() {
        let reach = Reach::default()
            .then("detected within", Duration::from_secs(15), &["heartbeat.lost"])
            .then("stopped within", Duration::from_secs(10), &["stop.timeout"]);
        assert_eq!(
            reach.line(),
            "detected within 15s (heartbeat.lost), stopped within 10s (stop.timeout) = 25s"
        );
        assert_eq!(reach.longest().unwrap().what, "detected within");
    }
}
