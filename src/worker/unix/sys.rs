//! Small calls around pidfds, each as safe to call as it looks.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What `waitid` says of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// By this signal, with a core dump.
    Core(i32),
}

/// Whether to wait for a zombie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ZombieWait {
    /// As long as there is a child at all.
    Block,
    /// Only look.
    Poll,
}

/// Opens a process. Only right for a pid that cannot be used again meanwhile, or whose identity is checked
/// through the new descriptor afterwards.
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// The inode that names this process for as long as the machine runs; `None` before Linux 6.9, where all
/// pidfds share one inode.
pub(crate) fn pidfs_inode(pidfd: &OwnedFd) -> Option<u64> {
    const PID_FS_MAGIC: u32 = 0x5049_4446;
    let system = rustix::fs::fstatfs(pidfd).ok()?;
    if system.f_type as u32 != PID_FS_MAGIC {
        return None;
    }
    rustix::fs::fstat(pidfd).ok().map(|stat| stat.st_ino)
}

/// The processor time of a process with all its threads, to the nanosecond; `None`: it is gone. A zombie has one, too.
pub(crate) fn processor_time(pid: u32) -> Option<Duration> {
    /// What the kernel adds to a process's number for the clock of its scheduler.
    const SCHED: libc::clockid_t = 2;
    let pid = libc::clockid_t::try_from(pid).ok()?;
    let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid buffer; a number that is no clock's is refused.
    let done = unsafe { libc::clock_gettime((!pid << 3) | SCHED, &raw mut at) };
    let seconds = u64::try_from(at.tv_sec).ok().filter(|_| done == 0)?;
    Some(Duration::new(seconds, u32::try_from(at.tv_nsec).ok()?))
}

/// Sends a signal to this process and nobody else.
pub(crate) fn send_signal(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    pidfd_send_signal(pidfd, signal, 0)
}

/// Sends a signal to the group that this process leads; `EINVAL` before Linux 6.9.
pub(crate) fn send_signal_to_group(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    const PIDFD_SIGNAL_PROCESS_GROUP: u32 = 1 << 2;
    pidfd_send_signal(pidfd, signal, PIDFD_SIGNAL_PROCESS_GROUP)
}

fn pidfd_send_signal(pidfd: &OwnedFd, signal: i32, flags: u32) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a valid descriptor, no siginfo.
    let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, flags) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes the status of a child that has ended; `None` while it lives. `ECHILD`: it is nobody's of ours.
pub(crate) fn wait_pidfd(pidfd: &OwnedFd) -> io::Result<Option<Ended>> {
    wait(pidfd, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
}

/// The same, and leaves it a zombie, whose number nobody can get.
pub(crate) fn peek_pidfd(pidfd: &OwnedFd) -> io::Result<Option<Ended>> {
    wait(pidfd, WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT)
}

/// How a process ended that is not our child, if the kernel tells (Linux 6.15): only once its parent has taken its
/// status, so it may have to be asked again.
pub(crate) fn end_of_stranger(pidfd: &OwnedFd) -> Option<Ended> {
    /// The kernel's `struct pidfd_info`, first version, as far as its size is fixed.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        mask: u64,
        cgroup: u64,
        /// pid, tgid, ppid, and eight ids of users and groups.
        ids: [u32; 11],
        exit_code: i32,
        /// What later versions may add.
        rest: [u32; 16],
    }
    const INFO_EXIT: u64 = 1 << 3;
    const SIZE: usize = 64;
    // _IOWR(0xFF, 11, struct pidfd_info)
    const GET_INFO: u64 = (3 << 30) | ((SIZE as u64) << 16) | (0xFF << 8) | 11;
    let mut info = Info { mask: INFO_EXIT, ..Info::default() };
    // SAFETY: the request names 64 bytes, and the buffer has more.
    let done = unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO as libc::Ioctl, &raw mut info) };
    if done != 0 || info.mask & INFO_EXIT == 0 {
        return None;
    }
    let status = info.exit_code;
    Some(match status & 0x7f {
        0 => Ended::Code((status >> 8) & 0xff),
        signal if status & 0x80 != 0 => Ended::Core(signal),
        signal => Ended::Signal(signal),
    })
}

/// Waits for a child that is about to end.
pub(super) fn await_end(pidfd: &OwnedFd) -> io::Result<Option<Ended>> {
    loop {
        match wait(pidfd, WaitIdOptions::EXITED) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn wait(pidfd: &OwnedFd, options: WaitIdOptions) -> io::Result<Option<Ended>> {
    let Some(status) = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options)? else {
        return Ok(None);
    };
    Ok(Some(match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ended::Code(code),
        (None, Some(signal)) if status.dumped() => Ended::Core(signal),
        (None, Some(signal)) => Ended::Signal(signal),
        (None, None) => return Err(io::Error::other("waitid answered neither a code nor a signal")),
    }))
}

/// Whether the process has ended, child or not.
pub(crate) fn poll_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [rustix::event::PollFd::new(pidfd, rustix::event::PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Lets the current tokio runtime tell when the process has ended.
pub(crate) fn watch_pidfd(pidfd: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    watch_readable(pidfd)
}

/// Lets the current tokio runtime tell when there is something to read.
pub(crate) fn watch_readable(fd: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: the descriptor is owned by the Arc, which the AsyncFd keeps, and never changes its number or file.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// The pid of some child that has ended, left as it is; who blocks is also woken by one that was halted. `ECHILD`: there
/// are no children.
pub(crate) fn peek_zombie(wait: ZombieWait) -> io::Result<Option<u32>> {
    // SAFETY: all zero is a valid siginfo.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED
        | libc::WNOWAIT
        | match wait {
            ZombieWait::Block => libc::WSTOPPED,
            ZombieWait::Poll => libc::WNOHANG,
        };
    // SAFETY: a valid buffer; WNOWAIT leaves the child's status where it is.
    if unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: waitid filled the fields of a child's siginfo, or left the zeros.
    let pid = unsafe { info.si_pid() };
    Ok(u32::try_from(pid).ok().filter(|pid| *pid > 0))
}

/// Some child that was halted (`SIGSTOP`); each halt is told once.
pub(crate) fn next_halted() -> Option<u32> {
    // SAFETY: all zero is a valid siginfo.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: a valid buffer.
    let done = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WSTOPPED | libc::WNOHANG) };
    // SAFETY: as in `peek_zombie`.
    let pid = if done == 0 { unsafe { info.si_pid() } } else { 0 };
    u32::try_from(pid).ok().filter(|pid| *pid > 0)
}

/// Takes the status of this child if it has ended. For orphans that nobody else waits for.
pub(crate) fn reap(pid: u32) -> bool {
    // SAFETY: all zero is a valid siginfo.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: a valid buffer.
    let done = unsafe { libc::waitid(libc::P_PID, pid, &raw mut info, libc::WEXITED | libc::WNOHANG) };
    // SAFETY: as in `peek_zombie`.
    done == 0 && unsafe { info.si_pid() } != 0
}

/// Makes `to` another name of `from`, closing what it named before.
pub(crate) fn dup_onto(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    // SAFETY: both are open and owned by the caller, so no stranger's descriptor is closed.
    if unsafe { libc::dup3(from.as_raw_fd(), to.as_raw_fd(), libc::O_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Whether the kernel knows `close_range` (Linux 5.9).
pub(crate) fn close_range_works() -> bool {
    // SAFETY: no descriptor has this number, so nothing is closed.
    unsafe { libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, 0) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_time_of_a_process_grows_while_it_runs_and_ends_with_it() {
        let own = std::process::id();
        let before = processor_time(own).unwrap();
        let spun = (0..200_000u64).fold(0, |sum, number| std::hint::black_box(sum ^ number));
        assert!(processor_time(own).unwrap() > before, "{spun}");
        assert_eq!(processor_time(u32::MAX), None);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        assert!(processor_time(pid).is_some(), "nobody has waited for it");
        child.wait().unwrap();
        assert_eq!(processor_time(pid), None);
    }
}
