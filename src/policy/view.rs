//! What can be read of the core without asking it to decide anything.

use crate::id::Incarnation;
use crate::recovery::BreakerState;

use super::care::CareView;
use super::spec::{ChildSpec, Pause, Time};

/// Where a child is in its life. The contract's phases; `paused` and `recovering` are statuses, not phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Wants to start, and is held back by a predecessor, a parked sibling or `after`.
    Waiting,
    /// Started, not ready.
    Starting,
    /// Ready.
    Running,
    /// Asked to end.
    Stopping,
    /// Down, with a restart to come.
    Backoff,
    /// Parked: intensity is spent or the exit was fatal.
    Quarantined,
    /// It could not be killed; no second copy is started.
    Stuck,
    /// Down because somebody asked, or never started.
    Stopped,
    /// Down because its work is done.
    Done,
}

impl Phase {
    /// The contract's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Backoff => "backoff",
            Self::Quarantined => "quarantined",
            Self::Stuck => "stuck",
            Self::Stopped => "stopped",
            Self::Done => "done",
        }
    }
}

/// What is planned for a child, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// The plan.
    pub what: Plan,
    /// When; `None`: as soon as what it waits for has come.
    pub at: Option<Time>,
}

/// The contract's `next_action.do`, as far as the core plans by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// The restart after an end.
    SoftRestart,
    /// A first start, or a start that a sibling's restart brings.
    Start,
    /// A trial start of a parked child, or another try of a failed start.
    Retry,
    /// The trial holds if nothing happens until then.
    Verify,
    /// Waits for a predecessor or for what `after` names.
    WaitDependency,
    /// It is parked once it is down.
    Quarantine,
}

/// One child, as the core sees it.
#[derive(Debug, Clone, Copy)]
pub struct ChildView<'a> {
    /// What it was told about it.
    pub spec: &'a ChildSpec,
    /// Where it is.
    pub phase: Phase,
    /// The newest incarnation; 0 before the first start.
    pub incarnation: Incarnation,
    /// Since when it is in this phase.
    pub since: Time,
    /// What comes next.
    pub next: Option<Planned>,
    /// Whether an operator wants it down.
    pub stopped_by_operator: bool,
    /// Whether an operator wants it left alone.
    pub paused: Option<Pause>,
    /// What runs is of a definition before the one in force, which it gets with its next start.
    pub outdated: bool,
    /// Consecutive restarts since the backoff was last reset.
    pub consecutive: u32,
    /// Restarts that intensity still allows now.
    pub budget_left: u32,
    /// Trials of a parked one that failed in a row.
    pub trials: u32,
    /// Whether it is parked because its exit code said that a restart cannot help.
    pub fatal: bool,
    /// It has ended, and what that means is decided once the start or stop of others that is under way is over.
    pub undecided: bool,
    /// Whose parking or missing readiness holds it back, where that is a sibling.
    pub waits_for: Option<super::ChildKey>,
    /// The incident that is open.
    pub care: Option<CareView<'a>>,
    /// The breaker of its ladder.
    pub breaker: BreakerState,
}
