//! Why something happened or is done: one word each, the contract's closed list as far as something has it.

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
    /// It was not ready in time, did not end when asked, or gives no sign of life.
    Hang,
    /// Its start failed.
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
            Exit::StartFailed(_) => Self::StartFailed,
            Exit::StartTimeout | Exit::Killed | Exit::Abandoned => Self::Hang,
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
