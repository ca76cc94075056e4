//! What a program around the runtime asks of its handle, beyond what the command line does.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::id::InstanceId;
use crate::supervisor::{InstanceState, SupervisorState, Wanted};
use crate::telemetry::Subscription;
use crate::worker::in_process::{Ask, CallError, Condition, Outcome, RefError, Task, TaskError, WorkerRef};

use super::handle::{Act, ActError, Asker, Order, RuntimeHandle};
use super::target::Target;

/// Everything as it is now.
#[derive(Debug, Clone)]
pub struct Status {
    /// Every instance, in the order of the file.
    pub instances: Vec<InstanceState>,
    /// Every supervisor, the root first.
    pub supervisors: Vec<SupervisorState>,
    /// What the machine does not give, and what does not work right now.
    pub notes: Vec<String>,
}

/// Who is not ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not ready: {}", workers.join(", "))]
pub struct NotReady {
    /// The instances, each with its status.
    pub workers: Vec<String>,
}

/// An instance is not as somebody waited for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{instance} is not as it was waited for; it is {status}")]
pub struct NotSo {
    /// The instance.
    pub instance: String,
    /// Its status, or `not there`.
    pub status: &'static str,
}

/// Who asks, where the program itself does.
pub(super) fn program() -> Asker {
    Asker("the program".to_owned())
}

impl RuntimeHandle {
    /// Everything as it is now; asks no actor.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            instances: self.board().instances(),
            supervisors: self.board().supervisors(),
            notes: self.info().notes(),
        }
    }

    /// Waits until every worker that should run is ready, at most this long.
    ///
    /// # Errors
    /// [`NotReady`] names those that are not.
    pub async fn wait_ready(&self, at_most: Duration) -> Result<(), NotReady> {
        let mut changes = self.board().watch();
        let ready = async {
            while !self.unready().is_empty() {
                if changes.changed().await.is_err() {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(at_most, ready).await;
        match self.unready() {
            workers if workers.is_empty() => Ok(()),
            workers => Err(NotReady { workers }),
        }
    }

    /// Waits until an instance is like this, at most this long, and tells how it is then.
    ///
    /// # Errors
    /// [`NotSo`]: it is not.
    pub async fn until(
        &self,
        instance: &str,
        at_most: Duration,
        like: impl Fn(&InstanceState) -> bool,
    ) -> Result<InstanceState, NotSo> {
        let id: Option<InstanceId> = instance.parse().ok();
        let now = || id.as_ref().and_then(|id| self.board().instance(id));
        let mut changes = self.board().watch();
        let found = async {
            loop {
                if let Some(state) = now().filter(|state| like(state)) {
                    return Some(state);
                }
                changes.changed().await.ok()?;
            }
        };
        let found = tokio::time::timeout(at_most, found).await.ok().flatten();
        found.ok_or_else(|| NotSo {
            instance: instance.to_owned(),
            status: now().map_or("not there", |state| state.status()),
        })
    }

    fn unready(&self) -> Vec<String> {
        let waits =
            |entry: &InstanceState| !entry.ready && entry.wanted == Wanted::Running && !is_done(entry);
        let mut unready = Vec::new();
        self.board().visit(|entry| {
            if waits(entry) {
                unready.push(format!("{} ({})", entry.instance, entry.status()));
            }
        });
        unready
    }

    /// The events from now on.
    #[must_use]
    pub fn events(&self) -> Subscription {
        self.journal().follow(u64::MAX).1
    }

    /// Restarts a worker, an instance, or a supervisor (`sup:NAME`) with what is below it. It does not wait.
    ///
    /// # Errors
    /// [`ActError`].
    pub async fn restart(&self, target: &str) -> Result<Vec<InstanceId>, ActError> {
        self.ask(target, Act::Restart).await
    }

    /// Stops it; it stays down, also over restarts of the runtime, until it is started.
    ///
    /// # Errors
    /// [`ActError`].
    pub async fn stop(&self, target: &str) -> Result<Vec<InstanceId>, ActError> {
        self.ask(target, Act::Stop).await
    }

    /// Starts what was stopped.
    ///
    /// # Errors
    /// [`ActError`].
    pub async fn start(&self, target: &str) -> Result<Vec<InstanceId>, ActError> {
        self.ask(target, Act::Start).await
    }

    /// Has as many instances of a worker, 1 to 1000; it lasts until the configuration says another number.
    ///
    /// # Errors
    /// [`ActError`]; a number that cannot be is [`Unsuited`](ActError::Unsuited).
    pub async fn scale(&self, worker: &str, instances: u32) -> Result<Vec<InstanceId>, ActError> {
        self.ask(worker, Act::Scale { instances }).await
    }

    /// From now on nothing is started, stopped or tried by itself; `None`: until [`resume`](Self::resume).
    ///
    /// # Errors
    /// [`ActError`].
    pub async fn pause(&self, target: &str, lasting: Option<Duration>) -> Result<Vec<InstanceId>, ActError> {
        self.ask(target, Act::Pause { lasting }).await
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// [`ActError`].
    pub async fn resume(&self, target: &str) -> Result<Vec<InstanceId>, ActError> {
        self.ask(target, Act::Resume).await
    }

    /// Forgets the failures; who is parked is tried at once.
    ///
    /// # Errors
    /// [`ActError`].
    pub async fn reset_failed(&self, target: &str) -> Result<Vec<InstanceId>, ActError> {
        self.ask(target, Act::ResetFailed).await
    }

    /// Passes one action to every instance of several targets: whoever depends on another of them is stopped before it,
    /// and comes back after it. If one of them is not there, or cannot be asked, nothing is done.
    ///
    /// # Errors
    /// [`ActError`]: nothing has that name, it clashes, or the runtime is ending.
    pub async fn act_on(
        &self,
        targets: Vec<Target>,
        act: Act,
        by: Asker,
    ) -> Result<Vec<InstanceId>, ActError> {
        let (reply, answer) = oneshot::channel();
        self.pass_order(Order::Act { targets, act, by, reply }).await?;
        answer.await.map_err(|_| ActError::ShuttingDown)?
    }

    async fn ask(&self, target: &str, act: Act) -> Result<Vec<InstanceId>, ActError> {
        let target: Target = target.parse().map_err(|_| ActError::NotFound(target.to_owned()))?;
        self.act(target, act, program()).await
    }

    /// The address of an actor worker, by its instance's name. It is good for all its incarnations.
    ///
    /// # Errors
    /// [`RefError`]: no such worker, or it takes other messages.
    pub fn address<M: Send + 'static>(&self, instance: &str) -> Result<WorkerRef<M>, RefError> {
        let missing = || RefError::NotFound(instance.to_owned());
        let id = instance.parse().map_err(|_| missing())?;
        self.actors().ok_or_else(missing)?.directory().address(&id)
    }

    /// Asks an actor worker how it is.
    ///
    /// # Errors
    /// [`CallError`]: it is not there, or did not answer in time.
    pub async fn health(&self, instance: &str, at_most: Duration) -> Result<Condition, CallError> {
        self.put(instance, at_most, Ask::Health).await
    }

    /// Lets an actor worker make its connections anew.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn reset_connections(&self, instance: &str, at_most: Duration) -> Result<(), CallError> {
        self.put(instance, at_most, Ask::ResetConnections).await
    }

    /// Lets an actor worker give back what memory it can spare.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn trim_memory(&self, instance: &str, at_most: Duration) -> Result<(), CallError> {
        self.put(instance, at_most, Ask::TrimMemory).await
    }

    /// Gives an actor worker one task by hand, past every queue: nobody keeps it, and nobody tries it again.
    ///
    /// # Errors
    /// The outer one if the worker did not answer, the inner one if it did not do it.
    pub async fn run_task(
        &self,
        instance: &str,
        task: Task,
        at_most: Duration,
    ) -> Result<Result<Outcome, TaskError>, CallError> {
        self.put(instance, at_most, |reply| Ask::Task(task, reply)).await
    }

    async fn put<T>(
        &self,
        instance: &str,
        at_most: Duration,
        ask: impl FnOnce(oneshot::Sender<T>) -> Ask,
    ) -> Result<T, CallError> {
        let id: InstanceId = instance.parse().map_err(|_| CallError::Gone)?;
        let actors = self.actors().ok_or(CallError::Gone)?;
        let (reply, answer) = oneshot::channel();
        let absent = || actors.directory().absence(&id).into();
        actors.ask(&id, ask(reply)).map_err(|_| absent())?;
        match tokio::time::timeout(at_most, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(absent()),
            Err(_) => Err(CallError::Timeout),
        }
    }
}

/// Done for good: a job that has ended well.
fn is_done(entry: &InstanceState) -> bool {
    entry.phase == crate::policy::Phase::Done
}
