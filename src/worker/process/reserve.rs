//! Descriptors kept aside, so that a restart still works when the process has no others left.
//!
//! A restart needs three at once (FIFO, stderr's FIFO, pidfd), most of which its predecessor gave back. Two
//! spawning threads may need theirs at the same time.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::worker::unix::dup_onto;

const KEPT: usize = 8;

/// What one piece of work gets at most.
const LENT: usize = 3;

/// Places that children take their files from, which no lower limit may put out of reach.
const PLACES: usize = 4;

/// Those who serve others and want one of their own each: see [`Spare`].
const SPARES: usize = 3;

/// Set aside before anything else was opened: a limit that is lowered later forbids high numbers, not low ones.
static EARLY: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

/// Sets descriptors aside for the next host. Called first of all; what cannot be had now is had later.
pub(crate) fn set_aside() {
    let mut early = early();
    if early.is_empty()
        && let Ok(null) = open_null()
    {
        early.push(null);
    }
    while early.len() < PLACES + KEPT + SPARES
        && let Some(Ok(fd)) = early.first().map(another)
    {
        early.push(fd);
    }
}

/// The lowest descriptor that was set aside, or else a new one.
pub(super) fn place(null: &OwnedFd) -> io::Result<OwnedFd> {
    take_lowest().map_or_else(|| another(null), Ok)
}

fn take_lowest() -> Option<OwnedFd> {
    let mut early = early();
    let (at, _) = early.iter().enumerate().min_by_key(|(_, fd)| fd.as_raw_fd())?;
    Some(early.swap_remove(at))
}

fn early() -> MutexGuard<'static, Vec<OwnedFd>> {
    EARLY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The spare descriptors of all who serve others.
static DOORS: Mutex<Doors> = Mutex::new(Doors { null: None, wanted: 0, kept: Vec::new() });

struct Doors {
    /// What the others are made from: opening it anew would take two at once.
    null: Option<OwnedFd>,
    wanted: usize,
    kept: Vec<OwnedFd>,
}

impl Doors {
    fn lock() -> MutexGuard<'static, Self> {
        DOORS.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes back what was given up, as far as possible; whether all of it is there.
    fn refill(&mut self) -> bool {
        if self.null.is_none() {
            self.null = open_null().ok();
        }
        while self.kept.len() < self.wanted
            && let Some(Ok(fd)) = self.null.as_ref().map(another)
        {
            self.kept.push(fd);
        }
        self.kept.len() >= self.wanted
    }
}

/// One descriptor of somebody who serves others, given up for the moment in which there is no other.
pub(crate) struct Spare(());

impl Spare {
    /// Sets it aside.
    pub(crate) fn new() -> Self {
        let mut doors = Doors::lock();
        doors.wanted += 1;
        doors.kept.extend(take_lowest());
        doors.refill();
        Self(())
    }

    /// Makes room for one descriptor, until what this answers is dropped. `None`: not even the spare one is there.
    pub(crate) fn lend(&self) -> Option<LentSpare<'_>> {
        let mut doors = Doors::lock();
        doors.refill();
        doors.kept.pop().map(|_| LentSpare(self))
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        let mut doors = Doors::lock();
        doors.wanted -= 1;
        let wanted = doors.wanted;
        doors.kept.truncate(wanted);
    }
}

/// Room for one descriptor.
pub(crate) struct LentSpare<'a>(&'a Spare);

impl LentSpare<'_> {
    /// Closes the descriptor that was opened in that room and takes its place, so that nobody else gets in between.
    pub(crate) fn take_place(&self, opened: OwnedFd) {
        let mut doors = Doors::lock();
        let Some(null) = doors.null.as_ref() else { return };
        // Else it is closed as any other.
        if dup_onto(null, &opened).is_ok() && doors.kept.len() < doors.wanted {
            doors.kept.push(opened);
        }
    }
}

impl Drop for LentSpare<'_> {
    fn drop(&mut self) {
        let Spare(()) = self.0;
        Doors::lock().refill();
    }
}

/// The descriptors.
pub(super) struct Reserve {
    null: OwnedFd,
    kept: Mutex<Vec<OwnedFd>>,
}

impl Reserve {
    /// Sets them aside.
    pub(super) fn new(null: &OwnedFd) -> io::Result<Self> {
        let early = (0..KEPT).map_while(|_| take_lowest()).collect();
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

    /// Whether the process has none left for anything new.
    pub(super) fn is_needed(&self) -> bool {
        self.refill();
        !self.is_whole() || another(&self.null).is_err()
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

    /// Takes back what was given up, as far as possible: first of all what is needed to tell people about it. Without
    /// need, two locks.
    pub(super) fn refill(&self) {
        if !Doors::lock().refill() {
            return;
        }
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
pub(crate) fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

fn open_null() -> io::Result<OwnedFd> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    // Not one of the three that belong to the standard streams, should one of those be closed.
    another(&null.into())
}

fn another(null: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(null, 3)?)
}
