//! The runner of one actor worker, and what all its incarnations share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::config::WorkerSettings;
use crate::exit::{Exit, StartFailure};
use crate::id::{Incarnation, InstanceId};
use crate::worker::{
    Deed, Done, Job, Move, Reporter, Runner, Sights, StateRoom, WorkerReport, stay_if_possible,
};

use super::guard::Guarded;
use super::host::{InProcessHost, MAX_ABANDONED};
use super::inbox::{Ask, Order, Ordered};
use super::life::{End, Life};
use super::numbers::Numbers;
use super::panic::{Panicked, aside, contain};
use super::registry::{Body, Owned};
use super::saved::{SaveError, Saved};
use super::watchdog::Watch;

/// How long after a kill code may go on without yielding before it is left behind. Its time to end in order,
/// `stop.timeout`, was over before.
const GRACE: Duration = Duration::from_millis(250);
/// The same for code that is only waiting for its turn, because others hold every thread of the plane.
const TURN: Duration = Duration::from_secs(4);

/// What all incarnations of one instance share.
pub(super) struct Site {
    pub(super) host: Arc<InProcessHost>,
    /// For the panic hook, which knows no names.
    pub(super) number: u64,
    pub(super) instance: InstanceId,
    pub(super) settings: Arc<WorkerSettings>,
    pub(super) inbox: Arc<dyn Ordered>,
    pub(super) saved: Saved,
    pub(super) watch: Mutex<Watch>,
    reporter: Reporter,
    /// Reports, and does what follows from it.
    doing: OnceLock<Reporter>,
    current: Mutex<Option<Arc<Life>>>,
    /// An incarnation was left behind: later ones get a thread of their own.
    apart: AtomicBool,
    unsaved: Mutex<Option<SaveError>>,
    numbers: Mutex<Numbers>,
}

impl Site {
    pub(super) fn new(
        host: &Arc<InProcessHost>,
        number: u64,
        instance: InstanceId,
        settings: &Arc<WorkerSettings>,
        reporter: Reporter,
        inbox: Arc<dyn Ordered>,
        dir: PathBuf,
    ) -> Arc<Self> {
        Arc::new(Self {
            host: Arc::clone(host),
            number,
            instance,
            settings: Arc::clone(settings),
            inbox,
            saved: Saved::new(dir),
            watch: Mutex::default(),
            reporter,
            doing: OnceLock::new(),
            current: Mutex::default(),
            apart: AtomicBool::new(false),
            unsaved: Mutex::default(),
            numbers: Mutex::default(),
        })
    }

    /// Writes down the number of a start, once: before its code has it, and never after a later one.
    pub(super) fn count(&self, incarnation: Incarnation) {
        let due = lock(&self.numbers).due(incarnation, Instant::now());
        // Not with the lock: a disk that hangs holds this start alone.
        if let Some(until) = due {
            self.host.count_start(&self.instance, until);
        }
    }

    pub(super) fn report(&self, incarnation: Incarnation, report: WorkerReport) {
        (self.reporter)(incarnation, report);
    }

    /// The same from a thread that may do what follows itself. Nothing may be locked that a start needs.
    pub(super) fn report_and_do(&self, incarnation: Incarnation, report: WorkerReport) {
        match self.doing.get() {
            // What is done is not this worker's doing.
            Some(doing) => aside(|| doing(incarnation, report)),
            None => self.report(incarnation, report),
        }
    }

    /// The newest incarnation, unless it is over.
    pub(super) fn current(&self) -> Option<Arc<Life>> {
        lock(&self.current).clone().filter(|life| !life.is_over())
    }

    /// Whether its code may block: then nobody minds.
    pub(super) fn is_apart(&self) -> bool {
        self.settings.blocking || self.apart.load(Ordering::Acquire)
    }

    /// Whether it holds a thread that others need.
    pub(super) fn blocks(&self) -> bool {
        !self.is_apart() && self.current().is_some() && lock(&self.watch).blocks()
    }

    /// Shows a snapshot that cannot be written as an issue, until one can.
    pub(super) fn saved_or_not(&self, incarnation: Incarnation, written: Result<(), SaveError>) {
        let now = written.err().filter(|error| *error != SaveError::Over);
        let before = std::mem::replace(&mut *lock(&self.unsaved), now.clone());
        if before == now {
            return;
        }
        if let Some(error) = before {
            self.report(incarnation, WorkerReport::IssueOver { text: unsaved_text(&error) });
        }
        if let Some(error) = now {
            tracing::warn!(instance = %self.instance, %error, "its state is not saved");
            self.report(incarnation, WorkerReport::Issue { text: unsaved_text(&error) });
        }
    }
}

fn unsaved_text(error: &SaveError) -> String {
    format!("its state is not saved: {error}")
}

/// Starts and stops one actor worker. Dropping it kills what runs.
pub(super) struct InProcessRunner {
    site: Arc<Site>,
    body: Arc<dyn Body>,
    task: Option<AbortHandle>,
    control: Handle,
}

impl InProcessRunner {
    pub(super) fn new(site: Arc<Site>, body: Arc<dyn Body>) -> Self {
        Self { site, body, task: None, control: Handle::current() }
    }

    fn launch(&mut self, incarnation: Incarnation) -> Result<(), StartFailure> {
        let site = &self.site;
        let left = if site.apart.load(Ordering::Acquire) { site.host.left_behind() } else { 0 };
        if left >= MAX_ABANDONED {
            return Err(StartFailure::Resources {
                detail: format!(
                    "{left} incarnations that could not be ended hold a thread each; one must come back first"
                ),
            });
        }
        let short = |error: std::io::Error| StartFailure::Resources { detail: error.to_string() };
        let plane = site.host.plane().handle().map_err(short)?;
        let life = Life::new(Arc::clone(site), incarnation);
        stay_if_possible(site.saved.dir());
        site.inbox.open(incarnation);
        let apart = site.is_apart() && !site.host.one_thread;
        let control = self.control.clone();
        let main = Main::new(Arc::clone(&self.body), Arc::clone(&life), control, !apart);
        *lock(&site.current) = Some(Arc::clone(&life));
        site.report(incarnation, WorkerReport::Started { pid: None });
        if apart {
            self.task = None;
            thread(site, plane, main, life).map_err(short)
        } else {
            self.task = Some(plane.spawn(main).abort_handle());
            Ok(())
        }
    }
}

impl Runner for InProcessRunner {
    fn lend(&mut self, doing: &Reporter) {
        // Where everything is one thread there is none to be woken, and tests count on the order of its tasks.
        if !self.site.host.one_thread {
            let _ = self.site.doing.set(Arc::clone(doing));
        }
    }

    fn start(&mut self, incarnation: Incarnation) {
        if let Err(failure) = self.launch(incarnation) {
            let (site, exit) = (Arc::clone(&self.site), Exit::StartFailed(failure));
            let told = move || site.report(incarnation, WorkerReport::StartFailed { exit, hint: None });
            let site = Arc::clone(&self.site);
            self.site.host.once_counted(&self.control, move || site.count(incarnation), told);
        }
    }

    fn stop(&mut self) {
        if let Some(life) = self.site.current() {
            life.stop();
        }
    }

    fn kill(&mut self) {
        let Some(life) = self.site.current() else { return };
        life.kill();
        if let Some(task) = &self.task {
            task.abort();
        }
        let on_plane = self.task.is_some();
        self.control.spawn(give_up(life, on_plane));
    }

    fn perform(&mut self, job: Job, done: Done) {
        let site = Arc::clone(&self.site);
        // A start that comes after this makes the moving of its state void.
        let wish = matches!(job.deed, Deed::Archive | Deed::Recreate)
            .then(|| StateRoom::at(site.saved.dir()).map(|room| room.wish()));
        self.control.spawn(async move { done(perform(site, job, wish).await) });
    }
}

/// Asks the worker between two messages and waits for its answer.
async fn ask(
    site: &Site,
    timeout: Duration,
    ask: impl FnOnce(oneshot::Sender<()>) -> Ask,
) -> Result<(), String> {
    let Some(life) = site.current() else { return Err("it does not run".to_owned()) };
    let (reply, answer) = oneshot::channel();
    if life.site.inbox.order(Some(life.incarnation), Order::Ask(ask(reply))).is_err() {
        return Err("it does not run".to_owned());
    }
    match tokio::time::timeout(timeout, answer).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err("it ended meanwhile".to_owned()),
        Err(_) => Err("it did not answer in time".to_owned()),
    }
}

async fn perform(site: Arc<Site>, job: Job, wish: Option<std::io::Result<Move>>) -> Result<Sights, String> {
    if let Some(wish) = wish {
        let (end, anew) = (Instant::now() + job.timeout, job.deed == Deed::Recreate);
        let put = tokio::task::spawn_blocking(move || wish?.carry_out(anew, || Instant::now() < end)).await;
        return put.map_err(|error| error.to_string())?.map_err(|error| error.to_string());
    }
    match job.deed {
        // Its state is in its memory, where nobody can look from outside.
        Deed::Look => Ok(Vec::new()),
        Deed::ResetConnections => ask(&site, job.timeout, Ask::ResetConnections).await.map(|()| Vec::new()),
        Deed::TrimMemory => ask(&site, job.timeout, Ask::TrimMemory).await.map(|()| Vec::new()),
        Deed::Archive | Deed::Recreate => Err("its state cannot be put away like this".to_owned()),
        Deed::Run { .. } => Err("commands run beside processes, and this worker is an actor".to_owned()),
    }
}

impl Drop for InProcessRunner {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits for the end of a killed incarnation, and leaves it behind if it does not come.
async fn give_up(life: Arc<Life>, on_plane: bool) {
    let began = tokio::time::Instant::now();
    let mut before = life.feel();
    loop {
        tokio::time::sleep(GRACE).await;
        if life.is_over() {
            return;
        }
        let now = life.feel();
        let blocks = now.0 && now == before;
        if (blocks || began.elapsed() >= TURN) && life.abandon() {
            // Closed for its successor; what waits in it was for this one.
            let site = &life.site;
            let who = site.number;
            let _ = contain(who, || site.inbox.close(life.incarnation));
            site.apart.store(true, Ordering::Release);
            site.host.leave_behind(site, on_plane);
            let (host, incarnation) = (Arc::clone(&site.host), life.incarnation);
            let (counted, told) = (Arc::clone(site), Arc::clone(site));
            let tell = move || told.report(incarnation, WorkerReport::Exited { exit: Exit::Abandoned });
            // It may not have had its first turn, at which it is counted otherwise.
            return host.once_counted(&Handle::current(), move || counted.count(incarnation), tell);
        }
        before = now;
    }
}

/// Runs an incarnation on a thread of its own, with the clock and the sockets of the plane.
fn thread(site: &Site, plane: Handle, main: Main, life: Arc<Life>) -> std::io::Result<()> {
    let name: String = format!("rg-{}", site.instance.slug()).chars().take(15).collect();
    let work = move || {
        plane.block_on(async move {
            let killed = async {
                loop {
                    let rung = life.bell.notified();
                    tokio::pin!(rung);
                    rung.as_mut().enable();
                    if life.is_killed() {
                        return;
                    }
                    rung.await;
                }
            };
            tokio::select! {
                () = main => {}
                () = killed => {}
            }
        });
    };
    std::thread::Builder::new().name(name).spawn(work).map(drop)
}

/// The task of one incarnation: its code, its state, and the end of both.
struct Main {
    body: Arc<dyn Body>,
    life: Arc<Life>,
    /// Made where it runs, at its first turn: the control plane has better things to do.
    code: Option<Code>,
    control: Handle,
    on_plane: bool,
    over: bool,
}

/// The code of an incarnation, and the place of its state.
struct Code {
    guarded: Guarded<End, Arc<Life>>,
    home: Arc<dyn Owned>,
}

impl Code {
    fn new(body: &dyn Body, life: &Arc<Life>) -> Self {
        let (future, home) = body.begin(life);
        Self { guarded: Guarded::new(future, Arc::clone(life)), home }
    }
}

impl Main {
    fn new(body: Arc<dyn Body>, life: Arc<Life>, control: Handle, on_plane: bool) -> Self {
        Self { body, life, code: None, control, on_plane, over: false }
    }

    /// The code is gone. Now its state, and what it will not read any more.
    fn finish(&mut self, end: End) {
        self.over = true;
        let life = Arc::clone(&self.life);
        let who = life.site.number;
        let dropped = self.code.as_ref().map_or(Ok(()), |code| contain(who, || code.home.clear()));
        let closed = contain(who, || life.site.inbox.close(life.incarnation));
        if let Ok(count) = closed
            && count > 0
        {
            life.site.report(life.incarnation, WorkerReport::Unread { count });
        }
        let end = [dropped, closed.map(drop)].into_iter().fold(end, with_drop);
        life.ended(end);
        // A task that it spawned may block its thread: the end must not wait for that for ever.
        if !life.is_over() {
            self.control.spawn(give_up(life, self.on_plane));
        }
    }
}

/// A panic in a `Drop` is an end of its own where there was no other failure.
pub(super) fn with_drop(end: End, dropped: Result<(), Box<Panicked>>) -> End {
    let Err(mut panicked) = dropped else { return end };
    let then =
        |first: &str, panicked: &Panicked| format!("{first}; then a Drop panicked: {}", panicked.message);
    let both = |first: &mut Panicked, panicked: Panicked| {
        first.message = then(&first.message, &panicked);
        first.trace = first.trace.take().or(panicked.trace);
    };
    match end {
        End::Done | End::Stopped | End::Killed => End::Panicked(panicked),
        End::Failed(text) => {
            panicked.message = then(&text, &panicked);
            End::Torn(panicked)
        }
        End::Torn(mut first) => {
            both(&mut first, *panicked);
            End::Torn(first)
        }
        End::Panicked(mut first) => {
            both(&mut first, *panicked);
            End::Panicked(first)
        }
    }
}

impl Future for Main {
    type Output = ();

    fn poll(self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        let me = self.get_mut();
        if me.code.is_none() {
            me.life.site.count(me.life.incarnation);
            // A disk may have held it until it was given up: its code has not begun and does not begin.
            if me.life.is_killed() {
                me.finish(End::Killed);
                return std::task::Poll::Ready(());
            }
        }
        let code = me.code.get_or_insert_with(|| Code::new(&*me.body, &me.life));
        let done = std::task::ready!(std::pin::Pin::new(&mut code.guarded).poll(context));
        me.finish(done.unwrap_or_else(End::Panicked));
        std::task::Poll::Ready(())
    }
}

impl Drop for Main {
    fn drop(&mut self) {
        if !self.over {
            let end = match self.code.as_mut().map(|code| code.guarded.clear()) {
                None | Some(Ok(())) => End::Killed,
                Some(Err(panicked)) => End::Panicked(panicked),
            };
            self.finish(end);
        }
    }
}

/// Stands in for a type that this program does not know; only a change of the tree while it runs gets here, since a
/// start checks all names.
pub(super) struct Unknown {
    host: Arc<InProcessHost>,
    actor: String,
    instance: InstanceId,
    reporter: Reporter,
    control: Handle,
}

impl Unknown {
    pub(super) fn new(
        host: &Arc<InProcessHost>,
        actor: &str,
        instance: &InstanceId,
        reporter: Reporter,
    ) -> Self {
        let (host, actor, instance) = (Arc::clone(host), actor.to_owned(), instance.clone());
        Self { host, actor, instance, reporter, control: Handle::current() }
    }
}

impl Runner for Unknown {
    fn start(&mut self, incarnation: Incarnation) {
        let detail = format!("this program registers no actor `{}`", self.actor);
        let exit = Exit::StartFailed(StartFailure::System { detail });
        let reporter = Arc::clone(&self.reporter);
        let told = move || reporter(incarnation, WorkerReport::StartFailed { exit, hint: None });
        let (host, instance) = (Arc::clone(&self.host), self.instance.clone());
        self.host.once_counted(&self.control, move || host.count_start(&instance, incarnation), told);
    }

    fn stop(&mut self) {}

    fn kill(&mut self) {}
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
