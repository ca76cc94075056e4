//! Pools: how many of a kind there are, which a step of recovery changes within bounds.
//!
//! The number itself is not decided here: a step says only that it should be one more or one less, the shell changes the
//! definition, and that comes back as any other new definition does ([`super::Reform`]). So a step and an operator who
//! scales at the same time cannot get it wrong together: whoever comes second is told that it does not fit any more.

use crate::recovery::{Copies, Outcome, Strategy};

use super::care::Stage;
use super::child::Child;
use super::fact::{ChildKey, Undone};
use super::machine::Supervisor;

impl Supervisor {
    /// How many there are of the pool that it is one of. `None`: it is in none.
    pub(super) fn copies_of(&self, key: ChildKey) -> Option<Copies> {
        let child = self.roster.get(key)?;
        let pool = child.spec.pool.as_ref()?;
        let of_it = |other: &&Child| {
            other.leaving.is_none() && other.spec.pool.as_ref().is_some_and(|own| own.worker == pool.worker)
        };
        let all = self.roster.keys().filter_map(|key| self.roster.get(key));
        let now = u32::try_from(all.filter(of_it).count()).unwrap_or(u32::MAX);
        Some(Copies { now, min: pool.min, max: pool.max })
    }

    /// The same, where the choice among the steps of an open incident rests on it: to count takes a look at everybody.
    pub(super) fn copies(&self, key: ChildKey) -> Option<Copies> {
        let child = self.roster.get(key)?;
        child.care.as_ref()?.case.as_ref()?;
        let scales = child.spec.ladder.as_ref()?.steps.iter().any(|step| step.run.is_scaling());
        if scales { self.copies_of(key) } else { None }
    }

    /// It is no longer named, and has to go: nothing is left that its incident could be about. Where its own step has made
    /// the pool smaller, that is no failure of the step, and no success either.
    pub(super) fn note_leaving(&mut self, key: ChildKey) {
        let Some(case) = self.case(key) else { return };
        let under_way = matches!(case.stage, Stage::Doing { .. } | Stage::Mending { .. });
        let own = case.taken.as_ref().is_some_and(|taken| taken.step.run == Strategy::ScaleDown);
        let text = if own && under_way {
            "its own step made the pool smaller, and it is the one that goes: nothing is left to be judged"
        } else {
            "it is taken away"
        };
        self.interrupt(key, text);
    }
}

impl Undone {
    /// What that makes of the step.
    pub(super) fn outcome(self) -> (Outcome, String) {
        match self {
            Self::Failed(text) => (Outcome::Failed, text),
            Self::Unfit(text) => (Outcome::Skipped, text),
        }
    }
}
