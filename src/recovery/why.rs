//! What is wrong with a worker: the contract's word, and the user's own name for it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cause::Cause;

/// Every word of the contract's list of causes: what a step's `when` may name, beside the user's classes.
pub const CAUSES: [&str; 18] = [
    "crash",
    "oom",
    "hang",
    "start_failed",
    "probe_failed",
    "memory",
    "cpu",
    "error_rate",
    "slow",
    "dependency",
    "queue_lost",
    "disk",
    "task_poison",
    "breaker",
    "brake",
    "channel",
    "monitor",
    "operator",
];

/// What is wrong with one worker now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// In the contract's words.
    pub cause: Cause,
    /// The `[[error_class]]` that it fits, if it fits one.
    pub class: Option<Arc<str>>,
    /// In words.
    pub text: Arc<str>,
}

impl Why {
    /// A cause without a class of its own.
    #[must_use]
    pub fn new(cause: Cause, text: impl Into<Arc<str>>) -> Self {
        Self { cause, class: None, text: text.into() }
    }

    /// The word that stands for it: the user's, else the contract's.
    #[must_use]
    pub fn word(&self) -> &str {
        self.class.as_deref().unwrap_or_else(|| self.cause.word())
    }

    /// Whether `when` names it, by either word.
    #[must_use]
    pub fn is_named_in(&self, when: &[Arc<str>]) -> bool {
        when.iter().any(|word| **word == *self.cause.word() || self.class.as_ref() == Some(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_that_something_has_is_a_word_of_the_contract() {
        for cause in Cause::ALL {
            assert!(CAUSES.contains(&cause.word()), "{}", cause.word());
        }
    }

    #[test]
    fn a_class_is_a_cause_beside_the_contracts() {
        let why = Why { class: Some("broker_gone".into()), ..Why::new(Cause::Crash, "exited with code 70") };
        assert!(why.is_named_in(&["broker_gone".into()]) && why.is_named_in(&["crash".into()]));
        assert!(!why.is_named_in(&["oom".into()]) && !why.is_named_in(&[]));
        assert_eq!(why.word(), "broker_gone");
    }
}
