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
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::worker::process::shelter::takes_nothing;
use crate::worker::unix::{pidfd_open, poll_ended};

use super::launch::StartError;

/// A runtime that was killed can leave a child behind that has not reached its program yet, and holds the lock until
/// it has: some microseconds, longer on a loaded machine. This long the lock of a dead holder is waited for.
const DEAD_HOLDER_PATIENCE: Duration = Duration::from_secs(2);
/// One that was killed a moment ago counts among the living until the kernel has taken it apart.
const DYING_HOLDER_PATIENCE: Duration = Duration::from_millis(300);
const DEAD_HOLDER_PAUSE: Duration = Duration::from_millis(2);

/// Other users who pass through the state directory, on the way to what is theirs. They see nothing of the rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Passers {
    /// Workers, to their own directories.
    pub(crate) workers: bool,
    /// The group of the control socket.
    pub(crate) clients: bool,
}

/// The right to use a state directory; given back on release or drop.
///
/// Two locks hold it: one on the directory itself, which nobody can take away without taking all of it away, and one
/// on the file in it, which says whose it is and stands where a directory cannot be locked (NFS).
pub(crate) struct StateDir {
    path: PathBuf,
    shared: Passers,
    held: Mutex<Held>,
    remade: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
}

/// A file or directory, whatever its name.
type Identity = (u64, u64);

#[derive(Default)]
struct Held {
    /// The directory, locked if it can be.
    dir: Option<File>,
    /// The file; none where a full or read-only disk had none and took none.
    lock: Option<File>,
}

/// What a look at the directory found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// It is ours, and whole.
    Ours,
    /// It had been removed and was made again: nothing of what was in it is there.
    Remade,
    /// It was moved away, or somebody else has it.
    NotOurs(&'static str),
}

impl StateDir {
    /// Makes the directory if it is not there, checks that it is ours, and takes the locks. `shared`: who else
    /// passes through it. A directory that is full or read-only is taken as it
    /// is: who was killed on it must come back on it.
    ///
    /// # Errors
    /// [`StartError::Busy`] names the runtime that holds it; [`StartError::StateDir`] says what is wrong with it.
    pub(crate) fn take(path: &Path, shared: Passers) -> Result<Self, StartError> {
        let held = hold(path, shared)?;
        Ok(Self { path: path.to_owned(), shared, held: Mutex::new(held), remade: Mutex::default() })
    }

    /// Gives it back.
    pub(crate) fn release(&self) {
        *lock(&self.held) = Held::default();
    }

    /// Calls this whenever the directory was made again.
    pub(crate) fn when_remade(&self, then: Box<dyn Fn() + Send + Sync>) {
        lock(&self.remade).push(then);
    }

    /// Looks at the directory, and makes again what somebody has removed: the lock, the folders, all of it.
    ///
    /// # Errors
    /// The system's: what is missing cannot be made.
    pub(crate) fn heal(&self) -> io::Result<Home> {
        let mut held = lock(&self.held);
        let Some(dir) = &held.dir else { return Ok(Home::NotOurs("the runtime is ending")) };
        let (ours, removed) = (identity(&dir.metadata()?), was_removed(dir)?);
        match fs::symlink_metadata(&self.path) {
            Ok(found) if identity(&found) == ours => {
                make_folders(&self.path, self.shared)?;
                return self.heal_lock(&mut held);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && removed => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(_) | Err(_) => return Ok(Home::NotOurs("the state directory was moved away or removed")),
        }
        *held = match hold(&self.path, self.shared) {
            Ok(held) => held,
            Err(StartError::Busy { .. }) => {
                return Ok(Home::NotOurs("the state directory belongs to another runtime"));
            }
            Err(error) => return Err(io::Error::other(error.to_string())),
        };
        drop(held);
        tracing::warn!(dir = %self.path.display(), "the state directory had been removed and was made again");
        lock(&self.remade).iter().for_each(|then| then());
        Ok(Home::Remade)
    }

    /// A lock file that is missing is made again, and one that nobody holds is taken: the directory's own lock has kept
    /// others out meanwhile.
    fn heal_lock(&self, held: &mut Held) -> io::Result<Home> {
        let path = self.path.join("lock");
        if held.lock.as_ref().is_some_and(|lock| stands(lock, &path)) {
            return Ok(Home::Ours);
        }
        let file = match lock_file(&path) {
            Ok(file) => file,
            Err(error) if takes_nothing(&error) => return Ok(Home::Ours),
            Err(error) => return Err(error),
        };
        if file.try_lock().is_err() {
            return Ok(Home::NotOurs("the state directory's lock belongs to another runtime"));
        }
        write_pid(&file)?;
        held.lock = Some(file);
        tracing::warn!("the state directory's lock had been removed and was made again");
        Ok(Home::Ours)
    }
}

impl std::fmt::Debug for StateDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateDir").field("path", &self.path).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn identity(meta: &fs::Metadata) -> Identity {
    (meta.dev(), meta.ino())
}

/// Whether this open file is what stands under the name.
fn stands(file: &File, path: &Path) -> bool {
    let there = fs::symlink_metadata(path).map(|meta| identity(&meta));
    file.metadata().is_ok_and(|meta| there.is_ok_and(|there| there == identity(&meta)))
}

/// Whether an open directory has no name any more.
fn was_removed(dir: &File) -> io::Result<bool> {
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;
    let name = fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    let nameless = name.is_ok_and(|name| name.as_os_str().as_bytes().ends_with(b" (deleted)"));
    Ok(nameless || dir.metadata()?.nlink() == 0)
}

fn hold(path: &Path, shared: Passers) -> Result<Held, StartError> {
    let wrap = |source| StartError::StateDir { state_dir: path.to_owned(), source };
    make_private(path, passable(shared.workers || shared.clients)).map_err(wrap)?;
    make_folders(path, shared).map_err(wrap)?;
    let dir = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(path)
        .map_err(wrap)?;
    let lock_path = path.join("lock");
    let busy = |pid| StartError::Busy { state_dir: path.to_owned(), pid };
    // Left out where the file system has no locks of directories.
    let by_dir = match take_lock(&dir, &lock_path) {
        Ok(Ok(())) => None,
        Ok(Err(pid)) => return Err(busy(pid)),
        Err(error) => Some(error),
    };
    let lock = match (lock_file(&lock_path), by_dir) {
        (Ok(lock), _) => Some(lock),
        (Err(error), None) if takes_nothing(&error) => None,
        (Err(error), _) => return Err(wrap(error)),
    };
    if let Some(lock) = &lock {
        take_lock(lock, &lock_path).map_err(wrap)?.map_err(busy)?;
        write_pid(lock).map_err(wrap)?;
    }
    Ok(Held { dir: Some(dir), lock })
}

/// Takes a lock; the inner error is the pid of who has it and lives.
fn take_lock(file: &File, pid_file: &Path) -> io::Result<Result<(), u32>> {
    let begin = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Ok(())),
            Err(fs::TryLockError::WouldBlock) => {
                let pid = holder(pid_file);
                let patience = if lives(pid) { DYING_HOLDER_PATIENCE } else { DEAD_HOLDER_PATIENCE };
                if begin.elapsed() >= patience {
                    return Ok(Err(locked_by(file).unwrap_or(pid)));
                }
                std::thread::sleep(DEAD_HOLDER_PAUSE);
            }
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
    }
}

fn passable(by_others: bool) -> u32 {
    if by_others { 0o711 } else { 0o700 }
}

fn make_folders(path: &Path, shared: Passers) -> io::Result<()> {
    for (below, mode) in [("w", passable(shared.workers)), ("logs", 0o700)] {
        match make_private(&path.join(below), mode) {
            // Whoever needs it finds room elsewhere, or says that there is none.
            Err(error) if takes_nothing(&error) => {}
            other => other?,
        }
    }
    Ok(())
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
    let own = rustix::process::geteuid().as_raw();
    if meta.uid() != own {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{} belongs to uid {}, who could change everything in it, and regrow runs as uid {own}: \
                 `chown -R {own}` it if what is in it can be trusted, or name another runtime.state_dir",
                path.display(),
                meta.uid()
            ),
        ));
    }
    if meta.permissions().mode() & 0o077 != mode & 0o077 {
        match fs::set_permissions(path, fs::Permissions::from_mode(mode)) {
            Err(error) if takes_nothing(&error) => {}
            other => other?,
        }
    }
    Ok(())
}

/// On a read-only disk the file is there, or there is none.
fn lock_file(path: &Path) -> io::Result<File> {
    match open_lock(OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600), path)
    {
        Err(error) if takes_nothing(&error) && path.symlink_metadata().is_ok() => {
            open_lock(OpenOptions::new().read(true), path)
        }
        other => other,
    }
}

fn open_lock(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.custom_flags(libc::O_NOFOLLOW).open(path)?;
    if !file.metadata()?.is_file() || file.metadata()?.nlink() > 1 {
        return Err(io::Error::other(format!("{} is not a plain file", path.display())));
    }
    Ok(file)
}

/// The runtime that has locked this file, as far as the system tells: on a disk that takes nothing the pid in the file
/// is an earlier one's.
pub(crate) fn locked_by(file: &File) -> Option<u32> {
    let meta = file.metadata().ok()?;
    let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", meta.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    // `1: FLOCK  ADVISORY  WRITE 4711 00:2d:815 0 EOF`; who waits has an arrow before that.
    let pids = locks.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let is_lock = words.next() == Some("FLOCK");
        let pid = words.nth(2)?.parse().ok()?;
        (is_lock && words.next() == Some(place.as_str())).then_some(pid)
    });
    pids.into_iter().find(|pid| *pid != 0 && lives(*pid))
}

/// The pid that the lock's holder wrote; 0 if it has not come to that yet.
fn holder(path: &Path) -> u32 {
    let mut text = String::new();
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path);
    let read = opened.and_then(|file| file.take(32).read_to_string(&mut text));
    read.ok().and_then(|_| text.trim().parse().ok()).unwrap_or(0)
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

/// The pid is for people only. A disk that takes nothing must not hinder a start, so a pid that cannot be written is
/// left out.
fn write_pid(mut lock: &File) -> io::Result<()> {
    let mut write = || {
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())
    };
    match write() {
        Err(error) if takes_nothing(&error) => Ok(()),
        // Opened to read, on a read-only disk.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EBADF)) => Ok(()),
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
        let first = StateDir::take(&path, Passers::default()).unwrap();
        let second = StateDir::take(&path, Passers::default()).unwrap_err();
        assert!(matches!(second, StartError::Busy { pid, .. } if pid == std::process::id()), "{second}");
        drop(first);
        let _third = StateDir::take(&path, Passers::default()).unwrap();
    }

    #[test]
    fn what_a_killed_runtime_left_behind_for_a_moment_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let first = StateDir::take(dir.path(), Passers::default()).unwrap();
        fs::write(dir.path().join("lock"), format!("{}\n", ended.id())).unwrap();
        let path = dir.path().to_owned();
        let (waiting, waits) = std::sync::mpsc::channel();
        let second = std::thread::spawn(move || {
            waiting.send(()).unwrap();
            StateDir::take(&path, Passers::default())
        });
        waits.recv().unwrap();
        // Long enough to meet the lock held, and far below the patience.
        std::thread::park_timeout(Duration::from_millis(50));
        drop(first);
        let _second = second.join().unwrap().unwrap();
    }

    #[test]
    fn where_the_pid_in_the_file_is_not_the_holders_the_holder_is_named_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::take(dir.path(), Passers::default()).unwrap();
        // As on a disk that is read-only since: what is written there is a stranger's by now.
        let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(dir.path().join("lock"), format!("{}\n", stranger.id())).unwrap();
        let second = StateDir::take(dir.path(), Passers::default()).unwrap_err();
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        assert!(matches!(second, StartError::Busy { pid, .. } if pid == std::process::id()), "{second}");
        drop(first);
    }

    #[test]
    fn a_left_over_lock_file_is_no_hindrance() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("lock"), "1\n").unwrap();
        let _taken = StateDir::take(dir.path(), Passers::default()).unwrap();
        let text = fs::read_to_string(dir.path().join("lock")).unwrap();
        assert_eq!(text.trim(), std::process::id().to_string());
    }

    #[test]
    fn others_cannot_look_inside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let _taken = StateDir::take(&path, Passers::default()).unwrap();
        for below in [path.clone(), path.join("w"), path.join("logs")] {
            assert_eq!(fs::metadata(below).unwrap().permissions().mode() & 0o077, 0);
        }
    }

    #[test]
    fn workers_of_other_users_pass_through_and_see_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        drop(StateDir::take(dir.path(), Passers { workers: true, clients: false }).unwrap());
        assert_eq!((mode(dir.path()), mode(&dir.path().join("w"))), (0o711, 0o711));
        assert_eq!(mode(&dir.path().join("logs")), 0o700);
        drop(StateDir::take(dir.path(), Passers::default()).unwrap());
        assert_eq!((mode(dir.path()), mode(&dir.path().join("w"))), (0o700, 0o700), "and back");
        drop(StateDir::take(dir.path(), Passers { workers: false, clients: true }).unwrap());
        assert_eq!((mode(dir.path()), mode(&dir.path().join("w"))), (0o711, 0o700), "to the socket only");
    }

    #[test]
    fn what_somebody_removes_is_made_again_and_stays_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let first = StateDir::take(&path, Passers::default()).unwrap();
        assert_eq!(first.heal().unwrap(), Home::Ours);
        for below in ["lock", "logs", "w"] {
            let gone = path.join(below);
            if gone.is_dir() {
                fs::remove_dir(&gone).unwrap()
            } else {
                fs::remove_file(&gone).unwrap()
            }
            let second = StateDir::take(&path, Passers::default());
            assert!(matches!(second, Err(StartError::Busy { .. })), "without {below}: {second:?}");
            assert_eq!(first.heal().unwrap(), Home::Ours);
            assert!(gone.exists(), "{below}");
        }
        fs::remove_dir_all(&path).unwrap();
        assert_eq!(first.heal().unwrap(), Home::Remade);
        let second = StateDir::take(&path, Passers::default()).unwrap_err();
        assert!(matches!(second, StartError::Busy { pid, .. } if pid == std::process::id()), "{second}");
        fs::rename(&path, dir.path().join("moved")).unwrap();
        assert!(matches!(first.heal().unwrap(), Home::NotOurs(_)), "moved on purpose");
        first.release();
        let _third = StateDir::take(&dir.path().join("moved"), Passers::default()).unwrap();
    }

    #[test]
    fn a_link_in_place_of_a_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/tmp", dir.path().join("w")).unwrap();
        assert!(matches!(StateDir::take(dir.path(), Passers::default()), Err(StartError::StateDir { .. })));
    }
}
