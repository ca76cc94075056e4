//! The one word that people read first.

use crate::exit::Exit;
use crate::health::Health;
use crate::policy::{Phase, Plan};

use super::{InstanceState, Wanted};

impl InstanceState {
    /// The contract's one word for people: the first that applies of
    /// `stopped paused done quarantined stuck recovering dead … starting working healthy unknown`.
    #[must_use]
    pub fn status(&self) -> &'static str {
        if self.wanted == Wanted::Paused && self.phase != Phase::Stopped {
            return "paused";
        }
        match self.phase {
            Phase::Stopping => self.status_of_a_stop(),
            Phase::Stopped => "stopped",
            Phase::Done => "done",
            Phase::Quarantined => "quarantined",
            Phase::Stuck => "stuck",
            Phase::Backoff => "recovering",
            Phase::Starting if self.last_exit_is_a_failure() || self.is_recovering() => "recovering",
            Phase::Running if self.is_recovering() => "recovering",
            Phase::Starting | Phase::Waiting => "starting",
            Phase::Running if self.health() == Health::Unhealthy => match self.verdict() {
                Some(verdict) if verdict.unresponsive => "unresponsive",
                Some(_) | None => Health::Unhealthy.word(),
            },
            Phase::Running => self.health().word(),
        }
    }

    /// What the stop that is under way leads to.
    fn status_of_a_stop(&self) -> &'static str {
        if self.wanted == Wanted::Stopped {
            return "stopped";
        }
        match self.next_action.as_ref().map(|next| next.what) {
            None => "stopped",
            Some(Plan::Quarantine) => "quarantined",
            // A sibling's restart, or somebody who asked for one: nothing is wrong with it.
            Some(Plan::Start | Plan::WaitDependency) if !self.is_recovering() => "starting",
            Some(Plan::Start | Plan::WaitDependency | Plan::SoftRestart | Plan::Retry | Plan::Verify) => {
                "recovering"
            }
        }
    }

    /// An incident is open: something is to be done, is being done, or must prove that it helped.
    #[must_use]
    pub fn is_recovering(&self) -> bool {
        self.recovery.is_some()
    }

    fn last_exit_is_a_failure(&self) -> bool {
        self.restarts > 0 && self.last_exit.as_ref().is_some_and(|last| last.exit != Exit::Stopped)
    }
}
