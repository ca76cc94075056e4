//! The supervisors' part of the board.

use std::sync::PoisonError;

use crate::id::Name;

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
}
