//! The open connections of one listener, and who of them leaves when somebody new comes.
//!
//! Whoever waits for us stays. Whoever keeps us waiting — has not asked yet, has its answer and asks nothing more, does
//! not take its answer — stands in a line, and the first of it leaves when a place is short. An answer must also be
//! taken within a time, whoever else comes.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

/// Open connections of one listener.
pub(super) const CONNECTIONS: usize = 256;

/// An answer must be taken within this, and a stream must take something within it whenever there is something.
const TAKE: Duration = Duration::from_secs(30);

/// A large answer has as much longer as it takes at this rate (bytes per second).
const SLOWEST: u64 = 64 * 1024;

/// The open connections of one listener.
pub(super) struct Crowd {
    places: Arc<Semaphore>,
    /// Those that keep us waiting, the longest first.
    line: Mutex<VecDeque<Arc<Notify>>>,
}

/// The right to be one of them.
pub(super) struct Place {
    crowd: Arc<Crowd>,
    /// Told when somebody else needs the place.
    leave: Arc<Notify>,
    turn: Mutex<Turn>,
    /// When the answer must have been taken.
    until: watch::Sender<Option<Instant>>,
    _permit: OwnedSemaphorePermit,
}

/// How far a connection is with its request.
#[derive(Debug, Default)]
struct Turn {
    /// It is being answered: there is more to send.
    in_hand: bool,
    /// What was sent may not have been taken yet.
    owed: bool,
    /// All of the answer must be taken in time; a stream has no end.
    bounded: bool,
    /// It takes nothing now.
    stalled: bool,
}

impl Crowd {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(CONNECTIONS)), line: Mutex::default() }
    }

    /// A place for a new connection. Where all are taken, whoever has kept us waiting longest leaves; where all wait
    /// for us, it waits, too.
    pub(super) async fn place(self: &Arc<Self>) -> Option<Place> {
        if self.places.available_permits() == 0
            && let Some(longest) = self.line().pop_front()
        {
            longest.notify_one();
        }
        let permit = Arc::clone(&self.places).acquire_owned().await.ok()?;
        let place = Place {
            crowd: Arc::clone(self),
            leave: Arc::default(),
            turn: Mutex::default(),
            until: watch::Sender::new(None),
            _permit: permit,
        };
        place.line_up();
        Some(place)
    }

    fn line(&self) -> MutexGuard<'_, VecDeque<Arc<Notify>>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn line_up(&self) {
        self.crowd.line().push_back(Arc::clone(&self.leave));
    }

    fn step_out(&self) {
        self.crowd.line().retain(|one| !Arc::ptr_eq(one, &self.leave));
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has asked something, and waits for us.
    pub(super) fn asked(&self) {
        let mut turn = self.turn();
        turn.in_hand = true;
        turn.stalled = false;
        self.step_out();
    }

    /// It is answered this. Whoever asks for more before it has taken the last answer gets no more time for that.
    pub(super) fn answers(self: &Arc<Self>, body: Body) -> Body {
        let size = body.size_hint().exact();
        let mut turn = self.turn();
        (turn.owed, turn.bounded) = (true, size.is_some());
        drop(turn);
        if let Some(size) = size {
            self.must_take(TAKE + Duration::from_secs(size / SLOWEST));
        }
        Body::new(Answer { body, place: Arc::clone(self) })
    }

    fn must_take(&self, within: Duration) {
        self.until.send_if_modified(|until| {
            let first = until.is_none();
            until.get_or_insert_with(|| Instant::now() + within);
            first
        });
    }

    fn has_taken(&self) {
        self.until.send_if_modified(|until| until.take().is_some());
    }

    /// There is nothing more to send.
    fn all_sent(&self) {
        self.turn().in_hand = false;
    }

    /// It takes nothing.
    fn stalls(&self) {
        if !std::mem::replace(&mut self.turn().stalled, true) {
            self.step_out();
            self.line_up();
            self.must_take(TAKE);
        }
    }

    /// It has taken something.
    fn takes(&self) {
        let mut turn = self.turn();
        if std::mem::take(&mut turn.stalled) {
            self.step_out();
            if !turn.bounded {
                self.has_taken();
            }
        }
    }

    /// It has taken all that was sent. After the end of an answer it is its turn again.
    fn took_all(&self) {
        let mut turn = self.turn();
        if !turn.in_hand && std::mem::take(&mut turn.owed) {
            self.has_taken();
            self.step_out();
            self.line_up();
        }
    }

    /// Returns when it must go: somebody else needs the place, or it has not taken its answer.
    pub(super) async fn must_go(&self) {
        let overdue = async {
            let mut changes = self.until.subscribe();
            loop {
                let until = *changes.borrow_and_update();
                let over = async {
                    match until {
                        Some(until) => tokio::time::sleep_until(until).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = over => return,
                    _ = changes.changed() => {}
                }
            }
        };
        tokio::select! {
            () = self.leave.notified() => {}
            () = overdue => {}
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.step_out();
    }
}

/// A body that tells when all of it was handed over.
struct Answer {
    body: Body,
    place: Arc<Place>,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.place.all_sent();
    }
}

/// A connection that tells whether its client takes what it is sent.
pub(super) struct Watched<T> {
    stream: T,
    place: Arc<Place>,
}

impl<T> Watched<T> {
    pub(super) fn new(stream: T, place: Arc<Place>) -> Self {
        Self { stream, place }
    }

    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_pending() {
            self.place.stalls();
        } else {
            self.place.takes();
        }
        written
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if flushed.is_ready() {
            self.place.took_all();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
