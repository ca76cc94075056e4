//! How a worker can end: the whole space, each variant saying who caused it.
//!
//! Nothing downstream guesses from an exit code again: the runner that watched the end writes one of
//! these, the policy decides on it, and status, events and metrics print it. A start that failed is an
//! end too, with its reason spelled out, because «exit code 127» is not something one can act on at night.

use serde::{Deserialize, Serialize};

/// Why a start failed before the worker's own code ran, or before it was ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum StartFailure {
    /// The program is nowhere on the worker's `PATH`, or the path does not exist.
    NotFound {
        /// What was looked for.
        program: String,
    },
    /// The file is there, but may not be executed (mode, mount option, or a directory).
    NotExecutable {
        /// The file.
        program: String,
    },
    /// The kernel does not know this kind of file (`ENOEXEC`: no `#!` line, wrong architecture).
    BadFormat {
        /// The file.
        program: String,
    },
    /// The working directory is not there or not accessible.
    NoSuchDirectory {
        /// The directory.
        path: String,
    },
    /// The configured user or group does not exist.
    NoSuchUser {
        /// The user or group.
        name: String,
    },
    /// The runtime may not start a worker in that way.
    NotPermitted {
        /// What is not permitted, and what to do.
        detail: String,
    },
    /// A secret cannot be read.
    NoSecret {
        /// The variable.
        name: String,
        /// Where it should come from, and why it does not. Never the secret.
        detail: String,
    },
    /// The machine is short of processes, memory or files (`EAGAIN`, `ENOMEM`, `EMFILE`, `ENFILE`), or the state directory
    /// is not there. Never counted in intensity.
    Resources {
        /// The system's words.
        detail: String,
    },
    /// The process of an earlier incarnation still lives, so a second copy was not started.
    StillAlive {
        /// Who lives: a pid, a cgroup, a held fence.
        detail: String,
    },
    /// It ended before it was ready.
    BeforeReady {
        /// How it ended.
        ended: Box<Exit>,
    },
    /// It ended before `min_uptime` was over.
    TooShort {
        /// How it ended.
        ended: Box<Exit>,
    },
    /// Another step of the start failed.
    System {
        /// The step and the system's words.
        detail: String,
    },
}

/// How one incarnation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Exit {
    /// It ended by itself with this code.
    Exited {
        /// Exit code, 0 to 255.
        code: i32,
    },
    /// A signal that regrow did not send ended it.
    Signaled {
        /// Signal number.
        signal: i32,
    },
    /// It was killed for memory: by the kernel, or by regrow for want of a kernel that bounds it.
    Oom,
    /// A signal ended it and left a core dump.
    Core {
        /// Signal number.
        signal: i32,
    },
    /// It never ran, or ended before it was ready.
    StartFailed(StartFailure),
    /// It was not ready within `start_timeout`; regrow ended it.
    StartTimeout,
    /// It did not end within `stop.timeout` after it was asked, or had more processes than its limit where the kernel does
    /// not hold it to that; regrow killed it.
    Killed,
    /// It ended as it was asked to.
    Stopped,
    /// Code of an actor worker panicked.
    Panicked {
        /// The panic's message and location.
        message: String,
    },
    /// Code of an actor worker returned an error.
    Error {
        /// The error with its causes.
        message: String,
    },
    /// It ran and was unwell; regrow ended it for that.
    Unwell {
        /// What was wrong with it.
        cause: crate::cause::Cause,
    },
    /// It could not be ended (a blocked thread) and was left behind.
    Abandoned,
    /// Nobody saw how it ended (it died while no runtime lived). Treated as abnormal.
    Unknown,
}

impl Exit {
    /// The end itself, where it made a start fail.
    #[must_use]
    pub(crate) fn itself(&self) -> &Self {
        if let Self::StartFailed(StartFailure::BeforeReady { ended } | StartFailure::TooShort { ended }) =
            self
        {
            ended.itself()
        } else {
            self
        }
    }

    /// The contract's word for `last_exit.kind`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Exited { .. } => "exited",
            Self::Signaled { .. } => "signaled",
            Self::Oom => "oom",
            Self::Core { .. } => "core",
            Self::StartFailed(_) => "start_failed",
            Self::StartTimeout => "start_timeout",
            Self::Killed => "killed",
            Self::Stopped => "stopped",
            Self::Panicked { .. } => "panicked",
            Self::Error { .. } => "error",
            Self::Unwell { .. } => "killed",
            Self::Abandoned => "abandoned",
            Self::Unknown => "unknown",
        }
    }

    /// The exit code, where there is one (also of an end before readiness).
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Exited { code } => Some(*code),
            Self::StartFailed(StartFailure::BeforeReady { ended } | StartFailure::TooShort { ended }) => {
                ended.code()
            }
            Self::Signaled { .. }
            | Self::Oom
            | Self::Core { .. }
            | Self::StartFailed(_)
            | Self::StartTimeout
            | Self::Killed
            | Self::Stopped
            | Self::Panicked { .. }
            | Self::Error { .. }
            | Self::Unwell { .. }
            | Self::Abandoned
            | Self::Unknown => None,
        }
    }

    /// The signal number, where one ended it.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        match self {
            Self::Signaled { signal } | Self::Core { signal } => Some(*signal),
            Self::Oom | Self::Killed => Some(9),
            Self::StartFailed(StartFailure::BeforeReady { ended } | StartFailure::TooShort { ended }) => {
                ended.signal()
            }
            Self::Exited { .. }
            | Self::StartFailed(_)
            | Self::StartTimeout
            | Self::Stopped
            | Self::Panicked { .. }
            | Self::Error { .. }
            | Self::Unwell { .. }
            | Self::Abandoned
            | Self::Unknown => None,
        }
    }

    /// True for a start that failed by [`StartFailure::Resources`]: a shortage of the machine, not a fault of the worker.
    #[must_use]
    pub fn is_shortage(&self) -> bool {
        matches!(self, Self::StartFailed(StartFailure::Resources { .. }))
    }
}

impl std::fmt::Display for StartFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotFound { program } => write!(f, "program not found: {program}"),
            Self::NotExecutable { program } => write!(f, "not executable: {program}"),
            Self::BadFormat { program } => write!(f, "not a program this kernel can run: {program}"),
            Self::NoSuchDirectory { path } => write!(f, "no such directory: {path}"),
            Self::NoSuchUser { name } => write!(f, "no such user or group: {name}"),
            Self::NotPermitted { detail } => write!(f, "not permitted: {detail}"),
            Self::NoSecret { name, detail } => write!(f, "no value for the secret {name}: {detail}"),
            Self::Resources { detail } => write!(f, "the machine is short of resources: {detail}"),
            Self::StillAlive { detail } => write!(f, "an earlier incarnation still lives: {detail}"),
            Self::BeforeReady { ended } => write!(f, "ended before it was ready: {ended}"),
            Self::TooShort { ended } => write!(f, "ended before min_uptime: {ended}"),
            Self::System { detail } => f.write_str(detail),
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited { code } => write!(f, "exited with code {code}"),
            Self::Signaled { signal } => write!(f, "ended by signal {}", signal_name(*signal)),
            Self::Oom => f.write_str("killed: out of memory"),
            Self::Core { signal } => write!(f, "ended by signal {} (core dumped)", signal_name(*signal)),
            Self::StartFailed(reason) => write!(f, "start failed: {reason}"),
            Self::StartTimeout => f.write_str("not ready within start_timeout"),
            Self::Killed => f.write_str("killed by regrow"),
            Self::Stopped => f.write_str("stopped as asked"),
            Self::Panicked { message } => write!(f, "panicked: {message}"),
            Self::Error { message } => write!(f, "failed: {message}"),
            Self::Unwell { cause } => write!(f, "ended by regrow because it was unwell: {}", cause.word()),
            Self::Abandoned => f.write_str("could not be ended and was left behind"),
            Self::Unknown => f.write_str("nobody saw how it ended"),
        }
    }
}

/// The name of a Linux signal without `SIG`: `KILL` for 9; the number for one without a name.
///
/// ```
/// assert_eq!(regrow::exit::signal_name(15), "TERM");
/// ```
#[must_use]
pub fn signal_name(signal: i32) -> String {
    SIGNALS
        .iter()
        .find(|(number, _)| *number == signal)
        .map_or_else(|| signal.to_string(), |(_, name)| (*name).to_owned())
}

/// The number of a signal from its name, with or without `SIG`, any case, or from its number.
///
/// ```
/// assert_eq!(regrow::exit::signal_number("SIGTERM"), Some(15));
/// ```
#[must_use]
pub fn signal_number(text: &str) -> Option<i32> {
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Ok(number) = bare.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    SIGNALS.iter().find(|(_, name)| *name == bare).map(|(number, _)| *number)
}

/// The names that [`signal_number`] knows.
pub(crate) fn signal_names() -> impl Iterator<Item = &'static str> {
    SIGNALS.iter().map(|(_, name)| *name)
}

/// Numbers of x86-64 and aarch64 Linux, which agree.
const SIGNALS: [(i32, &str); 31] = [
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (4, "ILL"),
    (5, "TRAP"),
    (6, "ABRT"),
    (7, "BUS"),
    (8, "FPE"),
    (9, "KILL"),
    (10, "USR1"),
    (11, "SEGV"),
    (12, "USR2"),
    (13, "PIPE"),
    (14, "ALRM"),
    (15, "TERM"),
    (16, "STKFLT"),
    (17, "CHLD"),
    (18, "CONT"),
    (19, "STOP"),
    (20, "TSTP"),
    (21, "TTIN"),
    (22, "TTOU"),
    (23, "URG"),
    (24, "XCPU"),
    (25, "XFSZ"),
    (26, "VTALRM"),
    (27, "PROF"),
    (28, "WINCH"),
    (29, "IO"),
    (30, "PWR"),
    (31, "SYS"),
];
