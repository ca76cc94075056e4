//! How long it takes at worst until a worker that runs and does not work is healed, and which keys make it so.
//!
//! From the first moment in which it could have been seen, to the end of the time for which the first restart must hold,
//! with all that the ladder tries before it. Of a worker that is ill alone: while others are, `recovery.max_parallel` and
//! the brake may hold its step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::health::ProbeKind;
use crate::recovery::{Reach, Way};

use super::diagnostic::named;
use super::marks;
use super::probes::{CheckSettings, HeartbeatSettings, MarkSettings, ProbeSettings};
use super::settings::WorkerSettings;

/// A line for all workers of which the same is true.
pub(super) fn notes(workers: &[Arc<WorkerSettings>]) -> Vec<String> {
    let mut alike: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for worker in workers {
        if let Some(reach) = reach(worker) {
            alike.entry(reach.line()).or_default().push(worker.name.as_str());
        }
    }
    alike.into_iter().map(|(line, names)| format!("{} at worst: {line}", named(&names))).collect()
}

/// `None`: nothing looks at it but the check that its process runs.
fn reach(worker: &WorkerSettings) -> Option<Reach> {
    let of_probes = worker.probes.iter().filter(|probe| probe.kind == ProbeKind::Liveness);
    let of_probes = of_probes.filter(|probe| probe.check != CheckSettings::Heartbeat).map(probed);
    let of_heartbeat = silence(worker).map(|lost| Seen {
        within: lost.saturating_add(TICK),
        keys: vec!["heartbeat.lost".to_owned()],
        silent: true,
    });
    let of_work = marks::of_work(worker).into_iter().map(|(within, key)| Seen {
        within,
        keys: vec![key.to_owned()],
        silent: false,
    });
    let ways = of_probes.chain(of_heartbeat).chain(memory(worker)).chain(cpu(worker)).chain(of_work);
    ways.map(|seen| from(worker, &seen)).max_by_key(Reach::total)
}

/// How long its own checks may take to say how a worker is that has just become ready; zero: it has none.
pub(crate) fn heard_within(worker: &WorkerSettings) -> Duration {
    let speaks =
        |probe: &&ProbeSettings| probe.kind != ProbeKind::Startup && probe.check != CheckSettings::Heartbeat;
    let of_probes = worker.probes.iter().filter(speaks);
    let of_probes = of_probes.map(|probe| probe.initial_delay.saturating_add(probed(probe).within));
    of_probes.chain(silence(worker)).max().unwrap_or_default()
}

/// How long it may be silent; `None`: nobody expects a sign of life.
fn silence(worker: &WorkerSettings) -> Option<Duration> {
    let beats = worker.probes.iter().any(|probe| probe.check == CheckSettings::Heartbeat);
    match &worker.heartbeat {
        Some(heartbeat) => Some(heartbeat.lost),
        None => beats.then(|| HeartbeatSettings::default().lost),
    }
}

/// To a tenth of a second.
fn round_up(time: Duration) -> Duration {
    let tenths = u64::try_from(time.as_nanos().div_ceil(100_000_000)).unwrap_or(u64::MAX);
    Duration::from_millis(tenths.saturating_mul(100))
}

/// A way in which its trouble comes to be seen.
struct Seen {
    within: Duration,
    keys: Vec<String>,
    /// It gives no sign of life, and asking it to end is not worth much patience.
    silent: bool,
}

/// Signs of life are looked at this often.
const TICK: Duration = Duration::from_millis(250);

/// What processes use is read this often, where no mark wants more.
pub(crate) const READ: Duration = Duration::from_secs(10);

/// The same at most of one that has used nothing for long.
pub(crate) const QUIET: Duration = Duration::from_secs(60);

/// And at least.
const CLOSEST: Duration = Duration::from_secs(1);

/// While a mark must last, what it stands for is read at least so often.
const READS: u32 = 3;

/// How often what it uses is read, for marks that need not last long; `None`: as usual.
pub(crate) fn pace(worker: &WorkerSettings) -> Option<Duration> {
    let threshold = &worker.threshold;
    let memory = worker.isolation.limits.memory.is_some() || threshold.memory.warn_bytes.is_some();
    let marks = [(memory, threshold.memory.lasting), (true, threshold.cpu.lasting)];
    let of_process = marks.into_iter().filter(|(counts, _)| *counts && worker.actor.is_none());
    let pace = of_process.map(|(_, lasting)| round_up(lasting / READS).max(CLOSEST)).min()?;
    (pace < READ).then_some(pace)
}

/// It falls ill just after a look; each look takes all of its time, and after a failure they come closer.
fn probed(probe: &ProbeSettings) -> Seen {
    let looks = probe.failure_threshold.max(1);
    let between = probe.retry_period.min(probe.period);
    let within = probe
        .period
        .saturating_add(probe.timeout.saturating_mul(looks))
        .saturating_add(between.saturating_mul(looks - 1));
    let keys: &[&str] = if looks > 1 {
        &["period", "timeout", "failure_threshold", "retry_period"]
    } else {
        &["period", "timeout", "failure_threshold"]
    };
    Seen {
        within,
        keys: keys.iter().map(|key| format!("probe.{}.{key}", probe.name)).collect(),
        silent: false,
    }
}

/// Memory beyond its critical mark.
fn memory(worker: &WorkerSettings) -> Option<Seen> {
    let mark = &worker.threshold.memory;
    let counts = worker.actor.is_none() && worker.isolation.limits.memory.is_some() && mark.crit.is_some();
    counts.then(|| marked(worker, "memory", mark, 1))
}

/// Computing beyond its critical mark: it is told from two looks, and the first two may see half of it.
fn cpu(worker: &WorkerSettings) -> Option<Seen> {
    let mark = &worker.threshold.cpu;
    (worker.actor.is_none() && mark.crit.is_some()).then(|| marked(worker, "cpu", mark, 2))
}

/// It uses too much just after a look, which is late where it has used nothing before, and each look until the mark has
/// stood for long enough is a whole one. `looks`: how many it takes until one sees all of it.
fn marked(worker: &WorkerSettings, name: &str, mark: &MarkSettings, looks: u32) -> Seen {
    let (every, first) = pace(worker).map_or((READ, QUIET), |pace| (pace, pace));
    let whole = mark.lasting.as_nanos().div_ceil(every.as_nanos().max(1));
    let more = u32::try_from(whole).unwrap_or(u32::MAX).saturating_add(looks - 1);
    Seen {
        within: first.saturating_add(every.saturating_mul(more)),
        keys: vec![format!("threshold.{name}.for")],
        silent: false,
    }
}

/// What may pass until the ladder comes to a step that restarts: pauses, approvals, and milder steps that do not help.
/// A restart that nobody approves is passed over for the next one.
fn before(worker: &WorkerSettings) -> Duration {
    let (mut sum, mut approved) = (Duration::ZERO, None);
    for step in worker.steps.iter().flat_map(|ladder| &*ladder.steps) {
        let waits = step.delay.saturating_add(step.approval.unwrap_or_default());
        match step.run.way() {
            Way::Restart { .. } | Way::WhileDown => {
                let begins = sum.saturating_add(waits).max(approved.unwrap_or_default());
                let Some(approval) = step.approval else { return begins };
                approved = Some(begins);
                sum = sum.saturating_add(approval);
            }
            Way::WhileUp { .. } if step.unable.is_none() => {
                let once = waits.saturating_add(step.timeout).saturating_add(worker.verify);
                sum = sum.saturating_add(once.saturating_mul(step.attempts));
            }
            Way::WhileUp { .. } | Way::Park => {}
        }
    }
    approved.unwrap_or(sum)
}

/// The first step that restarts, after what is seen in this way.
fn from(worker: &WorkerSettings, seen: &Seen) -> Reach {
    let keys: Vec<&str> = seen.keys.iter().map(String::as_str).collect();
    let stop = &worker.stop;
    let asked = stop.drain.saturating_add(stop.timeout);
    let (stopped, mut by) = if seen.silent && stop.unresponsive_timeout < asked {
        (stop.unresponsive_timeout, vec!["stop.unresponsive_timeout"])
    } else {
        (asked, vec!["stop.timeout"])
    };
    if by[0] == "stop.timeout" && !stop.drain.is_zero() {
        by.insert(0, "stop.drain");
    }
    let ladder = worker.ladder.name().unwrap_or("default");
    let (steps, verify) = (format!("ladder.{ladder}.steps"), format!("ladder.{ladder}.verify"));
    Reach::default()
        .then("detected within", seen.within, &keys)
        .then_if("tried before within", before(worker), &[&steps])
        .then("stopped within", stopped, &by)
        .then("ready within", worker.start_timeout, &["start_timeout"])
        .then("verified after", worker.verify, &[&verify])
}

#[cfg(test)]
mod tests {
    use crate::config::{Sources, load};

    fn notes(toml: &str) -> Vec<String> {
        let head = "[defaults.worker]\ncommand = [\"x\"]\nstop = { timeout = \"3s\", unresponsive_timeout = \"2s\" }\n\
                    start_timeout = \"20s\"\n[ladder.default]\nverify = \"5s\"\n";
        let loaded = load(&Sources::text(format!("{head}{toml}"))).unwrap();
        loaded.notes.into_iter().filter(|note| note.contains("at worst")).collect()
    }

    #[test]
    fn the_slowest_way_to_see_it_counts_and_names_its_keys() {
        let notes = notes(
            "[worker.plain]\n[worker.beats]\nheartbeat.lost = \"15s\"\n\
             [worker.web]\nheartbeat.lost = \"15s\"\n\
             probe.alive = { tcp = \"127.0.0.1:1\", period = \"30s\", timeout = \"5s\", retry_period = \"1s\", failure_threshold = 3 }\n",
        );
        assert_eq!(
            notes,
            [
                "`beats` at worst: detected within 15250ms (heartbeat.lost), stopped within 2s \
                 (stop.unresponsive_timeout), ready within 20s (start_timeout), verified after 5s \
                 (ladder.default.verify) = 42250ms",
                "`web` at worst: detected within 47s (probe.alive.period + probe.alive.timeout + \
                 probe.alive.failure_threshold + probe.alive.retry_period), stopped within 3s (stop.timeout), \
                 ready within 20s (start_timeout), verified after 5s (ladder.default.verify) = 75s",
            ]
        );
    }

    #[test]
    fn a_restart_that_nobody_approves_is_passed_over_for_the_next_one_on_a_ladder_of_its_own() {
        let notes = notes(
            "[ladder.own]\nverify = \"1s\"\nsteps = [{ do = \"hard_restart\", approval = \"8s\" }, \
             { do = \"soft_restart\", delay = \"3s\" }, { do = \"quarantine\" }]\n\
             [worker.web]\nladder = \"own\"\nprobe.alive = { tcp = \"127.0.0.1:1\" }\n",
        );
        assert!(notes[0].contains("tried before within 11s (ladder.own.steps)"), "{notes:?}");
        assert!(notes[0].contains("verified after 1s (ladder.own.verify)"), "{notes:?}");
    }

    #[test]
    fn a_closer_rhythm_bounds_the_pause_after_a_failure() {
        let notes = notes(
            "[worker.web]\nprobe.alive = { tcp = \"127.0.0.1:1\", period = \"500ms\", timeout = \"1s\", failure_threshold = 3 }\n",
        );
        assert!(notes[0].contains("detected within 4500ms"), "{notes:?}");
    }

    #[test]
    fn memory_counts_where_a_limit_is_set_and_draining_takes_its_time() {
        let notes = notes(
            "[worker.web]\nlimits.memory = \"1GiB\"\nthreshold.memory.for = \"1m\"\nstop.drain = \"4s\"\n",
        );
        assert!(
            notes[0].contains(
                "detected within 2m (threshold.memory.for), stopped within 7s (stop.drain + stop.timeout)"
            ),
            "{notes:?}"
        );
    }

    #[test]
    fn a_mark_that_need_not_last_long_is_looked_at_more_often() {
        let of = |keys: &str| {
            let told = notes(&format!("[worker.web]\n{keys}\n"));
            told.first().map(|note| note.split(", ").next().unwrap().to_owned())
        };
        let within = |time: &str, name: &str| {
            Some(format!("`web` at worst: detected within {time} (threshold.{name}.for)"))
        };
        assert_eq!(of("threshold.cpu = { warn = 0.5, for = \"6s\" }"), None, "a warning heals nobody");
        assert_eq!(of("threshold.cpu = { crit = 0.8, for = \"6s\" }"), within("10s", "cpu"));
        assert_eq!(of("threshold.cpu = { crit = 0.8, for = \"4s\" }"), within("7s", "cpu"));
        assert_eq!(of("threshold.cpu = { crit = 0.8, for = \"1s\" }"), within("3s", "cpu"));
        let memory = "limits.memory = \"1GiB\"\nthreshold.memory.for = \"3s\"";
        assert_eq!(of(memory), within("4s", "memory"));
        assert_eq!(
            of("limits.memory = \"1GiB\""),
            within("90s", "memory"),
            "one that was quiet is looked at late"
        );
    }

    #[test]
    fn what_the_ladder_tries_before_a_restart_takes_its_time() {
        let notes = notes(
            "steps = [{ do = \"connection_reset\", attempts = 2 }, { do = \"flush\" }, { do = \"soft_restart\", delay = \"4s\" }]\n\
             [strategy.flush]\ncommand = [\"x\"]\ntimeout = \"7s\"\n[worker.web]\nheartbeat.lost = \"15s\"\n",
        );
        // There is no on.connection_reset, so that step is passed over.
        assert!(notes[0].contains("tried before within 16s (ladder.default.steps)"), "{notes:?}");
    }
}
