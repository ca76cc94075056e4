//! `[telemetry]`: the runtime's own log and the names of its metrics.

use crate::config::leaf::{Leaf, Text};
use crate::config::schema::{Key, leaf, table};
use crate::config::settings::TelemetrySettings;

const FORMATS: &[(&str, &str)] = &[("text", "text"), ("json", "json")];

pub(super) const KEYS: &[Key] = &[
    table(
        "log",
        &[leaf("level", Leaf::Text(Text::LogFilter)), leaf("format", Leaf::Text(Text::Word(FORMATS)))],
    ),
    leaf("seed_names", Leaf::Bool),
];

/// `[telemetry]` as written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawTelemetry {
    log: RawLog,
    seed_names: bool,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {
    level: String,
    format: String,
}

impl From<RawTelemetry> for TelemetrySettings {
    fn from(raw: RawTelemetry) -> Self {
        Self { log_level: raw.log.level, log_json: raw.log.format == "json", seed_names: raw.seed_names }
    }
}
