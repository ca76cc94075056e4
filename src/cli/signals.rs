//! Signals that a foreground runtime answers.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::worker::unix::HeldSignals;

use super::failure::Failure;

/// A process ends by these until it says otherwise, and a runtime is not to end by them at all.
const HARMLESS: [i32; 3] = [libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2];

/// What a runtime answers.
const ANSWERED: [i32; 5] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2];

/// Holds back what must not end a runtime that is only about to be one. First of all.
pub(crate) fn hold_harmless() -> HeldSignals {
    HeldSignals::new(&HARMLESS)
}

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
    /// Hears them from now on, and what was held back until now.
    pub(crate) fn new(held: Option<HeldSignals>) -> Result<Self, Failure> {
        let take =
            |kind| signal(kind).map_err(|error| Failure::Failed(format!("cannot take signals: {error}")));
        let signals = Self {
            term: take(SignalKind::terminate())?,
            int: take(SignalKind::interrupt())?,
            hangup: take(SignalKind::hangup())?,
            user1: take(SignalKind::user_defined1())?,
            user2: take(SignalKind::user_defined2())?,
        };
        if let Some(held) = held {
            held.let_come(&ANSWERED);
        }
        Ok(signals)
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
