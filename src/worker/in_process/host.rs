//! What all actor workers of one runtime share.

use std::backtrace::Backtrace;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::config::WorkerSettings;
use crate::exit::Exit;
use crate::id::{Incarnation, InstanceId, Name};
use crate::worker::{Ailing, Done, Reporter, Runner, WorkerReport, carry_out};

use super::directory::Directory;
use super::frames::own_frames;
use super::inbox::{Ask, Order};
use super::panic::in_words;
use super::place::WorkerPlane;
use super::registry::Registry;
use super::runner::{InProcessRunner, Site, Unknown};
use super::watchdog;

/// Incarnations that were left behind and still hold a thread, at most. Each holds its stack and whatever it works on;
/// with more of them it is the program that is broken and not a worker, and nothing that was abandoned is started
/// again until one of them comes back.
pub(super) const MAX_ABANDONED: usize = 16;

/// Walked stacks that wait to be turned into text.
const TRACES: usize = 16;

/// The number of a start that came to nothing is to be written down within this, or its end is told before.
const COUNTED_WITHIN: Duration = Duration::from_secs(2);

/// How far the thread that does it stands back.
const STANDS_BACK: i32 = 10;

/// After each it rests so many times as long as that took: a crash loop shows the same stack again and again.
const RESTS: u32 = 9;
const LONGEST_REST: Duration = Duration::from_millis(500);

/// Names that are written out in one remark.
const NAMED: usize = 4;

/// How a host behaves.
#[derive(Default)]
pub(crate) struct InProcessOptions {
    /// Where workers run; `None`: on a plane of its own.
    pub(crate) plane: Option<Handle>,
    /// Nobody gets a thread of its own, not even code that blocks: for a test in which everything is one thread.
    pub(crate) one_thread: bool,
}

/// The shared context.
pub(crate) struct InProcessHost {
    registry: Registry,
    directory: Arc<Directory>,
    plane: WorkerPlane,
    pub(super) one_thread: bool,
    workers_dir: PathBuf,
    sites: Mutex<Sites>,
    abandoned: Mutex<BTreeMap<InstanceId, usize>>,
    numbers: AtomicU64,
    counting: OnceLock<Counting>,
    tracer: OnceLock<Option<SyncSender<Trace>>>,
}

/// Writes down the number of a start.
type Counting = Box<dyn Fn(&InstanceId, Incarnation) + Send + Sync>;

#[derive(Default)]
struct Sites {
    all: Vec<Weak<Site>>,
    watched: bool,
}

/// A walked stack on its way to be text.
struct Trace {
    site: Arc<Site>,
    incarnation: Incarnation,
    led_to: Exit,
    trace: Backtrace,
}

impl InProcessHost {
    /// Prepares for workers of these types; state goes below `state_dir`.
    pub(crate) fn new(registry: Registry, state_dir: &Path, options: InProcessOptions) -> Arc<Self> {
        Arc::new(Self {
            registry,
            directory: Arc::default(),
            plane: WorkerPlane::new(options.plane),
            one_thread: options.one_thread,
            workers_dir: state_dir.join("w"),
            sites: Mutex::default(),
            abandoned: Mutex::default(),
            numbers: AtomicU64::new(1),
            counting: OnceLock::new(),
            tracer: OnceLock::new(),
        })
    }

    /// A runner for this instance. Must be called within the control plane's runtime.
    pub(crate) fn runner(
        self: &Arc<Self>,
        instance: &InstanceId,
        settings: &Arc<WorkerSettings>,
        reporter: Reporter,
    ) -> Box<dyn Runner> {
        let actor = settings.actor.as_deref().unwrap_or_default();
        let body = self.registry.find(actor).map(|factory| factory.open(&self.directory, instance));
        let Some(body) = body else {
            return Box::new(Unknown::new(self, actor, instance, reporter));
        };
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let dir = self.workers_dir.join(instance.slug()).join("state");
        let site = Site::new(self, number, instance.clone(), settings, reporter, body.inbox(), dir);
        self.watch(&site);
        Box::new(InProcessRunner::new(site, body))
    }

    /// Says who writes down the numbers of starts; nobody does without. The first one stays.
    pub(crate) fn set_counting(&self, counting: Counting) {
        // A second one would be a fault of ours, and the first does as well.
        let _ = self.counting.set(counting);
    }

    /// A start has this number: no later one is given it, also not by a later runtime.
    pub(super) fn count_start(&self, instance: &InstanceId, incarnation: Incarnation) {
        if let Some(counting) = self.counting.get() {
            counting(instance, incarnation);
        }
    }

    /// Writes down the number of a start that its code may never see, and then does what follows. For where nobody may
    /// wait for a disk: one that does not answer is given a while and no more.
    pub(super) fn once_counted(
        &self,
        on: &Handle,
        count: impl FnOnce() + Send + 'static,
        then: impl FnOnce() + Send + 'static,
    ) {
        if self.counting.get().is_none() {
            return then();
        }
        on.spawn(async move {
            // Whoever could not write it down has said so.
            let _ = tokio::time::timeout(COUNTED_WITHIN, tokio::task::spawn_blocking(count)).await;
            then();
        });
    }

    /// The types that this program knows.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Where workers run.
    ///
    /// # Errors
    /// The system gives no threads.
    pub(crate) fn threads(&self) -> std::io::Result<Handle> {
        self.plane.handle()
    }

    /// Has a recovery strategy of the program carried out on the threads of the workers.
    pub(crate) fn remedy(&self, name: &Name, ailing: Ailing, timeout: Duration, done: Done) {
        let Some(strategy) = self.registry.strategy(name.as_str()) else {
            return done(Err(format!(
                "there is no [strategy.{name}], and the program has none of that name"
            )));
        };
        match self.plane.handle() {
            Ok(on) => carry_out(&on, strategy, ailing, timeout, done),
            Err(error) => done(Err(format!("there are no threads to run it on: {error}"))),
        }
    }

    /// Addresses.
    pub(crate) fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Puts a question to a worker. It comes back if nobody is there to take it.
    pub(crate) fn ask(&self, id: &InstanceId, ask: Ask) -> Result<(), Ask> {
        let site = self.sites().into_iter().find(|site| site.instance == *id);
        let Some(site) = site else { return Err(ask) };
        site.inbox.order(None, Order::Ask(ask)).or_else(|order| match order {
            Order::Ask(ask) => Err(ask),
            Order::Stop | Order::End(_) => Ok(()),
        })
    }

    /// Loses the next message that is sent to this worker, on purpose.
    pub(crate) fn lose_one(&self, id: &InstanceId) {
        if let Some(site) = self.sites().into_iter().find(|site| site.instance == *id) {
            site.inbox.lose_one();
        }
    }

    /// Who keeps a worker from being heard: code of others that does not yield holds every thread on which it could
    /// run. `None`: it has its turn, or has only itself to blame.
    pub(crate) fn crowded_out(&self, id: &InstanceId) -> Option<String> {
        let sites = self.sites();
        let own = sites.iter().find(|site| site.instance == *id)?;
        if own.is_apart() || own.blocks() { None } else { self.who_holds_all(&sites) }
    }

    fn who_holds_all(&self, sites: &[Arc<Site>]) -> Option<String> {
        let holders: Vec<String> =
            sites.iter().filter(|site| site.blocks()).map(|site| site.instance.to_string()).collect();
        let more = holders.len().saturating_sub(NAMED);
        let others = if more > 0 { format!(" and {more} more") } else { String::new() };
        let full = !holders.is_empty() && self.plane.is_full_with(holders.len());
        full.then(|| format!("{}{others}", holders.into_iter().take(NAMED).collect::<Vec<_>>().join(", ")))
    }

    /// What people should know of right now.
    pub(crate) fn problems(&self) -> Vec<String> {
        let crowd = self.who_holds_all(&self.sites()).map(|who| {
            format!(
                "every thread for actor workers is held by code that does not yield ({who}), so the others wait; \
                 `blocking = true` gives a worker a thread of its own"
            )
        });
        self.left_over().into_iter().chain(crowd).collect()
    }

    fn left_over(&self) -> Option<String> {
        let abandoned = lock(&self.abandoned);
        let count: usize = abandoned.values().sum();
        if count == 0 {
            return None;
        }
        let names: Vec<String> = abandoned.keys().map(ToString::to_string).collect();
        Some(format!(
            "{} by code of actor workers that could not be ended: {}; from {MAX_ABANDONED} on, none of those who left such \
             code behind is started again before some of it ends",
            if count == 1 { "1 thread is held".to_owned() } else { format!("{count} threads are held") },
            names.join(", ")
        ))
    }

    /// Ends the planes. Nothing is waited for: what still runs could not be ended.
    pub(crate) fn close(&self) {
        self.plane.close();
    }

    pub(super) fn plane(&self) -> &WorkerPlane {
        &self.plane
    }

    /// An incarnation was left behind.
    pub(super) fn leave_behind(&self, site: &Site, on_plane: bool) {
        *lock(&self.abandoned).entry(site.instance.clone()).or_default() += 1;
        if on_plane {
            self.plane.lost_one();
        }
    }

    /// One that was left behind has come to its end after all.
    pub(super) fn returned(&self, instance: &InstanceId) {
        let mut abandoned = lock(&self.abandoned);
        if let Some(count) = abandoned.get_mut(instance) {
            *count -= 1;
            if *count == 0 {
                abandoned.remove(instance);
            }
        }
        tracing::info!(%instance, "code of an incarnation that was left behind has ended");
    }

    /// How many are left behind.
    pub(super) fn left_behind(&self) -> usize {
        lock(&self.abandoned).values().sum()
    }

    /// Every instance there is.
    pub(super) fn sites(&self) -> Vec<Arc<Site>> {
        let mut sites = lock(&self.sites);
        sites.all.retain(|site| site.strong_count() > 0);
        sites.all.iter().filter_map(Weak::upgrade).collect()
    }

    /// Turns a walked stack into text, elsewhere, and reports it.
    pub(super) fn trace(&self, site: &Arc<Site>, incarnation: Incarnation, led_to: Exit, trace: Backtrace) {
        let tracer = self.tracer.get_or_init(start_tracer);
        let job = Trace { site: Arc::clone(site), incarnation, led_to, trace };
        match tracer.as_ref().map(|tracer| tracer.try_send(job)) {
            // Full, or no thread for it: the message and its place were told with the end.
            Some(Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) | None => {}
        }
    }

    fn watch(self: &Arc<Self>, site: &Arc<Site>) {
        let mut sites = lock(&self.sites);
        sites.all.push(Arc::downgrade(site));
        if !std::mem::replace(&mut sites.watched, true) {
            tokio::spawn(watchdog::watch(Arc::downgrade(self)));
        }
    }
}

fn start_tracer() -> Option<SyncSender<Trace>> {
    let (jobs, inbox) = sync_channel::<Trace>(TRACES);
    let work = move || {
        // Of this thread alone: where processors are short, workers come first. Nothing rests on it.
        let _ = rustix::process::nice(STANDS_BACK);
        while let Ok(Trace { site, incarnation, led_to, trace }) = inbox.recv() {
            let began = Instant::now();
            let text = own_frames(&in_words(&trace));
            tracing::warn!(instance = %site.instance, %incarnation, "stack of a panic:\n{text}");
            let instance = site.instance.clone();
            site.report(incarnation, WorkerReport::Backtrace { instance, led_to, text });
            drop(site);
            std::thread::sleep((began.elapsed() * RESTS).min(LONGEST_REST));
        }
    };
    std::thread::Builder::new().name("regrow-traces".to_owned()).spawn(work).ok().map(|_| jobs)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
