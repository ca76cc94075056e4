//! What is wrong with a worker: the contract's closed list, and the user's own names for failures.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::exit::Exit;

/// The contract's causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Trouble {
    /// It ended by itself.
    Crash,
    /// It was killed for memory.
    Oom,
    /// It runs and does not answer.
    Hang,
    /// Its start failed.
    StartFailed,
    /// A probe says that it fails.
    ProbeFailed,
    /// It has too much memory.
    Memory,
    /// It keeps its cores busy beyond measure.
    Cpu,
    /// Too many of its tasks fail.
    ErrorRate,
    /// It works, and too slowly.
    Slow,
    /// What it needs is not there.
    Dependency,
    /// It has lost its queue.
    QueueLost,
    /// A disk is full.
    Disk,
    /// A task kills whoever takes it.
    TaskPoison,
    /// Its recovery keeps failing.
    Breaker,
    /// Much of the fleet fell ill at once.
    Brake,
    /// An alert could not be delivered.
    Channel,
    /// Its probes do not work.
    Monitor,
    /// Somebody asked.
    Operator,
}

impl Trouble {
    /// Every one, in the contract's order.
    pub const ALL: [Self; 18] = [
        Self::Crash,
        Self::Oom,
        Self::Hang,
        Self::StartFailed,
        Self::ProbeFailed,
        Self::Memory,
        Self::Cpu,
        Self::ErrorRate,
        Self::Slow,
        Self::Dependency,
        Self::QueueLost,
        Self::Disk,
        Self::TaskPoison,
        Self::Breaker,
        Self::Brake,
        Self::Channel,
        Self::Monitor,
        Self::Operator,
    ];

    /// The contract's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Oom => "oom",
            Self::Hang => "hang",
            Self::StartFailed => "start_failed",
            Self::ProbeFailed => "probe_failed",
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::ErrorRate => "error_rate",
            Self::Slow => "slow",
            Self::Dependency => "dependency",
            Self::QueueLost => "queue_lost",
            Self::Disk => "disk",
            Self::TaskPoison => "task_poison",
            Self::Breaker => "breaker",
            Self::Brake => "brake",
            Self::Channel => "channel",
            Self::Monitor => "monitor",
            Self::Operator => "operator",
        }
    }

    /// The trouble with this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|trouble| trouble.word() == word)
    }

    /// What an end stands for.
    #[must_use]
    pub fn of(exit: &Exit) -> Self {
        match exit {
            Exit::Oom => Self::Oom,
            Exit::StartFailed(_) => Self::StartFailed,
            Exit::StartTimeout | Exit::Killed | Exit::Abandoned => Self::Hang,
            Exit::Unwell { cause } => Self::from(*cause),
            Exit::Stopped => Self::Operator,
            Exit::Exited { .. }
            | Exit::Signaled { .. }
            | Exit::Core { .. }
            | Exit::Panicked { .. }
            | Exit::Error { .. }
            | Exit::Unknown => Self::Crash,
        }
    }
}

impl From<Cause> for Trouble {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Crash => Self::Crash,
            Cause::Oom => Self::Oom,
            Cause::Hang => Self::Hang,
            Cause::StartFailed => Self::StartFailed,
            Cause::ProbeFailed => Self::ProbeFailed,
            Cause::Memory => Self::Memory,
            Cause::Cpu => Self::Cpu,
            Cause::Disk => Self::Disk,
            Cause::Monitor => Self::Monitor,
            Cause::Dependency => Self::Dependency,
            Cause::Operator => Self::Operator,
        }
    }
}

/// What is wrong with one worker now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// In the contract's words.
    pub trouble: Trouble,
    /// The `[[error_class]]` that it fits, if it fits one.
    pub class: Option<Arc<str>>,
    /// In words.
    pub text: Arc<str>,
}

impl Why {
    /// A trouble without a class of its own.
    #[must_use]
    pub fn new(trouble: Trouble, text: impl Into<Arc<str>>) -> Self {
        Self { trouble, class: None, text: text.into() }
    }

    /// The word that stands for it: the user's, else the contract's.
    #[must_use]
    pub fn word(&self) -> &str {
        self.class.as_deref().unwrap_or_else(|| self.trouble.word())
    }

    /// Whether a step that is for `when` is for this; a step without `when` is for everything.
    #[must_use]
    pub fn is_named_in(&self, when: &[Arc<str>]) -> bool {
        when.iter().any(|word| **word == *self.trouble.word() || self.class.as_ref() == Some(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back() {
        for trouble in Trouble::ALL {
            assert_eq!(Trouble::parse(trouble.word()), Some(trouble));
            assert_eq!(serde_json::to_value(trouble).unwrap(), trouble.word());
        }
    }

    #[test]
    fn a_class_is_a_cause_beside_the_contracts() {
        let why =
            Why { class: Some("broker_gone".into()), ..Why::new(Trouble::Crash, "exited with code 70") };
        assert!(why.is_named_in(&["broker_gone".into()]) && why.is_named_in(&["crash".into()]));
        assert!(!why.is_named_in(&["oom".into()]) && !why.is_named_in(&[]));
        assert_eq!(why.word(), "broker_gone");
    }
}
