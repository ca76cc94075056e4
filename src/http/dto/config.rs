//! `regrow.config/1`: the settings in force, in the words of the file.
//!
//! Values of variables whose names sound like secrets are masked: an answer ends up in tickets and chats.
//! Where a value came from is not told here; `regrow check --explain` does.

use serde_json::{Value, json};

use crate::config::{
    Ladder, LogOnFull, LogTo, ReadyWhen, Settings, StderrTo, StopTo, SupervisorSettings, WorkerSettings,
};
use crate::exit::signal_name;
use crate::policy::{AutoShutdown, OnExhausted, Restart, RestartStrategy};
use crate::units::{format_duration, format_size};

/// Parts of names whose values are not shown.
const SECRET: [&str; 6] = ["SECRET", "TOKEN", "PASSWORD", "PASSWD", "CREDENTIAL", "KEY"];

/// The effective configuration as JSON.
#[must_use]
pub fn effective(settings: &Settings) -> Value {
    let runtime = &settings.runtime;
    let by_name = |pairs: Vec<(String, Value)>| Value::Object(pairs.into_iter().collect());
    json!({
        "schema": "regrow.config/1",
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
        "supervisor": by_name(settings.supervisors.iter().map(|one| (one.name.to_string(), supervisor(one))).collect()),
        "worker": by_name(settings.workers.iter().map(|one| (one.name.to_string(), worker(one))).collect()),
        "http": {
            "listen": settings.http.listen.map(|address| address.to_string()).unwrap_or_default(),
            "probe_listen": settings.http.probe_listen.map(|address| address.to_string()).unwrap_or_default(),
        },
        "telemetry": {
            "log": {
                "level": settings.telemetry.log_level,
                "format": if settings.telemetry.log_json { "json" } else { "text" },
            },
            "seed_names": settings.telemetry.seed_names,
        },
        "warnings": settings.warnings,
        "base_dir": settings.base_dir.display().to_string(),
    })
}

fn supervisor(one: &SupervisorSettings) -> Value {
    let never = || "never".to_owned();
    json!({
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
    })
}

fn worker(one: &WorkerSettings) -> Value {
    json!({
        "command": one.command,
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
            ReadyWhen::Log(pattern) => json!({ "log": pattern.as_str() }),
        },
        "start_timeout": format_duration(one.start_timeout),
        "min_uptime": format_duration(one.min_uptime),
        "stop": {
            "signal": signal_name(one.stop.signal),
            "to": match one.stop.to { StopTo::Main => "main", StopTo::Group => "group" },
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
        "cwd": one.cwd.display().to_string(),
        "env": one.env.iter().map(|(name, value)| (name.clone(), shown(name, value))).collect::<serde_json::Map<_, _>>(),
        "inherit_env": one.inherit_env,
        "exit_codes": { "normal": one.exit_codes.normal.to_vec(), "fatal": one.exit_codes.fatal.to_vec() },
        "log": log(one),
        "ladder": match one.ladder { Ladder::Default => "default", Ladder::None => "none" },
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

fn shown(name: &str, value: &str) -> Value {
    let upper = name.to_ascii_uppercase();
    let hidden = SECRET.iter().any(|part| upper.contains(part));
    Value::from(if hidden { "(hidden)" } else { value })
}
