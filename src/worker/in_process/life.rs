//! One incarnation: what its code, the tasks it spawned, the runner and the watchdog know of each other.
//!
//! Its end is told once, by whoever leaves last: the main task or the last of the tasks it spawned. A life that was
//! abandoned has been told already; when its code comes back after all, only the count of the abandoned goes down.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::exit::{Exit, StartFailure};
use crate::id::Incarnation;
use crate::worker::WorkerReport;

use super::guard::{Pulse, Pulsing};
use super::inbox::Order;
use super::panic::Panicked;
use super::runner::Site;

/// How the code of an incarnation ended.
#[derive(Debug)]
pub(crate) enum End {
    /// By itself, content.
    Done,
    /// As asked.
    Stopped,
    /// With an error, in words.
    Failed(String),
    /// With an error, and then a `Drop` panicked. The message tells of both.
    Torn(Box<Panicked>),
    /// With a panic.
    Panicked(Box<Panicked>),
    /// It was cancelled.
    Killed,
}

/// One incarnation.
pub(super) struct Life {
    pub(super) site: Arc<Site>,
    pub(super) incarnation: Incarnation,
    pub(super) pulse: Pulse,
    /// The main task and the tasks it spawned.
    present: AtomicUsize,
    stopping: AtomicBool,
    /// Wakes who waits for `stopping` or, on a thread of its own, for the kill.
    pub(super) bell: Notify,
    killed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// It became ready.
    ready: bool,
    end: Option<End>,
    /// Told, or abandoned.
    over: bool,
    tasks: Vec<Spawned>,
}

/// A task that user code spawned.
struct Spawned {
    abort: AbortHandle,
    own: Arc<Tended>,
}

/// The pulse of a spawned task.
pub(super) struct Tended {
    pulse: Pulse,
    who: u64,
}

impl Tended {
    pub(super) fn new(who: u64) -> Arc<Self> {
        Arc::new(Self { pulse: Pulse::default(), who })
    }
}

impl Pulsing for Arc<Tended> {
    fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    fn who(&self) -> u64 {
        self.who
    }
}

impl Pulsing for Arc<Life> {
    fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    fn who(&self) -> u64 {
        self.site.number
    }
}

impl Life {
    pub(super) fn new(site: Arc<Site>, incarnation: Incarnation) -> Arc<Self> {
        Arc::new(Self {
            site,
            incarnation,
            pulse: Pulse::default(),
            present: AtomicUsize::new(1),
            stopping: AtomicBool::new(false),
            bell: Notify::new(),
            killed: AtomicBool::new(false),
            state: Mutex::default(),
        })
    }

    /// Its start has returned.
    pub(super) fn ready(&self) {
        let mut state = self.lock();
        state.ready = true;
        let over = state.over;
        drop(state);
        if !over {
            self.site.report_and_do(self.incarnation, WorkerReport::Ready);
        }
    }

    /// It was asked to end.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.bell.notify_waiters();
        self.order(Order::Stop);
    }

    /// Tells its code something. A mailbox that is closed belongs to an end that is on its way already.
    pub(super) fn order(&self, order: Order) {
        let _ = self.site.inbox.order(Some(self.incarnation), order);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Marks it as killed; whoever runs it drops it at its next breath.
    pub(super) fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.stopping.store(true, Ordering::Release);
        self.bell.notify_waiters();
        for task in &self.lock().tasks {
            task.abort.abort();
        }
    }

    pub(super) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// Lets a task in; refused once the end has begun.
    pub(super) fn enter(&self) -> bool {
        let state = self.lock();
        if state.end.is_some() || state.over || self.is_killed() {
            return false;
        }
        self.present.fetch_add(1, Ordering::AcqRel);
        true
    }

    /// Notes how the task that was let in can be cancelled.
    pub(super) fn tend(&self, abort: AbortHandle, own: Arc<Tended>) {
        let mut state = self.lock();
        if state.end.is_some() || self.is_killed() {
            abort.abort();
        }
        // Looked through only when it has doubled, so that many short tasks cost a step each.
        if state.tasks.len() == state.tasks.capacity() {
            state.tasks.retain(|task| !task.abort.is_finished());
        }
        state.tasks.push(Spawned { abort, own });
    }

    /// The main task is over: what it spawned ends too.
    pub(super) fn ended(&self, end: End) {
        let mut state = self.lock();
        state.end = Some(end);
        // Kept, so that one which does not end is still felt.
        for task in &state.tasks {
            task.abort.abort();
        }
        drop(state);
        self.leave();
    }

    /// Somebody leaves; the last one tells the end.
    pub(super) fn leave(&self) {
        if self.present.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let mut state = self.lock();
        let was_over = std::mem::replace(&mut state.over, true);
        let (end, ready) = (state.end.take().unwrap_or(End::Killed), state.ready);
        drop(state);
        if was_over {
            self.site.host.returned(&self.site.instance);
            return;
        }
        self.tell(end, ready);
    }

    /// Gives it up for blocked, unless it has just ended. True if it was given up now.
    pub(super) fn abandon(&self) -> bool {
        !std::mem::replace(&mut self.lock().over, true)
    }

    /// Whether its end was told, or it was abandoned.
    pub(super) fn is_over(&self) -> bool {
        self.lock().over
    }

    /// Whether code of it runs right now, and the sum of its pulses.
    pub(super) fn feel(&self) -> (bool, u64) {
        let state = self.lock();
        let tasks = || state.tasks.iter().map(|task| &task.own.pulse);
        let runs = self.pulse.runs() || tasks().any(Pulse::runs);
        let beats = tasks().fold(self.pulse.feel(), |sum, pulse| sum.wrapping_add(pulse.feel()));
        (runs, beats)
    }

    /// The pulses one by one, for the watchdog: which of them does not beat.
    pub(super) fn pulses(&self, out: &mut SmallVec<[u64; 1]>) {
        out.clear();
        out.push(self.pulse.feel());
        out.extend(self.lock().tasks.iter().map(|task| task.own.pulse.feel()));
    }

    fn tell(&self, end: End, ready: bool) {
        let (exit, trace) = match end {
            End::Done => (Exit::Exited { code: 0 }, None),
            End::Stopped => (Exit::Stopped, None),
            End::Killed => (Exit::Killed, None),
            End::Failed(message) => (Exit::Error { message }, None),
            End::Torn(panicked) => (Exit::Error { message: panicked.message }, panicked.trace),
            End::Panicked(panicked) => (Exit::Panicked { message: panicked.message }, panicked.trace),
        };
        // Before it can be started again: one that was killed before its first turn is counted by nobody else.
        self.site.count(self.incarnation);
        let trace = trace.map(|trace| (trace, exit.clone()));
        let report = if ready || self.is_stopping() {
            WorkerReport::Exited { exit }
        } else {
            let exit = Exit::StartFailed(StartFailure::BeforeReady { ended: Box::new(exit) });
            WorkerReport::StartFailed { exit, hint: None }
        };
        self.site.report_and_do(self.incarnation, report);
        if let Some((trace, led_to)) = trace {
            self.site.host.trace(&self.site, self.incarnation, led_to, trace);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
