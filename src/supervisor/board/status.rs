//! The one word that people read first.

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;

use crate::exit::Exit;
use crate::health::{Health, Verdict};
use crate::policy::{Phase, Plan};

use super::{InstanceState, Wanted};

/// Of a ready actor that nothing looks at: who makes it knows that it runs.
static RUNS: LazyLock<Arc<Verdict>> = LazyLock::new(|| Arc::new(Verdict::runs("actor")));

impl InstanceState {
    /// What is known of a ready actor without probes, at which nobody looks.
    pub(super) fn left_alone(&self) -> Option<&Arc<Verdict>> {
        let runs = self.kind == "actor" && !self.probed && self.ready && self.phase == Phase::Running;
        runs.then(|| &*RUNS)
    }

    /// The contract's one word for people: the first that applies of
    /// `stopped paused done quarantined stuck recovering dead … starting working healthy unknown`.
    #[must_use]
    pub fn status(&self) -> &'static str {
        if self.wanted == Wanted::Paused && self.phase != Phase::Stopped {
            return "paused";
        }
        self.status_in(self.phase)
    }

    fn status_in(&self, phase: Phase) -> &'static str {
        match phase {
            Phase::Stopping => match self.survivor.map(|survivor| survivor.then) {
                // What an earlier runtime left goes, and with that this one comes to be as it is meant to be.
                Some(then) if then != Phase::Stopping => self.status_in(then),
                Some(_) | None => self.status_of_a_stop(),
            },
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

    /// Whether it counts as healthy: its health is, and no incident is open in which that is still to be proved.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.health() == Health::Healthy && self.status() != "recovering"
    }

    /// Somebody who asked later than that wants it to run.
    #[must_use]
    pub(crate) fn is_wanted_since(&self, at: Timestamp) -> bool {
        self.wanted == Wanted::Running && self.wanted_by.as_ref().is_some_and(|by| by.at > at)
    }

    /// It is down, and was last told to be so by this one, not before this time.
    #[must_use]
    pub(crate) fn is_stopped_by(&self, who: &str, since: Timestamp) -> bool {
        self.phase == Phase::Stopped
            && self.wanted == Wanted::Stopped
            && self.wanted_by.as_ref().is_some_and(|by| by.by == who && by.at >= since)
    }

    fn last_exit_is_a_failure(&self) -> bool {
        self.restarts > 0 && self.last_exit.as_ref().is_some_and(|last| last.exit != Exit::Stopped)
    }
}
