//! The directory of the files, held open: whatever is done, is done in this one and no other.
//!
//! A path may lead into another runtime's directory from one moment to the next: somebody swaps the folder above. The
//! handle leads to the one that was taken, wherever it is by now.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::DupFlags;

/// A directory; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Home(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The path that it was taken under.
    named: PathBuf,
    /// The way to it that holds whatever it is called.
    path: PathBuf,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    dir: OwnedFd,
    /// Where it goes on once this one is removed.
    next: Option<OwnedFd>,
}

impl Home {
    /// The one that the path leads to now.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self::new(path, rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// One that is open, and was under this path. A lock on it is not shared.
    pub(crate) fn of(path: &Path, dir: impl AsFd) -> io::Result<Self> {
        Ok(Self::new(path, hold(dir)?))
    }

    fn new(named: &Path, dir: OwnedFd) -> Self {
        let path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
        Self(Arc::new(Inner { named: named.to_owned(), path, held: Mutex::new(Held { dir, next: None }) }))
    }

    /// The way to it: good as long as this lives, wherever it is moved to.
    pub(super) fn path(&self) -> &Path {
        &self.0.path
    }

    /// The path that it was taken under if that still leads to it, otherwise [`path`](Self::path): for whoever keeps
    /// what is behind a link.
    pub(super) fn by_name(&self) -> &Path {
        let named = rustix::fs::stat(&self.0.named);
        let stands = named.is_ok_and(|named| self.is(&named));
        if stands { &self.0.named } else { &self.0.path }
    }

    /// Whether this is it.
    pub(crate) fn is(&self, found: &Stat) -> bool {
        rustix::fs::fstat(&self.held().dir).is_ok_and(|held| is_same(&held, found))
    }

    /// Another one that is ours: once the present one is removed, it goes on there.
    pub(crate) fn follow(&self, dir: impl AsFd) -> io::Result<()> {
        self.held().next = Some(hold(dir)?);
        Ok(())
    }

    /// Goes on in the next one if the present one was removed. False: there is none.
    pub(crate) fn settle(&self) -> bool {
        let mut held = self.held();
        while was_removed(&held.dir).unwrap_or(false) {
            let Some(next) = held.next.take() else { return false };
            // In its place, so that the way to it stays the same.
            if rustix::io::dup3(next, &mut held.dir, DupFlags::CLOEXEC).is_err() {
                return false;
            }
        }
        true
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether these are one file or directory, whatever its name.
pub(super) fn is_same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

fn hold(dir: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, ".", flags, Mode::empty())?)
}

/// Whether an open directory has no name any more.
pub(crate) fn was_removed(dir: impl AsFd) -> io::Result<bool> {
    let dir = dir.as_fd();
    let name = std::fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    let held = rustix::fs::fstat(dir)?;
    // One may be called like that.
    let stands = |name: &Path| rustix::fs::stat(name).is_ok_and(|named| is_same(&named, &held));
    let nameless =
        name.is_ok_and(|name| name.as_os_str().as_bytes().ends_with(b" (deleted)") && !stands(&name));
    Ok(nameless || held.st_nlink == 0)
}
