//! How a worker is looked at, after validation; and what can be wrong with that.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::health::ProbeKind;
use crate::units::{format_duration, format_size};

use super::check::Places;
use super::diagnostic::Problem;
use super::elements::{CHECKS, Settled};
use super::resolve::at;
use super::schema::Kind;
use super::settings::{ReadyWhen, WorkerSettings};
use super::{endpoint, ports};

/// `[worker.NAME.probe.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeSettings {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub kind: ProbeKind,
    /// What it looks at.
    pub check: CheckSettings,
    /// The first look comes this long after the start.
    pub initial_delay: Duration,
    /// Between looks.
    pub period: Duration,
    /// The same after a failure, and until it has passed once.
    pub retry_period: Duration,
    /// A look that takes longer has failed.
    pub timeout: Duration,
    /// Failures in a row before it counts.
    pub failure_threshold: u32,
    /// Passes in a row before it counts again.
    pub success_threshold: u32,
    /// How much it counts in the score.
    pub weight: f64,
}

/// What a probe looks at. Placeholders are not replaced yet.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum CheckSettings {
    /// An HTTP answer.
    Http(HttpCheck),
    /// A connection: `host:port`, or `unix:/path`.
    Tcp {
        /// Where.
        address: String,
    },
    /// gRPC's health service.
    Grpc {
        /// `host:port`.
        host: String,
        /// Which service; empty: the server as a whole.
        service: String,
    },
    /// A command.
    Exec {
        /// argv.
        command: Vec<String>,
        /// How its answer is read.
        format: ExecFormat,
    },
    /// Whether its main process runs.
    Process,
    /// What its process tree uses.
    Resources,
    /// How full a disk is.
    Disk {
        /// A path on it.
        path: String,
        /// 0..1.
        warn: f64,
        /// 0..1.
        crit: f64,
    },
    /// How full the memory of a card is.
    Gpu {
        /// `auto`, a number, or a UUID.
        device: String,
        /// 0..1.
        warn: f64,
        /// 0..1.
        crit: f64,
    },
    /// Signs of life.
    Heartbeat,
    /// What the actor says of itself.
    Actor,
    /// A look that the program around the runtime makes, by the name under which it registers it.
    Custom {
        /// The name.
        name: String,
    },
}

impl CheckSettings {
    /// Whether an actor (else a process) has what it looks at.
    pub(super) fn is_of(&self, actor: bool) -> bool {
        match self {
            Self::Process | Self::Resources | Self::Heartbeat => !actor,
            Self::Actor => actor,
            Self::Http(_)
            | Self::Tcp { .. }
            | Self::Grpc { .. }
            | Self::Exec { .. }
            | Self::Disk { .. }
            | Self::Gpu { .. }
            | Self::Custom { .. } => true,
        }
    }
}

/// How a command's answer is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecFormat {
    /// 0 passes, 126 and 127 are errors, everything else fails.
    Plain,
    /// 0 passes, 1 warns, 2 fails, everything else is an error; figures behind `|`.
    Nagios,
}

/// `http`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCheck {
    /// `http://host:port/path`.
    pub url: String,
    /// A unix socket to connect to in place of the URL's host.
    pub unix: Option<String>,
    /// `GET`, `HEAD`, `POST` or `OPTIONS`.
    pub method: String,
    /// Sent along.
    pub headers: BTreeMap<String, String>,
    /// Status codes that pass.
    pub expect_status: Vec<StatusRange>,
    /// The body must contain this.
    pub expect_body: Option<String>,
}

/// Status codes from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRange {
    /// The first.
    pub from: u16,
    /// The last.
    pub to: u16,
}

impl StatusRange {
    /// `200-299,404`.
    pub(super) fn parse_all(text: &str) -> Option<Vec<Self>> {
        let one = |part: &str| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let code = |text: &str| text.trim().parse().ok().filter(|code| (100..=599).contains(code));
            let range = Self { from: code(from)?, to: code(to)? };
            (range.from <= range.to).then_some(range)
        };
        text.split(',').map(one).collect()
    }

    /// Whether a code is among these.
    #[must_use]
    pub fn holds(&self, code: u16) -> bool {
        (self.from..=self.to).contains(&code)
    }
}

impl std::fmt::Display for StatusRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.from == self.to { write!(f, "{}", self.from) } else { write!(f, "{}-{}", self.from, self.to) }
    }
}

/// `[worker.NAME.heartbeat]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartbeatSettings {
    /// How often the worker should beat.
    pub interval: Duration,
    /// Degraded after this silence.
    pub late: Duration,
    /// Unhealthy after this.
    pub lost: Duration,
    /// After this, asking it to end is in vain.
    pub dead: Duration,
}

impl Default for HeartbeatSettings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { interval: seconds(5), late: seconds(10), lost: seconds(15), dead: seconds(30) }
    }
}

/// `[worker.NAME.threshold]`
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ThresholdSettings {
    /// Computing, as a ratio of the cores it may use.
    pub cpu: MarkSettings,
    /// Working set, as a ratio of `limits.memory`.
    pub memory: MarkSettings,
    /// Unhealthy once nothing of what it tells of its progress has moved for this long.
    pub progress: Option<Duration>,
    /// Errors that it tells of, by the minute.
    pub errors_per_minute: Option<RateSettings>,
}

/// The marks of a rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateSettings {
    /// Degraded from here on.
    pub warn: f64,
    /// Unhealthy from here on.
    pub crit: Option<f64>,
}

/// The marks of one figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MarkSettings {
    /// Degraded from here on.
    pub warn: f64,
    /// Unhealthy from here on.
    pub crit: Option<f64>,
    /// Degraded from so many bytes on.
    pub warn_bytes: Option<u64>,
    /// Only if it lasts this long.
    pub lasting: Duration,
}

/// What is wrong with a worker's probes.
pub(super) fn check(kind: Kind, worker: &Settled, places: &Places, problems: &mut Vec<Problem>) {
    let name = &worker.settings.name;
    let owner = format!("{} `{name}`", kind.word());
    for (probe, checks) in &worker.checks {
        let place = || at(kind, name, &format!("probe.{probe}"), places);
        let title = match checks.as_slice() {
            [check @ ("process" | "resources" | "heartbeat" | "actor")]
                if !worker.settings.has_probe(probe) =>
            {
                let own = format!("{}.{name}.probe.{probe}.{check}", kind.word());
                let what = if worker.settings.actor.is_some() { "an actor" } else { "a process" };
                if let Some(place) = places.key(&own) {
                    let title = format!("`probe.{probe}.{check}` means nothing for {owner}, which is {what}");
                    problems.push(Problem::new(Some(place.clone()), title));
                }
                continue;
            }
            [_] => continue,
            // It has been reported for what it is.
            [] if CHECKS
                .iter()
                .any(|check| places.named(&format!("{}.{name}.probe.{probe}.{check}", kind.word()))) =>
            {
                continue;
            }
            [] => format!("probe `{probe}` of {owner} looks at nothing"),
            several => format!("probe `{probe}` of {owner} has {}", several.join(" and ")),
        };
        let help = format!("give it exactly one of {}", CHECKS.join(", "));
        problems.push(Problem::new(place(), title).help(help));
    }
    for probe in &worker.settings.probes {
        let place = |key: &str| {
            let (own, whole) = (format!("probe.{}.{key}", probe.name), format!("probe.{}", probe.name));
            let given = |path: &str| {
                let paths = [format!("{}.{name}.{path}", kind.word()), format!("defaults.worker.{path}")];
                paths.iter().find_map(|path| places.value(path)).cloned()
            };
            given(&own).or_else(|| given(&whole))
        };
        // What could not be read is told as that, and is missing here.
        let told = |key: &str| place(key).is_some_and(|whole| problems.iter().any(|one| one.lies_in(&whole)));
        let is_read = !["exec", "exec.command"].into_iter().any(told);
        problems.extend(check_of(probe, &owner, &place).filter(|_| is_read));
        if let Some(key) = uses_port(&probe.check).filter(|_| worker.settings.port.is_none()) {
            let title =
                format!("probe `{}` of {owner} uses {{port}}, and the {} has none", probe.name, kind.word());
            let help = "give it one: `port = { base = 8001 }`, or write the number";
            problems.push(Problem::new(place(key), title).help(help));
        }
    }
    if let Some(beat) = worker.settings.heartbeat
        && !(beat.interval < beat.late && beat.late <= beat.lost && beat.lost <= beat.dead)
    {
        let title = format!("the heartbeat of {owner} is not in order: interval < late <= lost <= dead");
        let all =
            [("interval", beat.interval), ("late", beat.late), ("lost", beat.lost), ("dead", beat.dead)];
        let all = all.map(|(key, time)| format!("{key} = {}", format_duration(time))).join(", ");
        let problem = Problem::new(at(kind, name, "heartbeat", places), title);
        problems.push(problem.help(format!("with what is not said it is {all}")));
    }
    let stands = worker.settings.probes.iter().any(|probe| stands_for_readiness(&worker.settings, probe));
    if matches!(worker.settings.ready, ReadyWhen::Probe) && !stands && worker.checks.is_empty() {
        let title = format!("{owner} has ready = \"probe\", but no probe");
        problems.push(Problem::new(at(kind, name, "ready", places), title).help(format!(
            "for example `probe.up = {{ tcp = \"127.0.0.1:8000\" }}` in [{}.{name}]",
            kind.word()
        )));
    }
}

/// The key of the first text of a check that names `{port}`.
fn uses_port(check: &CheckSettings) -> Option<&'static str> {
    let names = ports::names_port;
    match check {
        CheckSettings::Http(http) if names(&http.url) => Some("http.url"),
        CheckSettings::Tcp { address } if names(address) => Some("tcp"),
        CheckSettings::Grpc { host, .. } if names(host) => Some("grpc.host"),
        CheckSettings::Exec { command, .. } if command.iter().any(|text| names(text)) => Some("exec"),
        CheckSettings::Http(_)
        | CheckSettings::Tcp { .. }
        | CheckSettings::Grpc { .. }
        | CheckSettings::Exec { .. }
        | CheckSettings::Disk { .. }
        | CheckSettings::Gpu { .. }
        | CheckSettings::Custom { .. }
        | CheckSettings::Process
        | CheckSettings::Resources
        | CheckSettings::Heartbeat
        | CheckSettings::Actor => None,
    }
}

fn check_of(
    probe: &ProbeSettings,
    owner: &str,
    place: &dyn Fn(&str) -> Option<super::document::Place>,
) -> Option<Problem> {
    let name = &probe.name;
    if let Some((key, what, help)) = endpoint::fault(&probe.check) {
        return Some(Problem::new(place(key), format!("probe `{name}` of {owner} {what}")).help(help));
    }
    let (key, what, help) = match &probe.check {
        CheckSettings::Exec { command, .. } if command.first().is_none_or(String::is_empty) => (
            "exec",
            "has no command",
            "the program first, then its arguments: `exec = [\"./check\", \"-v\"]`",
        ),
        CheckSettings::Disk { warn, crit, .. } if warn > crit => {
            ("disk", "warns only after it has failed", "`warn` below `crit`")
        }
        CheckSettings::Gpu { warn, crit, .. } if warn > crit => {
            ("gpu.memory", "warns only after it has failed", "`warn` below `crit`")
        }
        CheckSettings::Http(_)
        | CheckSettings::Tcp { .. }
        | CheckSettings::Grpc { .. }
        | CheckSettings::Exec { .. }
        | CheckSettings::Disk { .. }
        | CheckSettings::Gpu { .. }
        | CheckSettings::Custom { .. }
        | CheckSettings::Process
        | CheckSettings::Resources
        | CheckSettings::Heartbeat
        | CheckSettings::Actor => return None,
    };
    Some(Problem::new(place(key), format!("probe `{name}` of {owner} {what}")).help(help))
}

/// Whether this probe makes the worker ready under `ready = "probe"`: a start-up check, else a readiness check, else a
/// liveness check; the first of its kind by name.
#[must_use]
pub(crate) fn stands_for_readiness(worker: &WorkerSettings, probe: &ProbeSettings) -> bool {
    let looks = |one: &&ProbeSettings| one.check != CheckSettings::Heartbeat;
    let first = [ProbeKind::Startup, ProbeKind::Readiness, ProbeKind::Liveness]
        .into_iter()
        .find_map(|kind| worker.probes.iter().filter(looks).find(|one| one.kind == kind));
    first.is_some_and(|first| first.name == probe.name)
}

/// In the words of the file.
pub(super) fn words(one: &ProbeSettings) -> Value {
    let mut map = Map::new();
    map.insert("kind".to_owned(), one.kind.word().into());
    let (key, check) = match &one.check {
        CheckSettings::Http(http) => (
            "http",
            json!({
                "url": http.url,
                "unix": http.unix,
                "method": http.method,
                "headers": http.headers,
                "expect_status":
                    http.expect_status.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
                "expect_body": http.expect_body,
            }),
        ),
        CheckSettings::Tcp { address } => ("tcp", json!(address)),
        CheckSettings::Grpc { host, service } => ("grpc", json!({ "host": host, "service": service })),
        CheckSettings::Exec { command, format } => {
            let format = match format {
                ExecFormat::Plain => "plain",
                ExecFormat::Nagios => "nagios",
            };
            ("exec", json!({ "command": command, "format": format }))
        }
        CheckSettings::Process => ("process", json!({})),
        CheckSettings::Resources => ("resources", json!({})),
        CheckSettings::Disk { path, warn, crit } => {
            ("disk", json!({ "path": path, "warn": warn, "crit": crit }))
        }
        CheckSettings::Gpu { device, warn, crit } => {
            ("gpu", json!({ "device": device, "memory": { "warn": warn, "crit": crit } }))
        }
        CheckSettings::Heartbeat => ("heartbeat", json!({})),
        CheckSettings::Actor => ("actor", json!({})),
        CheckSettings::Custom { name } => ("custom", json!(name)),
    };
    map.insert(key.to_owned(), check);
    for (key, time) in [
        ("initial_delay", one.initial_delay),
        ("period", one.period),
        ("retry_period", one.retry_period),
        ("timeout", one.timeout),
    ] {
        map.insert(key.to_owned(), format_duration(time).into());
    }
    map.insert("failure_threshold".to_owned(), one.failure_threshold.into());
    map.insert("success_threshold".to_owned(), one.success_threshold.into());
    map.insert("weight".to_owned(), one.weight.into());
    Value::Object(map)
}

/// In the words of the file.
pub(super) fn heartbeat_words(one: &HeartbeatSettings) -> Value {
    json!({
        "interval": format_duration(one.interval),
        "late": format_duration(one.late),
        "lost": format_duration(one.lost),
        "dead": format_duration(one.dead),
    })
}

/// In the words of the file.
pub(super) fn threshold_words(one: &ThresholdSettings) -> Value {
    let mark = |mark: &MarkSettings| {
        json!({
            "warn": mark.warn,
            "crit": mark.crit,
            "warn_bytes": mark.warn_bytes.map(format_size),
            "for": format_duration(mark.lasting),
        })
    };
    json!({
        "cpu": mark(&one.cpu),
        "memory": mark(&one.memory),
        "progress": { "crit": one.progress.map(format_duration) },
        "errors_per_minute": {
            "warn": one.errors_per_minute.map(|rate| rate.warn),
            "crit": one.errors_per_minute.and_then(|rate| rate.crit),
        },
    })
}
