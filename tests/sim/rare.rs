//! Which rare states the simulator has reached; a run that misses one proves less than it says.

/// Every rare state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rare {
    GiveUp,
    KillAfterTerm,
    ExitWhileStopping,
    ExitBeforeReady,
    StaleExit,
    WindowEdge,
    Park,
    TrialHolds,
    TrialFails,
    WaitingReleased,
    HeldStart,
    HeldReleased,
    Shortage,
    FatalCode,
    TooShort,
    StartTimeout,
    Stuck,
    Thaw,
    StopInBackoff,
    RestartEndsWait,
    ExitInGroupRestart,
    TwoExitsAtOnce,
    AutoShutdownAny,
    AutoShutdownAll,
    RetryCancelled,
    StaleRetry,
    Extended,
    KillInShutdown,
    SlotReused,
    BootFails,
    BackoffGrows,
    BackoffReset,
    BackoffAtMax,
    GroupRestart,
    RefusedWhileEnding,
    IgnoredStart,
    ReadyAfterStop,
    EarlyTick,
    LateTick,
    Removed,
    ResetFailed,
    StartWhileStopping,
    BootedLate,
    PausedEnd,
    PausedInBackoff,
    PauseOver,
    Spared,
}

/// Their names and order.
pub(crate) const ALL: [(Rare, &str); 47] = [
    (Rare::GiveUp, "give-up"),
    (Rare::KillAfterTerm, "KILL after TERM"),
    (Rare::ExitWhileStopping, "exit during stopping"),
    (Rare::ExitBeforeReady, "exit before ready"),
    (Rare::StaleExit, "stale exit"),
    (Rare::WindowEdge, "window edge: exactly one period old"),
    (Rare::Park, "park"),
    (Rare::TrialHolds, "trial holds"),
    (Rare::TrialFails, "trial fails"),
    (Rare::WaitingReleased, "waiting dependants released"),
    (Rare::HeldStart, "held start"),
    (Rare::HeldReleased, "held start released"),
    (Rare::Shortage, "shortage"),
    (Rare::FatalCode, "fatal code"),
    (Rare::TooShort, "min_uptime failure"),
    (Rare::StartTimeout, "start timeout"),
    (Rare::Stuck, "stuck"),
    (Rare::Thaw, "stuck and thaw"),
    (Rare::StopInBackoff, "operator stop during backoff"),
    (Rare::RestartEndsWait, "operator restart ends the wait"),
    (Rare::ExitInGroupRestart, "exit during a group restart"),
    (Rare::TwoExitsAtOnce, "two exits at once"),
    (Rare::AutoShutdownAny, "auto_shutdown any"),
    (Rare::AutoShutdownAll, "auto_shutdown all"),
    (Rare::RetryCancelled, "retry cancelled by a call"),
    (Rare::StaleRetry, "retry that means nothing any more"),
    (Rare::Extended, "deadline extended"),
    (Rare::KillInShutdown, "kill during shutdown"),
    (Rare::SlotReused, "slot reuse"),
    (Rare::BootFails, "boot failure"),
    (Rare::BackoffGrows, "backoff grows"),
    (Rare::BackoffReset, "backoff reset by a long run"),
    (Rare::BackoffAtMax, "backoff at its maximum"),
    (Rare::GroupRestart, "group restart of more than one"),
    (Rare::RefusedWhileEnding, "request refused while ending"),
    (Rare::IgnoredStart, "ignored start"),
    (Rare::ReadyAfterStop, "ready crosses a stop"),
    (Rare::EarlyTick, "tick before anything is due"),
    (Rare::LateTick, "tick long after it was due"),
    (Rare::Removed, "child removed"),
    (Rare::ResetFailed, "reset-failed of a parked child"),
    (Rare::StartWhileStopping, "start asked during a stop"),
    (Rare::BootedLate, "boot that takes more than one fact"),
    (Rare::PausedEnd, "end of a paused child"),
    (Rare::PausedInBackoff, "pause during backoff"),
    (Rare::PauseOver, "pause that ends by itself"),
    (Rare::Spared, "group restart that passes over a paused child"),
];

/// How often each was reached.
#[derive(Debug, Clone)]
pub(crate) struct Tally([u64; ALL.len()]);

impl Tally {
    pub(crate) fn new() -> Self {
        Self([0; ALL.len()])
    }

    /// One more.
    pub(crate) fn note(&mut self, rare: Rare) {
        self.0[rare as usize] += 1;
    }

    /// Adds what another thread has counted.
    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// Those never reached.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        ALL.iter().filter(|(rare, _)| self.0[*rare as usize] == 0).map(|(_, name)| *name).collect()
    }

    /// One line for each.
    pub(crate) fn table(&self) -> String {
        ALL.iter().map(|(rare, name)| format!("{:>10}  {name}\n", self.0[*rare as usize])).collect()
    }
}
