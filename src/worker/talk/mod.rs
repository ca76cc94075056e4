//! The worker's own socket: what a worker says and keeps over HTTP, where datagrams are too little.
//!
//! Each instance has a socket of its own (`REGROW_SOCKET`), which only its own user can reach, and each incarnation a
//! token of its own (`REGROW_TOKEN`): whoever has neither cannot speak for it, and what is left of an earlier incarnation
//! cannot speak for the next. It serves what is said in here and nothing else: no way leads from it to the control API.
//!
//! ```text
//! mod    the socket, and who may speak        serve    what can be asked
//! kept   the bytes that a worker keeps
//! ```
//!
//! **Limits.** A few connections at a time, the next ones wait; a request's head and body have a size and a deadline;
//! and who asks faster than [`GAP`] for long is answered that slowly: the thread that serves it starts workers, too.

mod kept;
mod serve;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use subtle::ConstantTimeEq;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::id::Incarnation;

use super::Reporter;
use super::notify::bind_private;

/// Open connections of one instance. A worker with more threads than this shares them.
const CONNECTIONS: usize = 8;
/// After an accept that failed (out of descriptors), so that nobody spins.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two requests of one instance, on average.
pub(super) const GAP: Duration = Duration::from_millis(1);
/// So much may come at once.
const BURST: Duration = Duration::from_millis(100);
/// Connections that wait in the kernel.
const BACKLOG: i32 = 32;

/// Hides what must not be seen.
pub(crate) type Redact = Box<dyn Fn(String) -> String + Send + Sync>;

/// Proves that somebody speaks for an incarnation: 128 bits of chance, as hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// The system has no randomness.
    pub(crate) fn fresh() -> io::Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// For the worker's environment, and nobody else.
    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

/// Never shown.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The socket of one instance.
pub(crate) struct Talk {
    listener: UnixListener,
    places: Arc<Semaphore>,
    desk: Arc<Desk>,
}

/// What all its connections share.
pub(super) struct Desk {
    badge: Mutex<Option<Arc<Badge>>>,
    report: Reporter,
    /// The directory of what it keeps.
    state: PathBuf,
    ready: Mutex<Option<Incarnation>>,
    says_ready: Notify,
    pace: Mutex<Option<Instant>>,
    /// Held while what it keeps is written.
    writing: Mutex<()>,
}

/// Who may speak now.
pub(super) struct Badge {
    pub(super) incarnation: Incarnation,
    token: Token,
    redact: Redact,
    /// The progress that it told last.
    progress: Mutex<Option<f64>>,
}

impl Talk {
    /// Binds `path`, mode 0600. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The path is taken by something else, longer than 107 bytes, or not writable.
    pub(crate) fn bind(path: &Path, state: PathBuf, report: Reporter) -> io::Result<Self> {
        let socket = bind_private(path, rustix::net::SocketType::STREAM)?;
        rustix::net::listen(&socket, BACKLOG)?;
        let listener = UnixListener::from_std(socket.into())?;
        let desk = Desk {
            badge: Mutex::default(),
            report,
            state,
            ready: Mutex::default(),
            says_ready: Notify::new(),
            pace: Mutex::default(),
            writing: Mutex::default(),
        };
        Ok(Self { listener, places: Arc::new(Semaphore::new(CONNECTIONS)), desk: Arc::new(desk) })
    }

    /// From now on this incarnation speaks, and no other.
    pub(crate) fn admit(&self, incarnation: Incarnation, token: Token, redact: Redact) {
        let badge = Badge { incarnation, token, redact, progress: Mutex::default() };
        *lock(&self.desk.badge) = Some(Arc::new(badge));
    }

    /// The next connection. Losing the race in a `select!` loses nothing.
    pub(crate) async fn accept(&self) -> Call {
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                return std::future::pending().await;
            };
            // Here and below memory is what counts: every worker waits here, and hardly any is ever called.
            match std::future::poll_fn(|context| self.listener.poll_accept(context)).await {
                Ok((stream, _)) => return Call { stream, place, desk: Arc::clone(&self.desk) },
                Err(error) => {
                    tracing::debug!(%error, "a worker's socket takes no connection at the moment");
                    drop(place);
                    Box::pin(tokio::time::sleep(PAUSE)).await;
                }
            }
        }
    }

    /// The incarnation that says that it is ready.
    pub(crate) async fn said_ready(&self) -> Incarnation {
        loop {
            if let Some(incarnation) = lock(&self.desk.ready).take() {
                return incarnation;
            }
            self.desk.says_ready.notified().await;
        }
    }
}

/// A connection that was made and not yet served.
pub(crate) struct Call {
    stream: UnixStream,
    place: OwnedSemaphorePermit,
    desk: Arc<Desk>,
}

impl Call {
    /// Serves it, in a task of its own, until either side has enough.
    pub(crate) fn serve(self) {
        tokio::spawn(async move {
            serve::serve(self.stream, self.desk).await;
            drop(self.place);
        });
    }
}

impl Desk {
    /// For whom somebody speaks who shows this token.
    pub(super) fn speaker(&self, token: &str) -> Option<Arc<Badge>> {
        let badge = lock(&self.badge).clone()?;
        let right = bool::from(badge.token.0.as_bytes().ct_eq(token.as_bytes()));
        right.then_some(badge)
    }

    pub(super) fn ready(&self, incarnation: Incarnation) {
        *lock(&self.ready) = Some(incarnation);
        self.says_ready.notify_one();
    }

    /// Waits until the next request may be dealt with.
    pub(super) async fn pace(&self) {
        let now = Instant::now();
        let turn = {
            let mut next = lock(&self.pace);
            let earliest = now.checked_sub(BURST).unwrap_or(now);
            let turn = next.map_or(earliest, |next| next.max(earliest));
            *next = Some(turn + GAP);
            turn
        };
        if turn > now {
            tokio::time::sleep_until(turn).await;
        }
    }
}

impl Badge {
    pub(super) fn redact(&self, text: String) -> String {
        (self.redact)(text)
    }

    /// Whether it has moved since it told its progress last.
    pub(super) fn moves_to(&self, progress: f64) -> bool {
        lock(&self.progress).replace(progress) != Some(progress)
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
