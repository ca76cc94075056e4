//! When a supervisor counts as started.
//!
//! The policy's boot goes on past a child that is held back, since what `after` names may start long after this
//! supervisor, or only because of it. What an earlier runtime left is no such thing: it is being ended, and the child
//! comes next. Whoever starts after this supervisor waits for that child, too, and for those that wait for it.

use std::collections::HashSet;

use crate::id::Name;
use crate::policy::{ChildKey, OnExhausted, Phase, RestartStrategy};

use super::actor::{Outcome, SupervisorState};
use super::tree::Who;

impl SupervisorState {
    /// The policy's boot is over.
    pub(super) fn booted(&mut self) {
        let all: Vec<ChildKey> = self.core.children().collect();
        // Nobody waits for the root.
        if self.name == Name::root() || !all.iter().any(|key| self.is_blocked(*key)) {
            return (self.upward)(Outcome::Booted);
        }
        for key in all {
            if self.is_to_come(key) {
                self.to_come.insert(key);
            }
        }
        self.tell_booted();
    }

    /// One of those who are still to come may have.
    pub(super) fn comes(&mut self, child: ChildKey) {
        if self.to_come.contains(&child) && !self.is_to_come(child) {
            self.tell_booted();
        }
    }

    fn tell_booted(&mut self) {
        // In their order: who waits for another comes after it.
        let all: Vec<ChildKey> = self.core.children().filter(|key| self.to_come.contains(key)).collect();
        self.to_come = HashSet::with_capacity(all.len());
        for key in all {
            if self.is_to_come(key) {
                self.to_come.insert(key);
            }
        }
        if self.to_come.is_empty() {
            (self.upward)(Outcome::Booted);
        }
    }

    /// A survivor holds it back, it waits for one that is to come, or it is about to start.
    fn is_to_come(&self, key: ChildKey) -> bool {
        let Some(view) = self.core.child(key) else { return false };
        match view.phase {
            Phase::Starting => self.starts_in_order(),
            Phase::Waiting if self.is_blocked(key) => true,
            Phase::Waiting => match view.waits_for {
                Some(sibling) => self.to_come.contains(&sibling),
                None => view.paused.is_none() && !self.is_held(key),
            },
            Phase::Running
            | Phase::Stopping
            | Phase::Backoff
            | Phase::Quarantined
            | Phase::Stuck
            | Phase::Stopped
            | Phase::Done => false,
        }
    }

    /// Contract rule 8: each child waits for the one before it to be ready.
    fn starts_in_order(&self) -> bool {
        let spec = self.core.spec();
        let group = matches!(spec.strategy, RestartStrategy::OneForAll | RestartStrategy::RestForOne);
        group || spec.on_exhausted == OnExhausted::Escalate
    }

    fn is_blocked(&self, key: ChildKey) -> bool {
        match self.slot(key).map(|slot| &slot.who) {
            Some(Who::Worker(instance)) => self.plane.gate.is_blocked(instance),
            Some(Who::Supervisor(_)) | None => false,
        }
    }

    fn is_held(&self, key: ChildKey) -> bool {
        match self.slot(key).map(|slot| &slot.who) {
            Some(Who::Worker(instance)) => self.plane.gate.held(instance),
            Some(Who::Supervisor(_)) | None => false,
        }
    }
}
