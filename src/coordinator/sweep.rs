//! One look at all processes: whether they run, and what their trees use.
//!
//! What somebody else has just read counts as well, and what says nothing new changes nothing: an idle fleet costs one
//! read of each main process now and then.

use std::sync::LazyLock;
use std::time::Duration;

use crate::config::WorkerSettings;
use crate::config::reach::{QUIET, READ};
use crate::health::{Grade, Observation};
use crate::probe::{Found, in_condition};
use crate::telemetry::{Pace, Root, Sampler, Seen};

use super::case::{Case, fails};
use super::rules::{BUILT_IN, memory_base};

/// How often the processes are looked at.
pub(super) const SWEEP: Duration = READ;
/// The same after a failure, until it stands.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// Figures closer together than this are not compared with marks, unless those want more.
const FIGURES: Duration = Duration::from_secs(9);

/// What is known of each of them now, in their order.
pub(super) fn look<'a>(
    sampler: &Sampler,
    cases: impl Iterator<Item = &'a Case>,
    interval: Option<Duration>,
    halts_are_told: bool,
) -> Vec<Option<Seen>> {
    let usual = match interval {
        Some(interval) if interval < SWEEP => Pace::of(interval),
        Some(_) | None if halts_are_told => Pace { every: SWEEP, quiet: QUIET },
        Some(_) | None => Pace::of(SWEEP),
    };
    let mut groups: Vec<(Pace, Vec<Root>)> = vec![(usual, Vec::new())];
    let mut places = Vec::with_capacity(cases.size_hint().0);
    for case in cases {
        let pace = pace_of(case, usual);
        let group = groups.iter().position(|(own, _)| *own == pace).unwrap_or_else(|| {
            groups.push((pace, Vec::new()));
            groups.len() - 1
        });
        let roots = &mut groups[group].1;
        places.push(case.main().map(|pid| {
            roots.push((pid, case.instance.clone()));
            (group, roots.len() - 1)
        }));
    }
    let found: Vec<Vec<Option<Seen>>> =
        groups.iter().map(|(pace, roots)| sampler.sweep(roots, *pace)).collect();
    places.into_iter().map(|place| place.and_then(|(group, at)| found[group][at])).collect()
}

/// How old its figures may be.
fn pace_of(case: &Case, usual: Pace) -> Pace {
    let pace = case.fails().then_some(AGAIN).into_iter().chain(case.pace).min();
    pace.map_or(usual, |pace| Pace::of(pace.min(usual.every)))
}

/// What is known of this one at this very moment.
pub(super) fn look_at(sampler: &Sampler, case: &Case) -> Option<Seen> {
    let root = (case.main()?, case.instance.clone());
    sampler.sweep(&[root], Pace::of(Duration::ZERO)).into_iter().next()?
}

/// Takes note of what was read; whether that is something new for its verdict.
pub(super) fn note(case: &mut Case, seen: Seen, sampler: &Sampler, own: Duration, now: Duration) -> bool {
    if case.seen.is_some_and(|before| before.at == seen.at) {
        return false;
    }
    let condition = seen.usage.condition;
    let same = case.seen.is_some_and(|before| before.usage.condition == condition);
    case.seen = Some(seen);
    // That it runs on is nothing new; each look at one that does not counts.
    let found = (!same || fails(condition)).then(|| in_condition(condition));
    let observed = found.is_some();
    if let Some(found) = found {
        case.record.observe(own, built_in(now, found));
    }
    // Timers are never quite on time.
    let between = case.pace.map_or(FIGURES, |pace| pace.mul_f64(0.9));
    let due = case.figures.is_none_or(|(_, at)| seen.at.saturating_duration_since(at) >= between);
    let marked = due && figures(case, seen, sampler, own);
    observed || marked
}

/// Compares what a tree uses with its marks; whether one of them says something. The first look at an incarnation has
/// nothing to compare its processor time with.
fn figures(case: &mut Case, seen: Seen, sampler: &Sampler, own: Duration) -> bool {
    if let (Some(base), Some(pid)) = (memory_base(&case.worker), case.main())
        && let Some(bytes) = sampler.working_set(pid)
    {
        case.record.read_memory(own, bytes as f64 / base as f64);
    }
    let cpu_seconds = seen.usage.cpu_seconds;
    if let Some((before, at)) = case.figures.replace((cpu_seconds, seen.at)) {
        let span = seen.at.saturating_duration_since(at).as_secs_f64();
        if span > 0.0 {
            let busy = (cpu_seconds - before).max(0.0) / span;
            case.record.read_cpu(own, busy / cores(&case.worker));
        }
    }
    case.record.figures(own).into_iter().flatten().any(|grade| grade != Grade::Pass)
}

/// Cores that a worker may use.
fn cores(worker: &WorkerSettings) -> f64 {
    /// Asking the system takes a dozen system calls; the answer hardly ever changes.
    static ALL: LazyLock<f64> =
        LazyLock::new(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64);
    worker.isolation.limits.cpu.map_or(*ALL, |limit| limit.min(*ALL))
}

/// A look of the built-in check.
pub(super) fn built_in(now: Duration, found: Found) -> Observation {
    Observation {
        probe: BUILT_IN,
        began: now,
        ended: now,
        grade: found.grade,
        message: found.message,
        metrics: found.metrics,
    }
}
