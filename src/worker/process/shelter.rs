//! Where FIFOs, sockets and the spawn record go while the state directory takes nothing: it is full or read-only.
//!
//! A runtime that was killed must be able to come back on a full disk, or its workers live on with nobody to mind
//! them. What it needs at once takes a few inodes, so it finds room in a directory of its own, in memory where that
//! can be had. Its name follows from the state directory's, so that the next runtime and the command line find it.
//!
//! Deliberately absent: the history, the logs and the wishes of operators. They belong to the state directory, and
//! are kept again once that takes them.

use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::layout::{key_of, shared_dir};

/// Where shelters are made: the first that takes one. Short, because sockets have short names.
const PLACES: [&str; 3] = ["/run", "/dev/shm", "/tmp"];

/// The file in a shelter that names the state directory it stands for.
const OWNER: &str = "state_dir";

/// Whether an error says that a file system takes nothing at all right now.
pub(crate) fn takes_nothing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::QuotaExceeded
    )
}

/// What a runtime itself makes at its start, in files: its record, its socket, its database and what comes with it.
const OWN_FILES: u64 = 8;

/// What an instance has in the state directory that was never started there: two folders, FIFOs, a socket, a log with
/// its index.
const FILES_EACH: u64 = 7;

/// What keeps a state directory from taking what a runtime and this many new instances need; `None`: nothing does.
///
/// # Errors
/// It cannot be used for another reason.
pub(crate) fn trouble(state_dir: &Path, new: u64) -> io::Result<Option<io::Error>> {
    match probe(state_dir).and_then(|()| room(state_dir, OWN_FILES + FILES_EACH * new)) {
        Ok(()) => Ok(None),
        Err(error) if takes_nothing(&error) => Ok(Some(error)),
        Err(error) => Err(error),
    }
}

/// Makes the shelter of a state directory, or finds the one that is there. `shared`: workers of other users pass
/// through it.
///
/// # Errors
/// Nowhere is any room.
pub(crate) fn seek(state_dir: &Path, shared: bool) -> io::Result<PathBuf> {
    let owner = rustix::process::geteuid().as_raw();
    let mut refused = None;
    for place in PLACES {
        let dir = Path::new(place).join(name_of(state_dir, owner));
        match shared_dir(&dir, shared).and_then(|()| probe(&dir)).and_then(|()| sign(&dir, state_dir)) {
            Ok(()) => return Ok(dir),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| io::ErrorKind::StorageFull.into()))
}

/// Shelters of a state directory that are there and belong to its owner.
pub(crate) fn existing(state_dir: &Path) -> Vec<PathBuf> {
    let Ok(state_dir) = std::fs::canonicalize(state_dir) else { return Vec::new() };
    let Ok(owner) = std::fs::metadata(&state_dir).map(|meta| meta.uid()) else { return Vec::new() };
    let dirs = PLACES.iter().map(|place| Path::new(place).join(name_of(&state_dir, owner)));
    let is_its = |dir: &PathBuf| {
        std::fs::symlink_metadata(dir).is_ok_and(|found| found.is_dir() && found.uid() == owner)
    };
    dirs.filter(is_its).collect()
}

/// Removes what an earlier runtime has left in shelters, once nobody needs it: without `all`, only its record.
pub(super) fn leave(state_dir: &Path, all: bool) {
    for dir in existing(state_dir) {
        let left =
            if all { std::fs::remove_dir_all(&dir) } else { std::fs::remove_file(dir.join("spawned")) };
        note(&dir, left);
    }
}

fn note(dir: &Path, removed: io::Result<()>) {
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, dir = %dir.display(), "an old shelter is left behind");
    }
}

/// Says in a shelter whose it is.
fn sign(dir: &Path, state_dir: &Path) -> io::Result<()> {
    let owner = state_dir.as_os_str().as_encoded_bytes();
    let name = dir.join(OWNER);
    if std::fs::read(&name).is_ok_and(|known| known == owner) {
        return Ok(());
    }
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(flags)
        .open(name);
    file.and_then(|mut file| file.write_all(owner))
}

/// Removes this user's shelters of state directories that are gone, but for those of which `lives` says that somebody is
/// in them: nobody would ever look there again, and what stands in one is of use only to who lives.
pub(super) fn sweep(lives: impl Fn(&Path) -> bool) {
    let owner = rustix::process::geteuid().as_raw();
    let ending = format!("-{owner}.shelter");
    for place in PLACES {
        let Ok(entries) = std::fs::read_dir(place) else { continue };
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            let is_shelter =
                name.to_str().is_some_and(|name| name.starts_with("regrow-") && name.ends_with(&ending));
            if is_shelter && is_orphan(&entry.path(), owner) && !lives(&entry.path()) {
                note(&entry.path(), std::fs::remove_dir_all(entry.path()));
            }
        }
    }
}

/// Whether what it shelters is gone.
fn is_orphan(dir: &Path, owner: u32) -> bool {
    let ours = std::fs::symlink_metadata(dir).is_ok_and(|found| found.is_dir() && found.uid() == owner);
    let Some(state_dir) = std::fs::read(dir.join(OWNER)).ok().filter(|_| ours) else { return false };
    let found = std::fs::symlink_metadata(OsStr::from_bytes(&state_dir));
    found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Whether as many files can be made. File systems without a table of inodes count none.
fn room(dir: &Path, files: u64) -> io::Result<()> {
    let found = rustix::fs::statvfs(dir)?;
    let left = if rustix::process::geteuid().is_root() { found.f_ffree } else { found.f_favail };
    if found.f_files == 0 || left >= files { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
}

fn name_of(state_dir: &Path, owner: u32) -> String {
    format!("regrow-{}-{owner}.shelter", key_of(state_dir.as_os_str().as_encoded_bytes()))
}

/// Makes a directory with a file in it, and takes both away again.
fn probe(dir: &Path) -> io::Result<()> {
    let place = dir.join(".probe");
    match DirBuilder::new().mode(0o700).create(&place) {
        // One was killed in the middle of it.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let file = place.join("file");
    let opened = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&file);
    let written = opened.and_then(|mut file| file.write_all(b"a word"));
    // Said by the removal of the directory, if it is still there.
    let _ = std::fs::remove_file(&file);
    let removed = std::fs::remove_dir(&place);
    written.and(removed)
}

/// Whether a directory is not there, or the file system that it was on is gone.
pub(super) fn is_gone(dir: &Path) -> bool {
    let left = |error: io::Error| {
        matches!(error.kind(), io::ErrorKind::NotConnected | io::ErrorKind::StaleNetworkFileHandle)
    };
    dir.try_exists().map_or_else(left, |is_there| !is_there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shelter_is_found_again_and_goes_when_nobody_needs_it() {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = std::fs::canonicalize(dir.path()).unwrap();
        assert!(trouble(&state_dir, 1).unwrap().is_none());
        assert_eq!(std::fs::read_dir(&state_dir).unwrap().count(), 0, "a probe leaves nothing");
        assert_eq!(existing(&state_dir), Vec::<PathBuf>::new());
        let shelter = seek(&state_dir, false).unwrap();
        assert_eq!(seek(&state_dir, false).unwrap(), shelter);
        assert_eq!(existing(&state_dir), std::slice::from_ref(&shelter));
        let own = std::fs::read(shelter.join(OWNER)).unwrap();
        assert_eq!(own, state_dir.as_os_str().as_bytes());
        std::fs::write(shelter.join("spawned"), "").unwrap();
        leave(&state_dir, false);
        assert!(shelter.exists() && !shelter.join("spawned").exists());
        leave(&state_dir, true);
        assert!(!shelter.exists());
    }

    #[test]
    fn who_needs_one_removes_those_of_state_directories_that_are_gone() {
        let (gone, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let shelter =
            |dir: &tempfile::TempDir| seek(&std::fs::canonicalize(dir.path()).unwrap(), false).unwrap();
        let (orphan, kept) = (shelter(&gone), shelter(&there));
        // Those of others are none of this test's business.
        let lives = |dir: &Path| dir != orphan && dir != kept;
        sweep(lives);
        assert!(orphan.exists() && kept.exists());
        drop(gone);
        sweep(|_| true);
        assert!(orphan.exists(), "somebody lives in it");
        sweep(lives);
        assert!(!orphan.exists() && kept.exists());
        leave(&std::fs::canonicalize(there.path()).unwrap(), true);
        assert!(!kept.exists());
    }
}
