//! For tests of users' own workers: a runtime under paused time, and faults on purpose.
//!
//! A [`Stage`] is a whole runtime inside of one test. Time stands still while anybody has something to do, and jumps to
//! the next thing that happens when nobody has: an hour of backoff takes a millisecond, and a scenario that is played
//! twice gives the same [`Moment`]s twice. What a worker saves on disk is the one thing that takes real time; time
//! stands still for that long, too, but of two workers that save at the same moment either may be first.
//!
//! ```
//! use std::time::Duration;
//!
//! use regrow::testing::{Fault, Stage};
//! use regrow::{Context, Restored, Runtime, Worker, WorkerError};
//!
//! struct Mailer;
//!
//! impl Worker for Mailer {
//!     type Config = ();
//!     type State = ();
//!     type Message = ();
//!
//!     async fn start(_: Context<Self>, (): (), _: Restored<()>) -> Result<Self, WorkerError> {
//!         Ok(Self)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // In a test: #[tokio::test(start_paused = true)]
//! let builder = Runtime::builder()
//!     .worker::<Mailer>("Mailer")
//!     .toml("[worker.mailer]\nactor = \"Mailer\"\nbackoff = { first = \"5s\", jitter = 0 }\n");
//! let stage = Stage::start(builder).await?;
//! stage.until("mailer", |mailer| mailer.ready).await?;
//! stage.inject("mailer", Fault::Panic("no network".to_owned()))?;
//! let mailer = stage.until("mailer", |mailer| mailer.ready && mailer.restarts == 1).await?;
//! assert!(mailer.last_exit.unwrap().message.starts_with("panicked: no network"));
//! stage.inject("mailer", Fault::Error("no network".to_owned()))?;
//! stage.until("mailer", |mailer| mailer.ready && mailer.restarts == 2).await?;
//! assert_eq!(stage.now(), Duration::from_secs(5), "at once at first, then after the pause");
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::Instant;

use crate::event::{Event, EventKind};
use crate::id::{Incarnation, InstanceId};
use crate::runtime::{Asker, Builder, Finished, RuntimeHandle, StartError, perform};
use crate::supervisor::InstanceState;
use crate::telemetry::Journal;
use crate::worker::in_process::Faults;

pub use crate::worker::in_process::Fault;

/// So long, by the clock of the stage, somebody waits for something: longer than what most configurations set, and passed
/// within a second or two when nothing else happens. For what comes later, such as a `retry_every` of a day, a test
/// lets that time [`pass`](Stage::pass) first.
const PATIENCE: Duration = Duration::from_secs(2 * 3600);

/// A runtime inside of one test, with its clock and with faults on purpose.
///
/// It needs `#[tokio::test(start_paused = true)]`, and with it tokio's feature `test-util`, and plays actor workers only:
/// Rust types and plain ractor actors. It keeps nothing: who was stopped by hand is not stopped on the next stage.
pub struct Stage {
    handle: RuntimeHandle,
    faults: Faults,
    seen: Arc<Seen>,
    dir: PathBuf,
}

/// Why there is no stage, or nothing to strike on it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// Time goes on by itself.
    #[error(
        "the clock of this test is not paused: use #[tokio::test(start_paused = true)], which needs tokio's feature `test-util`"
    )]
    NotPaused,
    /// Workers that live by the machine's clock.
    #[error("a stage plays actor workers only, and these are processes: {}", .0.join(", "))]
    Processes(Vec<String>),
    /// It has no directory.
    #[error("cannot make a directory for the state of its workers: {0}")]
    Directory(#[from] std::io::Error),
    /// The configuration is wrong.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Nobody has that name.
    #[error("there is no instance `{0}` on the stage; a copy of a pool is called NAME/INDEX")]
    NotFound(String),
}

/// What was waited for did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("waited two hours of the stage's clock in vain for {what}; what happened until then:\n{script}")]
pub struct InVain {
    /// For what.
    pub what: String,
    /// What happened instead.
    pub script: String,
}

/// Something that happened on a stage. The same scenario gives the same moments in the same order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// When, from the start of the stage on, by its clock.
    pub at: Duration,
    /// What.
    pub kind: EventKind,
    /// To whom, if to one instance.
    pub instance: Option<InstanceId>,
    /// Which start of it.
    pub incarnation: Option<Incarnation>,
    /// In words; of an end how it ended, without how long it had lived by the machine's clock.
    pub text: String,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9.3}s {}", self.at.as_secs_f64(), self.kind.word())?;
        if let Some(instance) = &self.instance {
            write!(f, " {instance}")?;
        }
        if let Some(incarnation) = self.incarnation {
            write!(f, " #{incarnation}")?;
        }
        write!(f, ": {}", self.text)
    }
}

impl Stage {
    /// Starts what this builder knows, on a directory of its own. Returns once the boot has begun.
    ///
    /// # Errors
    /// [`StageError`].
    pub async fn start(builder: Builder) -> Result<Self, StageError> {
        if !is_paused() {
            return Err(StageError::NotPaused);
        }
        let (mut settings, registry) = builder.into_parts()?;
        let processes = settings.workers.iter().filter(|worker| worker.actor.is_none());
        let processes: Vec<String> = processes.map(|worker| worker.name.to_string()).collect();
        if !processes.is_empty() {
            return Err(StageError::Processes(processes));
        }
        let dir = own_dir()?;
        settings.runtime.state_dir.clone_from(&dir);
        let faults = Faults::default();
        let began = Instant::now();
        let handle = perform(settings, registry.with_faults(&faults)).await?;
        let seen = Arc::new(Seen { journal: handle.journal().clone(), began, moments: Mutex::default() });
        tokio::spawn(note(Arc::clone(&seen)));
        Ok(Self { handle, faults, seen, dir })
    }

    /// The runtime: addresses of workers, and everything that can be asked of it.
    #[must_use]
    pub fn handle(&self) -> &RuntimeHandle {
        &self.handle
    }

    /// Lets something go wrong with an instance at once; with one that is down, as soon as it starts. Several strike one
    /// after the other.
    ///
    /// # Errors
    /// [`StageError::NotFound`].
    pub fn inject(&self, instance: &str, fault: Fault) -> Result<(), StageError> {
        let id = self.find(instance)?;
        match fault {
            Fault::LostMessage => self.lose_one(&id),
            Fault::SlowStart(_) => self.faults.strike_at_start(&id, fault),
            Fault::Panic(_) | Fault::Error(_) | Fault::Block(_) => self.faults.strike(&id, fault),
        }
        Ok(())
    }

    /// Lets something go wrong in the next start of an instance, before its own code runs.
    ///
    /// # Errors
    /// [`StageError::NotFound`].
    pub fn inject_at_start(&self, instance: &str, fault: Fault) -> Result<(), StageError> {
        self.faults.strike_at_start(&self.find(instance)?, fault);
        Ok(())
    }

    /// Waits until an instance is as it should be.
    ///
    /// # Errors
    /// [`InVain`]: it never is.
    pub async fn until(
        &self,
        instance: &str,
        like: impl Fn(&InstanceState) -> bool,
    ) -> Result<InstanceState, InVain> {
        let id: Option<InstanceId> = instance.parse().ok();
        let mut changes = self.handle.board().watch();
        let found = async {
            loop {
                let entry = id.as_ref().and_then(|id| self.handle.board().instance(id));
                if let Some(entry) = entry.filter(|entry| like(entry)) {
                    return Some(entry);
                }
                changes.changed().await.ok()?;
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await.ok().flatten();
        found.ok_or_else(|| self.in_vain(&format!("{instance} to be as it should")))
    }

    /// Waits for the first moment that is like this, of those that were and those that come.
    ///
    /// # Errors
    /// [`InVain`]: there is none.
    pub async fn until_moment(&self, like: impl Fn(&Moment) -> bool) -> Result<Moment, InVain> {
        let (_, mut live) = self.handle.journal().follow(u64::MAX);
        let found = async {
            loop {
                if let Some(moment) = self.moments().into_iter().find(|moment| like(moment)) {
                    return Some(moment);
                }
                live.next().await?;
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await.ok().flatten();
        found.ok_or_else(|| self.in_vain("a moment"))
    }

    /// Lets time pass: whatever is due meanwhile happens.
    pub async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// How long the stage has been up, by its clock.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.seen.began.elapsed()
    }

    /// Everything that has happened so far, in order.
    #[must_use]
    pub fn moments(&self) -> Vec<Moment> {
        self.seen.catch_up();
        self.seen.lock().1.clone()
    }

    /// The same as text, a line each: to look at, and to compare one run with another.
    #[must_use]
    pub fn script(&self) -> String {
        self.moments().iter().map(|moment| format!("{moment}\n")).collect()
    }

    /// Ends the runtime in order, and tells how it ended.
    pub async fn end(self) -> Finished {
        self.handle.shutdown(Asker("the test".to_owned())).await;
        self.handle.finished().await
    }

    fn lose_one(&self, id: &InstanceId) {
        if let Some(actors) = self.handle.actors() {
            actors.lose_one(id);
        }
    }

    fn find(&self, instance: &str) -> Result<InstanceId, StageError> {
        let id: Option<InstanceId> = instance.parse().ok();
        let known = id.filter(|id| self.handle.board().instance(id).is_some());
        known.ok_or_else(|| StageError::NotFound(instance.to_owned()))
    }

    fn in_vain(&self, what: &str) -> InVain {
        InVain { what: what.to_owned(), script: self.script() }
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").field("now", &self.now()).finish_non_exhaustive()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // A directory that is left behind harms no later stage: none has the same name.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// What happened, each with the stage's time, which the journal does not know.
struct Seen {
    journal: Journal,
    began: Instant,
    /// The number of the last event, and the moments.
    moments: Mutex<(u64, Vec<Moment>)>,
}

impl Seen {
    /// Time has not moved since an event that nobody has noted: somebody had something to do.
    fn catch_up(&self) {
        let mut moments = self.lock();
        let at = self.began.elapsed();
        for recorded in self.journal.since(moments.0) {
            moments.0 = recorded.seq;
            moments.1.push(moment(at, &recorded.event));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (u64, Vec<Moment>)> {
        self.moments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn note(seen: Arc<Seen>) {
    let (_, mut live) = seen.journal.follow(u64::MAX);
    seen.catch_up();
    while live.next().await.is_some() {
        seen.catch_up();
    }
}

fn moment(at: Duration, event: &Event) -> Moment {
    let exit = event.data.get("exit").and_then(|exit| exit["message"].as_str());
    Moment {
        at,
        kind: event.kind,
        instance: event.instance.clone(),
        incarnation: event.incarnation,
        text: exit.unwrap_or(&event.message).to_owned(),
    }
}

/// Whether the clock of this tokio runtime stands still while somebody computes.
fn is_paused() -> bool {
    let Ok(runtime) = Handle::try_current() else { return false };
    if runtime.runtime_flavor() != RuntimeFlavor::CurrentThread {
        return false;
    }
    let (real, own) = (std::time::Instant::now(), Instant::now());
    while real.elapsed() < Duration::from_micros(50) {
        std::hint::spin_loop();
    }
    own.elapsed().is_zero()
}

fn own_dir() -> std::io::Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let unique = getrandom::u64().map_err(std::io::Error::other)?;
    let dir =
        std::env::temp_dir().join(format!("regrow-stage-{}-{number}-{unique:016x}", std::process::id()));
    std::fs::create_dir(&dir)?;
    Ok(dir)
}
