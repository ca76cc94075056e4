//! Sees whether an open file is still the one of its name in its directory, wherever that is by now.
//!
//! A handle that is good for looking only: to close any other one would take SQLite's locks away. A WAL that is deleted
//! alone is not looked for: what is in it comes into the file with the next checkpoint.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::home::is_same;

/// The file as it was when it was opened.
pub(super) struct Witness(OwnedFd);

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// It is deleted.
    Deleted,
    /// Another file has its place.
    Replaced,
}

impl Witness {
    /// `None`: there is no such file, as where a test has it in its memory.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::open(path, flags, Mode::empty()).ok().map(Self)
    }

    /// What became of it since. The path leads into its directory, so one that was moved away with that is there, and
    /// goes on.
    pub(super) fn loss(&self, path: &Path) -> Option<Loss> {
        let opened = rustix::fs::fstat(&self.0).ok()?;
        let Ok(named) = rustix::fs::lstat(path) else {
            return (opened.st_nlink == 0).then_some(Loss::Deleted);
        };
        if !is_same(&named, &opened) {
            return Some(Loss::Replaced);
        }
        None
    }
}

impl Loss {
    /// For people.
    pub(super) fn text(self, name: &str) -> String {
        match self {
            Self::Deleted => format!(
                "{name} was deleted while regrow ran: a fresh one took its place, and what was kept before is gone"
            ),
            Self::Replaced => {
                format!("{name} was replaced while regrow ran: it goes on with the file that is there now")
            }
        }
    }
}
