//! What its whole process tree uses, as figures; and what it is about to run out of.
//!
//! Computing and memory are judged by `threshold`, which asks that they last; here they are told. Open files and processes
//! have a hard end, at which a worker fails all at once: from [`NEAR`] of it on, that is warned of.

use crate::id::InstanceId;
use crate::probe::{Found, Look, Patient, Probe};
use crate::telemetry::{Pace, Sampler, open_files, open_files_limit_of};

use super::apart::apart;

/// This share of a hard limit is near it.
const NEAR: f64 = 0.8;

/// One tree.
pub(in crate::probe) struct Resources {
    pub(in crate::probe) sampler: Sampler,
}

impl Probe for Resources {
    fn look<'a>(&'a self, patient: &'a Patient) -> Look<'a> {
        Box::pin(async {
            let Some(pid) = patient.pid() else { return Found::error("it has no process") };
            let (sampler, instance) = (self.sampler.clone(), patient.instance.clone());
            // A process that dies at the moment may hold up who reads of it; this thread must not wait for it.
            match apart(patient, move || Figures::read(&sampler, pid, instance)).await {
                Ok(Some(figures)) => figures.judge(patient.worker.isolation.limits.processes),
                // Its end is on its way to whoever supervises it.
                Ok(None) => Found::error(format!("pid {pid} cannot be looked at")),
                Err(found) => found,
            }
        })
    }
}

/// What was read. A figure that is not ours to see is absent.
#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    /// 100 is one core.
    cpu_percent: Option<f64>,
    working_set: Option<u64>,
    threads: u64,
    /// Of the main process.
    open_files: Option<u64>,
    most_files: Option<u64>,
}

impl Figures {
    fn read(sampler: &Sampler, pid: u32, instance: InstanceId) -> Option<Self> {
        let seen = sampler.sweep(&[(pid, instance)], Pace::FRESH).into_iter().next()??;
        Some(Self {
            cpu_percent: seen.percent,
            working_set: sampler.working_set(pid),
            threads: seen.usage.threads,
            open_files: open_files(pid),
            most_files: open_files_limit_of(pid),
        })
    }

    fn judge(self, most_tasks: Option<u64>) -> Found {
        let near = |used: Option<u64>, most: Option<u64>| {
            let (used, most) = (used?, most?);
            (used as f64 >= most as f64 * NEAR).then_some((used, most))
        };
        let found = match (near(self.open_files, self.most_files), near(Some(self.threads), most_tasks)) {
            (Some((used, most)), _) => Found::warn(format!(
                "{used} of {most} allowed files are open; at the limit it can open no more"
            )),
            (None, Some((used, most))) => Found::warn(format!(
                "{used} of {most} allowed processes and threads; at the limit it can start no more"
            )),
            (None, None) => Found::pass(self.words()),
        };
        let figures = [
            ("cpu_percent", self.cpu_percent),
            ("memory_working_set_bytes", self.working_set.map(|bytes| bytes as f64)),
            ("threads", Some(self.threads as f64)),
            ("open_files", self.open_files.map(|count| count as f64)),
        ];
        let figures = figures.into_iter().filter_map(|(name, value)| Some((name, value?)));
        figures.fold(found, |found, (name, value)| found.with(name, value))
    }

    fn words(self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.cpu_percent.map(|percent| format!("{percent:.1} % of a core")));
        parts.extend(self.working_set.map(|bytes| format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)));
        parts.push(match self.threads {
            1 => "1 thread".to_owned(),
            many => format!("{many} threads"),
        });
        parts.extend(self.open_files.map(|count| format!("{count} open files")));
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Grade;

    #[test]
    fn a_limit_is_warned_of_before_it_is_met() {
        let figures = Figures {
            cpu_percent: Some(12.34),
            working_set: Some(3 << 20),
            threads: 7,
            open_files: Some(79),
            most_files: Some(100),
        };
        let well = figures.judge(Some(9));
        assert_eq!(
            (well.grade, well.message.as_str()),
            (Grade::Pass, "12.3 % of a core, 3.0 MiB, 7 threads, 79 open files")
        );
        assert_eq!(well.metrics.len(), 4);
        let files = Figures { open_files: Some(80), ..figures }.judge(None);
        assert_eq!((files.grade, files.metrics.len()), (Grade::Warn, 4));
        assert!(files.message.starts_with("80 of 100 allowed files"), "{}", files.message);
        assert_eq!(Figures { threads: 8, ..figures }.judge(Some(10)).grade, Grade::Warn);
        assert_eq!(Figures::default().judge(Some(1000)).grade, Grade::Pass);
    }

    #[test]
    fn this_very_process_is_read() {
        let (sampler, own) = (Sampler::default(), "w".parse().unwrap());
        let figures = Figures::read(&sampler, std::process::id(), own).unwrap();
        assert!(
            figures.threads > 0 && figures.open_files > Some(0) && figures.working_set > Some(0),
            "{figures:?}"
        );
        assert!(Figures::read(&sampler, u32::MAX - 1, "gone".parse().unwrap()).is_none());
    }
}
