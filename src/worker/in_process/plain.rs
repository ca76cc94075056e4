//! Plain ractor actors as workers: whatever implements [`ractor::Actor`], without a line changed in it.
//!
//! Each incarnation is a new ractor actor inside a [`Shell`], on the tokio runtime where its host has put it. Beside it,
//! on the worker plane, runs the one who drives it: he starts it, hands on what is sent to the worker's address, asks
//! it to stop, and tells how it ended.
//!
//! ractor's own mailbox has no bound, so only a few messages are handed on before the first of them is handled; the
//! others wait in the worker's mailbox, which has one. What an actor sends to itself, or whoever got its `ActorRef`
//! from it, goes past that mailbox.
//!
//! Deliberately absent: tasks, snapshots and health of its own, which ractor knows nothing of.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ractor::{Actor, ActorRef};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::Handle;

use crate::id::{Incarnation, InstanceId, Name};
use crate::worker::WorkerReport;

use super::directory::Directory;
use super::failure::{WorkerError, in_words};
use super::guard::UserFuture;
use super::inbox::{Ask, Inbox, Next, Order, Ordered};
use super::life::{End, Life};
use super::registry::{Body, Factory, Owned, read};
use super::shell::{Berth, Kept, Shell};
use super::task::TaskError;
use super::worker::Condition;

/// Messages that wait in the worker's own mailbox, as for any other actor worker.
const MAILBOX: usize = 1000;

/// Messages that are handed on before the first of them is handled: enough that the actor never waits for the next
/// one, few enough that what is lost with an incarnation is little.
const AHEAD: usize = 16;

/// The incarnation that a factory is to make the actor of.
#[derive(Debug, Clone)]
pub struct PlainActor {
    instance: InstanceId,
    incarnation: Incarnation,
    state_dir: PathBuf,
}

impl PlainActor {
    /// The worker's name.
    #[must_use]
    pub fn worker(&self) -> &Name {
        self.instance.worker()
    }

    /// Which copy of it.
    #[must_use]
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// Which start of it, from 1.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// A directory of its own, kept over restarts. It may not exist yet.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }
}

/// Where the plain actors of one program run; known once it is started.
#[derive(Clone, Default)]
pub(crate) struct Ground(Arc<OnceLock<Handle>>);

impl Ground {
    /// This tokio runtime. The first one counts.
    pub(crate) fn settle(&self, handle: Handle) {
        // A builder starts one runtime.
        let _ = self.0.set(handle);
    }
}

type Make<A, C> =
    dyn Fn(C, PlainActor) -> Result<(A, <A as Actor>::Arguments), WorkerError> + Send + Sync + 'static;

/// Makes workers of one type of plain actors.
pub(super) struct Plain<A: Actor, C> {
    make: Arc<Make<A, C>>,
    ground: Ground,
    of: PhantomData<fn() -> C>,
}

impl<A: Actor, C: DeserializeOwned + Send + 'static> Plain<A, C> {
    pub(super) fn new(
        make: impl Fn(C, PlainActor) -> Result<(A, A::Arguments), WorkerError> + Send + Sync + 'static,
        ground: Ground,
    ) -> Self {
        Self { make: Arc::new(make), ground, of: PhantomData }
    }
}

impl<A: Actor, C: DeserializeOwned + Send + 'static> Factory for Plain<A, C> {
    fn check(&self, config: &Value) -> Result<(), String> {
        read::<C>(config).map(drop)
    }

    fn open(&self, directory: &Directory, id: &InstanceId) -> Arc<dyn Body> {
        let (make, ground) = (Arc::clone(&self.make), self.ground.clone());
        Arc::new(Instance::<A, C> { make, ground, inbox: directory.inbox(id, MAILBOX) })
    }
}

struct Instance<A: Actor, C> {
    make: Arc<Make<A, C>>,
    ground: Ground,
    inbox: Arc<Inbox<A::Msg>>,
}

impl<A: Actor, C: DeserializeOwned + Send + 'static> Body for Instance<A, C> {
    fn inbox(&self) -> Arc<dyn Ordered> {
        self.inbox.clone()
    }

    fn begin(&self, life: &Arc<Life>) -> (UserFuture<End>, Arc<dyn Owned>) {
        let (make, ground) = (Arc::clone(&self.make), self.ground.0.get().cloned());
        let drive = drive::<A, C>(Arc::clone(life), Arc::clone(&self.inbox), make, ground);
        (Box::pin(drive), Arc::new(Nothing))
    }
}

/// The driver owns nothing of the user's; the shell does.
struct Nothing;

impl Owned for Nothing {
    fn clear(&self) {}
}

/// The actor's task. Dropped with the driver, it takes the actor with it.
struct Driven<M> {
    actor: ActorRef<M>,
    task: tokio::task::JoinHandle<()>,
}

impl<M> Drop for Driven<M> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn drive<A: Actor, C: DeserializeOwned>(
    life: Arc<Life>,
    inbox: Arc<Inbox<A::Msg>>,
    make: Arc<Make<A, C>>,
    ground: Option<Handle>,
) -> End {
    let Some(berth) = Berth::new(&life) else { return End::Killed };
    let driven = match launch::<A, C>(&life, &berth, &*make, ground).await {
        Ok(driven) => driven,
        Err(end) => return end,
    };
    drop(make);
    life.ready();
    attend(driven, &life, &inbox, &berth).await
}

async fn launch<A: Actor, C: DeserializeOwned>(
    life: &Arc<Life>,
    berth: &Arc<Berth>,
    make: &Make<A, C>,
    ground: Option<Handle>,
) -> Result<Driven<A::Msg>, End> {
    let config = read::<C>(&life.site.settings.config.value())
        .map_err(|error| End::Failed(format!("its config cannot be read: {error}")))?;
    let who = PlainActor {
        instance: life.site.instance.clone(),
        incarnation: life.incarnation,
        state_dir: life.site.saved.dir().to_owned(),
    };
    let (actor, arguments) = make(config, who).map_err(|error| End::Failed(in_words(&*error)))?;
    let (shell, arguments) = (Shell::new(actor, berth), Kept::new(arguments, berth));
    // No name: ractor's names are those of the whole process, and two runtimes may have a worker of the same name.
    let spawn = Actor::spawn(None, shell, arguments);
    let ground = ground.unwrap_or_else(Handle::current);
    let starting = Starting(ground.spawn(spawn));
    life.tend(starting.0.abort_handle(), Arc::clone(&berth.own));
    match starting.done().await {
        Some(Ok((actor, task))) => {
            life.tend(task.abort_handle(), Arc::clone(&berth.own));
            Ok(Driven { actor, task })
        }
        Some(Err(error)) => Err(berth.take_end().unwrap_or_else(|| End::Failed(error.to_string()))),
        None => Err(berth.take_end().unwrap_or_else(|| gone(life))),
    }
}

/// An actor in its start. Dropped with the driver, it takes the start with it.
struct Starting<T>(tokio::task::JoinHandle<T>);

impl<T> Starting<T> {
    async fn done(mut self) -> Option<T> {
        (&mut self.0).await.ok()
    }
}

impl<T> Drop for Starting<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Hands on and waits, until nothing of the actor is left.
async fn attend<M: ractor::Message>(
    mut driven: Driven<M>,
    life: &Arc<Life>,
    inbox: &Arc<Inbox<M>>,
    berth: &Arc<Berth>,
) -> End {
    let (mut sent, mut asked) = (0, None);
    let ended = loop {
        let handled = berth.handled();
        // Messages that came past the mailbox are handled too, and count for ours.
        sent = sent.max(handled);
        let room = sent - handled < AHEAD;
        let next = async {
            if room { inbox.next(life.incarnation).await } else { inbox.next_order(life.incarnation).await }
        };
        tokio::select! {
            biased;
            ended = &mut driven.task => break ended,
            next = next, if asked.is_none() => match next {
                Next::Message(message) => {
                    sent += 1;
                    // Refused only by an actor that has ended, which is told next.
                    let _ = driven.actor.send_message(message);
                }
                Next::Order(Order::Stop) => {
                    driven.actor.stop(None);
                    asked = Some(End::Stopped);
                }
                Next::Order(Order::End(end)) => {
                    driven.actor.kill();
                    asked = Some(end);
                }
                Next::Order(Order::Ask(ask)) => answer(ask),
                Next::Over => return End::Killed,
            },
            () = berth.bell.notified(), if !room => {}
        }
    };
    let unread = sent.saturating_sub(berth.handled());
    if unread > 0 {
        life.site.report(life.incarnation, WorkerReport::Unread { count: unread });
    }
    match (berth.take_end(), asked) {
        (Some(end), _) => end,
        // Not one of its own: it was ended on the way.
        (None, Some(end)) => end,
        (None, None) if ended.is_err() => gone(life),
        (None, None) => End::Failed("it was killed, by itself or by who got its ActorRef".to_owned()),
    }
}

fn gone(life: &Life) -> End {
    if life.is_killed() {
        return End::Killed;
    }
    End::Failed("the tokio runtime that its host gave it to has ended".to_owned())
}

/// ractor knows no such questions; who asks is told so, or that all is well.
fn answer(ask: Ask) {
    // Whoever asked and went away needs no answer.
    match ask {
        Ask::Snapshot => {}
        Ask::Health(reply) => drop(reply.send(Condition::Pass)),
        Ask::ResetConnections(reply) | Ask::TrimMemory(reply) => drop(reply.send(())),
        Ask::Task(task, reply) => {
            let text =
                format!("a plain ractor actor takes no tasks, and this one is of type {:?}", task.kind);
            drop(reply.send(Err(TaskError::DeadLetter(text))));
        }
    }
}
