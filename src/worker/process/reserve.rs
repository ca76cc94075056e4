//! Descriptors kept aside, so that a restart still works when the process has no others left.
//!
//! A restart needs three at once (FIFO, stderr's FIFO, pidfd), most of which its predecessor gave back. Two
//! spawning threads may need theirs at the same time.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

const KEPT: usize = 8;

/// What one piece of work gets at most.
const LENT: usize = 3;

/// What a host and its first spawning threads have for as long as they live: places for a child's files among them,
/// which no lower limit may put out of reach.
const PLACES: usize = 8;

/// Set aside before anything else was opened: a limit that is lowered later forbids high numbers, not low ones.
static EARLY: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

/// Sets descriptors aside for the reserve of the next host. Called first of all; what cannot be had now is had later.
pub(crate) fn set_aside() {
    let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") else { return };
    let null = OwnedFd::from(null);
    let early = (0..PLACES + KEPT).map_while(|_| another(&null).ok()).collect();
    *EARLY.lock().unwrap_or_else(PoisonError::into_inner) = early;
}

/// Gives the lowest of those up for what a host is about to open.
pub(super) fn make_room() {
    let mut early = EARLY.lock().unwrap_or_else(PoisonError::into_inner);
    let given = PLACES.min(early.len());
    early.drain(..given);
}

/// The descriptors.
pub(super) struct Reserve {
    null: OwnedFd,
    kept: Mutex<Vec<OwnedFd>>,
}

impl Reserve {
    /// Sets them aside.
    pub(super) fn new(null: &OwnedFd) -> io::Result<Self> {
        let early = std::mem::take(&mut *EARLY.lock().unwrap_or_else(PoisonError::into_inner));
        let reserve = Self { null: another(null)?, kept: Mutex::new(early) };
        reserve.refill();
        Ok(reserve)
    }

    /// Tries again with some of the reserve given up if there were no descriptors left.
    pub(super) fn with<T, E>(
        &self,
        is_exhaustion: impl Fn(&E) -> bool,
        mut attempt: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        match attempt() {
            Err(error) if is_exhaustion(&error) => {
                self.give_up();
                attempt()
            }
            done => done,
        }
    }

    /// Does some work that opens files one after the other and closes them again, with room for it.
    pub(super) fn lend<T>(&self, work: impl FnOnce() -> T) -> T {
        if another(&self.null).is_err() {
            self.give_up();
        }
        let done = work();
        self.refill();
        done
    }

    /// Whether all of it is there.
    pub(super) fn is_whole(&self) -> bool {
        self.lock().len() >= KEPT
    }

    fn give_up(&self) {
        let mut kept = self.lock();
        // Under a limit that was lowered only the lowest numbers are of use.
        kept.sort_unstable_by_key(AsRawFd::as_raw_fd);
        let given = LENT.min(kept.len());
        kept.drain(..given);
    }

    /// Takes back what was given up, as far as possible. Without need, one lock.
    pub(super) fn refill(&self) {
        let mut kept = self.lock();
        while kept.len() < KEPT
            && let Ok(fd) = another(&self.null)
        {
            kept.push(fd);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same for our own calls.
pub(super) fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

fn another(null: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(null, 3)?)
}
