//! Finding a worker's whole tree without a cgroup, and killing it.
//!
//! `/proc` is read once per round. Who belongs: the session and the group of the first process (its number
//! cannot be used again while we keep its zombie), every descendant of those, every process whose environment
//! says that it was started for this instance, and who holds the FIFO open, which is the fence. A process that
//! started a session of its own, closed its output and cleared its environment while its parents ended is found
//! by none of these; only a cgroup holds that one.
//!
//! Nobody is signalled by pid: each is opened, looked at again, and signalled through its descriptor.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::id::InstanceId;
use crate::worker::unix::{pidfd_open, send_signal};

use super::cgroup::Cgroup;
use super::company::Company;
use super::rival;

/// A fork bomb is outrun by looking again; the caller comes back anyway.
const ROUNDS: usize = 8;
/// Our variables stand at the beginning of a worker's environment.
const ENVIRON_READ: u64 = 8 * 1024;

/// Whose tree.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Two variables, as they stand in the environment. One that is enough stands here twice.
    marks: [Vec<u8>; 2],
    /// Where the second one says that its directory is.
    state: Option<PathBuf>,
    fifo: PathBuf,
    /// A process whose zombie we keep, or that lives: leader of a session and a group.
    leader: Option<u32>,
    /// The main process, if it is another one.
    main: Option<u32>,
    /// Who belongs to one that ran before us.
    company: Option<Company>,
}

/// One process as `/proc` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) pid: u32,
    pub(super) parent: u32,
    pub(super) group: u32,
    pub(super) session: u32,
    pub(super) started: u64,
    pub(super) threads: u64,
    /// Resident memory, in pages.
    pub(super) resident: u64,
    pub(super) dead: bool,
}

impl Stat {
    /// Whether it is the same process, and not another one of that number.
    pub(super) fn is(&self, other: &Self) -> bool {
        (self.pid, self.started) == (other.pid, other.started)
    }
}

impl Target {
    /// The tree of an instance.
    pub(super) fn new(instance: &InstanceId, state: &Path, fifo: &Path) -> Self {
        let mark = |name: &str, value: &[u8]| [name.as_bytes(), value].concat();
        Self {
            marks: [
                mark("REGROW_INSTANCE=", instance.to_string().as_bytes()),
                mark("REGROW_STATE_DIR=", state.as_os_str().as_bytes()),
            ],
            state: Some(state.to_owned()),
            fifo: fifo.to_owned(),
            leader: None,
            main: None,
            company: None,
        }
    }

    /// The tree of an instance whose name is not certain: its directory is nobody else's.
    pub(super) fn of_dir(state: &Path, fifo: &Path) -> Self {
        let mark = [b"REGROW_STATE_DIR=", state.as_os_str().as_bytes()].concat();
        let (marks, state) = ([mark.clone(), mark], Some(state.to_owned()));
        Self { marks, state, fifo: fifo.to_owned(), leader: None, main: None, company: None }
    }

    /// The tree of a command beside a worker, which carries this variable and leads a session.
    pub(super) fn of_call(mark: &[u8], leader: u32) -> Self {
        let fifo = PathBuf::new();
        Self {
            marks: [mark.to_owned(), mark.to_owned()],
            state: None,
            fifo,
            leader: Some(leader),
            main: None,
            company: None,
        }
    }

    /// The same with these processes known.
    pub(super) fn with(&self, leader: Option<u32>, main: Option<u32>) -> Self {
        Self { leader, main, ..self.clone() }
    }

    /// The same with those around a program that ran before us.
    pub(super) fn among(self, company: Option<&Company>) -> Self {
        Self { company: company.cloned(), ..self }
    }

    /// Whether there were any.
    pub(super) fn had_company(&self) -> bool {
        self.company.is_some()
    }

    /// Whether anybody is left of those around a program that ran before us.
    pub(super) fn has_company(&self) -> bool {
        self.company.as_ref().is_some_and(Company::lives)
    }

    /// Whether this process was started for the instance, by its own environment.
    pub(super) fn is_marked(&self, pid: u32) -> bool {
        let environ = environ(pid);
        let has = |mark: &Vec<u8>| environ.split(|byte| *byte == 0).any(|variable| variable == mark);
        self.marks.iter().all(has) && !self.state.as_ref().is_some_and(|state| is_elsewhere(pid, state))
    }

    /// Whether an orphan that became our child is one of the tree's.
    pub(super) fn owns_orphan(&self, pid: u32) -> bool {
        let Some(stat) = stat(pid) else { return false };
        !stat.dead && (self.leads(&stat) || self.is_marked(pid) || self.holds_fence(pid))
    }

    /// Whether a process belongs to the tree: itself, by session, or through its parents.
    pub(super) fn owns(&self, pid: u32) -> bool {
        // Deeper than any sane tree; a longer chain is somebody's attempt to keep us busy.
        const DEPTH: usize = 64;
        let mut at = pid;
        for _ in 0..DEPTH {
            let Some(stat) = stat(at) else { return false };
            if self.leads(&stat) || self.main == Some(at) || self.is_marked(at) {
                return true;
            }
            if stat.parent <= 1 {
                return false;
            }
            at = stat.parent;
        }
        false
    }

    /// Everyone who belongs by session or descent: without a look at anybody's environment.
    fn kin(&self) -> Vec<Stat> {
        let all = everybody();
        let mine = all.iter().filter(|stat| self.leads(stat) || self.main == Some(stat.pid));
        let mut mine: HashSet<u32> = mine.map(|stat| stat.pid).collect();
        add_descendants(&all, &mut mine);
        all.into_iter().filter(|stat| mine.contains(&stat.pid)).collect()
    }

    /// Everyone who belongs and lives.
    fn find(&self) -> Vec<Stat> {
        let own = std::process::id();
        let all: Vec<Stat> = all_pids().into_iter().filter(|pid| *pid != own).filter_map(stat).collect();
        let mut mine: HashSet<u32> = all
            .iter()
            .filter(|stat| self.leads(stat) || self.main == Some(stat.pid) || self.is_marked(stat.pid))
            .map(|stat| stat.pid)
            .collect();
        mine.extend(self.company.iter().flat_map(|company| company.among(&all)));
        add_descendants(&all, &mut mine);
        if mine.iter().all(|pid| all.iter().any(|stat| stat.pid == *pid && stat.dead)) {
            mine.extend(all.iter().map(|stat| stat.pid).filter(|pid| self.holds_fence(*pid)));
        }
        all.into_iter().filter(|stat| !stat.dead && mine.contains(&stat.pid)).collect()
    }

    fn leads(&self, stat: &Stat) -> bool {
        self.leader.is_some_and(|leader| [stat.pid, stat.session, stat.group].contains(&leader))
    }

    /// Whether the process has the fence: the FIFO, through an open file that carries the lock.
    fn holds_fence(&self, pid: u32) -> bool {
        // Asked first: once it runs its own program, it has nothing open but its own.
        if is_being_started(pid) {
            return false;
        }
        let Ok(fifo) = std::fs::symlink_metadata(&self.fifo) else { return false };
        let Ok(fds) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        fds.flatten().any(|fd| {
            let is_fifo = std::fs::metadata(fd.path())
                .is_ok_and(|file| (file.dev(), file.ino()) == (fifo.dev(), fifo.ino()));
            is_fifo && is_locked(pid, &fd.file_name())
        }) && !rival::is_runtime(pid)
    }
}

/// What a tree uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    /// Bytes.
    pub(super) memory: u64,
    /// Processes and threads.
    pub(super) processes: u64,
}

/// Measures a tree: one file per process of it, and of the whole machine where there is no cgroup. Memory that several
/// of them share is counted for each, so that only a sum above `limit` is worth the dearer, exact look.
pub(super) fn usage(target: &Target, main: u32, cgroup: Option<&Cgroup>, limit: Option<u64>) -> Usage {
    let mut found: Vec<Stat> = match cgroup {
        Some(cgroup) => cgroup.members().into_iter().filter_map(stat).collect(),
        None => target.kin(),
    };
    if !found.iter().any(|stat| stat.pid == main) {
        found.extend(stat(main));
    }
    found.retain(|stat| !stat.dead);
    let pages: u64 = found.iter().map(|stat| stat.resident).sum();
    let mut memory = pages * rustix::param::page_size() as u64;
    if limit.is_some_and(|limit| memory > limit) {
        let exact: Option<u64> = found.iter().map(|stat| proportional(stat.pid)).sum();
        memory = exact.unwrap_or(memory);
    }
    Usage { memory, processes: found.iter().map(|stat| stat.threads).sum() }
}

/// Bytes of memory, shared ones divided among those who share them. Nothing of one that has just ended.
fn proportional(pid: u32) -> Option<u64> {
    let text = match std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
        Ok(text) => text,
        Err(_) if stat(pid).is_none_or(|stat| stat.dead) => return Some(0),
        Err(_) => return None,
    };
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// Every process that carries the mark of a worker below one of these directories, by the worker's slug.
pub(super) fn marked_below(homes: &[PathBuf]) -> HashMap<String, Vec<u32>> {
    let own = std::process::id();
    let head = |home: &PathBuf| [b"REGROW_STATE_DIR=", home.as_os_str().as_bytes(), b"/"].concat();
    let heads: Vec<_> = homes.iter().map(head).collect();
    let mut found: HashMap<String, Vec<u32>> = HashMap::new();
    for pid in all_pids().into_iter().filter(|pid| *pid != own) {
        let environ = environ(pid);
        let mark = environ.split(|byte| *byte == 0).find_map(|variable| {
            let below =
                |(home, head): (&PathBuf, &Vec<u8>)| Some((home.clone(), variable.strip_prefix(&head[..])?));
            homes.iter().zip(&heads).find_map(below)
        });
        let slug = mark
            .and_then(|(home, mark)| Some((home, std::str::from_utf8(mark).ok()?.strip_suffix("/state")?)));
        if let Some((home, slug)) = slug
            && !is_elsewhere(pid, &home)
        {
            found.entry(slug.to_owned()).or_default().push(pid);
        }
    }
    found
}

/// Whether this path is another directory for it: where namespaces differ, the same name is somebody else's. Who sees
/// none there may have changed its root since.
pub(super) fn is_elsewhere(pid: u32, path: &Path) -> bool {
    let place = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    let Ok(below) = path.strip_prefix("/") else { return false };
    let theirs = place(&Path::new(&format!("/proc/{pid}/root")).join(below));
    theirs.is_some_and(|theirs| place(path).is_some_and(|ours| theirs != ours))
}

/// Every process with a variable that begins like this.
pub(super) fn carriers(mark: &[u8]) -> Vec<u32> {
    let own = std::process::id();
    all_pids().into_iter().filter(|pid| *pid != own && carries(*pid, mark)).collect()
}

/// Whether a process has such a variable.
pub(super) fn carries(pid: u32, mark: &[u8]) -> bool {
    environ(pid).split(|byte| *byte == 0).any(|variable| variable.starts_with(mark))
}

/// Whether a path means the same to it: in another container the same name is another directory.
pub(super) fn sees_our_files(pid: u32) -> bool {
    let root = |path: &str| std::fs::metadata(path).map(|root| (root.dev(), root.ino())).ok();
    root(&format!("/proc/{pid}/root/")).is_some_and(|its| root("/") == Some(its))
}

/// The beginning of its environment; nothing of a process that ends while it is read, since that belongs to nobody.
fn environ(pid: u32) -> Vec<u8> {
    let mut environ = Vec::new();
    let read = std::fs::File::open(format!("/proc/{pid}/environ"))
        .and_then(|file| file.take(ENVIRON_READ).read_to_end(&mut environ));
    if read.is_err() {
        environ.clear();
    }
    environ
}

/// Whether it is a child of ours that has not reached its program yet. Until then it has what we have open, and so
/// for a moment the fences of instances that it has nothing to do with.
fn is_being_started(pid: u32) -> bool {
    let program =
        |who: &str| std::fs::metadata(format!("/proc/{who}/exe")).map(|file| (file.dev(), file.ino())).ok();
    let own = std::process::id();
    stat(pid).is_some_and(|stat| stat.parent == own) && program(&pid.to_string()) == program("self")
}

/// Whether the open file behind a descriptor carries a lock of the whole file.
fn is_locked(pid: u32, fd: &std::ffi::OsStr) -> bool {
    let info = std::fs::read(Path::new(&format!("/proc/{pid}/fdinfo")).join(fd)).unwrap_or_default();
    info.split(|byte| *byte == b'\n')
        .any(|line| line.starts_with(b"lock:") && line.windows(5).any(|word| word == b"FLOCK"))
}

/// Signals everyone in the first process's group who can be found; for kernels that cannot do it in one call.
pub(super) fn signal_group(leader: u32, signals: &[i32]) {
    for found in all_pids().into_iter().filter_map(stat).filter(|found| found.group == leader && !found.dead)
    {
        for signal in signals {
            signal_one(&found, *signal);
        }
    }
}

/// How far a kill looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// In the cgroup, where there is one. Looking through all of /proc at every stop would make the end of a large
    /// fleet quadratic; who moved out of the cgroup still holds the fence, and is looked for once that shows.
    Cgroup,
    /// In the cgroup and through all of /proc.
    Everywhere,
}

/// Kills everyone in the tree; answers how many were found alive.
pub(super) fn kill(target: &Target, cgroup: Option<&Cgroup>, reach: Reach) -> u32 {
    let mut killed: HashSet<(u32, u64)> = HashSet::new();
    if let Some(cgroup) = cgroup {
        let members = cgroup.members();
        killed.extend(members.iter().filter_map(|pid| stat(*pid)).map(|stat| (stat.pid, stat.started)));
        match cgroup.kill() {
            Ok(true) if reach == Reach::Cgroup => return u32::try_from(killed.len()).unwrap_or(u32::MAX),
            Ok(true) => {}
            Ok(false) => kill_each(members.into_iter().filter(|pid| cgroup.holds(*pid)).filter_map(stat)),
            Err(error) => {
                tracing::warn!(%error, "a cgroup cannot be killed at once; its processes are, one by one")
            }
        }
    }
    for _ in 0..ROUNDS {
        let found = target.find();
        let before = killed.len();
        killed.extend(found.iter().map(|stat| (stat.pid, stat.started)));
        // The leader last: its death would hide who its children are.
        let (leader, others): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|stat| target.leader == Some(stat.pid));
        kill_each(others.into_iter().chain(leader));
        if killed.len() == before {
            break;
        }
    }
    u32::try_from(killed.len()).unwrap_or(u32::MAX)
}

fn kill_each(found: impl Iterator<Item = Stat>) {
    for stat in found {
        signal_one(&stat, libc::SIGKILL);
    }
}

/// Opens the process, makes sure that it is still the one that was found, and only then signals it.
fn signal_one(found: &Stat, signal: i32) {
    let Ok(pidfd) = pidfd_open(found.pid) else { return };
    if stat(found.pid).is_some_and(|now| now.started == found.started && now.session == found.session)
        && let Err(error) = send_signal(&pidfd, signal)
        && error.raw_os_error() != Some(libc::ESRCH)
    {
        tracing::warn!(pid = found.pid, signal, %error, "cannot signal a process of a worker's tree");
    }
}

pub(super) fn add_descendants(all: &[Stat], mine: &mut HashSet<u32>) {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for stat in all {
        children.entry(stat.parent).or_default().push(stat.pid);
    }
    let mut open: Vec<u32> = mine.iter().copied().collect();
    while let Some(pid) = open.pop() {
        for child in children.get(&pid).into_iter().flatten() {
            if mine.insert(*child) {
                open.push(*child);
            }
        }
    }
}

/// Whether other processes can be seen at all; `hidepid` or a missing `/proc` hides them.
pub(super) fn can_see() -> bool {
    stat(std::process::id()).is_some() && Path::new("/proc/1/stat").exists()
}

/// Everybody who is there.
pub(super) fn everybody() -> Vec<Stat> {
    all_pids().into_iter().filter_map(stat).collect()
}

fn all_pids() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

pub(super) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(pid, &std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The name in the second field may contain anything, so fields are counted from its last `)`.
fn parse_stat(pid: u32, bytes: &[u8]) -> Option<Stat> {
    let end = bytes.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(bytes.get(end + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u32>().ok();
    Some(Stat {
        pid,
        dead: matches!(*fields.first()?, "Z" | "X" | "x"),
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        threads: fields.get(17)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
        resident: fields.get(21)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_does_not_shift_the_fields() {
        let line = b"42 (a) R 1 (x)) S 7 8 9 0 -1 0 0 0 0 0 0 0 0 0 0 0 1 0 12345 0 25";
        let stat = parse_stat(42, line).unwrap();
        assert_eq!((stat.parent, stat.group, stat.session, stat.started), (7, 8, 9, 12345));
        assert!(!stat.dead);
    }

    #[test]
    fn sees_this_very_process() {
        assert!(can_see());
        assert_eq!(stat(std::process::id()).unwrap().pid, std::process::id());
    }
}
