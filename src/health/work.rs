//! Its work: errors, slow tasks, a flow that dries up, and no progress at all.
//!
//! A process may answer every probe and still do nothing, or everything wrong. What it says of its errors and of how far
//! it is comes from the worker itself and is told here by the coordinator; what became of tasks is for whoever hands them
//! out to tell, and nobody does yet: until then only `progress` and `errors_per_minute` are ever reached. All of it is measured in
//! own time, so that nothing is missed while the runtime itself stood still.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::cause::Cause;

use super::grade::Grade;
use super::record::rounded;
use super::window::{Flow, Usual, Window};

type Time = Duration;

/// Errors by the minute are an average over this long: a rate below one in a minute must be seen, too.
pub const ERROR_WINDOW: Duration = Duration::from_secs(300);
/// Below this nothing is slow, whatever is usual: a task of a millisecond may take two.
const NOT_SLOW: Duration = Duration::from_secs(1);
/// Types of tasks that are told apart; those of others have no usual duration.
const MOST_TYPES: usize = 100;

/// From which figures on something is wrong. A missing one is never reached.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WorkRules {
    /// Failed tasks of all that ended, 0..1: warn and crit, the window, and how many must have ended in it.
    pub error_rate: Option<ErrorRate>,
    /// Errors by the minute: warn and crit.
    pub errors_per_minute: Option<(f64, Option<f64>)>,
    /// A task takes longer than this, or than so many times the usual duration of its type.
    pub slow: Option<(Duration, f64)>,
    /// Fewer tasks end than usual, though some wait: the share that is missing, 0..1, and the window.
    pub throughput_drop: Option<(f64, Duration)>,
    /// Tasks wait, or it told how far it is, and nothing has moved for this long.
    pub progress: Option<Duration>,
}

/// The marks of failed tasks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ErrorRate {
    /// Degraded from here on.
    pub warn: f64,
    /// Unhealthy from here on.
    pub crit: f64,
    /// Over this long.
    pub window: Duration,
    /// With fewer it says nothing.
    pub min_tasks: u64,
}

/// Something that is wrong with its work.
#[derive(Debug, Clone, PartialEq)]
pub struct Ailment {
    /// Which figure.
    pub name: &'static str,
    /// How grave.
    pub grade: Grade,
    /// The same in words.
    pub text: String,
    /// What it is the cause of.
    pub cause: Cause,
    /// Own time for which it has been so.
    pub lasted: Duration,
}

/// The work of one incarnation.
#[derive(Debug, Clone)]
pub struct Work {
    rules: WorkRules,
    ended: Window<Ends>,
    errors: Window<u64>,
    usual: BTreeMap<Arc<str>, Usual>,
    running: Vec<(Arc<str>, Time)>,
    flow: Flow,
    backlog: u64,
    /// Own time at which something last moved, or could have begun to; `None`: nothing is expected to.
    moved: Option<Time>,
    /// It tells how far it is.
    tells: bool,
}

impl Work {
    /// Of an incarnation that has done nothing.
    #[must_use]
    pub fn new(rules: WorkRules) -> Self {
        let window = rules.error_rate.map_or(ERROR_WINDOW, |rate| rate.window);
        let flow = rules.throughput_drop.map_or(ERROR_WINDOW, |(_, window)| window);
        Self {
            ended: Window::new(window),
            errors: Window::new(ERROR_WINDOW),
            usual: BTreeMap::new(),
            running: Vec::new(),
            flow: Flow::new(flow),
            backlog: 0,
            moved: None,
            tells: false,
            rules,
        }
    }

    /// It said that something went wrong, so many times.
    pub fn trouble(&mut self, own: Time, times: u64) {
        *self.errors.now(own) += times;
    }

    /// It told how far it is, and that it has moved.
    pub fn progressed(&mut self, own: Time) {
        self.tells = true;
        self.moved = Some(own);
    }

    /// A task of a type has ended.
    pub fn task_ended(&mut self, own: Time, kind: &Arc<str>, took: Duration, failed: bool) {
        let ends = self.ended.now(own);
        ends.all += 1;
        ends.failed += u64::from(failed);
        self.flow.count(own);
        self.moved = Some(own);
        if failed {
            return;
        }
        if let Some(usual) = self.usual.get_mut(kind) {
            usual.add(took.as_secs_f64());
        } else if self.usual.len() < MOST_TYPES {
            let mut usual = Usual::default();
            usual.add(took.as_secs_f64());
            self.usual.insert(Arc::clone(kind), usual);
        }
    }

    /// The tasks that it works on, with the own time at which each began.
    pub fn running(&mut self, tasks: Vec<(Arc<str>, Time)>) {
        self.running = tasks;
    }

    /// So many tasks wait for it.
    pub fn backlog(&mut self, own: Time, waiting: u64) {
        // Nobody can be expected to move before there is something to do.
        if self.backlog == 0 && waiting > 0 && !self.tells {
            self.moved = Some(own);
        }
        self.backlog = waiting;
    }

    /// Whether time alone may make something wrong.
    #[must_use]
    pub fn ticks(&self) -> bool {
        !self.running.is_empty() || self.rules.progress.is_some() && self.is_expected_to_move()
    }

    /// Everything that is wrong, the gravest first.
    pub fn ailments(&mut self, own: Time) -> Vec<Ailment> {
        let mut all: Vec<Ailment> = [
            self.no_progress(own),
            self.error_rate(own),
            self.errors_per_minute(own),
            self.slow(own),
            self.throughput_drop(own),
        ]
        .into_iter()
        .flatten()
        .collect();
        all.sort_by_key(|ailment| std::cmp::Reverse(ailment.grade));
        all
    }

    fn is_expected_to_move(&self) -> bool {
        self.tells || self.backlog > 0
    }

    fn no_progress(&self, own: Time) -> Option<Ailment> {
        let silence = own.saturating_sub(self.moved.filter(|_| self.is_expected_to_move())?);
        let still = self.rules.progress.is_some_and(|crit| silence >= crit);
        let waits = match self.backlog {
            0 => String::new(),
            1 => ", and 1 task waits".to_owned(),
            many => format!(", and {many} tasks wait"),
        };
        still.then(|| Ailment {
            name: "progress",
            grade: Grade::Fail,
            text: format!("no progress for {}{waits}", rounded(silence)),
            cause: Cause::Hang,
            lasted: silence,
        })
    }

    fn error_rate(&mut self, own: Time) -> Option<Ailment> {
        let rate = self.rules.error_rate?;
        let (all, failed) =
            self.ended.parts(own).fold((0, 0), |(all, failed), ends| (all + ends.all, failed + ends.failed));
        if all < rate.min_tasks.max(1) {
            return None;
        }
        let ratio = failed as f64 / all as f64;
        let grade = graded(ratio, rate.warn, Some(rate.crit))?;
        Some(Ailment {
            name: "error_rate",
            grade,
            text: format!(
                "{failed} of {all} tasks failed in {} ({:.0} %)",
                rounded(rate.window),
                ratio * 100.0
            ),
            cause: Cause::ErrorRate,
            lasted: Duration::ZERO,
        })
    }

    fn errors_per_minute(&mut self, own: Time) -> Option<Ailment> {
        let (warn, crit) = self.rules.errors_per_minute?;
        let count: u64 = self.errors.parts(own).sum();
        let rate = count as f64 / (ERROR_WINDOW.as_secs_f64() / 60.0);
        let grade = graded(rate, warn, crit).filter(|_| count > 0)?;
        let errors = if count == 1 { "1 error" } else { &format!("{count} errors") };
        Some(Ailment {
            name: "errors_per_minute",
            grade,
            text: format!("{errors} in {}, {rate:.1} a minute", rounded(ERROR_WINDOW)),
            cause: Cause::ErrorRate,
            lasted: Duration::ZERO,
        })
    }

    fn slow(&self, own: Time) -> Option<Ailment> {
        let (longest, ratio) = self.rules.slow?;
        let mark = |kind: &Arc<str>| {
            let usual = self.usual.get(kind).and_then(Usual::known);
            let times = usual.map(|usual| Duration::from_secs_f64((usual * ratio).clamp(0.0, 1e9)));
            times.map_or(longest, |times| times.max(NOT_SLOW).min(longest))
        };
        let slow = |(kind, began): &(Arc<str>, Time)| {
            let (age, mark) = (own.saturating_sub(*began), mark(kind));
            (age >= mark).then(|| (age, Arc::clone(kind), mark))
        };
        let (age, kind, mark) = self.running.iter().filter_map(slow).max()?;
        Some(Ailment {
            name: "slow_task",
            grade: Grade::Warn,
            text: format!("a task of type {kind} takes {} (slow from {})", rounded(age), rounded(mark)),
            cause: Cause::Slow,
            lasted: age.saturating_sub(mark),
        })
    }

    fn throughput_drop(&mut self, own: Time) -> Option<Ailment> {
        let (warn, window) = self.rules.throughput_drop?;
        self.flow.roll(own);
        let (usual, last) = self.flow.compare()?;
        let missing = 1.0 - last as f64 / usual;
        (self.backlog > 0 && missing >= warn).then(|| Ailment {
            name: "throughput_drop",
            grade: Grade::Warn,
            text: format!(
                "{last} tasks in {}, usual are {usual:.0}, and {} wait",
                rounded(window),
                self.backlog
            ),
            cause: Cause::Slow,
            lasted: Duration::ZERO,
        })
    }
}

fn graded(value: f64, warn: f64, crit: Option<f64>) -> Option<Grade> {
    match crit {
        Some(crit) if value >= crit => Some(Grade::Fail),
        Some(_) | None if value >= warn => Some(Grade::Warn),
        Some(_) | None => None,
    }
}

/// How tasks ended.
#[derive(Debug, Clone, Copy, Default)]
struct Ends {
    all: u64,
    failed: u64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn kind() -> Arc<str> {
        Arc::from("mail")
    }

    fn one(work: &mut Work, own: Time) -> Option<(&'static str, Grade, String)> {
        work.ailments(own).into_iter().next().map(|one| (one.name, one.grade, one.text))
    }

    #[test]
    fn failed_tasks_count_once_there_are_enough_and_leave_with_the_window() {
        let rate = ErrorRate { warn: 0.05, crit: 0.10, window: secs(300), min_tasks: 20 };
        let mut work = Work::new(WorkRules { error_rate: Some(rate), ..WorkRules::default() });
        for at in 0..19 {
            work.task_ended(secs(at), &kind(), secs(1), true);
        }
        assert_eq!(one(&mut work, secs(19)), None, "nineteen say nothing");
        work.task_ended(secs(20), &kind(), secs(1), true);
        let text = "20 of 20 tasks failed in 5m (100 %)".to_owned();
        assert_eq!(one(&mut work, secs(20)), Some(("error_rate", Grade::Fail, text)));
        for at in 0..300 {
            work.task_ended(secs(21 + at / 2), &kind(), secs(1), false);
        }
        assert_eq!(one(&mut work, secs(171)).unwrap().1, Grade::Warn, "20 of 320");
        assert_eq!(one(&mut work, secs(400)), None, "the failures have left the window");
    }

    #[test]
    fn errors_by_the_minute_are_an_average_that_ends() {
        let mut work =
            Work::new(WorkRules { errors_per_minute: Some((0.3, Some(2.0))), ..WorkRules::default() });
        work.trouble(secs(10), 1);
        assert_eq!(one(&mut work, secs(11)), None, "0.2 a minute");
        work.trouble(secs(60), 1);
        let text = "2 errors in 5m, 0.4 a minute".to_owned();
        assert_eq!(one(&mut work, secs(61)), Some(("errors_per_minute", Grade::Warn, text)));
        work.trouble(secs(90), 8);
        assert_eq!(one(&mut work, secs(91)).unwrap().1, Grade::Fail);
        assert_eq!(one(&mut work, secs(390)), None);
    }

    #[test]
    fn slow_is_what_takes_longer_than_its_kind_usually_does() {
        let mut work = Work::new(WorkRules { slow: Some((secs(900), 2.0)), ..WorkRules::default() });
        work.running(vec![(kind(), secs(0))]);
        assert_eq!(one(&mut work, secs(899)), None, "nobody knows yet what is usual");
        assert_eq!(one(&mut work, secs(900)).unwrap().1, Grade::Warn);
        for _ in 0..10 {
            work.task_ended(secs(900), &kind(), secs(10), false);
        }
        work.running(vec![(kind(), secs(1000))]);
        assert_eq!(one(&mut work, secs(1019)), None);
        let text = "a task of type mail takes 20s (slow from 20s)".to_owned();
        assert_eq!(one(&mut work, secs(1020)), Some(("slow_task", Grade::Warn, text)));
        work.running(Vec::new());
        assert_eq!(one(&mut work, secs(1020)), None);
    }

    #[test]
    fn a_flow_that_dries_up_is_seen_only_while_tasks_wait() {
        let mut work =
            Work::new(WorkRules { throughput_drop: Some((0.5, secs(60))), ..WorkRules::default() });
        let run = |work: &mut Work, from: u64, minutes: u64, each: u64| {
            for second in (from..from + minutes * 60).step_by(usize::try_from(each).unwrap()) {
                work.task_ended(secs(second), &kind(), secs(1), false);
            }
        };
        run(&mut work, 0, 5, 2);
        run(&mut work, 300, 3, 6);
        assert_eq!(one(&mut work, secs(480)), None, "nothing waits: there was little to do");
        work.backlog(secs(480), 7);
        let (name, grade, text) = one(&mut work, secs(480)).unwrap();
        assert_eq!((name, grade), ("throughput_drop", Grade::Warn), "{text}");
        assert_eq!(text, "10 tasks in 1m, usual are 30, and 7 wait");
        run(&mut work, 480, 2, 2);
        assert_eq!(one(&mut work, secs(600)), None);
    }

    #[test]
    fn progress_is_asked_of_whoever_tells_it_or_has_something_to_do() {
        let rules = WorkRules { progress: Some(secs(600)), ..WorkRules::default() };
        let mut idle = Work::new(rules.clone());
        assert!(idle.ailments(secs(100_000)).is_empty() && !idle.ticks());
        idle.backlog(secs(100_000), 3);
        assert_eq!(one(&mut idle, secs(100_599)), None);
        let text = "no progress for 10m, and 3 tasks wait".to_owned();
        assert_eq!(one(&mut idle, secs(100_600)), Some(("progress", Grade::Fail, text)));
        idle.task_ended(secs(100_601), &kind(), secs(1), false);
        assert_eq!(one(&mut idle, secs(100_602)), None);
        let mut tells = Work::new(rules);
        tells.progressed(secs(5));
        assert!(tells.ticks());
        assert_eq!(one(&mut tells, secs(604)), None);
        let stalled = tells.ailments(secs(605)).remove(0);
        assert_eq!((stalled.cause, stalled.lasted), (Cause::Hang, secs(600)));
    }

    proptest! {
        /// Whatever happens, figures stay figures, and what is remembered stays bounded.
        #[test]
        fn any_work_is_survived(steps in proptest::collection::vec((0..6u8, 0..5_000u64, any::<u16>()), 0..200)) {
            let rate = ErrorRate { warn: 0.05, crit: 0.10, window: secs(300), min_tasks: 20 };
            let mut work = Work::new(WorkRules {
                error_rate: Some(rate),
                errors_per_minute: Some((0.3, None)),
                slow: Some((secs(900), 2.0)),
                throughput_drop: Some((0.5, secs(300))),
                progress: Some(secs(600)),
            });
            let mut own = Duration::ZERO;
            for (what, millis, figure) in steps {
                own += Duration::from_millis(millis);
                let kind: Arc<str> = format!("kind{figure}").into();
                match what {
                    0 => work.task_ended(own, &kind, Duration::from_millis(u64::from(figure)), figure % 3 == 0),
                    1 => work.trouble(own, u64::from(figure)),
                    2 => work.progressed(own),
                    3 => work.backlog(own, u64::from(figure % 4)),
                    4 => work.running(vec![(kind, own)]),
                    _ => {}
                }
                for ailment in work.ailments(own) {
                    prop_assert!(matches!(ailment.grade, Grade::Warn | Grade::Fail), "{:?}", ailment);
                    prop_assert!(!ailment.text.contains("NaN") && !ailment.text.contains("inf"), "{:?}", ailment);
                }
                prop_assert!(work.ended.len() <= 11 && work.usual.len() <= MOST_TYPES);
            }
        }
    }
}
