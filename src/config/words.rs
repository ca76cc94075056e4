//! Settings back in the words of the file: what `GET /api/v1/config` shows and what a diff compares.
//!
//! Values are plain JSON under the file's own keys, so that one writing serves both readers and a key that is
//! left out here is missed by a test. Nothing is hidden here; whoever shows it hides what sounds like a secret.

use serde_json::{Map, Value, json};

use crate::exit::signal_name;
use crate::policy::{AutoShutdown, OnExhausted, Restart, RestartStrategy};
use crate::units::{format_duration, format_size};

use super::isolation::SecretSource;
use super::probes;
use super::settings::{
    LogOnFull, LogTo, ReadyWhen, Remedy, Settings, StderrTo, StopTo, StrategySettings, SupervisorSettings,
    WorkerSettings,
};
use super::template::Template;

/// Parts of names of variables whose values are not shown: an answer ends up in tickets and chats.
const SECRET: [&str; 6] = ["SECRET", "TOKEN", "PASSWORD", "PASSWD", "CREDENTIAL", "KEY"];

/// What stands in place of a secret.
pub(crate) const HIDDEN: &str = "(hidden)";

/// Whether the value of a variable of this name is for nobody's eyes.
pub(crate) fn is_secret(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    SECRET.iter().any(|part| upper.contains(part))
}

/// The tables without names: `runtime`, `http`, `telemetry`, `store`, `recovery`, and the error classes.
pub(crate) fn sections(settings: &Settings) -> Map<String, Value> {
    let runtime = &settings.runtime;
    let sections = json!({
        "runtime": {
            "name": runtime.name,
            "state_dir": runtime.state_dir.display().to_string(),
            "shutdown_timeout": format_duration(runtime.shutdown_timeout),
            "control": {
                "mode": format!("{:04o}", runtime.control.mode),
                "group": runtime.control.group,
                "role": runtime.control.role,
            },
        },
        "http": {
            "listen": settings.http.listen.map(|address| address.to_string()).unwrap_or_default(),
            "probe_listen": settings.http.probe_listen.map(|address| address.to_string()).unwrap_or_default(),
        },
        "recovery": {
            "max_parallel": settings.recovery.limits.max_parallel,
            "max_unavailable": settings.recovery.limits.max_unavailable,
            "min_failing": settings.recovery.limits.min_failing,
            "window": format_duration(settings.recovery.limits.window),
        },
        "error_class": settings.recovery.classes.iter().map(class).collect::<Vec<_>>(),
        "telemetry": {
            "log": {
                "level": settings.telemetry.log_level,
                "format": if settings.telemetry.log_json { "json" } else { "text" },
            },
            "seed_names": settings.telemetry.seed_names,
        },
        "store": {
            "retention": {
                "events": format_duration(settings.store.events),
                "samples": format_duration(settings.store.samples),
            },
            "max_disk": format_size(settings.store.max_disk),
        },
    });
    into_map(sections)
}

/// `[supervisor.NAME]`
pub(crate) fn supervisor(one: &SupervisorSettings) -> Map<String, Value> {
    let never = || "never".to_owned();
    into_map(json!({
        "strategy": match one.strategy {
            RestartStrategy::OneForOne => "one_for_one",
            RestartStrategy::OneForAll => "one_for_all",
            RestartStrategy::RestForOne => "rest_for_one",
            RestartStrategy::SimpleOneForOne => "simple_one_for_one",
        },
        "intensity": {
            "max_restarts": one.intensity.max_restarts,
            "within": format_duration(one.intensity.within),
        },
        "on_exhausted": match one.on_exhausted {
            OnExhausted::Quarantine => "quarantine",
            OnExhausted::Escalate => "escalate",
        },
        "retry_first": one.retry.map_or_else(never, |retry| format_duration(retry.first)),
        "retry_every": one.retry.map_or_else(never, |retry| format_duration(retry.every)),
        "children": one.children.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "auto_shutdown": match one.auto_shutdown {
            AutoShutdown::Never => "never",
            AutoShutdown::AnySignificant => "any_significant",
            AutoShutdown::AllSignificant => "all_significant",
        },
    }))
}

/// `[worker.NAME]`
pub(crate) fn worker(one: &WorkerSettings) -> Map<String, Value> {
    into_map(json!({
        "command": one.command,
        "actor": one.actor,
        "config": one.config.value(),
        "snapshot": { "every": format_duration(one.snapshot.every), "on_stop": one.snapshot.on_stop },
        "blocking": one.blocking,
        "restart": match one.restart {
            Restart::Permanent => "permanent",
            Restart::Transient => "transient",
            Restart::Temporary => "temporary",
        },
        "significant": one.significant,
        "critical": one.critical,
        "enabled": one.enabled,
        "after": one.after.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "ready": match &one.ready {
            ReadyWhen::Started => json!("started"),
            ReadyWhen::Notify => json!("notify"),
            ReadyWhen::Probe => json!("probe"),
            ReadyWhen::Log(pattern) => json!({ "log": pattern.as_str() }),
        },
        "start_timeout": format_duration(one.start_timeout),
        "min_uptime": format_duration(one.min_uptime),
        "stop": {
            "signal": signal_name(one.stop.signal),
            "to": match one.stop.to { StopTo::Main => "main", StopTo::Group => "group" },
            "drain": format_duration(one.stop.drain),
            "timeout": format_duration(one.stop.timeout),
            "unresponsive_timeout": format_duration(one.stop.unresponsive_timeout),
        },
        "backoff": {
            "first": format_duration(one.backoff.first),
            "factor": one.backoff.factor,
            "max": format_duration(one.backoff.max),
            "jitter": one.backoff.jitter,
            "reset_after": format_duration(one.backoff.reset_after),
        },
        "instances": one.instances,
        "pool": one.pool.map(|pool| json!({ "min": pool.min, "max": pool.max })),
        "recycle": recycle(one),
        "port": one.port.map(|base| json!({ "base": base })),
        "reload": one.reload.map(|signal| json!({ "signal": signal_name(signal) })),
        "cwd": one.cwd.display().to_string(),
        "env": one.env,
        "inherit_env": one.inherit_env,
        "user": one.isolation.user,
        "group": one.isolation.group,
        "umask": one.isolation.umask.map(|mask| format!("{mask:03o}")),
        "nice": one.isolation.nice,
        "oom_score_adj": one.isolation.oom_score_adj,
        "no_new_privs": one.isolation.no_new_privs,
        "limits": {
            "memory": one.isolation.limits.memory.map(format_size),
            "cpu": one.isolation.limits.cpu,
            "open_files": one.isolation.limits.open_files,
            "processes": one.isolation.limits.processes,
        },
        "secrets": secrets(one),
        "pid_file": one.daemon.pid_file.as_ref().map(|path| path.display().to_string()),
        "adopt_running": one.daemon.adopt_running,
        "exit_codes": { "normal": one.exit_codes.normal.to_vec(), "fatal": one.exit_codes.fatal.to_vec() },
        "log": log(one),
        "on": {
            "connection_reset": one.on.connection_reset.as_ref().map(remedy),
            "memory_cleanup": one.on.memory_cleanup.as_ref().map(remedy),
            "capture": one.on.capture.as_ref().map(|argv| json!({ "command": argv })),
        },
        "ladder": one.ladder.word(),
        "probe": one.probes.iter().map(|probe| (probe.name.clone(), probes::words(probe))).collect::<Map<_, _>>(),
        "heartbeat": one.heartbeat.as_ref().map(probes::heartbeat_words),
        "threshold": probes::threshold_words(&one.threshold),
    }))
}

fn class(one: &crate::recovery::ErrorClass) -> Value {
    json!({
        "name": one.name,
        "match": one.pattern.as_ref().map(|pattern| pattern.as_str().to_owned()),
        "exit_code": one.exit_code,
    })
}

fn remedy(one: &Remedy) -> Value {
    match one {
        Remedy::Signal(signal) => json!({ "signal": signal_name(*signal) }),
        Remedy::Command(argv) => json!({ "command": argv }),
    }
}

/// The steps of a ladder in one line, as `soft_restart ×3, hard_restart ×2, quarantine`.
pub(crate) fn ladder(one: &crate::recovery::Ladder) -> Map<String, Value> {
    let step = |step: &crate::recovery::Step| {
        let mut text = step.run.to_string();
        if step.attempts > 1 {
            text.push_str(&format!(" ×{}", step.attempts));
        }
        if !step.when.is_empty() {
            text.push_str(&format!(" for {}", step.when.join(", ")));
        }
        if !step.delay.is_zero() {
            text.push_str(&format!(" after {}", format_duration(step.delay)));
        }
        if let Some(approval) = step.approval {
            text.push_str(&format!(", to be approved within {}", format_duration(approval)));
        }
        text
    };
    let breaker = &one.breaker;
    into_map(json!({
        "steps": one.steps.iter().map(step).collect::<Vec<_>>(),
        "cooldown": format_duration(one.cooldown),
        "learn": one.learn,
        "breaker": {
            "open_after": breaker.open_after,
            "within": format_duration(breaker.within),
            "half_open_after": format_duration(breaker.half_open_after),
        },
    }))
}

/// `[strategy.*]`
pub(crate) fn strategies(all: &std::collections::BTreeMap<crate::id::Name, StrategySettings>) -> Value {
    let one = |own: &StrategySettings| {
        json!({
            "command": own.command,
            "timeout": format_duration(own.timeout),
            "cost": own.cost.map(format_duration),
        })
    };
    all.iter().map(|(name, own)| (name.to_string(), one(own))).collect::<Map<_, _>>().into()
}

/// Where they come from; what they are is not known here.
fn secrets(one: &WorkerSettings) -> Value {
    let source = |source: &SecretSource| match source {
        SecretSource::File(path) => json!({ "file": path.display().to_string() }),
        SecretSource::Env(name) => json!({ "env": name }),
    };
    one.isolation
        .secrets
        .iter()
        .map(|(name, from)| (name.clone(), source(from)))
        .collect::<Map<_, _>>()
        .into()
}

/// `[template.NAME]`
pub(crate) fn template(one: &Template) -> Map<String, Value> {
    let mut words = worker(one.sample());
    let params = one.params().map(|(name, pattern)| (name.to_owned(), pattern.into()));
    words.insert("params".to_owned(), Value::Object(params.collect()));
    words.insert("max".to_owned(), one.max.into());
    words
}

fn recycle(one: &WorkerSettings) -> Value {
    one.recycle.as_ref().map_or(Value::Null, |recycle| {
        json!({
            "after": recycle.after.map(format_duration),
            "jitter": recycle.jitter,
            "memory": recycle.memory.map(format_size),
        })
    })
}

fn log(one: &WorkerSettings) -> Value {
    json!({
        "to": match one.log.to { LogTo::File => "file", LogTo::Stdout => "stdout", LogTo::Both => "both", LogTo::Through => "through" },
        "max_size": format_size(one.log.max_size),
        "keep": one.log.keep,
        "max_line": format_size(one.log.max_line),
        "on_full": match one.log.on_full { LogOnFull::Drop => "drop", LogOnFull::Block => "block" },
        "stderr": match one.log.stderr { StderrTo::Merge => "merge", StderrTo::Separate => "separate" },
    })
}

fn into_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}
