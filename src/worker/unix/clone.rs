//! Making a process: `clone3` into a cgroup, `clone`, and a copying clone, whichever the kernel allows.
//!
//! Entering a cgroup by writing `cgroup.procs` waits for an RCU grace period after idle (7.6 ms measured, ten
//! times the rest of a restart); `CLONE_INTO_CGROUP` does not, but libc has no wrapper for `clone3` with a
//! stack, hence the few instructions below. Containers often refuse `clone3`; then the child writes.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering::Relaxed;

use super::child::{self, Plan, Step};
use super::memory::{Page, Stack};
use super::rights::WorkerRights;

/// A program with everything it gets, as the kernel wants it.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// What `PATH` makes of the program, in order.
    pub(crate) candidates: Vec<CString>,
    /// Arguments, the program's name first.
    pub(crate) argv: Vec<CString>,
    /// `NAME=value`.
    pub(crate) env: Vec<CString>,
    /// Working directory.
    pub(crate) directory: CString,
}

/// Descriptors a child starts from; none is 0, 1 or 2.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fds {
    /// Becomes 0.
    pub(crate) stdin: RawFd,
    /// Becomes 1.
    pub(crate) stdout: RawFd,
    /// Becomes 2.
    pub(crate) stderr: RawFd,
    /// The spawn record.
    pub(crate) record: Option<RawFd>,
}

/// How the child comes into its cgroup.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Placement<'a> {
    /// It has none.
    Nowhere,
    /// Born inside: a directory.
    Born(BorrowedFd<'a>),
    /// Goes there by itself: an open `cgroup.procs`.
    Enters(BorrowedFd<'a>),
}

/// One start.
pub(crate) struct Launch<'a> {
    /// The program.
    pub(crate) image: &'a Image,
    /// Its descriptors.
    pub(crate) fds: Fds,
    /// Its cgroup.
    pub(crate) placement: Placement<'a>,
    /// The record's line up to the pid.
    pub(crate) record_head: &'a [u8],
    /// Whether pidfds have inodes of their own.
    pub(crate) pidfs: bool,
    /// Which signals this process ignores, a bit each, if nobody but us decides that; `None`: any may be.
    pub(crate) ignored: Option<u64>,
    /// All of `fds` are below this number: the child may share our table and copy only those.
    pub(crate) unshare_from: Option<u32>,
    /// Soft and hard limit of open files.
    pub(crate) nofile: Option<(u64, u64)>,
    /// Variables besides those of the image: `NAME=value` that nobody may print.
    pub(crate) secrets: &'a [&'a CStr],
    /// Whether it is told its own pid as `WATCHDOG_PID`.
    pub(crate) watchdog: bool,
    /// Open `cgroup.procs` of the cgroups that hold it to its limits.
    pub(crate) bounds: &'a [RawFd],
    /// What it may do.
    pub(crate) rights: &'a WorkerRights,
}

/// A process that runs its program.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// Its pid, for people and for `/proc`; signals go through `pidfd`.
    pub(crate) pid: u32,
    /// The process itself.
    pub(crate) pidfd: OwnedFd,
    /// Its pidfs inode, 0 if there is none.
    pub(crate) inode: u64,
    /// errno of the record's write, if it failed.
    pub(crate) unrecorded: Option<i32>,
    /// errno of entering the cgroup, if it failed.
    pub(crate) outside: Option<i32>,
}

/// Why there is no process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Where it failed.
    pub(crate) step: Step,
    /// Why.
    pub(crate) errno: i32,
    /// Which candidate, for [`Step::Exec`].
    pub(crate) candidate: usize,
}

const WATCHDOG: &[u8] = b"WATCHDOG_PID=";

/// Starts a program. Returns once the exec succeeded or failed; `page` stays armed, so that nobody takes the
/// child for a stranger until the caller has registered it and called [`Page::disarm`].
pub(crate) fn spawn(stack: &mut Stack, page: &Page, launch: &Launch<'_>) -> Result<Spawned, Refusal> {
    let candidates = pointers(&launch.image.candidates);
    let argv = pointers(&launch.image.argv);
    let mut envp = pointers(&launch.image.env);
    envp.pop();
    envp.extend(launch.secrets.iter().map(|text| text.as_ptr()));
    // Its pid is known to nobody but itself before it runs.
    let mut watchdog = [0u8; WATCHDOG.len() + child::PID_ROOM];
    watchdog[..WATCHDOG.len()].copy_from_slice(WATCHDOG);
    let watchdog = watchdog.as_mut_ptr();
    if launch.watchdog {
        envp.push(watchdog.cast());
    }
    envp.push(std::ptr::null());
    let mut plan = Plan {
        report: page.report(),
        stdin: launch.fds.stdin,
        stdout: launch.fds.stdout,
        stderr: launch.fds.stderr,
        cgroup: match launch.placement {
            Placement::Enters(procs) => procs.as_raw_fd(),
            Placement::Nowhere | Placement::Born(_) => -1,
        },
        record: launch.fds.record.unwrap_or(-1),
        record_head: launch.record_head.as_ptr(),
        record_len: launch.record_head.len(),
        pidfs: launch.pidfs,
        ignored: launch.ignored,
        unshare_from: launch.unshare_from,
        directory: launch.image.directory.as_ptr(),
        candidates: candidates.as_ptr(),
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
        watchdog: if launch.watchdog { watchdog.wrapping_add(WATCHDOG.len()) } else { std::ptr::null_mut() },
        nofile: launch.nofile.map(|(soft, hard)| libc::rlimit {
            rlim_cur: soft as libc::rlim_t,
            rlim_max: hard as libc::rlim_t,
        }),
        bounds: launch.bounds.as_ptr(),
        bounds_len: launch.bounds.len(),
        rights: launch.rights.raw(),
    };
    page.arm();
    let (pid, pidfd) = make(stack, &mut plan, launch.placement).map_err(|errno| Refusal {
        step: Step::Clone,
        errno,
        candidate: 0,
    })?;
    outcome(page, pid, pidfd)
}

/// Whether children can be born inside this cgroup: `clone3` may be missing or forbidden, and the cgroup too.
pub(crate) fn can_clone_into(stack: &mut Stack, dir: BorrowedFd<'_>) -> bool {
    extern "C" fn nothing(_: *mut c_void) -> c_int {
        // SAFETY: ends the child at once, without exit handlers.
        unsafe { libc::_exit(0) }
    }
    let mut fd: c_int = -1;
    let mut args = CloneArgs::vfork(stack, &mut fd);
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = dir.as_raw_fd() as u64;
    let mask = child::set_mask(u64::MAX);
    // SAFETY: the child runs `nothing` on a stack of its own while this thread waits.
    let pid = unsafe { clone3(&args, nothing, std::ptr::null_mut()) };
    child::set_mask(mask);
    if pid <= 0 {
        return false;
    }
    // SAFETY: on success the kernel has put a new descriptor there, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(fd) };
    super::sys::await_end(&pidfd).is_ok()
}

fn outcome(page: &Page, pid: i32, pidfd: OwnedFd) -> Result<Spawned, Refusal> {
    let report = page.report();
    if let Some(step) = Step::from_number(report.step.load(Relaxed)) {
        // It has ended or is about to. Whatever the answer is, there is no process to speak of.
        drop(super::sys::await_end(&pidfd));
        page.disarm();
        let candidate = report.candidate.load(Relaxed).unsigned_abs() as usize;
        return Err(Refusal { step, errno: report.errno.load(Relaxed), candidate });
    }
    let failed = |errno: i32| (errno != 0).then_some(errno);
    Ok(Spawned {
        pid: pid.unsigned_abs(),
        pidfd,
        inode: report.inode.load(Relaxed),
        unrecorded: failed(report.unrecorded.load(Relaxed)),
        outside: failed(report.outside.load(Relaxed)),
    })
}

/// Clones with all signals blocked, the quickest way first. A way that the kernel refuses as such (and not
/// for want of resources) is followed by the next.
fn make(stack: &mut Stack, plan: &mut Plan, placement: Placement<'_>) -> Result<(i32, OwnedFd), i32> {
    let mask = child::set_mask(u64::MAX);
    let mut fd: c_int = -1;
    let mut pid = match placement {
        Placement::Born(dir) => {
            let mut args = CloneArgs::vfork(stack, &mut fd);
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = dir.as_raw_fd() as u64;
            if plan.unshare_from.is_some() {
                args.flags |= libc::CLONE_FILES as u64;
            }
            if plan.ignored.is_some() {
                args.flags |= CLONE_CLEAR_SIGHAND;
            }
            // SAFETY: the child runs on a stack of its own and reads a plan that lives until it has ended or
            // executed its program: CLONE_VFORK suspends this thread for that long.
            unsafe { clone3(&args, child::run, (&raw mut *plan).cast()) }
        }
        Placement::Nowhere | Placement::Enters(_) => {
            plan.ignored = None;
            clone(stack, plan, &mut fd, libc::CLONE_VM)
        }
    };
    if pid < 0 && matches!(-pid, libc::EINVAL | libc::ENOSYS | libc::EPERM) {
        plan.unshare_from = None;
        plan.ignored = None;
        pid = clone(stack, plan, &mut fd, 0);
    }
    child::set_mask(mask);
    if pid < 0 {
        return Err(-pid);
    }
    // SAFETY: on success the kernel has put a new descriptor there, which nobody else owns.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// libc's clone; without `CLONE_VM` it is a fork that still waits for the exec. Answers the pid or -errno.
fn clone(stack: &mut Stack, plan: &mut Plan, fd: &mut c_int, vm: c_int) -> i32 {
    let mut flags = vm | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    if plan.unshare_from.is_some() {
        flags |= libc::CLONE_FILES;
    }
    // SAFETY: one past the end of the stack, 16-byte aligned, as clone wants a stack that grows down.
    let top = unsafe { stack.bottom().add(stack.len()) };
    let plan: *mut Plan = plan;
    // SAFETY: as for clone3 above.
    let pid = unsafe { libc::clone(child::run, top.cast(), flags, plan.cast(), &raw mut *fd) };
    if pid < 0 { -std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL) } else { pid }
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

/// The child begins with every caught signal at its default (Linux 5.5, older than `CLONE_INTO_CGROUP`).
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The kernel's `struct clone_args`, second version (with `cgroup`).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

impl CloneArgs {
    fn vfork(stack: &mut Stack, fd: &mut c_int) -> Self {
        Self {
            flags: (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD) as u64,
            pidfd: &raw mut *fd as u64,
            exit_signal: libc::SIGCHLD as u64,
            stack: stack.bottom() as u64,
            stack_size: stack.len() as u64,
            ..Self::default()
        }
    }
}

type Entry = extern "C" fn(*mut c_void) -> c_int;

/// Answers the pid or -errno in the parent; the child runs `entry(arg)` on its own stack, which never returns.
///
/// # Safety
/// `entry` must not return, and what it reads must live until it has executed another program.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(args: &CloneArgs, entry: Entry, arg: *mut c_void) -> i32 {
    let done: i64;
    // SAFETY: the parent comes out at label 2 with rcx and r11 clobbered, as by any system call; the child has
    // its own 16-byte aligned stack, clears the frame pointer and calls an `extern "C"` function.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => done,
            in("rdi") std::ptr::from_ref(args),
            in("rsi") size_of::<CloneArgs>(),
            in("r12") entry,
            in("r13") arg,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    done as i32
}

/// As above.
///
/// # Safety
/// As above.
#[cfg(target_arch = "aarch64")]
unsafe fn clone3(args: &CloneArgs, entry: Entry, arg: *mut c_void) -> i32 {
    let done: i64;
    // SAFETY: as above; a system call clobbers nothing but x0 on this architecture.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x22",
            "blr x21",
            "brk #1",
            "2:",
            inlateout("x0") std::ptr::from_ref(args) => done,
            in("x1") size_of::<CloneArgs>(),
            in("x8") libc::SYS_clone3,
            in("x21") entry,
            in("x22") arg,
            lateout("x30") _,
        );
    }
    done as i32
}

/// Elsewhere the child enters its cgroup by itself.
///
/// # Safety
/// None needed.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn clone3(_: &CloneArgs, _: Entry, _: *mut c_void) -> i32 {
    -libc::ENOSYS
}
