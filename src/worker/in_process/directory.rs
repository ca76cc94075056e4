//! Addresses of actor workers, by name.
//!
//! An address is bound to a name and to the type of its messages, not to an incarnation: it works again as soon as the
//! worker does. What is said while nobody is there is refused at once, with the reason, because a message that waits
//! for a worker to come back would meet one that knows nothing of it.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::id::InstanceId;

use super::inbox::{Inbox, Refused};

/// How long [`WorkerRef::call`] waits for an answer, unless it is told otherwise.
const PATIENCE: Duration = Duration::from_secs(5);

/// Addresses are looked through for ones that nobody holds when their number has doubled, but not below this.
const FEW: usize = 64;

/// What is to be expected of a worker that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// It comes (back).
    Coming,
    /// It is stopped, parked, done or removed.
    Gone,
}

type Ask = Box<dyn Fn(&InstanceId) -> Outlook + Send + Sync>;

/// Every mailbox of one runtime.
#[derive(Default)]
pub(crate) struct Directory {
    boxes: Mutex<Boxes>,
    outlook: OnceLock<Ask>,
}

#[derive(Default)]
struct Boxes {
    by_id: HashMap<InstanceId, Arc<dyn Any + Send + Sync>>,
    look_at: usize,
}

impl Directory {
    /// Where it is asked what becomes of a worker. The first one counts.
    pub(crate) fn set_outlook(&self, ask: Ask) {
        // There is one composition root, and it calls this once.
        let _ = self.outlook.set(ask);
    }

    /// The mailbox of this instance: the one that addresses of it know, if it takes the same messages.
    pub(super) fn inbox<M: Send + 'static>(&self, id: &InstanceId, capacity: usize) -> Arc<Inbox<M>> {
        let mut boxes = self.boxes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = boxes.by_id.get(id).cloned().and_then(|known| known.downcast().ok()) {
            return known;
        }
        if boxes.by_id.len() >= boxes.look_at.max(FEW) {
            boxes.by_id.retain(|_, kept| Arc::strong_count(kept) > 1);
            boxes.look_at = 2 * boxes.by_id.len();
        }
        let made = Arc::new(Inbox::new(capacity));
        boxes.by_id.insert(id.clone(), made.clone());
        made
    }

    /// An address.
    pub(crate) fn address<M: Send + 'static>(
        self: &Arc<Self>,
        id: &InstanceId,
    ) -> Result<WorkerRef<M>, RefError> {
        let boxes = self.boxes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = boxes.by_id.get(id).cloned().ok_or_else(|| RefError::NotFound(id.to_string()))?;
        drop(boxes);
        let wrong = || RefError::OtherMessages { worker: id.to_string(), asked: std::any::type_name::<M>() };
        let inbox = known.downcast::<Inbox<M>>().map_err(|_| wrong())?;
        Ok(WorkerRef { id: id.clone(), inbox, directory: Arc::clone(self), patience: PATIENCE })
    }

    /// Why this worker does not take anything.
    pub(crate) fn absence(&self, id: &InstanceId) -> CastError {
        match self.outlook.get().map_or(Outlook::Gone, |ask| ask(id)) {
            Outlook::Coming => CastError::Restarting,
            Outlook::Gone => CastError::Gone,
        }
    }
}

/// An address of an actor worker; cheap to clone, and good for all its incarnations.
///
/// Messages of one sender arrive in the order in which they were sent, each at most once.
pub struct WorkerRef<M> {
    id: InstanceId,
    inbox: Arc<Inbox<M>>,
    directory: Arc<Directory>,
    patience: Duration,
}

impl<M> Clone for WorkerRef<M> {
    fn clone(&self) -> Self {
        Self {
            id: self.id.clone(),
            inbox: Arc::clone(&self.inbox),
            directory: Arc::clone(&self.directory),
            patience: self.patience,
        }
    }
}

impl<M> fmt::Debug for WorkerRef<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkerRef({})", self.id)
    }
}

/// Why there is no such address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefError {
    /// Nobody of this name is an actor worker of this runtime.
    #[error("no actor worker is called `{0}`; an instance of a pool is called NAME/INDEX")]
    NotFound(String),
    /// It takes other messages.
    #[error("worker `{worker}` does not take messages of type {asked}")]
    OtherMessages {
        /// The worker.
        worker: String,
        /// The type that was asked for.
        asked: &'static str,
    },
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CastError {
    /// It is between two incarnations, or not started yet: try again soon.
    #[error("the worker is being restarted")]
    Restarting,
    /// It is stopped, parked, done or removed.
    #[error("the worker is gone")]
    Gone,
    /// Its mailbox is full.
    #[error("the worker's mailbox is full")]
    Full,
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It is between two incarnations, or ended before it answered. Whether it did what it was asked, nobody knows.
    #[error("the worker is being restarted")]
    Restarting,
    /// It is stopped, parked, done or removed.
    #[error("the worker is gone")]
    Gone,
    /// It did not answer in time. It may still do what it was asked.
    #[error("the worker did not answer in time")]
    Timeout,
    /// Its mailbox is full.
    #[error("the worker's mailbox is full")]
    Full,
}

impl From<CastError> for CallError {
    fn from(error: CastError) -> Self {
        match error {
            CastError::Restarting => Self::Restarting,
            CastError::Gone => Self::Gone,
            CastError::Full => Self::Full,
        }
    }
}

impl<M: Send + 'static> WorkerRef<M> {
    /// The instance that it names.
    #[must_use]
    pub fn instance(&self) -> &InstanceId {
        &self.id
    }

    /// The same address with another patience for calls.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sends a message and waits for nothing.
    ///
    /// # Errors
    /// [`CastError`]; the message is dropped.
    pub fn cast(&self, message: M) -> Result<(), CastError> {
        self.inbox.push(message).map_err(|(refused, _)| match refused {
            Refused::Full => CastError::Full,
            Refused::Down => self.absence(),
        })
    }

    /// Sends a message that carries a [`Reply`], and waits for it. Needs a tokio runtime around it, for its clock.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call<T>(&self, message: impl FnOnce(Reply<T>) -> M) -> Result<T, CallError> {
        let (reply, answer) = oneshot::channel();
        self.cast(message(Reply(reply)))?;
        match tokio::time::timeout(self.patience, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            // The reply was dropped: with the worker, or because it does not answer this.
            Ok(Err(_)) => Err(self.absence().into()),
            Err(_) => Err(CallError::Timeout),
        }
    }

    fn absence(&self) -> CastError {
        self.directory.absence(&self.id)
    }
}

/// Where the answer to a call goes. Dropped, it tells the caller that there is none.
#[derive(Debug)]
pub struct Reply<T>(oneshot::Sender<T>);

impl<T> Reply<T> {
    /// Answers. A caller that has gone away needs no answer.
    pub fn send(self, answer: T) {
        let _ = self.0.send(answer);
    }
}
