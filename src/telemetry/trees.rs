//! Which process belongs to which worker's tree.
//!
//! Each worker is a session of its own, so most of its processes say themselves whose they are; the others are found
//! through their parents, and orphans that moved to a session of their own, which are the runtime's children by then,
//! through their cgroup where they have one. Whose a process is, it stays.
//!
//! Reading every process of the machine costs some 10 µs each. So what is known is not read again: the kernel says which
//! number it gave out last, and as long as that stands, nobody new is there; a few new numbers are looked at one by one.
//! Every ten minutes, and after the numbers began anew, all of `/proc` is gone through.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::memory::cgroup_of;
use super::procfs::{Stat, parse_stat};

/// Deeper than any sane tree; a longer chain is somebody's attempt to keep us busy.
const DEPTH: usize = 64;

/// New numbers that are looked at one by one: a number that nobody has costs a fiftieth of listing a thousand.
const NEAR: u32 = 300;

/// How long what is known of strangers stands.
const STANDS: Duration = Duration::from_secs(600);

/// Lines that are kept open beside those of main processes; others are opened at every look. A worker that starts ten
/// thousand processes must not take the runtime's files.
const MOST_OPEN: usize = 1000;

/// Longer than the part of a line that is read: 22 numbers and a name.
const LINE: usize = 640;

/// A process's line in `/proc`.
#[derive(Debug)]
pub(super) struct Line {
    pid: u32,
    file: Option<File>,
    /// Tells a number apart that was given out again, where the file is not kept open.
    started: Cell<Option<u64>>,
}

impl Line {
    fn open(pid: u32) -> Option<Self> {
        let file = File::open(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, file: Some(file), started: Cell::new(None) })
    }

    /// The process.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// `None`: the process is gone, or not ours to see.
    pub(super) fn read(&self) -> Option<Stat> {
        let mut line = [0; LINE];
        let read = match &self.file {
            Some(file) => file.read_at(&mut line, 0),
            None => {
                File::open(format!("/proc/{}/stat", self.pid)).and_then(|file| file.read_at(&mut line, 0))
            }
        };
        let stat = parse_stat(&line[..read.ok()?])?;
        let started = self.started.replace(Some(stat.usage.started_ticks));
        started.is_none_or(|started| started == stat.usage.started_ticks).then_some(stat)
    }
}

/// Who is known.
#[derive(Debug, Default)]
pub(super) struct Trees {
    /// The main process of each other one's tree.
    owners: HashMap<u32, u32>,
    /// Nobody's.
    strangers: HashSet<u32>,
    /// The last number that was given out, at the last look.
    last: Option<u32>,
    looked: Option<Instant>,
    /// When all of `/proc` was gone through.
    listed: Option<Instant>,
    numbers: Option<File>,
    open: usize,
}

/// The main processes.
pub(super) struct Roots<'a> {
    /// Whether this is one.
    pub(super) has: &'a dyn Fn(u32) -> bool,
    /// The one of the instance with this slug.
    pub(super) named: &'a dyn Fn(&str) -> Option<u32>,
}

/// Who was found, by number.
type Found = HashMap<u32, (Line, Stat)>;

impl Trees {
    /// A new main process; `None`: it is gone, or not ours to see.
    pub(super) fn root(&mut self, pid: u32) -> Option<Line> {
        let line = Line::open(pid)?;
        // Its tree may be known as that of a stranger, unless nobody has looked since it came.
        if self.last.is_none_or(|last| pid <= last) {
            self.listed = None;
        }
        self.owners.remove(&pid);
        Some(line)
    }

    /// This one is gone.
    pub(super) fn forget(&mut self, line: &Line) {
        if self.owners.remove(&line.pid).is_some() && line.file.is_some() {
            self.open = self.open.saturating_sub(1);
        }
    }

    /// Who has come since the last look, with the main process of its tree.
    pub(super) fn news(&mut self, now: Instant, every: Duration, roots: &Roots<'_>) -> Vec<(u32, Line)> {
        let age = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        if age(self.looked).is_some_and(|age| age < every.mul_f64(0.9)) {
            return Vec::new();
        }
        self.looked = Some(now);
        let (before, last) = (self.last, self.last_number());
        self.last = last;
        let stands = age(self.listed).is_some_and(|age| age < STANDS);
        match (before, last) {
            (Some(before), Some(last)) if stands && before == last => Vec::new(),
            (Some(before), Some(last)) if stands && before < last && last - before <= NEAR => {
                let found = self.read(before + 1..=last, roots);
                // A thread has a number, too, and a line that says whose it is.
                self.sort(found, roots, &is_process)
            }
            (before, last) => {
                if !stands || before.is_none() || last < before {
                    self.listed = Some(now);
                    self.strangers.clear();
                }
                let found = self.read(pids(), roots);
                self.sort(found, roots, &|_| true)
            }
        }
    }

    fn last_number(&mut self) -> Option<u32> {
        if self.numbers.is_none() {
            self.numbers = File::open("/proc/loadavg").ok();
        }
        let mut line = [0; 128];
        let read = self.numbers.as_ref()?.read_at(&mut line, 0).ok()?;
        std::str::from_utf8(&line[..read]).ok()?.split_ascii_whitespace().next_back()?.parse().ok()
    }

    fn read(&self, pids: impl IntoIterator<Item = u32>, roots: &Roots<'_>) -> Found {
        let known =
            |pid: &u32| (roots.has)(*pid) || self.owners.contains_key(pid) || self.strangers.contains(pid);
        let look = |pid: u32| {
            let line = Line::open(pid)?;
            let stat = line.read()?;
            Some((pid, (line, stat)))
        };
        pids.into_iter().filter(|pid| !known(pid)).filter_map(look).collect()
    }

    fn sort(
        &mut self,
        mut found: Found,
        roots: &Roots<'_>,
        is_process: &dyn Fn(u32) -> bool,
    ) -> Vec<(u32, Line)> {
        let owner = |pid: u32| (roots.has)(pid).then_some(pid).or_else(|| self.owners.get(&pid).copied());
        let stats = |pid: u32| found.get(&pid).map(|(_, stat)| *stat);
        let own = std::process::id();
        let ours: Vec<(u32, u32)> = found
            .keys()
            .filter_map(|pid| {
                let owner = by_descent(*pid, &stats, &owner).or_else(|| {
                    // Everybody else's says nothing, and reading it costs more than the line.
                    let orphan = stats(*pid)?.parent == own;
                    (roots.named)(&orphan.then(|| cgroup_of(*pid))??)
                });
                Some((*pid, owner.filter(|_| is_process(*pid))?))
            })
            .collect();
        let mut news = Vec::with_capacity(ours.len());
        for (pid, owner) in ours {
            let Some((mut line, _)) = found.remove(&pid) else { continue };
            self.owners.insert(pid, owner);
            if self.open < MOST_OPEN {
                self.open += 1;
            } else {
                line.file = None;
            }
            news.push((owner, line));
        }
        self.strangers.extend(found.into_keys());
        news
    }
}

/// Whose it is by its session, or by that of a parent.
fn by_descent(
    pid: u32,
    stats: &dyn Fn(u32) -> Option<Stat>,
    owner: &dyn Fn(u32) -> Option<u32>,
) -> Option<u32> {
    let mut at = pid;
    for _ in 0..DEPTH {
        let stat = stats(at)?;
        if let Some(owner) = owner(stat.session).or_else(|| owner(stat.parent)) {
            return Some(owner);
        }
        at = stat.parent;
    }
    None
}

fn pids() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Whether this number is a process's and not one of its threads'.
fn is_process(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let leader = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    leader.and_then(|leader| leader.trim().parse().ok()) == Some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::procfs::{Condition, Usage};

    fn stat(parent: u32, session: u32) -> Stat {
        let usage = Usage {
            cpu_seconds: 1.0,
            resident_bytes: 10,
            virtual_bytes: 0,
            threads: 1,
            started_ticks: 0,
            condition: Condition::Runs,
        };
        Stat { parent, session, waited_seconds: 1.0, usage }
    }

    #[test]
    fn a_tree_is_found_by_session_and_by_parents() {
        let all = HashMap::from([
            (11, stat(10, 10)),
            (12, stat(11, 12)),
            (13, stat(12, 12)),
            (14, stat(1, 14)),
            (15, stat(30, 15)),
            (16, stat(17, 16)),
            (17, stat(16, 17)),
        ]);
        let (stats, owner) = (
            |pid| all.get(&pid).copied(),
            // 30 was found at an earlier look.
            |pid| match pid {
                10 | 30 => Some(10),
                20 => Some(20),
                _ => None,
            },
        );
        let found = |pid| by_descent(pid, &stats, &owner);
        assert_eq!([11, 12, 13, 15].map(found), [Some(10); 4]);
        assert_eq!([14, 16, 99].map(found), [None; 3], "strangers, a circle, and nobody");
    }
}
