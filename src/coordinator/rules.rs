//! What the health room is told of an instance, out of its settings.

use std::sync::Arc;

use crate::cause::Cause;
use crate::config::probes::stands_for_readiness;
use crate::config::{CheckSettings, HeartbeatSettings, MarkSettings, ReadyWhen, WorkerSettings};
use crate::health::{HeartRules, Mark, ProbeKind, ProbeRules, RecordRules, Thresholds, WorkRules};

/// The built-in check's place among the probes.
pub(super) const BUILT_IN: usize = 0;

/// Failures in a row before the built-in check counts: whoever halts a process to look at it has a few seconds.
const BUILT_IN_FAILURES: u32 = 3;

/// Which of the probes of the settings has which place: the built-in check comes first, heartbeats have none.
pub(super) fn places(
    worker: &WorkerSettings,
) -> impl Iterator<Item = (usize, &crate::config::ProbeSettings)> {
    let looks = worker.probes.iter().filter(|probe| probe.check != CheckSettings::Heartbeat);
    (BUILT_IN + 1..).zip(looks)
}

/// The rules of an instance of this worker: those that were made last, if they are the same.
pub(super) fn shared(last: &mut Option<Arc<RecordRules>>, worker: &WorkerSettings) -> Arc<RecordRules> {
    let new = rules(worker);
    if last.as_ref().is_none_or(|last| **last != new) {
        *last = None;
    }
    Arc::clone(last.get_or_insert_with(|| Arc::new(new)))
}

/// The rules of an instance of this worker.
fn rules(worker: &WorkerSettings) -> RecordRules {
    let name = if worker.actor.is_some() { "actor" } else { "process" };
    let mut probes = vec![ProbeRules {
        name: Arc::from(name),
        kind: ProbeKind::Liveness,
        thresholds: Thresholds { failure: BUILT_IN_FAILURES, success: 1 },
        weight: 1.0,
        cause: Cause::Hang,
        builtin: true,
    }];
    probes.extend(places(worker).map(|(_, probe)| ProbeRules {
        name: Arc::from(probe.name.as_str()),
        kind: probe.kind,
        thresholds: Thresholds { failure: probe.failure_threshold, success: probe.success_threshold },
        weight: probe.weight,
        cause: cause(&probe.check),
        builtin: false,
    }));
    let ready = places(worker).find(|(_, probe)| stands_for_readiness(worker, probe)).map(|(place, _)| place);
    let beats = worker.heartbeat.is_some()
        || worker.probes.iter().any(|probe| probe.check == CheckSettings::Heartbeat);
    let heart = worker.heartbeat.unwrap_or_default();
    RecordRules {
        probes,
        heart: heart_rules(heart),
        beats,
        memory: memory(worker),
        memory_of: memory_base(worker).filter(|_| worker.isolation.limits.memory.is_none()),
        cpu: Some(mark(&worker.threshold.cpu)).filter(|_| worker.actor.is_none()),
        work: WorkRules {
            progress: worker.threshold.progress,
            errors_per_minute: worker.threshold.errors_per_minute.map(|rate| (rate.warn, rate.crit)),
            ..WorkRules::default()
        },
        ready_by: ready.filter(|_| worker.ready == ReadyWhen::Probe),
        patience: worker.stop.unresponsive_timeout,
    }
}

fn heart_rules(heart: HeartbeatSettings) -> HeartRules {
    HeartRules { late: heart.late, lost: heart.lost, dead: heart.dead }
}

fn mark(mark: &MarkSettings) -> Mark {
    Mark { warn: Some(mark.warn), crit: mark.crit, lasting: mark.lasting }
}

/// What the working set is a ratio of: its limit, else the bytes from which on it is warned of.
pub(super) fn memory_base(worker: &WorkerSettings) -> Option<u64> {
    worker.isolation.limits.memory.or(worker.threshold.memory.warn_bytes).filter(|_| worker.actor.is_none())
}

fn memory(worker: &WorkerSettings) -> Option<Mark> {
    let base = memory_base(worker)? as f64;
    let settings = &worker.threshold.memory;
    let bytes = settings.warn_bytes.map(|bytes| bytes as f64 / base);
    let limited = worker.isolation.limits.memory.is_some();
    let ratio = Some(settings.warn).filter(|_| limited);
    let warn = match (ratio, bytes) {
        (Some(ratio), Some(bytes)) => Some(ratio.min(bytes)),
        (ratio, bytes) => ratio.or(bytes),
    };
    Some(Mark { warn, crit: settings.crit.filter(|_| limited), lasting: settings.lasting })
}

fn cause(check: &CheckSettings) -> Cause {
    match check {
        CheckSettings::Process | CheckSettings::Heartbeat => Cause::Hang,
        CheckSettings::Disk { .. } => Cause::Disk,
        CheckSettings::Gpu { .. } => Cause::Memory,
        CheckSettings::Http(_)
        | CheckSettings::Tcp { .. }
        | CheckSettings::Grpc { .. }
        | CheckSettings::Exec { .. }
        | CheckSettings::Resources
        | CheckSettings::Custom { .. }
        | CheckSettings::Actor => Cause::ProbeFailed,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::config::{Sources, load};
    use crate::coordinator::sweep::built_in;
    use crate::health::{Record, Verdict};
    use crate::probe::Found;

    use super::*;

    #[test]
    fn workers_that_are_looked_at_alike_share_their_rules() {
        let text = "[defaults.worker]\ncommand = [\"x\"]\n[worker.a]\n[worker.b]\n[worker.c]\nheartbeat.interval = \"1s\"\n";
        let settings =
            load(&Sources::text(text.to_owned())).unwrap_or_else(|problems| panic!("{problems}")).settings;
        let mut last = None;
        let [a, b, c] = [0, 1, 2].map(|at| shared(&mut last, &settings.workers[at]));
        assert!(Arc::ptr_eq(&a, &b));
        assert!(!Arc::ptr_eq(&b, &c) && *c == rules(&settings.workers[2]));
    }

    #[test]
    fn of_an_actor_without_checks_there_is_nothing_to_say_but_that_it_runs() {
        let text = "[worker.a]\nactor = \"A\"\n";
        let settings =
            load(&Sources::text(text.to_owned())).unwrap_or_else(|problems| panic!("{problems}")).settings;
        let mut record = Record::new(Arc::new(rules(&settings.workers[0])));
        let now = Duration::from_secs(1);
        record.ready(now);
        record.observe(now, built_in(now, Found::pass("it runs")));
        assert_eq!(record.judge(now), Verdict::runs("actor"));
    }
}
