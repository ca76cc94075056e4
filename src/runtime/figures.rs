//! What everybody is like, written down: taken every ten seconds, and brought to the disk once a minute.
//!
//! A power cut or a kill may cost the last minute of figures, which is no loss; six small writes a minute would keep a
//! disk awake. Whoever asks for the history has what is waiting written first.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::config::WorkerSettings;
use crate::id::{InstanceId, Name};
use crate::store::{Sample, Store, Sweep};
use crate::supervisor::Board;
use crate::telemetry::{Pace, Root, Seen};

use super::handle::RuntimeInfo;

/// Figures that are no older than this are read by somebody else in time: the coordinator sweeps all by itself.
const SWEPT: Pace = Pace { every: Duration::from_secs(15), quiet: Duration::from_secs(30) };

/// Sweeps that are written together: a minute of them.
const TOGETHER: usize = 6;

/// Sweeps that wait while the disk takes nothing; then the oldest are given up.
const MOST: usize = 60;

/// The figures that wait.
#[derive(Default)]
pub(super) struct Figures {
    waiting: Vec<Sweep>,
    /// Processor time of each main process at the sweep before, and when it was read.
    before: HashMap<u32, (f64, Instant)>,
    names: HashMap<InstanceId, Arc<str>>,
}

impl Figures {
    /// Takes down what everybody is like now. Whether enough wait to be written.
    pub(super) fn take(&mut self, board: &Board, info: &RuntimeInfo) -> bool {
        let (at, settings) = (Timestamp::now(), info.settings());
        let limit = |worker: &WorkerSettings| Some((worker.name.clone(), worker.isolation.limits.memory?));
        let limits: HashMap<Name, u64> = settings.workers.iter().filter_map(|worker| limit(worker)).collect();
        let mut roots: Vec<Root> = Vec::new();
        board.visit(|state| roots.extend(state.pid.map(|pid| (pid, state.instance.clone()))));
        let seen = info.sampler.sweep(&roots, SWEPT);
        let seen: HashMap<u32, Seen> =
            roots.iter().zip(seen).filter_map(|((pid, _), seen)| Some((*pid, seen?))).collect();
        let before = std::mem::take(&mut self.before);
        let mut names = HashMap::with_capacity(self.names.len());
        let mut samples = Vec::with_capacity(board.len());
        board.visit(|state| {
            let known = self.names.get(&state.instance).cloned();
            let name = known.unwrap_or_else(|| state.instance.to_string().into());
            names.insert(state.instance.clone(), Arc::clone(&name));
            let seen = state.pid.and_then(|pid| Some((pid, seen.get(&pid)?)));
            if let (Some((_, seen)), Some(limit)) = (seen, limits.get(state.instance.worker())) {
                // Patterns are read from it, should it fail.
                info.healer.note_memory(&state.instance, seen.usage.resident_bytes as f64 / *limit as f64);
            }
            samples.push(Sample {
                instance: name,
                status: state.status(),
                score: state.score(),
                cpu_percent: seen.and_then(|(pid, seen)| percent(before.get(&pid), seen)),
                memory_bytes: seen.map(|(_, seen)| seen.usage.resident_bytes),
            });
        });
        self.before = seen.into_iter().map(|(pid, seen)| (pid, (seen.usage.cpu_seconds, seen.at))).collect();
        self.names = names;
        if self.waiting.len() == MOST {
            self.waiting.remove(0);
        }
        self.waiting.push(Sweep { at, samples });
        self.waiting.len() >= TOGETHER
    }

    /// Brings them to the disk. What fails is told by the store's notes, and tried again with the next ones.
    pub(super) async fn write(&mut self, store: &Store) {
        if self.waiting.is_empty() {
            return;
        }
        match store.put_sweeps(self.waiting.clone()).await {
            Ok(()) => self.waiting.clear(),
            Err(error) => tracing::debug!(%error, "samples of health are not kept yet"),
        }
    }
}

/// Load since the sweep before, whoever has read the figures meanwhile. Who was not read again is quiet.
fn percent(before: Option<&(f64, Instant)>, seen: &Seen) -> Option<f64> {
    let Some((cpu_seconds, at)) = before.filter(|(_, at)| seen.at > *at) else { return seen.percent };
    let span = seen.at.saturating_duration_since(*at).as_secs_f64();
    Some(((seen.usage.cpu_seconds - cpu_seconds).max(0.0) / span * 1000.0).round() / 10.0)
}
