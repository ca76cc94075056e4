//! `[worker.NAME]` and `[defaults.worker]`: what is kept alive, and how.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::config::leaf::{Leaf, Text};
use crate::config::pool::{MOST, PoolSettings};
use crate::config::schema::{Key, Shape, either, leaf, table};
use crate::config::settings::{
    Ladder, LogOnFull, LogSettings, LogTo, OnSettings, ReadyWhen, RecycleSettings, Remedy, SnapshotSettings,
    StderrTo, StopSettings, StopTo, WorkerSettings,
};
use crate::id::Name;
use crate::policy::{Backoff, ExitCodes, Restart};

use super::de;
use super::isolation::{self, RawIsolation, RawLimits, RawSecret};
use super::probe::{self, RawHeartbeat, RawProbe, RawThreshold};

const RESTART: &[(&str, &str)] = &[
    ("permanent", "permanent"),
    ("transient", "transient"),
    ("temporary", "temporary"),
    ("always", "permanent"),
    ("on-failure", "transient"),
    ("never", "temporary"),
];
const READY: &[(&str, &str)] = &[("started", "started"), ("notify", "notify"), ("probe", "probe")];
const STOP_TO: &[(&str, &str)] = &[("main", "main"), ("group", "group")];
const LOG_TO: &[(&str, &str)] = &[("file", "file"), ("stdout", "stdout"), ("both", "both")];
const ON_FULL: &[(&str, &str)] = &[("drop", "drop"), ("block", "block")];
const STDERR: &[(&str, &str)] = &[("merge", "merge"), ("separate", "separate")];

const TIME: Leaf = Leaf::Text(Text::Duration { zero: true });
const POSITIVE: Leaf = Leaf::Text(Text::Duration { zero: false });
/// What an exit status can hold.
const CODES: Leaf = Leaf::Integers { min: 0, max: 255 };

/// How many of one worker there may be.
const COPIES: Leaf = Leaf::Integer { min: 1, max: MOST };

/// How something is done to a process.
const REMEDY: &[Key] =
    &[leaf("signal", Leaf::Text(Text::Signal)), leaf("command", Leaf::Texts(Text::Beside))];

pub(super) const KEYS: &[Key] = &[
    leaf("command", Leaf::Texts(Text::Template)),
    leaf("actor", Leaf::Text(Text::Line)),
    Key { name: "config", shape: Shape::Free },
    table("snapshot", &[leaf("every", POSITIVE), leaf("on_stop", Leaf::Bool)]),
    leaf("blocking", Leaf::Bool),
    leaf("restart", Leaf::Text(Text::Word(RESTART))),
    leaf("significant", Leaf::Bool),
    leaf("critical", Leaf::Bool),
    leaf("enabled", Leaf::Bool),
    leaf("after", Leaf::Texts(Text::Any)),
    Key {
        name: "ready",
        shape: Shape::LeafOr(Leaf::Text(Text::Word(READY)), &[leaf("log", Leaf::Text(Text::Regex))]),
    },
    leaf("start_timeout", POSITIVE),
    leaf("min_uptime", TIME),
    table(
        "stop",
        &[
            leaf("signal", Leaf::Text(Text::Signal)),
            leaf("to", Leaf::Text(Text::Word(STOP_TO))),
            leaf("timeout", TIME),
            leaf("drain", TIME),
            leaf("unresponsive_timeout", TIME),
        ],
    ),
    table(
        "backoff",
        &[
            leaf("first", TIME),
            leaf("factor", Leaf::Number { min: 1.0, max: 1e6 }),
            leaf("max", TIME),
            leaf("jitter", Leaf::Number { min: 0.0, max: 1.0 }),
            leaf("reset_after", POSITIVE),
        ],
    ),
    // A thousand copies of one worker on one machine are a mistake of the file more often than a wish.
    leaf("instances", COPIES),
    table("pool", &[leaf("min", COPIES), leaf("max", COPIES)]),
    table(
        "recycle",
        &[
            leaf("after", POSITIVE),
            leaf("jitter", Leaf::Number { min: 0.0, max: 1.0 }),
            // Less than a page would never be reached by going down.
            leaf("memory", Leaf::Text(Text::Size { min: 4 << 10, max: 1 << 50 })),
        ],
    ),
    table("port", &[leaf("base", Leaf::Integer { min: 1, max: 65_535 })]),
    table("reload", &[leaf("signal", Leaf::Text(Text::Signal))]),
    leaf("cwd", Leaf::Text(Text::Template)),
    Key { name: "env", shape: Shape::Texts(Leaf::Text(Text::Template)) },
    leaf("inherit_env", Leaf::Texts(Text::Line)),
    isolation::USER,
    isolation::GROUP,
    isolation::UMASK,
    isolation::NICE,
    isolation::OOM_SCORE_ADJ,
    isolation::NO_NEW_PRIVS,
    isolation::LIMITS,
    isolation::SECRETS,
    isolation::PID_FILE,
    isolation::ADOPT_RUNNING,
    table("exit_codes", &[leaf("normal", CODES), leaf("fatal", CODES)]),
    table(
        "log",
        &[
            leaf("to", Leaf::Text(Text::Word(LOG_TO))),
            // Below a page, rotation would cost more than writing.
            leaf("max_size", Leaf::Text(Text::Size { min: 4 << 10, max: 1 << 40 })),
            leaf("keep", Leaf::Integer { min: 0, max: 1000 }),
            // One line is held in memory per stream.
            leaf("max_line", Leaf::Text(Text::Size { min: 80, max: 16 << 20 })),
            leaf("on_full", Leaf::Text(Text::Word(ON_FULL))),
            leaf("stderr", Leaf::Text(Text::Word(STDERR))),
        ],
    ),
    leaf("ladder", Leaf::Text(Text::Ladder)),
    probe::PROBE,
    probe::HEARTBEAT,
    probe::THRESHOLD,
    table(
        "on",
        &[
            either("connection_reset", REMEDY),
            either("memory_cleanup", REMEDY),
            either("capture", &[leaf("command", Leaf::Texts(Text::Beside))]),
        ],
    ),
];

/// `[worker.NAME]` as written, over its defaults.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawWorker {
    command: Option<Vec<String>>,
    actor: Option<String>,
    config: Option<serde_json::Map<String, serde_json::Value>>,
    snapshot: RawSnapshot,
    blocking: bool,
    #[serde(with = "de::RestartDef")]
    restart: Restart,
    significant: bool,
    critical: bool,
    enabled: bool,
    #[serde(default)]
    after: Vec<String>,
    ready: RawReady,
    #[serde(deserialize_with = "de::duration")]
    start_timeout: Duration,
    #[serde(deserialize_with = "de::duration")]
    min_uptime: Duration,
    stop: RawStop,
    #[serde(with = "de::BackoffDef")]
    backoff: Backoff,
    instances: u32,
    #[serde(default)]
    pool: Option<RawPool>,
    #[serde(default)]
    recycle: Option<RawRecycle>,
    #[serde(default)]
    port: Option<RawPort>,
    #[serde(default)]
    reload: Option<RawReload>,
    cwd: String,
    #[serde(default)]
    env: BTreeMap<String, String>,
    inherit_env: Vec<String>,
    user: Option<String>,
    group: Option<String>,
    #[serde(default, deserialize_with = "de::some_mode")]
    umask: Option<u32>,
    nice: Option<i32>,
    oom_score_adj: Option<i32>,
    no_new_privs: bool,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    secrets: BTreeMap<String, RawSecret>,
    pid_file: Option<String>,
    adopt_running: bool,
    #[serde(with = "de::ExitCodesDef")]
    exit_codes: ExitCodes,
    log: RawLog,
    ladder: Ladder,
    #[serde(default)]
    probe: BTreeMap<String, RawProbe>,
    #[serde(default)]
    heartbeat: Option<RawHeartbeat>,
    threshold: RawThreshold,
    #[serde(default)]
    on: RawOn,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOn {
    connection_reset: Option<RawRemedy>,
    memory_cleanup: Option<RawRemedy>,
    capture: Option<RawCapture>,
}

/// One of both; the check sees to that.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRemedy {
    #[serde(default, deserialize_with = "de::any_signal")]
    signal: Option<i32>,
    command: Option<Vec<String>>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCapture {
    command: Vec<String>,
}

/// A word or a table; serde calls both variants of one enum.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawReady {
    Started,
    Notify,
    Probe,
    Log(#[serde(deserialize_with = "de::regex")] regex::bytes::Regex),
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSnapshot {
    #[serde(deserialize_with = "de::duration")]
    every: Duration,
    on_stop: bool,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStop {
    #[serde(deserialize_with = "de::signal")]
    signal: i32,
    to: StopTo,
    #[serde(deserialize_with = "de::duration")]
    timeout: Duration,
    #[serde(deserialize_with = "de::duration")]
    drain: Duration,
    #[serde(deserialize_with = "de::duration")]
    unresponsive_timeout: Duration,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPool {
    min: Option<u32>,
    max: Option<u32>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRecycle {
    #[serde(default, deserialize_with = "de::some_duration")]
    after: Option<Duration>,
    jitter: Option<f64>,
    #[serde(default, deserialize_with = "de::some_size")]
    memory: Option<u64>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPort {
    base: Option<u16>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReload {
    #[serde(default, deserialize_with = "de::some_signal")]
    signal: Option<i32>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {
    to: LogTo,
    #[serde(deserialize_with = "de::size")]
    max_size: u64,
    keep: u32,
    #[serde(deserialize_with = "de::size")]
    max_line: u64,
    on_full: LogOnFull,
    stderr: StderrTo,
}

impl RawWorker {
    /// Which ladder it has.
    pub(in crate::config) fn ladder(&self) -> &Ladder {
        &self.ladder
    }

    /// The settings as written: without `after`, which needs the other workers, and perhaps with what one of its kind
    /// does not have, since only places tell which kind it is.
    pub(in crate::config) fn settle(self, name: Name, base: &Path, verify: Duration) -> Settled {
        let has_command = self.command.is_some();
        let checks = self.probe.iter().map(|(name, probe)| (name.clone(), probe.checks())).collect();
        let isolation = RawIsolation {
            user: self.user,
            group: self.group,
            umask: self.umask,
            nice: self.nice,
            oom_score_adj: self.oom_score_adj,
            no_new_privs: self.no_new_privs,
            limits: self.limits,
            secrets: self.secrets,
        };
        let settings = WorkerSettings {
            name,
            command: self.command.unwrap_or_default(),
            actor: self.actor,
            config: self.config.unwrap_or_default().into(),
            snapshot: SnapshotSettings { every: self.snapshot.every, on_stop: self.snapshot.on_stop },
            blocking: self.blocking,
            restart: self.restart,
            significant: self.significant,
            critical: self.critical,
            enabled: self.enabled,
            after: Vec::new(),
            ready: self.ready.into(),
            start_timeout: self.start_timeout,
            min_uptime: self.min_uptime,
            stop: self.stop.into(),
            backoff: self.backoff,
            instances: self.instances,
            declared: self.instances,
            pool: self.pool.map(PoolSettings::from),
            spare: 0,
            numbered: self.instances > 1,
            recycle: self.recycle.map(RecycleSettings::from),
            port: self.port.and_then(|port| port.base),
            reload: self.reload.and_then(|reload| reload.signal),
            cwd: absolute(base, &self.cwd),
            env: self.env,
            inherit_env: self.inherit_env,
            isolation: isolation.settle(base),
            daemon: isolation::daemon(base, self.pid_file.as_deref(), self.adopt_running),
            exit_codes: self.exit_codes,
            log: self.log.into(),
            verify,
            ladder: self.ladder,
            probes: self.probe.into_iter().map(|(name, probe)| probe.settle(name)).collect(),
            heartbeat: self.heartbeat.map(RawHeartbeat::settle),
            threshold: self.threshold.settle(),
            on: self.on.into(),
            steps: None,
            strategies: Arc::default(),
        };
        Settled { settings, has_command, after: self.after, checks }
    }
}

/// A worker whose `after` is not yet resolved.
#[derive(Debug, Clone)]
pub(in crate::config) struct Settled {
    pub(in crate::config) settings: WorkerSettings,
    /// False if no layer gives a command that is well-formed.
    pub(in crate::config) has_command: bool,
    pub(in crate::config) after: Vec<String>,
    /// What each of its probes says to look at.
    pub(in crate::config) checks: BTreeMap<String, Vec<&'static str>>,
}

/// Joins to the file's directory. `.` leaves no trailing dot, and `{state_dir}` will be an absolute path.
pub(in crate::config) fn absolute(base: &Path, cwd: &str) -> PathBuf {
    match cwd {
        "." => base.to_owned(),
        _ if cwd.starts_with("{state_dir}") => PathBuf::from(cwd),
        _ => base.join(cwd),
    }
}

impl From<RawReady> for ReadyWhen {
    fn from(raw: RawReady) -> Self {
        match raw {
            RawReady::Started => Self::Started,
            RawReady::Notify => Self::Notify,
            RawReady::Probe => Self::Probe,
            RawReady::Log(regex) => Self::Log(regex),
        }
    }
}

impl From<RawStop> for StopSettings {
    fn from(raw: RawStop) -> Self {
        Self {
            signal: raw.signal,
            to: raw.to,
            timeout: raw.timeout,
            drain: raw.drain,
            unresponsive_timeout: raw.unresponsive_timeout,
        }
    }
}

impl From<RawPool> for PoolSettings {
    fn from(raw: RawPool) -> Self {
        let min = raw.min.unwrap_or(1);
        // The check sees to it that it is there.
        Self { min, max: raw.max.unwrap_or(min) }
    }
}

/// So that the instances of a pool, started together, are not replaced together.
const RECYCLE_JITTER: f64 = 0.1;

impl From<RawRecycle> for RecycleSettings {
    fn from(raw: RawRecycle) -> Self {
        Self { after: raw.after, jitter: raw.jitter.unwrap_or(RECYCLE_JITTER), memory: raw.memory }
    }
}

impl From<RawOn> for OnSettings {
    fn from(raw: RawOn) -> Self {
        let remedy = |raw: RawRemedy| match (raw.signal, raw.command) {
            (Some(signal), _) => Some(Remedy::Signal(signal)),
            (None, command) => command.map(Remedy::Command),
        };
        Self {
            connection_reset: raw.connection_reset.and_then(remedy),
            memory_cleanup: raw.memory_cleanup.and_then(remedy),
            capture: raw.capture.map(|capture| capture.command),
        }
    }
}

impl From<RawLog> for LogSettings {
    fn from(raw: RawLog) -> Self {
        Self {
            to: raw.to,
            max_size: raw.max_size,
            keep: raw.keep,
            max_line: raw.max_line,
            on_full: raw.on_full,
            stderr: raw.stderr,
        }
    }
}
