//! Descriptors kept aside, so that a restart still works when the process has no others left.
//!
//! A restart needs three at once (FIFO, stderr's FIFO, pidfd), most of which its predecessor gave back. Two
//! spawning threads may need theirs at the same time.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

const KEPT: usize = 8;

/// The descriptors.
pub(super) struct Reserve {
    null: OwnedFd,
    kept: Mutex<Vec<OwnedFd>>,
}

impl Reserve {
    /// Sets them aside.
    pub(super) fn new(null: &OwnedFd) -> io::Result<Self> {
        let reserve = Self { null: another(null)?, kept: Mutex::default() };
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
                let mut kept = self.lock();
                let left = kept.len().saturating_sub(3);
                kept.truncate(left);
                drop(kept);
                attempt()
            }
            done => done,
        }
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
