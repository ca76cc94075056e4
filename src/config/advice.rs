//! What is allowed but probably not meant, and what is worth knowing.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::id::Name;
use crate::policy::{AutoShutdown, Backoff, Intensity, OnExhausted, Restart};
use crate::units::format_duration;

use super::settings::{Ladder, Settings, SocketSettings, SupervisorSettings, WorkerSettings};
use super::{marks, ports, reach, unheeded};

/// Hints that do not hinder a start.
pub(super) fn warnings(settings: &Settings) -> Vec<String> {
    let mut warnings: Vec<String> = closed_socket(&settings.runtime.control).into_iter().collect();
    for supervisor in &settings.supervisors {
        let workers = workers_of(settings, supervisor);
        warnings.extend(never_exhausted(supervisor, &workers));
        warnings.extend(ends_in_vain(supervisor, &workers, settings));
    }
    let disabled: HashSet<&Name> =
        settings.workers.iter().filter(|worker| !worker.enabled).map(|worker| &worker.name).collect();
    for worker in &settings.workers {
        warnings.extend(disabled_dependencies(worker, &disabled));
        warnings.extend(slow_stop(worker, settings));
        warnings.extend(capped_first(worker));
    }
    warnings.extend(marks::warnings(&settings.workers));
    warnings.extend(unheeded::warnings(settings));
    warnings
}

/// Remarks for `check`.
pub(super) fn notes(settings: &Settings) -> Vec<String> {
    settings
        .supervisors
        .iter()
        .filter(|supervisor| follows_otp(supervisor, &workers_of(settings, supervisor)))
        .map(|supervisor| format!("supervisor `{}` follows OTP's rules exactly", supervisor.name))
        .chain(reach::notes(&settings.workers))
        .chain(ports::crowded(&settings.workers))
        .chain(passed_over(&settings.workers))
        .collect()
}

/// Steps of a ladder that no worker with that ladder can have done: each is passed over, and nobody sees it before the
/// day on which it should help.
fn passed_over(workers: &[Arc<WorkerSettings>]) -> Vec<String> {
    let mut steps: BTreeMap<(&str, usize), Option<String>> = BTreeMap::new();
    for worker in workers {
        let Some((name, ladder)) = worker.ladder.name().zip(worker.steps.as_ref()) else { continue };
        for (place, step) in ladder.steps.iter().enumerate() {
            let why = step.unable.as_ref().map(|why| {
                format!("`{}` in ladder.{name}.steps is passed over by every worker: {why}", step.run)
            });
            match steps.entry((name, place)) {
                Entry::Vacant(entry) => _ = entry.insert(why),
                Entry::Occupied(mut entry) if why.is_none() => _ = entry.insert(None),
                Entry::Occupied(_) => {}
            }
        }
    }
    steps.into_values().flatten().collect()
}

fn workers_of<'a>(settings: &'a Settings, supervisor: &SupervisorSettings) -> Vec<&'a WorkerSettings> {
    let children: HashSet<_> = supervisor.children.iter().collect();
    settings.workers.iter().filter(|worker| children.contains(&worker.name)).map(AsRef::as_ref).collect()
}

fn follows_otp(supervisor: &SupervisorSettings, workers: &[&WorkerSettings]) -> bool {
    let plain = |worker: &&WorkerSettings| {
        let otp_knows_no_more = worker.min_uptime.is_zero() && worker.exit_codes.fatal.is_empty();
        worker.backoff.first.is_zero() && worker.ladder == Ladder::None && otp_knows_no_more
    };
    supervisor.on_exhausted == OnExhausted::Escalate && workers.iter().all(plain)
}

/// Delays spread the failures; if they never fill the window, nothing is ever parked or escalated.
fn never_exhausted(supervisor: &SupervisorSettings, workers: &[&WorkerSettings]) -> Vec<String> {
    let Intensity { max_restarts, within } = supervisor.intensity;
    let restarted = workers.iter().filter(|worker| worker.restart != Restart::Temporary);
    let tell = |who: String, needs: String| {
        format!(
            "{who} can never exhaust the intensity of supervisor `{}`: {needs}, the window is {}. \
             Lower max_restarts or backoff, or widen `within`",
            supervisor.name,
            format_duration(within)
        )
    };
    match supervisor.on_exhausted {
        OnExhausted::Quarantine => restarted
            .filter(|worker| failures_within(&worker.backoff, within, max_restarts) <= max_restarts)
            .map(|worker| {
                let least = least_time(&worker.backoff, max_restarts);
                let needs = format!("{max_restarts} restarts take at least {:.0} s", least.as_secs_f64());
                tell(format!("worker `{}`", worker.name), needs)
            })
            .collect(),
        OnExhausted::Escalate => {
            let nodes = supervisor.children.len() - workers.len();
            let failures: u64 = restarted
                .map(|worker| u64::from(failures_within(&worker.backoff, within, max_restarts)))
                .sum();
            let never = nodes == 0 && !workers.is_empty() && failures <= u64::from(max_restarts);
            let needs = format!(
                "its backoff allows {failures} failures where {} are needed",
                u64::from(max_restarts) + 1
            );
            let who = format!("all {} together", super::diagnostic::plural(workers.len(), "worker"));
            never.then(|| tell(who, needs)).into_iter().collect()
        }
    }
}

/// How many failures of one child, each right after its restart, fit into a window; at most `limit + 1`.
fn failures_within(backoff: &Backoff, within: Duration, limit: u32) -> u32 {
    if backoff.first.is_zero() || backoff.jitter >= 1.0 {
        // No delay is ever certain, so the whole budget fits into no time.
        return limit.saturating_add(1);
    }
    let mut failures = 1;
    let mut sum = 0.0;
    for delay in Delays::of(backoff).take(limit as usize) {
        sum += delay;
        if sum > within.as_secs_f64() {
            break;
        }
        failures += 1;
    }
    failures
}

/// The shortest time between a first failure and the one that follows `restarts` restarts.
fn least_time(backoff: &Backoff, restarts: u32) -> Duration {
    let sum: f64 = Delays::of(backoff).take(restarts as usize).sum();
    Duration::try_from_secs_f64(sum).unwrap_or(Duration::MAX)
}

/// The shortest delays before the first, second, … restart in a row, in seconds.
struct Delays {
    next: f64,
    started: bool,
    factor: f64,
    max: f64,
    least: f64,
}

impl Delays {
    fn of(backoff: &Backoff) -> Self {
        Self {
            next: backoff.first.as_secs_f64(),
            started: false,
            factor: backoff.factor,
            max: backoff.max.as_secs_f64(),
            least: 1.0 - backoff.jitter,
        }
    }
}

impl Iterator for Delays {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        if !self.started {
            self.started = true;
            return Some(0.0);
        }
        let delay = self.next.min(self.max);
        self.next = (self.next * self.factor).min(self.max);
        Some(delay * self.least)
    }
}

fn disabled_dependencies(worker: &WorkerSettings, disabled: &HashSet<&Name>) -> Vec<String> {
    let waits = worker.after.iter().filter(|name| worker.enabled && disabled.contains(name));
    waits
        .map(|name| {
            format!("worker `{}` waits for `{name}`, which is not enabled: it will not start", worker.name)
        })
        .collect()
}

/// A socket that is said to be for a group, and is not, or the other way round.
fn closed_socket(control: &SocketSettings) -> Option<String> {
    let open = control.mode & 0o060 != 0;
    match &control.group {
        Some(group) if control.mode & 0o060 != 0o060 => Some(format!(
            "runtime.control.group is \"{group}\", but mode {:04o} keeps its members out: set `control.mode = \"0660\"`",
            control.mode
        )),
        None if open => Some(format!(
            "runtime.control.mode is {:04o}, but without `control.group` only regrow's own user and root are let in",
            control.mode
        )),
        Some(_) | None => None,
    }
}

/// `auto_shutdown` that nobody sets off, or that is undone at once.
fn ends_in_vain(
    supervisor: &SupervisorSettings,
    workers: &[&WorkerSettings],
    settings: &Settings,
) -> Option<String> {
    if supervisor.auto_shutdown == AutoShutdown::Never {
        return None;
    }
    let root = supervisor.name == Name::root();
    let of_templates = root && settings.templates.iter().any(|template| template.sample().significant);
    if !of_templates && !workers.iter().any(|worker| worker.significant) {
        return Some(format!(
            "supervisor `{}` has auto_shutdown and no worker that is `significant`: it never ends by itself",
            supervisor.name
        ));
    }
    (!root).then(|| {
        format!(
            "supervisor `{}` ends by auto_shutdown, and the supervisor above starts it again, over and over: \
             set auto_shutdown in [supervisor.root], or leave `significant` out and let its workers be done",
            supervisor.name
        )
    })
}

fn slow_stop(worker: &WorkerSettings, settings: &Settings) -> Option<String> {
    let limit = settings.runtime.shutdown_timeout;
    let time = worker.stop.drain.saturating_add(worker.stop.timeout);
    (time > limit).then(|| {
        format!(
            "worker `{}` may take {} to stop, but the whole shutdown is cut off after {} (runtime.shutdown_timeout)",
            worker.name,
            format_duration(time),
            format_duration(limit)
        )
    })
}

fn capped_first(worker: &WorkerSettings) -> Option<String> {
    let Backoff { first, max, .. } = worker.backoff;
    (first > max).then(|| {
        format!(
            "worker `{}`: backoff.first ({}) is above backoff.max ({}), so every delay is the latter",
            worker.name,
            format_duration(first),
            format_duration(max)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff(first: u64, factor: f64, max: u64, jitter: f64) -> Backoff {
        let (first, max) = (Duration::from_millis(first), Duration::from_secs(max));
        Backoff { first, factor, max, jitter, reset_after: Duration::from_secs(600) }
    }

    #[test]
    fn the_default_backoff_fills_the_default_window() {
        let standard = backoff(200, 2.0, 60, 0.2);
        assert_eq!(failures_within(&standard, Duration::from_secs(300), 10), 11);
        assert_eq!(least_time(&backoff(200, 2.0, 60, 0.0), 10).as_millis(), 102_200);
    }

    #[test]
    fn long_delays_empty_the_window() {
        let slow = backoff(60_000, 1.0, 60, 0.0);
        assert_eq!(failures_within(&slow, Duration::from_secs(300), 10), 7);
    }

    #[test]
    fn full_jitter_may_always_fill_it() {
        assert_eq!(failures_within(&backoff(60_000, 2.0, 600, 1.0), Duration::from_secs(1), 50), 51);
    }
}
