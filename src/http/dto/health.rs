//! The health routes' shapes, and what every probe of an instance found last.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::supervisor::InstanceState;
use crate::telemetry::Looks;

use super::status::{Totals, WorkerView, to_millis};

/// `GET /health`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceHealth {
    /// `healthy`; `degraded`: some instances warn, must still hold after an incident, or no probe has said yet how they
    /// are; `unhealthy`: some are critical.
    pub status: String,
    /// Counts of instances.
    #[serde(flatten)]
    pub totals: Totals,
    /// Since the runtime began.
    pub uptime_seconds: f64,
    /// Of the build.
    pub version: String,
    /// The time of this answer.
    #[serde(serialize_with = "super::status::millis")]
    pub timestamp: Timestamp,
}

impl ServiceHealth {
    /// How all of it is. An instance that is meant to be down speaks neither for nor against it.
    #[must_use]
    pub fn new(workers: &[WorkerView], started_at: Timestamp, version: &str, now: Timestamp) -> Self {
        let totals = Totals::of(workers);
        let meant = |worker: &&WorkerView| worker.wanted == "running" && worker.status != "done";
        let all_well = workers.iter().filter(meant).all(WorkerView::is_healthy);
        let status = match (totals.critical_workers, all_well) {
            (0, true) => "healthy",
            (0, false) => "degraded",
            _ => "unhealthy",
        };
        Self {
            status: status.to_owned(),
            totals,
            uptime_seconds: now.duration_since(started_at).as_secs_f64().max(0.0),
            version: version.to_owned(),
            timestamp: to_millis(now),
        }
    }
}

/// `GET /health/workers`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthBody {
    /// All instances.
    pub total_workers: u64,
    /// Healthy, and not still to prove after an incident that they stay so.
    pub healthy_workers: u64,
    /// Degraded.
    pub warning_workers: u64,
    /// Unhealthy, dead, quarantined or stuck.
    pub critical_workers: u64,
    /// Every instance.
    pub workers: Vec<HealthView>,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthView {
    /// The instance.
    pub worker_id: String,
    /// One word for people.
    pub status: String,
    /// 0..1; null without data.
    pub health_score: Option<f64>,
    /// When a probe last looked; null if none has.
    #[serde(serialize_with = "super::status::millis_or_null", default)]
    pub last_check: Option<Timestamp>,
    /// What is wrong, in words.
    pub issues: Vec<String>,
    /// Figures by name: load, memory, and what probes brought along as `probe.name`.
    pub metrics: BTreeMap<String, f64>,
}

/// `GET /health/workers/{id}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthDetail {
    /// What the list says.
    #[serde(flatten)]
    pub health: HealthView,
    /// Why the score is not the weighted mean of what the probes stand for; null: it is.
    #[serde(default)]
    pub score_bound: Option<String>,
    /// What every probe found last.
    pub probes: Vec<ProbeView>,
}

/// One probe of one instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeView {
    /// Its name; `process`, `heartbeat`, `memory` and `cpu` are the built-in ones.
    pub probe: String,
    /// `liveness`, `readiness` or `startup`; null for one that does not count.
    pub kind: Option<String>,
    /// What it stands for in the score: `pass`, `warn`, `fail` or `error`; null before it has looked often enough.
    pub result: Option<String>,
    /// How much it counts in the score; null for one that does not count now.
    pub weight: Option<f64>,
    /// What its last look found; null for what is not looked at but listened to.
    pub last: Option<LookView>,
}

/// What one look found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LookView {
    /// `pass`, `warn`, `fail` or `error`.
    pub result: String,
    /// The same in words.
    pub message: String,
    /// Figures it brought along.
    pub metrics: BTreeMap<String, f64>,
    /// When it was over.
    #[serde(serialize_with = "super::status::millis")]
    pub at: Timestamp,
    /// How long it took.
    pub seconds: f64,
}

impl ProbeView {
    /// Every probe of an instance: those that count now first, then those that have looked at this incarnation.
    #[must_use]
    pub fn all(state: &InstanceState, looks: &Looks) -> Vec<Self> {
        let mut seen: BTreeMap<String, LookView> = looks
            .of(&state.instance)
            .into_iter()
            .filter(|(_, look)| look.incarnation == state.incarnation)
            .map(|(name, look)| {
                let view = LookView {
                    result: look.result.word().to_owned(),
                    message: look.message,
                    metrics: look.metrics.into_iter().collect(),
                    at: to_millis(look.at),
                    seconds: look.seconds,
                };
                (name.to_string(), view)
            })
            .collect();
        let terms = state.verdict().map(|verdict| verdict.terms.as_slice()).unwrap_or_default();
        let mut all: Vec<Self> = terms
            .iter()
            .map(|term| Self {
                probe: term.probe.clone(),
                kind: Some(term.kind.word().to_owned()),
                result: Some(term.result.word().to_owned()),
                weight: Some(term.weight),
                last: seen.remove(&term.probe),
            })
            .collect();
        let rest = |(probe, last)| Self { probe, kind: None, result: None, weight: None, last: Some(last) };
        all.extend(seen.into_iter().map(rest));
        all
    }
}

/// Why the score of an instance is not the weighted mean of its terms.
#[must_use]
pub fn score_bound(state: &InstanceState) -> Option<String> {
    let (verdict, score) = (state.verdict()?, state.score()?);
    crate::health::bound(&verdict.terms, score).map(str::to_owned)
}

impl HealthView {
    /// Joins what `status` shows with what the probes found.
    #[must_use]
    pub fn new(worker: &WorkerView, probes: &[ProbeView]) -> Self {
        let mut metrics = BTreeMap::new();
        metrics.extend(worker.cpu_percent.map(|percent| ("cpu_percent".to_owned(), percent)));
        metrics.extend(worker.memory_bytes.map(|bytes| ("memory_bytes".to_owned(), bytes as f64)));
        let looks = || probes.iter().filter_map(|probe| Some((&probe.probe, probe.last.as_ref()?)));
        for (probe, look) in looks() {
            metrics.extend(look.metrics.iter().map(|(name, value)| (format!("{probe}.{name}"), *value)));
        }
        Self {
            worker_id: worker.instance.clone(),
            status: worker.status.clone(),
            health_score: worker.score,
            last_check: looks().map(|(_, look)| look.at).max(),
            issues: worker.issues.clone(),
            metrics,
        }
    }
}
