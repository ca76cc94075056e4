//! A runtime in this process: brought up, watched, and ended by signals.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::config::{Settings, Sources};
use crate::event::EventKind;
use crate::http::dto::EventView;
use crate::http::{Listeners, SOCKET_NAME, Servers, look_at_control_place};
use crate::id::Name;
use crate::policy::Phase;
use crate::runtime::{Asker, Finished, Hosting, Runtime, RuntimeHandle, StartError};
use crate::supervisor::{InstanceState, SupervisorState, Wanted};
use crate::telemetry::Recorded;
use crate::worker::in_process::Registry;

use super::failure::Failure;
use super::locate;
use super::logging::{self, LogFile};
use super::notify::notify;
use super::signals::{Came, Signals};

/// How often a start is looked at until it is over.
const LOOK: Duration = Duration::from_millis(50);

/// The same once a critical worker was given up: it is tried again by itself, and may be ready then.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// After events were told, others gather for this long: nobody reads faster, and a boot of hundreds of workers makes
/// thousands, each of which would else be a write and a change of threads of its own.
const GATHER: Duration = Duration::from_millis(20);

/// Events that are told in one go at most.
const TOGETHER: usize = 512;

/// This long after a boot, what only the boot needed is given back: by then its last words are written.
const CALM: Duration = Duration::from_secs(10);

/// Makes room for descriptors, before the first of them is needed: whoever started us may have left us a few only. What
/// is refused here is tried once more by the runtime, and then noted.
pub(crate) fn make_room() {
    let _ = crate::worker::process::raise_open_files();
    crate::worker::process::set_aside();
}

/// A running runtime with its servers.
pub(crate) struct Foreground {
    handle: RuntimeHandle,
    servers: Servers,
    finished: oneshot::Receiver<Finished>,
    log: LogFile,
    last_seq: u64,
    /// Whether it was told that the runtime is ending.
    ending: bool,
}

/// How far the start is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Boot {
    /// Something is still on its way.
    UnderWay,
    /// Every critical worker that nobody stopped is ready, and no first start is under way.
    Ready,
    /// A critical worker was given up.
    Failed(String),
}

/// What the caller is told while it watches.
pub(crate) enum Happened<'a> {
    /// Events of the journal, in their order.
    Events(&'a [EventView]),
    /// The start is over.
    Booted(&'a Boot),
    /// A signal.
    Signal(Came),
}

impl Foreground {
    /// Takes the addresses, starts the runtime and then the servers. `sources`: where the settings can be read again.
    pub(crate) async fn start(
        settings: Settings,
        sources: Option<Sources>,
        registry: Registry,
    ) -> Result<Self, Failure> {
        let listeners = Listeners::bind(&settings.http)
            .map_err(|error| holder(&settings.runtime.state_dir).unwrap_or(error))?;
        // A start that is refused has started nobody.
        look_at_control_place(&settings.runtime.state_dir)?;
        let log = LogFile::new();
        logging::install(&settings.telemetry, &log);
        let log_path = settings.runtime.state_dir.join("logs").join("regrow.log");
        let runtime = {
            // What is run for a while and from no file has no history.
            let keep = sources.is_some();
            Runtime::begin_in(settings, sources, Hosting { keep, ..Hosting::whole(registry) })?
        };
        let handle = runtime.handle().clone();
        if let Err(error) = log.open(&log_path) {
            handle
                .info()
                .note(format!("the runtime's own log {} cannot be written: {error}", log_path.display()));
        }
        let (over, finished) = oneshot::channel();
        let waiter = std::thread::Builder::new().name("regrow-wait".to_owned()).spawn(move || {
            // Nobody waits any more: the process is ending.
            let _ = over.send(runtime.wait());
        });
        waiter.map_err(|error| Failure::Failed(format!("cannot start a thread: {error}")))?;
        match Servers::start_on(handle.clone(), listeners) {
            Ok(servers) => {
                // Whoever asks something waits with us.
                handle.opened().await;
                Ok(Self { handle, servers, finished, log, last_seq: 0, ending: false })
            }
            Err(error) => {
                handle.shutdown(Asker("a failed start".to_owned())).await;
                // Whatever it ended with, the start has failed.
                let _ = finished.await;
                Err(error.into())
            }
        }
    }

    pub(crate) fn handle(&self) -> &RuntimeHandle {
        &self.handle
    }

    /// The lines that a person sees first.
    pub(crate) fn header(&self, files: &[impl AsRef<Path>]) -> String {
        let info = self.handle.info();
        let settings = info.settings();
        let from =
            files.first().map(|file| format!(", from {}", file.as_ref().display())).unwrap_or_default();
        let workers = super::words::plural(settings.workers.len() as u64, "worker");
        let supervisors = super::words::plural(settings.supervisors.len() as u64, "supervisor");
        let mut out = format!(
            "regrow {}  {}, pid {}: {workers}, {supervisors}{from}\n",
            info.version, settings.runtime.name, info.pid
        );
        out.push_str(&format!("  socket  {}\n", info.state_dir.join(SOCKET_NAME).display()));
        out.push_str(&format!("  logs    {}\n", info.state_dir.join("logs").display()));
        if let Some(address) = self.servers.public_address() {
            out.push_str(&format!("  http    http://{address}  /livez /readyz /metrics\n"));
        }
        if let Some(address) = self.servers.probe_address() {
            out.push_str(&format!("  probes  http://{address}  /livez /readyz /metrics\n"));
        }
        for note in settings.warnings.iter().chain(&info.notes()) {
            out.push_str(&format!("  note    {note}\n"));
        }
        out
    }

    /// Watches until the runtime has ended. The first signal to end ends it in order, the second now; and so does an
    /// error of whoever is told, which is the answer then: nobody's workers outlive the one who looked after them.
    pub(crate) async fn attend(
        &mut self,
        signals: &mut Signals,
        tell: impl FnMut(&RuntimeHandle, Happened<'_>) -> Result<(), Failure>,
    ) -> Result<Finished, Failure> {
        let handle = self.handle.clone();
        let mut audience = Audience { handle: handle.clone(), tell, failed: None };
        let (old, mut live) = self.handle.journal().follow(0);
        self.tell_events(&old, &mut audience);
        let mut booting = tokio::time::interval(LOOK);
        let (mut booted, mut ready) = (false, false);
        let (mut asked, mut let_go) = (false, false);
        let mut gathering = None;
        let mut calm = None;
        loop {
            if audience.failed.is_some() && !std::mem::replace(&mut let_go, true) {
                self.handle.shutdown(Asker("nobody who looks on any more".to_owned())).await;
            }
            tokio::select! {
                Some(first) = live.next(), if gathering.is_none() => {
                    let mut events = vec![first];
                    events.extend(std::iter::from_fn(|| live.next_now()).take(TOGETHER - 1));
                    self.tell_events(&events, &mut audience);
                    gathering = Some(Instant::now() + GATHER);
                }
                () = sleep_until(gathering), if gathering.is_some() => gathering = None,
                () = sleep_until(calm), if calm.is_some() => {
                    calm = None;
                    crate::worker::unix::give_back();
                    crate::worker::unix::let_go_of_code();
                }
                came = signals.next() => {
                    audience.hear(Happened::Signal(came));
                    self.answer(came, &mut asked).await;
                }
                _ = booting.tick(), if !ready && !self.ending => {
                    let boot = boot(&handle);
                    if boot == Boot::UnderWay || self.is_ending() {
                        continue;
                    }
                    if boot == Boot::Ready {
                        ready = true;
                        notify("READY=1");
                    }
                    if !std::mem::replace(&mut booted, true) {
                        calm = Some(Instant::now() + CALM);
                        booting = tokio::time::interval_at(Instant::now() + LOOK_AGAIN, LOOK_AGAIN);
                        audience.hear(Happened::Booted(&boot));
                    }
                }
                finished = &mut self.finished => {
                    self.tell_events(&handle.journal().since(self.last_seq), &mut audience);
                    let broke = |_| Failure::Failed("the runtime broke down; its log says why".to_owned());
                    return audience.failed.map_or_else(|| finished.map_err(broke), Err);
                }
            }
        }
    }

    fn tell_events<T>(&mut self, events: &[Arc<Recorded>], audience: &mut Audience<T>)
    where
        T: FnMut(&RuntimeHandle, Happened<'_>) -> Result<(), Failure>,
    {
        let Some(last) = events.last() else { return };
        self.last_seq = last.seq;
        self.ending |= events.iter().any(|event| is_the_end(event));
        let views: Vec<EventView> = events.iter().map(|recorded| EventView::from(&**recorded)).collect();
        let _together = self.log.hold();
        audience.hear(Happened::Events(&views));
    }

    /// Whether the runtime ends by now, told or not: what is stopped then looks like a start that is over.
    fn is_ending(&self) -> bool {
        self.ending || self.handle.journal().since(self.last_seq).iter().any(|event| is_the_end(event))
    }

    /// Ends the servers; the runtime has ended before.
    pub(crate) fn close(self) {
        self.servers.stop();
    }

    async fn answer(&self, came: Came, asked: &mut bool) {
        match came {
            Came::End(signal) => {
                let by = Asker(format!("signal {}", crate::exit::signal_name(signal)));
                if std::mem::replace(asked, true) {
                    self.handle.kill(by).await;
                } else {
                    notify("STOPPING=1");
                    self.handle.shutdown(by).await;
                }
            }
            Came::Hangup | Came::User(_) => {}
        }
    }
}

/// Who is told what happens, until that fails.
struct Audience<T> {
    handle: RuntimeHandle,
    tell: T,
    failed: Option<Failure>,
}

impl<T: FnMut(&RuntimeHandle, Happened<'_>) -> Result<(), Failure>> Audience<T> {
    fn hear(&mut self, happened: Happened<'_>) {
        if self.failed.is_none() {
            self.failed = (self.tell)(&self.handle, happened).err();
        }
    }
}

fn is_the_end(event: &Recorded) -> bool {
    event.event.kind == EventKind::RuntimeStopping
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The runtime that lives on this state directory. It most likely holds the address too, and is what people need
/// to hear of.
fn holder(state_dir: &Path) -> Option<StartError> {
    let pid = locate::living_on(state_dir)??;
    Some(StartError::Busy { state_dir: state_dir.to_owned(), pid })
}

/// Looks how far the start is.
fn boot(handle: &RuntimeHandle) -> Boot {
    let states = handle.board().instances();
    let settings = handle.info().settings();
    let workers = settings.workers.iter();
    let on: HashSet<&Name> = workers.filter(|worker| worker.enabled).map(|worker| &worker.name).collect();
    let enabled = |state: &InstanceState| on.contains(state.instance.worker());
    let supervisors = handle.board().supervisors();
    let under_way = |state: &InstanceState| on_its_way(state) && !held_down(&supervisors, &state.supervisor);
    if states.iter().filter(|state| enabled(state)).any(under_way) {
        return Boot::UnderWay;
    }
    let given_up =
        |state: &&InstanceState| state.critical && matches!(state.phase, Phase::Quarantined | Phase::Stuck);
    if let Some(lost) = states.iter().find(given_up) {
        let why = lost.last_exit.as_ref().map_or("", |last| last.message.as_str());
        return Boot::Failed(format!("the critical worker {} was given up: {why}", lost.instance));
    }
    let booted = !states.is_empty() || settings.workers.is_empty();
    // What somebody stopped, before this runtime too, is not waited for.
    let stopped =
        |state: &InstanceState| state.wanted != Wanted::Running || held_down(&supervisors, &state.supervisor);
    let critical = states.iter().filter(|state| state.critical && enabled(state));
    let through = |state: &InstanceState| state.ready || stopped(state) || state.phase == Phase::Done;
    let ready = critical.into_iter().all(through);
    if booted && ready { Boot::Ready } else { Boot::UnderWay }
}

/// A first start that is neither done nor failed yet.
fn on_its_way(state: &InstanceState) -> bool {
    match state.phase {
        // Whether a start is over that nobody can see, nobody will ever say.
        Phase::Starting => state.restarts == 0 && !state.verdict().is_some_and(|verdict| verdict.unseen),
        Phase::Stopped => state.is_untouched() && state.wanted == Wanted::Running,
        Phase::Waiting
        | Phase::Running
        | Phase::Stopping
        | Phase::Backoff
        | Phase::Quarantined
        | Phase::Stuck
        | Phase::Done => false,
    }
}

/// Whether nothing below this supervisor starts by itself: it, or one above it, was stopped or given up.
fn held_down(supervisors: &[SupervisorState], name: &Name) -> bool {
    let Some(own) = supervisors.iter().find(|state| state.name == *name) else { return false };
    let here = match own.phase {
        Phase::Waiting | Phase::Quarantined | Phase::Stuck | Phase::Stopped | Phase::Done => true,
        Phase::Starting | Phase::Running | Phase::Stopping | Phase::Backoff => false,
    };
    here || own.parent.as_ref().is_some_and(|parent| held_down(supervisors, parent))
}
