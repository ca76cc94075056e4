//! `threshold`: how soon what a worker tells of its work counts, and marks that never come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::health::ERROR_WINDOW;

use super::diagnostic::named;
use super::probes::MarkSettings;
use super::settings::WorkerSettings;

/// The marks of a process that count, by their names: of its processor, and of its memory where it has something to be
/// measured by.
fn of_process(worker: &WorkerSettings) -> impl Iterator<Item = (&'static str, &MarkSettings)> {
    let marks = &worker.threshold;
    let measured = worker.isolation.limits.memory.is_some() || marks.memory.warn_bytes.is_some();
    let memory = Some(("memory", &marks.memory)).filter(|_| measured);
    let process = worker.actor.is_none();
    [Some(("cpu", &marks.cpu)), memory].into_iter().flatten().filter(move |_| process)
}

/// How long it takes at worst until what it tells of its work makes it unhealthy, and the key that says so.
pub(super) fn of_work(worker: &WorkerSettings) -> Vec<(Duration, &'static str)> {
    let progress = worker.threshold.progress.map(|time| (time, "threshold.progress.crit"));
    let errors = worker.threshold.errors_per_minute.and_then(|rate| rate.crit);
    let errors = errors.map(|_| (ERROR_WINDOW, "threshold.errors_per_minute.crit"));
    progress.into_iter().chain(errors).collect()
}

/// Marks that are allowed and never come.
pub(super) fn warnings(workers: &[Arc<WorkerSettings>]) -> Vec<String> {
    let mut alike: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for worker in workers {
        for text in unordered(worker) {
            alike.entry(text).or_default().push(worker.name.as_str());
        }
    }
    alike.into_iter().map(|(text, names)| format!("{}: {text}", named(&names))).collect()
}

/// A warning above what makes it unhealthy never comes.
fn unordered(worker: &WorkerSettings) -> Vec<String> {
    let of_process = of_process(worker).map(|(name, mark)| (name, mark.warn, mark.crit));
    let errors = worker.threshold.errors_per_minute;
    let errors = errors.map(|rate| ("errors_per_minute", rate.warn, rate.crit));
    let above = of_process.chain(errors).filter_map(|(name, warn, crit)| {
        let crit = crit.filter(|crit| warn > *crit)?;
        Some(format!(
            "threshold.{name}.warn ({warn}) is above crit ({crit}), so it never warns before it is unhealthy"
        ))
    });
    above.collect()
}

#[cfg(test)]
mod tests {
    use crate::config::{Loaded, Sources, load};

    fn loaded(toml: &str) -> Loaded {
        let text = format!("[defaults.worker]\ncommand = [\"x\"]\n{toml}");
        load(&Sources::text(text)).unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[test]
    fn a_warning_above_the_alarm_is_warned_of() {
        let text =
            "[worker.a]\nthreshold = { cpu = { crit = 0.5 }, errors_per_minute = { warn = 5, crit = 1 } }\n";
        let warnings = loaded(text).settings.warnings;
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("threshold.cpu.warn (0.9) is above crit (0.5)"), "{warnings:?}");
        assert!(
            warnings[1].contains("threshold.errors_per_minute.warn (5) is above crit (1)"),
            "{warnings:?}"
        );
    }

    #[test]
    fn what_it_tells_of_its_work_counts_for_the_worst_time() {
        for (threshold, told) in [
            ("progress.crit = \"10m\"", "detected within 10m (threshold.progress.crit)"),
            ("errors_per_minute.crit = 6", "detected within 5m (threshold.errors_per_minute.crit)"),
        ] {
            let notes = loaded(&format!("[worker.a]\nthreshold.{threshold}\n")).notes;
            assert!(notes.iter().any(|note| note.contains(told)), "{threshold}: {notes:?}");
        }
        assert!(loaded("[worker.a]\n").notes.is_empty());
    }
}
