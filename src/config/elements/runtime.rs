//! `[runtime]`: what the runtime is called and where it lives.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::leaf::{Leaf, Text};
use crate::config::schema::{Key, leaf, table};
use crate::config::settings::{RuntimeSettings, SocketSettings};

use super::de;

const ROLES: &[(&str, &str)] = &[("viewer", "viewer"), ("operator", "operator"), ("admin", "admin")];

pub(super) const KEYS: &[Key] = &[
    leaf("name", Leaf::Text(Text::Line)),
    leaf("state_dir", Leaf::Text(Text::Line)),
    leaf("shutdown_timeout", Leaf::Text(Text::Duration { zero: false })),
    table(
        "control",
        &[
            leaf("mode", Leaf::Text(Text::Mode)),
            leaf("group", Leaf::Text(Text::Line)),
            leaf("role", Leaf::Text(Text::Word(ROLES))),
        ],
    ),
];

/// `[runtime]` as written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawRuntime {
    name: Option<String>,
    state_dir: Option<String>,
    #[serde(deserialize_with = "de::duration")]
    shutdown_timeout: Duration,
    control: RawControl,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawControl {
    #[serde(deserialize_with = "de::mode")]
    mode: u32,
    group: Option<String>,
    role: String,
}

impl RawRuntime {
    /// Fills in what depends on the machine: the host's name and, without a `state_dir`, `$STATE_DIRECTORY` or
    /// `.regrow` beside the file.
    pub(in crate::config) fn settle(self, base: &Path, state_directory: Option<PathBuf>) -> RuntimeSettings {
        let state_dir = self
            .state_dir
            .map(PathBuf::from)
            .or(state_directory)
            .map_or_else(|| base.join(".regrow"), |dir| base.join(dir));
        RuntimeSettings {
            name: self.name.unwrap_or_else(host_name),
            state_dir,
            shutdown_timeout: self.shutdown_timeout,
            control: SocketSettings {
                mode: self.control.mode,
                group: self.control.group,
                role: self.control.role,
            },
        }
    }
}

/// The host's name, or `localhost` where there is none that could be printed.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if Text::Line.check(name).is_ok() { name.to_owned() } else { "localhost".to_owned() }
}
