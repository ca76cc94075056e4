//! One look at all processes: whether they run, and what their trees use.
//!
//! Each main process's line in `/proc` is opened once and read again and again: that costs a fifth of opening it, and a
//! file that was opened for a process never shows another one that came to have its number.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::config::WorkerSettings;
use crate::probe::{Found, condition};
use crate::telemetry::{Measured, Root, measure};

use super::case::Case;
use super::rules::memory_base;

/// A process's line, open.
pub(super) struct Stat(File);

impl Stat {
    pub(super) fn open(pid: u32) -> Option<Self> {
        File::open(format!("/proc/{pid}/stat")).map(Self).ok()
    }

    /// Whether the process runs; `None`: it is gone, which its supervisor hears in another way.
    pub(super) fn look(&self) -> Option<Found> {
        let mut line = [0; 1024];
        match self.0.read_at(&mut line, 0) {
            Ok(count) => Some(condition(&String::from_utf8_lossy(&line[..count]))),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(Found::error(format!("its state cannot be read: {error}"))),
        }
    }
}

/// What the trees of these use, by main process.
pub(super) fn figures<'a>(cases: impl Iterator<Item = &'a Case>) -> HashMap<u32, Measured> {
    let roots: Vec<Root> = cases.filter_map(|case| Some((case.main()?, case.instance.slug()))).collect();
    if roots.is_empty() { HashMap::new() } else { measure(&roots) }
}

/// Cores that a worker may use.
fn cores(worker: &WorkerSettings) -> f64 {
    let all = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
    worker.isolation.limits.cpu.map_or(all, |limit| limit.min(all))
}

/// Notes what a tree uses. The first look at an incarnation has nothing to compare its processor time with.
pub(super) fn note(case: &mut Case, measured: Measured, own: Duration, now: Duration) {
    if let Some(base) = memory_base(&case.worker) {
        case.record.read_memory(own, measured.working_set as f64 / base as f64);
    }
    if let Some((before, at)) = case.cpu.replace((measured.cpu_seconds, now)) {
        let span = now.saturating_sub(at).as_secs_f64();
        if span > 0.0 {
            let busy = (measured.cpu_seconds - before).max(0.0) / span;
            case.record.read_cpu(own, busy / cores(&case.worker));
        }
    }
}
