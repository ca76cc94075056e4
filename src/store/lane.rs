//! A thread with a queue of jobs: who puts one in waits for its answer, or for nothing.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::error::StoreError;

/// Jobs that may wait for the disk: a thousand workers that all have something to keep at once.
const QUEUE: usize = 1024;

/// Jobs that are committed together at most.
pub(super) const TOGETHER: usize = 256;

/// Something to do with a connection. It may run more than once: a commit that failed is tried again on a fresh file.
pub(super) trait Job: Send {
    fn run(&mut self, conn: &Connection) -> rusqlite::Result<()>;
    fn answer(self: Box<Self>, result: Result<(), StoreError>);
}

struct Work<T, F> {
    run: F,
    found: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Work<T, F>
where
    T: Send,
    F: FnMut(&Connection) -> rusqlite::Result<T> + Send,
{
    fn run(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        self.found = Some((self.run)(conn)?);
        Ok(())
    }

    fn answer(self: Box<Self>, result: Result<(), StoreError>) {
        let Self { found, reply, .. } = *self;
        // Nobody waits any more: what is kept is kept.
        let _ = reply.send(result.and_then(|()| found.ok_or(StoreError::Closed)));
    }
}

/// One of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    State,
    Samples,
}

pub(super) enum Command {
    Do(Which, Box<dyn Job>),
    /// A reader has met damage: look the file over, and replace it if that is true.
    Suspect(Which, oneshot::Sender<()>),
    /// A word to the thread that it should end, once what is queued is done.
    Close,
}

/// The way to one of the threads.
pub(super) struct Lane {
    queue: SyncSender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Lane {
    /// Starts the thread.
    pub(super) fn start(
        name: &str,
        work: impl FnOnce(&Receiver<Command>) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (queue, jobs) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&jobs))?;
        Ok(Self { queue, thread: Mutex::new(Some(thread)) })
    }

    /// Puts a job in and waits for its answer, without holding a thread.
    pub(super) async fn put<T: Send + 'static>(
        &self,
        which: Which,
        run: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.send(which, run)?.await.map_err(|_| StoreError::Closed)?
    }

    /// Puts a job in.
    pub(super) fn send<T: Send + 'static>(
        &self,
        which: Which,
        run: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, StoreError>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Work { run, found: None, reply });
        match self.queue.try_send(Command::Do(which, job)) {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(_)) => Err(StoreError::Busy),
            Err(TrySendError::Disconnected(_)) => Err(StoreError::Closed),
        }
    }

    /// Has a file looked over, and waits for that.
    pub(super) async fn suspect(&self, which: Which) -> Result<(), StoreError> {
        let (reply, looked) = oneshot::channel();
        self.queue.try_send(Command::Suspect(which, reply)).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => StoreError::Closed,
        })?;
        looked.await.map_err(|_| StoreError::Closed)
    }

    /// Lets it finish what is queued, at most until then. A disk that hangs is left behind.
    pub(super) fn close(&self, until: Instant) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = thread.take() else { return };
        // A queue that is full is looked at again below; a thread that is gone needs no word.
        let mut told = self.queue.try_send(Command::Close).is_ok();
        while !running.is_finished() && Instant::now() < until {
            told = told || self.queue.try_send(Command::Close).is_ok();
            std::thread::park_timeout(Duration::from_millis(1));
        }
        if running.is_finished() {
            // A panic in it was told where it happened.
            let _ = running.join();
        }
    }
}
