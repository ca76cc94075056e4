//! What a verdict of the probes leads to without a ladder: a worker that runs and does not work is looked at and ended,
//! and its end is treated as one of its own, so that everything that holds for a crash (budget, backoff, group, parking,
//! the incident) holds for it too.
//!
//! Whoever may not be touched is not: one that is paused, one that is on its way down, and a temporary one, which nobody
//! would start again.

use std::sync::Arc;
use std::time::Duration;

use crate::cause::Cause;
use crate::health::Verdict;
use crate::id::Incarnation;

use super::care::{RecoveryAct, Stage, Work};
use super::child::{After, State};
use super::fact::ChildKey;
use super::machine::Supervisor;
use super::spec::{Restart, Shutdown};
use super::treat::LOOK;

impl Supervisor {
    /// The probes have spoken of this incarnation.
    pub(super) fn judged(&mut self, key: ChildKey, incarnation: Incarnation, verdict: &Arc<Verdict>) {
        let Some(child) = self.roster.get_mut(key).filter(|child| child.incarnation == incarnation) else {
            self.stale += 1;
            return;
        };
        let seen_again = std::mem::replace(&mut child.unseen, verdict.unseen) && !verdict.unseen;
        let (starts, laddered) = (matches!(child.state, State::Starting { .. }), child.spec.ladder.is_some());
        // Whose time was not over yet has what is left of it: nobody took any away.
        if seen_again && std::mem::take(&mut child.overtime) && starts && self.ended.is_none() {
            self.start_has_time(key);
        }
        if laddered {
            return self.judged_on_ladder(key, incarnation, verdict);
        }
        let Some(unwell) = &verdict.unwell else { return };
        self.end_unwell(key, unwell.cause, unwell.patience);
    }

    /// There is no step to choose: it is looked at, unless it was already, and ended.
    pub(super) fn end_plainly(&mut self, key: ChildKey) {
        let Some(child) = self.roster.get_mut(key) else { return };
        let (incarnation, runs) = (child.incarnation, child.state == State::Running);
        let Some(case) = child.care.as_mut().and_then(|care| care.case.as_mut()) else { return };
        if !runs || std::mem::replace(&mut case.seen, incarnation) == incarnation {
            return self.end_looked_at(key);
        }
        let task = self.next_task();
        let until = self.after_now(LOOK);
        self.enter(key, Stage::Gathering { task, until });
        self.tell(key, RecoveryAct::Do { task, incarnation, work: Work::Gather, timeout: LOOK });
    }

    /// What there was to see of it is seen.
    pub(super) fn end_looked_at(&mut self, key: ChildKey) {
        let Some(case) = self.case(key) else { return };
        let (cause, patience) = (case.why.cause, case.patience);
        self.enter(key, Stage::Idle);
        self.end_unwell(key, cause, patience);
    }

    /// Ends it, and its end is one of its own.
    fn end_unwell(&mut self, key: ChildKey, cause: Cause, patience: Option<Duration>) {
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
