//! Who holds whose start back: `after` across the whole tree, and survivors of an earlier runtime.
//!
//! The gate knows only readiness. It never stops or restarts anybody: a dependency that fails later leaves
//! its dependants running. It is written by the supervision actors and the boot, all on the control plane;
//! the lock is there for the type system and is never contended.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use crate::id::Name;

/// A start that is held back or let go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Whose start.
    pub(crate) worker: Name,
    /// Held or let go.
    pub(crate) held: bool,
}

#[derive(Debug, Default)]
struct State {
    after: HashMap<Name, Vec<Name>>,
    dependants: HashMap<Name, Vec<Name>>,
    ready: BTreeSet<Name>,
    blocked: BTreeSet<Name>,
}

/// The gate of one runtime.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
}

impl Gate {
    /// Learns what a worker waits for.
    pub(crate) fn learn(&self, worker: &Name, after: &[Name]) {
        let mut state = self.lock();
        for name in after {
            state.dependants.entry(name.clone()).or_default().push(worker.clone());
        }
        if !after.is_empty() {
            state.after.insert(worker.clone(), after.to_vec());
        }
    }

    /// Whether a start of this worker is held back now.
    pub(crate) fn held(&self, worker: &Name) -> bool {
        self.lock().held(worker)
    }

    /// What a worker waits for now.
    pub(crate) fn waits_for(&self, worker: &Name) -> Vec<Name> {
        let state = self.lock();
        let missing = state.after.get(worker).into_iter().flatten();
        missing.filter(|name| !state.ready.contains(*name)).cloned().collect()
    }

    /// Notes that a worker became ready or is no longer, and says whose turn that changes.
    pub(crate) fn set_ready(&self, worker: &Name, ready: bool) -> Vec<Turn> {
        let mut state = self.lock();
        let changed = if ready { state.ready.insert(worker.clone()) } else { state.ready.remove(worker) };
        if !changed {
            return Vec::new();
        }
        let dependants = state.dependants.get(worker).cloned().unwrap_or_default();
        dependants.into_iter().map(|name| Turn { held: state.held(&name), worker: name }).collect()
    }

    /// Holds a worker back because a process of an earlier runtime still lives.
    pub(crate) fn block(&self, worker: &Name) {
        self.lock().blocked.insert(worker.clone());
    }

    /// Ends a [`Gate::block`].
    pub(crate) fn unblock(&self, worker: &Name) -> Turn {
        let mut state = self.lock();
        state.blocked.remove(worker);
        Turn { held: state.held(worker), worker: worker.clone() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn held(&self, worker: &Name) -> bool {
        self.blocked.contains(worker)
            || self.after.get(worker).is_some_and(|after| !after.iter().all(|name| self.ready.contains(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::try_new(text).unwrap()
    }

    #[test]
    fn a_start_is_held_until_all_it_names_are_ready() {
        let gate = Gate::default();
        gate.learn(&name("web"), &[name("db"), name("cache")]);
        assert!(gate.held(&name("web")));
        assert_eq!(gate.set_ready(&name("db"), true), [Turn { worker: name("web"), held: true }]);
        assert_eq!(gate.waits_for(&name("web")), [name("cache")]);
        assert_eq!(gate.set_ready(&name("cache"), true), [Turn { worker: name("web"), held: false }]);
        assert!(!gate.held(&name("web")));
    }

    #[test]
    fn a_lost_dependency_holds_only_the_next_start() {
        let gate = Gate::default();
        gate.learn(&name("web"), &[name("db")]);
        let _ = gate.set_ready(&name("db"), true);
        assert_eq!(gate.set_ready(&name("db"), false), [Turn { worker: name("web"), held: true }]);
        assert_eq!(gate.set_ready(&name("db"), false), []);
    }

    #[test]
    fn a_survivor_holds_its_successor_back() {
        let gate = Gate::default();
        gate.block(&name("db"));
        assert!(gate.held(&name("db")));
        assert_eq!(gate.unblock(&name("db")), Turn { worker: name("db"), held: false });
    }
}
