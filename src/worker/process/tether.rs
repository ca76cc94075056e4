//! What ties a command beside a worker to all that it starts, so that the whole tree ends with it.
//!
//! A cgroup of its own where there is one: inside the worker's for a step of recovery, so that its limits hold, and
//! beside it for a probe, so that nobody takes it for the worker. Else its session, its descendants, and a mark in its
//! environment, which finds those that left both. It ends at its deadline, with its own end, with whoever waits for it,
//! and with the runtime; what a runtime that was killed left of them, the next one ends at its start.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::worker::unix::{
    Ended, Placement, Spawned, peek_pidfd, pidfd_open, send_signal, send_signal_to_group, wait_pidfd,
};

use super::cgroup::Cgroup;
use super::children::{self, Registered};
use super::host::ProcessHost;
use super::tree::{self, Reach, Target};

/// Between looks at whether a killed tree is gone.
const LOOK: Duration = Duration::from_millis(5);
/// So many looks; what the kernel still holds then dies once it lets go.
const LOOKS: u32 = 200;
/// Who forks while it is looked for is found by the next look.
const ROUNDS: u32 = 8;
/// After so many it is killed once more, for kernels that cannot kill a cgroup at once.
const AGAIN: u32 = 20;

/// Begins the variable that names a command of a runtime with this state directory.
pub(super) fn mark_of(key: &str) -> String {
    format!("REGROW_CALL={key}.")
}

/// Ends what an earlier runtime without cgroups left beside its workers.
pub(super) fn end_left(key: &str, state_dir: &Path) {
    let mark = mark_of(key);
    for _ in 0..ROUNDS {
        let mut carriers = tree::carriers(mark.as_bytes());
        carriers.retain(|pid| !tree::is_elsewhere(*pid, state_dir));
        for pid in &carriers {
            // Opened first, looked at then: the descriptor cannot change whom it means.
            if let Ok(pidfd) = pidfd_open(*pid)
                && tree::carries(*pid, mark.as_bytes())
                && let Err(error) = send_signal(&pidfd, libc::SIGKILL)
            {
                tracing::debug!(pid, %error, "a command that an earlier regrow left cannot be killed");
            }
        }
        if carriers.is_empty() {
            return;
        }
        std::thread::sleep(LOOK);
    }
}

/// Made before a command starts.
pub(super) struct Tether {
    host: Arc<ProcessHost>,
    cgroup: Option<Cgroup>,
    mark: CString,
}

impl Tether {
    /// On a spawning thread. `within`: the slug of the instance in whose cgroup it belongs.
    pub(super) fn new(host: &Arc<ProcessHost>, within: Option<&str>) -> Self {
        let number = getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()));
        let refused = |error| tracing::warn!(%error, "a command beside a worker gets no cgroup");
        let cgroup = host.cgroups.as_ref().and_then(|root| root.call(within, number).map_err(refused).ok());
        // Neither a key nor digits hold a NUL byte.
        let mark = CString::new(format!("{}{number:016x}", mark_of(&host.key))).unwrap_or_default();
        Self { host: Arc::clone(host), cgroup, mark }
    }

    /// A variable that names it. It comes first, so that whoever looks for it reads the beginning only.
    pub(super) fn mark(&self) -> CString {
        self.mark.clone()
    }

    /// Where the command is born.
    pub(super) fn placement(&self) -> Placement<'_> {
        self.cgroup.as_ref().map_or(Placement::Nowhere, Cgroup::placement)
    }

    /// A child that goes into its cgroup by itself needs that file too, whose number may be any.
    pub(super) fn unshares(&self) -> bool {
        !matches!(self.placement(), Placement::Enters(_))
    }

    /// The command runs.
    pub(super) fn tie(self, spawned: Spawned) -> Running {
        let Self { host, cgroup, mark } = self;
        let registered = children::register(spawned.pid);
        let target = Target::of_call(mark.as_bytes(), spawned.pid);
        // One that it could not enter holds nobody.
        let cgroup = cgroup.filter(|_| spawned.outside.is_none());
        let tied = Arc::new(Tied { pidfd: Arc::new(spawned.pidfd), cgroup, target });
        let number = host.calls.add(&tied);
        if number.is_none() {
            tied.kill();
        }
        Running { host, tied, registered: Some(registered), number, over: false }
    }
}

/// A command that runs. Dropped, it is killed with its tree.
pub(super) struct Running {
    host: Arc<ProcessHost>,
    tied: Arc<Tied>,
    /// Keeps the reaper away from its status until that was taken.
    registered: Option<Registered>,
    number: Option<u64>,
    over: bool,
}

impl Running {
    /// The command itself.
    pub(super) fn pidfd(&self) -> &Arc<OwnedFd> {
        &self.tied.pidfd
    }

    /// How it ended; what it left behind ends too. `None`: it has not.
    pub(super) fn end(&mut self) -> std::io::Result<Option<Ended>> {
        let ended = peek_pidfd(&self.tied.pidfd)?;
        if ended.is_some() {
            drop(self.finish());
        }
        Ok(ended)
    }

    /// Kills what is left of its tree, on a thread that may look through all of `/proc`. Its own status is taken last:
    /// until then nobody else can get its number, which names its session. Answers once that is done.
    pub(super) fn finish(&mut self) -> oneshot::Receiver<()> {
        self.over = true;
        let (answer, done) = oneshot::channel();
        let (tied, host) = (Arc::clone(&self.tied), Arc::clone(&self.host));
        let (registered, number) = (self.registered.take(), self.number);
        self.host.pool.run(move |_| {
            tied.finish();
            // Unregistered: whatever of it dies later is taken by the reaper.
            drop(registered);
            if let Some(number) = number {
                host.calls.remove(number);
            }
            // Whoever asked may be gone.
            answer.send(()).unwrap_or_default();
        });
        done
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            drop(self.finish());
        }
    }
}

/// A tree that is one command's.
struct Tied {
    pidfd: Arc<OwnedFd>,
    cgroup: Option<Cgroup>,
    target: Target,
}

impl Tied {
    fn kill(&self) {
        // Gone already in most cases.
        let _ = send_signal_to_group(&self.pidfd, libc::SIGKILL);
        let _ = send_signal(&self.pidfd, libc::SIGKILL);
        tree::kill(&self.target, self.cgroup.as_ref(), Reach::Cgroup);
    }

    /// Whether nobody can be left: only a cgroup knows without a search.
    fn is_empty(&self) -> bool {
        self.cgroup.as_ref().is_some_and(|cgroup| cgroup.populated().is_ok_and(|populated| !populated))
    }

    /// Kills it and waits, for a second at most, until it is gone.
    fn finish(&self) {
        let mut ended = matches!(peek_pidfd(&self.pidfd), Ok(Some(_)) | Err(_));
        if !(ended && self.is_empty()) {
            self.kill();
        }
        for look in 1..=LOOKS {
            ended = ended || !matches!(peek_pidfd(&self.pidfd), Ok(None));
            if ended && (self.cgroup.is_none() || self.is_empty()) {
                break;
            }
            if look % AGAIN == 0 {
                self.kill();
            }
            std::thread::sleep(LOOK);
        }
        // An error means that somebody else has taken it.
        let _ = wait_pidfd(&self.pidfd);
    }
}

/// Every command that runs beside a worker.
#[derive(Default)]
pub(super) struct Calls(Mutex<Live>);

#[derive(Default)]
struct Live {
    closed: bool,
    last: u64,
    running: HashMap<u64, Arc<Tied>>,
}

impl Calls {
    /// `None`: the runtime ends, and so must this.
    fn add(&self, tied: &Arc<Tied>) -> Option<u64> {
        let mut live = self.lock();
        if live.closed {
            return None;
        }
        live.last += 1;
        let number = live.last;
        live.running.insert(number, Arc::clone(tied));
        Some(number)
    }

    fn remove(&self, number: u64) {
        self.lock().running.remove(&number);
    }

    /// Kills all that run and every one that begins from now on; waits until they are gone, for so long at most.
    pub(super) fn close(&self, within: Duration) {
        let end = Instant::now() + within;
        let running: Vec<_> = {
            let mut live = self.lock();
            live.closed = true;
            live.running.values().cloned().collect()
        };
        for tied in &running {
            tied.kill();
        }
        let gone = |tied: &Arc<Tied>| {
            !matches!(peek_pidfd(&tied.pidfd), Ok(None)) && (tied.cgroup.is_none() || tied.is_empty())
        };
        while !running.iter().all(gone) && Instant::now() < end {
            std::thread::sleep(LOOK);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
