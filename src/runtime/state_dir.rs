//! The state directory: made, guarded, and held by one runtime at a time.
//!
//! | path | what |
//! |---|---|
//! | `lock` | held with `flock` while a runtime lives; says its pid. Never trusted without the lock |
//! | `regrow.sock` | the control socket |
//! | `w/SLUG/` | one folder per instance: its FIFOs, its notify socket, its own `state/` |
//! | `logs/SLUG.log` | output of an instance; `.1` … are older, `.idx` says when which part was written |
//! | `logs/regrow.log` | the runtime's own log |
//! | `spawned` | the spawn record: which processes exist, so that the next runtime finds survivors, and everybody's last incarnation |
//! | `intents.json` | what operators stopped; lasts over restarts of the runtime |
//! | `added.json` | workers that were made of templates; they are there again after a restart |
//! | `state.db` | what happened and what came of it: events, totals; `-wal` and `-shm` belong to it |
//! | `samples.db` | what every instance was like in the last days |
//! | `archive/SLUG/DATE/` | states that were put away, by `state archive` or a reset; three of each instance |
//! | `archive/SLUG.identity` | which incarnation a removed worker had, for a later one of its name |
//! | `backups/DATE/` | copies that `regrow backup` made; nobody removes them |
//! | `state.db.corrupt-DATE` | one that was damaged; the newest three are kept |
//! | `tokens` | access tokens for HTTP, where a route needs them |

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::store::{Home as StoreHome, was_removed};
use crate::worker::process::shelter::takes_nothing;

use super::holder::{holder_of, take_lock};
use super::launch::StartError;

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
    /// The one that the store is in: that which it began with, as long as that is not removed.
    store: StoreHome,
    held: Mutex<Held>,
    remade: Mutex<Vec<OnRemade>>,
}

/// What became of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remade {
    /// It was removed and made again.
    Removed,
    /// It lives on under another name, and one was made in its place.
    Moved,
    /// The one that was there at the start is back.
    Back,
}

type OnRemade = Box<dyn Fn(Remade) + Send + Sync>;

/// A file or directory, whatever its name.
type Identity = (u64, u64);

#[derive(Default)]
struct Held {
    /// The directory, locked if it can be.
    dir: Option<File>,
    /// The file; none where a full or read-only disk had none and took none.
    lock: Option<File>,
    /// Both of directories that were moved away. What happens is still written down in there, so they stay ours, too.
    moved: Vec<(File, Option<File>)>,
}

impl Held {
    /// One that was moved away stands in its place again: it is the one that is held, and the other one goes where that
    /// was. False: it is none of ours.
    fn take_back(&mut self, found: Identity) -> io::Result<bool> {
        let is_it =
            |(dir, _): &(File, Option<File>)| dir.metadata().is_ok_and(|meta| identity(&meta) == found);
        let Some(at) = self.moved.iter().position(is_it) else { return Ok(false) };
        let (dir, lock) = self.moved.swap_remove(at);
        let (former, its_lock) = (self.dir.replace(dir), std::mem::replace(&mut self.lock, lock));
        if let Some(former) = former
            && !was_removed(&former)?
        {
            self.moved.push((former, its_lock));
        }
        Ok(true)
    }
}

/// What a look at the directory found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// It is ours, and whole.
    Ours,
    /// It had been removed or moved away, and was made again: nothing of what was in it is there.
    Remade,
    /// Something else stands in its place, or nothing can.
    NotOurs(&'static str),
    /// Another runtime that lives, of this pid, has what stands in its place.
    Taken(u32),
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
        let store = held.dir.as_ref().map_or_else(|| StoreHome::at(path), |dir| StoreHome::of(path, dir));
        let store = store.map_err(|source| StartError::StateDir { state_dir: path.to_owned(), source })?;
        let (held, remade) = (Mutex::new(held), Mutex::default());
        Ok(Self { path: path.to_owned(), shared, store, held, remade })
    }

    /// Where the store is.
    pub(crate) fn home(&self) -> &StoreHome {
        &self.store
    }

    /// Gives it back.
    pub(crate) fn release(&self) {
        *lock(&self.held) = Held::default();
    }

    /// Calls this whenever the directory was made again.
    pub(crate) fn when_remade(&self, then: OnRemade) {
        lock(&self.remade).push(then);
    }

    /// Looks at the directory, and makes again what somebody has removed: the lock, the folders, all of it. One that was
    /// moved away is made again as well: whoever starts a runtime on the path must meet us there.
    ///
    /// # Errors
    /// The system's: what is missing cannot be made.
    pub(crate) fn heal(&self) -> io::Result<Home> {
        let mut held = lock(&self.held);
        let Some(dir) = &held.dir else { return Ok(Home::NotOurs("the runtime is ending")) };
        let (ours, removed) = (identity(&dir.metadata()?), was_removed(dir)?);
        match fs::symlink_metadata(&self.path) {
            Ok(found) if identity(&found) == ours => {
                if !self.store.settle() {
                    self.store_follows(&held);
                }
                make_folders(&self.path, self.shared)?;
                return self.heal_lock(&mut held);
            }
            Ok(found) => {
                if !held.take_back(identity(&found))? {
                    return Ok(self.others());
                }
                make_folders(&self.path, self.shared)?;
                let home = self.heal_lock(&mut held)?;
                let is_of_store = self.store_follows(&held);
                drop(held);
                tracing::warn!(dir = %self.path.display(), "a state directory that was moved away is back");
                self.tell(if is_of_store { Remade::Back } else { Remade::Moved });
                return Ok(if home == Home::Ours { Home::Remade } else { home });
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            // Nobody starts a runtime where there is no folder, and who has renamed that does not want it back.
            Err(_) if !removed && !has_folder(&self.path) => {
                return Ok(Home::NotOurs("the folder of the state directory was moved away"));
            }
            Err(_) => {}
        }
        let fresh = match hold(&self.path, self.shared) {
            Ok(fresh) => fresh,
            Err(StartError::Busy { .. }) => return Ok(self.others()),
            Err(error) => return Err(io::Error::other(error.to_string())),
        };
        let former = std::mem::replace(&mut *held, fresh);
        held.moved = former.moved;
        if !removed {
            held.moved.extend(former.dir.map(|dir| (dir, former.lock)));
        }
        self.store_follows(&held);
        drop(held);
        tracing::warn!(dir = %self.path.display(), "the state directory had been removed or moved away, and was made again");
        self.tell(if removed { Remade::Removed } else { Remade::Moved });
        Ok(Home::Remade)
    }

    /// The store goes on in the one that is held once its own is removed. True: it is in there. Where no handle is free
    /// for that, the next look tries again.
    fn store_follows(&self, held: &Held) -> bool {
        let Some(dir) = &held.dir else { return false };
        if let Err(error) = self.store.follow(dir) {
            tracing::warn!(%error, "the store does not know of the state directory that was made again yet");
        }
        self.store.settle() && rustix::fs::fstat(dir).is_ok_and(|found| self.store.is(&found))
    }

    fn tell(&self, what: Remade) {
        lock(&self.remade).iter().for_each(|then| then(what));
    }

    /// What is found where something else stands in its place.
    fn others(&self) -> Home {
        let nobodys = Home::NotOurs("something else stands in the place of the state directory");
        holder_of(&self.path).map_or(nobodys, Home::Taken)
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
    Ok(Held { dir: Some(dir), lock, moved: Vec::new() })
}

/// Whether the folder is there in which it stands.
fn has_folder(path: &Path) -> bool {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    above.unwrap_or(Path::new(".")).is_dir()
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
#[path = "state_dir_tests.rs"]
mod tests;
