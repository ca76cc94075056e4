//! The seam between a child of a supervisor and what runs it.

use std::sync::Arc;
use std::time::Duration;

use crate::exit::Exit;
use crate::id::{Incarnation, InstanceId};

/// What a runner tells about an incarnation, in this order: `Started`, `Ready`, and exactly one of
/// `StartFailed` and `Exited` as the end, after which nothing of the incarnation lives (`LastWords` and
/// `Backtrace` may follow).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum WorkerReport {
    /// The process exists.
    Started {
        /// Its pid; absent for a worker that is no process.
        pid: Option<u32>,
    },
    /// It ran already, as nobody's child of ours, and is looked after from now on.
    Adopted {
        /// Its pid.
        pid: u32,
    },
    /// How it is held, and what it could not be given; comes before `Started`, and replaces what was told before.
    Notes {
        /// Sentences.
        texts: Vec<String>,
    },
    /// It is ready.
    Ready,
    /// There is nothing to run, and that is no failure (OTP's `ignore`).
    Skipped,
    /// It never became ready, and nothing of it lives.
    StartFailed {
        /// Why.
        exit: Exit,
        /// What a person can do about it, or its last words.
        hint: Option<String>,
    },
    /// It ended after it was ready, and nothing of its tree lives.
    Exited {
        /// How.
        exit: Exit,
    },
    /// The code that it ended with, where the end that is reported next does not say it: it ended as it was asked to.
    Code {
        /// 0 to 255.
        code: i32,
    },
    /// What a person can do about the end that is reported next.
    Hint {
        /// One sentence.
        text: String,
    },
    /// The last lines it wrote, oldest first, at most a few; comes some time after its end, because reading
    /// them must not delay the restart.
    LastWords {
        /// The lines, lossily decoded.
        lines: Vec<String>,
    },
    /// Something is wrong with it.
    Issue {
        /// What; the same text while it lasts.
        text: String,
    },
    /// Something that was found out about it, for whoever looks for a cause later: an issue goes with its reason.
    Finding {
        /// What.
        text: String,
    },
    /// It is wrong no longer.
    IssueOver {
        /// The text that it was told with.
        text: String,
    },
    /// It ended before it had read these messages; they are dropped.
    Unread {
        /// How many.
        count: usize,
    },
    /// The stack of the panic that ended it; comes some time after its end, when nobody may supervise it any more.
    Backtrace {
        /// Whose.
        instance: InstanceId,
        /// The end that it led to.
        led_to: Exit,
        /// One frame after the other.
        text: String,
    },
    /// The main process changed (`MAINPID=`).
    MainPid {
        /// The new one.
        pid: u32,
    },
    /// It asked for more time (`EXTEND_TIMEOUT_USEC`).
    Extend {
        /// From now.
        by: Duration,
    },
    /// A line about itself (`STATUS=`).
    Status {
        /// The line.
        text: String,
    },
    /// It is alive (`WATCHDOG=1`).
    Beat,
    /// Figures that it sent along with a heartbeat.
    Figures {
        /// How far it is, in a measure of its own.
        progress: Option<f64>,
        /// Whether that is another one than it told before.
        moved: bool,
        /// Others, by name.
        metrics: Vec<(String, f64)>,
    },
    /// Something went wrong in it, by its own word, and it goes on.
    Trouble {
        /// The class that it gives it.
        class: Option<String>,
        /// In words.
        message: String,
    },
    /// It says that it does not work (`WATCHDOG=trigger`).
    Distress,
    /// It announced its end (`STOPPING=1`).
    Stopping,
    /// It reloads its configuration (`RELOADING=1`); `Ready` follows.
    Reloading,
    /// The main process ended, but others of its tree live on and are being killed.
    Leftovers {
        /// How many are known, where that can be counted.
        count: Option<u32>,
    },
}

/// Where a runner reports to. Never blocks; may be called from any thread.
pub type Reporter = Arc<dyn Fn(Incarnation, WorkerReport) + Send + Sync>;

/// Something to do for a step of recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Which start it is about; the newest, if the worker is down.
    pub incarnation: Incarnation,
    /// Its main process, if it has one that runs.
    pub pid: Option<u32>,
    /// Given up after this long.
    pub timeout: Duration,
    /// What.
    pub deed: Deed,
}

/// What is done for a step of recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deed {
    /// Write down what can be seen of it.
    Look,
    /// Make its connections anew.
    ResetConnections,
    /// Give back memory.
    TrimMemory,
    /// Put its state away.
    Archive,
    /// The same, and what starts next is another identity.
    Recreate,
    /// Run a command beside it.
    Run {
        /// The program and its arguments, with placeholders.
        argv: Vec<String>,
    },
}

impl Deed {
    /// In one word, for messages.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Look => "looking at it",
            Self::ResetConnections => "connection_reset",
            Self::TrimMemory => "memory_cleanup",
            Self::Archive => "putting its state away",
            Self::Recreate => "beginning a new identity",
            Self::Run { .. } => "a command",
        }
    }
}

/// What was seen: where, and what.
pub type Sights = Vec<(&'static str, String)>;

/// Called once with what came of a job: what was seen, or why it was not done.
pub type Done = Box<dyn FnOnce(Result<Sights, String>) + Send>;

/// Starts and stops one instance, one incarnation at a time. Every method returns at once; what comes of it
/// is reported. `start` is called only after the end of the incarnation before.
///
/// Object-safe: processes, actors and the scripted workers of tests implement it.
pub trait Runner: Send {
    /// Gives it a second way to report, for threads that have nothing better to do and hold no lock: what follows from
    /// the report is done before it returns. Nobody must use it.
    fn lend(&mut self, _doing: &Reporter) {}
    /// Begins to start this incarnation.
    fn start(&mut self, incarnation: Incarnation);
    /// Asks it to end.
    fn stop(&mut self);
    /// Sends a signal to its main process. What is no process has none, and whoever asks for it is refused before.
    fn signal(&mut self, _signal: i32) {}
    /// Its probe has passed: it is ready (`ready = "probe"`). Without effect on one that is ready already.
    fn set_ready(&mut self) {}
    /// Kills its whole tree. May be called again if it does not help.
    fn kill(&mut self);
    /// Does something for a step of recovery, beside starting and stopping it.
    fn perform(&mut self, job: Job, done: Done) {
        done(Err(format!("{} cannot be done to this kind of worker", job.deed.word())));
    }
}
