//! What the process trees of all workers use: one sampler, whose figures everybody shares.
//!
//! History, `status`, metrics, thresholds and the check that a process runs want the same figures. Whoever needs fresh
//! ones sweeps, and what somebody else has just read is not read again.
//!
//! Each process's line in `/proc` is opened once and read again and again: that costs a third of opening it, and a file
//! that was opened for a process never shows another one that came to have its number. Who has used nothing for a
//! while is read less often; its figures stand until then, and they are most probably right. And whose processor time
//! stands still has done nothing at all: asking for that costs a fifth of reading the line.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::id::InstanceId;

use super::memory::Memory;
use super::procfs::{Usage, ticks_per_second};
use super::trees::{Line, Roots, Trees};

/// Figures closer together than this say nothing about load.
const SHORTEST: Duration = Duration::from_millis(900);

/// Figures over less than a few clock ticks would be noise.
const TICKS: Duration = Duration::from_millis(50);

/// So long figures stand of a tree that has not run meanwhile: memory can be taken from a process that sleeps.
const STANDS: Duration = Duration::from_secs(600);

/// A worker's main process.
pub type Root = (u32, InstanceId);

/// The processor time of a process with all its threads, to the nanosecond, by its number; `None`: it is gone, or not
/// ours to see.
pub type ProcessorTime = fn(u32) -> Option<Duration>;

/// How old figures may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Those of a tree that uses something.
    pub every: Duration,
    /// Those of a tree that has long used nothing, and whose main process is our child: who halts a child is told by the
    /// kernel. Until then they may be half as old as the time in which it has used nothing.
    pub quiet: Duration,
}

impl Pace {
    /// What is shown to people: as new as makes sense.
    pub const FRESH: Self = Self { every: SHORTEST, quiet: SHORTEST };

    /// Everybody alike.
    #[must_use]
    pub fn of(every: Duration) -> Self {
        Self { every, quiet: every }
    }

    /// Whether figures of that age are due, of a tree that has used nothing for so long. Timers are never quite on time.
    fn is_due(self, still: Duration, age: Duration) -> bool {
        let period = (still / 2).min(self.quiet).max(self.every);
        age >= period.mul_f64(0.9)
    }
}

/// A tree at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// What all of it uses together; its condition is the main process's.
    pub usage: Usage,
    /// Its load: 100 is one core, over the time since the figures before, or since its start.
    pub percent: Option<f64>,
    /// When it was read.
    pub at: Instant,
}

/// The sampler; cheap to clone.
///
/// ```
/// use regrow::telemetry::{Pace, Sampler};
/// let (sampler, own) = (Sampler::default(), "example".parse().unwrap());
/// let seen = sampler.sweep(&[(std::process::id(), own)], Pace::FRESH)[0].unwrap();
/// assert!(seen.usage.resident_bytes > 0);
/// assert_eq!(sampler.seen(std::process::id()), Some(seen));
/// ```
#[derive(Clone, Default)]
pub struct Sampler(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    all: HashMap<u32, Tree>,
    /// The newest main process of each instance, by its slug.
    newest: HashMap<String, u32>,
    trees: Trees,
    /// Without it every line is read.
    clock: Option<ProcessorTime>,
    reads: u64,
    /// With so many trees the dead ones are looked for.
    crowded: usize,
}

struct Tree {
    instance: InstanceId,
    main: Line,
    others: Vec<Line>,
    seen: Option<Seen>,
    /// Since when it has used nothing.
    same: Instant,
    /// What its processes had run together before their lines were read last, and when that was.
    ran: Option<(Duration, Instant)>,
    ours: bool,
    /// It had just begun when it was read, and may not even have been the program yet that it is to be.
    young: bool,
    memory: Memory,
}

impl Sampler {
    /// One that does not read again what cannot have changed.
    #[must_use]
    pub fn with_clock(clock: ProcessorTime) -> Self {
        Self(Arc::new(Mutex::new(Inner { clock: Some(clock), ..Inner::default() })))
    }

    /// Reads the trees of these whose figures are older than the pace allows. What is known of each then, in the same
    /// order; `None`: it is gone, or not ours to see.
    pub fn sweep(&self, roots: &[Root], pace: Pace) -> Vec<Option<Seen>> {
        let mut inner = self.lock();
        let now = Instant::now();
        for (pid, instance) in roots {
            inner.know(*pid, instance, now);
        }
        inner.forget_the_dead();
        let Inner { all, newest, trees, clock, reads, .. } = &mut *inner;
        let due = |(pid, _): &Root| all.get(pid).is_some_and(|tree| tree.is_due(pace, now));
        if !roots.iter().any(due) {
            // Nor does it matter who has come since.
            return roots.iter().map(|(pid, _)| all.get(pid)?.seen).collect();
        }
        *reads += 1;
        let found = {
            let has = |pid: u32| all.contains_key(&pid);
            let named = |slug: &str| newest.get(slug).copied().filter(|pid| all.contains_key(pid));
            trees.news(now, pace.every, &Roots { has: &has, named: &named })
        };
        for (root, line) in found {
            if let Some(tree) = all.get_mut(&root) {
                tree.others.push(line);
                tree.seen = None;
            }
        }
        roots.iter().map(|(pid, _)| read(*pid, all, (trees, *clock), pace, now)).collect()
    }

    /// How often figures were read until now; while it stands, nobody's figures have changed.
    pub(crate) fn reads(&self) -> u64 {
        self.lock().reads
    }

    /// What was read last, however long ago.
    #[must_use]
    pub fn seen(&self, pid: u32) -> Option<Seen> {
        self.lock().all.get(&pid)?.seen
    }

    /// The working set of a tree now: what its cgroup holds without page cache that can go, where the kernel counts
    /// that, else the resident memory that was read last.
    #[must_use]
    pub fn working_set(&self, pid: u32) -> Option<u64> {
        let mut inner = self.lock();
        let tree = inner.all.get_mut(&pid)?;
        let counted = tree.memory.working_set(pid, &tree.instance);
        counted.or_else(|| Some(tree.seen?.usage.resident_bytes))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(
    pid: u32,
    all: &mut HashMap<u32, Tree>,
    (trees, clock): (&mut Trees, Option<ProcessorTime>),
    pace: Pace,
    now: Instant,
) -> Option<Seen> {
    let tree = all.get_mut(&pid)?;
    if !tree.is_due(pace, now) {
        return tree.seen;
    }
    let ran = clock.and_then(|clock| tree.ran(clock));
    if let Some(seen) = ran.and_then(|ran| tree.has_slept(ran, now)) {
        return Some(seen);
    }
    // It may run between the two, which the next look sees.
    tree.ran = ran.map(|ran| (ran, now));
    match tree.read(trees, now) {
        Some(seen) => Some(seen),
        None => {
            drop_tree(pid, all, trees);
            None
        }
    }
}

fn drop_tree(pid: u32, all: &mut HashMap<u32, Tree>, trees: &mut Trees) {
    if let Some(tree) = all.remove(&pid) {
        trees.forget(&tree.main);
        tree.others.iter().for_each(|line| trees.forget(line));
    }
}

/// With fewer trees than this nobody looks for dead ones.
const FEW: usize = 64;

impl Inner {
    /// Takes up a main process. An instance has one at a time: the files of the one before are closed.
    fn know(&mut self, pid: u32, instance: &InstanceId, now: Instant) {
        if self.all.get(&pid).is_some_and(|tree| tree.instance == *instance) {
            return;
        }
        drop_tree(pid, &mut self.all, &mut self.trees);
        let Some(main) = self.trees.root(pid) else { return };
        if let Some(before) = self.newest.insert(instance.slug(), pid) {
            drop_tree(before, &mut self.all, &mut self.trees);
        }
        self.all.insert(pid, Tree::new(instance.clone(), main, now));
    }

    /// Whose instance is gone is asked for by nobody: once there are twice as many trees as there were alive, the dead
    /// ones go.
    fn forget_the_dead(&mut self) {
        if self.all.len() < self.crowded.max(FEW) {
            return;
        }
        let dead = |(pid, tree): (&u32, &mut Tree)| tree.main.read().is_none().then_some(*pid);
        let dead: Vec<u32> = self.all.iter_mut().filter_map(dead).collect();
        for pid in dead {
            drop_tree(pid, &mut self.all, &mut self.trees);
        }
        let Self { all, newest, .. } = self;
        newest.retain(|_, pid| all.contains_key(pid));
        self.crowded = self.all.len().saturating_mul(2);
    }
}

impl Tree {
    fn new(instance: InstanceId, main: Line, now: Instant) -> Self {
        Self {
            instance,
            main,
            others: Vec::new(),
            seen: None,
            same: now,
            ran: None,
            ours: false,
            young: true,
            memory: Memory::default(),
        }
    }

    fn is_due(&self, pace: Pace, now: Instant) -> bool {
        let Some(seen) = self.seen else { return true };
        let still = if self.ours { now.saturating_duration_since(self.same) } else { Duration::ZERO };
        let age = now.saturating_duration_since(seen.at);
        pace.is_due(still, age) || self.young && age >= TICKS
    }

    /// What all its processes have run until now; `None` if one of them is gone.
    fn ran(&self, clock: ProcessorTime) -> Option<Duration> {
        std::iter::once(&self.main).chain(&self.others).map(|line| clock(line.pid())).sum()
    }

    /// What it uses if none of its processes has run since they were read: the same as then. Who is halted does not run
    /// either, and each look at it counts.
    fn has_slept(&mut self, ran: Duration, now: Instant) -> Option<Seen> {
        let (before, at) = self.ran?;
        let seen = self.seen.filter(|seen| seen.usage.condition.runs())?;
        if self.young || ran != before || now.saturating_duration_since(at) >= STANDS {
            return None;
        }
        self.seen = Some(Seen { percent: load(Some(seen), seen.usage, now), at: now, ..seen });
        self.seen
    }

    fn read(&mut self, trees: &mut Trees, now: Instant) -> Option<Seen> {
        let main = self.main.read()?;
        self.ours = main.parent == std::process::id();
        let mut usage = main.with_waited();
        self.others.retain(|line| match line.read() {
            Some(stat) => {
                usage.add(&stat);
                true
            }
            None => {
                trees.forget(line);
                false
            }
        });
        let before = self.seen;
        self.young = self.young && age(usage.started_ticks) < SHORTEST;
        // The time of a child that nobody waited for is lost with it; a total never falls.
        usage.cpu_seconds = before.map_or(0.0, |seen| seen.usage.cpu_seconds).max(usage.cpu_seconds);
        let still = before.is_some_and(|before| before.usage == usage) && usage.condition.runs();
        if !still {
            self.same = now;
        }
        let seen = Seen { usage, percent: load(before, usage, now), at: now };
        self.seen = Some(seen);
        self.seen
    }
}

fn load(before: Option<Seen>, usage: Usage, now: Instant) -> Option<f64> {
    let (busy, span) = match before {
        Some(seen) => (usage.cpu_seconds - seen.usage.cpu_seconds, now.saturating_duration_since(seen.at)),
        None => (usage.cpu_seconds, age(usage.started_ticks)),
    };
    (span >= TICKS).then(|| (busy / span.as_secs_f64() * 1000.0).round() / 10.0)
}

/// How long ago that was, in clock ticks since boot.
fn age(started_ticks: u64) -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let now = now.tv_sec as f64 + now.tv_nsec as f64 / 1e9;
    Duration::try_from_secs_f64(now - started_ticks as f64 / ticks_per_second()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;
    use crate::telemetry::procfs::Condition;

    /// A shell in a session of its own with a child; ends when dropped.
    struct Family(Child);

    impl Family {
        fn new() -> Self {
            let mut command = Command::new("sh");
            command.args(["-c", "sleep 600 & wait"]);
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
            Self(command.spawn().unwrap())
        }

        fn root(&self) -> Root {
            (self.0.id(), "web".parse().unwrap())
        }
    }

    impl Drop for Family {
        fn drop(&mut self) {
            // It is our own child and not waited for yet: its number, and its group's, are nobody else's.
            let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.0.id())]).status();
            let _ = self.0.wait();
        }
    }

    /// Sweeps until the figures are as they should be.
    fn until(
        sampler: &Sampler,
        root: &Root,
        pace: Pace,
        right: impl Fn(Option<Seen>) -> bool,
    ) -> Option<Seen> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let seen = sampler.sweep(std::slice::from_ref(root), pace)[0];
            if right(seen) {
                return seen;
            }
            assert!(Instant::now() < deadline, "{seen:?}");
            std::thread::yield_now();
        }
    }

    fn open_files() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok).filter(is_a_stat).count()
    }

    fn is_a_stat(entry: &std::fs::DirEntry) -> bool {
        std::fs::read_link(entry.path()).is_ok_and(|to| to.ends_with("stat"))
    }

    /// What is kept of a worker does not grow with its restarts, nor with workers that are made and removed.
    #[test]
    fn those_who_have_ended_leave_nothing_open() {
        let sampler = Sampler::default();
        for number in 0..300 {
            let instance = if number % 2 == 0 { "web".to_owned() } else { format!("job{number}") };
            let family = Family::new();
            let root: Root = (family.0.id(), instance.parse().unwrap());
            assert!(sampler.sweep(&[root], Pace::FRESH)[0].is_some());
        }
        let kept = |sampler: &Sampler| sampler.lock().all.len();
        assert!(kept(&sampler) <= FEW, "{} trees", kept(&sampler));
        // One or two of each, and others of this test binary have some, too; all 300 would be more.
        assert!(open_files() < 4 * FEW, "{} files", open_files());
    }

    #[test]
    fn children_that_come_later_count_and_an_end_is_seen() {
        let (sampler, family) = (Sampler::default(), Family::new());
        let pace = Pace::of(Duration::from_millis(1));
        let root = family.root();
        // A child that has just been forked has hardly any memory of its own.
        until(&sampler, &root, pace, |seen| {
            let alone = super::super::usage(root.0).map(|alone| alone.resident_bytes);
            seen.is_some_and(|seen| seen.usage.threads == 2 && Some(seen.usage.resident_bytes) > alone)
        });
        drop(family);
        until(&sampler, &root, pace, |seen| seen.is_none());
    }

    #[test]
    fn what_was_just_read_is_not_read_again() {
        let (sampler, family) = (Sampler::default(), Family::new());
        let pace = Pace::of(Duration::from_secs(3600));
        // It has just begun: until it is a second old, that is no figure to keep.
        let grown = |seen: Option<Seen>| seen.is_some_and(|seen| age(seen.usage.started_ticks) >= SHORTEST);
        until(&sampler, &family.root(), pace, grown);
        let first = sampler.sweep(&[family.root()], Pace::FRESH);
        assert_eq!(sampler.sweep(&[family.root()], pace), first);
        assert_eq!(sampler.seen(family.0.id()), first[0]);
        assert_eq!(sampler.seen(1), None, "nobody has asked for it");
    }

    #[test]
    fn a_process_that_was_halted_says_so_until_it_goes_on() {
        let (sampler, family) = (Sampler::default(), Family::new());
        let pace = Pace::of(Duration::from_millis(1));
        let tell = |signal: &str| {
            let told = Command::new("kill").args([signal, &family.0.id().to_string()]).status();
            assert!(told.is_ok_and(|told| told.success()));
        };
        let is = |condition: Condition| {
            move |seen: Option<Seen>| seen.is_some_and(|seen| seen.usage.condition == condition)
        };
        tell("-STOP");
        until(&sampler, &family.root(), pace, is(Condition::Halted));
        tell("-CONT");
        until(&sampler, &family.root(), pace, is(Condition::Runs));
    }

    fn at(cpu_seconds: f64) -> Usage {
        let condition = Condition::Runs;
        Usage { cpu_seconds, resident_bytes: 0, virtual_bytes: 0, threads: 1, condition, started_ticks: 0 }
    }

    #[test]
    fn load_is_over_the_time_since_the_figures_before() {
        let now = Instant::now();
        let before = Seen { usage: at(1.0), percent: None, at: now };
        let later = now + Duration::from_secs(2);
        assert_eq!(load(Some(before), at(2.0), later), Some(50.0));
        assert_eq!(load(Some(before), at(2.0), now), None, "no time at all");
        // Started when the machine was.
        let up = age(0).as_secs_f64();
        assert!((load(None, at(up / 2.0), now).unwrap() - 50.0).abs() < 1.0);
    }

    #[test]
    fn whoever_is_quiet_is_due_less_and_less_often() {
        let pace = Pace { every: Duration::from_secs(10), quiet: Duration::from_secs(60) };
        let due = |still, age| pace.is_due(Duration::from_secs(still), Duration::from_secs(age));
        assert_eq!([due(0, 8), due(0, 10), due(20, 10)], [false, true, true]);
        assert_eq!([due(40, 10), due(40, 20), due(3600, 50), due(3600, 60)], [false, true, false, true]);
    }

    #[test]
    fn whoever_has_not_run_since_is_not_read_again() {
        // What it has run: nothing, whatever it really did.
        let (sampler, family) = (Sampler::with_clock(|_| Some(Duration::ZERO)), Family::new());
        let (root, pace) = (family.root(), Pace::of(Duration::from_millis(1)));
        let newer = |than: Option<Seen>| {
            move |seen: Option<Seen>| seen.map(|seen| seen.at) != than.map(|seen| seen.at)
        };
        // Who has just begun is read each time.
        let is_old = |seen: Seen| age(seen.usage.started_ticks) >= SHORTEST;
        let grown = until(&sampler, &root, pace, |seen| seen.is_some_and(is_old));
        let last = until(&sampler, &root, pace, newer(grown));
        // Were it read, it would be seen to be gone.
        drop(family);
        let later = until(&sampler, &root, pace, newer(last));
        assert_eq!(later.map(|seen| seen.usage), last.map(|seen| seen.usage));

        let (sampler, family) = (Sampler::with_clock(|_| None), Family::new());
        let root = family.root();
        until(&sampler, &root, pace, |seen| seen.is_some());
        drop(family);
        until(&sampler, &root, pace, |seen| seen.is_none());
    }
}
