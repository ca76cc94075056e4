//! The timeline of each instance's recovery, as text: what went wrong, what was tried, what came of it.
//!
//! Everything that belongs to an incident, and what happens to the worker itself while one is open. It is made of the
//! same events that the journal keeps; a line that cannot be written is told once and is still in the journal.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use crate::config::{LogTo, Settings};
use crate::event::EventKind;
use crate::id::InstanceId;
use crate::telemetry::Recorded;
use crate::worker::output::RecoveryLogs;

/// Writes the timelines.
pub(super) struct Timeline {
    logs: RecoveryLogs,
    /// Who has an incident that is open.
    open: HashSet<InstanceId>,
    /// Who is parked, or on its way to its next try.
    parked: HashSet<InstanceId>,
    /// It was told that a line could not be written.
    told: bool,
}

impl Timeline {
    pub(super) fn new(state_dir: &Path) -> Self {
        let logs = RecoveryLogs::new(state_dir.join("logs"));
        Self { logs, open: HashSet::new(), parked: HashSet::new(), told: false }
    }

    /// Writes down what concerns recovery among these.
    pub(super) fn note(&mut self, events: &[Arc<Recorded>], settings: &Settings) {
        let mut texts: BTreeMap<&InstanceId, String> = BTreeMap::new();
        for recorded in events {
            let Some(instance) = &recorded.event.instance else { continue };
            if self.concerns(recorded, instance) {
                let text = texts.entry(instance).or_default();
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{}", line(recorded));
            }
        }
        for (instance, text) in texts {
            let worker = settings.workers.iter().find(|worker| worker.name == *instance.worker());
            // `run` leaves no files of one command behind.
            let Some(worker) = worker.filter(|worker| worker.log.to != LogTo::Through) else { continue };
            match self.logs.append(&instance.slug(), (worker.log.max_size, worker.log.keep), &text) {
                Ok(()) => self.told = false,
                Err(error) if !std::mem::replace(&mut self.told, true) => {
                    tracing::warn!(%instance, %error, "its recovery log cannot be written; `regrow events` has it");
                }
                Err(_) => {}
            }
        }
    }

    fn concerns(&mut self, recorded: &Recorded, instance: &InstanceId) -> bool {
        let kind = recorded.event.kind;
        if kind == EventKind::IncidentOpened {
            self.open.insert(instance.clone());
        }
        // Who is parked is tried again: that belongs to it, up to where it runs.
        if kind == EventKind::WorkerParked {
            self.parked.insert(instance.clone());
        }
        let parked = self.parked.contains(instance);
        let concerns = recorded.event.incident.is_some() || parked || self.open.contains(instance);
        if kind == EventKind::IncidentClosed {
            self.open.remove(instance);
        }
        if parked && matches!(kind, EventKind::WorkerReady | EventKind::WorkerRemoved) {
            self.parked.remove(instance);
        }
        concerns
    }
}

/// When, what, and in words.
fn line(recorded: &Recorded) -> String {
    let event = &recorded.event;
    let (at, kind) = (recorded.at, event.kind.word());
    let mut text = format!("{at:.3}  {kind:<18}  {}", event.message.replace(['\n', '\r'], " "));
    if let (EventKind::IncidentOpened, Some(incident)) = (event.kind, &event.incident) {
        // Writing to a String cannot fail.
        let _ = write!(text, " (incident {incident})");
    }
    text
}
