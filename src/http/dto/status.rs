//! `regrow.status/1` and the lists.

use jiff::{SignedDuration, Timestamp, Unit};
use serde::{Deserialize, Serialize};

use crate::runtime::RuntimeInfo;
use crate::supervisor::{Health, InstanceState, LastExit, NextAction, Recovering, SupervisorState};
use crate::telemetry::HostFigures;

use super::event::EventView;

/// One line about what is wrong.
pub type Issue = String;

/// `GET /api/v1/status`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusBody {
    /// `regrow.status/1`
    pub schema: String,
    /// The runtime itself.
    pub runtime: RuntimeView,
    /// Counts of instances.
    pub totals: Totals,
    /// Every instance.
    pub workers: Vec<WorkerView>,
    /// Every supervisor, the root first.
    pub supervisors: Vec<SupervisorView>,
}

/// The runtime itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuntimeView {
    /// `runtime.name`
    pub name: String,
    /// Version of the build.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it started.
    #[serde(serialize_with = "millis")]
    pub started_at: Timestamp,
    /// How often a configuration was applied, the first included.
    pub config_generation: u64,
    /// Degraded modes by name.
    pub notes: Vec<String>,
    /// The machine that it runs on; null where the system does not tell.
    #[serde(default)]
    pub host: Option<HostFigures>,
}

impl From<&RuntimeInfo> for RuntimeView {
    fn from(info: &RuntimeInfo) -> Self {
        Self {
            name: info.settings().runtime.name.clone(),
            version: info.version.to_owned(),
            pid: info.pid,
            started_at: to_millis(info.started_at.wall()),
            config_generation: info.config_generation(),
            notes: info.notes(),
            host: info.host.look(&info.state_dir).ok(),
        }
    }
}

/// Counts of instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// All.
    pub total_workers: u64,
    /// Healthy, and not still to prove after an incident that they stay so.
    pub healthy_workers: u64,
    /// Degraded.
    pub warning_workers: u64,
    /// Unhealthy, dead, quarantined or stuck.
    pub critical_workers: u64,
    /// Starts after the first, of all.
    pub restarts_total: u64,
}

impl Totals {
    /// Counts.
    #[must_use]
    pub fn of(workers: &[WorkerView]) -> Self {
        let count = |of: fn(&WorkerView) -> bool| workers.iter().filter(|worker| of(worker)).count() as u64;
        Self {
            total_workers: workers.len() as u64,
            healthy_workers: count(WorkerView::is_healthy),
            warning_workers: count(|worker| worker.health == Health::Degraded.word()),
            critical_workers: count(WorkerView::is_critical),
            restarts_total: workers.iter().map(|worker| worker.restarts).sum(),
        }
    }
}

/// One instance: the contract's `W`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerView {
    /// The worker.
    pub worker: String,
    /// The instance.
    pub instance: String,
    /// Its supervisor.
    pub supervisor: String,
    /// `process`.
    pub kind: String,
    /// Where it is in its life.
    pub phase: String,
    /// How well it works.
    pub health: String,
    /// `idle`, `working` or `slow`; null: nothing is known of it. Only tasks say so, and a process that takes none says
    /// nothing of what it does.
    pub activity: Option<String>,
    /// One word for people.
    pub status: String,
    /// 0..1; null without data.
    pub score: Option<f64>,
    /// What is wrong, in words.
    pub issues: Vec<Issue>,
    /// `running`, `stopped` or `paused`.
    pub wanted: String,
    /// Whether this incarnation is ready.
    pub ready: bool,
    /// Whether it was taken over from an earlier runtime.
    pub adopted: bool,
    /// Main process.
    pub pid: Option<u32>,
    /// Newest incarnation; 0 before the first start. As long as a process of an earlier runtime is there, its one.
    pub incarnation: u64,
    /// Starts after the first.
    pub restarts: u64,
    /// When this incarnation was started.
    #[serde(serialize_with = "millis_or_null", default)]
    pub started_at: Option<Timestamp>,
    /// How long it has run; null while it does not.
    pub uptime_seconds: Option<f64>,
    /// 100 is one core; null if unknown.
    pub cpu_percent: Option<f64>,
    /// Resident memory; null if unknown.
    pub memory_bytes: Option<u64>,
    /// Last sign of life it gave by itself.
    #[serde(serialize_with = "millis_or_null", default)]
    pub last_heartbeat_at: Option<Timestamp>,
    /// How the incarnation before ended.
    pub last_exit: Option<LastExitView>,
    /// `closed`, `open` or `half_open`.
    pub breaker: String,
    /// Whether its loss is critical.
    pub critical: bool,
    /// What comes next.
    pub next_action: Option<NextActionView>,
}

impl WorkerView {
    /// The state at `now`, without what only the system knows (load and memory).
    #[must_use]
    pub fn new(state: &InstanceState, now: Timestamp) -> Self {
        let up = state.pid.is_some() || state.ready;
        Self {
            worker: state.instance.worker().to_string(),
            instance: state.instance.to_string(),
            supervisor: state.supervisor.to_string(),
            kind: state.kind.to_owned(),
            phase: state.phase.word().to_owned(),
            health: state.health().word().to_owned(),
            activity: None,
            status: state.status().to_owned(),
            score: state.score(),
            issues: state.all_issues(),
            wanted: wanted_word(state).to_owned(),
            ready: state.ready,
            adopted: state.adopted,
            pid: state.pid,
            incarnation: state.shown_incarnation().0,
            restarts: state.totals().restarts,
            started_at: state.started_at.map(to_millis),
            uptime_seconds: state.started_at.filter(|_| up).map(|at| match state.steady.started {
                // A wall clock that was set meanwhile makes nobody older.
                Some(started) => started.elapsed().as_secs_f64(),
                None => seconds_between(at, now),
            }),
            cpu_percent: None,
            memory_bytes: None,
            last_heartbeat_at: state.last_heartbeat_at.map(to_millis),
            last_exit: state.last_exit.as_deref().map(LastExitView::from),
            breaker: state.breaker.word().to_owned(),
            critical: state.critical,
            next_action: NextActionView::of(state),
        }
    }

    /// Whether it counts as critical: unhealthy, dead, quarantined or stuck.
    #[must_use]
    pub fn is_critical(&self) -> bool {
        ["unhealthy", "dead"].contains(&self.health.as_str())
            || ["quarantined", "stuck"].contains(&self.phase.as_str())
    }

    /// Whether its health is `healthy`, and no incident is open in which that is still to be proved.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.health == Health::Healthy.word() && self.status != "recovering"
    }
}

fn wanted_word(state: &InstanceState) -> &'static str {
    use crate::supervisor::Wanted;
    match state.wanted {
        Wanted::Running => "running",
        Wanted::Stopped => "stopped",
        Wanted::Paused => "paused",
    }
}

/// How an incarnation ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastExitView {
    /// The contract's word.
    pub kind: String,
    /// Exit code, where there is one.
    pub code: Option<i32>,
    /// Signal name, where one ended it.
    pub signal: Option<String>,
    /// For people.
    pub message: String,
    /// When.
    #[serde(serialize_with = "millis")]
    pub at: Timestamp,
}

impl From<&LastExit> for LastExitView {
    fn from(last: &LastExit) -> Self {
        Self {
            kind: last.exit.kind().to_owned(),
            code: last.code,
            signal: last.exit.signal().map(crate::exit::signal_name),
            message: last.message.clone(),
            at: to_millis(last.at),
        }
    }
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NextActionView {
    /// The contract's word.
    #[serde(rename = "do")]
    pub what: String,
    /// When; null: once what it waits for has come.
    #[serde(serialize_with = "millis_or_null", default)]
    pub at: Option<Timestamp>,
    /// The incident that somebody must approve first; absent where nobody must.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approve: Option<String>,
}

impl NextActionView {
    /// What is planned for its next start; else what its recovery does next.
    fn of(state: &InstanceState) -> Option<Self> {
        let planned = state.planned().as_ref().map(Self::from);
        planned.or_else(|| state.recovery.as_deref().and_then(Self::of_recovery))
    }

    fn of_recovery(recovery: &Recovering) -> Option<Self> {
        let until = recovery.until.map(|until| to_millis(until.wall()));
        let step = || recovery.strategy.as_ref().map(ToString::to_string);
        let (what, at) = match recovery.stage {
            "verifying" | "healing" => (Some("verify".to_owned()), until),
            "delay" | "held" => (step(), until),
            // Under way, or waiting for somebody's word; its deadline is when it is given up.
            _ => (step(), None),
        };
        let approve = (recovery.stage == "approval").then(|| recovery.incident.to_string());
        Some(Self { what: what?, at, approve })
    }
}

impl From<&NextAction> for NextActionView {
    fn from(next: &NextAction) -> Self {
        use crate::policy::Plan;
        let what = match next.what {
            Plan::SoftRestart => "soft_restart",
            Plan::Start => "start",
            Plan::Retry => "retry",
            Plan::Verify => "verify",
            Plan::WaitDependency => "wait_dependency",
            Plan::Quarantine => "quarantine",
        };
        Self { what: what.to_owned(), at: next.at.map(|at| to_millis(at.wall())), approve: None }
    }
}

/// One supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SupervisorView {
    /// Who.
    pub name: String,
    /// Its supervisor; null for the root.
    pub parent: Option<String>,
    /// `one_for_one`, `one_for_all` or `rest_for_one`.
    pub strategy: String,
    /// `quarantine` or `escalate`.
    pub on_exhausted: String,
    /// Restarts allowed in a window.
    pub max_restarts: u32,
    /// Length of the window.
    pub within_seconds: f64,
    /// Where it is in its life.
    pub phase: String,
    /// How often it was started again.
    pub restarts: u64,
    /// Instances and supervisors in start order.
    pub children: Vec<String>,
}

impl From<&SupervisorState> for SupervisorView {
    fn from(state: &SupervisorState) -> Self {
        Self {
            name: state.name.to_string(),
            parent: state.parent.as_ref().map(ToString::to_string),
            strategy: state.strategy.to_owned(),
            on_exhausted: state.on_exhausted.to_owned(),
            max_restarts: state.max_restarts,
            within_seconds: state.within_seconds,
            phase: state.phase.word().to_owned(),
            restarts: state.restarts,
            children: state.children.clone(),
        }
    }
}

/// `GET /api/v1/workers`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkersBody {
    /// `regrow.workers/1`
    pub schema: String,
    /// Instances.
    pub items: Vec<WorkerView>,
    /// Give it as `cursor` for the rest; null at the end.
    pub next_cursor: Option<String>,
}

/// `GET /api/v1/events` with `Accept: application/json`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventsBody {
    /// `regrow.events/1`
    pub schema: String,
    /// `regrow.event/1` each, oldest first.
    pub items: Vec<EventView>,
    /// Give it as `cursor` for what comes after; null if nothing was kept yet.
    pub next_cursor: Option<String>,
}

/// `GET /api/v1/workers/{id}/logs`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogsBody {
    /// `regrow.logs/1`
    pub schema: String,
    /// Lines, oldest first.
    pub items: Vec<LogLine>,
    /// Always null: the newest lines are all there is.
    pub next_cursor: Option<String>,
    /// Whose output is not kept here, and where it is.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One line of output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// Whose.
    pub instance: String,
    /// When it was written, to the second; null where the log has no time index.
    #[serde(serialize_with = "millis_or_null", default)]
    pub at: Option<Timestamp>,
    /// The line, lossily decoded, not escaped.
    pub line: String,
}

/// Always three digits: times of equal length sort as text, too.
pub(super) fn millis<S: serde::Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{at:.3}"))
}

/// As [`millis`], of a time that may be missing.
pub(super) fn millis_or_null<S: serde::Serializer>(
    at: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => millis(at, serializer),
        None => serializer.serialize_none(),
    }
}

/// Times on the wire have milliseconds: more is noise, and less hides the order.
pub(super) fn to_millis(at: Timestamp) -> Timestamp {
    at.round(Unit::Millisecond).unwrap_or(at)
}

pub(super) fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    let span: SignedDuration = to.duration_since(from);
    (span.as_secs_f64().max(0.0) * 1000.0).round() / 1000.0
}
