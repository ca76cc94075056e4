//! The memory a child shares with us until its exec: a guarded stack, and a page for its report.
//!
//! Each spawning thread owns one pair for its whole life, so a restart maps nothing.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// Room for the child's few calls: it nests three functions and one record buffer.
const STACK_SIZE: usize = 64 * 1024;
/// Below the stack, never mapped: an overflow ends the child instead of writing into our heap.
const GUARD_SIZE: usize = 64 * 1024;
const PAGE_SIZE: usize = 4096;

/// A stack for children, one at a time.
pub(crate) struct Stack {
    base: NonNull<u8>,
}

impl Stack {
    /// Maps one.
    pub(crate) fn new() -> io::Result<Self> {
        let base = map(GUARD_SIZE + STACK_SIZE, libc::MAP_PRIVATE | libc::MAP_STACK | libc::MAP_NORESERVE)?;
        let stack = Self { base };
        // SAFETY: the first GUARD_SIZE bytes of a mapping that we own and that nobody points into yet.
        if unsafe { libc::mprotect(base.as_ptr().cast(), GUARD_SIZE, libc::PROT_NONE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stack)
    }

    /// Lowest usable address.
    pub(super) fn bottom(&self) -> *mut u8 {
        // SAFETY: inside the mapping of GUARD_SIZE + STACK_SIZE bytes.
        unsafe { self.base.as_ptr().add(GUARD_SIZE) }
    }

    /// Usable bytes.
    pub(super) fn len(&self) -> usize {
        STACK_SIZE
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: our own mapping; no child runs on it, since `spawn` borrows the stack until the exec.
        unsafe { libc::munmap(self.base.as_ptr().cast(), GUARD_SIZE + STACK_SIZE) };
    }
}

// SAFETY: the mapping belongs to this value alone and is used only through `&mut` or by the waiting child.
unsafe impl Send for Stack {}

/// What a child says of itself before its exec. All atomics: it lies in shared memory.
#[repr(C)]
pub(crate) struct Report {
    /// 0: no clone under way; -1: a child may exist, its pid is not known yet; else its pid.
    pub(super) pid: AtomicI32,
    /// The failed step, 0 if none.
    pub(super) step: AtomicI32,
    /// Its errno.
    pub(super) errno: AtomicI32,
    /// Which of the candidates of `PATH` the errno belongs to.
    pub(super) candidate: AtomicI32,
    /// errno of the record's write, 0 if it was written.
    pub(super) unrecorded: AtomicI32,
    /// errno of entering the cgroup, 0 if it is inside or has none.
    pub(super) outside: AtomicI32,
    /// Its pidfs inode, 0 if there is none.
    pub(super) inode: AtomicU64,
}

/// One shared page that holds a [`Report`]; also true of a fallback child that got a copy of our memory.
pub(crate) struct Page {
    report: NonNull<Report>,
}

impl Page {
    /// Maps one, all zero.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { report: map(PAGE_SIZE, libc::MAP_SHARED)?.cast() })
    }

    /// The report.
    pub(super) fn report(&self) -> &Report {
        // SAFETY: mapped, zeroed (valid for atomics), page-aligned, and lives as long as `self`.
        unsafe { self.report.as_ref() }
    }

    /// Clears it for the next child and says that one may come into being.
    pub(super) fn arm(&self) {
        let report = self.report();
        for field in [&report.step, &report.errno, &report.candidate, &report.unrecorded, &report.outside] {
            field.store(0, Ordering::Relaxed);
        }
        report.inode.store(0, Ordering::Relaxed);
        report.pid.store(-1, Ordering::SeqCst);
    }

    /// Says that the child, if there is one, is known elsewhere by now.
    pub(crate) fn disarm(&self) {
        self.report().pid.store(0, Ordering::SeqCst);
    }

    /// 0, -1 or the pid of a child between its clone and its registration.
    pub(crate) fn pid(&self) -> i32 {
        self.report().pid.load(Ordering::SeqCst)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: our own mapping; children that still map it have a mapping of their own.
        unsafe { libc::munmap(self.report.as_ptr().cast(), PAGE_SIZE) };
    }
}

// SAFETY: only atomics are reached through it.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

fn map(len: usize, flags: i32) -> io::Result<NonNull<u8>> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing of ours.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), len, access, flags | libc::MAP_ANONYMOUS, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(at.cast()).ok_or_else(|| io::Error::other("mmap answered a null pointer"))
}

/// Lets all threads share one heap. By default each gets its own, and what one frees none of the others can use: with
/// few threads that allocate little, the holes cost more than a lock would. To be called before threads are started.
pub(crate) fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it only sets a number that malloc reads when a thread first allocates.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives memory that is free inside the process back to the machine. Reading a large configuration and booting its
/// tree takes several times what the running tree needs, and the allocator would keep it for ever.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time from any thread and touches only free memory.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets go of the pages of the program's own code and constants. Reading a configuration and booting a tree runs through
/// most of the program, an idle runtime through little of it; what is needed again comes back from the page cache, a
/// group of pages at a time. Only for a program that is ours: a host's code is its own business.
pub(crate) fn let_go_of_code() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the callback follows the contract of the call and keeps nothing of what it is shown.
    unsafe {
        libc::dl_iterate_phdr(Some(let_go_of_program), std::ptr::null_mut());
    }
}

/// The first object that is shown is the program itself; the answer 1 ends the listing there.
#[cfg(target_env = "gnu")]
unsafe extern "C" fn let_go_of_program(
    shown: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the caller shows a valid object, which lives for as long as this call.
    let program = unsafe { &*shown };
    for at in 0..usize::from(program.dlpi_phnum) {
        // SAFETY: the table has that many entries.
        let part = unsafe { &*program.dlpi_phdr.add(at) };
        // What can be written to holds more than the file does.
        if part.p_type != libc::PT_LOAD || part.p_flags & libc::PF_W != 0 {
            continue;
        }
        let start = (program.dlpi_addr + part.p_vaddr) as usize;
        let first = start - start % PAGE_SIZE;
        let len = (start + part.p_memsz as usize).next_multiple_of(PAGE_SIZE) - first;
        // SAFETY: a mapping of the file that nobody can write to: what is dropped is read again from the same file.
        unsafe { libc::madvise(first as *mut libc::c_void, len, libc::MADV_DONTNEED) };
    }
    1
}
