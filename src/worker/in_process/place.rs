//! Where user code runs: the worker plane, or a thread of its own.
//!
//! The plane has a thread more than there are cores: while workers compute on all cores there is one left on which the
//! others get their turn. Code that never yields holds a thread for ever; when only one is left, a fresh plane takes
//! all later starts, so that what is stuck is never beside what starts.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::runtime::{Builder, Handle, Runtime};

/// Threads for blocking calls of user code and for its state files, at most; each is made when it is needed. A disk or
/// a library that blocks more than this many callers is the bottleneck itself.
const BLOCKING: usize = 32;

/// The worker plane of one runtime.
pub(super) struct WorkerPlane {
    threads: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<Handle>,
    /// A plane that a host handed in is its own to end.
    owned: Vec<Runtime>,
    lost: usize,
}

impl WorkerPlane {
    /// A plane that is made at the first start of an actor worker.
    pub(super) fn new(given: Option<Handle>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let state = State { current: given, ..State::default() };
        Self { threads: cores + 1, state: Mutex::new(state) }
    }

    /// Where starts go now.
    pub(super) fn handle(&self) -> io::Result<Handle> {
        let mut state = self.lock();
        if let Some(handle) = &state.current {
            return Ok(handle.clone());
        }
        let made = Builder::new_multi_thread()
            .worker_threads(self.threads)
            .max_blocking_threads(BLOCKING)
            .thread_name("regrow-worker")
            .enable_all()
            .build()?;
        let handle = made.handle().clone();
        state.owned.push(made);
        state.current = Some(handle.clone());
        Ok(handle)
    }

    /// Code that never yields holds one more of its threads.
    pub(super) fn lost_one(&self) {
        let mut state = self.lock();
        state.lost += 1;
        if state.lost + 1 >= self.threads && !state.owned.is_empty() {
            state.lost = 0;
            state.current = None;
        }
    }

    /// Whether this many, with those that were lost, are all threads that there are.
    pub(super) fn is_full_with(&self, held: usize) -> bool {
        let state = self.lock();
        state.current.as_ref().is_some_and(|plane| held + state.lost >= plane.metrics().num_workers())
    }

    /// Ends it without waiting for what does not end.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        let owned = std::mem::take(&mut state.owned);
        state.current = None;
        drop(state);
        for runtime in owned {
            runtime.shutdown_background();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
