//! What Linux says about a process: processor time, memory, open files.
//!
//! One read of `/proc/PID/stat` per process carries everything that `status` shows, so a thousand workers cost
//! a few milliseconds and no thread of their own.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::forest::{self, Root};

/// Samples closer together than this say nothing about load; the newer one is answered from the older.
const SHORTEST: Duration = Duration::from_millis(900);

/// Processes remembered between samples. Reached only after as many restarts; then everything is forgotten and
/// the next figures are averages since the start again.
const REMEMBERED: usize = 16_384;

/// One process at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// User and system time in seconds.
    pub cpu_seconds: f64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Address space.
    pub virtual_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// When it was started, in clock ticks since boot: tells a reused pid apart.
    pub started_ticks: u64,
    /// Halted by a signal (`SIGSTOP`) or a debugger: it exists and does nothing.
    pub halted: bool,
}

/// Reads one process; `None` if it is gone or not ours to see.
#[must_use]
pub fn usage(pid: u32) -> Option<Usage> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?).map(|stat| stat.usage)
}

/// Counts a process's open files; `None` if that is not ours to see.
#[must_use]
pub fn open_files(pid: u32) -> Option<u64> {
    let folder = format!("/proc/{pid}/fd");
    let readable = std::fs::read_dir(&folder).ok()?;
    // Since Linux 6.2 the folder's size is the count; before, it is 0.
    match std::fs::metadata(Path::new(&folder)).ok()?.len() {
        0 => Some(readable.count() as u64),
        count => Some(count),
    }
}

/// The limit on this process's own open files.
#[must_use]
pub fn open_files_limit() -> Option<u64> {
    open_files_limit_of(std::process::id())
}

/// The limit on a process's open files; `None` if that is not ours to see.
#[must_use]
pub fn open_files_limit_of(pid: u32) -> Option<u64> {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// When the machine was started, in seconds since 1970.
#[must_use]
pub fn boot_time() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Clock ticks in a second.
#[must_use]
pub fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

/// One process and its place among the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stat {
    pub(super) parent: u32,
    pub(super) session: u32,
    /// Processor time of children that it has waited for.
    pub(super) waited_seconds: f64,
    pub(super) usage: Usage,
}

impl Stat {
    /// With the time of its children.
    pub(super) fn with_waited(&self) -> Usage {
        Usage { cpu_seconds: self.usage.cpu_seconds + self.waited_seconds, ..self.usage }
    }
}

/// The fields behind the program's name, which may itself hold spaces and parentheses.
pub(super) fn parse_stat(stat: &str) -> Option<Stat> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let halted = matches!(fields.clone().next(), Some("T" | "t"));
    let mut number = |skip: usize| fields.nth(skip)?.parse::<u64>().ok();
    let parent = u32::try_from(number(1)?).ok()?;
    let session = u32::try_from(number(1)?).ok()?;
    let (user, system) = (number(7)?, number(0)?);
    let waited = number(0)? + number(0)?;
    let threads = number(2)?;
    let started_ticks = number(1)?;
    let virtual_bytes = number(0)?;
    let resident_pages = number(0)?;
    let usage = Usage {
        cpu_seconds: (user + system) as f64 / ticks_per_second(),
        resident_bytes: resident_pages * rustix::param::page_size() as u64,
        virtual_bytes,
        threads,
        started_ticks,
        halted,
    };
    Some(Stat { parent, session, waited_seconds: waited as f64 / ticks_per_second(), usage })
}

#[derive(Clone, Copy)]
struct Sample {
    usage: Usage,
    at: Instant,
    percent: Option<f64>,
}

/// Turns processor time into load: 100 is one core, over the time since the sample before, or since the start.
#[derive(Default)]
pub struct Sampler {
    seen: Mutex<HashMap<u32, Sample>>,
    forest: Mutex<Option<(Instant, HashMap<u32, Usage>)>>,
}

impl Sampler {
    /// Looks at the trees of all workers at once; what is asked of one of them next is answered from that.
    pub fn look(&self, roots: &[Root]) {
        let mut forest = self.forest.lock().unwrap_or_else(PoisonError::into_inner);
        if forest.as_ref().is_none_or(|(at, _)| at.elapsed() >= SHORTEST) {
            *forest = Some((Instant::now(), forest::sums(roots)));
        }
    }

    /// The tree below a process now, and its load. `age` is how long it has run.
    #[must_use]
    pub fn sample(&self, pid: u32, age: Option<Duration>) -> Option<(Usage, Option<f64>)> {
        let now = Instant::now();
        let before = self.lock().get(&pid).copied();
        if let Some(recent) = before.filter(|sample| now - sample.at < SHORTEST) {
            return Some((recent.usage, recent.percent));
        }
        let mut usage = self.tree(pid).or_else(|| forest::of_one(pid))?;
        let same = before.filter(|sample| sample.usage.started_ticks == usage.started_ticks);
        // The time of a child that nobody waited for is lost with it; a total never falls.
        usage.cpu_seconds = same.map_or(0.0, |sample| sample.usage.cpu_seconds).max(usage.cpu_seconds);
        let percent = load(same, usage, now, age);
        let mut seen = self.lock();
        if seen.len() >= REMEMBERED {
            seen.clear();
        }
        seen.insert(pid, Sample { usage, at: now, percent });
        Some((usage, percent))
    }

    /// Only from a look that is new: a process that has just started is in none.
    fn tree(&self, pid: u32) -> Option<Usage> {
        let forest = self.forest.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, trees) = forest.as_ref()?;
        trees.get(&pid).copied().filter(|_| at.elapsed() < SHORTEST)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Sample>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(before: Option<Sample>, usage: Usage, now: Instant, age: Option<Duration>) -> Option<f64> {
    let (busy, span) = match before {
        Some(sample) => (usage.cpu_seconds - sample.usage.cpu_seconds, now - sample.at),
        None => (usage.cpu_seconds, age?),
    };
    // A figure over less than a few clock ticks would be noise.
    (span >= Duration::from_millis(50)).then(|| (busy / span.as_secs_f64() * 1000.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_program_name_does_not_shift_the_fields() {
        let stat = "7 (a) R 1 (b) S 1 7 7 0 -1 4194304 10 0 0 0 150 50 10 20 20 0 3 0 999 4096000 25 0";
        let stat = parse_stat(stat).unwrap();
        assert_eq!((stat.parent, stat.session, stat.waited_seconds), (1, 7, 30.0 / ticks_per_second()));
        let usage = stat.usage;
        assert_eq!(usage.cpu_seconds, 200.0 / ticks_per_second());
        assert_eq!((usage.threads, usage.started_ticks, usage.virtual_bytes), (3, 999, 4_096_000));
        assert_eq!(usage.resident_bytes, 25 * rustix::param::page_size() as u64);
    }

    #[test]
    fn this_process_has_memory_threads_and_files() {
        let me = usage(std::process::id()).unwrap();
        assert!(me.resident_bytes > 0 && me.threads > 0);
        assert!(open_files(std::process::id()).unwrap() > 0);
        assert!(open_files_limit().unwrap() > 0 && boot_time().unwrap() > 0.0);
        assert_eq!(usage(0), None);
    }

    #[test]
    fn load_is_over_the_time_since_the_sample_before() {
        let now = Instant::now();
        let usage = |cpu_seconds| Usage {
            cpu_seconds,
            resident_bytes: 0,
            virtual_bytes: 0,
            threads: 1,
            halted: false,
            started_ticks: 5,
        };
        let before = Sample { usage: usage(1.0), at: now, percent: None };
        let later = now + Duration::from_secs(2);
        assert_eq!(load(Some(before), usage(2.0), later, None), Some(50.0));
        assert_eq!(load(None, usage(2.0), later, Some(Duration::from_secs(4))), Some(50.0));
        assert_eq!(load(None, usage(2.0), later, None), None);
    }
}
