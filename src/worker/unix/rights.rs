//! What a child gives up before its program runs, in the only order that works.
//!
//! Whatever needs root comes first: the limit of open files, priority, cores. Then capabilities it could regain,
//! groups, group, user; each of these takes away the right to do the one before. Raw calls, because the C library's
//! would change all threads of the process whose memory the child shares.
//!
//! Changing the user marks the memory as one that may not be dumped, and the memory is the runtime's too. That is
//! welcome: no core file of a runtime that reads secrets for others, and no debugger of theirs.

use std::ffi::c_int;

use super::child::{Step, errno};

/// Cores of a machine that are told apart.
const MAX_CORES: usize = 1024;

/// prctl takes its arguments as long words, and wants the unused ones to be zero.
const NONE: libc::c_ulong = 0;
const ONE: libc::c_ulong = 1;
const CLEAR_ALL: libc::c_ulong = libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong;

/// A set of cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cores([u64; MAX_CORES / 64]);

impl Cores {
    /// Of these numbers; the ones a kernel cannot have are left out.
    pub(crate) fn of(numbers: impl IntoIterator<Item = usize>) -> Self {
        let mut words = [0; MAX_CORES / 64];
        for number in numbers {
            if let Some(word) = words.get_mut(number / 64) {
                *word |= 1 << (number % 64);
            }
        }
        Self(words)
    }
}

/// Whom a worker becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    /// User.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
    /// Every group, the one above included.
    pub(crate) groups: Vec<u32>,
}

/// What a worker may do.
#[derive(Debug, Clone)]
pub(crate) struct WorkerRights {
    /// Who it becomes; stays who we are without.
    pub(crate) person: Option<Person>,
    /// Permissions its files never have.
    pub(crate) umask: Option<u32>,
    /// Priority.
    pub(crate) nice: Option<i32>,
    /// The text for `oom_score_adj`.
    pub(crate) oom_score_adj: Option<String>,
    /// No program gains rights.
    pub(crate) no_new_privs: bool,
    /// The only cores it may use.
    pub(crate) cores: Option<Cores>,
}

impl WorkerRights {
    /// As raw as a child needs it; borrows from `self`, which must outlive it.
    pub(super) fn raw(&self) -> Rights {
        let uid = self.person.as_ref().map_or_else(|| rustix::process::geteuid().as_raw(), |one| one.uid);
        let (score, score_len) =
            self.oom_score_adj.as_ref().map_or((std::ptr::null(), 0), |text| (text.as_ptr(), text.len()));
        Rights {
            person: self.person.as_ref().map(|one| RawPerson {
                uid: one.uid,
                gid: one.gid,
                groups: one.groups.as_ptr(),
                groups_len: one.groups.len(),
            }),
            umask: self.umask,
            nice: self.nice,
            score,
            score_len,
            no_new_privs: self.no_new_privs,
            powerless: uid != 0,
            cores: self.cores,
        }
    }
}

/// The same for a child.
pub(super) struct Rights {
    person: Option<RawPerson>,
    umask: Option<u32>,
    nice: Option<c_int>,
    /// Null: left as it is.
    score: *const u8,
    score_len: usize,
    no_new_privs: bool,
    /// It is not root, so it has no capabilities.
    powerless: bool,
    cores: Option<Cores>,
}

struct RawPerson {
    uid: u32,
    gid: u32,
    groups: *const u32,
    groups_len: usize,
}

/// Gives it all up. Runs in a child: see [`super::child`].
pub(super) fn shed(rights: &Rights, nofile: Option<&libc::rlimit>) -> Result<(), (Step, i32)> {
    if !rights.score.is_null() {
        set_oom_score(rights)?;
    }
    if let Some(nice) = rights.nice {
        // SAFETY: no pointers; 0 is the caller.
        check(Step::Nice, unsafe { libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, nice) })?;
    }
    if let Some(Cores(words)) = &rights.cores {
        let size = size_of_val(words);
        // SAFETY: `size` readable bytes; 0 is the caller.
        check(Step::Cores, unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size, words.as_ptr()) })?;
    }
    if let Some(limit) = nofile {
        // SAFETY: a valid rlimit of the plan.
        check(Step::Limits, i64::from(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, limit) }))?;
    }
    if rights.powerless && rights.no_new_privs {
        drop_bounding_set();
    }
    if let Some(person) = &rights.person {
        become_person(person)?;
    }
    if rights.powerless {
        drop_capabilities()?;
    }
    if let Some(mask) = rights.umask {
        // SAFETY: no pointers, and it cannot fail.
        unsafe { libc::umask(mask as libc::mode_t) };
    }
    if rights.no_new_privs {
        // SAFETY: no pointers.
        check(
            Step::NoNewPrivs,
            i64::from(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, ONE, NONE, NONE, NONE) }),
        )?;
    }
    Ok(())
}

fn check(step: Step, done: i64) -> Result<(), (Step, i32)> {
    if done < 0 { Err((step, errno())) } else { Ok(()) }
}

/// Only this process's own: the kernel spares who shares its memory if it was made as `vfork` makes them.
fn set_oom_score(rights: &Rights) -> Result<(), (Step, i32)> {
    // SAFETY: a static path.
    let file = unsafe { libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    check(Step::OomScore, i64::from(file))?;
    // SAFETY: `score_len` readable bytes by the promise of `raw`.
    let written = unsafe { libc::write(file, rights.score.cast(), rights.score_len) };
    let failed = check(Step::OomScore, written as i64);
    // SAFETY: the descriptor we just opened.
    unsafe { libc::close(file) };
    failed
}

/// What no program can have any more. Who may not do that has nothing to lose by it.
fn drop_bounding_set() {
    for capability in 0..64_u32 {
        // SAFETY: no pointers. It fails behind the last capability, or without the right to it.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), NONE, NONE, NONE) }
            != 0
        {
            return;
        }
    }
}

fn become_person(person: &RawPerson) -> Result<(), (Step, i32)> {
    let RawPerson { uid, gid, groups, groups_len } = *person;
    // SAFETY: `groups_len` readable numbers by the promise of `raw`.
    check(Step::Identity, unsafe { libc::syscall(libc::SYS_setgroups, groups_len, groups) })?;
    // SAFETY: no pointers.
    check(Step::Identity, unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: no pointers.
    check(Step::Identity, unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })
}

/// A change from root to another user takes most of them; what was inheritable, or kept by a setting of our own
/// parent's, goes too.
fn drop_capabilities() -> Result<(), (Step, i32)> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let none = [0u32; 6];
    // SAFETY: no pointers. Before Linux 4.3 there are no ambient ones.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, CLEAR_ALL, NONE, NONE, NONE) };
    // SAFETY: the header and two sets of three words, which the kernel only reads.
    check(Step::Identity, unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) })
}
