//! What a worker's whole process tree uses, from one pass over `/proc` for all workers together.
//!
//! Each worker is a session of its own, so most of its processes say themselves whose they are; the others are found
//! through their parents, and orphans that moved to a session of their own, which are the runtime's children by then,
//! through their cgroup where they have one. The trade: the pass reads every process of the machine, some 8 µs each;
//! one look per worker instead would cost as much and still miss who forked twice.
//!
//! A process's time includes that of the children it has waited for, so what short-lived children used is not lost.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;

use super::procfs::{Stat, Usage, parse_stat};

/// Deeper than any sane tree; a longer chain is somebody's attempt to keep us busy.
const DEPTH: usize = 64;

/// A worker's main process, and the name of its cgroup if it has one.
pub type Root = (u32, String);

/// Sums over the tree of each root. A root that is not there has none.
pub(super) fn sums(roots: &[Root]) -> HashMap<u32, Usage> {
    let all: HashMap<u32, Stat> = pids().into_iter().filter_map(|pid| Some((pid, stat(pid)?))).collect();
    add_up(roots, &all, &|pid| cgroup_of(pid))
}

/// What a tree uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Processor time of all of it, that of children that were waited for included.
    pub cpu_seconds: f64,
    /// Memory without page cache that can go.
    pub working_set: u64,
}

/// The same for the tree of each root, in one pass.
#[must_use]
pub fn measure(roots: &[Root]) -> HashMap<u32, Measured> {
    let sums = sums(roots);
    let of = |(pid, slug): &Root| {
        let sum = sums.get(pid)?;
        let counted = cgroup_of(*pid).filter(|own| own == slug).and_then(|_| counted(*pid));
        let working_set = counted.unwrap_or(sum.resident_bytes);
        Some((*pid, Measured { cpu_seconds: sum.cpu_seconds, working_set }))
    };
    roots.iter().filter_map(of).collect()
}

/// The working set of the tree of each root: the memory of its cgroup without page cache that can go, where the cgroup
/// is counted, else the resident memory of all its processes.
#[must_use]
pub fn working_sets(roots: &[Root]) -> HashMap<u32, u64> {
    let resident = sums(roots);
    let of = |(pid, slug): &Root| {
        let counted = cgroup_of(*pid).filter(|own| own == slug).and_then(|_| counted(*pid));
        Some((*pid, counted.or_else(|| resident.get(pid).map(|usage| usage.resident_bytes))?))
    };
    roots.iter().filter_map(of).collect()
}

/// What the cgroup of a process holds; `None` without a controller that counts it.
fn counted(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // Where systemd and containers mount it, alone or beside the older hierarchies.
    let places =
        ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(|mount| std::path::Path::new(mount).join(path));
    places.iter().find_map(|place| {
        let all: u64 = std::fs::read_to_string(place.join("memory.current")).ok()?.trim().parse().ok()?;
        Some(all.saturating_sub(inactive(&std::fs::read_to_string(place.join("memory.stat")).ok()?)))
    })
}

/// Page cache that the kernel would take back first.
fn inactive(stat: &str) -> u64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("inactive_file "));
    line.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0)
}

/// One process with what its children used.
pub(super) fn of_one(pid: u32) -> Option<Usage> {
    stat(pid).map(|stat| stat.with_waited())
}

fn add_up(
    roots: &[Root],
    all: &HashMap<u32, Stat>,
    cgroup: &dyn Fn(u32) -> Option<String>,
) -> HashMap<u32, Usage> {
    let slugs: HashMap<&str, u32> = roots.iter().map(|(pid, slug)| (slug.as_str(), *pid)).collect();
    let mut sums: HashMap<u32, Usage> =
        roots.iter().filter_map(|(pid, _)| Some((*pid, all.get(pid)?.with_waited()))).collect();
    for (pid, stat) in all {
        if sums.contains_key(pid) {
            continue;
        }
        let owner = by_descent(*pid, all, &sums).or_else(|| {
            let orphan = stat.parent == std::process::id();
            slugs.get(cgroup(*pid).filter(|_| orphan)?.as_str()).copied()
        });
        let Some(sum) = owner.and_then(|owner| sums.get_mut(&owner)) else { continue };
        let more = stat.with_waited();
        sum.cpu_seconds += more.cpu_seconds;
        sum.resident_bytes += more.resident_bytes;
        sum.virtual_bytes += more.virtual_bytes;
        sum.threads += more.threads;
    }
    sums
}

/// Whose it is by its session, or by that of a parent.
fn by_descent(pid: u32, all: &HashMap<u32, Stat>, roots: &HashMap<u32, Usage>) -> Option<u32> {
    let mut at = pid;
    for _ in 0..DEPTH {
        let stat = all.get(&at)?;
        if roots.contains_key(&stat.session) {
            return Some(stat.session);
        }
        if roots.contains_key(&stat.parent) {
            return Some(stat.parent);
        }
        at = stat.parent;
    }
    None
}

/// The last part of its cgroup's path, if the one above is a runtime's.
fn cgroup_of(pid: u32) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let (above, slug) = path.rsplit_once('/')?;
    let ours = above.rsplit('/').next().is_some_and(|name| name.starts_with("regrow-"));
    ours.then(|| slug.to_owned())
}

fn pids() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The line is a few hundred bytes, and of one read.
fn stat(pid: u32) -> Option<Stat> {
    let mut line = [0; 2048];
    let read = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut line).ok()?;
    parse_stat(&String::from_utf8_lossy(&line[..read]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(parent: u32, session: u32, cpu_seconds: f64) -> Stat {
        let usage = Usage {
            cpu_seconds,
            resident_bytes: 10,
            virtual_bytes: 0,
            threads: 1,
            started_ticks: 0,
            halted: false,
        };
        Stat { parent, session, waited_seconds: 1.0, usage }
    }

    #[test]
    fn a_tree_is_found_by_session_by_parents_and_by_cgroup() {
        let own = std::process::id();
        let all = HashMap::from([
            (10, process(own, 10, 1.0)),
            (11, process(10, 10, 2.0)),
            (12, process(11, 12, 4.0)),
            (13, process(12, 12, 8.0)),
            (14, process(own, 14, 16.0)),
            (20, process(own, 20, 32.0)),
            (99, process(1, 99, 64.0)),
        ]);
        let cgroup = |pid| (pid == 14).then(|| "web".to_owned());
        let sums = add_up(&[(10, "web".to_owned()), (20, "db".to_owned())], &all, &cgroup);
        assert_eq!((sums[&10].cpu_seconds, sums[&10].resident_bytes), (31.0 + 5.0, 50));
        assert_eq!((sums[&20].cpu_seconds, sums[&20].resident_bytes), (33.0, 10));
        assert_eq!(sums.len(), 2);
    }

    #[test]
    fn this_very_process_has_children_that_count() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let own = std::process::id();
        let alone = of_one(own).unwrap();
        let sum = sums(&[(own, "x".to_owned())])[&own];
        assert!(sum.resident_bytes > alone.resident_bytes / 2 && sum.threads > alone.threads / 2);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
