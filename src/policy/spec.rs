//! What a supervisor is told about itself and about each child: plain data, no defaults hidden in code paths.

use std::sync::Arc;
use std::time::Duration;

use crate::id::Incarnation;
use crate::recovery::Ladder;

/// Monotonic time since the runtime began. The pure core never reads a clock; the shell hands this in.
pub type Time = Duration;

/// Which siblings a restart touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartStrategy {
    /// Only the child that ended.
    OneForOne,
    /// Every child.
    OneForAll,
    /// The child that ended and all that were started after it.
    RestForOne,
    /// Dynamic children of one template (OTP's `simple_one_for_one`): no order, stopped in parallel.
    SimpleOneForOne,
}

/// When a child is restarted after an unasked end (R2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// After every end.
    Permanent,
    /// Only after an abnormal end.
    Transient,
    /// Never.
    Temporary,
}

/// How many restarts a window may hold before the supervisor gives up (R12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intensity {
    /// Restarts allowed in a window; 0 gives up at the first.
    pub max_restarts: u32,
    /// Length of the sliding window; an event exactly this old still counts.
    pub within: Duration,
}

/// What happens when intensity is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExhausted {
    /// Each child counts by itself and is parked.
    Quarantine,
    /// OTP: all children count together; the supervisor stops them and fails upward.
    Escalate,
}

/// Whether the end of significant children ends the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoShutdown {
    /// Never.
    Never,
    /// When any significant child ended by itself.
    AnySignificant,
    /// When the last significant child ended by itself.
    AllSignificant,
}

/// When a parked child is tried again; `None`: never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPark {
    /// First trial after parking.
    pub first: Duration,
    /// The doubling stops here.
    pub every: Duration,
}

/// Everything a supervisor is told about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct SupervisorSpec {
    /// Which siblings a restart touches.
    pub strategy: RestartStrategy,
    /// The restart budget.
    pub intensity: Intensity,
    /// What happens when it is spent.
    pub on_exhausted: OnExhausted,
    /// When a parked child is tried again.
    pub retry: Option<RetryPark>,
    /// Whether significant children end it.
    pub auto_shutdown: AutoShutdown,
    /// Seed of the jitter; equal seeds and facts give equal actions.
    pub seed: u64,
}

/// How a child is asked to end (R26).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Asked, then killed after this long.
    Timeout(Duration),
    /// Asked, and waited for without limit.
    Infinity,
    /// Killed at once.
    BrutalKill,
}

/// Delays between consecutive restarts of one child.
///
/// The first restart after a run of `reset_after`, or of the first incarnation, is immediate; the n-th
/// consecutive one (n ≥ 2) waits `min(max, first × factor^(n−2))`, spread by `± jitter` (a ratio).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// Delay before the second consecutive restart; zero switches backoff off.
    pub first: Duration,
    /// Growth per restart, at least 1.
    pub factor: f64,
    /// No delay is longer (before jitter).
    pub max: Duration,
    /// 0..1.
    pub jitter: f64,
    /// A run at least this long starts the count anew.
    pub reset_after: Duration,
}

/// Which exit codes mean what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitCodes {
    /// Codes of a normal end.
    pub normal: Arc<[i32]>,
    /// Codes that park the child at once, without retries.
    pub fatal: Arc<[i32]>,
}

/// Hands off: nothing is started, stopped or tried by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// When it ends by itself; `None`: only when somebody says so.
    pub until: Option<Time>,
}

/// Of which pool a child is one, and how many of it there may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolOf {
    /// The name that they share.
    pub worker: Arc<str>,
    /// At least.
    pub min: u32,
    /// At most.
    pub max: u32,
}

/// Leaf or node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildKind {
    /// A worker.
    Worker,
    /// A supervisor.
    Supervisor,
}

/// Everything a supervisor is told about one child.
#[derive(Debug, Clone, PartialEq)]
pub struct ChildSpec {
    /// Unique under its supervisor; an instance id or a supervisor's name.
    pub id: Arc<str>,
    /// When it is restarted.
    pub restart: Restart,
    /// How it is ended.
    pub shutdown: Shutdown,
    /// Leaf or node.
    pub kind: ChildKind,
    /// Whether its own end may end the supervisor.
    pub significant: bool,
    /// Delays between restarts.
    pub backoff: Backoff,
    /// What its exit codes mean.
    pub exit_codes: ExitCodes,
    /// Ends a slow start; `None` waits without limit.
    pub start_timeout: Option<Duration>,
    /// An end before this is a start failure.
    pub min_uptime: Duration,
    /// How long a trial start must hold before its history is cleared.
    pub verify: Duration,
    /// The steps of its recovery. Without steps there are plain restarts only, and incidents all the same; `None`: not
    /// even those, as with OTP.
    pub ladder: Option<Arc<Ladder>>,
    /// How long its own checks (probes, an expected heartbeat) may take to say how a new incarnation is; zero: it has
    /// none, and is well while it is ready. A step is verified only once they have spoken.
    pub heard_within: Duration,
    /// The pool that it is one of; a step of recovery changes how many there are within its bounds. `None`: their number
    /// is fixed.
    pub pool: Option<PoolOf>,
    /// True while a dependency named in `after` is not ready: a start is held back (`waiting`).
    pub held: bool,
    /// True if an operator stopped it in an earlier life of the runtime, or it is not `enabled`: not started at boot.
    pub stopped: bool,
    /// Set if an operator paused it in an earlier life of the runtime, and how long that still lasts.
    pub paused: Option<Pause>,
    /// The last incarnation it had under an earlier life of this supervisor; 0 for none. The next start is one higher,
    /// so that counting goes on over a restart of the supervisor itself.
    pub incarnation: Incarnation,
}
