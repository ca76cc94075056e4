//! Bringing a runtime up and down.
//!
//! The control plane is one thread with a `current_thread` tokio runtime of its own: actors, timers and pidfds
//! live there and nothing else does, so that no worker, log or HTTP client can delay a decision.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use crate::config::{LogTo, Settings, Sources};
use crate::event::EventKind;
use crate::id::{InstanceId, Name};
use crate::policy::Phase;
use crate::probe::Means;
use crate::supervisor::{Board, Plane, RunnerFactory, Wanted};
use crate::telemetry::Journal;
use crate::units::plural;
use crate::worker::in_process::{InProcessHost, InProcessOptions, Outlook, Registry, install_hook};
use crate::worker::process::{HostOptions, OpenError, ProcessHost, set_aside};

use super::builder::Builder;
use super::director::Director;
use super::handle::{Order, RuntimeHandle, RuntimeInfo};
use super::inherited::{heal_limits, keep_memory_private};
use super::intents::Intents;
use super::keeper::Keeper;
use super::lag;
use super::past::Past;
use super::raise::{plane, raise};
use super::remember::save_elsewhere;
use super::state_dir::{Passers, Remade, StateDir};
use super::survivors::take_in_survivors;
use super::watch::{self, Watch};

/// Orders that may wait for the control plane: a person gives a few, a script some hundred at once.
pub(super) const ORDERS: usize = 1024;

/// How long the last output of the workers may take to reach a slow disk or reader before a runtime that was asked
/// to end does so without it.
const LAST_OUTPUT: std::time::Duration = std::time::Duration::from_secs(2);

/// Why a runtime did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is invalid; the text is every problem of it.
    #[error("{0}")]
    Config(String),
    /// Another runtime lives on the same state directory.
    #[error("a runtime is already running on {}: pid {pid}. Stop it with `regrow shutdown`, or give this one another runtime.state_dir", state_dir.display())]
    Busy {
        /// The state directory.
        state_dir: PathBuf,
        /// The other runtime.
        pid: u32,
    },
    /// A runtime that lives has started its workers under this path, and its state directory was moved away since.
    #[error("the runtime with pid {pid} was started on {}, which was moved away since with what it had in it, and its workers still run. `kill {pid}` ends it and them; or give this one another runtime.state_dir", state_dir.display())]
    Moved {
        /// The path.
        state_dir: PathBuf,
        /// The other runtime.
        pid: u32,
    },
    /// The state directory cannot be used.
    #[error("cannot use the state directory {}: {source}", state_dir.display())]
    StateDir {
        /// The state directory.
        state_dir: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// An address that somebody wrote down cannot be taken.
    #[error("cannot listen on {key} = \"{address}\": {source}. Free the address or give another one")]
    Listen {
        /// The key that names it.
        key: &'static str,
        /// The address.
        address: std::net::SocketAddr,
        /// The system's words.
        source: std::io::Error,
    },
    /// Something else of the system failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's words.
        source: std::io::Error,
    },
}

/// How a runtime lives in its process.
pub(crate) struct Hosting {
    /// The actors that the program registers.
    pub(crate) registry: Registry,
    /// Whether panics of workers are noted by a panic hook.
    pub(crate) hook: bool,
    /// Where actor workers run; `None`: on a plane of their own.
    pub(crate) plane: Option<tokio::runtime::Handle>,
    /// What it takes of the process.
    pub(crate) claims: Claims,
    /// Whether a history is kept in the state directory.
    pub(crate) keep: bool,
}

impl Hosting {
    /// The whole process is regrow's.
    pub(crate) fn whole(registry: Registry) -> Self {
        Self { registry, hook: true, plane: None, claims: Claims::ALL, keep: true }
    }
}

/// What a runtime takes of the process that it lives in; a guest only what it is told to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Claims {
    /// All children of the process are ours.
    pub(crate) orphans: bool,
    /// The soft limits, raised where they are too low for a runtime.
    pub(crate) limits: bool,
    /// The memory, kept from core files and debuggers once there are secrets.
    pub(crate) memory: bool,
    /// The cgroup, where workers have limits and no other process is in it.
    pub(crate) cgroup: bool,
}

impl Claims {
    const ALL: Self = Self { orphans: true, limits: true, memory: true, cgroup: true };
}

/// How a runtime ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finished {
    /// In order, because somebody asked.
    Stopped,
    /// The root supervisor gave up; the text says who brought it there. Exit code 1.
    GaveUp(String),
    /// The significant children of the root are done (`auto_shutdown`).
    Done,
    /// These could not be killed and were left behind. Exit code 1.
    Abandoned(Vec<String>),
}

/// A running runtime and the right to wait for its end.
pub struct Runtime {
    handle: RuntimeHandle,
    control: JoinHandle<Finished>,
}

impl Runtime {
    /// Takes the state directory, finds what an earlier runtime left, and boots the tree. Returns once the boot
    /// has begun; watch the board for readiness. Takes no signals: the caller does.
    ///
    /// # Errors
    /// [`StartError`]: another runtime lives there, or the system refuses something that cannot be done without.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        Self::start_in(settings, None, Hosting::whole(Registry::default()))
    }

    /// The way to a runtime with actor workers.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts it as this process has it, and remembers where the settings came from, so that they can be read again.
    pub(crate) fn start_in(
        settings: Settings,
        sources: Option<Sources>,
        hosting: Hosting,
    ) -> Result<Self, StartError> {
        let (runtime, keeper) = Self::boot_in(settings, sources, hosting)?;
        if let Some(keeper) = keeper {
            keeper.wait();
        }
        Ok(runtime)
    }

    /// The same, and does not wait until what was kept of before is known: see [`RuntimeHandle::opened`].
    pub(crate) fn begin_in(
        settings: Settings,
        sources: Option<Sources>,
        hosting: Hosting,
    ) -> Result<Self, StartError> {
        Self::boot_in(settings, sources, hosting).map(|(runtime, _)| runtime)
    }

    fn boot_in(
        settings: Settings,
        sources: Option<Sources>,
        hosting: Hosting,
    ) -> Result<(Self, Option<Arc<Keeper>>), StartError> {
        let Hosting { registry, hook, plane, claims, keep } = hosting;
        set_aside();
        if hook {
            install_hook();
        }
        let healed = if claims.limits { heal_limits() } else { Vec::new() };
        let state_dir = Arc::new(StateDir::take(&settings.runtime.state_dir, passers(&settings))?);
        let (mut intents, note) = Intents::load(&settings.runtime.state_dir);
        let info = Arc::new(RuntimeInfo::begin(settings, sources, &mut intents));
        info.live_in(Arc::clone(&state_dir));
        healed.into_iter().chain(note).for_each(|note| info.note(note));
        let (board, journal) = (Board::new(), Journal::new());
        let begun =
            keep.then(|| Keeper::begin(&info, state_dir.home().clone(), &journal, &board)).transpose();
        let keeper = begun.map_err(|source| StartError::System {
            what: "cannot start the thread that keeps events",
            source,
        })?;
        let (orders, inbox) = mpsc::channel(ORDERS);
        let actors =
            InProcessHost::new(registry, &info.state_dir, InProcessOptions { plane, one_thread: false });
        let seen = board.clone();
        actors.directory().set_outlook(Box::new(move |id| outlook(&seen, id)));
        let handle = RuntimeHandle::new(board.clone(), journal.clone(), Arc::clone(&info), orders)
            .with_actors(Arc::clone(&actors))
            .with_past(keeper.as_ref().map(|keeper| keeper.opening().clone()));
        let keeps = keeper.clone();
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let control = std::thread::Builder::new()
            .name("regrow-control".to_owned())
            .spawn(move || {
                let parts = Parts { info, board, journal, intents, actors, claims, keeper };
                control_thread(parts, inbox, state_dir, &tell)
            })
            .map_err(|source| StartError::System { what: "cannot start the control thread", source })?;
        match told.recv() {
            Ok(Ok(())) => Ok((Self { handle, control }, keeps)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StartError::System {
                what: "the control thread ended at its start",
                source: std::io::Error::other("see the lines above"),
            }),
        }
    }

    /// The public face.
    #[must_use]
    pub fn handle(&self) -> &RuntimeHandle {
        &self.handle
    }

    /// Lets it run by itself; the handle tells how it ends.
    pub(crate) fn detach(self) -> RuntimeHandle {
        self.handle
    }

    /// Blocks until the runtime has ended.
    #[must_use]
    pub fn wait(self) -> Finished {
        let Self { handle, control } = self;
        drop(handle);
        control
            .join()
            .unwrap_or_else(|_| Finished::GaveUp("the control thread panicked; this is a bug".to_owned()))
    }
}

/// Whether workers run as other users, which only root can arrange.
fn shared(settings: &Settings) -> bool {
    let others = settings.workers.iter().any(|worker| worker.isolation.names_somebody());
    others && rustix::process::geteuid().is_root()
}

fn passers(settings: &Settings) -> Passers {
    Passers { workers: shared(settings), clients: settings.runtime.control.group.is_some() }
}

type Tell = std::sync::mpsc::SyncSender<Result<(), StartError>>;

/// What a runtime is made of, besides its settings.
struct Parts {
    info: Arc<RuntimeInfo>,
    board: Board,
    journal: Journal,
    intents: Intents,
    actors: Arc<InProcessHost>,
    claims: Claims,
    keeper: Option<Arc<Keeper>>,
}

fn control_thread(
    parts: Parts,
    inbox: mpsc::Receiver<Order>,
    state_dir: Arc<StateDir>,
    tell: &Tell,
) -> Finished {
    let (info, actors) = (Arc::clone(&parts.info), Arc::clone(&parts.actors));
    let keeper = parts.keeper.clone();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(source) => {
            let _ = tell.send(Err(StartError::System { what: "cannot start the control plane", source }));
            return Finished::Stopped;
        }
    };
    let finished = runtime.block_on(async {
        match boot(parts, inbox, &state_dir).await {
            Ok((mut director, host, watch)) => {
                let _ = tell.send(Ok(()));
                let finished = director.run().await;
                drop(watch);
                host.end_calls();
                host.end_strays();
                tokio::select! {
                    () = host.output().flush() => {}
                    () = director.out_of_patience(&finished, LAST_OUTPUT) => {}
                }
                host.output().close(LAST_OUTPUT);
                if matches!(finished, Finished::Stopped | Finished::Done) {
                    host.leave_shelter();
                }
                finished
            }
            Err(error) => {
                let _ = tell.send(Err(error));
                Finished::Stopped
            }
        }
    });
    actors.close();
    if let Some(keeper) = keeper {
        // Whoever waits for the end may end the process with it.
        keeper.close();
    }
    info.writers.wait(LAST_OUTPUT);
    // Held until the last worker is down, and free for whoever waits for this end.
    state_dir.release();
    info.finish(finished.clone());
    finished
}

async fn boot(
    parts: Parts,
    orders: mpsc::Receiver<Order>,
    state_dir: &Arc<StateDir>,
) -> Result<(Director, Arc<ProcessHost>, Option<Watch>), StartError> {
    let Parts { info, board, journal, intents, actors, claims, keeper } = parts;
    let info = &info;
    let settings = info.settings();
    let options = HostOptions {
        cgroups: true,
        adopt_orphans: claims.orphans,
        shared: shared(&settings),
        raise_limits: claims.limits,
        step_aside: claims.cgroup,
        stdin: settings.workers.iter().any(|worker| worker.log.to == LogTo::Through),
        instances: settings.workers.iter().map(|worker| u64::from(worker.most())).sum(),
    };
    let (host, mut notes) = ProcessHost::open(&info.state_dir, options).map_err(|error| match error {
        OpenError::System(source) => StartError::System { what: "cannot prepare to run processes", source },
        OpenError::Lives(pid) => StartError::Moved { state_dir: info.state_dir.clone(), pid },
    })?;
    notes.extend(host.shortcomings(&info.settings().workers));
    notes.into_iter().for_each(|note| info.note(note));
    heed_secrets(info, &host, claims.memory);
    let plane = plane(info, runners(&host, &actors), (board, journal), &intents, seed())?;
    count_on(info, &host, &actors, &plane);
    if let Some(keeper) = &keeper {
        keeper.boarded();
    }
    announce(info, &plane);
    tokio::spawn(lag::measure(info.lag.clone(), Arc::clone(&plane)));
    let remains = take_in_survivors(info, &host, &plane);
    let (watched, healing) = (Arc::clone(&actors), Arc::downgrade(&actors));
    plane.set_remedies(Box::new(move |name, ailing, timeout, done| match healing.upgrade() {
        Some(actors) => actors.remedy(name, ailing, timeout, done),
        None => done(Err("the runtime ends".to_owned())),
    }));
    let (output, processes) = (host.output().clone(), Arc::downgrade(&host));
    info.watch_problems(Box::new(move || {
        let mut problems = output.problems();
        problems.extend(processes.upgrade().map(|host| host.shortages()).unwrap_or_default());
        problems.extend(actors.problems());
        let past = keeper.as_ref().and_then(|keeper| keeper.opening().past());
        problems.extend(past.map(Past::notes).unwrap_or_default());
        problems
    }));
    let means = Means { processes: Arc::clone(&host), actors: watched, sampler: info.sampler.clone() };
    let watch = watch::start(info, &plane, means);
    if let Err(error) = &watch {
        info.note(format!("nobody is probed: the watch cannot be started: {error}"));
    }
    let mut director = raise(info, &plane, intents, orders).await?;
    director.remains = remains;
    keep_home(state_dir, &host, &director);
    Ok((director, host, watch.ok()))
}

/// Secrets pass through the runtime's memory, and their sources must not reach others, from the moment on that a worker
/// has some.
fn heed_secrets(info: &RuntimeInfo, host: &Arc<ProcessHost>, private: bool) {
    let host = Arc::clone(host);
    info.heed_settings(Box::new(move |info, settings| {
        host.know_secrets(&settings.workers);
        if settings.workers.iter().all(|worker| worker.isolation.secrets.is_empty()) {
            return;
        }
        if private {
            keep_memory_private(info);
        } else {
            info.note("secrets of workers pass through the memory of this program, which can be dumped; `Builder::private_memory` forbids that");
        }
    }));
}

/// Everybody's starts are counted on from where earlier runtimes were.
fn count_on(info: &RuntimeInfo, host: &Arc<ProcessHost>, actors: &InProcessHost, plane: &Plane) {
    let settings = info.settings();
    let named: HashSet<&Name> = settings.workers.iter().map(|worker| &worker.name).collect();
    for (instance, last) in host.take_counted() {
        if named.contains(instance.worker()) {
            plane.count_from(&instance, last);
        }
    }
    let (board, processes) = (plane.board.clone(), Arc::downgrade(host));
    host.forget_unless(Box::new(move |instance| board.read(instance, |_| ()).is_some()));
    actors.set_counting(Box::new(move |instance, incarnation| {
        if let Some(host) = processes.upgrade() {
            host.count_start(instance, incarnation);
        }
    }));
}

const WRITES_ELSEWHERE: &str = "the state directory was moved away and made again: until regrow is started again, what \
    happens is written down in the one that was moved";

/// Whoever misses the state directory has it made again, and what belongs in it is written once more.
fn keep_home(state_dir: &Arc<StateDir>, host: &Arc<ProcessHost>, director: &Director) {
    let home = Arc::clone(state_dir);
    host.when_missing(Box::new(move || home.heal().map(drop)));
    let plane = tokio::runtime::Handle::current();
    let (host, intents, info) =
        (Arc::downgrade(host), Arc::downgrade(&director.intents), Arc::downgrade(&director.info));
    state_dir.when_remade(Box::new(move |what| {
        if let Some(host) = host.upgrade() {
            host.renew_record();
        }
        if let (Some(intents), Some(info)) = (intents.upgrade(), info.upgrade()) {
            match what {
                Remade::Removed => {}
                Remade::Moved => info.note(WRITES_ELSEWHERE),
                Remade::Back => info.forget_note(WRITES_ELSEWHERE),
            }
            let _on = plane.enter();
            save_elsewhere(&intents, &info);
        }
    }));
}

/// Who runs what: actor workers in this process, all others in their own.
fn runners(host: &Arc<ProcessHost>, actors: &Arc<InProcessHost>) -> RunnerFactory {
    let (host, actors) = (Arc::clone(host), Arc::clone(actors));
    Arc::new(move |instance, worker, output, reporter| {
        if worker.actor.is_some() {
            return actors.runner(instance, worker, reporter);
        }
        host.runner(instance.clone(), Arc::clone(worker), Arc::clone(output), reporter)
    })
}

/// Whether somebody who asks for an actor worker that is not there should ask again.
pub(super) fn outlook(board: &Board, id: &InstanceId) -> Outlook {
    let Some(entry) = board.instance(id) else { return Outlook::Gone };
    match entry.phase {
        Phase::Waiting | Phase::Starting | Phase::Running | Phase::Backoff => Outlook::Coming,
        Phase::Stopping if entry.wanted == Wanted::Running => Outlook::Coming,
        // Before the very first start nobody has stopped it yet.
        Phase::Stopped if entry.is_untouched() && entry.wanted == Wanted::Running => Outlook::Coming,
        Phase::Stopping | Phase::Stopped | Phase::Quarantined | Phase::Stuck | Phase::Done => Outlook::Gone,
    }
}

pub(super) fn announce(info: &RuntimeInfo, plane: &Plane) {
    let settings = info.settings();
    let text = format!(
        "regrow {} runs {} with {}, pid {}",
        info.version,
        settings.runtime.name,
        plural(settings.workers.len() as u64, "worker"),
        info.pid
    );
    plane.tell(EventKind::RuntimeStarted, text);
}

/// A seed for jitter; without randomness from the system, one from the clock does as well.
fn seed() -> u64 {
    getrandom::u64().unwrap_or_else(|_| jiff::Timestamp::now().as_nanosecond() as u64)
}
