//! The shell around a plain ractor actor: to ractor it is the actor, and everything of the user's happens inside it.
//!
//! ractor turns a panic into words that know no place, and carries the state of an actor that has stopped to its
//! supervisor, where a panic in its `Drop` would kill the supervisor. Here each step of the user's code runs where a
//! panic is contained and described, and what is carried away is a [`Kept`], whose own `Drop` contains the user's.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::Notify;

use super::failure::in_words;
use super::guard::Pulsing;
use super::life::{End, Life, Tended};
use super::panic::{Panicked, contain};
use super::runner::with_drop;

/// What the shell and the one who drives it know of each other.
pub(super) struct Berth {
    life: Arc<Life>,
    /// Felt by the watchdog.
    pub(super) own: Arc<Tended>,
    /// How the actor ended, once it has.
    end: Mutex<Option<End>>,
    handled: AtomicUsize,
    /// Rings when one more message was handled.
    pub(super) bell: Notify,
}

impl Berth {
    /// A place for one incarnation's actor; `None` if that incarnation is over.
    pub(super) fn new(life: &Arc<Life>) -> Option<Arc<Self>> {
        life.enter().then(|| {
            Arc::new(Self {
                life: Arc::clone(life),
                own: Tended::new(life.site.number),
                end: Mutex::default(),
                handled: AtomicUsize::new(0),
                bell: Notify::new(),
            })
        })
    }

    /// Messages that were handled so far, from whomever they came.
    pub(super) fn handled(&self) -> usize {
        self.handled.load(Ordering::Acquire)
    }

    /// How it ended.
    pub(super) fn take_end(&self) -> Option<End> {
        self.lock().take()
    }

    fn ended(&self, end: End) {
        // The first reason is the reason.
        self.lock().get_or_insert(end);
    }

    fn dropped(&self, dropped: Result<(), Box<Panicked>>) {
        let mut place = self.lock();
        if dropped.is_err() {
            let end = place.take().unwrap_or(End::Killed);
            *place = Some(with_drop(end, dropped));
        }
    }

    fn drop_inside<T>(&self, value: T) {
        self.dropped(contain(self.own.who(), || self.own.pulse().around(|| drop(value))));
    }

    /// Runs a step of the user's; whatever it fails with is noted, and ractor is told only that it has failed.
    async fn step<T>(
        &self,
        step: impl Future<Output = Result<T, ActorProcessingErr>> + Send,
    ) -> Result<T, ActorProcessingErr> {
        let panicked = match (Step { berth: self, future: Some(Box::pin(step)) }).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => {
                let words = contain(self.own.who(), || in_words(&*error));
                self.drop_inside(error);
                words.map(|words| self.ended(End::Failed(words))).err()
            }
            Err(panicked) => Some(panicked),
        };
        panicked.into_iter().for_each(|panicked| self.ended(End::Panicked(panicked)));
        Err("it has failed; regrow tells how".into())
    }

    fn lock(&self) -> MutexGuard<'_, Option<End>> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last that holds it is the actor's task or the one who drives it; then nothing of the actor lives.
impl Drop for Berth {
    fn drop(&mut self) {
        self.life.leave();
    }
}

/// One step of the user's code.
struct Step<'b, F> {
    berth: &'b Berth,
    future: Option<Pin<Box<F>>>,
}

impl<F: Future> Future for Step<'_, F> {
    type Output = Result<F::Output, Box<Panicked>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let me = self.get_mut();
        let own = &me.berth.own;
        let Some(future) = me.future.as_mut() else { return Poll::Pending };
        let polled = contain(own.who(), || own.pulse().around(|| future.as_mut().poll(context)));
        let done = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(done)) => Ok(done),
            Err(panicked) => Err(panicked),
        };
        me.clear();
        Poll::Ready(done)
    }
}

impl<F> Step<'_, F> {
    fn clear(&mut self) {
        if let Some(future) = self.future.take() {
            self.berth.drop_inside(future);
        }
    }
}

impl<F> Drop for Step<'_, F> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Something of the user's that may be dropped wherever ractor carries it.
pub(super) struct Kept<T> {
    value: Option<T>,
    berth: Arc<Berth>,
}

impl<T> Kept<T> {
    pub(super) fn new(value: T, berth: &Arc<Berth>) -> Self {
        Self { value: Some(value), berth: Arc::clone(berth) }
    }

    fn get(&self) -> Result<&T, ActorProcessingErr> {
        self.value.as_ref().ok_or_else(|| "nothing is left of it".into())
    }

    fn get_mut(&mut self) -> Result<&mut T, ActorProcessingErr> {
        self.value.as_mut().ok_or_else(|| "nothing is left of it".into())
    }

    fn into_inner(mut self) -> Result<T, ActorProcessingErr> {
        self.value.take().ok_or_else(|| "nothing is left of it".into())
    }
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            self.berth.drop_inside(value);
        }
    }
}

/// The actor that ractor sees.
pub(super) struct Shell<A> {
    actor: Kept<A>,
    berth: Arc<Berth>,
}

impl<A> Shell<A> {
    pub(super) fn new(actor: A, berth: &Arc<Berth>) -> Self {
        Self { actor: Kept::new(actor, berth), berth: Arc::clone(berth) }
    }
}

impl<A: Actor> Actor for Shell<A> {
    type Msg = A::Msg;
    type State = Kept<A::State>;
    type Arguments = Kept<A::Arguments>;

    async fn pre_start(
        &self,
        myself: ActorRef<A::Msg>,
        arguments: Kept<A::Arguments>,
    ) -> Result<Kept<A::State>, ActorProcessingErr> {
        let actor = self.actor.get()?;
        let step = async { actor.pre_start(myself, arguments.into_inner()?).await };
        Ok(Kept::new(self.berth.step(step).await?, &self.berth))
    }

    async fn post_start(
        &self,
        myself: ActorRef<A::Msg>,
        state: &mut Kept<A::State>,
    ) -> Result<(), ActorProcessingErr> {
        let (actor, state) = (self.actor.get()?, state.get_mut()?);
        self.berth.step(async { actor.post_start(myself, state).await }).await
    }

    async fn handle(
        &self,
        myself: ActorRef<A::Msg>,
        message: A::Msg,
        state: &mut Kept<A::State>,
    ) -> Result<(), ActorProcessingErr> {
        let (actor, state) = (self.actor.get()?, state.get_mut()?);
        self.berth.step(async { actor.handle(myself, message, state).await }).await?;
        self.berth.handled.fetch_add(1, Ordering::Release);
        self.berth.bell.notify_one();
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<A::Msg>,
        message: SupervisionEvent,
        state: &mut Kept<A::State>,
    ) -> Result<(), ActorProcessingErr> {
        let (actor, state) = (self.actor.get()?, state.get_mut()?);
        self.berth.step(async { actor.handle_supervisor_evt(myself, message, state).await }).await
    }

    async fn post_stop(
        &self,
        myself: ActorRef<A::Msg>,
        state: &mut Kept<A::State>,
    ) -> Result<(), ActorProcessingErr> {
        let (actor, state) = (self.actor.get()?, state.get_mut()?);
        self.berth.step(async { actor.post_stop(myself, state).await }).await?;
        // Only an orderly end gets here.
        let asked = self.berth.life.is_stopping();
        self.berth.ended(if asked { End::Stopped } else { End::Done });
        Ok(())
    }
}
