//! A queue with one sender and one receiver that takes next to no memory while nothing is in it.
//!
//! Every worker has two, and nearly always both are empty. tokio's channels set places for 32 messages aside before the
//! first one comes, a kilobyte each; at a thousand workers that is what a small machine notices.
//!
//! Unbounded, because its senders are bounded: see where each is made.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// Makes one.
pub(crate) fn mailbox<T>() -> (Sender<T>, Receiver<T>) {
    let state = State { waiting: VecDeque::new(), waker: None, sends: true, receives: true };
    let shared = Arc::new(Shared(Mutex::new(state)));
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared })
}

/// Puts messages in.
pub(crate) struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// Takes messages out, in their order.
pub(crate) struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T>(Mutex<State<T>>);

struct State<T> {
    waiting: VecDeque<T>,
    waker: Option<Waker>,
    sends: bool,
    receives: bool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Sender<T> {
    /// Puts a message in.
    ///
    /// # Errors
    /// The receiver is gone; the message comes back.
    pub(crate) fn send(&self, message: T) -> Result<(), T> {
        let mut state = self.shared.lock();
        if !state.receives {
            return Err(message);
        }
        state.waiting.push_back(message);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        Ok(())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.sends = false;
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl<T> Receiver<T> {
    /// The next message; `None` once the sender is gone and nothing is left. Losing the race in a `select!` loses
    /// nothing.
    pub(crate) async fn recv(&mut self) -> Option<T> {
        poll_fn(|context| {
            let mut state = self.shared.lock();
            if let Some(message) = state.waiting.pop_front() {
                return Poll::Ready(Some(message));
            }
            if !state.sends {
                return Poll::Ready(None);
            }
            if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                state.waker = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.receives = false;
        let left = std::mem::take(&mut state.waiting);
        state.waker = None;
        // What was in it may run code of its own when it goes.
        drop(state);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_come_in_order_and_what_was_sent_before_the_end_still_comes() {
        let (sender, mut receiver) = mailbox();
        assert_eq!(sender.send(1), Ok(()));
        assert_eq!(sender.send(2), Ok(()));
        drop(sender);
        assert_eq!(receiver.recv().await, Some(1));
        assert_eq!(receiver.recv().await, Some(2));
        assert_eq!(receiver.recv().await, None);
    }

    #[tokio::test]
    async fn a_receiver_that_waits_is_woken_by_a_message_and_by_the_end() {
        let (sender, mut receiver) = mailbox();
        let reader = tokio::spawn(async move { (receiver.recv().await, receiver.recv().await) });
        tokio::task::yield_now().await;
        assert_eq!(sender.send("word"), Ok(()));
        tokio::task::yield_now().await;
        drop(sender);
        assert_eq!(reader.await.unwrap(), (Some("word"), None));
    }

    #[test]
    fn a_message_to_nobody_comes_back_and_one_that_waited_is_dropped() {
        let (sender, receiver) = mailbox();
        let message = Arc::new(());
        assert!(sender.send(Arc::clone(&message)).is_ok());
        drop(receiver);
        assert_eq!(Arc::strong_count(&message), 1);
        assert!(sender.send(message).is_err());
    }
}
