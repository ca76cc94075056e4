//! Why something happened or is done: one word each, the contract's closed list as far as something has it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why: the contract's closed list of causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// It ended by itself.
    Crash,
    /// The kernel killed it for memory.
    Oom,
    /// It did not end when asked, or gives no sign of life.
    Hang,
    /// Its start failed, or it was not ready in time.
    StartFailed,
    /// A probe says that it does not work.
    ProbeFailed,
    /// It has more memory than its threshold, for too long.
    Memory,
    /// It computes more than its threshold, for too long.
    Cpu,
    /// Too much of what it does fails.
    ErrorRate,
    /// Its work takes longer than it should.
    Slow,
    /// Its disk is full.
    Disk,
    /// Who watches is broken, not the worker.
    Monitor,
    /// A dependency or a sibling's group restart.
    Dependency,
    /// Somebody asked.
    Operator,
}

impl Cause {
    /// Every cause that something has.
    pub const ALL: [Self; 13] = [
        Self::Crash,
        Self::Oom,
        Self::Hang,
        Self::StartFailed,
        Self::ProbeFailed,
        Self::Memory,
        Self::Cpu,
        Self::ErrorRate,
        Self::Slow,
        Self::Disk,
        Self::Monitor,
        Self::Dependency,
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
            Self::Disk => "disk",
            Self::Monitor => "monitor",
            Self::Dependency => "dependency",
            Self::Operator => "operator",
        }
    }

    /// Whether it is the worker's own failure; a start for one of these is a recovery.
    #[must_use]
    pub fn is_failure(self) -> bool {
        match self {
            Self::Crash
            | Self::Oom
            | Self::Hang
            | Self::StartFailed
            | Self::ProbeFailed
            | Self::Memory
            | Self::Cpu
            | Self::ErrorRate
            | Self::Slow
            | Self::Disk => true,
            Self::Monitor | Self::Dependency | Self::Operator => false,
        }
    }

    /// The cause that an end stands for.
    #[must_use]
    pub fn of(exit: &crate::exit::Exit) -> Self {
        use crate::exit::Exit;
        match exit {
            Exit::Oom => Self::Oom,
            Exit::Unwell { cause } => *cause,
            Exit::StartFailed(_) | Exit::StartTimeout => Self::StartFailed,
            Exit::Killed | Exit::Abandoned => Self::Hang,
            // Nobody asked it to: an end that somebody asked for has no cause of its own.
            Exit::Stopped
            | Exit::Exited { .. }
            | Exit::Signaled { .. }
            | Exit::Core { .. }
            | Exit::Panicked { .. }
            | Exit::Error { .. }
            | Exit::Unknown => Self::Crash,
        }
    }
}

/// A cause under the word that people know it by: the contract's, or the one that the user gave to such failures
/// (`[[error_class]]`).
///
/// ```
/// use regrow::{Cause, CauseName};
/// assert_eq!(CauseName::from(Cause::Oom).word(), "oom");
/// assert_eq!(CauseName::from("broker_gone"), CauseName::Class("broker_gone".into()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CauseName {
    /// The contract's.
    Known(Cause),
    /// The user's, for a failure.
    Class(Arc<str>),
}

impl CauseName {
    /// The user's word where there is one.
    #[must_use]
    pub fn of(cause: Cause, class: Option<Arc<str>>) -> Self {
        class.map_or(Self::Known(cause), Self::Class)
    }

    /// The word.
    #[must_use]
    pub fn word(&self) -> &str {
        match self {
            Self::Known(cause) => cause.word(),
            Self::Class(class) => class,
        }
    }

    /// Whether it is the worker's own failure.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Known(cause) => cause.is_failure(),
            Self::Class(_) => true,
        }
    }
}

impl From<Cause> for CauseName {
    fn from(cause: Cause) -> Self {
        Self::Known(cause)
    }
}

impl From<&str> for CauseName {
    fn from(word: &str) -> Self {
        let known = Cause::ALL.into_iter().find(|cause| cause.word() == word);
        known.map_or_else(|| Self::Class(word.into()), Self::Known)
    }
}

impl Serialize for CauseName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for CauseName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(String::deserialize(deserializer)?.as_str().into())
    }
}
