//! `[worker.NAME.probe.*]`, `[worker.NAME.heartbeat]` and `[worker.NAME.threshold]`: how a worker is looked at.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::leaf::{Leaf, Text};
use crate::config::probes::{
    CheckSettings, ExecFormat, HeartbeatSettings, HttpCheck, MarkSettings, ProbeSettings, RateSettings,
    StatusRange, ThresholdSettings,
};
use crate::config::schema::{Key, Shape, leaf, table};
use crate::health::ProbeKind;

use super::de;

const KIND: &[(&str, &str)] = &[("liveness", "liveness"), ("readiness", "readiness"), ("startup", "startup")];
const METHOD: &[(&str, &str)] = &[("GET", "GET"), ("HEAD", "HEAD"), ("POST", "POST"), ("OPTIONS", "OPTIONS")];
const FORMAT: &[(&str, &str)] = &[("plain", "plain"), ("nagios", "nagios")];

const TIME: Leaf = Leaf::Text(Text::Duration { zero: true });
const POSITIVE: Leaf = Leaf::Text(Text::Duration { zero: false });
/// Of a whole; a disk is never more than full.
const RATIO: Leaf = Leaf::Number { min: 0.0, max: 1.0 };
/// Of what it may use; more than all of that is never reached.
const MARK: Leaf = Leaf::Number { min: 0.01, max: 1.0 };
/// By the minute. Less than one in five minutes cannot be told from none.
const RATE: Leaf = Leaf::Number { min: 0.2, max: 1e6 };
/// More in a row would be hours at the usual period.
const TIMES: Leaf = Leaf::Integer { min: 1, max: 1000 };

/// What can be looked at; a probe has exactly one of these.
pub(in crate::config) const CHECKS: [&str; 11] =
    ["http", "tcp", "grpc", "exec", "process", "resources", "disk", "gpu", "heartbeat", "actor", "custom"];

pub(super) const PROBE: Key = Key { name: "probe", shape: Shape::Each("probe", KEYS) };

const KEYS: &[Key] = &[
    leaf("kind", Leaf::Text(Text::Word(KIND))),
    table(
        "http",
        &[
            leaf("url", Leaf::Text(Text::Template)),
            leaf("unix", Leaf::Text(Text::Template)),
            leaf("method", Leaf::Text(Text::Word(METHOD))),
            Key { name: "headers", shape: Shape::Texts(Leaf::Text(Text::Template)) },
            leaf("expect_status", Leaf::Text(Text::Statuses)),
            leaf("expect_body", Leaf::Text(Text::Any)),
        ],
    ),
    leaf("tcp", Leaf::Text(Text::Template)),
    table("grpc", &[leaf("host", Leaf::Text(Text::Template)), leaf("service", Leaf::Text(Text::Template))]),
    Key {
        name: "exec",
        shape: Shape::LeafOr(
            Leaf::Texts(Text::Template),
            &[leaf("command", Leaf::Texts(Text::Template)), leaf("format", Leaf::Text(Text::Word(FORMAT)))],
        ),
    },
    table("process", &[]),
    table("resources", &[]),
    table("disk", &[leaf("path", Leaf::Text(Text::Template)), leaf("warn", RATIO), leaf("crit", RATIO)]),
    table(
        "gpu",
        &[
            leaf("device", Leaf::Text(Text::Template)),
            table("memory", &[leaf("warn", RATIO), leaf("crit", RATIO)]),
        ],
    ),
    table("heartbeat", &[]),
    table("actor", &[]),
    leaf("custom", Leaf::Text(Text::Line)),
    leaf("initial_delay", TIME),
    leaf("period", POSITIVE),
    leaf("retry_period", POSITIVE),
    leaf("timeout", POSITIVE),
    leaf("failure_threshold", TIMES),
    leaf("success_threshold", TIMES),
    leaf("weight", Leaf::Number { min: 0.0, max: 1000.0 }),
];

pub(super) const HEARTBEAT: Key = table(
    "heartbeat",
    &[leaf("interval", POSITIVE), leaf("late", POSITIVE), leaf("lost", POSITIVE), leaf("dead", POSITIVE)],
);

pub(super) const THRESHOLD: Key = table(
    "threshold",
    &[
        table("cpu", &[leaf("warn", MARK), leaf("crit", MARK), leaf("for", TIME)]),
        table(
            "memory",
            &[
                leaf("warn", MARK),
                leaf("crit", MARK),
                leaf("warn_bytes", Leaf::Text(Text::Size { min: 4 << 10, max: 1 << 50 })),
                leaf("for", TIME),
            ],
        ),
        table("progress", &[leaf("crit", POSITIVE)]),
        table("errors_per_minute", &[leaf("warn", RATE), leaf("crit", RATE)]),
    ],
);

/// `[worker.NAME.probe.NAME]` as written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawProbe {
    #[serde(default = "liveness")]
    kind: ProbeKind,
    http: Option<RawHttp>,
    tcp: Option<String>,
    grpc: Option<RawGrpc>,
    exec: Option<RawExec>,
    process: Option<Nothing>,
    resources: Option<Nothing>,
    disk: Option<RawDisk>,
    gpu: Option<RawGpu>,
    heartbeat: Option<Nothing>,
    actor: Option<Nothing>,
    custom: Option<String>,
    #[serde(default, deserialize_with = "de::duration")]
    initial_delay: Duration,
    #[serde(default = "half_a_minute", deserialize_with = "de::duration")]
    period: Duration,
    #[serde(default = "a_second", deserialize_with = "de::duration")]
    retry_period: Duration,
    #[serde(default = "five_seconds", deserialize_with = "de::duration")]
    timeout: Duration,
    #[serde(default = "three")]
    failure_threshold: u32,
    #[serde(default = "one")]
    success_threshold: u32,
    #[serde(default = "whole")]
    weight: f64,
}

fn liveness() -> ProbeKind {
    ProbeKind::Liveness
}

fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}

fn a_second() -> Duration {
    Duration::from_secs(1)
}

fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

fn three() -> u32 {
    3
}

fn one() -> u32 {
    1
}

fn whole() -> f64 {
    1.0
}

/// A table that says all by being there.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHttp {
    url: Option<String>,
    unix: Option<String>,
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    expect_status: Option<String>,
    expect_body: Option<String>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGrpc {
    host: Option<String>,
    service: Option<String>,
}

/// A list, or a table.
#[derive(Debug, serde::Deserialize)]
#[serde(untagged)]
enum RawExec {
    Plain(Vec<String>),
    Told(RawCommand),
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCommand {
    command: Option<Vec<String>>,
    format: Option<ExecFormat>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDisk {
    path: Option<String>,
    warn: Option<f64>,
    crit: Option<f64>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGpu {
    device: Option<String>,
    memory: Option<RawGpuMemory>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGpuMemory {
    warn: Option<f64>,
    crit: Option<f64>,
}

/// `[worker.NAME.heartbeat]` as written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHeartbeat {
    #[serde(default, deserialize_with = "de::some_duration")]
    interval: Option<Duration>,
    #[serde(default, deserialize_with = "de::some_duration")]
    late: Option<Duration>,
    #[serde(default, deserialize_with = "de::some_duration")]
    lost: Option<Duration>,
    #[serde(default, deserialize_with = "de::some_duration")]
    dead: Option<Duration>,
}

/// `[worker.NAME.threshold]` as written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawThreshold {
    cpu: RawMark,
    memory: RawMark,
    progress: Option<RawProgress>,
    errors_per_minute: Option<RawRate>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProgress {
    #[serde(default, deserialize_with = "de::some_duration")]
    crit: Option<Duration>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRate {
    warn: Option<f64>,
    crit: Option<f64>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMark {
    warn: f64,
    crit: Option<f64>,
    #[serde(default, deserialize_with = "de::some_size")]
    warn_bytes: Option<u64>,
    #[serde(rename = "for", deserialize_with = "de::duration")]
    lasting: Duration,
}

impl RawProbe {
    /// Which checks it names; a right one names one.
    pub(super) fn checks(&self) -> Vec<&'static str> {
        let named = [
            self.http.is_some(),
            self.tcp.is_some(),
            self.grpc.is_some(),
            self.exec.is_some(),
            self.process.is_some(),
            self.resources.is_some(),
            self.disk.is_some(),
            self.gpu.is_some(),
            self.heartbeat.is_some(),
            self.actor.is_some(),
            self.custom.is_some(),
        ];
        CHECKS.into_iter().zip(named).filter(|(_, named)| *named).map(|(name, _)| name).collect()
    }

    pub(super) fn settle(self, name: String) -> ProbeSettings {
        let check = if let Some(http) = self.http {
            http.settle()
        } else if let Some(address) = self.tcp {
            CheckSettings::Tcp { address }
        } else if let Some(grpc) = self.grpc {
            CheckSettings::Grpc {
                host: grpc.host.unwrap_or_default(),
                service: grpc.service.unwrap_or_default(),
            }
        } else if let Some(exec) = self.exec {
            exec.settle()
        } else if let Some(disk) = self.disk {
            disk.settle()
        } else if let Some(gpu) = self.gpu {
            gpu.settle()
        } else if let Some(name) = self.custom {
            CheckSettings::Custom { name }
        } else if self.heartbeat.is_some() {
            CheckSettings::Heartbeat
        } else if self.resources.is_some() {
            CheckSettings::Resources
        } else if self.actor.is_some() {
            CheckSettings::Actor
        } else {
            CheckSettings::Process
        };
        ProbeSettings {
            name,
            kind: self.kind,
            check,
            initial_delay: self.initial_delay,
            period: self.period,
            retry_period: self.retry_period,
            timeout: self.timeout,
            failure_threshold: self.failure_threshold,
            success_threshold: self.success_threshold,
            weight: self.weight,
        }
    }
}

impl RawHttp {
    fn settle(self) -> CheckSettings {
        CheckSettings::Http(HttpCheck {
            url: self.url.unwrap_or_default(),
            unix: self.unix,
            method: self.method.unwrap_or_else(|| "GET".to_owned()),
            headers: self.headers,
            // Checked by the leaf.
            expect_status: StatusRange::parse_all(self.expect_status.as_deref().unwrap_or("200-399"))
                .unwrap_or_default(),
            expect_body: self.expect_body,
        })
    }
}

impl RawExec {
    fn settle(self) -> CheckSettings {
        match self {
            Self::Plain(command) => CheckSettings::Exec { command, format: ExecFormat::Plain },
            Self::Told(RawCommand { command, format }) => CheckSettings::Exec {
                command: command.unwrap_or_default(),
                format: format.unwrap_or(ExecFormat::Plain),
            },
        }
    }
}

impl RawDisk {
    fn settle(self) -> CheckSettings {
        CheckSettings::Disk {
            path: self.path.unwrap_or_else(|| "/".to_owned()),
            warn: self.warn.unwrap_or(0.85),
            crit: self.crit.unwrap_or(0.95),
        }
    }
}

impl RawGpu {
    fn settle(self) -> CheckSettings {
        let memory = self.memory.unwrap_or_default();
        CheckSettings::Gpu {
            device: self.device.unwrap_or_else(|| "auto".to_owned()),
            warn: memory.warn.unwrap_or(0.85),
            crit: memory.crit.unwrap_or(0.90),
        }
    }
}

impl RawHeartbeat {
    pub(super) fn settle(self) -> HeartbeatSettings {
        let usual = HeartbeatSettings::default();
        HeartbeatSettings {
            interval: self.interval.unwrap_or(usual.interval),
            late: self.late.unwrap_or(usual.late),
            lost: self.lost.unwrap_or(usual.lost),
            dead: self.dead.unwrap_or(usual.dead),
        }
    }
}

impl RawThreshold {
    pub(super) fn settle(self) -> ThresholdSettings {
        let mark = |raw: RawMark| MarkSettings {
            warn: raw.warn,
            crit: raw.crit,
            warn_bytes: raw.warn_bytes,
            lasting: raw.lasting,
        };
        // With `crit` alone there is nothing to warn of before.
        let rate = |raw: RawRate| Some(RateSettings { warn: raw.warn.or(raw.crit)?, crit: raw.crit });
        ThresholdSettings {
            cpu: mark(self.cpu),
            memory: mark(self.memory),
            progress: self.progress.and_then(|progress| progress.crit),
            errors_per_minute: self.errors_per_minute.and_then(rate),
        }
    }
}
