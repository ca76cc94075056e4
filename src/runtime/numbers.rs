//! How many instances a worker has: changed by hand, and by steps of recovery, in the same way.
//!
//! The number is part of the settings in force; whoever changes it edits them, the difference starts or stops, and nobody
//! else is touched. It is written down with what operators want, so that it lasts over restarts of the runtime.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use crate::config::{PoolSettings, Settings, WorkerSettings};
use crate::event::{Cause, CauseName, Event, EventKind};
use crate::id::{InstanceId, Name};
use crate::policy::{Phase, Undone};
use crate::recovery::{Copies, Strategy};
use crate::supervisor::{Operator, Plane, RollState, Sizing};
use crate::units::format_duration;

use super::director::lock;
use super::handle::{ActError, RuntimeInfo};
use super::intents::Intents;
use super::remember;
use super::reshape::Editing;
use super::rolling::with_copies;

/// The number that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    /// This one.
    To(u32),
    /// One more than there are.
    More,
    /// One less.
    Less,
}

/// Who wants it, and why.
#[derive(Debug, Clone)]
pub(super) struct Reason {
    pub(super) by: String,
    pub(super) cause: CauseName,
    pub(super) incident: Option<Arc<str>>,
}

impl Reason {
    pub(super) fn asked(by: &str) -> Self {
        Self { by: by.to_owned(), cause: Cause::Operator.into(), incident: None }
    }
}

/// What it takes to change a number.
#[derive(Clone)]
pub(super) struct Numbers {
    pub(super) plane: Arc<Plane>,
    pub(super) info: Arc<RuntimeInfo>,
    pub(super) intents: Arc<Mutex<Intents>>,
    pub(super) edits: mpsc::Sender<Editing>,
}

impl Numbers {
    /// Has another number of instances. Returns once everybody concerned has been told, with the worker as it is then.
    pub(super) async fn set(
        &self,
        worker: &Name,
        number: Number,
        reason: Reason,
    ) -> Result<Arc<WorkerSettings>, ActError> {
        if self.plane.board.roll(worker) == Some(RollState::UnderWay) {
            return Err(rolls(worker));
        }
        let name = worker.clone();
        let (reply, answer) = oneshot::channel();
        let edit = Box::new(move |settings: &Settings| {
            with_copies(settings, &name, |now| match now.spare {
                0 => Ok((number.of(now)?, 0)),
                _ => Err(rolls(&now.name)),
            })
        });
        self.edits.send(Editing { edit, reply }).await.map_err(|_| ActError::ShuttingDown)?;
        let settings = answer.await.map_err(|_| ActError::ShuttingDown)??;
        let own = settings.workers.iter().find(|one| one.name == *worker);
        let own = Arc::clone(own.ok_or_else(|| ActError::NotFound(worker.to_string()))?);
        self.tell(&own, &reason);
        let by = Operator { by: reason.by, at: Timestamp::now() };
        lock(&self.intents).scale(&own, by);
        Ok(own)
    }

    fn tell(&self, worker: &WorkerSettings, reason: &Reason) {
        let Reason { by, cause, incident } = reason;
        let (name, instances) = (&worker.name, worker.instances);
        let text = format!("{name} has {instances} instances from now on, asked by {by}");
        let mut event = Event::new(EventKind::WorkerScaled, text);
        event.worker = Some(name.clone());
        event.supervisor = self.plane.home(name);
        event.cause = Some(cause.clone());
        event.incident = incident.as_ref().map(ToString::to_string);
        event.data.insert("instances".to_owned(), instances.into());
        event.data.insert("by".to_owned(), by.clone().into());
        self.plane.emit(event);
    }

    /// One instance more or less for a step of recovery.
    async fn step(&self, sizing: &Sizing) -> Result<String, Undone> {
        let worker = sizing.instance.worker();
        let (number, strategy) = match sizing.more {
            true => (Number::More, Strategy::ScaleUp),
            false => (Number::Less, Strategy::ScaleDown),
        };
        let cause = sizing.cause.clone().unwrap_or(Cause::Operator.into());
        let by = format!("recovery ({strategy} for {})", sizing.instance);
        let reason = Reason { by, cause, incident: sizing.incident.clone() };
        let own = self.set(worker, number, reason).await.map_err(|error| Undone::Unfit(error.to_string()))?;
        remember::save_elsewhere(&self.intents, &self.info);
        let index = if sizing.more { own.instances.saturating_sub(1) } else { own.instances };
        let other = InstanceId::of_pool(worker.clone(), index);
        if sizing.settled {
            self.settles(&other, sizing.more, sizing.timeout).await?;
        }
        let what = if sizing.more { "was added" } else { "was taken away" };
        Ok(format!("{worker} has {} instances: {other} {what}", own.instances))
    }

    /// Waits until the newcomer is ready, or the leaver is gone.
    async fn settles(&self, other: &InstanceId, more: bool, within: Duration) -> Result<(), Undone> {
        let mut changes = self.plane.board.watch();
        let settled = async {
            loop {
                changes.borrow_and_update();
                let seen = self.plane.board.read(other, |entry| (entry.ready, entry.phase));
                match seen {
                    None if !more => return Ok(()),
                    Some((true, _)) if more => return Ok(()),
                    Some((_, Phase::Quarantined)) if more => {
                        return Err(Undone::Failed(format!("{other} does not come up: it is parked")));
                    }
                    Some(_) | None => {}
                }
                if changes.changed().await.is_err() {
                    return Err(Undone::Failed("the runtime is shutting down".to_owned()));
                }
            }
        };
        let late = || {
            let within = format_duration(within);
            let what = if more { "was not ready" } else { "was not gone" };
            Undone::Failed(format!("{other} {what} within {within}"))
        };
        tokio::time::timeout(within, settled).await.map_err(|_| late())?
    }
}

/// Has steps of recovery change numbers from now on. Nothing is kept alive by it.
pub(super) fn heed(numbers: &Numbers) {
    let Numbers { plane, info, intents, edits } = numbers;
    let (weak, edits) = (Arc::downgrade(plane), edits.downgrade());
    let (info, intents) = (Arc::clone(info), Arc::clone(intents));
    plane.set_sizes(Box::new(move |sizing, done| {
        let plane = Weak::upgrade(&weak).zip(edits.upgrade());
        let Some((plane, edits)) = plane else {
            return done(Err(Undone::Unfit(ActError::ShuttingDown.to_string())));
        };
        let numbers = Numbers { plane, info: Arc::clone(&info), intents: Arc::clone(&intents), edits };
        tokio::spawn(async move {
            let result = numbers.step(&sizing).await;
            done(result.map(|seen| vec![("number", seen)]));
        });
    }));
}

/// Two changes of one number would cross.
pub(super) fn rolls(worker: &Name) -> ActError {
    ActError::Conflict(format!("a rolling restart of {worker} is under way; scale it once that is over"))
}

impl Number {
    /// The number of a worker that this makes.
    fn of(self, worker: &WorkerSettings) -> Result<u32, ActError> {
        let now = worker.instances;
        match (self, worker.pool) {
            (Self::To(number), None) => Ok(number),
            (Self::To(number), Some(pool)) if pool.holds(number) => Ok(number),
            (Self::To(number), Some(PoolSettings { min, max })) => Err(ActError::Conflict(format!(
                "{name} is a pool of {min} to {max} instances, so {number} cannot be; it has {now}. Other bounds stand \
                 in its `pool`, and `regrow apply` takes them over",
                name = worker.name
            ))),
            (Self::More | Self::Less, None) => {
                Err(ActError::Conflict(format!("{} has no `pool` any more", worker.name)))
            }
            (Self::More | Self::Less, Some(PoolSettings { min, max })) => {
                let (step, next) = match self {
                    Self::More => (Strategy::ScaleUp, now.saturating_add(1)),
                    Self::To(_) | Self::Less => (Strategy::ScaleDown, now.saturating_sub(1)),
                };
                match (Copies { now, min, max }).bound(&step) {
                    Some(bound) => Err(ActError::Conflict(bound.to_string())),
                    None => Ok(next),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    fn number(wanted: Number, worker: &str, instances: u32) -> Result<u32, String> {
        let text = format!("[worker.w]\ncommand = [\"x\"]\n{worker}\n");
        let settings = load(&Sources::text(text)).unwrap_or_else(|problems| panic!("{problems}")).settings;
        let worker = WorkerSettings { instances, ..WorkerSettings::clone(&settings.workers[0]) };
        wanted.of(&worker).map_err(|error| error.to_string())
    }

    #[test]
    fn a_pool_keeps_its_bounds_whoever_asks() {
        let pool = "pool = { min = 2, max = 3 }";
        assert_eq!(number(Number::To(7), "", 1), Ok(7));
        assert_eq!(number(Number::To(3), pool, 2), Ok(3));
        for beyond in [1, 4] {
            let refused = number(Number::To(beyond), pool, 2).unwrap_err();
            assert!(refused.contains("a pool of 2 to 3 instances"), "{refused}");
        }
        assert_eq!((number(Number::More, pool, 2), number(Number::Less, pool, 3)), (Ok(3), Ok(2)));
        assert!(number(Number::More, pool, 3).unwrap_err().contains("(pool.max)"));
        assert!(number(Number::Less, pool, 2).unwrap_err().contains("(pool.min)"));
        assert!(number(Number::More, "", 2).unwrap_err().contains("no `pool`"));
    }
}
