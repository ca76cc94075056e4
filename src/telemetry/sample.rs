//! What a page is made of, instance by instance.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::event::CauseName;

use super::looks::LookState;

/// How often something took how long.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// Upper ends in seconds, and how often it took no longer and longer than the end before.
    pub buckets: Vec<(f64, u64)>,
    /// How often in all.
    pub count: u64,
    /// All together, in seconds.
    pub sum_seconds: f64,
}

/// One instance, as the page sees it.
#[derive(Debug, Clone, Default)]
pub struct WorkerSample {
    /// The instance.
    pub worker_id: String,
    /// Its supervisor.
    pub supervisor: String,
    /// One of [`STATUS_WORDS`](super::STATUS_WORDS).
    pub status: &'static str,
    /// Health is `healthy`, and no incident is open in which that is still to be proved.
    pub healthy: bool,
    /// Runs and is ready.
    pub up: bool,
    /// Health score.
    pub score: Option<f64>,
    /// Starts after the first, by cause.
    pub restarts: Vec<(CauseName, u64)>,
    /// Attempts to recover it: strategy, outcome, count.
    pub recoveries: BTreeMap<(String, &'static str), u64>,
    /// The breaker of its ladder: one of the contract's words.
    pub breaker: &'static str,
    /// How long it took to see its incidents, those that ended well.
    pub detection: Option<Histogram>,
    /// How long it took to heal it then.
    pub recovery: Option<Histogram>,
    /// Unix time of the start.
    pub started_at: Option<f64>,
    /// Processor time.
    pub cpu_seconds: Option<f64>,
    /// Load; 100 is one core.
    pub cpu_percent: Option<f64>,
    /// Resident memory.
    pub memory_bytes: Option<u64>,
    /// Memory without page cache that can go.
    pub working_set_bytes: Option<u64>,
    /// The most that it may take.
    pub memory_limit_bytes: Option<u64>,
    /// The cards that a probe of it has looked at.
    pub cards: Vec<CardSample>,
    /// Open files.
    pub open_files: Option<u64>,
    /// Unix time of the last heartbeat.
    pub heartbeat_at: Option<f64>,
    /// Its probes by name.
    pub probes: Vec<(Arc<str>, LookState)>,
    /// Output lines that could not be kept.
    pub lines_dropped: u64,
}

/// The runtime's own process.
#[derive(Debug, Clone, Copy, Default)]
pub struct OwnSample {
    /// Processor time.
    pub cpu_seconds: f64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Address space.
    pub virtual_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open files.
    pub open_files: Option<u64>,
    /// Limit on open files.
    pub max_files: Option<u64>,
    /// Unix time of its start.
    pub started_at: Option<f64>,
}

/// A card as a probe saw it last.
#[derive(Debug, Clone, PartialEq)]
pub struct CardSample {
    /// Its number among the machine's.
    pub gpu: String,
    /// How full its memory is, 0 to 1.
    pub memory_used_ratio: f64,
    /// How busy it is, 0 to 1, where the driver knows.
    pub utilization_ratio: Option<f64>,
}

impl WorkerSample {
    pub(super) fn id(&self) -> (&'static str, &str) {
        ("worker_id", &self.worker_id)
    }

    pub(super) fn by(&self) -> (&'static str, &str) {
        ("supervisor", &self.supervisor)
    }
}
