//! What stands on disk for an instance: `w/SLUG/` with its FIFOs, its socket and its own state.
//!
//! Made once per instance, so a restart touches the disk only to open the FIFO. Whatever an earlier run left is
//! used again if it is what it should be; a symlink or a file of another kind in its place is refused, because
//! whoever put it there wants us to write somewhere else.
//!
//! It all belongs to the worker's user, and nobody else can enter. That user may exchange anything in it at any time, so
//! what root does here goes through descriptors and follows no link.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::identity::Owner;

/// `sun_path` holds 108 bytes with its end; a hundred leaves room for what tools append.
const MAX_SOCKET_PATH: usize = 100;

/// Paths of one instance.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// `w/SLUG`.
    pub(super) dir: PathBuf,
    /// The FIFO behind stdout, which is the fence too.
    pub(super) out: PathBuf,
    /// The FIFO behind stderr, if it has one of its own.
    pub(super) err: Option<PathBuf>,
    /// The notify socket.
    pub(super) notify: PathBuf,
    /// The socket that speaks HTTP.
    pub(super) talk: PathBuf,
    /// `REGROW_STATE_DIR`.
    pub(super) state: PathBuf,
}

impl Layout {
    /// The paths. `key` names this runtime's state directory where a socket must move elsewhere.
    pub(super) fn new(workers: &Path, slug: &str, separate_stderr: bool, key: &str, shared: bool) -> Self {
        let dir = workers.join(slug);
        let notify = dir.join("notify");
        let sockets = if fits(&notify) {
            (notify, dir.join("talk"))
        } else {
            sockets_in(&socket_home(key, shared), slug)
        };
        Self::at(dir, sockets, separate_stderr)
    }

    /// The same where the state directory takes nothing: what is there is used, all else is in the shelter.
    pub(super) fn sheltered(workers: &Path, slug: &str, separate_stderr: bool, shelter: &Path) -> Self {
        let there = |below: &str| workers.join(slug).join(below).symlink_metadata().is_ok();
        let whole = there("state") && there("out") && (there("err") || !separate_stderr);
        let dir = if whole { workers.join(slug) } else { shelter.join("w").join(slug) };
        Self::at(dir, sockets_in(shelter, slug), separate_stderr)
    }

    fn at(dir: PathBuf, (notify, talk): (PathBuf, PathBuf), separate_stderr: bool) -> Self {
        Self {
            out: dir.join("out"),
            err: separate_stderr.then(|| dir.join("err")),
            notify,
            talk,
            state: dir.join("state"),
            dir,
        }
    }

    /// Makes what is not there, gives it to the worker's user, and refuses what is not ours. `shared`: other users must
    /// get to theirs through what is above.
    pub(super) fn make(&self, owner: Owner, shared: bool) -> io::Result<()> {
        // Somebody may have removed it, or put a link in its place, since the runtime began.
        if let Some(workers) = self.dir.parent() {
            shared_dir(workers, shared)?;
        }
        given_dir(&self.dir, owner)?;
        given_dir(&self.state, owner)?;
        given_fifo(&self.out, owner)?;
        if let Some(err) = &self.err {
            given_fifo(err, owner)?;
        }
        if let Some(home) = self.notify.parent().filter(|home| *home != self.dir) {
            shared_dir(home, shared)?;
        }
        Ok(())
    }
}

/// A directory of ours that others may at most pass through: 0711, else 0700.
pub(super) fn shared_dir(path: &Path, shared: bool) -> io::Result<()> {
    let mode = if shared { 0o711 } else { 0o700 };
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(named(path, &error)),
        Ok(()) | Err(_) => {}
    }
    let found = std::fs::symlink_metadata(path).map_err(|error| named(path, &error))?;
    if !found.is_dir() {
        return Err(refused(path, "is no directory"));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(refused(path, "belongs to another user"));
    }
    if found.mode() & 0o777 != mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// A directory of the worker's user, 0700. One that was somebody else's before goes over with what is in it.
fn given_dir(path: &Path, owner: Owner) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(named(path, &error)),
        // Made by ourselves this moment, in a directory of ours.
        Ok(()) if owner == Owner::ourselves() => return Ok(()),
        Ok(()) | Err(_) => {}
    }
    // Everything through this descriptor: what lies under the name may be exchanged by the worker's user.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| match error {
        Errno::NOTDIR | Errno::LOOP => refused(path, "is no directory"),
        error => named(path, &error.into()),
    })?;
    let found = rustix::fs::fstat(&dir)?;
    if found.st_uid != owner.uid {
        hand_over(&dir, found.st_uid, owner, 0).map_err(|error| named(path, &error))?;
    }
    if found.st_mode & 0o077 != 0 || found.st_mode & 0o700 != 0o700 {
        rustix::fs::fchmod(&dir, Mode::RWXU)?;
    }
    Ok(())
}

/// Gives a directory and all in it that had the same owner to another one. A file with a second name is left alone: it
/// may be anybody's.
fn hand_over(dir: &OwnedFd, from: u32, to: Owner, depth: u32) -> io::Result<()> {
    // Deeper than any sane state; a deeper one is handed over by hand.
    const DEPTH: u32 = 64;
    let (uid, gid) = (Uid::from_raw(to.uid), Gid::from_raw(to.gid));
    rustix::fs::fchown(dir, Some(uid), Some(gid))?;
    if depth >= DEPTH {
        return Ok(());
    }
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let found = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if found.st_uid != from {
            continue;
        }
        if rustix::fs::FileType::from_raw_mode(found.st_mode).is_dir() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            hand_over(&rustix::fs::openat(dir, name, flags, Mode::empty())?, from, to, depth + 1)?;
        } else if found.st_nlink == 1 {
            rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    Ok(())
}

fn given_fifo(path: &Path, owner: Owner) -> io::Result<()> {
    let mode = Mode::from_raw_mode(0o600);
    match rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0) {
        Ok(()) if owner == Owner::ourselves() => return Ok(()),
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(named(path, &error.into())),
    }
    give(path, rustix::fs::FileType::Fifo, owner)
}

/// Gives a FIFO or a socket of ours to its worker's user; refuses anything else that stands there.
pub(super) fn give(path: &Path, kind: rustix::fs::FileType, owner: Owner) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| named(path, &error.into()))?;
    let found = rustix::fs::fstat(&file)?;
    if rustix::fs::FileType::from_raw_mode(found.st_mode) != kind {
        let other = if kind == rustix::fs::FileType::Fifo { "is no FIFO" } else { "is no socket" };
        return Err(refused(path, other));
    }
    if found.st_uid == owner.uid {
        return Ok(());
    }
    if found.st_uid != rustix::process::geteuid().as_raw() {
        return Err(refused(path, "belongs to another user"));
    }
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    Ok(rustix::fs::chownat(&file, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?)
}

/// Opens a FIFO for a child alone: an open file of its own, read and write, so that a worker never sees a
/// broken pipe when the runtime is gone.
pub(super) fn open_fifo(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    if file.metadata()?.file_type().is_fifo() { Ok(file) } else { Err(refused(path, "is no FIFO")) }
}

/// Opens the fence and takes it; `None` while any descendant of an earlier incarnation holds it.
pub(super) fn take_fence(path: &Path) -> io::Result<Option<File>> {
    let file = open_fifo(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Both sockets of an instance, away from its directory.
fn sockets_in(home: &Path, slug: &str) -> (PathBuf, PathBuf) {
    let name = key_of(slug.as_bytes());
    (home.join(&name), home.join(format!("{name}-t")))
}

fn fits(path: &Path) -> bool {
    path.as_os_str().len() <= MAX_SOCKET_PATH
}

/// Where sockets go whose paths are too long. Nobody else gets into a user's own runtime directory.
fn socket_home(key: &str, shared: bool) -> PathBuf {
    let user = rustix::process::geteuid().as_raw();
    let given = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|_| !shared);
    let home = given.filter(|dir| dir.is_absolute() && dir.is_dir() && dir.as_os_str().len() < 40);
    match home {
        Some(dir) => dir.join(key),
        None => PathBuf::from(format!("/tmp/{key}-{user}")),
    }
}

/// A short name for a long one: FNV-1a, 16 digits. Collisions would need some billion names.
pub(super) fn key_of(bytes: &[u8]) -> String {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

fn refused(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, format!("{} {why}; remove it", path.display()))
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    // What we are short of is no matter of the path, and must be known for what it is.
    if let Some(errno) = error.raw_os_error().filter(|errno| super::failure::is_shortage(*errno)) {
        return io::Error::from_raw_os_error(errno);
    }
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
