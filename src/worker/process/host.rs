//! What all process workers of one runtime share, found out once at its start.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use crate::config::{SecretSource, WorkerSettings};
use crate::exit::StartFailure;
use crate::id::{Incarnation, InstanceId, Name};
use crate::worker::output::{OutputHub, OutputStream};
use crate::worker::unix::Image;
use crate::worker::{OutputCounters, Reporter, Runner};

use super::begin::Begins;
use super::cgroup::{self, CgroupRoot};
use super::children::OnHalt;
use super::clear::{self, Survivor};
use super::controllers::{Controller, Controllers, Place};
use super::grants;
use super::layout::{key_of, shared_dir};
use super::oom::OomWatch;
use super::pool::Pool;
use super::recipe::LastPassed;
use super::record::{IsThere, Numbers, Record};
use super::reserve::Reserve;
use super::runner::ProcessRunner;
use super::secret::{self, Known, Secret};
use super::site::Site;
use super::tether::{self, Calls};
use super::{children, rival, shelter, tree};

/// How a host behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostOptions {
    /// Use a cgroup per instance where one can be had.
    pub(crate) cgroups: bool,
    /// Take in what descends from our children and reap it. Only for a process whose children are all ours:
    /// the children of a host program must not be reaped behind its back.
    pub(crate) adopt_orphans: bool,
    /// Some workers run as other users, who must get to their directories.
    pub(crate) shared: bool,
    /// Raise the soft limit of open files for what a runtime needs. Workers get the original back.
    pub(crate) raise_limits: bool,
    /// Move this process into a cgroup of its own where the limits of workers need that.
    pub(crate) step_aside: bool,
    /// A worker reads what this process would: see [`crate::config::LogTo::Through`].
    pub(crate) stdin: bool,
    /// How many instances are about to run.
    pub(crate) instances: u64,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            cgroups: true,
            adopt_orphans: true,
            shared: false,
            raise_limits: true,
            step_aside: true,
            stdin: false,
            instances: 0,
        }
    }
}

/// What commands beside workers get to be gone at the end, after they were killed.
const CALLS_END: Duration = Duration::from_secs(2);

/// The right to use what an instance has. A runner that is replaced holds it until nothing of it is left; its
/// successor has the same paths and waits for that.
pub(super) type Turn = tokio::sync::Mutex<()>;

/// A turn that is held: a start of the instance waits until this is dropped.
pub(crate) struct Held {
    host: Arc<ProcessHost>,
    instance: InstanceId,
    held: Option<(tokio::sync::OwnedMutexGuard<()>, Arc<Turn>)>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((guard, turn)) = self.held.take() {
            drop(guard);
            self.host.end_turn(&self.instance, turn);
        }
    }
}

/// Makes the state directory again after somebody has removed it.
type Missing = Box<dyn Fn() -> io::Result<()> + Send + Sync>;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The state directory cannot be written to, or the process is out of descriptors or threads.
    #[error(transparent)]
    System(#[from] io::Error),
    /// A runtime of this pid lives, and its workers are known by the same path: its state directory stood there before
    /// it was moved away.
    #[error("the runtime with pid {0} works under the same path")]
    Lives(u32),
}

impl From<rustix::io::Errno> for OpenError {
    fn from(error: rustix::io::Errno) -> Self {
        Self::System(error.into())
    }
}

/// The shared context.
pub(crate) struct ProcessHost {
    pub(super) workers_dir: PathBuf,
    /// What stands in for the state directory while that takes nothing.
    pub(super) shelter: Option<PathBuf>,
    /// Where workers of this and of earlier runtimes have their directories.
    pub(super) homes: Vec<PathBuf>,
    /// Names this state directory in places outside of it.
    pub(super) key: String,
    pub(super) env: Vec<(OsString, OsString)>,
    pub(super) passed: LastPassed,
    /// Variables of ours that hold a secret of some worker.
    sources: Mutex<HashSet<String>>,
    known: Known,
    pub(super) calls: Calls,
    pub(super) begins: Begins,
    pub(super) null: OwnedFd,
    /// Our own stdin, for a worker that stands in our place.
    pub(super) stdin: Option<OwnedFd>,
    pub(super) pool: Pool,
    pub(super) reserve: Reserve,
    pub(super) record: Record,
    pub(super) cgroups: Option<CgroupRoot>,
    pub(super) oom: OomWatch,
    pub(super) output: OutputHub,
    /// The limit of open files that workers get back.
    pub(super) nofile: Option<(u64, u64)>,
    pub(super) pidfs: bool,
    /// Which signals we ignore, if this is our own process: a host program may change its mind at any time.
    pub(super) ignored: Option<u64>,
    pub(super) adopts: bool,
    shared: AtomicBool,
    controllers: OnceLock<Controllers>,
    survivors: Vec<Survivor>,
    /// How far everybody's starts had come before this runtime, until somebody wants to know.
    counted: Mutex<Numbers>,
    missing: OnceLock<Missing>,
    /// Somebody's start has found no state directory.
    homeless: AtomicBool,
    /// Whose turn it is at the directory, the FIFOs and the cgroup of an instance.
    turns: Mutex<HashMap<InstanceId, Weak<Turn>>>,
    /// The newest search for marked processes, and when it began.
    pub(super) marked: tokio::sync::Mutex<Option<(tokio::time::Instant, Arc<clear::Marked>)>>,
}

impl ProcessHost {
    /// Prepares `state_dir` (which exists and is ours alone) and finds out what the machine offers. The notes say
    /// what it does not, for people.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(crate) fn open(
        state_dir: &Path,
        options: HostOptions,
    ) -> Result<(Arc<Self>, Vec<String>), OpenError> {
        let mut notes = Vec::new();
        let null: OwnedFd = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?.into();
        let null = rustix::io::fcntl_dupfd_cloexec(&null, 3)?;
        let stdin = if options.stdin && !grants::in_background() {
            Some(rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)?)
        } else {
            None
        };
        let state_dir = std::fs::canonicalize(state_dir)?;
        let key = format!("regrow-{}", key_of(state_dir.as_os_str().as_encoded_bytes()));
        let workers_dir = state_dir.join("w");
        let known = std::fs::read_dir(&workers_dir).map_or(0, |entries| entries.count() as u64);
        let new = options.instances.saturating_sub(known);
        let shelter = grants::find_shelter(&state_dir, new, options.shared, &mut notes)?;
        if shelter.is_none() {
            shared_dir(&workers_dir, options.shared)?;
        }
        let cgroups = grants::find_cgroups(&key, options, &mut notes);
        let earlier = shelter::existing(&state_dir);
        let homes: Vec<_> =
            std::iter::once(workers_dir.clone()).chain(earlier.iter().map(|dir| dir.join("w"))).collect();
        let mut left = Record::read(&state_dir.join("spawned"))?;
        for dir in &earlier {
            left.join(Record::read(&dir.join("spawned"))?);
        }
        notes.extend(left.copied_from.map(|pid| {
            format!(
                "{} is a copy of the state directory of a runtime that lives, pid {pid}: its workers are left alone",
                state_dir.display()
            )
        }));
        let marked = clear::search(&homes, &left, cgroups.as_ref());
        if let Some(pid) = rival::of(marked.iter().flatten().flat_map(|(_, pids)| pids.iter().copied())) {
            return Err(OpenError::Lives(pid));
        }
        let cgroups = grants::only_ours(cgroups, &mut notes);
        match &left.cgroups {
            // Not where ours are, if that runtime was started from elsewhere.
            Some(root) => cgroup::sweep(root),
            None if known > 0 => tether::end_left(&key, &state_dir),
            None => {}
        }
        let counted = std::mem::take(&mut left.numbers);
        let survivors = clear::find(&homes, left, marked, cgroups.as_ref());
        let keep = survivors.iter().filter_map(Survivor::entry).collect();
        let record_path = shelter.as_ref().unwrap_or(&state_dir).join("spawned");
        let record = Record::open(&record_path, cgroups.as_ref().map(CgroupRoot::dir), keep, &counted)?;
        if shelter.is_none() {
            // Whoever lives on holds fences in there.
            shelter::leave(&state_dir, survivors.is_empty());
        }
        let highest = stdin.as_ref().map_or(0, AsRawFd::as_raw_fd).max(null.as_raw_fd()).max(record.fd());
        let host = Self {
            pool: Pool::start(rustix::io::fcntl_dupfd_cloexec(&null, 3)?, highest)?,
            reserve: Reserve::new(&null)?,
            output: OutputHub::start(state_dir.join("logs"))?,
            oom: OomWatch::new(),
            nofile: if options.raise_limits { grants::raise_nofile(&mut notes) } else { None },
            pidfs: grants::has_pidfs(&mut notes),
            ignored: options.adopt_orphans.then(grants::ignored_signals).flatten(),
            adopts: grants::adopt_orphans(options, &mut notes),
            env: std::env::vars_os().collect(),
            passed: LastPassed::default(),
            sources: Mutex::default(),
            known: Known::default(),
            calls: Calls::default(),
            begins: Begins::default(),
            shared: AtomicBool::new(options.shared),
            controllers: if options.cgroups { OnceLock::new() } else { Controllers::none().into() },
            survivors,
            counted: Mutex::new(counted),
            missing: OnceLock::new(),
            homeless: AtomicBool::new(false),
            turns: Mutex::default(),
            marked: tokio::sync::Mutex::default(),
            workers_dir,
            shelter,
            homes,
            key,
            null,
            stdin,
            record,
            cgroups,
        };
        if !tree::can_see() {
            notes.push(
                "/proc hides other processes: who leaves a worker's session is only found by its fence"
                    .to_owned(),
            );
        }
        Ok((Arc::new(host), notes))
    }

    /// A runner for this instance. Its directory is made at its first start, so that what is wrong with it fails
    /// that start and not the boot. Must be called within a tokio runtime, on which the runner will wait.
    pub(crate) fn runner(
        self: &Arc<Self>,
        instance: InstanceId,
        settings: Arc<WorkerSettings>,
        counters: Arc<OutputCounters>,
        reporter: Reporter,
    ) -> Box<dyn Runner> {
        let site = Site::new(self.clone(), instance, settings, counters);
        Box::new(ProcessRunner::new(Arc::new(site), reporter))
    }

    /// How far everybody's starts had come in earlier runtimes on this state directory. Given away once.
    pub(crate) fn take_counted(&self) -> HashMap<InstanceId, Incarnation> {
        std::mem::take(&mut *self.counted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes down the number of a start that no process of ours has written down itself.
    pub(crate) fn count_start(&self, instance: &InstanceId, incarnation: Incarnation) {
        self.record.count(instance, incarnation);
    }

    /// Says whose numbers are still needed.
    pub(crate) fn forget_unless(&self, is_there: IsThere) {
        self.record.forget_unless(is_there);
    }

    /// Takes note of which variables of ours hold secrets of these workers.
    pub(crate) fn know_secrets(&self, workers: &[Arc<WorkerSettings>]) {
        let sources = workers.iter().flat_map(|worker| worker.isolation.secrets.values());
        let variable = |source: &SecretSource| match source {
            SecretSource::Env(name) => Some(name.clone()),
            SecretSource::File(_) => None,
        };
        let sources = sources.filter_map(variable).collect();
        *self.sources.lock().unwrap_or_else(PoisonError::into_inner) = sources;
    }

    /// Reads the secrets of a worker, for it or for a command beside it; from now on they are known where they are
    /// printed.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub(super) fn secrets_of(&self, settings: &WorkerSettings) -> Result<Vec<Secret>, StartFailure> {
        let secrets = secret::read_all(&settings.isolation.secrets, &self.env)?;
        self.known.learn(&settings.name, &secrets);
        Ok(secrets)
    }

    /// A text of a worker's surroundings without its secrets. All that is kept or shown of what it and the commands
    /// beside it say goes through here.
    pub(crate) fn hush(&self, worker: &Name, text: String) -> String {
        self.known.hush(worker, text)
    }

    /// The same of bytes, lossily decoded.
    pub(super) fn hushed(&self, worker: &Name, bytes: &[u8]) -> String {
        self.hush(worker, String::from_utf8_lossy(bytes).into_owned())
    }

    /// Ends all commands beside workers, and those that are about to begin. Blocks until they are gone, a few seconds
    /// at most.
    pub(crate) fn end_calls(&self) {
        self.calls.close(CALLS_END);
    }

    /// Takes out of an environment what came along with everything (`inherit_env = ["*"]`) and is somebody's secret.
    /// Whoever names such a variable means it.
    pub(super) fn withhold(&self, image: &mut Image, settings: &WorkerSettings) {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.is_empty() || !settings.inherit_env.iter().any(|one| one == "*") {
            return;
        }
        let meant = |name: &str| {
            settings.inherit_env.iter().any(|one| one == name) || settings.env.contains_key(name)
        };
        image.env.retain(|variable| {
            let name = variable.as_bytes().split(|byte| *byte == b'=').next().unwrap_or_default();
            std::str::from_utf8(name).map_or(true, |name| !sources.contains(name) || meant(name))
        });
    }

    /// The turn of an instance; forgotten with the last runner that has it.
    pub(super) fn turn(&self, instance: &InstanceId) -> Arc<Turn> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(instance).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(Turn::default());
        turns.insert(instance.clone(), Arc::downgrade(&turn));
        turn
    }

    /// Gives a turn back.
    pub(super) fn end_turn(&self, instance: &InstanceId, turn: Arc<Turn>) {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        drop(turn);
        if turns.get(instance).is_some_and(|left| left.strong_count() == 0) {
            turns.remove(instance);
        }
    }

    /// Holds the turn of an instance for what an earlier runtime left of it; `None`: somebody has it.
    pub(crate) fn hold(self: &Arc<Self>, instance: &InstanceId) -> Option<Held> {
        let turn = self.turn(instance);
        let guard = Arc::clone(&turn).try_lock_owned().ok()?;
        Some(Held { host: Arc::clone(self), instance: instance.clone(), held: Some((guard, turn)) })
    }

    /// Reads what something of an instance writes that no runner of ours has started. Must be called within a tokio
    /// runtime.
    pub(crate) fn tap(
        self: &Arc<Self>,
        instance: &InstanceId,
        settings: &Arc<WorkerSettings>,
        counters: Arc<OutputCounters>,
    ) -> Vec<OutputStream> {
        Site::new(self.clone(), instance.clone(), Arc::clone(settings), counters).tap()
    }

    /// Has halts of children told; false: here nobody hears of them.
    pub(crate) fn hear_halts(&self, listener: OnHalt) -> bool {
        if self.adopts {
            children::hear_halts(listener);
        }
        self.adopts
    }

    /// What an earlier runtime on this state directory left alive.
    pub(crate) fn survivors(&self) -> &[Survivor] {
        &self.survivors
    }

    /// Whether workers of other users pass through our directories.
    pub(super) fn is_shared(&self) -> bool {
        self.shared.load(Ordering::Relaxed)
    }

    /// From now on they do: a changed configuration may name the first one while everything runs.
    pub(super) fn share(&self) -> io::Result<()> {
        if self.is_shared() {
            return Ok(());
        }
        if let Some(state_dir) = self.workers_dir.parent() {
            shared_dir(state_dir, true)?;
        }
        // Only now: what the disk refused is tried again by the next start.
        self.shared.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whom to call when the state directory is not there any more.
    pub(crate) fn when_missing(&self, make: Missing) {
        // There is one composition root, and it calls this once.
        let _ = self.missing.set(make);
    }

    /// Has the state directory made again if it is missing. On a spawning thread.
    pub(super) fn come_home(&self) -> io::Result<()> {
        match self.missing.get() {
            Some(make) if !self.workers_dir.is_dir() => make(),
            Some(_) | None => Ok(()),
        }
    }

    /// Writes the spawn record once more, after somebody has removed it. Blocks until nobody is being started, for a
    /// second at most.
    pub(crate) fn renew_record(&self) {
        if let Err(error) = self.record.renew() {
            tracing::warn!(%error, "the spawn record cannot be written anew");
        }
    }

    /// Whether there is no place for anybody's directory: then what a start failed by is nothing of the worker's. Where
    /// the state directory took nothing from the start, the place is in the shelter.
    pub(super) fn is_homeless(&self) -> bool {
        let homeless = self.shelter.is_none() && shelter::is_gone(&self.workers_dir);
        self.homeless.store(homeless, Ordering::Relaxed);
        homeless
    }

    /// What the process is short of right now, in words.
    pub(crate) fn shortages(&self) -> Vec<String> {
        let files = self.reserve.is_needed().then(|| {
            "regrow is out of file descriptors: what runs is minded, and nothing new is begun; raise its limit (LimitNOFILE, ulimit -n)".to_owned()
        });
        // Asked for only once somebody has missed it.
        let home = (self.homeless.load(Ordering::Relaxed) && self.is_homeless()).then(|| {
            format!(
                "{} is not there and cannot be made: what runs is minded, and whoever must be started waits until it is; \
                 move the state directory back, or mount it again",
                self.workers_dir.display()
            )
        });
        files.into_iter().chain(home).collect()
    }

    /// Removes every shelter, this runtime's and earlier ones', at an end that left nobody behind.
    pub(crate) fn leave_shelter(&self) {
        if let Some(state_dir) = self.workers_dir.parent() {
            shelter::leave(state_dir, true);
        }
    }

    /// Where limits can be enforced. Looked for once, and only if a worker has any.
    pub(super) fn controllers(&self) -> &Controllers {
        self.controllers.get_or_init(|| Controllers::find(self.cgroups.as_ref(), &self.key))
    }

    /// What these workers ask for and this machine does not give, in words.
    pub(crate) fn shortcomings(&self, workers: &[Arc<WorkerSettings>]) -> Vec<String> {
        let wanted = |one: Controller| {
            workers.iter().any(|worker| {
                let limits = worker.isolation.limits;
                match one {
                    Controller::Memory => limits.memory.is_some(),
                    Controller::Cpu => limits.cpu.is_some(),
                    Controller::Pids => limits.processes.is_some(),
                }
            })
        };
        let told = |one: Controller| match self.controllers().place(one) {
            Place::V2 | Place::V1(_) => None,
            Place::Nowhere(why) => Some(format!(
                "limits.{} is not held by the kernel ({why}); describe says how it is",
                one.limit()
            )),
        };
        Controller::ALL.into_iter().filter(|one| wanted(*one)).filter_map(told).collect()
    }

    /// The thread that reads all output.
    pub(crate) fn output(&self) -> &OutputHub {
        &self.output
    }
}
