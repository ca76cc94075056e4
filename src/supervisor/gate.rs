//! Who holds whose start back: `after` across the whole tree, and survivors of an earlier runtime.
//!
//! The gate knows only readiness. It never stops or restarts anybody: a dependency that fails later leaves
//! its dependants running. It is written by the supervisors, whose turns may be taken at the same time by several
//! threads: whoever is told of a turn asks again, so that it does not matter which of two words comes first.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::id::{InstanceId, Name};

/// The starts of a worker are held back or let go; those of an instance that is blocked are held in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Whose starts.
    pub(crate) worker: Name,
    /// Held or let go.
    pub(crate) held: bool,
}

#[derive(Debug, Default)]
struct State {
    after: HashMap<Name, Vec<Name>>,
    dependants: HashMap<Name, Vec<Name>>,
    /// Every instance, and whether it is ready: a worker is ready when all of its instances are.
    instances: HashMap<Name, Copies>,
    /// Instances that have had their one run: nobody starts them again, and nobody waits for them any more.
    spent: HashMap<Name, HashSet<InstanceId>>,
    /// Instances of which something of an earlier runtime lives, and how many hold them back.
    blocked: HashMap<InstanceId, u32>,
}

/// Whether one instance is ready.
#[derive(Debug, Clone, Default)]
pub(crate) struct Latch(Arc<AtomicBool>);

impl Latch {
    fn get(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::SeqCst);
    }
}

/// The instances of one worker in their order; mostly there is one.
#[derive(Debug, Default)]
struct Copies(Vec<(InstanceId, Latch)>);

impl Copies {
    /// Its place, or where that would be.
    fn find(&self, instance: &InstanceId) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.cmp(instance))
    }

    fn leave(&mut self, instance: &InstanceId) {
        if let Ok(at) = self.find(instance) {
            self.0.remove(at);
        }
    }
}

/// The gate of one runtime.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    /// How many are waited for: readiness is nobody else's business while that is zero.
    waited_for: AtomicUsize,
}

impl Gate {
    /// Learns what a worker waits for, in place of what it knew, and says whether its start is held back now.
    pub(crate) fn learn(&self, worker: &Name, after: &[Name]) -> Turn {
        let mut state = self.lock();
        for name in state.after.remove(worker).into_iter().flatten() {
            if let Some(dependants) = state.dependants.get_mut(&name) {
                dependants.retain(|known| known != worker);
            }
        }
        for name in after {
            state.dependants.entry(name.clone()).or_default().push(worker.clone());
        }
        if !after.is_empty() {
            state.after.insert(worker.clone(), after.to_vec());
        }
        state.dependants.retain(|_, dependants| !dependants.is_empty());
        // Before anybody's readiness is looked at: see `turn`.
        self.waited_for.store(state.dependants.len(), Ordering::SeqCst);
        state.turn(worker)
    }

    /// Learns that an instance is there; it is not ready. One that has had its one run has another before it.
    pub(crate) fn expect(&self, instance: &InstanceId) -> Vec<Turn> {
        self.change(instance, |instances, spent| {
            spent.remove(instance);
            if let Err(at) = instances.find(instance) {
                // Mostly it stays the only one.
                instances.0.reserve_exact(1);
                instances.0.insert(at, (instance.clone(), Latch::default()));
            }
        })
    }

    /// Forgets an instance that is gone for good.
    pub(crate) fn forget(&self, instance: &InstanceId) -> Vec<Turn> {
        self.change(instance, |instances, spent| {
            spent.remove(instance);
            instances.leave(instance);
        })
    }

    /// An instance has had its one run: for those who wait for it that is as good as ready.
    pub(crate) fn retire(&self, instance: &InstanceId) -> Vec<Turn> {
        self.change(instance, |instances, spent| {
            spent.insert(instance.clone());
            instances.leave(instance);
        })
    }

    /// Whether an instance has had its one run.
    pub(crate) fn is_spent(&self, instance: &InstanceId) -> bool {
        self.lock().spent.get(instance.worker()).is_some_and(|all| all.contains(instance))
    }

    /// Whether there is a copy of this worker, or was one that has had its run.
    pub(crate) fn knows(&self, worker: &Name) -> bool {
        let state = self.lock();
        state.instances.contains_key(worker) || state.spent.contains_key(worker)
    }

    /// Notes that an instance became ready or is no longer, and says whose turn that changes.
    #[cfg(test)]
    pub(crate) fn set_ready(&self, instance: &InstanceId, ready: bool) -> Vec<Turn> {
        self.latch(instance).map(|latch| self.turn(instance, &latch, ready)).unwrap_or_default()
    }

    /// Where the readiness of an instance is noted, if it is expected.
    pub(crate) fn latch(&self, instance: &InstanceId) -> Option<Latch> {
        let state = self.lock();
        let instances = state.instances.get(instance.worker())?;
        instances.find(instance).ok().map(|at| instances.0[at].1.clone())
    }

    /// Notes that an instance became ready or is no longer, and says whose turn that changes.
    pub(crate) fn turn(&self, instance: &InstanceId, latch: &Latch, ready: bool) -> Vec<Turn> {
        if self.waited_for.load(Ordering::SeqCst) > 0 {
            return self.change(instance, |_, _| latch.set(ready));
        }
        latch.set(ready);
        if self.waited_for.load(Ordering::SeqCst) == 0 {
            return Vec::new();
        }
        // Somebody has begun to wait meanwhile, and may have looked before.
        self.lock().turns(instance.worker())
    }

    /// Every instance of a worker that is to run.
    pub(crate) fn instances(&self, worker: &Name) -> Vec<InstanceId> {
        let state = self.lock();
        let all = state.instances.get(worker).map(|all| all.0.iter().map(|(id, _)| id.clone()).collect());
        all.unwrap_or_default()
    }

    /// Whether a start of this instance is held back now.
    pub(crate) fn held(&self, instance: &InstanceId) -> bool {
        let state = self.lock();
        state.blocked.contains_key(instance) || state.waits(instance.worker())
    }

    /// What a worker waits for now.
    pub(crate) fn waits_for(&self, worker: &Name) -> Vec<Name> {
        let state = self.lock();
        let missing = state.after.get(worker).into_iter().flatten();
        missing.filter(|name| !state.ready(name)).cloned().collect()
    }

    /// Holds an instance back because a process of an earlier runtime still lives. Its siblings start.
    pub(crate) fn block(&self, instance: &InstanceId) {
        *self.lock().blocked.entry(instance.clone()).or_default() += 1;
    }

    /// Whether a process of an earlier runtime holds an instance back.
    pub(crate) fn is_blocked(&self, instance: &InstanceId) -> bool {
        self.lock().blocked.contains_key(instance)
    }

    /// Ends one [`Gate::block`].
    pub(crate) fn unblock(&self, instance: &InstanceId) -> Turn {
        let mut state = self.lock();
        if let Some(count) = state.blocked.get_mut(instance) {
            *count -= 1;
        }
        state.blocked.retain(|_, count| *count > 0);
        state.turn(instance.worker())
    }

    fn change(
        &self,
        instance: &InstanceId,
        change: impl FnOnce(&mut Copies, &mut HashSet<InstanceId>),
    ) -> Vec<Turn> {
        let mut state = self.lock();
        let worker = instance.worker();
        let before = state.ready(worker);
        let State { instances, spent, .. } = &mut *state;
        let (own, over) =
            (instances.entry(worker.clone()).or_default(), spent.entry(worker.clone()).or_default());
        change(own, over);
        if own.0.is_empty() {
            instances.remove(worker);
        }
        if over.is_empty() {
            spent.remove(worker);
        }
        if state.ready(worker) == before {
            return Vec::new();
        }
        state.turns(worker)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn ready(&self, worker: &Name) -> bool {
        match self.instances.get(worker) {
            Some(all) => all.0.iter().all(|(_, latch)| latch.get()),
            None => self.spent.contains_key(worker),
        }
    }

    /// Whose turn it is now, or is no longer, that wait for this worker.
    fn turns(&self, worker: &Name) -> Vec<Turn> {
        let dependants = self.dependants.get(worker).into_iter().flatten();
        dependants.map(|name| self.turn(name)).collect()
    }

    /// Whether one that it starts after is not ready.
    fn waits(&self, worker: &Name) -> bool {
        self.after.get(worker).is_some_and(|after| !after.iter().all(|name| self.ready(name)))
    }

    fn turn(&self, worker: &Name) -> Turn {
        Turn { held: self.waits(worker), worker: worker.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::try_new(text).unwrap()
    }

    fn single(text: &str) -> InstanceId {
        InstanceId::single(name(text))
    }

    fn turn(worker: &str, held: bool) -> Turn {
        Turn { worker: name(worker), held }
    }

    /// `web` after `db` and `cache`.
    fn gate() -> Gate {
        let gate = Gate::default();
        for worker in ["db", "cache", "web"] {
            assert_eq!(gate.expect(&single(worker)), []);
        }
        assert_eq!(gate.learn(&name("web"), &[name("db"), name("cache")]), turn("web", true));
        gate
    }

    #[test]
    fn a_start_is_held_until_all_it_names_are_ready() {
        let gate = gate();
        assert!(gate.held(&single("web")));
        assert_eq!(gate.set_ready(&single("db"), true), [turn("web", true)]);
        assert_eq!(gate.waits_for(&name("web")), [name("cache")]);
        assert_eq!(gate.set_ready(&single("cache"), true), [turn("web", false)]);
        assert!(!gate.held(&single("web")));
    }

    #[test]
    fn a_lost_dependency_holds_only_the_next_start() {
        let gate = gate();
        let _ = gate.set_ready(&single("cache"), true);
        let _ = gate.set_ready(&single("db"), true);
        assert_eq!(gate.set_ready(&single("db"), false), [turn("web", true)]);
        assert_eq!(gate.set_ready(&single("db"), false), []);
    }

    #[test]
    fn a_survivor_holds_its_own_successor_back_and_no_sibling() {
        let gate = Gate::default();
        let of = |index| InstanceId::of_pool(name("db"), index);
        gate.block(&of(0));
        gate.block(&of(1));
        gate.block(&of(1));
        let held = |gate: &Gate| [0, 1, 2].map(|index| gate.held(&of(index)));
        assert_eq!(held(&gate), [true, true, false]);
        assert_eq!(gate.unblock(&of(0)), turn("db", false));
        assert_eq!(held(&gate), [false, true, false]);
        let _ = gate.unblock(&of(1));
        assert_eq!(held(&gate), [false, true, false], "something else of it lives");
        let _ = gate.unblock(&of(1));
        assert_eq!(held(&gate), [false; 3]);
    }

    #[test]
    fn a_pool_is_ready_when_all_of_it_is() {
        let gate = Gate::default();
        let of = |index| InstanceId::of_pool(name("db"), index);
        gate.expect(&of(0));
        gate.expect(&of(1));
        let _ = gate.learn(&name("web"), &[name("db")]);
        assert_eq!(gate.set_ready(&of(0), true), []);
        assert_eq!(gate.set_ready(&of(1), true), [turn("web", false)]);
        assert_eq!(gate.expect(&of(2)), [turn("web", true)]);
        assert_eq!(gate.forget(&of(2)), [turn("web", false)]);
    }

    #[test]
    fn a_job_that_has_had_its_one_run_is_waited_for_no_more_until_it_is_to_run_again() {
        let gate = gate();
        assert_eq!(gate.retire(&single("db")), [turn("web", true)]);
        assert_eq!(gate.waits_for(&name("web")), [name("cache")]);
        assert_eq!(gate.set_ready(&single("cache"), true), [turn("web", false)]);
        assert!(gate.is_spent(&single("db")) && gate.knows(&name("db")));
        assert_eq!(gate.instances(&name("db")), []);
        assert_eq!(gate.expect(&single("db")), [turn("web", true)]);
        assert!(!gate.is_spent(&single("db")));
        let _ = gate.retire(&single("db"));
        assert_eq!(gate.forget(&single("db")), [turn("web", true)], "there is nobody of this name any more");
        assert!(!gate.knows(&name("db")));
    }

    #[test]
    fn what_a_worker_waits_for_can_change_and_nothing_of_the_old_stays() {
        let gate = gate();
        assert_eq!(gate.learn(&name("web"), &[]), turn("web", false));
        assert_eq!(gate.set_ready(&single("db"), true), []);
        assert!(gate.lock().dependants.is_empty() && gate.lock().after.is_empty());
    }
}
