//! How long it takes at worst until a worker that runs and does not work is healed, and which keys make it so.
//!
//! From the first moment in which it could have been seen, to the end of the time for which the first restart must hold.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::health::ProbeKind;
use crate::recovery::Reach;

use super::probes::ProbeSettings;
use super::settings::WorkerSettings;

/// Names that are written out of workers for which the same is true.
const NAMED: usize = 4;

/// A line for all workers of which the same is true.
pub(super) fn notes(workers: &[Arc<WorkerSettings>]) -> Vec<String> {
    let mut alike: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for worker in workers {
        if let Some(reach) = reach(worker) {
            alike.entry(reach.line()).or_default().push(worker.name.as_str());
        }
    }
    let told = |(line, names): (String, Vec<&str>)| {
        let more = names.len().saturating_sub(NAMED);
        let listed: Vec<String> = names.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
        let others = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{others} at worst: {line}", listed.join(", "))
    };
    alike.into_iter().map(told).collect()
}

/// `None`: nothing looks at it but the check that its process runs.
fn reach(worker: &WorkerSettings) -> Option<Reach> {
    let of_probes = worker.probes.iter().filter(|probe| probe.kind == ProbeKind::Liveness).map(|probe| {
        let key = |key: &str| format!("probe.{}.{key}", probe.name);
        (detection(probe), ["period", "timeout", "failure_threshold"].map(key).to_vec())
    });
    let of_heartbeat =
        worker.heartbeat.as_ref().map(|heartbeat| (heartbeat.lost, vec!["heartbeat.lost".to_owned()]));
    let (detected, keys) = of_probes.chain(of_heartbeat).max_by_key(|(time, _)| *time)?;
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    Some(
        Reach::default()
            .then("detected within", detected, &keys)
            .then("stopped within", worker.stop.timeout, &["stop.timeout"])
            .then("ready within", worker.start_timeout, &["start_timeout"])
            .then("verified after", worker.verify, &["ladder.default.verify"]),
    )
}

/// It falls ill just after a look; each look takes all of its time, and after a failure they come closer.
fn detection(probe: &ProbeSettings) -> Duration {
    let looks = probe.failure_threshold.max(1);
    probe
        .period
        .saturating_add(probe.timeout.saturating_mul(looks))
        .saturating_add(probe.retry_period.saturating_mul(looks - 1))
}

#[cfg(test)]
mod tests {
    use crate::config::{Sources, load};

    #[test]
    fn the_slowest_way_to_see_it_counts_and_names_its_keys() {
        let loaded = load(&Sources::text(
            "[defaults.worker]\nstop = { timeout = \"3s\" }\nstart_timeout = \"20s\"\n[ladder.default]\nverify = \"5s\"\n\
             [worker.plain]\ncommand = [\"x\"]\n\
             [worker.beats]\ncommand = [\"x\"]\nheartbeat.lost = \"15s\"\n\
             [worker.web]\ncommand = [\"x\"]\nheartbeat.lost = \"15s\"\n\
             probe.alive = { tcp = \"127.0.0.1:1\", period = \"30s\", timeout = \"5s\", retry_period = \"1s\", failure_threshold = 3 }\n",
        ))
        .unwrap();
        let notes: Vec<&String> = loaded.notes.iter().filter(|note| note.contains("at worst")).collect();
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert_eq!(
            notes[0],
            "`beats` at worst: detected within 15s (heartbeat.lost), stopped within 3s (stop.timeout), \
             ready within 20s (start_timeout), verified after 5s (ladder.default.verify) = 43s"
        );
        assert!(
            notes[1]
                .starts_with("`web` at worst: detected within 47s (probe.alive.period + probe.alive.timeout")
        );
    }
}
