//! The stream of events in memory: bounded, numbered, never blocking whoever emits.
//!
//! A reader that is too slow loses events and is told how many: the stream is a convenience, the truth is
//! the status board. The bound is 4,096 events (about 2 MiB), some hours of an unruly tree.
//! Deliberately absent: a file, and with it any history over restarts.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{Notify, broadcast};

use crate::event::{Event, EventKind};

/// Events kept for `events` without `-f`.
const KEPT: usize = 4096;

/// Events a follower may lag behind before it loses some: a thousand workers that die and come back at once make
/// four thousand.
const LAG: usize = 8192;

/// An event with its number and wall-clock time: the contract's `regrow.event/1`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recorded {
    /// Always `regrow.event/1`.
    pub schema: &'static str,
    /// From 1, without gaps.
    pub seq: u64,
    /// When, in UTC.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// The stream; cheap to clone.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

struct Shared {
    ring: Mutex<Ring>,
    live: broadcast::Sender<Arc<Recorded>>,
    dropped: AtomicU64,
    stirred: Notify,
}

struct Ring {
    kept: VecDeque<Arc<Recorded>>,
    last_seq: u64,
    counts: [u64; EventKind::ALL.len()],
}

impl Default for Journal {
    fn default() -> Self {
        Self::new()
    }
}

impl Journal {
    /// An empty stream.
    #[must_use]
    pub fn new() -> Self {
        let (live, _) = broadcast::channel(LAG);
        let ring = Ring { kept: VecDeque::new(), last_seq: 0, counts: [0; EventKind::ALL.len()] };
        let shared =
            Shared { ring: Mutex::new(ring), live, dropped: AtomicU64::new(0), stirred: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Appends an event. Never waits for a reader.
    pub fn emit(&self, event: Event) {
        let mut ring = self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.last_seq += 1;
        if let Some(count) = EventKind::ALL.iter().position(|kind| *kind == event.kind) {
            ring.counts[count] += 1;
        }
        let recorded =
            Arc::new(Recorded { schema: "regrow.event/1", seq: ring.last_seq, at: Timestamp::now(), event });
        if ring.kept.len() == KEPT {
            ring.kept.pop_front();
        }
        ring.kept.push_back(Arc::clone(&recorded));
        // Sent under the lock, so that followers see the numbers in order. No follower is no error.
        let _ = self.shared.live.send(recorded);
        self.shared.stirred.notify_waiters();
    }

    /// The number of the newest event; 0: there was none.
    pub(crate) fn last_seq(&self) -> u64 {
        self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner).last_seq
    }

    /// Waits until something happens.
    pub(crate) async fn stirred(&self) {
        self.shared.stirred.notified().await;
    }

    /// The kept events with a number above `after`, oldest first.
    #[must_use]
    pub fn since(&self, after: u64) -> Vec<Arc<Recorded>> {
        let ring = self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.kept.iter().filter(|recorded| recorded.seq > after).cloned().collect()
    }

    /// The kept events and everything after them, without a gap between.
    #[must_use]
    pub fn follow(&self, after: u64) -> (Vec<Arc<Recorded>>, Subscription) {
        let ring = self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.shared.live.subscribe();
        let old = ring.kept.iter().filter(|recorded| recorded.seq > after).cloned().collect();
        (old, Subscription { live, shared: Arc::clone(&self.shared) })
    }

    /// How many events of each kind there were.
    #[must_use]
    pub fn counts(&self) -> Vec<(EventKind, u64)> {
        let ring = self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner);
        EventKind::ALL.iter().copied().zip(ring.counts).collect()
    }

    /// How many events followers have lost because they were too slow.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

/// One follower's place in the stream.
pub struct Subscription {
    live: broadcast::Receiver<Arc<Recorded>>,
    shared: Arc<Shared>,
}

impl Subscription {
    /// The next event, if there is one already.
    pub(crate) fn next_now(&mut self) -> Option<Arc<Recorded>> {
        loop {
            match self.live.try_recv() {
                Ok(recorded) => return Some(recorded),
                Err(broadcast::error::TryRecvError::Lagged(lost)) => {
                    self.shared.dropped.fetch_add(lost, Ordering::Relaxed);
                }
                Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => {
                    return None;
                }
            }
        }
    }

    /// The next event; `None` once the runtime is gone. Events lost in between are counted.
    pub async fn next(&mut self) -> Option<Arc<Recorded>> {
        loop {
            match self.live.recv().await {
                Ok(recorded) => return Some(recorded),
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    self.shared.dropped.fetch_add(lost, Ordering::Relaxed);
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_no_gap_and_the_ring_is_bounded() {
        let journal = Journal::new();
        for _ in 0..KEPT + 10 {
            journal.emit(Event::new(EventKind::WorkerReady, "ready"));
        }
        let kept = journal.since(0);
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept[0].seq, 11);
        assert!(kept.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1));
    }

    #[tokio::test]
    async fn a_slow_follower_loses_events_and_the_loss_is_counted() {
        let journal = Journal::new();
        let (_, mut follower) = journal.follow(0);
        for _ in 0..LAG + 5 {
            journal.emit(Event::new(EventKind::WorkerReady, "ready"));
        }
        let first = follower.next().await.map(|recorded| recorded.seq);
        assert_eq!(first, Some(6));
        assert_eq!(journal.dropped(), 5);
    }
}
