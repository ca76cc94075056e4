//! The director's part in pools: how many instances there are, and replacing them one after the other.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::id::{InstanceId, Name};
use crate::recovery::Strategy;
use crate::supervisor::RollState;

use super::director::Director;
use super::handle::{Act, ActError, Asker};
use super::numbers::{Number, Numbers, Reason, rolls};
use super::recover::Mended;
use super::remember;
use super::rolling::Hands;
use super::target::Target;

/// As many instances as the file may ask for, too.
pub(crate) const MOST_INSTANCES: u32 = 1000;

impl Director {
    fn hands(&self, by: &Asker) -> Hands {
        Hands { plane: Arc::clone(&self.plane), edits: self.edits.clone(), by: by.clone() }
    }

    /// Begins a rolling restart; one at a time for each worker.
    pub(super) fn roll(&self, worker: &Name, most: u32, by: &Asker) -> Result<(), ActError> {
        self.rolls_already(worker)?;
        self.plane.board.set_roll(worker, RollState::UnderWay);
        tokio::spawn(self.hands(by).roll(worker.clone(), most));
        Ok(())
    }

    /// What a roll that is under way has replaced it does not replace again, so a second one must wait.
    pub(super) fn rolls_already(&self, worker: &Name) -> Result<(), ActError> {
        if self.plane.board.roll(worker) == Some(RollState::UnderWay) {
            let why = format!(
                "a rolling restart of {worker} is under way; ask again once `regrow events -f` shows its end"
            );
            return Err(ActError::Conflict(why));
        }
        Ok(())
    }

    /// The worker whose number of instances is meant.
    fn whole_worker(&self, targets: &[Target], instances: u32) -> Result<Name, ActError> {
        if self.stopping.is_some() {
            return Err(ActError::ShuttingDown);
        }
        let [target] = targets else {
            return Err(ActError::Unsuited("scale takes one worker".to_owned()));
        };
        self.children(target)?;
        if !(1..=MOST_INSTANCES).contains(&instances) {
            return Err(ActError::Unsuited(format!(
                "instances cannot be {instances}; 1 to {MOST_INSTANCES}, and a stop for none"
            )));
        }
        match target {
            Target::Worker(name) => Ok(name.clone()),
            Target::Instance(one) => Err(ActError::Unsuited(format!(
                "{one} is one instance, and a number is that of a whole worker: `regrow scale {} {instances}` sets it",
                one.worker()
            ))),
            Target::Supervisor(_) | Target::All => {
                Err(ActError::Unsuited(format!("scale takes a worker, and {target} is none")))
            }
        }
    }

    /// Has as many instances. What was asked by hand lasts until the file says another number.
    pub(super) fn scale(
        &self,
        targets: &[Target],
        instances: u32,
        by: Asker,
        reply: oneshot::Sender<Reached>,
    ) {
        let name = match self.whole_worker(targets, instances) {
            Ok(name) => name,
            Err(error) => return drop(reply.send(Err(error))),
        };
        if self.plane.board.roll(&name) == Some(RollState::UnderWay) {
            return drop(reply.send(Err(rolls(&name))));
        }
        targets.iter().for_each(|target| self.announce(target, Act::Scale { instances }, &by));
        // An asker that has gone away needs no answer.
        self.set_number(name, Number::To(instances), &by, |scaled| drop(reply.send(scaled)));
    }

    /// Has one instance more, or one less, than there are once it is its turn. The answer names all of the worker.
    pub(super) fn scale_by_one(&self, name: &Name, strategy: &Strategy, by: &Asker, reply: Mended) {
        let number = match self.number_after(name, strategy) {
            Ok(number) => number,
            Err(error) => return drop(reply.send(Err(error))),
        };
        self.announce_recover(&Target::Worker(name.clone()), strategy, by);
        self.set_number(name.clone(), number, by, |scaled| {
            let all = scaled.map(|all| all.into_iter().map(|instance| (instance, None)).collect());
            drop(reply.send(all));
        });
    }

    fn number_after(&self, name: &Name, strategy: &Strategy) -> Result<Number, ActError> {
        let target = [Target::Worker(name.clone())];
        self.whole_worker(&target, 1)?;
        if self.plane.board.roll(name) == Some(RollState::UnderWay) {
            return Err(rolls(name));
        }
        let settings = self.info.settings();
        let worker = settings.workers.iter().find(|one| one.name == *name);
        let worker = worker.ok_or_else(|| ActError::NotFound(name.to_string()))?;
        let more = *strategy == Strategy::ScaleUp;
        if worker.pool.is_some() {
            return Ok(if more { Number::More } else { Number::Less });
        }
        // By hand the number of any worker can be changed.
        let now = worker.instances;
        let number = if more { now.saturating_add(1) } else { now.saturating_sub(1) };
        self.whole_worker(&target, number)?;
        Ok(Number::To(number))
    }

    fn set_number(
        &self,
        name: Name,
        number: Number,
        by: &Asker,
        answer: impl FnOnce(Reached) + Send + 'static,
    ) {
        let (numbers, reason) = (self.numbers(), Reason::asked(&by.0));
        tokio::spawn(async move {
            let scaled = numbers.set(&name, number, reason).await;
            if scaled.is_ok() {
                remember::kept(numbers.intents, numbers.info).await;
            }
            answer(scaled.map(|worker| worker.instance_ids().collect()));
        });
    }

    fn numbers(&self) -> Numbers {
        Numbers {
            plane: Arc::clone(&self.plane),
            info: Arc::clone(&self.info),
            intents: Arc::clone(&self.intents),
            edits: self.edits.clone(),
        }
    }
}

type Reached = Result<Vec<InstanceId>, ActError>;
