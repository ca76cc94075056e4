//! Signals that a foreground runtime answers.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::worker::unix::{HeldSignals, ignore_signal};

use super::failure::Failure;

/// A process ends by these until it says otherwise, and a runtime is not to end by them at all.
const HARMLESS: [i32; 3] = [libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2];

/// What a runtime answers.
const ANSWERED: [i32; 7] =
    [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGXCPU, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2];

/// Whoever ended by one of these would leave its workers behind, alone. A file that is as long as it may be (`XFSZ`) is an
/// error of whoever writes it.
const PASSED_OVER: [i32; 7] = [
    libc::SIGXFSZ,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGSTKFLT,
];

/// Holds back what must not end a runtime that is only about to be one. First of all.
pub(crate) fn hold_harmless() -> HeldSignals {
    HeldSignals::new(&HARMLESS)
}

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// SIGTERM, SIGINT or SIGQUIT, or SIGXCPU, after which the kernel kills: the number.
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
    quit: Signal,
    xcpu: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    /// Hears them from now on, and what was held back until now. What else would end this process passes by.
    pub(crate) fn new(held: Option<HeldSignals>) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::Failed(format!("cannot take signals: {error}"));
        let take = |number| signal(SignalKind::from_raw(number)).map_err(failed);
        let signals = Self {
            term: take(libc::SIGTERM)?,
            int: take(libc::SIGINT)?,
            quit: take(libc::SIGQUIT)?,
            xcpu: take(libc::SIGXCPU)?,
            hangup: take(libc::SIGHUP)?,
            user1: take(libc::SIGUSR1)?,
            user2: take(libc::SIGUSR2)?,
        };
        // Taken, heard by nobody: other than ignored ones, they are as usual in whoever is started.
        for number in PASSED_OVER.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
            drop(take(number)?);
        }
        // By this one the kernel may tell that a call was not allowed, which then ends the process all the same.
        ignore_signal(libc::SIGSYS).map_err(failed)?;
        if let Some(held) = held {
            held.let_come(&ANSWERED);
        }
        Ok(signals)
    }

    pub(crate) async fn next(&mut self) -> Came {
        tokio::select! {
            _ = self.term.recv() => Came::End(libc::SIGTERM),
            _ = self.int.recv() => Came::End(libc::SIGINT),
            _ = self.quit.recv() => Came::End(libc::SIGQUIT),
            _ = self.xcpu.recv() => Came::End(libc::SIGXCPU),
            _ = self.hangup.recv() => Came::Hangup,
            _ = self.user1.recv() => Came::User(libc::SIGUSR1),
            _ = self.user2.recv() => Came::User(libc::SIGUSR2),
        }
    }
}
