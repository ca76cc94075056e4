//! The part of `[worker.NAME]` that fences a process in: user, limits, secrets, pid file.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::isolation::{DaemonSettings, Isolation, Limits, SecretSource};
use crate::config::leaf::{Leaf, Text};
use crate::config::schema::{Key, Shape, leaf, table};

use super::de;
use super::worker::absolute;

pub(super) const USER: Key = leaf("user", Leaf::Text(Text::Line));
pub(super) const GROUP: Key = leaf("group", Leaf::Text(Text::Line));
pub(super) const UMASK: Key = leaf("umask", Leaf::Text(Text::Umask));
pub(super) const NICE: Key = leaf("nice", Leaf::Integer { min: -20, max: 19 });
pub(super) const OOM_SCORE_ADJ: Key = leaf("oom_score_adj", Leaf::Integer { min: -1000, max: 1000 });
pub(super) const NO_NEW_PRIVS: Key = leaf("no_new_privs", Leaf::Bool);
pub(super) const LIMITS: Key = table(
    "limits",
    &[
        // Below a mebibyte no program gets as far as its first line.
        leaf("memory", Leaf::Text(Text::Size { min: 1 << 20, max: 1 << 50 })),
        // A hundredth of a core is the smallest share the kernel gives out; 4096 cores are the most it knows.
        leaf("cpu", Leaf::Number { min: 0.01, max: 4096.0 }),
        // stdin, stdout and stderr, and something to load a library with.
        leaf("open_files", Leaf::Integer { min: 8, max: 1 << 30 }),
        leaf("processes", Leaf::Integer { min: 1, max: 1 << 22 }),
    ],
);
pub(super) const SECRETS: Key = Key {
    name: "secrets",
    shape: Shape::Secrets(&[leaf("file", Leaf::Text(Text::Line)), leaf("env", Leaf::Text(Text::Line))]),
};
pub(super) const PID_FILE: Key = leaf("pid_file", Leaf::Text(Text::Template));
pub(super) const ADOPT_RUNNING: Key = leaf("adopt_running", Leaf::Bool);

/// `limits`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    #[serde(default, deserialize_with = "de::some_size")]
    memory: Option<u64>,
    cpu: Option<f64>,
    open_files: Option<u64>,
    processes: Option<u64>,
}

/// One of `secrets`: one of both, as the check sees to.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSecret {
    file: Option<String>,
    env: Option<String>,
}

/// The keys of a worker that stand for themselves.
pub(super) struct RawIsolation {
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
    pub(super) umask: Option<u32>,
    pub(super) nice: Option<i32>,
    pub(super) oom_score_adj: Option<i32>,
    pub(super) no_new_privs: bool,
    pub(super) limits: RawLimits,
    pub(super) secrets: BTreeMap<String, RawSecret>,
}

impl RawIsolation {
    pub(super) fn settle(self, base: &Path) -> Isolation {
        let source = |raw: RawSecret| match raw.file {
            Some(path) => Some(SecretSource::File(base.join(path))),
            None => raw.env.map(SecretSource::Env),
        };
        let RawLimits { memory, cpu, open_files, processes } = self.limits;
        Isolation {
            user: self.user,
            group: self.group,
            umask: self.umask,
            nice: self.nice,
            oom_score_adj: self.oom_score_adj,
            no_new_privs: self.no_new_privs,
            limits: Limits { memory, cpu, open_files, processes },
            secrets: self.secrets.into_iter().filter_map(|(name, raw)| Some((name, source(raw)?))).collect(),
        }
    }
}

pub(super) fn daemon(base: &Path, pid_file: Option<&str>, adopt_running: bool) -> DaemonSettings {
    DaemonSettings { pid_file: pid_file.map(|path| absolute(base, path)), adopt_running }
}
