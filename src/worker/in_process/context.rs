//! What a worker's code is given: who it is, its state on disk, its tasks, other workers.

use std::future::Future;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use crate::id::{Incarnation, InstanceId, Name};

use super::directory::{RefError, WorkerRef};
use super::guard::Guarded;
use super::inbox::Order;
use super::life::{End, Life, Tended};
use super::saved::{SaveError, Saved};
use super::worker::Worker;

/// One incarnation's view of the runtime; cheap to clone, harmless once the incarnation is over.
pub struct Context<W> {
    life: Arc<Life>,
    // A context owns no worker.
    of: PhantomData<fn() -> W>,
}

impl<W> Clone for Context<W> {
    fn clone(&self) -> Self {
        Self { life: Arc::clone(&self.life), of: PhantomData }
    }
}

impl<W> std::fmt::Debug for Context<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Context({}, incarnation {})", self.life.site.instance, self.life.incarnation)
    }
}

impl<W: Worker> Context<W> {
    pub(super) fn new(life: Arc<Life>) -> Self {
        Self { life, of: PhantomData }
    }

    /// The worker's name.
    #[must_use]
    pub fn worker(&self) -> &Name {
        self.life.site.instance.worker()
    }

    /// This copy of it.
    #[must_use]
    pub fn instance(&self) -> &InstanceId {
        &self.life.site.instance
    }

    /// Which start of it this is, from 1.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.life.incarnation
    }

    /// A directory of its own, kept over restarts. It may not exist yet.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        self.life.site.saved.dir()
    }

    /// Saves a state for the next incarnation. Once this has returned it is on disk.
    ///
    /// # Errors
    /// [`SaveError`]: the disk refuses it, or this incarnation is over.
    pub fn save(&self, state: &W::State) -> impl Future<Output = Result<(), SaveError>> + Send + use<W> {
        let (encoded, life) = (Saved::encode(state), Arc::clone(&self.life));
        async move {
            let bytes = encoded?;
            let written =
                tokio::task::spawn_blocking(move || life.site.saved.write(&bytes, || !life.is_over()));
            // Cancelled only when the runtime ends.
            written.await.unwrap_or(Err(SaveError::Over))
        }
    }

    /// Runs something beside the worker. It is cancelled when this incarnation ends, and a panic in it is this
    /// incarnation's: it ends as if its own code had panicked.
    ///
    /// What is started with `tokio::spawn` instead belongs to nobody, because tokio does not tell who started a task: it
    /// outlives this incarnation and goes on beside the next one, and a panic in it is no end of anybody. Where a library
    /// starts tasks of its own, keep its handle in the worker, and let that end them when it is dropped, such as a
    /// [`JoinSet`](tokio::task::JoinSet) does.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if !self.life.enter() {
            return;
        }
        let own = Tended::new(self.life.site.number);
        let tended =
            Tending { guarded: Guarded::new(Box::pin(task), Arc::clone(&own)), life: Arc::clone(&self.life) };
        // Dropped if there is no plane any more, it leaves again.
        if let Ok(plane) = self.life.site.host.plane().handle() {
            self.life.tend(plane.spawn(tended).abort_handle(), own);
        }
    }

    /// True once it was asked to end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.life.is_stopping()
    }

    /// Waits until it is asked to end. For long work that should end early.
    pub async fn stopping(&self) {
        let rung = self.life.bell.notified();
        tokio::pin!(rung);
        // Registered before the flag is read, so that no ring is missed.
        rung.as_mut().enable();
        if !self.is_stopping() {
            rung.await;
        }
    }

    /// Ends this incarnation, content: a permanent worker is started again, a transient one is done.
    pub fn finish(&self) {
        self.life.order(Order::End(End::Done));
    }

    /// Ends this incarnation with an error, from wherever.
    pub fn fail(&self, error: impl std::fmt::Display) {
        self.life.order(Order::End(End::Failed(error.to_string())));
    }

    /// The address of an actor worker of the same runtime, by its instance's name.
    ///
    /// # Errors
    /// [`RefError`]: no such worker, or it takes other messages.
    pub fn address<M: Send + 'static>(&self, instance: &str) -> Result<WorkerRef<M>, RefError> {
        let id = instance.parse().map_err(|_| RefError::NotFound(instance.to_owned()))?;
        self.life.site.host.directory().address(&id)
    }

    pub(super) fn life(&self) -> &Arc<Life> {
        &self.life
    }
}

/// A task of a worker while it runs.
struct Tending {
    guarded: Guarded<(), Arc<Tended>>,
    life: Arc<Life>,
}

impl Future for Tending {
    type Output = ();

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        let done = std::task::ready!(std::pin::Pin::new(&mut self.guarded).poll(context));
        self.panicked(done);
        std::task::Poll::Ready(())
    }
}

impl Tending {
    fn panicked(&self, done: Result<(), Box<super::panic::Panicked>>) {
        if let Err(panicked) = done {
            self.life.order(Order::End(End::Panicked(panicked)));
        }
    }
}

impl Drop for Tending {
    fn drop(&mut self) {
        let cleared = self.guarded.clear();
        self.panicked(cleared);
        self.life.leave();
    }
}
