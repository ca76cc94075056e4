//! The state directory: made, guarded, and held by one runtime at a time.
//!
//! | path | what |
//! |---|---|
//! | `lock` | held with `flock` while a runtime lives; says its pid. Never trusted without the lock |
//! | `regrow.sock` | the control socket |
//! | `w/SLUG/` | one folder per instance: its FIFOs, its notify socket, its own `state/` |
//! | `logs/SLUG.log` | output of an instance; `.1` … are older, `.idx` says when which part was written |
//! | `logs/regrow.log` | the runtime's own log |
//! | `spawned` | the spawn record: which processes exist, so that the next runtime finds survivors |
//! | `intents.json` | what operators stopped; lasts over restarts of the runtime |
//! | `added.json` | workers that were made of templates; they are there again after a restart |
//! | `state.db` | what happened and what came of it: events, totals; `-wal` and `-shm` belong to it |
//! | `samples.db` | what every instance was like in the last days |
//! | `archive/SLUG/DATE/` | states that were put away, by `state archive` or a reset; three of each instance |
//! | `backups/DATE/` | copies that `regrow backup` made; nobody removes them |
//! | `state.db.corrupt-DATE` | one that was damaged; the newest three are kept |
//! | `tokens` | access tokens for HTTP, where a route needs them |

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::worker::unix::{pidfd_open, poll_ended};

use super::launch::StartError;

/// A runtime that was killed can leave a child behind that has not reached its program yet, and holds the lock until
/// it has: some microseconds, longer on a loaded machine. This long the lock of a dead holder is waited for.
const DEAD_HOLDER_PATIENCE: Duration = Duration::from_secs(2);
const DEAD_HOLDER_PAUSE: Duration = Duration::from_millis(2);

/// The right to use a state directory; given back on drop.
#[derive(Debug)]
pub(crate) struct StateDir {
    _lock: File,
}

impl StateDir {
    /// Makes the directory if it is not there, checks that it is ours, and takes the lock. `shared`: workers of other
    /// users pass through it on the way to their own directories.
    ///
    /// # Errors
    /// [`StartError::Busy`] names the runtime that holds it; [`StartError::StateDir`] says what is wrong with it.
    pub(crate) fn take(path: &Path, shared: bool) -> Result<Self, StartError> {
        let wrap = |source| StartError::StateDir { state_dir: path.to_owned(), source };
        let passable = if shared { 0o711 } else { 0o700 };
        make_private(path, passable).map_err(wrap)?;
        for (below, mode) in [("w", passable), ("logs", 0o700)] {
            make_private(&path.join(below), mode).map_err(wrap)?;
        }
        let mut lock = open_lock(&path.join("lock")).map_err(wrap)?;
        let end = Instant::now() + DEAD_HOLDER_PATIENCE;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(fs::TryLockError::WouldBlock) => {
                    let pid = holder(&mut lock).map_err(wrap)?;
                    if lives(pid) || Instant::now() >= end {
                        return Err(StartError::Busy { state_dir: path.to_owned(), pid });
                    }
                    std::thread::sleep(DEAD_HOLDER_PAUSE);
                }
                Err(fs::TryLockError::Error(source)) => return Err(wrap(source)),
            }
        }
        write_pid(&mut lock).map_err(wrap)?;
        Ok(Self { _lock: lock })
    }
}

/// Makes a directory with this mode whatever the umask, or checks one that is there.
fn make_private(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let meta = fs::symlink_metadata(path)?;
    if !meta.is_dir() {
        return Err(io::Error::other(format!(
            "{} is not a directory (links are not followed)",
            path.display()
        )));
    }
    if meta.permissions().mode() & 0o077 != mode & 0o077 {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn open_lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    if !file.metadata()?.is_file() || file.metadata()?.nlink() > 1 {
        return Err(io::Error::other(format!("{} is not a plain file", path.display())));
    }
    Ok(file)
}

/// The pid that the lock's holder wrote; 0 if it has not come to that yet.
fn holder(lock: &mut File) -> io::Result<u32> {
    lock.rewind()?;
    let mut text = String::new();
    let read = lock.take(32).read_to_string(&mut text);
    Ok(read.ok().and_then(|_| text.trim().parse().ok()).unwrap_or(0))
}

/// Whether a process of this number lives. Not known is alive: the lock says so too. A holder that has not written
/// its number yet is a runtime that starts.
fn lives(pid: u32) -> bool {
    if pid == 0 {
        return true;
    }
    match pidfd_open(pid) {
        Ok(process) => !poll_ended(&process),
        Err(error) => error.raw_os_error() != Some(libc::ESRCH),
    }
}

/// The pid is for people only. A full disk must not hinder a start, so a pid that does not fit is left out.
fn write_pid(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    match writeln!(lock, "{}", std::process::id()) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_runtime_is_refused_and_told_the_first_ones_pid() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let first = StateDir::take(&path, false).unwrap();
        let second = StateDir::take(&path, false).unwrap_err();
        assert!(matches!(second, StartError::Busy { pid, .. } if pid == std::process::id()), "{second}");
        drop(first);
        let _third = StateDir::take(&path, false).unwrap();
    }

    #[test]
    fn what_a_killed_runtime_left_behind_for_a_moment_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let first = StateDir::take(dir.path(), false).unwrap();
        fs::write(dir.path().join("lock"), format!("{}\n", ended.id())).unwrap();
        let path = dir.path().to_owned();
        let (waiting, waits) = std::sync::mpsc::channel();
        let second = std::thread::spawn(move || {
            waiting.send(()).unwrap();
            StateDir::take(&path, false)
        });
        waits.recv().unwrap();
        // Long enough to meet the lock held, and far below the patience.
        std::thread::park_timeout(Duration::from_millis(50));
        drop(first);
        let _second = second.join().unwrap().unwrap();
    }

    #[test]
    fn a_left_over_lock_file_is_no_hindrance() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("lock"), "1\n").unwrap();
        let _taken = StateDir::take(dir.path(), false).unwrap();
        let text = fs::read_to_string(dir.path().join("lock")).unwrap();
        assert_eq!(text.trim(), std::process::id().to_string());
    }

    #[test]
    fn others_cannot_look_inside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let _taken = StateDir::take(&path, false).unwrap();
        for below in [path.clone(), path.join("w"), path.join("logs")] {
            assert_eq!(fs::metadata(below).unwrap().permissions().mode() & 0o077, 0);
        }
    }

    #[test]
    fn workers_of_other_users_pass_through_and_see_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        drop(StateDir::take(dir.path(), true).unwrap());
        assert_eq!((mode(dir.path()), mode(&dir.path().join("w"))), (0o711, 0o711));
        assert_eq!(mode(&dir.path().join("logs")), 0o700);
        drop(StateDir::take(dir.path(), false).unwrap());
        assert_eq!((mode(dir.path()), mode(&dir.path().join("w"))), (0o700, 0o700), "and back");
    }

    #[test]
    fn a_link_in_place_of_a_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/tmp", dir.path().join("w")).unwrap();
        assert!(matches!(StateDir::take(dir.path(), false), Err(StartError::StateDir { .. })));
    }
}
