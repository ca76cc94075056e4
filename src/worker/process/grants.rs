//! What the machine grants a host of processes, found out or taken once at its start; what it does not is noted.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::worker::unix::{pidfd_open, pidfs_inode};

use super::cgroup::CgroupRoot;
use super::host::HostOptions;
use super::{children, clear, shelter};

pub(super) fn find_shelter(
    state_dir: &Path,
    new: u64,
    shared: bool,
    notes: &mut Vec<String>,
) -> io::Result<Option<PathBuf>> {
    let Some(trouble) = shelter::trouble(state_dir, new)? else { return Ok(None) };
    let shelter = shelter::seek(state_dir, shared)?;
    shelter::sweep(clear::is_lived_in);
    notes.push(format!(
        "the state directory takes nothing ({trouble}): sockets, FIFOs and the spawn record are in {}; \
         make room in it and start regrow again",
        shelter.display()
    ));
    Ok(Some(shelter))
}

pub(super) fn find_cgroups(key: &str, options: HostOptions, notes: &mut Vec<String>) -> Option<CgroupRoot> {
    if !options.cgroups {
        return None;
    }
    match CgroupRoot::find(key, options.step_aside) {
        Ok(root) => Some(root),
        Err(why) => {
            notes.push(format!(
                "no writable cgroup v2 ({why}): trees are known by session, descent and fence"
            ));
            None
        }
    }
}

/// Those of another runtime that lives are not used: what is killed there would be its.
pub(super) fn only_ours(found: Option<CgroupRoot>, notes: &mut Vec<String>) -> Option<CgroupRoot> {
    let root = found?;
    if root.is_ours() {
        return Some(root);
    }
    notes.push(format!(
        "another runtime that lives has {}: trees are known by session, descent and fence",
        root.dir().display()
    ));
    None
}

/// What the runtime itself keeps open, with its threads, its store and those who ask it something.
const OWN_FILES: u64 = 128;
/// What it keeps open for an instance: its process, output, sockets, cgroup and figures.
const FILES_EACH: u64 = 7;

/// What the limit of open files on this machine is too small for; nothing without limit.
pub(crate) fn too_few_files(instances: u64, limit: Option<u64>) -> Option<String> {
    let need = OWN_FILES.saturating_add(FILES_EACH.saturating_mul(instances));
    let limit = limit.filter(|limit| *limit < need)?;
    let fit = limit.saturating_sub(OWN_FILES) / FILES_EACH;
    Some(format!(
        "{instances} instances take about {need} open files of regrow, and it may have {limit}: about {fit} would start; \
         raise its limit (LimitNOFILE, ulimit -n)"
    ))
}

/// How many files this process may have open at most.
pub(crate) fn most_files() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// The limits of open files that this process had before they were raised.
static GIVEN: OnceLock<(u64, u64)> = OnceLock::new();

/// Raises the soft limit of open files to the hard one: a supervisor holds a handful of descriptors per worker, and the
/// usual 1024 are for programs that use `select`. Answers what workers get back; `None`: there was nothing to raise.
///
/// # Errors
/// The system's.
pub(crate) fn raise_open_files() -> io::Result<Option<(u64, u64)>> {
    let limit = getrlimit(Resource::Nofile);
    let (soft, hard) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    if soft == hard {
        return Ok(GIVEN.get().copied());
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(Some(*GIVEN.get_or_init(|| (soft, hard))))
}

/// The same; why not is noted.
pub(super) fn raise_nofile(notes: &mut Vec<String>) -> Option<(u64, u64)> {
    raise_open_files().unwrap_or_else(|error| {
        let soft = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        notes.push(format!("the limit of open files stays at {soft}: {error}"));
        None
    })
}

pub(super) fn has_pidfs(notes: &mut Vec<String>) -> bool {
    let has = pidfd_open(std::process::id()).is_ok_and(|own| pidfs_inode(&own).is_some());
    if !has {
        notes.push(
            "before Linux 6.9 survivors are known by their environment, not by a pidfs inode".to_owned(),
        );
    }
    has
}

/// Whether our stdin is a terminal that somebody else reads now: what is typed there is not for us.
pub(super) fn in_background() -> bool {
    let foreground = rustix::termios::tcgetpgrp(std::io::stdin());
    foreground.is_ok_and(|group| group != rustix::process::getpgrp())
}

/// `SIGPIPE`, and what whoever started us ignored.
pub(super) fn ignored_signals() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let bits = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(bits.trim(), 16).ok()
}

pub(super) fn adopt_orphans(options: HostOptions, notes: &mut Vec<String>) -> bool {
    if !options.adopt_orphans {
        return false;
    }
    let own = Some(rustix::process::getpid());
    let adopted = rustix::process::set_child_subreaper(own).map_err(io::Error::from);
    match adopted.and_then(|()| children::reap_orphans()) {
        Ok(()) => true,
        Err(error) => {
            notes.push(format!("orphans of workers are not taken in: {error}"));
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_open_files_below_what_the_workers_take_is_told_with_how_many_fit() {
        assert_eq!(too_few_files(10, None), None);
        assert_eq!(too_few_files(100, Some(1024)), None);
        let told = too_few_files(500, Some(1024)).unwrap_or_default();
        assert!(
            told.contains("500 instances take about 3628 open files")
                && told.contains("about 128 would start")
        );
    }
}
