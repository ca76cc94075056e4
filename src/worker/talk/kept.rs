//! The bytes that a worker keeps: one file in its own state directory, so that what a `reset` puts away goes with it.
//!
//! The worker may exchange anything in that directory at any time, and the runtime may be root: everything goes through
//! the directory's descriptor, no link is followed, and a file that is not plainly the worker's own is left alone. Written
//! beside and renamed, so that a crash leaves the old or the new one and never half of each; a checksum tells what the
//! disk has made of it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

/// Longest, in bytes.
pub(super) const MOST: usize = 16 << 20;

const NAME: &str = "worker.saved";
const NEW: &str = "worker.saved.new";
const BROKEN: &str = "worker.saved.unreadable";
/// In front of the bytes, with their checksum behind it: the version stands in it.
const HEAD: &[u8; 8] = b"regrow1\n";

/// What is kept. `None`: nothing.
pub(super) fn read(state: &Path) -> io::Result<Option<Vec<u8>>> {
    let dir = open(state)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(&dir, NAME, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let (found, home) = (rustix::fs::fstat(&file)?, rustix::fs::fstat(&dir)?);
    let plain = rustix::fs::FileType::from_raw_mode(found.st_mode).is_file();
    if !plain || found.st_nlink != 1 || found.st_uid != home.st_uid {
        return Err(io::Error::other(format!(
            "{NAME} in its state directory is not its own plain file; remove it"
        )));
    }
    let mut bytes = Vec::new();
    let most = (MOST + HEAD.len() + 4) as u64;
    File::from(file).take(most + 1).read_to_end(&mut bytes)?;
    match unpack(bytes) {
        Some(bytes) => Ok(Some(bytes)),
        None => {
            rustix::fs::renameat(&dir, NAME, &dir, BROKEN)?;
            Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "what was kept cannot be read again; it was put aside as {BROKEN} in its state directory"
                ),
            ))
        }
    }
}

/// Keeps these bytes in place of what was kept before, once they are on the disk.
pub(super) fn write(state: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = open(state)?;
    match rustix::fs::unlinkat(&dir, NEW, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(&dir, NEW, flags, Mode::RUSR | Mode::WUSR)?);
    let home = rustix::fs::fstat(&dir)?;
    if home.st_uid != rustix::process::geteuid().as_raw() {
        rustix::fs::fchown(&file, Some(Uid::from_raw(home.st_uid)), Some(Gid::from_raw(home.st_gid)))?;
    }
    let written = [HEAD.as_slice(), &crc32fast::hash(bytes).to_le_bytes(), bytes]
        .into_iter()
        .try_for_each(|part| file.write_all(part))
        .and_then(|()| file.sync_data());
    if let Err(error) = written {
        // Half of it must not stand there and fill the disk that was too small for it.
        let _ = rustix::fs::unlinkat(&dir, NEW, AtFlags::empty());
        return Err(error);
    }
    rustix::fs::renameat(&dir, NEW, &dir, NAME)?;
    rustix::fs::fsync(&dir)?;
    Ok(())
}

fn open(state: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(state, flags, Mode::empty())?)
}

fn unpack(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let (head, rest) = bytes.split_at_checked(HEAD.len())?;
    let (sum, rest) = rest.split_at_checked(4)?;
    let right = head == HEAD && sum == crc32fast::hash(rest).to_le_bytes() && rest.len() <= MOST;
    right.then(|| bytes.split_off(HEAD.len() + 4))
}
