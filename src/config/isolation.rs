//! What a process worker may do to the machine: as whom it runs, what it gets of it, which secrets it is told.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Keys of a worker that fence it in.
#[derive(Debug, Clone, PartialEq)]
pub struct Isolation {
    /// Name or number of the user it runs as; the runtime's own without one.
    pub user: Option<String>,
    /// Name or number of its group; the user's own without one.
    pub group: Option<String>,
    /// Permissions that its new files never have; those of the runtime without.
    pub umask: Option<u32>,
    /// Its priority, -20 (first) to 19 (last).
    pub nice: Option<i32>,
    /// How readily the kernel kills it for memory, -1000 (never) to 1000.
    pub oom_score_adj: Option<i32>,
    /// Whether programs it runs are kept from gaining rights (setuid).
    pub no_new_privs: bool,
    /// What its whole tree may use.
    pub limits: Limits,
    /// Variables whose values are read at each start and never shown.
    pub secrets: BTreeMap<String, SecretSource>,
}

impl Isolation {
    /// Whether it asks to run as somebody in particular.
    #[must_use]
    pub fn names_somebody(&self) -> bool {
        self.user.is_some() || self.group.is_some()
    }
}

/// `limits`
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// Bytes of memory of the whole tree.
    pub memory: Option<u64>,
    /// Cores that the whole tree may keep busy.
    pub cpu: Option<f64>,
    /// Open files of each of its processes.
    pub open_files: Option<u64>,
    /// Processes and threads of the whole tree.
    pub processes: Option<u64>,
}

/// Variables that only regrow sets: what somebody else says of them is not passed on.
pub(crate) const OURS: [&str; 7] = [
    "NOTIFY_SOCKET",
    "REGROW_WORKER",
    "REGROW_INSTANCE",
    "REGROW_INCARNATION",
    "REGROW_STATE_DIR",
    "REGROW_SOCKET",
    "REGROW_TOKEN",
];

/// Where a secret comes from. The secret itself is never part of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// The content of a file, without one newline at its end. Absolute.
    File(PathBuf),
    /// A variable of the runtime's own environment.
    Env(String),
}

/// A program that goes into the background and says in a file which process it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DaemonSettings {
    /// The file; absolute, or beginning with `{state_dir}`.
    pub pid_file: Option<PathBuf>,
    /// Whether one that runs already is taken over instead of starting a second one.
    pub adopt_running: bool,
}
