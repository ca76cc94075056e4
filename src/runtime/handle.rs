//! The public face of a running runtime: what the command line, HTTP and an embedding program call.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::{Settings, Sources};
use crate::id::{InstanceId, Name};
use crate::supervisor::{Board, Healer, Moment};
use crate::telemetry::{Host, Journal, Looks, Sampler};
use crate::worker::in_process::InProcessHost;

use super::intents::Intents;
use super::lag::Lag;
use super::launch::Finished;
use super::living::Living;
use super::past::Opening;
use super::recover::{Mend, Reached};
use super::remember::Unkept;
use super::reshape::Edit;
use super::state_dir::{Home, StateDir};
use super::target::Target;
use super::writers::Writers;

/// A control loop that is this late counts as stuck.
const ALIVE_WITHIN: Duration = Duration::from_secs(2);

/// What can be asked of instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Start what is stopped.
    Start,
    /// Stop, and stay stopped.
    Stop,
    /// Stop if up, then start.
    Restart,
    /// Forget the failures; a parked worker is tried at once.
    ResetFailed,
    /// From now on nothing is started, stopped or tried by itself.
    Pause {
        /// For how long; `None`: until `Resume`.
        lasting: Option<Duration>,
    },
    /// Ends a pause.
    Resume,
    /// A signal for the main process.
    Signal(i32),
    /// Read the configuration anew: `reload.signal` where it is set, else a rolling restart.
    Reload,
    /// Replace every instance of a worker while the others go on.
    Roll {
        /// How many may be down at once.
        max_unavailable: u32,
    },
    /// Have as many instances of a worker.
    Scale {
        /// How many.
        instances: u32,
    },
}

impl Act {
    /// The verb, as on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::ResetFailed => "reset-failed",
            Self::Pause { .. } => "pause",
            Self::Resume => "resume",
            Self::Signal(_) => "signal",
            Self::Reload => "reload",
            Self::Roll { .. } => "rolling restart",
            Self::Scale { .. } => "scale",
        }
    }

    /// What is really done to this worker: a reload is a signal or a rolling restart.
    #[must_use]
    pub fn meant_for(self, settings: &Settings, worker: &Name) -> Self {
        match self {
            Self::Reload => {
                let own = settings.workers.iter().find(|one| one.name == *worker);
                match own.and_then(|own| own.reload) {
                    Some(signal) => Self::Signal(signal),
                    None => Self::Roll { max_unavailable: 1 },
                }
            }
            Self::Start
            | Self::Stop
            | Self::Restart
            | Self::ResetFailed
            | Self::Pause { .. }
            | Self::Resume
            | Self::Roll { .. }
            | Self::Scale { .. }
            | Self::Signal(_) => self,
        }
    }
}

/// Who asks; written into events and shown by `describe`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker(pub String);

/// Why an action was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ActError {
    /// Nothing has this name. `regrow status` lists what there is.
    #[error("no worker, instance or supervisor is called `{0}`; `regrow status` lists what there is")]
    NotFound(String),
    /// It clashes with what is going on.
    #[error("{0}")]
    Conflict(String),
    /// There is such a target, and it is of a kind for which this cannot be done.
    #[error("{0}")]
    Unsuited(String),
    /// The runtime is ending.
    #[error("the runtime is shutting down")]
    ShuttingDown,
}

/// What is known of the runtime itself.
pub struct RuntimeInfo {
    /// Version of this build.
    pub version: &'static str,
    /// Process id.
    pub pid: u32,
    /// When it started.
    pub started_at: Moment,
    /// State directory.
    pub state_dir: PathBuf,
    /// The settings in force; replaced as a whole.
    settings: RwLock<Arc<Settings>>,
    /// What recovery shares: incidents, and what was learned.
    pub(super) healer: Arc<Healer>,
    /// Where they came from, and how they change.
    pub(super) living: Living,
    notes: Mutex<Vec<String>>,
    problems: OnceLock<Problems>,
    heed: Mutex<Vec<Heed>>,
    /// The state directory, once it is taken.
    home: OnceLock<Arc<StateDir>>,
    /// Whether what operators want is written down.
    pub(super) unkept: Unkept,
    pub(super) lag: Lag,
    pub(super) writers: Arc<Writers>,
    pub(super) looks: Looks,
    pub(super) sampler: Sampler,
    /// The machine that it runs on.
    pub host: Host,
    finished: watch::Sender<Option<Finished>>,
}

/// Who must know new settings before anybody is started with them.
type Heed = Box<dyn Fn(&RuntimeInfo, &Settings) + Send + Sync>;

/// What does not work right now, asked anew each time, such as a full disk.
type Problems = Box<dyn Fn() -> Vec<String> + Send + Sync>;

impl RuntimeInfo {
    /// Notes the start of a runtime whose settings come from nowhere that could be read again.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::begin(settings, None, &mut Intents::in_memory())
    }

    /// Notes the start of a runtime, and joins the workers that were added in an earlier one; everybody has as many
    /// instances as somebody asked for by hand.
    pub(super) fn begin(settings: Settings, sources: Option<Sources>, intents: &mut Intents) -> Self {
        let (living, settings, notes) = Living::begin(settings, sources);
        let settings = intents.scaled(settings);
        let healer = Arc::new(super::lessons::healer(&settings.runtime.state_dir));
        healer.configure(settings.recovery.limits, Arc::clone(&settings.recovery.classes));
        Self {
            healer,
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            started_at: Moment::past(Timestamp::now()),
            state_dir: settings.runtime.state_dir.clone(),
            settings: RwLock::new(Arc::new(settings)),
            living,
            notes: Mutex::new(notes),
            problems: OnceLock::new(),
            heed: Mutex::default(),
            home: OnceLock::new(),
            unkept: Unkept::default(),
            lag: Lag::new(Instant::now()),
            writers: Arc::default(),
            looks: Looks::default(),
            sampler: Sampler::with_clock(crate::worker::unix::processor_time),
            host: Host::default(),
            finished: watch::Sender::new(None),
        }
    }

    /// The settings in force at this moment.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other settings in force.
    pub(super) fn put_settings(&self, settings: Arc<Settings>) {
        self.healer.configure(settings.recovery.limits, Arc::clone(&settings.recovery.classes));
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&settings);
        for heed in self.heed.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            heed(self, &settings);
        }
    }

    /// Shows the settings in force, and whatever comes after them, to somebody before anybody is started with them.
    pub(super) fn heed_settings(&self, heed: Heed) {
        heed(self, &self.settings());
        self.heed.lock().unwrap_or_else(PoisonError::into_inner).push(heed);
    }

    /// How often a configuration was taken over, the first included.
    #[must_use]
    pub fn config_generation(&self) -> u64 {
        self.living.generation()
    }

    /// Whether the last reading of the configuration was taken over.
    #[must_use]
    pub fn config_ok(&self) -> bool {
        self.living.successful()
    }

    /// What the machine does not give, such as cgroups, and what does not work right now, such as a full disk.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        notes.extend(self.living.notes());
        notes.extend(self.unkept.why().map(|why| {
            format!("what was last asked for by hand could not be written down ({why}); it is tried again every second")
        }));
        notes.extend(self.problems.get().map(|problems| problems()).unwrap_or_default());
        notes
    }

    /// Remembers the state directory.
    pub(super) fn live_in(&self, home: Arc<StateDir>) {
        // A runtime lives in one.
        let _ = self.home.set(home);
    }

    /// Looks at the state directory, and makes again what somebody has removed of it.
    pub(crate) fn heal_home(&self) -> std::io::Result<Home> {
        self.home.get().map_or(Ok(Home::Ours), |home| home.heal())
    }

    /// Why what operators ask for does not outlast this runtime right now; `None`: it does.
    #[must_use]
    pub fn forgetful(&self) -> Option<String> {
        self.unkept.why()
    }

    /// The same of workers that are added and removed.
    #[must_use]
    pub(crate) fn unwritten(&self) -> Option<String> {
        self.living.unwritten()
    }

    /// Where problems that come and go are asked for.
    pub(super) fn watch_problems(&self, problems: Problems) {
        // There is one composition root, and it calls this once.
        let _ = self.problems.set(problems);
    }

    /// How late the control plane's timers are: the worst of the last fifteen seconds.
    #[must_use]
    pub fn lag(&self) -> Duration {
        self.lag.at(Instant::now())
    }

    /// What the probes found last.
    #[must_use]
    pub fn looks(&self) -> &Looks {
        &self.looks
    }

    /// What the processes of all workers use.
    #[must_use]
    pub fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// Notes its end.
    pub(super) fn finish(&self, finished: Finished) {
        self.finished.send_replace(Some(finished));
    }

    /// Adds a note once.
    pub fn note(&self, note: impl Into<String>) {
        let note = note.into();
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if !notes.contains(&note) {
            notes.push(note);
        }
    }

    /// Takes a note back that is not so any more.
    pub(crate) fn forget_note(&self, note: &str) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).retain(|one| one != note);
    }
}

/// One order to the control plane.
pub enum Order {
    /// Act on one target or several, each of which is there.
    Act {
        /// On whom.
        targets: Vec<Target>,
        /// What.
        act: Act,
        /// Who asks.
        by: Asker,
        /// The instances it was passed to, or why not.
        reply: oneshot::Sender<Result<Vec<InstanceId>, ActError>>,
    },
    /// Recovery by hand.
    Mend {
        /// What.
        mend: Mend,
        /// Who asks.
        by: Asker,
        /// The instances it was passed to, or why not.
        reply: oneshot::Sender<Result<Vec<Reached>, ActError>>,
    },
    /// Answer, to show that the control plane turns.
    Ping {
        /// The answer.
        reply: oneshot::Sender<()>,
    },
    /// Change the settings in force.
    Edit {
        /// Makes the new ones.
        edit: Edit,
        /// The new settings, once everybody concerned has been told.
        reply: oneshot::Sender<Result<Arc<Settings>, ActError>>,
    },
    /// End the runtime in order.
    Shutdown {
        /// Who asks.
        by: Asker,
    },
    /// End the runtime now: what remains is killed, still in reverse order.
    Kill {
        /// Who asks.
        by: Asker,
    },
}

/// A running runtime; cheap to clone.
#[derive(Clone)]
pub struct RuntimeHandle {
    board: Board,
    journal: Journal,
    info: Arc<RuntimeInfo>,
    orders: mpsc::Sender<Order>,
    actors: Option<Arc<InProcessHost>>,
    past: Option<Opening>,
}

impl RuntimeHandle {
    /// Joins the parts. Called by the composition root and by tests of what lies above it.
    #[must_use]
    pub fn new(board: Board, journal: Journal, info: Arc<RuntimeInfo>, orders: mpsc::Sender<Order>) -> Self {
        Self { board, journal, info, orders, actors: None, past: None }
    }

    /// The same, with actor workers.
    pub(super) fn with_actors(self, actors: Arc<InProcessHost>) -> Self {
        Self { actors: Some(actors), ..self }
    }

    /// The same, with what was kept of before.
    pub(super) fn with_past(self, past: Option<Opening>) -> Self {
        Self { past, ..self }
    }

    /// The store, or its opening; none without a state directory.
    pub(super) fn opening(&self) -> Option<&Opening> {
        self.past.as_ref()
    }

    /// The actor workers.
    pub(crate) fn actors(&self) -> Option<&Arc<InProcessHost>> {
        self.actors.as_ref()
    }

    /// The newest state of everything; reading it asks no actor.
    #[must_use]
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// The stream of events.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What recovery did and learned.
    #[must_use]
    pub fn healer(&self) -> &Healer {
        &self.info.healer
    }

    /// The runtime itself.
    #[must_use]
    pub fn info(&self) -> &RuntimeInfo {
        &self.info
    }

    /// Passes an action to every instance of the target, and returns them. It does not wait for the outcome:
    /// watch the board for that.
    ///
    /// # Errors
    /// [`ActError`]: nothing has that name, it clashes, or the runtime is ending.
    pub async fn act(&self, target: Target, act: Act, by: Asker) -> Result<Vec<InstanceId>, ActError> {
        self.act_on(vec![target], act, by).await
    }

    /// Changes the settings in force: `edit` makes new ones from them, on the control plane and in turn with other
    /// edits. Only what differs is touched; a worker whose settings differ is replaced. It does not wait until those
    /// are ready: watch the board for that.
    ///
    /// # Errors
    /// What `edit` answers, and nothing is changed; or the runtime is ending.
    pub async fn edit(&self, edit: Edit) -> Result<Arc<Settings>, ActError> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::Edit { edit, reply }).await.map_err(|_| ActError::ShuttingDown)?;
        answer.await.map_err(|_| ActError::ShuttingDown)?
    }

    pub(super) async fn pass_order(&self, order: Order) -> Result<(), ActError> {
        self.orders.send(order).await.map_err(|_| ActError::ShuttingDown)
    }

    /// Begins an orderly end of the runtime.
    pub async fn shutdown(&self, by: Asker) {
        // An error means that it has already ended.
        let _ = self.orders.send(Order::Shutdown { by }).await;
    }

    /// Ends the runtime now: what remains is killed, still in reverse order. The second SIGTERM.
    pub async fn kill(&self, by: Asker) {
        // An error means that it has already ended.
        let _ = self.orders.send(Order::Kill { by }).await;
    }

    /// Waits until the runtime has ended, and tells how.
    pub async fn finished(&self) -> Finished {
        let mut watch = self.info.finished.subscribe();
        let broke = || Finished::GaveUp("the runtime broke down; this is a bug".to_owned());
        let Ok(finished) = watch.wait_for(Option::is_some).await else { return broke() };
        finished.clone().unwrap_or_else(broke)
    }

    /// Whether the control loop turns: it answers within two seconds.
    pub async fn alive(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        let ask = async {
            self.orders.send(Order::Ping { reply }).await.ok()?;
            answer.await.ok()
        };
        tokio::time::timeout(ALIVE_WITHIN, ask).await.is_ok_and(|answer| answer.is_some())
    }

    /// Whether the store is open, where there is one, and every enabled critical worker is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        if self.past.as_ref().is_some_and(|opening| !opening.is_ready()) {
            return false;
        }
        let states = self.board.instances();
        let settings = self.info.settings();
        let critical = settings.workers.iter().filter(|worker| worker.enabled && worker.critical);
        critical.into_iter().all(|worker| {
            let mut of_it = states.iter().filter(|state| *state.instance.worker() == worker.name).peekable();
            of_it.peek().is_some() && of_it.all(|state| state.ready)
        })
    }

    /// Where the output of an instance is kept.
    #[must_use]
    pub fn log_path(&self, instance: &InstanceId) -> PathBuf {
        self.info.state_dir.join("logs").join(format!("{}.log", instance.slug()))
    }
}
