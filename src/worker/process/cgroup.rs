//! A cgroup per instance, where there is a cgroup v2 that we may write to: the surest way to know a whole tree.
//!
//! A process cannot leave it by forking, starting a session or clearing its environment. Only the tree is used
//! here, no controllers, so a hybrid machine whose controllers sit in v1 has it too. Nothing is required of the
//! host: without a writable v2 the runner falls back to sessions, orphans and the fence, and says so.

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use crate::worker::unix::{Placement, Stack, can_clone_into};

/// Begins the name of a command's cgroup; no slug has a dot.
const CALL: &str = "call.";
/// So often, and so long each time, a cgroup that was killed is waited for.
const SWEEPS: u32 = 100;
const SWEEP: Duration = Duration::from_millis(5);
/// So often a lock is tried, at the same distance, whose holder may just be dying.
const LOCK_TRIES: u32 = 20;

/// Where the cgroups of one runtime stand.
#[derive(Debug)]
pub(super) struct CgroupRoot {
    dir: Arc<RootDir>,
    /// Whether children can be born in them; else they go there by themselves.
    born: bool,
    /// Whether this process may be moved into a cgroup of its own.
    steps_aside: bool,
    /// Locked as long as we live; none while another runtime has it.
    lock: Option<File>,
}

/// A directory of cgroups; removed once nobody needs it, unless a cgroup with processes is left in it.
#[derive(Debug)]
pub(super) struct RootDir {
    path: PathBuf,
    /// Somebody else's, and left to him.
    is_others: AtomicBool,
}

impl RootDir {
    /// Makes it, or takes it as it is.
    pub(super) fn make(path: &Path) -> io::Result<Self> {
        make_dir(path)?;
        Ok(Self::at(path))
    }

    fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), is_others: AtomicBool::new(false) }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// The cgroup of one instance. Removed when dropped, if nobody is left in it.
#[derive(Debug)]
pub(super) struct Cgroup {
    path: PathBuf,
    dir: OwnedFd,
    events: File,
    /// Only there with a memory controller.
    memory: Option<File>,
    /// Open only if children go there by themselves.
    procs: Option<File>,
    /// Keeps the directory above; absent if an earlier runtime made it.
    root: Option<Arc<RootDir>>,
    /// Killed as a whole: on some kernels (6.18 among them) whoever is born into it later dies at once.
    spent: AtomicBool,
    /// Another one stands under its path now, which must not be removed with it.
    replaced: AtomicBool,
}

impl CgroupRoot {
    /// Looks for a place, under our own cgroup first, then at the root of the hierarchy. `Err` says why there
    /// is none.
    pub(super) fn find(name: &str, steps_aside: bool) -> Result<Self, String> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")
            .map_err(|e| format!("/proc/self/mountinfo: {e}"))?;
        let mount = mounts.lines().find_map(v2_mount).ok_or("no cgroup v2 is mounted")?;
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let mut why = String::new();
        for parent in [mount.join(own), mount] {
            match Self::try_at(&parent.join(name)) {
                Ok(root) => {
                    let root = Self { steps_aside, lock: lock(root.dir()), ..root };
                    if root.is_ours() {
                        sweep(root.dir());
                    } else {
                        root.dir.is_others.store(true, Ordering::Relaxed);
                    }
                    return Ok(root);
                }
                Err(error) => why = format!("{}: {error}", parent.display()),
            }
        }
        Err(why)
    }

    fn try_at(dir: &Path) -> io::Result<Self> {
        make_dir(dir)?;
        let mut root = Self { dir: Arc::new(RootDir::at(dir)), born: true, steps_aside: false, lock: None };
        let trial = root.make("trial")?;
        let mut stack = Stack::new()?;
        root.born = can_clone_into(&mut stack, trial.dir.as_fd());
        drop(trial);
        if !root.born {
            // Then a child must at least be able to enter.
            drop(root.make("trial")?);
        }
        Ok(root)
    }

    /// The directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir.path
    }

    /// Whether no other runtime has it. Two can meet here once the state directory of the first was moved away: its
    /// name follows from the path.
    pub(super) fn is_ours(&self) -> bool {
        self.lock.is_some()
    }

    /// The slugs of those in whose cgroups somebody lives.
    pub(super) fn inhabited(&self) -> Vec<String> {
        let inhabited = below(self.dir()).filter(|dir| lived_in(dir));
        let names = inhabited.filter_map(|dir| Some(dir.file_name()?.to_str()?.to_owned()));
        names.filter(|name| !name.starts_with(CALL)).collect()
    }

    /// Makes the cgroup of an instance. One that is there already is made anew if it is empty, since nobody knows
    /// what was done to it; else it is taken as it is, and children enter it by themselves.
    pub(super) fn make(&self, slug: &str) -> io::Result<Cgroup> {
        let path = self.dir().join(slug);
        let fresh = match std::fs::create_dir(&path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // In one that is lived in, what its worker made below is not touched.
                let removed = !lived_in(&path)
                    && match remove_tree(&path) {
                        Ok(()) => true,
                        Err(error) => error.kind() == io::ErrorKind::NotFound,
                    };
                make_dir(&path)?;
                removed
            }
            Err(error) => return Err(error),
        };
        let mut cgroup = Cgroup::open(path)?;
        cgroup.root = Some(self.dir.clone());
        if !self.born || !fresh {
            cgroup.procs =
                Some(std::fs::OpenOptions::new().write(true).open(cgroup.path.join("cgroup.procs"))?);
        }
        Ok(cgroup)
    }
}

impl CgroupRoot {
    /// One for a command beside a worker: in the cgroup of this instance, if that has one, else beside it.
    pub(super) fn call(&self, within: Option<&str>, number: u64) -> io::Result<Cgroup> {
        let inside = within.map(|slug| self.dir().join(slug)).filter(|dir| dir.is_dir());
        let path = inside.unwrap_or_else(|| self.dir().to_owned()).join(format!("{CALL}{number:016x}"));
        std::fs::create_dir(&path)?;
        let mut cgroup = Cgroup::open(path)?;
        cgroup.root = Some(self.dir.clone());
        if !self.born {
            cgroup.procs =
                Some(std::fs::OpenOptions::new().write(true).open(cgroup.path.join("cgroup.procs"))?);
        }
        Ok(cgroup)
    }

    /// One into which children can be born, in place of a spent one.
    pub(super) fn renew(&self, spent: &Cgroup, slug: &str) -> io::Result<Cgroup> {
        spent.replaced.store(true, Ordering::Relaxed);
        self.make(slug)
    }
}

impl CgroupRoot {
    /// Makes a controller work in the cgroups of instances.
    pub(super) fn enable(&self, controller: &str) -> io::Result<()> {
        let dir = self.dir();
        let offered = |dir: &Path| lists(&dir.join("cgroup.controllers"), controller);
        let parent = dir.parent().unwrap_or(dir);
        if !offered(parent) {
            return Err(io::Error::other(format!("{} has no {controller} controller", parent.display())));
        }
        if !offered(dir) {
            hand_down(parent, controller).or_else(|error| {
                if error.raw_os_error() != Some(libc::EBUSY) || !self.steps_aside {
                    return Err(error);
                }
                // A cgroup with processes hands nothing down; in one that is ours alone, that is only us.
                step_aside(parent)?;
                hand_down(parent, controller)
            })?;
        }
        hand_down(dir, controller)
    }
}

/// Ends commands that an earlier runtime left beside its workers. Those inside of a worker's end with it.
pub(super) fn sweep(root: &Path) {
    let calls: Vec<_> = below(root)
        .filter(|path| {
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(CALL.as_bytes()))
        })
        .collect();
    for path in &calls {
        if let Err(error) = std::fs::write(path.join("cgroup.kill"), "1") {
            tracing::warn!(%error, path = %path.display(), "a command that an earlier regrow left cannot be killed");
        }
    }
    for path in &calls {
        for _ in (0..SWEEPS).take_while(|_| lived_in(path)) {
            std::thread::sleep(SWEEP);
        }
        remove_dir(path);
    }
}

/// Locks the directory; `None`: another runtime that lives has done so. Where there are no such locks nobody has.
fn lock(dir: &Path) -> Option<File> {
    let dir = File::open(dir).ok()?;
    for _ in 0..LOCK_TRIES {
        match dir.try_lock() {
            Ok(()) | Err(TryLockError::Error(_)) => return Some(dir),
            Err(TryLockError::WouldBlock) => std::thread::sleep(SWEEP),
        }
    }
    None
}

fn hand_down(dir: &Path, controller: &str) -> io::Result<()> {
    let path = dir.join("cgroup.subtree_control");
    if lists(&path, controller) {
        return Ok(());
    }
    std::fs::write(&path, format!("+{controller}"))
}

fn lists(path: &Path, word: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.split_ascii_whitespace().any(|one| one == word))
}

/// Moves this process into a cgroup of its own below, if nobody else is in this one.
fn step_aside(dir: &Path) -> io::Result<()> {
    let members = std::fs::read_to_string(dir.join("cgroup.procs"))?;
    let own = std::process::id().to_string();
    if members.lines().any(|pid| pid != own) {
        return Err(io::Error::other(format!("other processes live in {}", dir.display())));
    }
    let aside = dir.join("regrow-runtime");
    make_dir(&aside)?;
    std::fs::write(aside.join("cgroup.procs"), own)
}

impl Drop for RootDir {
    fn drop(&mut self) {
        if !self.is_others.load(Ordering::Relaxed) {
            remove_dir(&self.path);
        }
    }
}

impl Cgroup {
    /// Opens one that exists.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let dir = rustix::fs::open(&path, OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let events = File::open(path.join("cgroup.events"))?;
        let memory = File::open(path.join("memory.events")).ok();
        let (spent, replaced) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { path, dir, events, memory, procs: None, root: None, spent, replaced })
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How a child comes in.
    pub(super) fn placement(&self) -> Placement<'_> {
        match &self.procs {
            Some(procs) => Placement::Enters(procs.as_fd()),
            None => Placement::Born(self.dir()),
        }
    }

    fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Whether it was made anew, so that nobody lived in it before our children do.
    pub(super) fn is_fresh(&self) -> bool {
        self.procs.is_none()
    }

    /// Whether a process lives in it. One system call.
    pub(super) fn populated(&self) -> io::Result<bool> {
        let mut text = [0; 64];
        let read = self.events.read_at(&mut text, 0)?;
        Ok(text[..read].split(|byte| *byte == b'\n').any(|line| line == b"populated 1"))
    }

    /// Kills everybody in it, also who is just being born. False: this kernel cannot (before 5.14).
    pub(super) fn kill(&self) -> io::Result<bool> {
        match std::fs::write(self.path.join("cgroup.kill"), "1") {
            Ok(()) => {
                self.spent.store(true, Ordering::Relaxed);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether it was killed as a whole and must be renewed before somebody is born into it.
    pub(super) fn is_spent(&self) -> bool {
        self.spent.load(Ordering::Relaxed) && self.procs.is_none()
    }

    /// Who lives in it.
    pub(super) fn members(&self) -> Vec<u32> {
        let mut found = Vec::new();
        let mut open = vec![self.path.clone()];
        while let Some(dir) = open.pop() {
            let text = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().filter_map(|pid| pid.parse::<u32>().ok()).filter(|pid| *pid > 0));
            open.extend(below(&dir));
        }
        found
    }

    /// Whether this process is in it, or in one that the worker made below.
    pub(super) fn holds(&self, pid: u32) -> bool {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let ours: PathBuf =
            self.path.components().rev().take(2).collect::<Vec<_>>().into_iter().rev().collect();
        text.lines()
            .filter_map(|line| line.strip_prefix("0::"))
            .any(|path| Path::new(path).ancestors().any(|above| above.ends_with(&ours)))
    }

    /// How many of its processes the kernel killed for memory; `None` without a memory controller here.
    pub(super) fn oom_kills(&self) -> Option<u64> {
        self.memory.as_ref().and_then(oom_kills_in)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if !self.replaced.load(Ordering::Relaxed) {
            remove_dir(&self.path);
        }
    }
}

/// The `oom_kill` line of `memory.events` (v2) or `memory.oom_control` (v1).
pub(super) fn oom_kills_in(file: &File) -> Option<u64> {
    let mut text = [0; 512];
    let read = file.read_at(&mut text, 0).ok()?;
    let text = std::str::from_utf8(&text[..read]).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// The mount point of a line of mountinfo, if it is a cgroup v2.
fn v2_mount(line: &str) -> Option<PathBuf> {
    let (left, right) = line.split_once(" - ")?;
    (right.split(' ').next() == Some("cgroup2")).then(|| left.split(' ').nth(4).map(PathBuf::from))?
}

/// Removes a cgroup and those that a worker made in it, the deepest first; stops at the first that is not empty.
fn remove_tree(path: &Path) -> io::Result<()> {
    for dir in below(path) {
        remove_tree(&dir)?;
    }
    std::fs::remove_dir(path)
}

fn lived_in(path: &Path) -> bool {
    std::fs::read_to_string(path.join("cgroup.events")).is_ok_and(|text| text.contains("populated 1"))
}

fn below(path: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

fn make_dir(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

/// Busy means that somebody lives in it, who is looked after by whoever finds him there.
fn remove_dir(path: &Path) {
    if let Err(error) = remove_tree(path)
        && !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ResourceBusy)
    {
        tracing::debug!(%error, path = %path.display(), "an empty cgroup stays behind");
    }
}
