//! A runtime from Rust: which actors there are, and what is to run.

use std::path::PathBuf;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::config::{Settings, Sources, load};
use crate::probe::Probe;
use crate::worker::RecoveryStrategy;
use crate::worker::in_process::{PlainActor, Registry, Worker, WorkerError};

use super::handle::RuntimeHandle;
use super::launch::{Claims, Hosting, Runtime, StartError};

/// Makes a runtime; from [`Runtime::builder`].
///
/// With `main` it is the whole program: signals, log, sockets and panic hook are regrow's. With `start` it is a guest:
/// it takes none of these, changes nothing of the process that it was not told to, reaps no children but its own, and
/// ends when its last handle is dropped. A guest whose
/// configuration comes from a text keeps no history unless it is told where, with `runtime.state_dir`.
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until `main` or `start`"]
pub struct Builder {
    registry: Registry,
    sources: Sources,
    settings: Option<Settings>,
    hook: bool,
    plane: Option<Handle>,
    claims: Claims,
}

impl Builder {
    /// Makes a worker type known by the name that `actor = "Name"` in the configuration uses. A later one of the same
    /// name takes its place.
    pub fn worker<W: Worker>(mut self, name: &str) -> Self {
        self.registry.add::<W>(name);
        self
    }

    /// Makes a plain [`ractor`] actor known by the name that `actor = "Name"` in the configuration uses. `make` is called
    /// for each incarnation, with the worker's own settings and with who it is to be, and gives the actor and its
    /// arguments.
    ///
    /// It is supervised like any other worker: started, stopped, restarted, shown by `describe`; a panic in any step of
    /// it, or in the `Drop` of its state, ends this incarnation and nobody else. It is ready once `pre_start` has
    /// returned. Its address is a [`WorkerRef`](crate::WorkerRef) of its own message type, good for all incarnations.
    ///
    /// It runs where its host put it: on the runtime of [`run_on`](Self::run_on), else on the tokio runtime that calls
    /// [`start`](Self::start). With `main` there is none of the host's, and it runs on regrow's worker plane.
    /// `blocking`, `snapshot` and tasks mean nothing to it.
    ///
    /// ```
    /// use regrow::{Runtime, ractor};
    /// use ractor::{Actor, ActorProcessingErr, ActorRef};
    ///
    /// struct Counter;
    ///
    /// impl Actor for Counter {
    ///     type Msg = u64;
    ///     type State = u64;
    ///     type Arguments = u64;
    ///
    ///     async fn pre_start(&self, _: ActorRef<u64>, from: u64) -> Result<u64, ActorProcessingErr> {
    ///         Ok(from)
    ///     }
    ///
    ///     async fn handle(&self, _: ActorRef<u64>, more: u64, sum: &mut u64) -> Result<(), ActorProcessingErr> {
    ///         *sum = sum.checked_add(more).ok_or("too much")?;
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let builder = Runtime::builder().ractor("Counter", |(): (), _| Ok((Counter, 7)));
    /// ```
    pub fn ractor<A, C>(
        mut self,
        name: &str,
        make: impl Fn(C, PlainActor) -> Result<(A, A::Arguments), WorkerError> + Send + Sync + 'static,
    ) -> Self
    where
        A: ractor::Actor,
        C: DeserializeOwned + Send + 'static,
    {
        self.registry.add_plain(name, make);
        self
    }

    /// Makes a probe known by the name that `probe.X.custom = "Name"` in the configuration uses. It looks at any number of
    /// instances, each told by its [`Patient`](crate::probe::Patient), on the threads where workers run. A later one of
    /// the same name takes its place. An example is in [`probe`](crate::probe).
    pub fn probe(mut self, name: &str, probe: impl Probe + 'static) -> Self {
        self.registry.add_probe(name, Arc::new(probe));
        self
    }

    /// Makes a recovery strategy known by the name that steps of ladders use: `{ do = "flush-cache" }`. An example is at
    /// [`RecoveryStrategy`]. A `[strategy.NAME]` of the same name may give it another `timeout` and a `cost`; one with a
    /// `command` goes before it.
    pub fn strategy(mut self, name: &str, strategy: impl RecoveryStrategy + 'static) -> Self {
        self.registry.add_strategy(name, Arc::new(strategy));
        self
    }

    /// For `start`: the configuration is this text. Relative paths start at the current directory.
    pub fn toml(mut self, text: impl Into<String>) -> Self {
        self.sources.inline = Some(text.into());
        self
    }

    /// For `start`: the configuration is this file.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.sources.file = Some(path.into());
        self
    }

    /// For `start`: one key over what text or file say, such as `("runtime.state_dir", "/var/lib/orders")`.
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.sources.flags.push((key.into(), value.into()));
        self
    }

    /// For `start`: settings that were loaded already. They count alone.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = Some(settings);
        self
    }

    /// For `start`: notes where panics of workers happen, and how one came there, with a panic hook. Panics of other
    /// code go on to the hook that was there before. Without it a worker's panic is reported with its message only.
    pub fn panic_hook(mut self) -> Self {
        self.hook = true;
        self
    }

    /// For `start`: workers run on this tokio runtime instead of one of regrow's own. Whoever hands it in sees to it
    /// that it has threads enough: code that blocks one of them delays what else runs there.
    pub fn run_on(mut self, plane: Handle) -> Self {
        self.plane = Some(plane);
        self
    }

    /// For `start`: raises the soft limit of open files to the hard one, and limits of zero. Workers get the original
    /// back. Without it the limits of this process stay as they are, and many workers may run out of descriptors.
    pub fn raise_limits(mut self) -> Self {
        self.claims.limits = true;
        self
    }

    /// For `start`: where a worker has secrets, no core file of this process and no debugger of the same user. Without
    /// it a note says that its memory can be dumped.
    pub fn private_memory(mut self) -> Self {
        self.claims.memory = true;
        self
    }

    /// For `start`: where workers have limits and the cgroup of this process holds nobody else, it moves into one of its
    /// own below, so that the limits can be had. Without it such limits are polled.
    pub fn step_aside(mut self) -> Self {
        self.claims.cgroup = true;
        self
    }

    /// Starts it beside whatever else this process does. Returns once the boot has begun;
    /// [`RuntimeHandle::wait_ready`] waits for its end.
    ///
    /// # Errors
    /// [`StartError`]: the configuration is invalid, another runtime lives on the state directory, or the system
    /// refuses something that cannot be done without.
    pub async fn start(self) -> Result<RuntimeHandle, StartError> {
        if let Some(ground) = self.plane.clone().or_else(|| Handle::try_current().ok()) {
            self.registry.settle(ground);
        }
        let (hosting, sources, settings) = self.guest();
        let (tell, told) = oneshot::channel();
        let work = move || {
            let started = begin(hosting, &sources, settings);
            // Nobody waits any more: then the runtime goes with its handle.
            let _ = tell.send(started);
        };
        // It reads files and waits for a thread, which must not hold up the caller's.
        std::thread::Builder::new()
            .name("regrow-start".to_owned())
            .spawn(work)
            .map_err(|source| StartError::System { what: "cannot start a thread", source })?;
        told.await.map_err(|_| StartError::System {
            what: "the start broke down",
            source: std::io::Error::other("see the lines above"),
        })?
    }

    /// The registered types, for the command line.
    pub(crate) fn into_registry(self) -> Registry {
        self.registry
    }

    /// The settings and the registered types, for a runtime that is started in another way.
    pub(crate) fn into_parts(self) -> Result<(Settings, Registry), StartError> {
        let Self { registry, sources, settings, .. } = self;
        settle(&registry, &sources, settings).map(|(settings, ..)| (settings, registry))
    }

    fn guest(self) -> (Hosting, Sources, Option<Settings>) {
        let Self { registry, sources, settings, hook, plane, claims } = self;
        (Hosting { registry, hook, plane, claims, keep: true }, sources, settings)
    }
}

/// Reading this many workers leaves enough free memory behind to be worth a look through the allocator's.
const MANY: usize = 1000;

fn begin(
    mut hosting: Hosting,
    sources: &Sources,
    settings: Option<Settings>,
) -> Result<RuntimeHandle, StartError> {
    let (settings, sources, keep) = settle(&hosting.registry, sources, settings)?;
    hosting.keep = keep;
    let many = settings.workers.len() >= MANY;
    let started = Runtime::start_in(settings, sources, hosting).map(Runtime::detach);
    if many {
        crate::worker::unix::give_back();
    }
    started
}

/// The settings, where they can be read again, and whether there is a place for a history.
fn settle(
    registry: &Registry,
    sources: &Sources,
    settings: Option<Settings>,
) -> Result<(Settings, Option<Sources>, bool), StartError> {
    if let Some(settings) = settings {
        return Ok((settings, None, true));
    }
    let sources = Sources { actors: Some(Arc::new(registry.clone())), ..sources.clone() };
    let loaded = load(&sources).map_err(|problems| StartError::Config(problems.render(false)))?;
    let keep = loaded.has_a_place();
    Ok((loaded.settings, Some(sources), keep))
}
