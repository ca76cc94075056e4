//! What a verdict of the probes leads to without a ladder: a worker that runs and does not work is ended, and its end is treated as one
//! of its own, so that everything that holds for a crash (budget, backoff, group, parking) holds for it too.
//!
//! Whoever may not be touched is not: one that is paused, one that is on its way down, and a temporary one, which nobody
//! would start again.

use std::sync::Arc;
use std::time::Duration;

use crate::cause::Cause;
use crate::health::Verdict;
use crate::id::Incarnation;

use super::child::{After, State};
use super::fact::ChildKey;
use super::machine::Supervisor;
use super::spec::{Restart, Shutdown};

impl Supervisor {
    /// The probes have spoken of this incarnation.
    pub(super) fn judged(&mut self, key: ChildKey, incarnation: Incarnation, verdict: &Arc<Verdict>) {
        let Some(child) = self.roster.get(key).filter(|child| child.incarnation == incarnation) else {
            self.stale += 1;
            return;
        };
        if child.spec.ladder.is_some() {
            return self.judged_on_ladder(key, incarnation, verdict);
        }
        let Some(unwell) = &verdict.unwell else { return };
        self.end_unwell(key, unwell.cause, unwell.patience);
    }

    /// Ends it, and its end is one of its own.
    pub(super) fn end_unwell(&mut self, key: ChildKey, cause: Cause, patience: Option<Duration>) {
        let Some(child) = self.roster.get(key) else { return };
        let spared = child.paused.is_some() || child.spec.restart == Restart::Temporary;
        if child.state != State::Running || spared || self.ended.is_some() || self.is_being_stopped(key) {
            return;
        }
        let ran = self.now.saturating_sub(child.since);
        let shutdown = child.spec.shutdown;
        self.stop(key, After::Unwell { cause, ran });
        if let (Some(patience), Shutdown::Timeout(limit)) = (patience, shutdown)
            && patience < limit
        {
            self.due(key, Some(self.after_now(patience)));
        }
    }
}
