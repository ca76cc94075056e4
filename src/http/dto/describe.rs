//! `regrow.describe/1`: everything that is known of an instance.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::supervisor::{InstanceState, Operator, Told, Trouble};

use super::health::ProbeView;
use super::status::{WorkerView, seconds_between, to_millis};

/// `GET /api/v1/workers/{id}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DescribeBody {
    /// `regrow.describe/1`
    pub schema: String,
    /// Every instance of the worker, or the one.
    pub items: Vec<Detail>,
    /// Always null.
    pub next_cursor: Option<String>,
}

/// One instance with everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    /// What `status` shows.
    #[serde(flatten)]
    pub worker: WorkerView,
    /// Since when it is in this phase.
    #[serde(serialize_with = "super::status::millis")]
    pub since_at: Timestamp,
    /// The same as a length.
    pub since_seconds: f64,
    /// Who wanted it so, where somebody did.
    pub wanted_by: Option<OperatorView>,
    /// Restarts that intensity still allows.
    pub budget_left: u32,
    /// Restarts by cause.
    pub restarts_by_cause: BTreeMap<String, u64>,
    /// Which start ended as `last_exit` says.
    pub last_exit_incarnation: Option<u64>,
    /// The stack of the panic that ended it, one frame after the other; of an actor, and not of every one.
    pub backtrace: Option<String>,
    /// Who holds its start back.
    pub waits_for: Vec<String>,
    /// What it said about itself.
    pub status_text: Option<String>,
    /// What it told over its own socket; null if nothing.
    #[serde(default)]
    pub told: Option<ToldView>,
    /// Why the score is not the weighted mean of what its probes stand for; null: it is.
    #[serde(default)]
    pub score_bound: Option<String>,
    /// What its probes found, with how much each counts in the score.
    #[serde(default)]
    pub probes: Vec<ProbeView>,
    /// What it could not be given.
    pub notes: Vec<String>,
    /// argv, as configured; empty if unknown.
    pub command: Vec<String>,
    /// Its worker may have so many instances, from the first to the second; null: as many as the file says.
    #[serde(default)]
    pub pool: Option<(u32, u32)>,
    /// Open files of the main process.
    pub open_files: Option<u64>,
    /// Its output.
    pub output: OutputView,
    /// Where its output is kept.
    pub log_path: String,
    /// Where it is if it is not kept; null: it is.
    #[serde(default)]
    pub log_note: Option<String>,
    /// Its own directory.
    pub state_path: String,
    /// Which identity it is: 1, and one more each time it was recreated; null if that cannot be read.
    #[serde(default)]
    pub identity: Option<u64>,
}

impl Detail {
    /// Joins what `status` shows with the rest of the state.
    #[must_use]
    pub fn new(worker: WorkerView, state: &InstanceState, now: Timestamp) -> Self {
        let by_cause = state.totals().by_cause;
        Self {
            worker,
            since_at: to_millis(state.since),
            since_seconds: seconds_between(state.since, now),
            wanted_by: state.wanted_by.as_ref().map(OperatorView::from),
            budget_left: state.budget_left,
            restarts_by_cause: by_cause
                .iter()
                .map(|(cause, count)| (cause.word().to_owned(), *count))
                .collect(),
            last_exit_incarnation: state.last_exit.as_ref().map(|last| last.incarnation.0),
            backtrace: state.last_exit.as_ref().and_then(|last| last.backtrace.as_deref()).map(str::to_owned),
            waits_for: state.waits_for.clone(),
            status_text: state.status_text.clone(),
            told: state.told.as_deref().map(ToldView::from),
            score_bound: super::score_bound(state),
            probes: Vec::new(),
            notes: state.notes.clone(),
            command: Vec::new(),
            pool: None,
            open_files: None,
            output: OutputView::from(state),
            log_path: String::new(),
            log_note: None,
            state_path: String::new(),
            identity: None,
        }
    }
}

/// Who asked, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperatorView {
    /// Who.
    pub by: String,
    /// When.
    #[serde(serialize_with = "super::status::millis")]
    pub at: Timestamp,
}

impl From<&Operator> for OperatorView {
    fn from(operator: &Operator) -> Self {
        Self { by: operator.by.clone(), at: to_millis(operator.at) }
    }
}

/// What a worker told over its own socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToldView {
    /// How far it is, in a measure of its own.
    pub progress: Option<f64>,
    /// Figures by name.
    pub metrics: BTreeMap<String, f64>,
    /// How often something went wrong in it.
    pub errors: u64,
    /// What did last.
    pub last_error: Option<ErrorView>,
}

/// Something that went wrong in a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorView {
    /// The class that it gave it.
    pub class: Option<String>,
    /// In words.
    pub message: String,
    /// When.
    #[serde(serialize_with = "super::status::millis")]
    pub at: Timestamp,
}

impl From<&Told> for ToldView {
    fn from(told: &Told) -> Self {
        let error = |trouble: &Trouble| ErrorView {
            class: trouble.class.clone(),
            message: trouble.message.clone(),
            at: to_millis(trouble.at),
        };
        Self {
            progress: told.progress,
            metrics: told.figures.iter().cloned().collect(),
            errors: told.troubles,
            last_error: told.trouble.as_ref().map(error),
        }
    }
}

/// Counters of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputView {
    /// Bytes read.
    pub bytes: u64,
    /// Lines kept.
    pub lines: u64,
    /// Lines dropped.
    pub dropped: u64,
    /// Lines split.
    pub split: u64,
}

impl From<&InstanceState> for OutputView {
    fn from(state: &InstanceState) -> Self {
        let output = &state.output;
        Self {
            bytes: output.bytes.load(Ordering::Relaxed),
            lines: output.lines.load(Ordering::Relaxed),
            dropped: output.dropped.load(Ordering::Relaxed),
            split: output.split.load(Ordering::Relaxed),
        }
    }
}
