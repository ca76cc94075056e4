//! The shell around a future of a user: polled and dropped where a panic is contained, with a pulse that the watchdog
//! can feel.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use super::panic::{Panicked, contain};

/// A future of user code.
pub(super) type UserFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Counts polls: odd while user code is inside of one. Two equal odd looks mean that it has not yielded between them.
#[derive(Debug, Default)]
pub(super) struct Pulse(AtomicU64);

impl Pulse {
    /// The count.
    pub(super) fn feel(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether user code runs right now.
    pub(super) fn runs(&self) -> bool {
        self.feel() % 2 == 1
    }

    /// As if user code had been entered and did not come back. Only for a pulse that nobody else writes.
    pub(super) fn stick(&self) {
        self.0.store(1, Ordering::Relaxed);
    }

    /// As if it had come back after all.
    pub(super) fn let_go(&self) {
        self.0.store(2, Ordering::Relaxed);
    }

    pub(super) fn around<T>(&self, code: impl FnOnce() -> T) -> T {
        // Only the one task that is polled writes it.
        let before = self.feel();
        self.0.store(before + 1, Ordering::Relaxed);
        let done = code();
        self.0.store(before + 2, Ordering::Relaxed);
        done
    }
}

/// Whose pulse it is.
pub(super) trait Pulsing {
    /// The pulse.
    fn pulse(&self) -> &Pulse;
    /// The worker's number, for the panic hook.
    fn who(&self) -> u64;
}

/// The shell. Its future is gone before it answers.
pub(super) struct Guarded<T, P: Pulsing> {
    future: Option<UserFuture<T>>,
    owner: P,
}

impl<T, P: Pulsing> Guarded<T, P> {
    pub(super) fn new(future: UserFuture<T>, owner: P) -> Self {
        Self { future: Some(future), owner }
    }

    /// Drops the future where a panic in a `Drop` is contained.
    pub(super) fn clear(&mut self) -> Result<(), Box<Panicked>> {
        let Some(future) = self.future.take() else { return Ok(()) };
        let owner = &self.owner;
        contain(owner.who(), || owner.pulse().around(|| drop(future)))
    }
}

impl<T, P: Pulsing + Unpin> Future for Guarded<T, P> {
    type Output = Result<T, Box<Panicked>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let me = self.get_mut();
        let Some(future) = me.future.as_mut() else { return Poll::Pending };
        let owner = &me.owner;
        let pulse = owner.pulse();
        let polled = pulse.around(|| contain(owner.who(), || future.as_mut().poll(context)));
        let done = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(done)) => Ok(done),
            Err(panicked) => Err(panicked),
        };
        Poll::Ready(match (done, me.clear()) {
            (Ok(_), Err(dropped)) => Err(dropped),
            (done, _) => done,
        })
    }
}
