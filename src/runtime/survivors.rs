//! What an earlier runtime left alive: ended before its worker is started again, or, where somebody has paused it,
//! left alone until the pause is over.
//!
//! Nobody else waits for that. A survivor that is left alone keeps its instance's directory and its output, which goes
//! on being read; a start of the instance, if somebody asks for one, comes after its end. The end of the runtime takes
//! all of them along like everybody else: it is waited for them, and what remains at the end of that time is killed.

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
use crate::supervisor::{InstanceState, Plane, Wish};
use crate::worker::process::{Cleared, Held, ProcessHost, Survivor};

use super::handle::RuntimeInfo;

/// How often it is looked whether a survivor still lives and is still to be left alone.
const LOOK: Duration = Duration::from_millis(250);

/// How far the end of the runtime has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    /// It goes on.
    Not,
    /// Everybody is stopped.
    Asked,
    /// Everybody is killed.
    Now,
}

/// What an earlier runtime left, until it is gone. The runtime does not end before.
pub(super) struct Remains {
    tasks: JoinSet<(InstanceId, Option<Taken>)>,
    /// Of whom something lives.
    living: Vec<InstanceId>,
    /// Who could not be killed before the end; nothing takes their place.
    stuck: Vec<Taken>,
    ending: watch::Sender<Ending>,
}

impl Default for Remains {
    fn default() -> Self {
        let (tasks, ending) = (JoinSet::new(), watch::Sender::new(Ending::Not));
        Self { tasks, living: Vec::new(), stuck: Vec::new(), ending }
    }
}

impl Remains {
    /// The runtime ends, and they with it.
    pub(super) fn end(&self) {
        self.ending.send_modify(|ending| *ending = Ending::Asked.max(*ending));
    }

    /// There is no more time: what still lives is killed.
    pub(super) fn kill(&self) {
        self.ending.send_replace(Ending::Now);
    }

    /// Whether nobody is left who is waited for.
    pub(super) fn is_settled(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Waits until one more is settled; for ever, if all are.
    pub(super) async fn settle_one(&mut self) {
        match self.tasks.join_next().await {
            None => std::future::pending().await,
            Some(Ok((id, None))) => {
                if let Some(at) = self.living.iter().position(|living| *living == id) {
                    self.living.swap_remove(at);
                }
            }
            Some(Ok((_, Some(taken)))) => self.stuck.push(taken),
            Some(Err(error)) => tracing::error!(%error, "what saw to a process of an earlier runtime broke"),
        }
    }

    /// Of whom something lives.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.living.iter().map(ToString::to_string).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Takes all of them in.
pub(super) fn take_in_survivors(
    info: &Arc<RuntimeInfo>,
    host: &Arc<ProcessHost>,
    plane: &Arc<Plane>,
) -> Remains {
    let settings = info.settings();
    let mut remains = Remains::default();
    let mut turns: HashMap<InstanceId, Arc<Held>> = HashMap::new();
    for survivor in host.survivors().to_vec() {
        let mut survivor = survivor.called(settings.workers.iter().flat_map(|worker| worker.instance_ids()));
        let id = survivor.instance.clone();
        let worker = settings.workers.iter().find(|worker| worker.name == *id.worker()).cloned();
        let runs_on = worker.as_ref().is_some_and(|worker| host.follow_daemon(&mut survivor, worker));
        let (host, plane) = (Arc::clone(host), Arc::clone(plane));
        let mut taken = Taken { host, plane, survivor, held: None, ending: remains.ending.subscribe() };
        if runs_on && worker.as_ref().is_some_and(|worker| taken.starts(worker)) {
            taken.tell("lives on after an earlier runtime; it is taken over");
            continue;
        }
        // Nobody is started before everybody is taken in, so the turn is free; of one instance two may live.
        taken.held = turns.get(&id).cloned().or_else(|| taken.host.hold(&id).map(Arc::new));
        if let Some(held) = &taken.held {
            turns.insert(id.clone(), Arc::clone(held));
        }
        remains.living.push(id.clone());
        let spared = worker.clone().filter(|_| taken.held.is_some() && taken.is_to_be_left_alone());
        if let Some(worker) = spared {
            remains.tasks.spawn(taken.spare(worker));
        } else {
            taken.plane.gate.block(&id);
            remains.tasks.spawn(taken.replace(worker));
        }
    }
    remains
}

/// One of them, and what is needed to deal with it.
struct Taken {
    host: Arc<ProcessHost>,
    plane: Arc<Plane>,
    survivor: Survivor,
    /// The turn, held to the end: whatever is killed here is the survivor's, and never a successor's.
    held: Option<Arc<Held>>,
    ending: watch::Receiver<Ending>,
}

impl Taken {
    /// Ends it, and lets its instance start. Gives itself back if it lives when the runtime ends.
    async fn replace(mut self, worker: Option<Arc<WorkerSettings>>) -> (InstanceId, Option<Self>) {
        self.tell("lives on after an earlier runtime; it is being stopped");
        let id = self.survivor.instance.clone();
        let stop = worker.as_ref().map_or_else(default_stop, |worker| worker.stop.clone());
        let starts = || worker.as_ref().is_some_and(|worker| self.starts(worker));
        if !self.clear(&stop, starts).await {
            return (id, Some(self));
        }
        self.held = None;
        let turn = self.plane.gate.unblock(&id);
        self.plane.pass(turn);
        (id, None)
    }

    /// Whether its instance is to run.
    fn starts(&self, worker: &WorkerSettings) -> bool {
        let id = &self.survivor.instance;
        let named = worker.instance_ids().any(|own| own == *id);
        named && worker.enabled && !self.ends() && self.plane.wish(&id.to_string()) == Wish::default()
    }

    /// Whether the runtime ends.
    fn ends(&self) -> bool {
        *self.ending.borrow() > Ending::Not
    }

    /// Leaves it alone until the pause is over, somebody asks for something else, or it ends.
    async fn spare(mut self, worker: Arc<WorkerSettings>) -> (InstanceId, Option<Self>) {
        let text = "it was left by an earlier runtime and goes on while it is paused; it is replaced when the pause ends";
        self.tell("lives on after an earlier runtime; it is paused, and left alone");
        let id = self.survivor.instance.clone();
        let counters = self.plane.board.instance(&id).map(|entry| entry.output).unwrap_or_default();
        let tap = self.host.tap(&id, &worker, counters);
        self.plane.board.update(&id, |entry| {
            (entry.pid, entry.adopted) = (self.survivor.main_pid(), true);
            entry.notes.push(text.to_owned());
        });
        while !self.ends() && self.is_to_be_left_alone() {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                changed = self.ending.changed() => if changed.is_err() { break },
            }
        }
        let starts = || !self.ends() && is_wanted(&self.plane.wish(&id.to_string()));
        let gone = self.clear(&worker.stop, starts).await;
        self.plane.board.update(&id, |entry| {
            if gone {
                // Whoever was started meanwhile waits for this.
                (entry.pid, entry.adopted) = (None, false);
            }
            entry.notes.retain(|note| note != text);
        });
        drop(tap);
        if gone { (id, None) } else { (id, Some(self)) }
    }

    /// Its main process lives, and somebody has paused it and asked for nothing else since.
    fn is_to_be_left_alone(&self) -> bool {
        let id = &self.survivor.instance;
        let wish = self.plane.wish(&id.to_string());
        let paused = wish.paused.is_some_and(|(_, until)| until.is_none_or(|until| until > Timestamp::now()));
        let started = self.plane.board.instance(id).is_none_or(|entry| is_started(entry.own_phase()));
        self.survivor.main_pid().is_some() && paused && wish.stopped.is_none() && !started
    }

    /// Ends it; false: it lives on when the runtime ends.
    async fn clear(&self, stop: &StopSettings, starts: impl Fn() -> bool) -> bool {
        let text = match self.survivor.main_pid() {
            Some(pid) => format!("pid {pid} of an earlier runtime lives on and is being stopped"),
            None => "processes of an earlier runtime live on and are being killed".to_owned(),
        };
        self.show(Phase::Stopping, &text);
        let mut ending = self.ending.clone();
        let hurry = async move {
            if ending.wait_for(|ending| *ending == Ending::Now).await.is_err() {
                // Without a director nobody is in a hurry.
                std::future::pending::<()>().await;
            }
        };
        let cleared = self.host.clear(&self.survivor, stop, hurry).await;
        self.plane.board.update(&self.survivor.instance, |entry| entry.issues.retain(|issue| *issue != text));
        self.tell(&cleared_text(cleared, starts()));
        let gone = cleared != Cleared::Stuck || self.outlast(starts).await;
        if gone {
            self.plane.board.update(&self.survivor.instance, InstanceState::unstick);
        }
        gone
    }

    /// Shows a survivor that cannot be killed as what it is, and waits until it is gone; false: the runtime ends first.
    async fn outlast(&self, starts: impl Fn() -> bool) -> bool {
        let text = "it was left by an earlier runtime and cannot be killed; no second copy is started while it lives";
        self.show(Phase::Stuck, text);
        self.plane.emit(self.event(EventKind::WorkerStuck, text));
        let mut ending = self.ending.clone();
        let gone = tokio::select! {
            () = self.host.outlast(&self.survivor) => true,
            _ = ending.wait_for(|ending| *ending > Ending::Not) => false,
        };
        if gone {
            self.plane
                .board
                .update(&self.survivor.instance, |entry| entry.issues.retain(|issue| issue != text));
            let text = format!(
                "it could be killed at last{}",
                if starts() { "; its worker starts now" } else { "" }
            );
            self.plane.emit(self.event(EventKind::RuntimeAdopted, &text));
        }
        gone
    }

    /// Shows it in the place of its instance.
    fn show(&self, phase: Phase, text: &str) {
        self.plane.board.update(&self.survivor.instance, |entry| {
            entry.stand_in(phase, self.survivor.main_pid(), self.survivor.incarnation);
            entry.issues.push(text.to_owned());
        });
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
        Cleared::Hurried => "it did not end in the time that the end of the runtime has left, and was killed",
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
