//! The configuration while everything runs: read again, compared, and taken over as a whole or not at all.
//!
//! The file is read (`reading`) beside the control plane, and everything that can be wrong with it is found before anybody is
//! touched; what is left is one edit of the settings in force, made on the control plane in turn with all others. So
//! the outcome of two orders is always that of one after the other, and an order that fails has changed nothing.
//!
//! One order reads at a time: otherwise an older reading could be taken over after a newer one.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::config::{
    Added, Change, Clock, Diagnostics, Effect, Settings, Sign, Sources, SpecError, Subject, TemplateError,
    WorkerSettings, diff,
};
use crate::event::{Cause, Event, EventKind};
use crate::id::{InstanceId, Name};
use crate::policy::Phase;
use crate::supervisor::{InstanceState, Operator, Wanted};
use crate::units::format_duration;

use super::added::{AddedFile, Misfit};
use super::applied::{applied_event, pending, rejected_event};
use super::handle::{ActError, Asker, RuntimeHandle};
use super::reading::{Reading, read};
use super::reshape::BY_THE_FILE;

/// Reading and checking ten thousand workers takes seconds on a busy machine; a command waits a minute for its answer.
const READ_WITHIN: Duration = Duration::from_secs(30);
/// Readings that may hang at once. Each holds a thread until what it reads from answers.
const READERS: usize = 64;

/// Where the configuration came from, and what became of the last reading.
pub(crate) struct Living {
    sources: Option<Sources>,
    added: AddedFile,
    /// Workers of templates that do not fit the file in force; they come back with a file that they fit.
    left_out: Mutex<Vec<Misfit>>,
    /// Why who was added and removed is not written down; `None`: it is.
    unwritten: Mutex<Option<String>>,
    /// What the file says and only a new runtime can do.
    pending: Mutex<Vec<String>>,
    turn: tokio::sync::Mutex<()>,
    generation: AtomicU64,
    successful: AtomicBool,
    /// Held by every reading that goes on, also by those that nobody waits for any more.
    readers: Arc<()>,
}

/// What a reading of the file means for what runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// What differs from the settings in force, in the order in which it is taken over.
    pub changes: Vec<Change>,
    /// Workers that go on as they are.
    pub untouched: usize,
    /// How often a configuration was taken over, the first included.
    pub generation: u64,
    /// The files that were read, the main one first.
    pub files: Vec<PathBuf>,
}

/// Why a configuration was not taken over. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// There is nothing to read again.
    #[error("this runtime was started without a configuration file, so there is none to read again")]
    NoFile,
    /// The file is wrong, or does not fit workers that run.
    #[error("{0}")]
    Invalid(Box<Diagnostics>),
    /// It cannot be read: what it lies on does not answer.
    #[error(
        "the configuration could not be read within {}: what it lies on does not answer. See to that disk or network share, then apply again",
        format_duration(READ_WITHIN)
    )]
    Unread,
    /// The runtime does not take it.
    #[error(transparent)]
    Act(#[from] ActError),
}

/// Why a worker was neither added nor removed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrowError {
    /// The template makes no such worker.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// What the program spelled out is no worker that can be added.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// It could not be written down, so it would be gone after a restart.
    #[error("the worker could not be written down in the state directory, so it was not added: {0}")]
    NotKept(String),
    /// It is one of the file's.
    #[error("`{0}` stands in the configuration file: take it out there, then `regrow apply`")]
    OfFile(Name),
    /// The runtime does not take it.
    #[error(transparent)]
    Act(#[from] ActError),
}

impl Living {
    /// The settings with the workers that were added in an earlier life, and what could not be done of it.
    pub(super) fn begin(settings: Settings, sources: Option<Sources>) -> (Self, Settings, Vec<String>) {
        let added = AddedFile::new(&settings.runtime.state_dir);
        let (settings, left_out, notes) = added.join(settings);
        let living = Self {
            sources,
            added,
            left_out: Mutex::new(left_out),
            unwritten: Mutex::default(),
            pending: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            generation: AtomicU64::new(1),
            successful: AtomicBool::new(true),
            readers: Arc::default(),
        };
        (living, settings, notes)
    }

    /// One order at a time.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// How often a configuration was taken over, the first included.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Whether the last reading was taken over.
    pub(super) fn successful(&self) -> bool {
        self.successful.load(Ordering::Relaxed)
    }

    /// Why who was added and removed does not outlast this runtime right now; `None`: it does.
    pub(super) fn unwritten(&self) -> Option<String> {
        lock(&self.unwritten).clone()
    }

    /// What the file says and only a new runtime can do, who does not fit it, and what is not written down.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = lock(&self.pending).clone();
        notes.extend(lock(&self.left_out).iter().map(|(_, why)| why.clone()));
        let text = |why| format!("which workers were added and removed could not be written down: {why}");
        notes.extend(self.unwritten().map(text));
        notes
    }
}

impl RuntimeHandle {
    /// Reads the file again and says what taking it over would do; changes nothing.
    ///
    /// # Errors
    /// [`ApplyError`]: there is no file, or it is wrong.
    pub async fn compare(&self) -> Result<Comparison, ApplyError> {
        let Reading { settings, files, .. } = self.read_again().await?;
        let old = self.info().settings();
        let settings = settings.scaled_as(&old);
        fits(&settings)?;
        Ok(self.comparison(diff(&old, &settings), &settings, files))
    }

    /// Reads the file again and takes it over: only what differs is touched. Returns once everybody concerned has
    /// been told; watch the board for the outcome.
    ///
    /// # Errors
    /// [`ApplyError`]; then nothing was changed, and an event says so.
    pub async fn apply(&self, by: Asker) -> Result<Comparison, ApplyError> {
        let living = &self.info().living;
        let _turn = living.turn.lock().await;
        let applied = self.take_over().await;
        living.successful.store(applied.is_ok(), Ordering::Relaxed);
        let event = match &applied {
            Ok(comparison) => applied_event(comparison, &by),
            Err(error) => rejected_event(error, &by),
        };
        self.journal().emit(event);
        applied
    }

    async fn take_over(&self) -> Result<Comparison, ApplyError> {
        let Reading { settings, left_out, files } = self.read_again().await?;
        fits(&settings.clone().scaled_as(&self.info().settings()))?;
        let slot: Arc<Mutex<Vec<Change>>> = Arc::default();
        let found = Arc::clone(&slot);
        let new = self.edit(Box::new(move |current| {
            let settings = settings.scaled_as(current);
            if let Some(trouble) = settings.scaled_trouble() {
                return Err(ActError::Conflict(trouble));
            }
            let changes = diff(current, &settings);
            let held = settings.holding(current);
            *lock(&found) = changes;
            Ok(held)
        }));
        let new = new.await?;
        let living = &self.info().living;
        *lock(&living.left_out) = left_out;
        let changes = std::mem::take(&mut *lock(&slot));
        *lock(&living.pending) = pending(&changes);
        let holds = |change: &Change| {
            change.effect != Effect::RuntimeRestart
                || change.keys.iter().any(|key| key.effect != Effect::RuntimeRestart)
        };
        if changes.iter().any(holds) {
            living.generation.fetch_add(1, Ordering::Relaxed);
        }
        Ok(self.comparison(changes, &new, files))
    }

    /// Adds a worker of a template. It is there again after a restart of the runtime.
    ///
    /// # Errors
    /// [`GrowError`]; then there is no such worker, and will be none.
    pub async fn add(&self, added: Added, by: Asker) -> Result<Vec<InstanceId>, GrowError> {
        let living = &self.info().living;
        let _turn = living.turn.lock().await;
        let id = added.id.clone();
        let grown = self.info().settings().with_added(added.clone())?;
        self.keep(&grown.added).await.map_err(|error| GrowError::NotKept(error.to_string()))?;
        self.announce(
            &format!("add of {id} from template {} asked by {}", added.template, by.0),
            "add",
            &id,
            &by,
        );
        let edited = self
            .edit(Box::new(move |current| {
                current.with_added(added).map_err(|error| ActError::Conflict(error.to_string()))
            }))
            .await;
        if let Err(error) = edited {
            // What was not added must not come back; if that cannot be written, it is a note.
            self.keep_or_note().await;
            return Err(error.into());
        }
        Ok(grown.workers.last().map(|worker| worker.instance_ids().collect()).unwrap_or_default())
    }

    /// Takes a worker away that was added: it is stopped and forgotten.
    ///
    /// # Errors
    /// [`GrowError`]: there is no such worker, or it is one of the file's.
    pub async fn remove(&self, id: Name, by: Asker) -> Result<(), GrowError> {
        let living = &self.info().living;
        let _turn = living.turn.lock().await;
        let settings = self.info().settings();
        if settings.given.iter().any(|given| given.worker.name == id) {
            return self.take_back(id, &by).await;
        }
        let was_left_out = lock(&living.left_out).iter().any(|(added, _)| added.id == id);
        if !was_left_out && settings.without_added(&id).is_none() {
            let of_file = settings.workers.iter().any(|worker| worker.name == id);
            return Err(if of_file {
                GrowError::OfFile(id)
            } else {
                ActError::NotFound(id.to_string()).into()
            });
        }
        lock(&living.left_out).retain(|(added, _)| added.id != id);
        self.announce(&format!("remove of {id} asked by {}", by.0), "remove", &id, &by);
        if !was_left_out {
            let name = id.clone();
            self.edit(Box::new(move |current| {
                current.without_added(&name).ok_or_else(|| ActError::NotFound(name.to_string()))
            }))
            .await?;
        }
        self.keep_or_note().await;
        Ok(())
    }

    async fn read_again(&self) -> Result<Reading, ApplyError> {
        let living = &self.info().living;
        let sources = living.sources.clone().ok_or(ApplyError::NoFile)?;
        let running = self.info().settings();
        let waiting: Vec<_> = lock(&living.left_out).iter().map(|(added, _)| Arc::clone(added)).collect();
        let reader = Arc::clone(&living.readers);
        if Arc::strong_count(&reader) > READERS + 1 {
            return Err(ApplyError::Unread);
        }
        let here = std::thread::current().id();
        let reading = aside(move || {
            let _reader = reader;
            // Nobody waits on the control plane's own thread.
            let clock = Clock { waits: std::thread::current().id() != here };
            read(&sources, &running, &waiting, &clock)
        });
        in_time(reading).await?.ok_or(ActError::ShuttingDown)?
    }

    fn comparison(&self, mut changes: Vec<Change>, new: &Settings, files: Vec<PathBuf>) -> Comparison {
        let workers: HashMap<&Name, &Arc<WorkerSettings>> =
            new.workers.iter().map(|one| (&one.name, one)).collect();
        for change in &mut changes {
            self.heed(change, &workers);
        }
        let untouched =
            new.workers.len().saturating_sub(changes.iter().filter(|change| touches(change)).count());
        Comparison { changes, untouched, generation: self.info().living.generation(), files }
    }

    /// Whom somebody stopped or paused stays so, and whoever waits to be tried again is tried at once.
    fn heed(&self, change: &mut Change, workers: &HashMap<&Name, &Arc<WorkerSettings>>) {
        let Subject::Worker(name) = &change.subject else { return };
        let Some(worker) = workers.get(name).filter(|_| change.sign == Sign::Changed) else { return };
        let states: Vec<InstanceState> =
            worker.instance_ids().filter_map(|instance| self.board().instance(&instance)).collect();
        let waits = |state: &InstanceState| matches!(state.phase, Phase::Backoff | Phase::Quarantined);
        let all = |wanted| !states.is_empty() && states.iter().all(|state| state.wanted == wanted);
        if let Some(switch) = change.keys.iter_mut().find(|key| key.key == "enabled") {
            if !states.is_empty() && states.iter().all(stopped_by_hand) {
                (change.effect, switch.effect) = (Effect::StaysStopped, Effect::StaysStopped);
            }
        } else if all(Wanted::Stopped) {
            change.effect = Effect::StaysStopped;
        } else if all(Wanted::Paused) {
            if change.effect == Effect::Restarts {
                change.effect = Effect::AfterPause;
            }
        } else if states.iter().any(waits) && matches!(change.effect, Effect::InPlace | Effect::NextStart) {
            change.effect = Effect::Starts;
        }
    }

    async fn keep(&self, workers: &[Arc<Added>]) -> std::io::Result<()> {
        let living = &self.info().living;
        let (file, mut all) = (living.added.clone(), workers.to_vec());
        all.extend(lock(&living.left_out).iter().map(|(added, _)| Arc::clone(added)));
        let kept = aside(move || file.save(&all)).await;
        kept.unwrap_or_else(|| Err(std::io::Error::other("the thread that writes it ended")))
            // The newest writing has everything in it.
            .inspect(|()| *lock(&living.unwritten) = None)
    }

    async fn keep_or_note(&self) {
        if let Err(error) = self.keep(&self.info().settings().added.clone()).await {
            *lock(&self.info().living.unwritten) = Some(error.to_string());
        }
    }

    pub(super) fn announce(&self, message: &str, action: &str, id: &Name, by: &Asker) {
        let mut event = Event::new(EventKind::ActionRequested, message);
        event.worker = Some(id.clone());
        event.cause = Some(Cause::Operator.into());
        event.data.insert("action".to_owned(), action.into());
        event.data.insert("by".to_owned(), by.0.clone().into());
        self.journal().emit(event);
    }
}

/// What was asked for by hand and goes on has room beside what the file says.
fn fits(settings: &Settings) -> Result<(), ApplyError> {
    let trouble = settings.scaled_trouble().map(|trouble| Diagnostics::of_whole(vec![trouble], ""));
    trouble.map_or(Ok(()), |trouble| Err(ApplyError::Invalid(Box::new(trouble))))
}

/// Whether somebody stopped it, and not the file.
fn stopped_by_hand(state: &InstanceState) -> bool {
    let by_the_file = |by: &Operator| by.by.starts_with(BY_THE_FILE);
    state.wanted == Wanted::Stopped && !state.wanted_by.as_ref().is_some_and(by_the_file)
}

/// Whether a worker of the new settings is not one that goes on as it was.
fn touches(change: &Change) -> bool {
    matches!(change.subject, Subject::Worker(_)) && change.sign != Sign::Removed
}

/// Waits for a reading, but not for ever: nobody else could apply anything meanwhile.
async fn in_time<T>(reading: impl Future<Output = T>) -> Result<T, ApplyError> {
    tokio::time::timeout(READ_WITHIN, reading).await.map_err(|_| ApplyError::Unread)
}

/// Does what reads or writes files on a thread of its own; without one to spare, here.
async fn aside<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (tell, told) = oneshot::channel();
    let job = Arc::new(Mutex::new(Some(job)));
    let theirs = Arc::clone(&job);
    let run = move || {
        let taken = lock(&theirs).take();
        // An asker that has gone away needs no answer.
        let _ = taken.map(|job| tell.send(job()));
    };
    if std::thread::Builder::new().name("regrow-config".to_owned()).spawn(run).is_err() {
        let taken = lock(&job).take();
        return taken.map(|job| job());
    }
    told.await.ok()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reading_that_hangs_is_given_up() {
        let (go, goes) = std::sync::mpsc::channel::<()>();
        let hangs = aside(move || goes.recv().is_ok());
        assert!(matches!(in_time(hangs).await, Err(ApplyError::Unread)));
        // Let go, it has nobody to tell, and ends.
        drop(go);
        assert_eq!(in_time(std::future::ready(1)).await.unwrap(), 1);
    }
}
