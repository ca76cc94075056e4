//! Whose a child is: a worker's main process, which its runner waits for, or an orphan, which nobody does.
//!
//! Descendants of workers whose parents ended become our children (subreaper, or pid 1), and somebody must take
//! their status. That somebody must never take a worker's: so every main process is registered here before
//! anyone could mistake it, and a process between its clone and its registration shows in its thread's page.
//! All of this is of the whole process and not of one runtime, because children are.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use crate::worker::unix::{Page, ZombieWait, next_halted, peek_zombie, reap};

use super::tree::{Stat, stat};

/// Orphans are reaped in batches, far away from a restart's critical path.
const BATCH: Duration = Duration::from_millis(100);
/// How long to look away while a registered zombie stands before the others.
const LATER: Duration = Duration::from_secs(1);

static KNOWN: Mutex<Known> = Mutex::new(Known { mains: None, pages: Vec::new() });
static REAPING: AtomicBool = AtomicBool::new(false);
/// Children of this process from before it was a runtime's, by number and time of start: a shell that becomes regrow
/// (`exec`) hands down its own.
static BEFORE: OnceLock<HashSet<(u32, u64)>> = OnceLock::new();
static LISTENERS: Mutex<Vec<OnHalt>> = Mutex::new(Vec::new());

/// Called with a child that was halted. False: nobody wants to know any more.
pub(crate) type OnHalt = Box<dyn Fn(u32) -> bool + Send>;

struct Known {
    mains: Option<HashSet<u32>>,
    pages: Vec<Weak<Page>>,
}

/// A registered main process; taken off the list when dropped.
#[derive(Debug)]
pub(super) struct Registered(u32);

/// Registers a main process. Its status must be taken before the value is dropped, else the reaper takes it.
pub(super) fn register(pid: u32) -> Registered {
    lock().mains.get_or_insert_default().insert(pid);
    Registered(pid)
}

/// Registers a main process that somebody else started; `None`: it is a worker's already.
pub(super) fn claim(pid: u32) -> Option<Registered> {
    lock().mains.get_or_insert_default().insert(pid).then_some(Registered(pid))
}

impl Drop for Registered {
    fn drop(&mut self) {
        lock().mains.get_or_insert_default().remove(&self.0);
    }
}

/// Makes a spawning thread's page known.
pub(super) fn remember(page: &Arc<Page>) {
    lock().pages.push(Arc::downgrade(page));
}

/// Takes it off the list.
pub(super) fn forget(page: &Arc<Page>) {
    lock().pages.retain(|known| known.upgrade().is_some_and(|known| !Arc::ptr_eq(&known, page)));
}

/// Has halts of children told, by the thread that reaps orphans.
pub(super) fn hear_halts(listener: OnHalt) {
    LISTENERS.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
}

fn tell_halts() {
    while let Some(pid) = next_halted() {
        LISTENERS.lock().unwrap_or_else(PoisonError::into_inner).retain(|listener| listener(pid));
    }
}

/// Starts the thread that reaps orphans, once per process. Only for a process whose children are all ours: the
/// children of a host program are none of our business.
pub(super) fn reap_orphans() -> std::io::Result<()> {
    BEFORE.get_or_init(|| orphans().into_iter().filter_map(stat).map(|one| (one.pid, one.started)).collect());
    if REAPING.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    let thread = std::thread::Builder::new().name("regrow-reap".to_owned()).stack_size(128 * 1024);
    thread.spawn(reap_for_ever).map(drop).inspect_err(|_| REAPING.store(false, Ordering::SeqCst))
}

fn reap_for_ever() {
    loop {
        match peek_zombie(ZombieWait::Block) {
            // Without a child there can be no orphan either; the next one is found within a second.
            Err(_) => std::thread::sleep(LATER),
            Ok(_) => {
                tell_halts();
                std::thread::sleep(BATCH);
                if !reap_batch() {
                    std::thread::sleep(LATER);
                }
            }
        }
    }
}

/// Reaps all orphans that have ended. False: a worker's zombie is still there, so blocking would not block.
fn reap_batch() -> bool {
    let known = lock();
    // Pages are read before the registered pids and left after registration: nobody falls between.
    let Some(under_way) = known.under_way() else { return true };
    let mine =
        |pid: u32| under_way.contains(&pid) || known.mains.as_ref().is_some_and(|mains| mains.contains(&pid));
    loop {
        match peek_zombie(ZombieWait::Poll) {
            Ok(Some(pid)) if !mine(pid) => {
                if !reap(pid) {
                    return true;
                }
            }
            Ok(Some(_)) => {
                for pid in listed_children().into_iter().filter(|pid| !mine(*pid)) {
                    reap(pid);
                }
                return peek_zombie(ZombieWait::Poll).is_ok_and(|left| left.is_none());
            }
            Ok(None) | Err(_) => return true,
        }
    }
}

/// Every child of every thread.
fn listed_children() -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    threads.flatten().flat_map(|thread| children_in(&thread.path().join("children"))).collect()
}

/// Children of the first thread: what a subreaper inherits lands there, while workers are children of the
/// spawning threads. Mostly empty, so this is a cheap question.
pub(super) fn orphans() -> Vec<u32> {
    let pid = std::process::id();
    children_in(std::path::Path::new(&format!("/proc/self/task/{pid}/children")))
}

/// Those of them who live, belong to no runner, and came after us.
pub(super) fn strays() -> Vec<Stat> {
    let orphans: Vec<Stat> = orphans().into_iter().filter_map(stat).filter(|one| !one.dead).collect();
    let known = lock();
    let runs = |pid: u32| known.mains.as_ref().is_some_and(|mains| mains.contains(&pid));
    let before = |one: &Stat| BEFORE.get().is_some_and(|before| before.contains(&(one.pid, one.started)));
    orphans.into_iter().filter(|one| !runs(one.pid) && !before(one)).collect()
}

fn children_in(path: &std::path::Path) -> Vec<u32> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn lock() -> MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    /// Children between clone and registration; `None`: one of them has no known pid yet.
    fn under_way(&self) -> Option<Vec<u32>> {
        let pids = self.pages.iter().filter_map(Weak::upgrade).map(|page| page.pid()).filter(|pid| *pid != 0);
        pids.map(|pid| u32::try_from(pid).ok()).collect()
    }
}
