//! What Linux says about a process: processor time, memory, open files.
//!
//! One read of `/proc/PID/stat` per process carries everything that `status` shows, so a thousand workers cost
//! a few milliseconds and no thread of their own.

use std::path::Path;

/// Whether a process does anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It runs, or waits for something.
    Runs,
    /// It was halted by a signal (`SIGSTOP`): it exists and does nothing.
    Halted,
    /// A debugger has halted it.
    Traced,
    /// It has ended, and nobody has taken note.
    Zombie,
}

impl Condition {
    /// Whether it runs.
    #[must_use]
    pub fn runs(self) -> bool {
        self == Self::Runs
    }

    /// The letter in `/proc/PID/stat`.
    pub(crate) fn of(state: char) -> Self {
        match state {
            'T' => Self::Halted,
            't' => Self::Traced,
            'Z' | 'X' => Self::Zombie,
            _ => Self::Runs,
        }
    }
}

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
    /// Whether it does anything.
    pub condition: Condition,
}

impl Usage {
    /// With what another process of the same tree uses.
    pub(super) fn add(&mut self, other: &Stat) {
        self.cpu_seconds += other.usage.cpu_seconds + other.waited_seconds;
        self.resident_bytes += other.usage.resident_bytes;
        self.virtual_bytes += other.usage.virtual_bytes;
        self.threads += other.usage.threads;
    }
}

/// Reads one process; `None` if it is gone or not ours to see.
#[must_use]
pub fn usage(pid: u32) -> Option<Usage> {
    parse_stat(&std::fs::read(format!("/proc/{pid}/stat")).ok()?).map(|stat| stat.usage)
}

/// Counts a process's open files; `None` if that is not ours to see.
#[must_use]
pub fn open_files(pid: u32) -> Option<u64> {
    let folder = format!("/proc/{pid}/fd");
    // Since Linux 6.2 the folder's size is the count; before, it is 0.
    match std::fs::metadata(Path::new(&folder)).ok()?.len() {
        0 => Some(std::fs::read_dir(&folder).ok()?.count() as u64),
        count => Some(count),
    }
}

/// From this share of its limit of open files on, a process is near its end.
const FILES_WARN: f64 = 0.8;

/// With fewer files than this no process is near its limit: none is worth the look.
const FEW_FILES: u64 = 6;

/// The open files of a process and the limit on them, if it is near that.
#[must_use]
pub fn crowded_files(pid: u32) -> Option<(u64, u64)> {
    let open = open_files(pid).filter(|open| *open > FEW_FILES)?;
    let limit = open_files_limit_of(pid)?;
    (open as f64 >= limit as f64 * FILES_WARN).then_some((open, limit))
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

/// Numbers behind the state that are read: up to the resident memory.
const NUMBERS: usize = 21;

/// The fields behind the program's name, which may itself hold spaces and parentheses.
pub(super) fn parse_stat(line: &[u8]) -> Option<Stat> {
    let [_, state, _, rest @ ..] = line.get(memchr::memrchr(b')', line)? + 1..)? else { return None };
    let mut numbers = [0u64; NUMBERS];
    let mut texts = rest.split(|byte| *byte == b' ');
    for number in &mut numbers {
        *number = whole(texts.next()?)?;
    }
    let [
        parent,
        _,
        session,
        ..,
        user,
        system,
        user_waited,
        system_waited,
        _,
        _,
        threads,
        _,
        started,
        size,
        pages,
    ] = numbers;
    let seconds = |ticks: u64| ticks as f64 / ticks_per_second();
    let usage = Usage {
        cpu_seconds: seconds(user + system),
        resident_bytes: pages * rustix::param::page_size() as u64,
        virtual_bytes: size,
        threads,
        started_ticks: started,
        condition: Condition::of(char::from(*state)),
    };
    let (parent, session) = (u32::try_from(parent).ok()?, u32::try_from(session).ok()?);
    Some(Stat { parent, session, waited_seconds: seconds(user_waited + system_waited), usage })
}

/// What is below nothing counts as nothing: times are never, and nobody asks for the others.
fn whole(text: &[u8]) -> Option<u64> {
    if text.first() == Some(&b'-') {
        return Some(0);
    }
    let digit =
        |number: u64, byte: &u8| number.checked_mul(10)?.checked_add(u64::from(byte.checked_sub(b'0')?));
    if text.is_empty() { None } else { text.iter().try_fold(0, digit) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_program_name_does_not_shift_the_fields() {
        let line = b"7 (a) R 1 (b) S 1 7 7 0 -1 4194304 10 0 0 0 150 50 10 20 20 0 3 0 999 4096000 25 0";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.parent, stat.session, stat.waited_seconds), (1, 7, 30.0 / ticks_per_second()));
        let usage = stat.usage;
        assert_eq!(usage.cpu_seconds, 200.0 / ticks_per_second());
        assert_eq!((usage.threads, usage.started_ticks, usage.virtual_bytes), (3, 999, 4_096_000));
        assert_eq!(usage.resident_bytes, 25 * rustix::param::page_size() as u64);
        assert_eq!(usage.condition, Condition::Runs);
        for broken in [&line[..60], b"", b"7 (a", b"7 (a) S 1 x"] {
            assert!(parse_stat(broken).is_none());
        }
    }

    #[test]
    fn this_process_has_memory_threads_and_files() {
        let me = usage(std::process::id()).unwrap();
        assert!(me.resident_bytes > 0 && me.threads > 0);
        assert!(open_files(std::process::id()).unwrap() > 0);
        assert!(open_files_limit().unwrap() > 0 && boot_time().unwrap() > 0.0);
        assert_eq!(usage(0), None);
    }
}
