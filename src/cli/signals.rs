//! Signals that a foreground runtime answers.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// SIGTERM or SIGINT: the number.
    End(i32),
    /// SIGHUP.
    Hangup,
    /// SIGUSR1 or SIGUSR2: the number.
    User(i32),
}

/// The signals, taken from the moment of `new`.
pub(crate) struct Signals {
    term: Signal,
    int: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    pub(crate) fn new() -> Result<Self, Failure> {
        let take =
            |kind| signal(kind).map_err(|error| Failure::Failed(format!("cannot take signals: {error}")));
        Ok(Self {
            term: take(SignalKind::terminate())?,
            int: take(SignalKind::interrupt())?,
            hangup: take(SignalKind::hangup())?,
            user1: take(SignalKind::user_defined1())?,
            user2: take(SignalKind::user_defined2())?,
        })
    }

    pub(crate) async fn next(&mut self) -> Came {
        tokio::select! {
            _ = self.term.recv() => Came::End(15),
            _ = self.int.recv() => Came::End(2),
            _ = self.hangup.recv() => Came::Hangup,
            _ = self.user1.recv() => Came::User(10),
            _ = self.user2.recv() => Came::User(12),
        }
    }
}
