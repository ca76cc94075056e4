//! What an earlier runtime left alive: ended before its worker is started again, or, where somebody has paused it,
//! left alone until the pause is over.
//!
//! Nobody else waits for that. A survivor that is left alone keeps its instance's directory and its output, which goes
//! on being read; a start of the instance, if somebody asks for one, comes after its end. The end of the runtime takes
//! it along like everybody else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{StopSettings, WorkerSettings};
use crate::event::{Event, EventKind};
use crate::id::InstanceId;
use crate::policy::Phase;
use crate::supervisor::{Plane, Wish};
use crate::worker::process::{Cleared, Held, ProcessHost, Survivor};

use super::handle::RuntimeInfo;

/// How often it is looked whether a survivor still lives and is still to be left alone.
const LOOK: Duration = Duration::from_millis(250);

/// Those that are left alone.
#[derive(Debug)]
pub(super) struct Spared {
    tasks: JoinSet<()>,
    ending: watch::Sender<bool>,
}

impl Default for Spared {
    fn default() -> Self {
        Self { tasks: JoinSet::new(), ending: watch::Sender::new(false) }
    }
}

impl Spared {
    /// The runtime ends, and they with it.
    pub(super) fn end(&self) {
        self.ending.send_replace(true);
    }

    /// Returns once none of them is left, or after this long.
    pub(super) async fn gone(&mut self, patience: Duration) {
        self.end();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::error!("a paused process of an earlier runtime does not end; the next runtime finds it");
        }
    }
}

/// Takes all of them in.
pub(super) fn take_in_survivors(
    info: &Arc<RuntimeInfo>,
    host: &Arc<ProcessHost>,
    plane: &Arc<Plane>,
) -> Spared {
    let settings = info.settings();
    let mut spared = Spared::default();
    let mut turns: HashMap<InstanceId, Arc<Held>> = HashMap::new();
    for survivor in host.survivors().to_vec() {
        let mut survivor = survivor.called(settings.workers.iter().flat_map(|worker| worker.instance_ids()));
        let id = survivor.instance.clone();
        let worker = settings.workers.iter().find(|worker| worker.name == *id.worker()).cloned();
        let runs_on = worker.as_ref().is_some_and(|worker| host.follow_daemon(&mut survivor, worker));
        let taken = Taken { host: Arc::clone(host), plane: Arc::clone(plane), survivor };
        if runs_on && worker.as_ref().is_some_and(|worker| taken.starts(worker)) {
            taken.tell("lives on after an earlier runtime; it is taken over");
            continue;
        }
        // Nobody is started before everybody is taken in, so the turn is free; of one instance two may live.
        let held = turns.get(&id).cloned().or_else(|| host.hold(&id).map(Arc::new));
        if let Some(held) = &held {
            turns.insert(id.clone(), Arc::clone(held));
        }
        if let (Some(worker), Some(held)) = (worker.clone().filter(|_| taken.is_to_be_left_alone()), &held) {
            spared.tasks.spawn(taken.spare(worker, Arc::clone(held), spared.ending.subscribe()));
            continue;
        }
        plane.gate.block(&id);
        tokio::spawn(taken.replace(worker, held));
    }
    spared
}

/// One of them, and what is needed to deal with it.
struct Taken {
    host: Arc<ProcessHost>,
    plane: Arc<Plane>,
    survivor: Survivor,
}

impl Taken {
    /// Ends it, and lets its instance start. The turn is held to the end: whatever is killed here is the survivor's,
    /// and never a successor's.
    async fn replace(self, worker: Option<Arc<WorkerSettings>>, held: Option<Arc<Held>>) {
        self.tell("lives on after an earlier runtime; it is being stopped");
        let starts = worker.as_ref().is_some_and(|worker| self.starts(worker));
        self.clear(&worker.map_or_else(default_stop, |worker| worker.stop.clone()), starts).await;
        drop(held);
        let turn = self.plane.gate.unblock(&self.survivor.instance);
        self.plane.pass(turn);
    }

    /// Whether its instance is to run.
    fn starts(&self, worker: &WorkerSettings) -> bool {
        let id = &self.survivor.instance;
        let named = worker.instance_ids().any(|own| own == *id);
        named && worker.enabled && self.plane.wish(&id.to_string()) == Wish::default()
    }

    /// Leaves it alone until the pause is over, somebody asks for something else, or it ends.
    async fn spare(self, worker: Arc<WorkerSettings>, held: Arc<Held>, mut ending: watch::Receiver<bool>) {
        let text = "it was left by an earlier runtime and goes on while it is paused; it is replaced when the pause ends";
        self.tell("lives on after an earlier runtime; it is paused, and left alone");
        let id = &self.survivor.instance;
        let counters = self.plane.board.instance(id).map(|entry| entry.output).unwrap_or_default();
        let tap = self.host.tap(id, &worker, counters);
        self.plane.board.update(id, |entry| {
            (entry.pid, entry.adopted) = (self.survivor.main_pid(), true);
            entry.notes.push(text.to_owned());
        });
        while !*ending.borrow_and_update() && self.is_to_be_left_alone() {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                changed = ending.changed() => if changed.is_err() { break },
            }
        }
        let starts = !*ending.borrow() && is_wanted(&self.plane.wish(&id.to_string()));
        self.clear(&worker.stop, starts).await;
        self.plane.board.update(id, |entry| {
            // Whoever was started meanwhile waits for this.
            (entry.pid, entry.adopted) = (None, false);
            entry.notes.retain(|note| note != text);
        });
        drop(tap);
        drop(held);
    }

    /// Its main process lives, and somebody has paused it and asked for nothing else since.
    fn is_to_be_left_alone(&self) -> bool {
        let id = &self.survivor.instance;
        let wish = self.plane.wish(&id.to_string());
        let paused = wish.paused.is_some_and(|(_, until)| until.is_none_or(|until| until > Timestamp::now()));
        let started = self.plane.board.instance(id).is_none_or(|entry| is_started(entry.phase));
        self.survivor.main_pid().is_some() && paused && wish.stopped.is_none() && !started
    }

    async fn clear(&self, stop: &StopSettings, starts: bool) {
        let cleared = self.host.clear(&self.survivor, stop).await;
        self.tell(&cleared_text(cleared, starts));
        if cleared == Cleared::Stuck {
            self.outlast().await;
        }
    }

    /// Shows a survivor that cannot be killed as what it is, and waits until it is gone.
    async fn outlast(&self) {
        let text = "it was left by an earlier runtime and cannot be killed; no second copy is started while it lives";
        let (board, id) = (&self.plane.board, &self.survivor.instance);
        board.update(id, |entry| {
            entry.stick(self.survivor.main_pid());
            entry.issues.push(text.to_owned());
        });
        self.plane.emit(self.event(EventKind::WorkerStuck, text));
        self.host.outlast(&self.survivor).await;
        board.update(id, |entry| {
            entry.unstick();
            entry.issues.retain(|issue| issue != text);
        });
        let text = "it could be killed at last; its worker starts now";
        self.plane.emit(self.event(EventKind::RuntimeAdopted, text));
    }

    fn tell(&self, text: &str) {
        let pid = self.survivor.pid;
        let who = pid.map_or_else(|| "what an earlier start left".to_owned(), |pid| format!("pid {pid}"));
        let mut event = self.event(EventKind::RuntimeAdopted, &format!("{who}: {text}"));
        if let Some(pid) = pid {
            event.data.insert("pid".to_owned(), pid.into());
        }
        self.plane.emit(event);
    }

    fn event(&self, kind: EventKind, text: &str) -> Event {
        let id: &InstanceId = &self.survivor.instance;
        let mut event = Event::new(kind, text);
        event.worker = Some(id.worker().clone());
        event.instance = Some(id.clone());
        event.incarnation = self.survivor.incarnation;
        event.supervisor = self.plane.home(id.worker());
        event
    }
}

/// Whether the policy has started it, or is ending it.
fn is_started(phase: Phase) -> bool {
    match phase {
        Phase::Starting | Phase::Running | Phase::Stopping | Phase::Stuck => true,
        Phase::Waiting | Phase::Backoff | Phase::Quarantined | Phase::Stopped | Phase::Done => false,
    }
}

/// Whether nobody has stopped it, and no pause of it goes on.
fn is_wanted(wish: &Wish) -> bool {
    let goes_on = |until: Option<Timestamp>| until.is_none_or(|until| until > Timestamp::now());
    wish.stopped.is_none() && !wish.paused.as_ref().is_some_and(|(_, until)| goes_on(*until))
}

fn cleared_text(cleared: Cleared, starts: bool) -> String {
    let text = match cleared {
        Cleared::Gone => return "it has ended by itself".to_owned(),
        Cleared::Stuck => return "it cannot be killed; no second copy is started while it lives".to_owned(),
        Cleared::Stopped => "it ended as asked",
        Cleared::Swept => "its main process has ended, and what that left behind was killed",
        Cleared::Killed => "it did not end within stop.timeout and was killed",
    };
    format!("{text}{}", if starts { "; its worker starts now" } else { "" })
}

/// For a survivor whose worker is no longer in the file.
fn default_stop() -> StopSettings {
    StopSettings {
        signal: libc::SIGTERM,
        to: crate::config::StopTo::Main,
        timeout: Duration::from_secs(10),
        drain: Duration::ZERO,
        unresponsive_timeout: Duration::from_secs(3),
    }
}
