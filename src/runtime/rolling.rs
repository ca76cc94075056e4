//! The thin side of a rolling restart: asks, edits, and waits for the board.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use crate::config::{Settings, WorkerSettings};
use crate::event::{Cause, Event, EventKind};
use crate::id::{InstanceId, Name};
use crate::policy::{Phase, Request};
use crate::supervisor::{Asked, Operator, Plane, RollState, SupervisorMsg, SupervisorState};

use super::handle::{ActError, Asker};
use super::reshape::{Edit, Editing};
use super::roll::{Outcome, Roll, Seen, Step};

/// What it needs.
#[derive(Clone)]
pub(super) struct Hands {
    pub(super) plane: Arc<Plane>,
    pub(super) edits: mpsc::Sender<Editing>,
    pub(super) by: Asker,
}

impl Hands {
    /// Changes the settings in force, in turn with everybody else who does.
    pub(super) async fn edit(&self, edit: Edit) -> Result<Arc<Settings>, ActError> {
        let (reply, answer) = oneshot::channel();
        self.edits.send(Editing { edit, reply }).await.map_err(|_| ActError::ShuttingDown)?;
        answer.await.map_err(|_| ActError::ShuttingDown)?
    }

    /// Replaces every instance of a worker, at most `most` at once; what became of it is on the board.
    pub(super) async fn roll(self, worker: Name, most: u32) {
        self.replace_all(worker, None, most).await;
    }

    /// Replaces one instance in the same way.
    pub(super) async fn replace(self, instance: InstanceId) {
        let text = format!("{instance} is replaced ({})", self.by.0);
        let mut event = Event::new(EventKind::ActionRequested, text);
        event.worker = Some(instance.worker().clone());
        event.instance = Some(instance.clone());
        event.data.insert("action".to_owned(), "recycle".into());
        event.data.insert("by".to_owned(), self.by.0.clone().into());
        self.plane.emit(event);
        self.replace_all(instance.worker().clone(), Some(instance), 1).await;
    }

    async fn replace_all(self, worker: Name, only: Option<InstanceId>, most: u32) {
        let mut meanwhile = String::new();
        let outcome = match self.edit(Box::new(|settings| Ok(settings.clone()))).await {
            Ok(settings) => match settings.workers.iter().find(|one| one.name == worker) {
                Some(own) => {
                    meanwhile = how_it_goes_on(&settings, own);
                    let all = only.clone().map_or_else(|| own.instance_ids().collect(), |only| vec![only]);
                    self.run(&settings, own, all, most, only.is_some()).await
                }
                None => Outcome::Failed(format!("{worker} was removed meanwhile")),
            },
            Err(error) => Outcome::Failed(error.to_string()),
        };
        self.tell(&worker, only.as_ref(), &outcome, &meanwhile);
        let state = match outcome {
            Outcome::Done | Outcome::AllBut(_) | Outcome::Nothing => RollState::Done,
            Outcome::Failed(why) => RollState::Failed(why),
        };
        self.plane.board.set_roll(&worker, state);
    }

    fn tell(&self, worker: &Name, only: Option<&InstanceId>, outcome: &Outcome, meanwhile: &str) {
        let whom = only.map_or_else(|| worker.to_string(), ToString::to_string);
        let by = &self.by.0;
        let text = match outcome {
            Outcome::Done => format!("{whom} was replaced{meanwhile} ({by})"),
            Outcome::AllBut(left) => {
                let names: Vec<String> = left.iter().map(ToString::to_string).collect();
                let names = names.join(", ");
                format!("{whom} was replaced{meanwhile} ({by}), but for {names}: paused meanwhile")
            }
            Outcome::Nothing => format!("of {whom} nobody runs who was to be replaced ({by})"),
            Outcome::Failed(why) => {
                format!(
                    "the replacement of {whom} ({by}) ended early: {why}; those not reached stay as they are"
                )
            }
        };
        let mut event = Event::new(EventKind::ActionRequested, text);
        event.worker = Some(worker.clone());
        event.instance = only.cloned();
        // What one alone is replaced for stands in the file.
        event.cause = only.is_none().then(|| Cause::Operator.into());
        event.data.insert("action".to_owned(), "rolling restart".into());
        event.data.insert("by".to_owned(), by.clone().into());
        event.data.insert("done".to_owned(), matches!(outcome, Outcome::Done | Outcome::AllBut(_)).into());
        self.plane.emit(event);
    }

    async fn run(
        &self,
        settings: &Settings,
        worker: &WorkerSettings,
        instances: Vec<InstanceId>,
        most: u32,
        planned: bool,
    ) -> Outcome {
        let copy = spare(settings, worker);
        let mut roll = Roll::new(instances, copy, most, worker.verify);
        if !roll.concerns_somebody(|id| self.see(id)) {
            return Outcome::Nothing;
        }
        let mut changes = self.plane.board.watch();
        let began = tokio::time::Instant::now();
        loop {
            changes.borrow_and_update();
            match roll.next(began.elapsed(), |id| self.see(id)) {
                Step::Grow => {
                    if let Err(error) = self.spare_copies(&worker.name, 1).await {
                        return Outcome::Failed(error.to_string());
                    }
                }
                Step::Restart(instance) => self.restart(&instance, planned),
                Step::Wait(most) => {
                    let nap = most.unwrap_or(std::time::Duration::from_secs(60));
                    tokio::select! {
                        changed = changes.changed() => if changed.is_err() {
                            return Outcome::Failed(ActError::ShuttingDown.to_string());
                        },
                        () = tokio::time::sleep(nap) => {}
                    }
                }
                Step::Shrink(outcome) => {
                    return match self.spare_copies(&worker.name, 0).await {
                        Ok(()) => outcome,
                        Err(error) => Outcome::Failed(error.to_string()),
                    };
                }
                Step::Over(_) if self.plane.home(&worker.name).is_none() => {
                    return Outcome::Failed(format!("{} was removed meanwhile", worker.name));
                }
                Step::Over(outcome) => return outcome,
            }
        }
    }

    /// What the board shows of an instance and of those above it.
    fn see(&self, id: &InstanceId) -> Option<Seen> {
        let state = self.plane.board.instance(id)?;
        let above = down_above(&self.plane.board.supervisors(), &state.supervisor);
        Some(Seen::new(&state, above))
    }

    /// Has so many copies beside those that somebody wants.
    async fn spare_copies(&self, worker: &Name, spare: u32) -> Result<(), ActError> {
        let name = worker.clone();
        let edit: Edit =
            Box::new(move |settings| with_copies(settings, &name, |now| Ok((now.instances, spare))));
        self.edit(edit).await.map(drop)
    }

    fn restart(&self, instance: &InstanceId, planned: bool) {
        let home = self.plane.home(instance.worker()).and_then(|home| self.plane.supervisor(&home));
        // One that is down takes its children along; the board shows that, and the roll waits for it.
        let Some(home) = home else { return };
        let (reply, _) = oneshot::channel();
        let by = Operator { by: self.by.0.clone(), at: Timestamp::now() };
        let request = Box::new(|child| Request::Restart { child });
        let asked = Asked { planned, ..Asked::new(instance.to_string(), request, by, reply) };
        let _ = home.send_message(SupervisorMsg::Asked(Box::new(asked)));
    }
}

/// The lowest supervisor from here up that was stopped or given up: nothing below it starts by itself.
fn down_above(supervisors: &[SupervisorState], name: &Name) -> Option<Name> {
    let own = supervisors.iter().find(|state| state.name == *name)?;
    match own.phase {
        Phase::Quarantined | Phase::Stuck | Phase::Stopped | Phase::Done => return Some(name.clone()),
        Phase::Waiting | Phase::Starting | Phase::Running | Phase::Stopping | Phase::Backoff => {}
    }
    down_above(supervisors, own.parent.as_ref()?)
}

/// Whether a worker has nobody beside it while it is replaced: it is alone and has no port to share its work on.
pub(crate) fn is_alone(settings: &Settings, worker: &Name) -> bool {
    let own = settings.workers.iter().find(|one| one.name == *worker);
    own.is_none_or(|own| own.is_alone())
}

/// How a worker goes on while one of it is replaced.
fn how_it_goes_on(settings: &Settings, worker: &WorkerSettings) -> String {
    match settings.copy_trouble(worker) {
        Some(why) => format!(", without one copy more before: {why}"),
        None if worker.is_alone() => "; it was down meanwhile".to_owned(),
        None => " while the others went on".to_owned(),
    }
}

/// The copy more of a roll; none for a worker that may rely on being alone, and none on a port of somebody else. Who
/// asks for a roll is refused in the second case; a planned replacement goes on without one, and its event says so.
fn spare(settings: &Settings, worker: &WorkerSettings) -> Option<InstanceId> {
    let free = !worker.is_alone() && settings.copy_trouble(worker).is_none();
    free.then(|| InstanceId::of_pool(worker.name.clone(), worker.instances))
}

/// The same settings with another number of copies of one worker: those that somebody wants, and spare ones.
pub(super) fn with_copies(
    settings: &Settings,
    worker: &Name,
    number: impl FnOnce(&WorkerSettings) -> Result<(u32, u32), ActError>,
) -> Result<Settings, ActError> {
    let mut settings = settings.clone();
    let Some(at) = settings.workers.iter().position(|one| one.name == *worker) else {
        return Err(ActError::NotFound(worker.to_string()));
    };
    let now = &settings.workers[at];
    let (instances, spare) = number(now)?;
    let copies = instances.saturating_add(spare);
    if let Some(base) = now.port.filter(|base| u32::from(*base).saturating_add(copies) > 65_536) {
        return Err(ActError::Conflict(format!(
            "the ports from {base} on do not reach for {copies} instances"
        )));
    }
    if let Some(other) = settings.port_clash(now, copies) {
        return Err(ActError::Conflict(format!(
            "with {copies} instances {worker} would take ports of {other}; move one of the two"
        )));
    }
    if let Some(other) = settings.slug_clash(now, copies) {
        return Err(ActError::Conflict(format!(
            "with {copies} instances {worker} would share a directory with {other}; rename one of the two"
        )));
    }
    if let Some(other) = settings.pid_file_clash(now, copies) {
        return Err(ActError::Conflict(format!(
            "with {copies} instances {worker} would share a pid_file with {other}; put {{slug}} into it"
        )));
    }
    settings.workers[at] = Arc::new(WorkerSettings { instances, spare, ..WorkerSettings::clone(now) });
    Ok(settings)
}
