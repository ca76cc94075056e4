//! Real processes: read, halted, ended, and left unread where nothing can have changed.

use std::collections::HashSet;
use std::process::{Child, Command};

use super::*;

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
fn until(sampler: &Sampler, root: &Root, pace: Pace, right: impl Fn(Option<Seen>) -> bool) -> Option<Seen> {
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

/// Open lines of these processes, whether they still are or not.
fn open_files(of: &HashSet<u32>) -> usize {
    let is_one = |entry: &std::fs::DirEntry| {
        let to = std::fs::read_link(entry.path()).unwrap_or_default();
        let pid = to.to_str().and_then(|to| to.strip_prefix("/proc/")?.split_once("/stat")?.0.parse().ok());
        pid.is_some_and(|pid| of.contains(&pid))
    };
    std::fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok).filter(is_one).count()
}

/// What is kept of a worker does not grow with its restarts, nor with workers that are made and removed.
#[test]
fn those_who_have_ended_leave_nothing_open() {
    let (sampler, mut families) = (Sampler::default(), HashSet::new());
    for number in 0..300 {
        let instance = if number % 2 == 0 { "web".to_owned() } else { format!("job{number}") };
        let family = Family::new();
        let root: Root = (family.0.id(), instance.parse().unwrap());
        families.insert(root.0);
        assert!(sampler.sweep(&[root], Pace::FRESH)[0].is_some());
        assert!(open_files(&families) > 0, "the one that lives");
    }
    let kept = |sampler: &Sampler| sampler.lock().all.len();
    assert!(kept(&sampler) <= FEW, "{} trees", kept(&sampler));
    let open = open_files(&families);
    assert!(open <= FEW, "{open} files");
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

/// What a process with one thread has run.
fn ran(pid: u32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// Asks until the main process is as it should be.
fn until_it(sampler: &Sampler, root: &Root, right: impl Fn(Option<Condition>) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let condition = sampler.conditions(std::slice::from_ref(root))[0];
        if right(condition) {
            return;
        }
        assert!(Instant::now() < deadline, "{condition:?}");
        std::thread::yield_now();
    }
}

#[test]
fn whether_it_runs_is_known_at_every_moment_and_changes_no_figures() {
    let family = Family::new();
    let root = family.root();
    let tell = |signal: &str| {
        let told = Command::new("kill").args([signal, &root.0.to_string()]).status();
        assert!(told.is_ok_and(|told| told.success()));
    };
    for sampler in [Sampler::default(), Sampler::with_clock(ran)] {
        until_it(&sampler, &root, |condition| condition == Some(Condition::Runs));
        tell("-STOP");
        until_it(&sampler, &root, |condition| condition == Some(Condition::Halted));
        tell("-CONT");
        until_it(&sampler, &root, |condition| condition == Some(Condition::Runs));
        assert_eq!((sampler.seen(root.0), sampler.reads()), (None, 0));
    }
    let sampler = Sampler::with_clock(ran);
    until_it(&sampler, &root, |condition| condition == Some(Condition::Runs));
    drop(family);
    until_it(&sampler, &root, |condition| condition.is_none());
}

#[test]
fn whoever_runs_and_has_done_nothing_since_is_not_asked_again() {
    let (sampler, family) = (Sampler::with_clock(|_| Some(Duration::ZERO)), Family::new());
    let root = family.root();
    until_it(&sampler, &root, |condition| condition == Some(Condition::Runs));
    // Were it read, it would be seen to be gone.
    drop(family);
    assert_eq!(sampler.conditions(&[root]), [Some(Condition::Runs)]);
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
    let newer =
        |than: Option<Seen>| move |seen: Option<Seen>| seen.map(|seen| seen.at) != than.map(|seen| seen.at);
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
