//! What a user writes: one type, one method that must be there.

use std::future::Future;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::context::Context;
use super::failure::WorkerError;
use super::task::{Outcome, Task, TaskError};

/// A worker that is a Rust type.
///
/// `start` makes it; from then on it gets its messages one at a time. An error or a panic in any of these ends this
/// incarnation, and its supervisor decides what follows. Methods may wait for anything, but must not block their
/// thread: such code belongs to a worker with `blocking = true`. What runs beside it is started with [`Context::spawn`]
/// and ends with its incarnation; what is started with a bare `tokio::spawn` does not.
///
/// Rust has no defaults for associated types yet, so all three are spelled out; `()` means none.
///
/// ```
/// use regrow::{Context, Reply, Restored, Worker, WorkerError};
///
/// struct Counter(u64);
///
/// enum Say {
///     Add(u64),
///     Total(Reply<u64>),
/// }
///
/// impl Worker for Counter {
///     type Config = ();
///     type State = u64;
///     type Message = Say;
///
///     async fn start(_: Context<Self>, (): (), restored: Restored<u64>) -> Result<Self, WorkerError> {
///         Ok(Self(restored.saved().unwrap_or(0)))
///     }
///
///     async fn message(&mut self, message: Say, _: &Context<Self>) -> Result<(), WorkerError> {
///         match message {
///             Say::Add(more) => self.0 += more,
///             Say::Total(reply) => reply.send(self.0),
///         }
///         Ok(())
///     }
///
///     async fn snapshot(&mut self) -> Option<u64> {
///         Some(self.0)
///     }
/// }
/// ```
pub trait Worker: Sized + Send + 'static {
    /// The worker's own settings: the table `config` of its `[worker.NAME]`.
    type Config: DeserializeOwned + Send + 'static;

    /// What outlives an incarnation: saved by [`Context::save`] and from [`snapshot`](Self::snapshot), given back to
    /// `start`. Kept in a compact encoding without names, so no `serde(flatten)`, `untagged` or `skip_serializing_if`
    /// in it; a struct that has changed since is told as [`Restored::Unreadable`].
    type State: Serialize + DeserializeOwned + Send + 'static;

    /// What other code says to it through a [`WorkerRef`](super::WorkerRef).
    type Message: Send + 'static;

    /// Messages that may wait; who comes later gets `Full`. A thousand small messages are some 100 KB at most, and a
    /// worker that is a thousand behind will not catch up by queueing more.
    const MAILBOX: usize = 1000;

    /// Makes an incarnation. It is ready once this has returned.
    ///
    /// # Errors
    /// Whatever hinders it: a start failure, tried again as the supervisor has it.
    fn start(
        ctx: Context<Self>,
        config: Self::Config,
        restored: Restored<Self::State>,
    ) -> impl Future<Output = Result<Self, WorkerError>> + Send;

    /// One message came.
    ///
    /// # Errors
    /// Any error ends this incarnation. What the sender should hear belongs into the reply instead.
    fn message(
        &mut self,
        message: Self::Message,
        ctx: &Context<Self>,
    ) -> impl Future<Output = Result<(), WorkerError>> + Send {
        // Dropped, and with it the reply in it: who called hears that nobody answers.
        let _ = (message, ctx);
        async { Ok(()) }
    }

    /// One task of a durable queue came.
    ///
    /// # Errors
    /// [`TaskError`] says what becomes of the task; the worker lives on.
    fn handle(
        &mut self,
        task: Task,
        ctx: &Context<Self>,
    ) -> impl Future<Output = Result<Outcome, TaskError>> + Send {
        let _ = ctx;
        async move { Err(TaskError::DeadLetter(format!("no worker here handles tasks of type {:?}", task.kind))) }
    }

    /// What is worth keeping now; `None`: nothing. Asked every `snapshot.every` and, with `snapshot.on_stop`, before
    /// an orderly end.
    fn snapshot(&mut self) -> impl Future<Output = Option<Self::State>> + Send {
        async { None }
    }

    /// How it is, in its own words.
    fn health(&mut self) -> impl Future<Output = Condition> + Send {
        async { Condition::Pass }
    }

    /// Lets go of every connection and makes new ones.
    ///
    /// # Errors
    /// It could not; this incarnation ends.
    fn reset_connections(&mut self) -> impl Future<Output = Result<(), WorkerError>> + Send {
        async { Ok(()) }
    }

    /// Gives back what memory it can spare.
    fn trim_memory(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Its last deed in an orderly end. Not called after a failure: what must happen then belongs into `Drop`.
    fn stop(&mut self, ctx: &Context<Self>) -> impl Future<Output = ()> + Send {
        let _ = ctx;
        async {}
    }
}

/// What an earlier incarnation left for this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored<S> {
    /// Nothing was ever saved.
    Fresh,
    /// This was.
    Saved {
        /// The state.
        state: S,
        /// When it was written.
        at: Timestamp,
    },
    /// Something was, and it cannot be read: another version of the program wrote it, or the disk has damaged it. The
    /// file is kept beside, under the ending `unreadable`.
    Unreadable {
        /// What is wrong with it.
        reason: String,
    },
}

impl<S> Restored<S> {
    /// The state, if there is one that can be read.
    #[must_use]
    pub fn saved(self) -> Option<S> {
        match self {
            Self::Saved { state, .. } => Some(state),
            Self::Fresh | Self::Unreadable { .. } => None,
        }
    }
}

/// How a worker says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// All is well.
    Pass,
    /// It works, with less than full strength.
    Warn(String),
    /// It does not work.
    Fail(String),
}
