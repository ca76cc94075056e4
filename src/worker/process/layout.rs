//! What stands on disk for an instance: `w/SLUG/` with its FIFOs, its socket and its own state.
//!
//! Made once per instance, so a restart touches the disk only to open the FIFO. Whatever an earlier run left is
//! used again if it is what it should be; a symlink or a file of another kind in its place is refused, because
//! whoever put it there wants us to write somewhere else.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

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
    /// `REGROW_STATE_DIR`.
    pub(super) state: PathBuf,
}

impl Layout {
    /// The paths. `key` names this runtime's state directory where a socket must move elsewhere.
    pub(super) fn new(workers: &Path, slug: &str, separate_stderr: bool, key: &str) -> Self {
        let dir = workers.join(slug);
        let notify = dir.join("notify");
        let notify = if fits(&notify) { notify } else { socket_home(key).join(key_of(slug.as_bytes())) };
        Self {
            out: dir.join("out"),
            err: separate_stderr.then(|| dir.join("err")),
            notify,
            state: dir.join("state"),
            dir,
        }
    }

    /// Makes what is not there, and refuses what is not ours.
    pub(super) fn make(&self) -> io::Result<()> {
        // Somebody may have removed it, or put a link in its place, since the runtime began.
        if let Some(workers) = self.dir.parent() {
            own_dir(workers)?;
        }
        own_dir(&self.dir)?;
        own_dir(&self.state)?;
        own_fifo(&self.out)?;
        if let Some(err) = &self.err {
            own_fifo(err)?;
        }
        if let Some(home) = self.notify.parent().filter(|home| *home != self.dir) {
            own_dir(home)?;
        }
        Ok(())
    }
}

/// A directory of ours, 0700.
pub(super) fn own_dir(path: &Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        done => return done.map_err(|error| named(path, &error)),
    }
    let found = std::fs::symlink_metadata(path).map_err(|error| named(path, &error))?;
    if !found.is_dir() {
        return Err(refused(path, "is no directory"));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(refused(path, "belongs to another user"));
    }
    if found.mode() & 0o077 != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

fn own_fifo(path: &Path) -> io::Result<()> {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    match rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0) {
        Err(rustix::io::Errno::EXIST) => {}
        done => return done.map_err(|error| named(path, &error.into())),
    }
    let found = std::fs::symlink_metadata(path).map_err(|error| named(path, &error))?;
    if !found.file_type().is_fifo() {
        return Err(refused(path, "is no FIFO"));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(refused(path, "belongs to another user"));
    }
    Ok(())
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

fn fits(path: &Path) -> bool {
    path.as_os_str().len() <= MAX_SOCKET_PATH
}

/// Where sockets go whose paths are too long.
fn socket_home(key: &str) -> PathBuf {
    let user = rustix::process::geteuid().as_raw();
    let given = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
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
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
