//! The supervisors' part of the board.

use std::sync::PoisonError;

use crate::id::Name;
use crate::policy::Phase;

use super::{Board, SupervisorState};

impl Board {
    /// Adds or replaces a supervisor's state.
    pub fn put_supervisor(&self, state: SupervisorState) {
        let mut slots = self.shared.slots.write().unwrap_or_else(PoisonError::into_inner);
        match slots.supervisors.iter_mut().find(|known| known.name == state.name) {
            Some(known) => *known = state,
            None => slots.supervisors.push(state),
        }
        drop(slots);
        self.bump();
    }

    /// Takes a supervisor off the board.
    pub fn remove_supervisor(&self, name: &Name) {
        let mut slots = self.shared.slots.write().unwrap_or_else(PoisonError::into_inner);
        slots.supervisors.retain(|known| known.name != *name);
        drop(slots);
        self.bump();
    }

    /// Changes one supervisor's state.
    pub fn update_supervisor(&self, name: &Name, change: impl FnOnce(&mut SupervisorState)) {
        let mut slots = self.shared.slots.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = slots.supervisors.iter_mut().find(|known| known.name == *name) {
            change(known);
        }
        drop(slots);
        self.bump();
    }

    /// Every supervisor, the root first.
    #[must_use]
    pub fn supervisors(&self) -> Vec<SupervisorState> {
        self.shared.slots.read().unwrap_or_else(PoisonError::into_inner).supervisors.clone()
    }

    /// How far one is.
    pub(crate) fn supervisor_phase(&self, name: &Name) -> Option<Phase> {
        let slots = self.shared.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.supervisors.iter().find(|known| known.name == *name).map(|known| known.phase)
    }

    /// A supervisor and every supervisor below it, parents first; none if there is none of that name.
    pub(crate) fn family(&self, top: &Name) -> Vec<Name> {
        let all = self.supervisors();
        let mut found: Vec<Name> =
            all.iter().filter(|one| one.name == *top).map(|one| one.name.clone()).collect();
        let mut at = 0;
        while let Some(parent) = found.get(at).cloned() {
            let children = all.iter().filter(|one| one.parent.as_ref() == Some(&parent));
            found.extend(children.map(|one| one.name.clone()));
            at += 1;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_told_parents_first_and_without_strangers() {
        let board = Board::new();
        let name = |text: &str| Name::try_new(text).unwrap();
        for (own, parent) in [("root", None), ("inner", Some("a")), ("a", Some("root")), ("b", Some("root"))]
        {
            board.put_supervisor(SupervisorState {
                name: name(own),
                parent: parent.map(name),
                strategy: "one_for_one",
                on_exhausted: "quarantine",
                max_restarts: 1,
                within_seconds: 1.0,
                children: Vec::new(),
                phase: Phase::Running,
                restarts: 0,
            });
        }
        assert_eq!(board.family(&name("a")), ["a", "inner"].map(name));
        assert_eq!(board.family(&name("root")).len(), 4);
        assert_eq!(board.family(&name("nobody")), []);
    }
}
