//! Gathers what the metrics page is made of.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;

use jiff::Timestamp;

use crate::event::Cause;
use crate::runtime::RuntimeHandle;
use crate::supervisor::{Health, INCIDENT_BUCKETS, InstanceState, Spread, Totals};
use crate::telemetry::{
    Histogram, OwnSample, Pace, Root, Sampler, Scrape, Seen, WorkerSample, boot_time, open_files,
    open_files_limit, ticks_per_second, usage,
};

/// The runtime as it is now.
pub(crate) fn scrape(runtime: &RuntimeHandle) -> Scrape {
    let info = runtime.info();
    let sampler = info.sampler();
    let settings = info.settings();
    let board = runtime.board();
    let states = board.instances();
    sampler.sweep(&roots(&states), Pace::FRESH);
    let looks = info.looks();
    let there: HashSet<_> = states.iter().map(|state| &state.instance).collect();
    looks.keep(|instance| there.contains(instance));
    Scrape {
        version: info.version,
        runtime: settings.runtime.name.clone(),
        workers: states.iter().map(|state| worker(runtime, state, sampler)).collect(),
        supervisors: board.supervisors().iter().map(|state| state.name.to_string()).collect(),
        events: runtime.journal().counts(),
        events_dropped: runtime.journal().dropped(),
        stale: board.stale(),
        lag_seconds: info.lag().as_secs_f64(),
        config_ok: info.config_ok(),
        own: own(info.pid),
        seed_names: settings.telemetry.seed_names,
    }
}

fn worker(runtime: &RuntimeHandle, state: &InstanceState, sampler: &Sampler) -> WorkerSample {
    let recovered = runtime.healer().recovered(&state.instance.to_string());
    let recovered = recovered.filter(|recovered| recovered.recovery.count > 0);
    let used = used(state, sampler);
    let totals = state.totals();
    let count = |cause| totals.by_cause.get(&cause).copied().unwrap_or(0);
    WorkerSample {
        worker_id: state.instance.to_string(),
        supervisor: state.supervisor.to_string(),
        status: state.status(),
        healthy: state.health() == Health::Healthy,
        up: state.ready,
        score: state.score(),
        restarts: Cause::ALL.iter().map(|cause| (*cause, count(*cause))).collect(),
        recoveries: recoveries(state, &totals),
        breaker: state.breaker.word(),
        detection: recovered.map(|recovered| histogram(&recovered.detection)),
        recovery: recovered.map(|recovered| histogram(&recovered.recovery)),
        started_at: state.started_at.filter(|_| state.pid.is_some()).map(unix),
        cpu_seconds: used.map(|seen| seen.usage.cpu_seconds),
        cpu_percent: used.and_then(|seen| seen.percent),
        memory_bytes: used.map(|seen| seen.usage.resident_bytes),
        open_files: state.pid.and_then(open_files),
        heartbeat_at: state.last_heartbeat_at.map(unix),
        probes: runtime.info().looks().of(&state.instance),
        lines_dropped: state.output.dropped.load(Ordering::Relaxed),
    }
}

fn histogram(spread: &Spread) -> Histogram {
    Histogram {
        buckets: INCIDENT_BUCKETS.into_iter().zip(spread.buckets).collect(),
        count: spread.count,
        sum_seconds: spread.sum_seconds,
    }
}

/// Plain restarts after a failure and the steps of its ladder, which may be the same strategy.
fn recoveries(state: &InstanceState, totals: &Totals) -> BTreeMap<(String, &'static str), u64> {
    let plain = [("ok", totals.ok), ("failed", totals.failed), ("interrupted", totals.interrupted)];
    let mut all: BTreeMap<_, _> =
        plain.into_iter().map(|(outcome, count)| (("soft_restart".to_owned(), outcome), count)).collect();
    for ((strategy, outcome), count) in &state.recoveries {
        *all.entry((strategy.clone(), outcome.word())).or_default() += count;
    }
    all
}

/// The processes whose trees are looked at.
pub(crate) fn roots(states: &[InstanceState]) -> Vec<Root> {
    states.iter().filter_map(|state| Some((state.pid?, state.instance.clone()))).collect()
}

/// What the tree of one of them uses.
pub(crate) fn used(state: &InstanceState, sampler: &Sampler) -> Option<Seen> {
    let root = (state.pid?, state.instance.clone());
    sampler.sweep(&[root], Pace::FRESH).into_iter().next()?
}

fn own(pid: u32) -> Option<OwnSample> {
    let usage = usage(pid)?;
    Some(OwnSample {
        cpu_seconds: usage.cpu_seconds,
        resident_bytes: usage.resident_bytes,
        virtual_bytes: usage.virtual_bytes,
        threads: usage.threads,
        open_files: open_files(pid),
        max_files: open_files_limit(),
        started_at: boot_time().map(|boot| boot + usage.started_ticks as f64 / ticks_per_second()),
    })
}

fn unix(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}
