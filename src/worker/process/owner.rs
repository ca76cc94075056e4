//! Who has written a spawn record, and for which directory: state directories are copied, and their records with them.
//!
//! A copy names processes that live, but they are the workers of whoever wrote it, and nobody's survivors as long as that
//! runtime lives. So a record is somebody else's if a runtime that lives has written it in another directory. Where the
//! writer has died it counts wherever it is, since a directory may have been moved or brought back: what is ended once too
//! often is started again, and what runs twice is not.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::worker::unix::{pidfd_open, pidfs_inode, poll_ended};

use super::tree::stat;

/// Begins the line. No instance is called like this, so whoever does not know of it passes it over.
const BY: &str = "# by ";

/// A runtime and the directory of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pid: u32,
    /// The pidfs inode, 0 if the kernel has none.
    inode: u64,
    /// When it started, in ticks since the boot.
    started: u64,
    /// The directory's device and inode.
    dir: (u64, u64),
}

impl Owner {
    /// This process with a record of this path; `None`: its directory cannot be looked at.
    pub(super) fn of(record: &Path) -> Option<Self> {
        let pid = std::process::id();
        let inode = pidfd_open(pid).ok().and_then(|own| pidfs_inode(&own)).unwrap_or(0);
        Some(Self { pid, inode, started: stat(pid)?.started, dir: dir_of(record)? })
    }

    /// As it stands in the record.
    pub(super) fn line(&self) -> String {
        let Self { pid, inode, started, dir: (device, number) } = self;
        format!("{BY}{pid} {inode} {started} {device} {number}\n")
    }

    /// The same, read.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.strip_prefix(BY)?.split(' ').map(|word| word.parse::<u64>().ok());
        let mut next = || numbers.next().flatten();
        let pid = u32::try_from(next()?).ok().filter(|pid| *pid > 0)?;
        Some(Self { pid, inode: next()?, started: next()?, dir: (next()?, next()?) })
    }

    /// The writer's pid, if it lives and has written this record in another directory.
    pub(super) fn elsewhere(&self, record: &Path) -> Option<u32> {
        let moved = dir_of(record).is_some_and(|dir| dir != self.dir);
        (moved && self.lives()).then_some(self.pid)
    }

    fn lives(&self) -> bool {
        self.is(self.pid)
    }

    /// Whether it lives and is the process with this pid, which alone proves nothing: it may be a stranger's by now.
    pub(super) fn is(&self, pid: u32) -> bool {
        let Ok(process) = pidfd_open(pid) else { return false };
        let is_it = match (self.inode, pidfs_inode(&process)) {
            (recorded, Some(inode)) if recorded != 0 => recorded == inode,
            _ => pid == self.pid && stat(pid).is_some_and(|stat| stat.started == self.started),
        };
        // Opened first, looked at then.
        is_it && !poll_ended(&process)
    }
}

fn dir_of(record: &Path) -> Option<(u64, u64)> {
    let meta = record.parent()?.metadata().ok()?;
    Some((meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let own = Owner::of(&dir.path().join("spawned")).unwrap();
        assert_eq!(Owner::parse(own.line().trim_end()), Some(own));
        for line in ["web 3 4711 99", "# by 1 2 3 4", "# by 0 2 3 4 5", "# by x 2 3 4 5", ""] {
            assert_eq!(Owner::parse(line), None, "{line}");
        }
    }

    #[test]
    fn only_a_writer_that_lives_and_wrote_elsewhere_keeps_others_away() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (own, copy) = (here.path().join("spawned"), there.path().join("spawned"));
        let owner = Owner::of(&own).unwrap();
        assert_eq!(owner.elsewhere(&own), None, "its own directory");
        assert_eq!(owner.elsewhere(&copy), Some(std::process::id()));
        let later = |inode| Owner { inode, started: owner.started + 1, ..owner };
        assert_eq!(later(0).elsewhere(&copy), None, "the pid is another process's by now");
        assert_eq!(later(owner.inode + 1).elsewhere(&copy), None, "the same by its inode");
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        let of_dead = Owner { pid: ended.id(), ..owner };
        ended.wait().unwrap();
        assert_eq!(of_dead.elsewhere(&copy), None, "it has ended");
    }
}
