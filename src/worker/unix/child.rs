//! What a child does between its clone and its exec.
//!
//! It runs in our memory while the thread that made it is suspended, so: raw calls only, no allocation, no
//! lock, no panic, nothing that is not prepared in its [`Plan`]. All signals are blocked until every handler
//! is back at its default, since a handler of ours must not run in here.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::Ordering::Relaxed;

use super::memory::Report;
use super::rights::{self, Rights};

/// Where a start can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// No process came into being.
    Clone = 1,
    /// A session of its own.
    Session,
    /// A table of file descriptors of its own.
    Files,
    /// The working directory.
    Directory,
    /// fds 0, 1 and 2.
    Stdio,
    /// The limit of open files.
    Limits,
    /// The cgroups that hold it to its limits.
    Bounds,
    /// Its priority.
    Nice,
    /// How readily it is killed for memory.
    OomScore,
    /// The cores it may use.
    Cores,
    /// Its user, group and capabilities.
    Identity,
    /// That it gains no rights.
    NoNewPrivs,
    /// The program itself.
    Exec,
}

impl Step {
    pub(super) fn from_number(number: i32) -> Option<Self> {
        [
            Self::Clone,
            Self::Session,
            Self::Files,
            Self::Directory,
            Self::Stdio,
            Self::Limits,
            Self::Bounds,
            Self::Nice,
            Self::OomScore,
            Self::Cores,
            Self::Identity,
            Self::NoNewPrivs,
            Self::Exec,
        ]
        .into_iter()
        .find(|step| *step as i32 == number)
    }
}

/// Everything a child needs, as raw as it needs it.
pub(super) struct Plan {
    pub(super) report: *const Report,
    pub(super) stdin: c_int,
    pub(super) stdout: c_int,
    pub(super) stderr: c_int,
    /// `cgroup.procs` of the cgroup to enter; -1: it is inside already, or has none.
    pub(super) cgroup: c_int,
    /// The spawn record; -1: none.
    pub(super) record: c_int,
    /// The part of its line that stands before the pid.
    pub(super) record_head: *const u8,
    pub(super) record_len: usize,
    /// Whether pidfds have inodes of their own here.
    pub(super) pidfs: bool,
    /// It was born without our handlers, and only these signals are not at their default; `None`: any may be.
    pub(super) ignored: Option<u64>,
    /// It shares our table of file descriptors: leave those from this number on behind, in one call.
    pub(super) unshare_from: Option<u32>,
    pub(super) directory: *const c_char,
    /// Null-terminated: what `PATH` makes of the program.
    pub(super) candidates: *const *const c_char,
    pub(super) argv: *const *const c_char,
    pub(super) envp: *const *const c_char,
    /// Where its pid is to be written for `WATCHDOG_PID=`, [`PID_ROOM`] bytes of zero; null: nowhere.
    pub(super) watchdog: *mut u8,
    pub(super) nofile: Option<libc::rlimit>,
    /// `cgroup.procs` of the cgroups to enter besides, without which it must not run.
    pub(super) bounds: *const c_int,
    pub(super) bounds_len: usize,
    pub(super) rights: Rights,
}

/// Digits of a pid, and the end of the text.
pub(super) const PID_ROOM: usize = 12;

/// Room for one line of the record: an instance id (74), three numbers (20 each), spaces.
const LINE: usize = 192;

/// The child's whole life before its program. Never returns.
pub(super) extern "C" fn run(plan: *mut c_void) -> c_int {
    // SAFETY: `spawn` passes a `Plan` that outlives us, since its thread waits for our exec or exit.
    let plan = unsafe { &*plan.cast::<Plan>() };
    // SAFETY: as above; the report lies in a page of its own that outlives the plan.
    let report = unsafe { &*plan.report };
    // SAFETY: getpid has no preconditions.
    report.pid.store(unsafe { libc::getpid() }, Relaxed);
    let (step, errno) = prepare_and_exec(plan, report);
    report.errno.store(errno, Relaxed);
    report.step.store(step as i32, Relaxed);
    // SAFETY: ends this process at once and runs no exit handlers of ours.
    unsafe { libc::_exit(127) }
}

fn prepare_and_exec(plan: &Plan, report: &Report) -> (Step, i32) {
    // SAFETY: setsid has no preconditions; it fails only for a group leader, which a new process is not.
    if unsafe { libc::setsid() } < 0 {
        return (Step::Session, errno());
    }
    default_signals(plan.ignored.unwrap_or(u64::MAX));
    if let Some(first) = plan.unshare_from
        && close_from(first, libc::CLOSE_RANGE_UNSHARE as c_int) != 0
    {
        return (Step::Files, errno());
    }
    if plan.cgroup >= 0 {
        // SAFETY: writes one byte of a static.
        if unsafe { libc::write(plan.cgroup, c"0".as_ptr().cast(), 1) } != 1 {
            report.outside.store(errno(), Relaxed);
        }
    }
    for at in 0..plan.bounds_len {
        // SAFETY: `bounds_len` descriptors are readable there; the write is one byte of a static.
        if unsafe { libc::write(*plan.bounds.add(at), c"0".as_ptr().cast(), 1) } != 1 {
            return (Step::Bounds, errno());
        }
    }
    // Before the limit of open files, which may be below what the table holds until it is closed.
    write_record(plan, report);
    write_pid(plan, report);
    if let Err(failed) = rights::shed(&plan.rights, plan.nofile.as_ref()) {
        return failed;
    }
    // As the worker's user, who alone decides what can be entered.
    // SAFETY: a NUL-terminated string of the plan.
    if unsafe { libc::chdir(plan.directory) } != 0 {
        return (Step::Directory, errno());
    }
    for (from, to) in [(plan.stdin, 0), (plan.stdout, 1), (plan.stderr, 2)] {
        // SAFETY: dup2 has no preconditions; `from` is never 0, 1 or 2, so close-on-exec is always cleared.
        if unsafe { libc::dup2(from, to) } < 0 {
            return (Step::Stdio, errno());
        }
    }
    if close_from(3, 0) != 0 {
        close_one_by_one();
    }
    (Step::Exec, exec(plan, report))
}

/// Tries what `PATH` offers, as `execvp` does: a candidate that may not be executed is remembered, one that
/// is not there is passed over, anything else is the answer.
fn exec(plan: &Plan, report: &Report) -> i32 {
    let mut answer = libc::ENOENT;
    let mut at = 0;
    loop {
        // SAFETY: the array ends with a null pointer, where we stop.
        let candidate = unsafe { *plan.candidates.add(at) };
        if candidate.is_null() {
            return answer;
        }
        // SAFETY: null-terminated arrays of NUL-terminated strings, all kept by the plan's owner.
        unsafe { libc::execve(candidate, plan.argv, plan.envp) };
        let error = errno();
        match error {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => {
                answer = error;
                report.candidate.store(at as i32, Relaxed);
            }
            _ => {
                report.candidate.store(at as i32, Relaxed);
                return error;
            }
        }
        at += 1;
    }
}

/// Ours may be caught, ignored or blocked; a program expects none of that, `SIGPIPE` included. Raw, because the C
/// library refuses to touch two signals that somebody above us may ignore all the same.
fn default_signals(which: u64) {
    // The kernel's sigaction: SIG_DFL, no flags, no restorer, empty mask.
    let default = [0u64; 4];
    for signal in (1..=64).filter(|signal| which & (1 << (signal - 1)) != 0) {
        let none = std::ptr::null_mut::<u64>();
        // SAFETY: 32 readable bytes, and no answer wanted; KILL and STOP are refused, which is right.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, 8usize) };
    }
    set_mask(0);
}

/// Blocks the signals of this set of bits and no others, raw: the C library would leave its own two out.
pub(super) fn set_mask(mask: u64) -> u64 {
    change_mask(libc::SIG_SETMASK, mask)
}

/// Changes which signals this thread blocks; answers which it blocked before.
pub(super) fn change_mask(how: c_int, mask: u64) -> u64 {
    let mut before = 0u64;
    // SAFETY: two valid pointers to 8 bytes, which is the kernel's size of a signal set.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const mask, &raw mut before, 8usize) };
    before
}

fn close_from(first: u32, flags: c_int) -> c_int {
    // SAFETY: closes descriptors of this child only, or of a private copy of the table.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) };
    if done == 0 { 0 } else { -1 }
}

/// For kernels before 5.9. Ours are close-on-exec anyway; this catches strangers' among the first thousand.
fn close_one_by_one() {
    for fd in 3..1024 {
        // SAFETY: closes descriptors of this child only.
        unsafe { libc::close(fd) };
    }
}

/// Appends who we are, in one write. A full disk must not end supervision, so a failure is only told.
fn write_record(plan: &Plan, report: &Report) {
    let inode = if plan.pidfs { own_inode() } else { 0 };
    report.inode.store(inode, Relaxed);
    if plan.record < 0 || plan.record_len > LINE - 48 {
        return;
    }
    let mut line = [0u8; LINE];
    // SAFETY: record_len bytes are readable by the plan's promise, and fit as just checked.
    unsafe { std::ptr::copy_nonoverlapping(plan.record_head, line.as_mut_ptr(), plan.record_len) };
    let mut at = plan.record_len;
    at = put_number(&mut line, at, u64::from(report.pid.load(Relaxed).unsigned_abs()), b' ');
    at = put_number(&mut line, at, inode, b'\n');
    // SAFETY: `at` bytes of `line` are initialised and readable.
    if unsafe { libc::write(plan.record, line.as_ptr().cast(), at) } != at as isize {
        report.unrecorded.store(errno().max(1), Relaxed);
    }
}

/// Under systemd a program beats only if it is the one that is meant.
fn write_pid(plan: &Plan, report: &Report) {
    if plan.watchdog.is_null() {
        return;
    }
    let mut line = [0u8; LINE];
    let end = put_number(&mut line, 0, u64::from(report.pid.load(Relaxed).unsigned_abs()), 0);
    if end <= PID_ROOM {
        // SAFETY: PID_ROOM bytes are writable there by the plan's promise, and nobody else reads them meanwhile.
        unsafe { std::ptr::copy_nonoverlapping(line.as_ptr(), plan.watchdog, end) };
    }
}

fn put_number(line: &mut [u8; LINE], at: usize, number: u64, end: u8) -> usize {
    let mut digits = [0u8; 20];
    let (mut count, mut rest) = (0usize, number);
    loop {
        digits[count % 20] = b'0' + (rest % 10) as u8;
        rest /= 10;
        count += 1;
        if rest == 0 || count >= 20 {
            break;
        }
    }
    let mut to = at;
    for place in (0..count).rev() {
        if let Some(byte) = line.get_mut(to) {
            *byte = digits[place % 20];
        }
        to = to.wrapping_add(1);
    }
    if let Some(byte) = line.get_mut(to) {
        *byte = end;
    }
    to.wrapping_add(1)
}

fn own_inode() -> u64 {
    // SAFETY: a system call without pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) };
    if fd < 0 {
        return 0;
    }
    // SAFETY: all zero is a valid stat buffer, and fstat fills it.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: a valid descriptor and a valid buffer.
    let done = unsafe { libc::fstat(fd as c_int, &raw mut stat) };
    // SAFETY: the descriptor we just opened, in a table that may still be shared.
    unsafe { libc::close(fd as c_int) };
    if done == 0 { stat.st_ino } else { 0 }
}

pub(super) fn errno() -> i32 {
    // SAFETY: the address of this thread's errno, which the child borrows from the thread that waits for it.
    unsafe { *libc::__errno_location() }
}
