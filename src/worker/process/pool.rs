//! The threads that start processes and look through `/proc`.
//!
//! An exec can hang for ever on a dead mount, and the thread that called it hangs with it. So none of this
//! happens on the control plane: two threads serve everybody, and when all of them have been busy for a while
//! with others waiting, one more is started, up to a bound.
//!
//! Commands beside workers come last and never have all threads: probes on a dead mount, however many, must not keep one
//! worker from being started or killed.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::worker::unix::{Page, Stack, close_range_works};

use super::children;
use super::reserve::place;

/// Two: a second one starts processes while the first waits for an exec.
const THREADS: usize = 2;
/// Hung execs beyond this many share the fate of a machine whose disks are gone.
const MAX_THREADS: usize = 32;
/// Of these, commands beside workers get no more.
const MOST_BESIDE: usize = 16;
/// An exec takes a millisecond; one that takes this long may take for ever.
const PATIENCE: Duration = Duration::from_millis(200);

/// What each thread keeps for its children.
pub(super) struct Tools {
    /// Where they run until their exec.
    pub(super) stack: Stack,
    /// What they report.
    pub(super) page: Arc<Page>,
    /// Low-numbered places for fds 1 and 2, so that a child need not copy the whole table.
    pub(super) stdout: OwnedFd,
    /// As above.
    pub(super) stderr: OwnedFd,
    /// Where the part of the table ends that a child copies, if the kernel can do that.
    pub(super) unshare_from: Option<u32>,
}

type Job = Box<dyn FnOnce(&mut Tools) + Send>;

/// The threads; they end when the last handle is gone and the queue is empty.
pub(super) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    /// `/dev/null`.
    null: OwnedFd,
    /// Highest descriptor that children need besides their thread's own.
    highest: i32,
}

#[derive(Default)]
struct State {
    queue: Queue,
    /// Commands beside workers, and how many are in hand.
    beside: Queue,
    busy_beside: usize,
    threads: usize,
    idle: usize,
    closed: bool,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    last_taken: Option<Instant>,
}

impl Queue {
    fn take(&mut self) -> Option<Job> {
        let job = self.jobs.pop_front()?;
        self.last_taken = Some(Instant::now());
        Some(job)
    }

    /// Whether somebody waits in it, and nobody was taken out for a while.
    fn hangs(&self) -> bool {
        !self.jobs.is_empty() && self.last_taken.is_some_and(|at| at.elapsed() > PATIENCE)
    }
}

impl State {
    /// Whether a thread may take a command beside a worker: one is always left for the others.
    fn has_room_beside(&self) -> bool {
        self.busy_beside < MOST_BESIDE && self.busy_beside + 1 < self.threads
    }
}

impl Pool {
    /// Starts the threads. `common` are the descriptors that every child needs.
    pub(super) fn start(null: OwnedFd, highest: i32) -> io::Result<Self> {
        let shared = Shared { state: Mutex::default(), wake: Condvar::new(), null, highest };
        let pool = Self { shared: Arc::new(shared) };
        for _ in 0..THREADS {
            pool.add_thread()?;
        }
        Ok(pool)
    }

    /// Runs a job on one of the threads. An instance has a start or an end on its way and little else, which bounds the
    /// queue.
    pub(super) fn run(&self, job: impl FnOnce(&mut Tools) + Send + 'static) {
        self.shared.lock().queue.jobs.push_back(Box::new(job));
        self.shared.wake.notify_one();
    }

    /// The same for a command beside a worker, which comes after all others. Of a kind that hangs, nobody queues a second
    /// one ([`begin`](super::begin)).
    pub(super) fn run_beside(&self, job: impl FnOnce(&mut Tools) + Send + 'static) {
        self.shared.lock().beside.jobs.push_back(Box::new(job));
        self.shared.wake.notify_one();
    }

    /// Called by whoever has waited for a while: adds a thread if all hang.
    pub(super) fn nudge(&self) {
        let state = self.shared.lock();
        let first = state.queue.hangs() && state.idle == 0;
        let beside = state.beside.hangs() && !state.has_room_beside() && state.busy_beside < MOST_BESIDE;
        let needed = (first || beside) && state.threads < MAX_THREADS;
        drop(state);
        if needed && let Err(error) = self.add_thread() {
            tracing::warn!(%error, "all spawning threads hang, and another one cannot be started");
        }
    }

    fn add_thread(&self) -> io::Result<()> {
        let mut tools = Tools::new(&self.shared)?;
        self.shared.lock().threads += 1;
        let shared = self.shared.clone();
        let started = std::thread::Builder::new()
            .name("regrow-spawn".to_owned())
            // Jobs are shallow; the default of 2 MiB each would show in the runtime's size.
            .stack_size(256 * 1024)
            .spawn(move || {
                while let Some((job, beside)) = shared.next() {
                    job(&mut tools);
                    if beside {
                        shared.lock().busy_beside -= 1;
                    }
                }
                children::forget(&tools.page);
            });
        if started.is_err() {
            self.shared.lock().threads -= 1;
        }
        started.map(drop)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job, and whether it is a command beside a worker.
    fn next(&self) -> Option<(Job, bool)> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.queue.take() {
                return Some((job, false));
            }
            if state.has_room_beside()
                && let Some(job) = state.beside.take()
            {
                state.busy_beside += 1;
                return Some((job, true));
            }
            if state.closed {
                state.threads -= 1;
                return None;
            }
            state.idle += 1;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
}

impl Tools {
    fn new(shared: &Shared) -> io::Result<Self> {
        let page = Arc::new(Page::new()?);
        let place = || place(&shared.null);
        let (stdout, stderr) = (place()?, place()?);
        let highest = shared.highest.max(stdout.as_raw_fd()).max(stderr.as_raw_fd());
        let unshare_from = close_range_works().then_some(highest.unsigned_abs() + 1);
        let stack = Stack::new()?;
        children::remember(&page);
        Ok(Self { stack, page, stdout, stderr, unshare_from })
    }
}
