//! Settings after validation: every value is there, typed, and makes sense. No room below reads TOML.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::id::{InstanceId, Name};
use crate::policy::{
    AutoShutdown, Backoff, ExitCodes, Intensity, OnExhausted, Restart, RestartStrategy, RetryPark,
};

use super::isolation::{DaemonSettings, Isolation};
use super::own::OwnConfig;
use super::pool::PoolSettings;
use super::probes::{HeartbeatSettings, ProbeSettings, ThresholdSettings};
use super::spec::Given;
use super::template::{Added, Template};

/// The whole effective configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `[runtime]`
    pub runtime: RuntimeSettings,
    /// `[supervisor.*]`, the root first, then in order of appearance.
    pub supervisors: Vec<Arc<SupervisorSettings>>,
    /// `[worker.*]`, in order of appearance.
    pub workers: Vec<Arc<WorkerSettings>>,
    /// `[template.*]`, in order of appearance.
    pub templates: Vec<Arc<Template>>,
    /// Which of the workers were made of templates, in the order in which they came.
    pub added: Vec<Arc<Added>>,
    /// Which of them the program around the runtime has added, in the order in which they came.
    pub given: Vec<Arc<Given>>,
    /// `[recovery]` and `[[error_class]]`
    pub recovery: RecoverySettings,
    /// `[http]`
    pub http: HttpSettings,
    /// `[telemetry]`
    pub telemetry: TelemetrySettings,
    /// `[store]`
    pub store: StoreSettings,
    /// How often every probe looks, in place of its own period.
    pub interval: Option<Duration>,
    /// Hints that do not hinder a start.
    pub warnings: Vec<String>,
    /// What the files, the environment and the flags say of workers in general, as TOML: a worker that is added later
    /// lies over it like one of the file.
    pub(super) common: Common,
    /// The directory of the main file; relative paths start here.
    pub base_dir: PathBuf,
}

/// How that is written makes no difference: what it means for a worker is seen in the worker.
#[derive(Debug, Clone, Default)]
pub(super) struct Common(pub(super) Arc<str>);

impl PartialEq for Common {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// `[runtime]`
#[derive(Debug, Clone, PartialEq)]
pub struct RuntimeSettings {
    /// The name in status, alerts and metrics.
    pub name: String,
    /// Absolute path of the state directory.
    pub state_dir: PathBuf,
    /// How long an orderly shutdown may take.
    pub shutdown_timeout: Duration,
    /// Who may use the control socket.
    pub control: SocketSettings,
}

/// `runtime.control`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketSettings {
    /// Mode bits of the socket.
    pub mode: u32,
    /// Group that owns the socket.
    pub group: Option<String>,
    /// Role of that group's members: `viewer`, `operator` or `admin`.
    pub role: String,
}

/// `[supervisor.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct SupervisorSettings {
    /// Its name.
    pub name: Name,
    /// Which siblings a restart touches.
    pub strategy: RestartStrategy,
    /// The restart budget.
    pub intensity: Intensity,
    /// What happens when it is spent.
    pub on_exhausted: OnExhausted,
    /// When parked children are tried again; `None`: never.
    pub retry: Option<RetryPark>,
    /// Names of workers and supervisors in start order, complete: whoever no list names is appended to the root's.
    /// Sorted so that `after` of workers below never points against the order.
    pub children: Vec<Name>,
    /// Whether significant children end it.
    pub auto_shutdown: AutoShutdown,
}

/// `[worker.NAME]` with its defaults filled in. Placeholders are not replaced yet.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerSettings {
    /// Its name.
    pub name: Name,
    /// argv; never a shell. Empty for an actor.
    pub command: Vec<String>,
    /// The Rust type that it is, by the name under which the program registers it; `None` for a process.
    pub actor: Option<String>,
    /// An actor's own settings.
    pub config: OwnConfig,
    /// When an actor's state is saved.
    pub snapshot: SnapshotSettings,
    /// Whether an actor's code blocks, so that it needs a thread of its own.
    pub blocking: bool,
    /// When it is restarted.
    pub restart: Restart,
    /// Whether its end may end the supervisor.
    pub significant: bool,
    /// Without it the whole is not ready.
    pub critical: bool,
    /// Whether it is started at all.
    pub enabled: bool,
    /// Workers that must be ready before it starts.
    pub after: Vec<Name>,
    /// What makes it ready.
    pub ready: ReadyWhen,
    /// Ends a slow start.
    pub start_timeout: Duration,
    /// An exit before this is a start failure.
    pub min_uptime: Duration,
    /// How it is stopped.
    pub stop: StopSettings,
    /// Delays between restarts.
    pub backoff: Backoff,
    /// Copies of it.
    pub instances: u32,
    /// How many the file says; another number was asked for, by hand or by a step of recovery.
    pub declared: u32,
    /// Copies beside those, while a rolling restart goes on.
    pub spare: u32,
    /// Within which bounds their number may change; `None`: it is fixed.
    pub pool: Option<PoolSettings>,
    /// Whether the first copy has a number too: `parser/0`; false: it goes by the worker's plain name.
    pub numbered: bool,
    /// When an instance is replaced although nothing is wrong with it.
    pub recycle: Option<RecycleSettings>,
    /// Port of instance 0; instance i has the i-th after it.
    pub port: Option<u16>,
    /// Signal that makes it read its configuration anew; without one it is restarted.
    pub reload: Option<i32>,
    /// Working directory, absolute.
    pub cwd: PathBuf,
    /// Variables it is given.
    pub env: BTreeMap<String, String>,
    /// Names of variables passed through; `["*"]` for all.
    pub inherit_env: Vec<String>,
    /// As whom it runs, and within which bounds.
    pub isolation: Isolation,
    /// How a program that goes into the background is found.
    pub daemon: DaemonSettings,
    /// What its exit codes mean.
    pub exit_codes: ExitCodes,
    /// What becomes of its output.
    pub log: LogSettings,
    /// How long a trial start must hold (`ladder.default.verify`).
    pub verify: Duration,
    /// Whether it has recovery steps beyond plain restarts.
    pub ladder: Ladder,
    /// How it is looked at, in the order of their names.
    pub probes: Vec<ProbeSettings>,
    /// Signs of life that are expected of it.
    pub heartbeat: Option<HeartbeatSettings>,
    /// Marks of its figures.
    pub threshold: ThresholdSettings,
    /// Its recovery steps; `None`: plain restarts only.
    pub steps: Option<Arc<crate::recovery::Ladder>>,
    /// Every `[strategy.*]` of the file.
    pub strategies: Arc<BTreeMap<Name, StrategySettings>>,
    /// What is done to it where a step of recovery says so.
    pub on: OnSettings,
}

/// `[recovery]` and `[[error_class]]`
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RecoverySettings {
    /// What the fleet may do at once.
    pub limits: crate::recovery::BrakeLimits,
    /// The user's own names for failures, in the order in which they are tried.
    pub classes: Arc<[crate::recovery::ErrorClass]>,
}

/// `[strategy.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct StrategySettings {
    /// What runs beside the worker.
    pub command: Vec<String>,
    /// Given up after this long.
    pub timeout: Duration,
    /// What it costs, until that was measured.
    pub cost: Option<Duration>,
    /// It is code that the program has registered, and no command.
    pub code: bool,
}

/// `worker.on`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OnSettings {
    /// Makes its connections anew.
    pub connection_reset: Option<Remedy>,
    /// Makes it give back memory.
    pub memory_cleanup: Option<Remedy>,
    /// A command that looks at it before something is done to it.
    pub capture: Option<Vec<String>>,
}

/// How something is done to a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// By this signal to its main process.
    Signal(i32),
    /// By this command beside it.
    Command(Vec<String>),
}

impl WorkerSettings {
    /// What the file says that own strategies cost, in seconds.
    pub(crate) fn costs(&self) -> BTreeMap<crate::recovery::Strategy, f64> {
        let cost = |(name, own): (&Name, &StrategySettings)| {
            Some((crate::recovery::Strategy::Own(name.clone()), own.cost?.as_secs_f64()))
        };
        self.strategies.iter().filter_map(cost).collect()
    }

    /// The ids of its instances, lowest index first.
    pub fn instance_ids(&self) -> impl Iterator<Item = InstanceId> + '_ {
        self.ids(self.copies())
    }

    pub(super) fn ids(&self, copies: u32) -> impl Iterator<Item = InstanceId> + '_ {
        (0..copies).map(|index| match index {
            0 if !self.numbered => InstanceId::single(self.name.clone()),
            index => InstanceId::of_pool(self.name.clone(), index),
        })
    }

    /// How many copies there are, the spare one of a rolling restart included.
    #[must_use]
    pub fn copies(&self) -> u32 {
        self.instances.saturating_add(self.spare)
    }

    /// Whether nothing but the number of copies differs: nobody who stays has to hear of it.
    #[must_use]
    pub fn differs_in_number_only(&self, other: &Self) -> bool {
        let Self { instances, declared, spare, .. } = *other;
        self.numbered == other.numbered && Self { instances, declared, spare, ..self.clone() } == *other
    }

    /// The port of one of its instances, where it has ports.
    #[must_use]
    pub fn port_of(&self, instance: &InstanceId) -> Option<u16> {
        let index = u16::try_from(instance.index().unwrap_or(0)).ok()?;
        self.port?.checked_add(index)
    }

    /// Whether it has a probe of this name.
    pub(super) fn has_probe(&self, name: &str) -> bool {
        self.probes.iter().any(|probe| probe.name == name)
    }

    /// The contract's word for what it is.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        if self.actor.is_some() { "actor" } else { "process" }
    }
}

/// `recycle`: planned replacement. At least one of the reasons is there.
#[derive(Debug, Clone, PartialEq)]
pub struct RecycleSettings {
    /// It has run for this long, spread by the jitter.
    pub after: Option<Duration>,
    /// 0..1: how far `after` is spread.
    pub jitter: f64,
    /// Its working set is at least this large.
    pub memory: Option<u64>,
}

/// `snapshot`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotSettings {
    /// At least this often.
    pub every: Duration,
    /// And before an orderly end.
    pub on_stop: bool,
}

/// What makes a worker ready.
#[derive(Debug, Clone)]
pub enum ReadyWhen {
    /// Being started.
    Started,
    /// `READY=1` on the notify socket.
    Notify,
    /// A probe passes: a start-up check, else a readiness check, else a liveness check.
    Probe,
    /// A line of its output that matches.
    Log(regex::bytes::Regex),
}

impl PartialEq for ReadyWhen {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Started, Self::Started) | (Self::Notify, Self::Notify) | (Self::Probe, Self::Probe) => {
                true
            }
            (Self::Log(a), Self::Log(b)) => a.as_str() == b.as_str(),
            (Self::Started | Self::Notify | Self::Probe | Self::Log(_), _) => false,
        }
    }
}

/// `stop`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopSettings {
    /// Signal number that asks.
    pub signal: i32,
    /// Who is asked.
    pub to: StopTo,
    /// Killed this long after the signal.
    pub timeout: Duration,
    /// How long it is shown as not ready before it gets the signal.
    pub drain: Duration,
    /// Killed after this if it did not answer its probes.
    pub unresponsive_timeout: Duration,
}

/// Who gets the stop signal. The final KILL always goes to the whole tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopTo {
    /// The main process.
    Main,
    /// Every process of its group.
    Group,
}

/// `log`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Where it goes.
    pub to: LogTo,
    /// Rotated at this size.
    pub max_size: u64,
    /// Old files kept.
    pub keep: u32,
    /// Longer lines are split.
    pub max_line: u64,
    /// What happens to output that comes faster than it can be kept.
    pub on_full: LogOnFull,
    /// Where stderr goes.
    pub stderr: StderrTo,
}

/// Where output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogTo {
    /// `logs/SLUG.log`.
    File,
    /// The runtime's own stdout, each line behind the instance's name.
    Stdout,
    /// Both.
    Both,
    /// The runtime's own stdout and stderr, byte for byte. Only for `run`: no file can say so.
    #[serde(skip)]
    Through,
}

/// What happens to output that comes faster than it can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogOnFull {
    /// Dropped and counted.
    Drop,
    /// The worker waits.
    Block,
}

/// Where stderr goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StderrTo {
    /// Into the same stream as stdout.
    Merge,
    /// Into a log of its own, `logs/SLUG.err.log`.
    Separate,
}

/// Which recovery steps a worker has.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(from = "Name")]
pub enum Ladder {
    /// Those of `[ladder.default]`.
    Default,
    /// None: plain restarts only.
    None,
    /// Those of `[ladder.NAME]`.
    Named(Name),
}

impl Ladder {
    /// As it stands in the file: `default`, `none`, or a name.
    #[must_use]
    pub fn word(&self) -> &str {
        self.name().unwrap_or("none")
    }

    /// The name behind `[ladder.`, unless there is none.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Default => Some("default"),
            Self::None => None,
            Self::Named(name) => Some(name.as_str()),
        }
    }
}

impl From<Name> for Ladder {
    fn from(name: Name) -> Self {
        match name.as_str() {
            "default" => Self::Default,
            "none" => Self::None,
            _ => Self::Named(name),
        }
    }
}

/// `[http]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// `None`: no listener.
    pub listen: Option<std::net::SocketAddr>,
    /// True if the file or an override names the address: then a taken one refuses the start.
    pub listen_explicit: bool,
    /// Only /livez /readyz /metrics, clear text, no token.
    pub probe_listen: Option<std::net::SocketAddr>,
}

/// `[telemetry]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetrySettings {
    /// Filter of the runtime's own log, such as `info` or `regrow=debug`.
    pub log_level: String,
    /// JSON lines instead of text.
    pub log_json: bool,
    /// The seeds' metric names too.
    pub seed_names: bool,
}

/// `[store]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// How long events are kept.
    pub events: Duration,
    /// How long health samples are kept.
    pub samples: Duration,
    /// Bytes that everything that is kept may take together.
    pub max_disk: u64,
}
