//! A worker's own state directory, put away and brought back.
//!
//! What is put away lies below the runtime's state directory and belongs to the runtime, out of the worker's reach; a
//! rename moves it there and back as it is, with its owners, and follows no link. The worker must be down meanwhile,
//! which the caller sees to.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use rustix::fs::{Gid, Uid};

/// Archives of one instance; the oldest go first.
const KEPT: usize = 3;

/// How often a state was brought back or put away in this process: what is remembered of a directory is void then.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// The number of changes until now.
pub(crate) fn changes() -> u64 {
    CHANGES.load(Ordering::Acquire)
}

/// The state of one instance, and what was put away of it.
#[derive(Debug, Clone)]
pub struct StateRoom {
    state: PathBuf,
    archive: PathBuf,
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
        Self {
            state: state_dir.join("w").join(slug).join("state"),
            archive: state_dir.join("archive").join(slug),
        }
    }

    /// Of the instance whose state is at `STATE_DIR/w/SLUG/state`.
    ///
    /// # Errors
    /// No instance's state stands there.
    pub(crate) fn at(state: &Path) -> io::Result<Self> {
        let own = state.parent();
        let base = own.and_then(Path::parent).and_then(Path::parent);
        match (own.and_then(Path::file_name), base) {
            (Some(slug), Some(base)) => {
                Ok(Self { state: state.to_owned(), archive: base.join("archive").join(slug) })
            }
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
        if self.is_empty()? {
            return Ok(None);
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.archive)?;
        let name = Timestamp::now().strftime("%Y%m%dT%H%M%S%6fZ").to_string();
        self.away(&name)?;
        for old in self.archives()?.iter().skip(KEPT) {
            fs::remove_dir_all(self.archive.join(old))?;
        }
        Ok(Some(name))
    }

    /// Brings back the newest archive, or the one of this name; what is there now is put away instead.
    ///
    /// # Errors
    /// There is no such archive, or the disk refuses it.
    pub fn restore(&self, name: Option<&str>) -> io::Result<String> {
        let all = self.archives()?;
        let found = match name {
            None => all.first().cloned(),
            Some(name) => all.into_iter().find(|known| known == name),
        };
        let none = || io::Error::new(io::ErrorKind::NotFound, "there is no such archive");
        let found = found.ok_or_else(none)?;
        // Not `archive`, which could forget the one that is wanted.
        if !self.is_empty()? {
            self.away(&Timestamp::now().strftime("%Y%m%dT%H%M%S%6fZ").to_string())?;
        }
        if self.state.exists() {
            // Nothing is left in it.
            fs::remove_dir(&self.state)?;
        }
        let from = self.archive.join(&found);
        if !fs::symlink_metadata(&from)?.is_dir() {
            return Err(io::Error::other("what was put away is no directory"));
        }
        if let Some(above) = self.state.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(above)?;
        }
        fs::rename(&from, &self.state)?;
        self.settle()?;
        Ok(found)
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
mod tests {
    use super::*;

    fn room() -> (tempfile::TempDir, StateRoom) {
        let dir = tempfile::tempdir().unwrap();
        let room = StateRoom::new(dir.path(), "web-0");
        (dir, room)
    }

    fn write(room: &StateRoom, text: &str) {
        fs::create_dir_all(room.path()).unwrap();
        fs::write(room.path().join("file"), text).unwrap();
    }

    fn read(room: &StateRoom) -> String {
        fs::read_to_string(room.path().join("file")).unwrap_or_default()
    }

    #[test]
    fn what_was_put_away_comes_back_and_what_was_there_goes_in_its_place() {
        let (_dir, room) = room();
        assert_eq!((room.archive().unwrap(), room.archives().unwrap().len()), (None, 0));
        assert!(room.restore(None).is_err());
        write(&room, "one");
        let before = changes();
        let first = room.archive().unwrap().unwrap();
        assert!(changes() > before);
        assert_eq!((read(&room).as_str(), room.archives().unwrap()), ("", vec![first.clone()]));
        write(&room, "two");
        assert_eq!(room.size().unwrap(), StateSize { files: 1, bytes: 3 });
        assert_eq!(room.restore(None).unwrap(), first);
        assert_eq!(read(&room), "one");
        assert_eq!(room.restore(None).map(|_| read(&room)).unwrap(), "two");
        assert!(room.restore(Some("../../w")).is_err());
    }

    #[test]
    fn a_lock_that_is_a_directory_and_a_link_are_put_away_and_come_back() {
        let (_dir, room) = room();
        fs::create_dir_all(room.path().join("lock")).unwrap();
        let put = room.archive().unwrap();
        assert!(put.is_some() && !room.path().join("lock").exists());
        std::os::unix::fs::symlink("nowhere", room.path().join("link")).unwrap();
        assert_eq!(room.restore(None).unwrap(), put.unwrap());
        assert!(room.path().join("lock").is_dir());
        room.restore(None).unwrap();
        assert!(room.path().join("link").is_symlink());
    }

    #[test]
    fn three_are_kept() {
        let (_dir, room) = room();
        for round in 0..5 {
            write(&room, &round.to_string());
            room.archive().unwrap();
            assert_eq!(room.size().unwrap(), StateSize::default());
        }
        assert_eq!(room.archive().unwrap(), None, "nothing is there");
        assert_eq!(StateRoom::at(room.path()).unwrap().archives().unwrap(), room.archives().unwrap());
        let kept = room.archives().unwrap().into_iter().rev();
        let texts = kept.map(|name| fs::read_to_string(room.archive.join(name).join("file")).unwrap());
        assert_eq!(texts.collect::<Vec<_>>(), ["2", "3", "4"]);
        room.restore(None).unwrap();
        assert_eq!(read(&room), "4");
    }
}
