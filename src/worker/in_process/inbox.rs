//! The mailbox of one instance: what it is told, and what it is asked.
//!
//! It outlives incarnations, so that a [`WorkerRef`](super::WorkerRef) does; what waits in it does not. A message was
//! for the incarnation that was addressed: it is dropped with it and counted. Orders of the runtime go first.
//!
//! One lock and one waker instead of a channel: a channel would have to be made anew for each incarnation, and could
//! not say how full it is.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::oneshot;

use crate::id::Incarnation;

use super::life::End;
use super::task::{Outcome, Task, TaskError};
use super::worker::Condition;

/// Questions that may wait: each asker has one outstanding.
const ORDERS: usize = 64;

/// A queue that has grown beyond this gives its memory back once it is empty.
const KEPT: usize = 64;

/// What the runtime wants of a worker.
pub(crate) enum Order {
    /// An orderly end.
    Stop,
    /// The end, as this.
    End(End),
    /// Something between messages.
    Ask(Ask),
}

/// A question or wish between messages. Dropping it tells the asker that nobody answers.
pub(crate) enum Ask {
    /// Keep what is worth keeping.
    Snapshot,
    /// How are you?
    Health(oneshot::Sender<Condition>),
    /// New connections.
    ResetConnections(oneshot::Sender<()>),
    /// Less memory.
    TrimMemory(oneshot::Sender<()>),
    /// Do this.
    Task(Task, oneshot::Sender<Result<Outcome, TaskError>>),
}

/// What a worker takes out of its mailbox.
pub(super) enum Next<M> {
    /// An order.
    Order(Order),
    /// A message.
    Message(M),
    /// This mailbox belongs to a later incarnation.
    Over,
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// As many as may wait are waiting.
    Full,
    /// Nobody is there.
    Down,
}

/// How full it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Depth {
    /// Messages that wait.
    pub(crate) now: usize,
    /// The most that waited since the last look.
    pub(crate) most: usize,
    /// Messages that may wait.
    pub(crate) capacity: usize,
    /// Messages that were refused since the last look.
    pub(crate) refused: u64,
}

/// The side of a mailbox that knows no type.
pub(crate) trait Ordered: Send + Sync {
    /// Puts an order in front of all messages of this incarnation (`None`: of whichever is there); it comes back if
    /// that one is not there to take it.
    fn order(&self, to: Option<Incarnation>, order: Order) -> Result<(), Order>;
    /// How full it is; begins a new look.
    fn look(&self) -> Depth;
    /// Opens it for this incarnation.
    fn open(&self, incarnation: Incarnation);
    /// Loses the next message that is sent to it, on purpose.
    fn lose_one(&self);
    /// Closes it, if it is still this incarnation's, and drops what waits; user code may run in their `Drop`.
    fn close(&self, incarnation: Incarnation) -> usize;
}

pub(super) struct Inbox<M> {
    inner: Mutex<Inner<M>>,
    capacity: usize,
}

struct Inner<M> {
    open: Option<Incarnation>,
    orders: VecDeque<Order>,
    messages: VecDeque<M>,
    waker: Option<Waker>,
    most: usize,
    refused: u64,
    /// So many of the next messages get lost, and what was lost: whoever waits for an answer to it waits in vain.
    to_lose: usize,
    lost: Vec<M>,
}

impl<M> Inbox<M> {
    pub(super) fn new(capacity: usize) -> Self {
        let inner = Inner {
            open: None,
            orders: VecDeque::new(),
            messages: VecDeque::new(),
            waker: None,
            most: 0,
            refused: 0,
            to_lose: 0,
            lost: Vec::new(),
        };
        Self { inner: Mutex::new(inner), capacity: capacity.max(1) }
    }

    /// Puts a message at the end.
    pub(super) fn push(&self, message: M) -> Result<(), (Refused, M)> {
        let mut inner = self.lock();
        if inner.open.is_none() {
            return Err((Refused::Down, message));
        }
        if inner.messages.len() >= self.capacity {
            inner.refused += 1;
            return Err((Refused::Full, message));
        }
        if inner.to_lose > 0 {
            inner.to_lose -= 1;
            inner.lost.push(message);
            return Ok(());
        }
        inner.messages.push_back(message);
        inner.most = inner.most.max(inner.messages.len());
        wake(inner);
        Ok(())
    }

    /// Waits for what comes next.
    pub(super) async fn next(&self, own: Incarnation) -> Next<M> {
        poll_fn(|context| self.poll_next(own, true, context)).await
    }

    /// Waits for the next order; messages go on waiting.
    pub(super) async fn next_order(&self, own: Incarnation) -> Next<M> {
        poll_fn(|context| self.poll_next(own, false, context)).await
    }

    fn poll_next(&self, own: Incarnation, messages: bool, context: &Context<'_>) -> Poll<Next<M>> {
        let mut inner = self.lock();
        if inner.open != Some(own) {
            return Poll::Ready(Next::Over);
        }
        if let Some(order) = inner.orders.pop_front() {
            return Poll::Ready(Next::Order(order));
        }
        if messages && let Some(message) = inner.messages.pop_front() {
            if inner.messages.is_empty() && inner.messages.capacity() > KEPT {
                inner.messages.shrink_to(KEPT);
            }
            return Poll::Ready(Next::Message(message));
        }
        if !inner.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            inner.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Inner<M>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes who waits, once the mailbox is free again: who is woken looks into it at once, and would wait for it.
fn wake<M>(mut inner: MutexGuard<'_, Inner<M>>) {
    let waker = inner.waker.take();
    drop(inner);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl<M: Send> Ordered for Inbox<M> {
    fn order(&self, to: Option<Incarnation>, order: Order) -> Result<(), Order> {
        let mut inner = self.lock();
        if inner.open.is_none() || to.is_some_and(|to| inner.open != Some(to)) {
            return Err(order);
        }
        match order {
            // An end overtakes what else was asked.
            Order::Stop | Order::End(_) => inner.orders.push_front(order),
            Order::Ask(_) if inner.orders.len() >= ORDERS => return Err(order),
            Order::Ask(_) => inner.orders.push_back(order),
        }
        wake(inner);
        Ok(())
    }

    fn look(&self) -> Depth {
        let mut inner = self.lock();
        let now = inner.messages.len();
        let depth = Depth {
            now,
            most: std::mem::replace(&mut inner.most, now),
            capacity: self.capacity,
            refused: std::mem::take(&mut inner.refused),
        };
        drop(inner);
        depth
    }

    fn open(&self, incarnation: Incarnation) {
        let mut inner = self.lock();
        inner.open = Some(incarnation);
        wake(inner);
    }

    fn lose_one(&self) {
        self.lock().to_lose += 1;
    }

    fn close(&self, incarnation: Incarnation) -> usize {
        let mut inner = self.lock();
        if inner.open != Some(incarnation) {
            return 0;
        }
        inner.open = None;
        inner.waker = None;
        let (orders, messages) = (std::mem::take(&mut inner.orders), std::mem::take(&mut inner.messages));
        let lost = std::mem::take(&mut inner.lost);
        drop(inner);
        let count = messages.len();
        // Outside of the lock: their `Drop` is user code.
        drop((orders, messages, lost));
        count
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const FIRST: Incarnation = Incarnation(1);

    fn open(capacity: usize) -> Inbox<u32> {
        let inbox = Inbox::new(capacity);
        inbox.open(FIRST);
        inbox
    }

    #[tokio::test]
    async fn messages_come_in_order_and_orders_before_them() {
        let inbox = open(8);
        inbox.push(1).unwrap();
        inbox.push(2).unwrap();
        assert!(inbox.order(None, Order::Stop).is_ok());
        assert!(matches!(inbox.next(FIRST).await, Next::Order(Order::Stop)));
        assert!(matches!(inbox.next(FIRST).await, Next::Message(1)));
        assert!(matches!(inbox.next(FIRST).await, Next::Message(2)));
    }

    #[test]
    fn a_full_mailbox_refuses_and_says_how_full_it_was() {
        let inbox = open(2);
        inbox.push(1).unwrap();
        inbox.push(2).unwrap();
        assert_eq!(inbox.push(3), Err((Refused::Full, 3)));
        assert_eq!(inbox.look(), Depth { now: 2, most: 2, capacity: 2, refused: 1 });
        assert_eq!(inbox.look().refused, 0);
    }

    #[tokio::test]
    async fn a_message_that_gets_lost_was_taken_and_is_never_there() {
        let inbox = open(8);
        inbox.lose_one();
        inbox.push(1).unwrap();
        inbox.push(2).unwrap();
        assert!(matches!(inbox.next(FIRST).await, Next::Message(2)));
        assert_eq!(inbox.close(FIRST), 0);
    }

    struct Looks(Arc<Inbox<u32>>, AtomicBool);

    impl std::task::Wake for Looks {
        fn wake(self: Arc<Self>) {
            self.1.store(self.0.inner.try_lock().is_ok(), Ordering::Relaxed);
        }
    }

    #[test]
    fn who_is_woken_finds_the_mailbox_free() {
        let inbox = Arc::new(open(8));
        let looks = Arc::new(Looks(Arc::clone(&inbox), AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&looks));
        let wait = || assert!(inbox.poll_next(FIRST, true, &Context::from_waker(&waker)).is_pending());
        wait();
        inbox.push(1).unwrap();
        assert!(looks.1.swap(false, Ordering::Relaxed));
        assert!(inbox.poll_next(FIRST, true, &Context::from_waker(&waker)).is_ready());
        wait();
        assert!(inbox.order(None, Order::Stop).is_ok());
        assert!(looks.1.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn what_waits_is_dropped_with_the_incarnation_it_was_for() {
        let inbox = open(8);
        inbox.push(1).unwrap();
        inbox.push(2).unwrap();
        assert_eq!(inbox.close(FIRST), 2);
        assert_eq!(inbox.push(3), Err((Refused::Down, 3)));
        inbox.open(Incarnation(2));
        inbox.push(4).unwrap();
        assert!(matches!(inbox.next(FIRST).await, Next::Over));
        assert!(matches!(inbox.next(Incarnation(2)).await, Next::Message(4)));
    }
}
