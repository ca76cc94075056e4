//! What everybody is like, written down: taken every ten seconds, and brought to the disk once a minute.
//!
//! A power cut or a kill may cost the last minute of figures, which is no loss; six small writes a minute would keep a
//! disk awake. Whoever asks for the history has what is waiting written first. While nobody changes and nothing was read
//! anew, a sweep is what the one before it was.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::config::{Settings, WorkerSettings};
use crate::id::{InstanceId, Name};
use crate::store::{Sample, Store, Sweep};
use crate::supervisor::Board;
use crate::telemetry::{Pace, Root, Seen};

use super::handle::RuntimeInfo;

/// Figures that are no older than this are read by somebody else in time: the coordinator sweeps all by itself.
const SWEPT: Pace = Pace { every: Duration::from_secs(15), quiet: Duration::from_secs(90) };

/// So long a sweep stands for the next ones at most.
const STANDS: Duration = Duration::from_secs(60);

/// Sweeps that are written together: a minute of them.
const TOGETHER: usize = 6;

/// Sweeps that wait while the disk takes nothing; then the oldest are given up.
const MOST: usize = 60;

/// Processes that are gone and remembered, until it is tidied up.
const MANY: usize = 1000;

/// Names that are remembered: those of more instances are made anew each time.
const REMEMBERED: usize = 20_000;

/// The figures that wait.
#[derive(Default)]
pub(super) struct Figures {
    waiting: Vec<Sweep>,
    /// Processor time of each main process at the sweep before, and when it was read.
    before: HashMap<u32, (f64, Instant)>,
    names: HashMap<InstanceId, Arc<str>>,
    newest: Option<Newest>,
}

/// The last sweep for which everybody was looked at, and what there was to be seen.
struct Newest {
    samples: Arc<[Sample]>,
    taken: Instant,
    /// Of the board, and of what the sampler had read.
    versions: (u64, u64),
    settings: Arc<Settings>,
}

impl Figures {
    /// Takes down what everybody is like now. Whether enough wait to be written.
    pub(super) fn take(&mut self, board: &Board, info: &RuntimeInfo) -> bool {
        let (at, now) = (Timestamp::now(), Instant::now());
        // Before the look: what changes meanwhile is seen by the next one.
        let (versions, settings) = ((board.version(), info.sampler.reads()), info.settings());
        let stands = |newest: &&Newest| {
            newest.versions == versions
                && Arc::ptr_eq(&newest.settings, &settings)
                && now.saturating_duration_since(newest.taken) < STANDS
        };
        let samples = match self.newest.as_ref().filter(stands) {
            Some(newest) => Arc::clone(&newest.samples),
            None => {
                let samples = self.look(board, info, &settings);
                self.newest = Some(Newest { samples: Arc::clone(&samples), taken: now, versions, settings });
                samples
            }
        };
        if self.waiting.len() == MOST {
            self.waiting.remove(0);
        }
        self.waiting.push(Sweep { at, samples });
        self.waiting.len() >= TOGETHER
    }

    /// What everybody is like now.
    fn look(&mut self, board: &Board, info: &RuntimeInfo, settings: &Settings) -> Arc<[Sample]> {
        let limit = |worker: &WorkerSettings| Some((worker.name.clone(), worker.isolation.limits.memory?));
        let limits: HashMap<Name, u64> = settings.workers.iter().filter_map(|worker| limit(worker)).collect();
        let mut roots: Vec<Root> = Vec::new();
        let mut samples = Vec::with_capacity(board.len());
        let mut places = Vec::with_capacity(board.len());
        board.visit(|state| {
            places.push(state.pid.map(|_| roots.len()));
            roots.extend(state.pid.map(|pid| (pid, state.instance.clone())));
            let (instance, status, score) = (self.name(&state.instance), state.status(), state.score());
            samples.push(Sample { instance, status, score, cpu_percent: None, memory_bytes: None });
        });
        let seen = info.sampler.sweep(&roots, SWEPT);
        for (sample, place) in samples.iter_mut().zip(places) {
            let Some((place, seen)) = place.and_then(|place| Some((place, seen[place]?))) else { continue };
            let (pid, instance) = &roots[place];
            if let Some(limit) = limits.get(instance.worker()) {
                // Patterns are read from it, should it fail.
                info.healer.note_memory(instance, seen.usage.resident_bytes as f64 / *limit as f64);
            }
            let before = self.before.insert(*pid, (seen.usage.cpu_seconds, seen.at));
            sample.cpu_percent = percent(before, &seen);
            sample.memory_bytes = Some(seen.usage.resident_bytes);
        }
        if self.before.len() > 2 * roots.len() + MANY {
            let there: HashSet<u32> = roots.iter().map(|(pid, _)| *pid).collect();
            self.before.retain(|pid, _| there.contains(pid));
        }
        samples.into()
    }

    fn name(&mut self, instance: &InstanceId) -> Arc<str> {
        if let Some(name) = self.names.get(instance) {
            return Arc::clone(name);
        }
        if self.names.len() >= REMEMBERED {
            self.names.clear();
        }
        let name: Arc<str> = instance.to_string().into();
        self.names.insert(instance.clone(), Arc::clone(&name));
        name
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
fn percent(before: Option<(f64, Instant)>, seen: &Seen) -> Option<f64> {
    let Some((cpu_seconds, at)) = before.filter(|(_, at)| seen.at > *at) else { return seen.percent };
    let span = seen.at.saturating_duration_since(at).as_secs_f64();
    Some(((seen.usage.cpu_seconds - cpu_seconds).max(0.0) / span * 1000.0).round() / 10.0)
}
