//! Gathers what the metrics page is made of.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use jiff::Timestamp;

use crate::config::{CheckSettings, WorkerSettings, expand};
use crate::event::{Cause, CauseName};
use crate::id::Name;
use crate::runtime::RuntimeHandle;
use crate::supervisor::{INCIDENT_BUCKETS, InstanceState, Spread, Totals};
use crate::telemetry::{
    CardSample, Histogram, LookState, OwnSample, Pace, Root, Sampler, Scrape, Seen, WorkerSample, boot_time,
    open_files, open_files_limit, ticks_per_second, usage,
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
    let by_name: HashMap<&Name, &WorkerSettings> =
        settings.workers.iter().map(|worker| (&worker.name, &**worker)).collect();
    let mut disks = Disks::default();
    let mut workers = Vec::with_capacity(states.len());
    for state in &states {
        let mut sample = worker(runtime, state, sampler);
        if let Some(of_file) = by_name.get(state.instance.worker()) {
            sample.memory_limit_bytes = of_file.isolation.limits.memory.filter(|_| of_file.actor.is_none());
            sample.cards = cards(state, &sample, of_file);
            disks.note(&settings.runtime.state_dir, state, &sample, of_file);
        }
        workers.push(sample);
    }
    Scrape {
        version: info.version,
        runtime: settings.runtime.name.clone(),
        workers,
        supervisors: board.supervisors().iter().map(|state| state.name.to_string()).collect(),
        events: runtime.journal().counts(),
        events_dropped: runtime.journal().dropped(),
        stale: board.stale(),
        lag_seconds: info.lag().as_secs_f64(),
        config_ok: info.config_ok(),
        disks: disks.ratios(),
        own: own(info.pid),
        seed_names: settings.telemetry.seed_names,
    }
}

fn worker(runtime: &RuntimeHandle, state: &InstanceState, sampler: &Sampler) -> WorkerSample {
    let recovered = runtime.healer().recovered(&state.instance.to_string());
    let recovered = recovered.filter(|recovered| recovered.recovery.count > 0);
    let used = used(state, sampler);
    let totals = state.totals();
    let none = Cause::ALL.into_iter().map(|cause| (cause.into(), 0));
    let restarts: BTreeMap<CauseName, u64> = none.chain(totals.by_cause.clone()).collect();
    WorkerSample {
        worker_id: state.instance.to_string(),
        supervisor: state.supervisor.to_string(),
        status: state.status(),
        healthy: state.is_well(),
        up: state.ready,
        score: state.score(),
        restarts: restarts.into_iter().collect(),
        recoveries: recoveries(&totals),
        breaker: state.breaker.word(),
        detection: recovered.map(|recovered| histogram(&recovered.detection)),
        recovery: recovered.map(|recovered| histogram(&recovered.recovery)),
        started_at: state.started_at.filter(|_| state.pid.is_some()).map(unix),
        cpu_seconds: used.map(|seen| seen.usage.cpu_seconds),
        cpu_percent: used.and_then(|seen| seen.percent),
        memory_bytes: used.map(|seen| seen.usage.resident_bytes),
        working_set_bytes: state.pid.and_then(|pid| sampler.working_set(pid)),
        memory_limit_bytes: None,
        cards: Vec::new(),
        open_files: state.pid.and_then(open_files),
        heartbeat_at: state.last_heartbeat_at.map(unix),
        probes: runtime.info().looks().of(&state.instance),
        lines_dropped: totals.lines_dropped,
    }
}

/// What the probes of its cards saw of the incarnation that runs.
fn cards(state: &InstanceState, sample: &WorkerSample, of_file: &WorkerSettings) -> Vec<CardSample> {
    let mut cards = BTreeMap::new();
    for (_, look) in looks_at(sample, of_file, |check| matches!(check, CheckSettings::Gpu { .. })) {
        if state.pid.is_none() || look.incarnation != state.incarnation {
            continue;
        }
        let figure = |name: &str| look.metrics.iter().find(|(one, _)| one == name).map(|(_, value)| *value);
        for (name, used) in &look.metrics {
            let number = name.strip_prefix("gpu").and_then(|rest| rest.strip_suffix("_memory_used_ratio"));
            if let Some(gpu) = number {
                let card = CardSample {
                    gpu: gpu.to_owned(),
                    memory_used_ratio: *used,
                    utilization_ratio: figure(&format!("gpu{gpu}_utilization_ratio")),
                };
                cards.insert(gpu.to_owned(), card);
            }
        }
    }
    cards.into_values().collect()
}

/// The newest look at each disk.
#[derive(Default)]
struct Disks(BTreeMap<String, (Timestamp, f64)>);

impl Disks {
    fn note(
        &mut self,
        state_dir: &Path,
        state: &InstanceState,
        sample: &WorkerSample,
        of_file: &WorkerSettings,
    ) {
        for (check, look) in looks_at(sample, of_file, |check| matches!(check, CheckSettings::Disk { .. })) {
            let CheckSettings::Disk { path, .. } = check else { continue };
            let Some((_, ratio)) = look.metrics.iter().find(|(name, _)| name == "used_ratio") else {
                continue;
            };
            let path = expand(path, |name| value(name, state_dir, state)).unwrap_or_else(|_| path.clone());
            let known = self.0.entry(path).or_insert((look.at, *ratio));
            if known.0 < look.at {
                *known = (look.at, *ratio);
            }
        }
    }

    fn ratios(self) -> BTreeMap<String, f64> {
        self.0.into_iter().map(|(path, (_, ratio))| (path, ratio)).collect()
    }
}

/// A placeholder in the path of a disk.
fn value(name: &str, state_dir: &Path, state: &InstanceState) -> Option<String> {
    let slug = state.instance.slug();
    match name {
        "worker" => Some(state.instance.worker().to_string()),
        "instance" => Some(state.instance.to_string()),
        "index" => Some(state.instance.index().unwrap_or(0).to_string()),
        "state_dir" => Some(state_dir.join("w").join(&slug).join("state").display().to_string()),
        "slug" => Some(slug),
        _ => None,
    }
}

/// The last looks of an instance's probes of one kind.
fn looks_at<'a>(
    sample: &'a WorkerSample,
    of_file: &'a WorkerSettings,
    is: impl Fn(&CheckSettings) -> bool + 'a,
) -> impl Iterator<Item = (&'a CheckSettings, &'a LookState)> {
    let probes = of_file.probes.iter().filter(move |probe| is(&probe.check));
    probes.filter_map(|probe| {
        let look = sample.probes.iter().find(|(name, _)| **name == *probe.name)?;
        Some((&probe.check, &look.1))
    })
}

fn histogram(spread: &Spread) -> Histogram {
    Histogram {
        buckets: INCIDENT_BUCKETS.into_iter().zip(spread.buckets).collect(),
        count: spread.count,
        sum_seconds: spread.sum_seconds,
    }
}

/// Plain restarts after a failure and the steps of its ladder, which may be the same strategy.
fn recoveries(totals: &Totals) -> BTreeMap<(String, &'static str), u64> {
    let plain = [("ok", totals.ok), ("failed", totals.failed), ("interrupted", totals.interrupted)];
    let mut all: BTreeMap<_, _> =
        plain.into_iter().map(|(outcome, count)| (("soft_restart".to_owned(), outcome), count)).collect();
    for ((strategy, outcome), count) in &totals.recoveries {
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
