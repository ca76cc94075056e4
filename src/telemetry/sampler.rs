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
use super::procfs::{Condition, Usage, ticks_per_second};
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
    /// What its main process had run before it was seen to run.
    runs: Option<Duration>,
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

    /// Whether each of these main processes runs at this very moment, in the same order; `None`: it is gone, or not ours
    /// to see. Nobody's figures change by it.
    pub(crate) fn conditions(&self, roots: &[Root]) -> Vec<Option<Condition>> {
        let (mut inner, now) = (self.lock(), Instant::now());
        let mut condition = |(pid, instance): &Root| {
            inner.know(*pid, instance, now);
            let Inner { all, trees, clock, .. } = &mut *inner;
            let condition = all.get_mut(pid)?.condition(*clock);
            if condition.is_none() {
                drop_tree(*pid, all, trees);
            }
            condition
        };
        roots.iter().map(&mut condition).collect()
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
            runs: None,
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

    /// Whether its main process runs now. If it ran when it was read last and has done nothing since, it does: whoever is
    /// halted or ends does so itself.
    fn condition(&mut self, clock: Option<ProcessorTime>) -> Option<Condition> {
        let ran = clock.and_then(|clock| clock(self.main.pid()));
        if ran.is_some() && ran == self.runs {
            return Some(Condition::Runs);
        }
        let condition = self.main.read()?.usage.condition;
        self.runs = ran.filter(|_| condition.runs());
        Some(condition)
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
#[path = "sampler_tests.rs"]
mod tests;
