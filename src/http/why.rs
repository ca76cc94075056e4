//! Why an instance is as it is: the chain that led there, in words and with its figures.

use std::time::Duration;

use jiff::Timestamp;

use crate::policy::Phase;
use crate::recovery::{BreakerState, Incident};
use crate::runtime::RuntimeHandle;
use crate::supervisor::{Health, InstanceState, Recovering, Wanted};
use crate::units::{format_duration, plural};

use super::dto::WhyView;

/// Attempts that are told one by one.
const TOLD: usize = 6;

/// Everything that explains it, the newest first.
pub(crate) fn of(runtime: &RuntimeHandle, state: &InstanceState) -> WhyView {
    let mut lines = vec![now(state, is_fatal(runtime, state))];
    lines.extend(unwell(state));
    let incidents = runtime.healer().incidents();
    let own: Vec<&Incident> =
        incidents.iter().filter(|one| one.instance == state.instance.to_string()).collect();
    if let Some(last) = own.first() {
        lines.extend(incident(last));
    }
    lines.extend(last_end(state));
    lines.extend(restarts(state));
    lines.extend(held_back(runtime, state));
    lines.extend(learned(runtime, state, &own));
    WhyView { instance: state.instance.to_string(), status: state.status().to_owned(), lines }
}

/// Whether its last exit code is one that a restart cannot help against.
fn is_fatal(runtime: &RuntimeHandle, state: &InstanceState) -> bool {
    let code = state.last_exit.as_ref().and_then(|last| last.exit.code());
    let settings = runtime.info().settings();
    let worker = settings.workers.iter().find(|one| one.name == *state.instance.worker());
    code.zip(worker).is_some_and(|(code, worker)| worker.exit_codes.fatal.contains(&code))
}

/// What is wrong with one that runs, and why nothing is done where nothing is.
fn unwell(state: &InstanceState) -> Vec<String> {
    if state.phase != Phase::Running {
        return Vec::new();
    }
    let mut lines = state.all_issues();
    let verdict = state.verdict().filter(|verdict| state.ready && verdict.health == Health::Degraded);
    if verdict.is_some_and(|verdict| verdict.unwell.is_none()) && state.recovery.is_none() {
        lines.push(
            "no recovery: a readiness probe that fails, or a warning, makes a worker degraded and no more; a step is \
             taken once it is unhealthy, as by a liveness probe that fails or a mark that is critical"
                .to_owned(),
        );
    }
    lines
}

fn now(state: &InstanceState, fatal: bool) -> String {
    let since = format_duration(Duration::from_secs(state.steady.entered.elapsed().as_secs()));
    let what = match state.phase {
        Phase::Running if state.recovery.as_deref().is_some_and(Recovering::verifies) => {
            "it runs again, and must hold before its incident is over"
        }
        Phase::Running if state.is_recovering() => "it runs, and something is being done about it",
        Phase::Running => "it runs",
        Phase::Starting => "it is starting",
        Phase::Stopping if state.survivor.is_some() => "what an earlier runtime left of it is being stopped",
        Phase::Stopping => "it is being stopped",
        Phase::Waiting => "it waits to be started",
        Phase::Backoff => "it is down and will be started again",
        Phase::Quarantined if fatal => {
            "it is parked: its exit code says that a restart cannot help; mend the cause, then `regrow reset-failed`"
        }
        Phase::Quarantined => "it is parked: starting it again did not help",
        Phase::Stuck => "it cannot be killed, and no second copy is started",
        Phase::Stopped => "it is stopped",
        Phase::Done => "its work is done",
    };
    let by = match (&state.wanted, &state.wanted_by) {
        (Wanted::Stopped, Some(by)) => format!("; {} stopped it at {}", by.by, by.at),
        (Wanted::Paused, Some(by)) => {
            format!("; {} paused it at {}: nothing is done by itself", by.by, by.at)
        }
        (Wanted::Running, _) | (Wanted::Stopped | Wanted::Paused, None) => String::new(),
    };
    format!("{what} (for {since}){by}")
}

fn incident(one: &Incident) -> Vec<String> {
    let mut lines = Vec::new();
    let how = match &one.closed {
        None => "goes on".to_owned(),
        Some(closed) => format!("ended {}: {}", closed.outcome.word(), closed.reason),
    };
    lines.push(format!("incident {} ({}): {}; it {how}", one.id, one.cause, one.text));
    if let Some(seconds) = one.detection_seconds.filter(|seconds| *seconds > 0.0) {
        lines.push(format!("it was seen {seconds:.1} s after the first evidence"));
    }
    let skip = one.attempts.len().saturating_sub(TOLD);
    if skip > 0 {
        lines.push(format!("{skip} earlier attempts are in `regrow incidents show {}`", one.id));
    }
    for attempt in &one.attempts[skip..] {
        let outcome = attempt.outcome.map_or("is under way", |outcome| outcome.word());
        let seconds = attempt.seconds.map(|seconds| format!(" after {seconds:.1} s")).unwrap_or_default();
        lines.push(format!("  {} {outcome}{seconds}: {}", attempt.strategy, attempt.reason));
    }
    lines
}

fn last_end(state: &InstanceState) -> Option<String> {
    let last = state.last_exit.as_ref()?;
    Some(format!("its incarnation {} ended {} ago: {}", last.incarnation, span(last.at), last.message))
}

/// Why so many restarts.
fn restarts(state: &InstanceState) -> Option<String> {
    if state.restarts == 0 {
        return None;
    }
    let mut by: Vec<String> =
        state.restarts_by_cause.iter().map(|(cause, n)| format!("{n} {}", cause.word())).collect();
    let planned = state.restarts.saturating_sub(state.restarts_by_cause.values().sum());
    by.extend((planned > 0).then(|| format!("{planned} as `recycle` says")));
    let left = state.budget_left;
    Some(format!(
        "it was restarted {} ({}); intensity allows {left} more now",
        plural(state.restarts, "time"),
        by.join(", ")
    ))
}

/// Why no recovery.
fn held_back(runtime: &RuntimeHandle, state: &InstanceState) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(recovery) = &state.recovery {
        let step = recovery.strategy.as_ref().map_or("the next step", |strategy| strategy.word());
        let until =
            recovery.until.map(|at| format!(", until {}", whole_seconds(at.wall()))).unwrap_or_default();
        let what = match recovery.stage {
            "approval" => format!("{step} waits for approval{until}: `regrow approve {}`", recovery.incident),
            "delay" => format!("{step} waits for its delay{until}"),
            "held" => format!("recovery rests{until}: too many steps have failed, and the breaker is open"),
            "choosing" => "which step comes next is being decided".to_owned(),
            "asking" => format!("leave for {step} was asked for and is not given yet"),
            "gathering" => format!("it is looked at before {step}"),
            "verifying" => format!("{step} must hold{until}"),
            "healing" => format!("{step} was done; its health must turn{until}"),
            other => format!("{step}: {other}{until}"),
        };
        lines.push(what);
    }
    if state.breaker == BreakerState::Open && state.recovery.is_none() {
        lines.push("the breaker of its ladder is open: `regrow reset-failed` closes it".to_owned());
    }
    if runtime.healer().brake_is_on() {
        lines.push(
            "the fleet's brake is on: much of it fell ill at once, so one is tried and the others wait"
                .to_owned(),
        );
    }
    let settings = runtime.info().settings();
    let worker = settings.workers.iter().find(|one| one.name == *state.instance.worker());
    match worker {
        Some(worker) if worker.steps.is_none() => {
            lines.push("it has ladder = \"none\": when it is unwell it is only restarted".to_owned());
        }
        Some(worker) => {
            for step in worker.steps.iter().flat_map(|ladder| ladder.steps.iter()) {
                if let Some(reason) = &step.unable {
                    lines.push(format!("{} is passed over: {reason}", step.run));
                }
            }
        }
        None => {}
    }
    if !state.waits_for.is_empty() {
        lines.push(format!("it waits for {}", state.waits_for.join(", ")));
    }
    lines
}

/// Why nothing learned.
fn learned(runtime: &RuntimeHandle, state: &InstanceState, own: &[&Incident]) -> Vec<String> {
    let settings = runtime.info().settings();
    let worker = settings.workers.iter().find(|one| one.name == *state.instance.worker());
    let Some(ladder) = worker.and_then(|worker| worker.steps.clone()) else {
        return vec!["nothing is learned from it: it has no ladder".to_owned()];
    };
    if ladder.learn == crate::recovery::Learn::Off {
        let name = worker.and_then(|worker| worker.ladder.name()).unwrap_or("default");
        return vec![format!("nothing is learned from it: ladder.{name}.learn is off")];
    }
    let unkept: Vec<String> = runtime
        .store()
        .filter(|store| !store.is_open())
        .into_iter()
        .flat_map(|store| store.notes())
        .map(|note| format!("what is learned is known to this runtime alone, and is not kept: {note}"))
        .collect();
    // What somebody asked for teaches nothing.
    let failures = own.iter().filter(|one| one.cause != "operator" && one.cause != "monitor");
    let Some(class) = failures.into_iter().find_map(|one| one.class.clone()) else {
        let none = "nothing was learned from it: it had no failure yet".to_owned();
        return std::iter::once(none).chain(unkept).collect();
    };
    let looks = runtime.healer().strategies();
    let of_class = looks.iter().filter(|look| *look.class == *class);
    let mut lines: Vec<String> = of_class
        .map(|look| {
            let best = if look.best { ", the best known" } else { "" };
            let (low, high) = look.interval;
            format!(
                "against «{class}» {} held {} of {} times ({:.0} to {:.0} %){best}",
                look.strategy,
                look.successes,
                look.attempts,
                low * 100.0,
                high * 100.0
            )
        })
        .collect();
    if lines.is_empty() {
        lines.push(format!("nothing is known of «{class}» yet: no step against it has come to its end"));
    }
    lines.extend(unkept);
    lines
}

fn span(since: Timestamp) -> String {
    let seconds = Timestamp::now().duration_since(since).as_secs().max(0).unsigned_abs();
    format_duration(Duration::from_secs(seconds))
}
/// For people, who count in seconds.
fn whole_seconds(at: Timestamp) -> Timestamp {
    at.round(jiff::Unit::Second).unwrap_or(at)
}
