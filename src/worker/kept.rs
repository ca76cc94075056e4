//! A worker's own state directory, put away and brought back.
//!
//! What is put away lies below the runtime's state directory and belongs to the runtime, out of the worker's reach; a
//! rename moves it there and back as it is, with its owners, and follows no link. The worker must be down meanwhile,
//! which the caller sees to; a start that comes after that makes the move void, and one that comes in the middle of it
//! waits.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rustix::fs::{Gid, Uid};

use super::runner::Sights;

/// Archives of one instance; the oldest go first.
const KEPT: usize = 3;

/// In the name of what an identity left that is over, before its number.
const OF_IDENTITY: &str = "-identity-";

/// How often a state was brought back or put away in this process: what is remembered of a directory is void then.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// The number of changes until now.
pub(crate) fn changes() -> u64 {
    CHANGES.load(Ordering::Acquire)
}

/// Moves that are wished for. Nearly always none.
static MOVES: Mutex<Vec<Arc<Wished>>> = Mutex::new(Vec::new());

/// Void, once a start has been in between; locked while the directory is being moved.
struct Wished {
    /// As it was named, and as it is without links.
    state: [PathBuf; 2],
    void: Mutex<bool>,
}

/// A worker is about to run with this state: whoever wanted to move it does not any more. Waits for a move that is under
/// way.
pub(crate) fn stay(state: &Path) {
    for wished in wishes_for(state) {
        *lock(&wished.void) = true;
    }
}

/// The same for who must not wait for a disk.
pub(crate) fn stay_if_possible(state: &Path) {
    for wished in wishes_for(state) {
        if let Ok(mut void) = wished.void.try_lock() {
            *void = true;
        }
    }
}

fn wishes_for(state: &Path) -> Vec<Arc<Wished>> {
    lock(&MOVES).iter().filter(|wished| wished.state.iter().any(|one| one == state)).cloned().collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The wish to move the state of a worker that is down. Void once it was started.
pub(crate) struct Move {
    room: StateRoom,
    wished: Arc<Wished>,
}

impl Drop for Move {
    fn drop(&mut self) {
        lock(&MOVES).retain(|wished| !Arc::ptr_eq(wished, &self.wished));
    }
}

/// The state of one instance, and what was put away of it.
#[derive(Debug, Clone)]
pub struct StateRoom {
    state: PathBuf,
    archive: PathBuf,
    /// Which identity it is of, beside what was put away and out of the worker's reach.
    identity: PathBuf,
}

/// How large a state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateSize {
    /// Plain files.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
}

impl StateRoom {
    /// Of the instance with this slug.
    #[must_use]
    pub fn new(state_dir: &Path, slug: &str) -> Self {
        let archive = state_dir.join("archive").join(slug);
        Self::with(state_dir.join("w").join(slug).join("state"), archive)
    }

    /// A slug has no dot, so that the file is no instance's.
    fn with(state: PathBuf, archive: PathBuf) -> Self {
        Self { state, identity: archive.with_extension("identity"), archive }
    }

    /// Of the instance whose state is at `STATE_DIR/w/SLUG/state`.
    ///
    /// # Errors
    /// No instance's state stands there.
    pub(crate) fn at(state: &Path) -> io::Result<Self> {
        let own = state.parent();
        let base = own.and_then(Path::parent).and_then(Path::parent);
        match (own.and_then(Path::file_name), base) {
            (Some(slug), Some(base)) => Ok(Self::with(state.to_owned(), base.join("archive").join(slug))),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{} is no worker's", state.display()),
            )),
        }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.state
    }

    /// Which identity this is: 1, and one more each time it was recreated.
    ///
    /// # Errors
    /// What was written down of it cannot be read.
    pub fn identity(&self) -> io::Result<u64> {
        match fs::read_to_string(&self.identity) {
            Ok(text) => text.trim().parse().map_err(|_| {
                let text = format!(
                    "{} holds no number; remove it, and counting begins anew",
                    self.identity.display()
                );
                io::Error::new(io::ErrorKind::InvalidData, text)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(1),
            Err(error) => Err(error),
        }
    }

    /// Written down so that a power cut leaves the one before or this one.
    fn begin_identity(&self, number: u64) -> io::Result<()> {
        let fresh = self.identity.with_extension("identity-new");
        fs::write(&fresh, format!("{number}\n"))?;
        File::open(&fresh)?.sync_all()?;
        fs::rename(&fresh, &self.identity)?;
        match self.identity.parent() {
            Some(above) => File::open(above)?.sync_all(),
            None => Ok(()),
        }
    }

    /// What is in it now.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn size(&self) -> io::Result<StateSize> {
        let mut size = StateSize::default();
        if self.state.is_dir() {
            add_up(&self.state, &mut size)?;
        }
        Ok(size)
    }

    /// Whether nothing at all is in it: a lock that is an empty directory, a link or a socket is state, too.
    fn is_empty(&self) -> io::Result<bool> {
        match fs::read_dir(&self.state) {
            Ok(mut entries) => Ok(entries.next().transpose()?.is_none()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// What was put away, the newest first, by the date of it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn archives(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.archive) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        names.reverse();
        Ok(names)
    }

    /// Puts the state away; the next start finds none. Three archives are kept. `None`: there was nothing.
    ///
    /// # Errors
    /// The disk refuses it; nothing was changed.
    pub fn archive(&self) -> io::Result<Option<String>> {
        self.wish().archive(|| true)
    }

    /// Brings back the newest archive of this identity, or the one of this name, of whichever it is; what is there now is
    /// put away instead.
    ///
    /// # Errors
    /// There is no such archive, or the disk refuses it.
    pub fn restore(&self, name: Option<&str>) -> io::Result<String> {
        self.wish().restore(name, || true)
    }

    /// From now on a start of the worker makes the move void.
    pub(crate) fn wish(&self) -> Move {
        let plain = self.state.canonicalize().unwrap_or_else(|_| self.state.clone());
        let wished = Arc::new(Wished { state: [self.state.clone(), plain], void: Mutex::new(false) });
        lock(&MOVES).push(Arc::clone(&wished));
        Move { room: self.clone(), wished }
    }

    /// Puts it away, with a fresh one of the same owner in its place: a worker's directories are made once.
    fn away(&self, name: &str) -> io::Result<()> {
        let before = fs::symlink_metadata(&self.state)?;
        fs::rename(&self.state, self.archive.join(name))?;
        DirBuilder::new().mode(0o700).create(&self.state)?;
        // Its owner may exchange it at any time: what is given away is what was opened, and no link.
        let fresh = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
            .open(&self.state)?;
        let (uid, gid) = (Uid::from_raw(before.uid()), Gid::from_raw(before.gid()));
        rustix::fs::fchown(&fresh, Some(uid), Some(gid))?;
        self.settle()
    }

    /// Both renames must outlive a power cut.
    fn settle(&self) -> io::Result<()> {
        CHANGES.fetch_add(1, Ordering::AcqRel);
        if let Some(above) = self.state.parent() {
            File::open(above)?.sync_all()?;
        }
        File::open(&self.archive)?.sync_all()
    }

    /// Forgets the oldest archives. What was done before is done, whatever comes of this.
    fn forget_old(&self) {
        let forget = || {
            for old in self.archives()?.iter().skip(KEPT) {
                fs::remove_dir_all(self.archive.join(old))?;
            }
            Ok(())
        };
        let forgotten: io::Result<()> = forget();
        if let Err(error) = forgotten {
            tracing::warn!(%error, archive = %self.archive.display(), "an old archive cannot be removed");
        }
    }
}

impl Move {
    /// As [`StateRoom::archive`], if nobody has started the worker and it is still wanted then.
    ///
    /// # Errors
    /// The disk refuses it, or it is not wanted any more ([`io::ErrorKind::ResourceBusy`]); nothing was changed.
    pub(crate) fn archive(&self, wanted: impl Fn() -> bool) -> io::Result<Option<String>> {
        let room = &self.room;
        if room.is_empty()? {
            return Ok(None);
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&room.archive)?;
        let name = now();
        self.in_its_absence(wanted, || room.away(&name))?;
        room.forget_old();
        Ok(Some(name))
    }

    /// Puts it away, or begins another identity (`anew`); says what came of it.
    ///
    /// # Errors
    /// As with either.
    pub(crate) fn carry_out(&self, anew: bool, wanted: impl Fn() -> bool) -> io::Result<Sights> {
        if !anew {
            return self.archive(wanted).map(|_| Vec::new());
        }
        let (number, put_away) = self.recreate(wanted)?;
        let before = put_away.map_or_else(
            || "the one before left no state".to_owned(),
            |name| format!("the state of the one before was put away as {name}"),
        );
        Ok(vec![("identity", format!("identity {number} begins; {before}"))])
    }

    /// Puts it away as what an identity left that is over, and begins the next: its number, and the archive's name if there
    /// was anything.
    ///
    /// # Errors
    /// As with [`Self::archive`]; where the number cannot be written down, the state may be put away already.
    pub(crate) fn recreate(&self, wanted: impl Fn() -> bool) -> io::Result<(u64, Option<String>)> {
        let room = &self.room;
        let own = room.identity()?;
        DirBuilder::new().recursive(true).mode(0o700).create(&room.archive)?;
        let (next, name) = (own.saturating_add(1), format!("{}{OF_IDENTITY}{own}", now()));
        let kept = !room.is_empty()?;
        self.in_its_absence(wanted, || {
            if kept {
                room.away(&name)?;
            }
            room.begin_identity(next)
        })?;
        room.forget_old();
        Ok((next, kept.then_some(name)))
    }

    /// As [`StateRoom::restore`], under the same condition.
    ///
    /// # Errors
    /// There is no such archive, the disk refuses it, or it is not wanted any more.
    pub(crate) fn restore(&self, name: Option<&str>, wanted: impl Fn() -> bool) -> io::Result<String> {
        let room = &self.room;
        let all = room.archives()?;
        let found = match name {
            None => all.iter().find(|known| !known.contains(OF_IDENTITY)).cloned(),
            Some(name) => all.into_iter().find(|known| known == name),
        };
        let none = || {
            let text = match name {
                None => {
                    "nothing was put away of this identity, and what another one left is brought back by its name"
                }
                Some(_) => "there is no such archive",
            };
            io::Error::new(io::ErrorKind::NotFound, text)
        };
        let found = found.ok_or_else(none)?;
        let from = room.archive.join(&found);
        if !fs::symlink_metadata(&from)?.is_dir() {
            return Err(io::Error::other("what was put away is no directory"));
        }
        self.in_its_absence(wanted, || {
            // Not `archive`, which could forget the one that is wanted.
            if !room.is_empty()? {
                room.away(&now())?;
            }
            if room.state.exists() {
                // Nothing is left in it.
                fs::remove_dir(&room.state)?;
            }
            if let Some(above) = room.state.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(above)?;
            }
            fs::rename(&from, &room.state)?;
            room.settle()
        })?;
        Ok(found)
    }

    /// Moves something, unless it is too late for that; a start waits until it is done.
    fn in_its_absence(
        &self,
        wanted: impl Fn() -> bool,
        work: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let void = lock(&self.wished.void);
        if *void || !wanted() {
            let text = "the worker was started meanwhile, or it took too long; its state is where it was";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        work()
    }
}

fn now() -> String {
    Timestamp::now().strftime("%Y%m%dT%H%M%S%6fZ").to_string()
}

/// Links are counted as nothing and not followed.
fn add_up(dir: &Path, size: &mut StateSize) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_dir() {
            add_up(&entry.path(), size)?;
        } else if meta.is_file() {
            size.files += 1;
            size.bytes += meta.len();
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;
