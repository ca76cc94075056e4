//! Whose a lock is: the runtime that holds it, and how long one waits for a runtime that is just dying.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::worker::unix::{pidfd_open, poll_ended};

/// A runtime that was killed can leave a child behind that has not reached its program yet, and holds the lock until
/// it has: some microseconds, longer on a loaded machine. This long the lock of a dead holder is waited for.
const DEAD_HOLDER_PATIENCE: Duration = Duration::from_secs(2);
/// One that was killed a moment ago counts among the living until the kernel has taken it apart.
const DYING_HOLDER_PATIENCE: Duration = Duration::from_millis(300);
const DEAD_HOLDER_PAUSE: Duration = Duration::from_millis(2);

/// Takes a lock; the inner error is the pid of who has it and lives.
pub(super) fn take_lock(file: &File, pid_file: &Path) -> io::Result<Result<(), u32>> {
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

/// The other runtime that has this state directory, if one lives that has it.
pub(super) fn holder_of(dir: &Path) -> Option<u32> {
    let pid_file = dir.join("lock");
    // Whatever stands there does not hold us up.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let open = |path: &Path| OpenOptions::new().read(true).custom_flags(flags).open(path).ok();
    let is_held = |file: &File| matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock));
    let held = [dir, pid_file.as_path()].into_iter().filter_map(open).find(is_held)?;
    let pid = locked_by(&held).unwrap_or_else(|| holder(&pid_file));
    (pid != 0 && pid != std::process::id() && lives(pid)).then_some(pid)
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
