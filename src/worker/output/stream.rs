//! The task that reads one FIFO on the output thread.
//!
//! It wakes for three reasons only: output, a request, or a moment it named itself (the end of a pause, a notice
//! that is due). A stream that is quiet costs nothing.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;

use super::pipeline::{Pace, Pipeline};
use super::sink::Problem;
use crate::worker::mailbox;

/// Most that is read of one stream before the others have their turn: what a FIFO holds.
pub(super) const TURN: usize = 64 * 1024;
/// Pause between turns of a stream that is over its budget. A FIFO refills at once, so a flooder is read at 64 KiB
/// per 3 ms (the timer's own millisecond included), some 20 MiB/s: fast enough that it is slowed more than stopped,
/// slow enough that reading and counting it and keeping 8 MiB/s takes some 4 % of a core (measured with `yes`; the promise
/// is less than 10 %).
const FLOOD_PAUSE: Duration = Duration::from_millis(2);
/// Most that a drain reads: a process that was left behind may write for ever, and its end must not wait for that.
const MAX_DRAIN: usize = 1024 * 1024;

/// The one read buffer of all streams: a turn is over before the next one begins, so one is enough.
pub(super) type Scratch = Arc<Mutex<Box<[u8]>>>;

/// Asks a stream to read until nothing is left and answer the last words.
pub(super) type Drain = oneshot::Sender<Vec<String>>;

/// One FIFO and what becomes of it.
pub(super) struct Stream {
    pub(super) fifo: Receiver,
    pub(super) scratch: Scratch,
    pub(super) pipeline: Pipeline,
    pub(super) requests: mailbox::Receiver<Drain>,
    pub(super) problem: Problem,
}

enum Turn {
    Read(usize),
    Empty,
    Broken(io::Error),
}

impl Stream {
    /// Reads until its handle is dropped, then takes what is left.
    pub(super) async fn run(mut self: Box<Self>) {
        let mut resume_at: Option<Instant> = None;
        loop {
            let due_at = self.pipeline.due_at();
            tokio::select! {
                biased;
                request = self.requests.recv() => {
                    let lines = self.drain();
                    match request {
                        // Whoever asked may have given up waiting.
                        Some(reply) => drop(reply.send(lines)),
                        None => return,
                    }
                }
                () = until(due_at) => self.pipeline.tell_if_due(Instant::now()),
                () = until(resume_at), if resume_at.is_some() => resume_at = None,
                ready = self.fifo.readable(), if resume_at.is_none() => {
                    let turn = match ready {
                        Ok(()) => self.turn(Receiver::try_read),
                        Err(error) => Turn::Broken(error),
                    };
                    if let Turn::Broken(error) = turn {
                        return self.problem.set(Some(format!("cannot be read: {error}")));
                    }
                    resume_at = match self.pipeline.pace(TURN, FLOOD_PAUSE) {
                        Pace::Go => None,
                        Pace::Pause(time) => Some(Instant::now() + time),
                    };
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Reads what is there without pausing, also over the budget. It asks the system itself: the runtime may not
    /// have heard yet that there is something.
    fn drain(&mut self) -> Vec<String> {
        let mut read = 0;
        while read < MAX_DRAIN {
            match self.turn(|fifo, buffer| Ok(rustix::io::read(fifo, buffer)?)) {
                Turn::Read(more) => read += more,
                Turn::Empty | Turn::Broken(_) => break,
            }
        }
        self.pipeline.finish(Instant::now())
    }

    /// One read of at most [`TURN`] bytes.
    fn turn(&mut self, read: impl FnOnce(&Receiver, &mut [u8]) -> io::Result<usize>) -> Turn {
        let mut buffer = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        match read(&self.fifo, &mut buffer) {
            Ok(read) => {
                self.pipeline.take(&buffer[..read], Instant::now());
                Turn::Read(read)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Turn::Empty,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Turn::Read(0),
            Err(error) => Turn::Broken(error),
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
