//! `threshold`: how soon a mark can be seen, and marks that cannot do what they are there for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::health::ERROR_WINDOW;
use crate::units::format_duration;

use super::diagnostic::named;
use super::probes::MarkSettings;
use super::settings::WorkerSettings;

/// What processes use is read this often.
pub(crate) const READ: Duration = Duration::from_secs(10);

/// The marks of a process that count, by their names: of its processor, and of its memory where it has something to be
/// measured by.
fn of_process(worker: &WorkerSettings) -> impl Iterator<Item = (&'static str, &MarkSettings)> {
    let marks = &worker.threshold;
    let measured = worker.isolation.limits.memory.is_some() || marks.memory.warn_bytes.is_some();
    let memory = Some(("memory", &marks.memory)).filter(|_| measured);
    let process = worker.actor.is_none();
    [Some(("cpu", &marks.cpu)), memory].into_iter().flatten().filter(move |_| process)
}

/// How long it may be above a mark until that counts: just after a look, then at looks that reach over `for`. What it
/// computes is known between two looks only.
fn counts_within(name: &str, mark: &MarkSettings) -> Duration {
    let looks = mark.lasting.as_nanos().div_ceil(READ.as_nanos()) + 1 + u128::from(name == "cpu");
    READ.saturating_mul(u32::try_from(looks).unwrap_or(u32::MAX))
}

/// How long it takes at worst until a mark makes it unhealthy, and the key that says so.
pub(super) fn ways(worker: &WorkerSettings) -> Vec<(Duration, &'static str)> {
    let limited = worker.isolation.limits.memory.is_some();
    let of_process = of_process(worker).filter_map(|(name, mark)| {
        let key = if name == "cpu" { "cpu.for" } else { "memory.for" };
        mark.crit.filter(|_| name == "cpu" || limited).map(|_| (counts_within(name, mark), key))
    });
    let progress = worker.threshold.progress.map(|time| (time, "progress.crit"));
    let errors = worker.threshold.errors_per_minute.and_then(|rate| rate.crit);
    let errors = errors.map(|_| (ERROR_WINDOW, "errors_per_minute.crit"));
    of_process.chain(progress).chain(errors).collect()
}

/// Marks that are allowed and do less than they seem to.
pub(super) fn warnings(workers: &[Arc<WorkerSettings>]) -> Vec<String> {
    let mut alike: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for worker in workers {
        for text in of_process(worker).filter_map(|(name, mark)| hasty(name, mark)).chain(unordered(worker)) {
            alike.entry(text).or_default().push(worker.name.as_str());
        }
    }
    alike.into_iter().map(|(text, names)| format!("{}: {text}", named(&names))).collect()
}

fn hasty(name: &str, mark: &MarkSettings) -> Option<String> {
    (mark.lasting < READ).then(|| {
        format!(
            "threshold.{name}.for is {}, but what processes use is read every {}, so it can take {} until the mark counts",
            format_duration(mark.lasting),
            format_duration(READ),
            format_duration(counts_within(name, mark))
        )
    })
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
    fn a_mark_that_is_to_last_less_than_a_look_is_warned_of_once_for_all() {
        let warnings = loaded("threshold.cpu.for = \"4s\"\n[worker.a]\n[worker.b]\n").settings.warnings;
        assert_eq!(
            warnings,
            [
                "`a`, `b`: threshold.cpu.for is 4s, but what processes use is read every 10s, so it can take 30s until the \
              mark counts"
            ]
        );
        let memory = |limit: &str| format!("threshold.memory.for = \"9s\"\n[worker.a]\n{limit}");
        assert!(loaded(&memory("")).settings.warnings.is_empty(), "it has no mark of memory");
        assert_eq!(loaded(&memory("limits.memory = \"1GiB\"\n")).settings.warnings.len(), 1);
        assert_eq!(loaded(&memory("threshold.memory.warn_bytes = \"1GiB\"\n")).settings.warnings.len(), 1);
        assert!(loaded("threshold.cpu.for = \"10s\"\n[worker.a]\n").settings.warnings.is_empty());
        assert!(
            loaded("threshold.cpu.for = \"1s\"\n[worker.a]\nenabled = true\n").settings.warnings.len() == 1
        );
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
    fn every_mark_that_makes_it_unhealthy_counts_for_the_worst_time() {
        for (threshold, told) in [
            ("cpu = { crit = 0.99, for = \"4s\" }", "detected within 30s (threshold.cpu.for)"),
            ("progress.crit = \"10m\"", "detected within 10m (threshold.progress.crit)"),
            ("errors_per_minute.crit = 6", "detected within 5m (threshold.errors_per_minute.crit)"),
        ] {
            let notes = loaded(&format!("[worker.a]\nthreshold.{threshold}\n")).notes;
            assert!(notes.iter().any(|note| note.contains(told)), "{threshold}: {notes:?}");
        }
        assert!(loaded("[worker.a]\n").notes.is_empty());
    }
}
