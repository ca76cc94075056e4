//! The stream of events in memory: bounded, numbered, never blocking whoever emits.
//!
//! A reader that is too slow loses events and is told how many: the stream is a convenience, the truth is
//! the status board. The bound is 8,192 events (about 2 MiB), some hours of an unruly tree; the newer half of them is
//! what is shown to whoever asks later.
//!
//! What happens to children comes as plain values ([`Brief`]) and is put into words by whoever reads it, on the
//! reader's thread: hardly any of it is ever read.
//!
//! Deliberately absent: a file. Whoever keeps events follows the stream like any other reader.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::event::{Brief, Event, EventKind};

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
    /// Its last copy ends the stream.
    _writer: Arc<Writer>,
}

struct Shared {
    ring: Mutex<Ring>,
    /// Wakes followers.
    rung: Notify,
    closed: AtomicBool,
    dropped: AtomicU64,
}

struct Writer(Arc<Shared>);

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.rung.notify_waiters();
    }
}

struct Ring {
    kept: VecDeque<Kept>,
    last_seq: u64,
    counts: [u64; EventKind::ALL.len()],
}

/// An event whose number follows from its place.
#[derive(Clone)]
struct Kept {
    at: Timestamp,
    told: Told,
}

#[derive(Clone)]
enum Told {
    Whole(Arc<Event>),
    Brief(Brief),
}

impl Kept {
    fn recorded(self, seq: u64) -> Arc<Recorded> {
        let event = match self.told {
            Told::Whole(event) => Arc::unwrap_or_clone(event),
            Told::Brief(brief) => brief.event().bounded(),
        };
        Arc::new(Recorded { schema: "regrow.event/1", seq, at: self.at, event })
    }
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
        let ring = Ring { kept: VecDeque::new(), last_seq: 0, counts: [0; EventKind::ALL.len()] };
        let shared = Arc::new(Shared {
            ring: Mutex::new(ring),
            rung: Notify::new(),
            closed: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
        });
        Self { _writer: Arc::new(Writer(Arc::clone(&shared))), shared }
    }

    /// Appends an event. Never waits for a reader.
    pub fn emit(&self, event: Event) {
        self.note(Timestamp::now(), event);
        self.ring();
    }

    /// Appends what happened to a child. Nobody puts it into words before it is read, and nobody is woken before
    /// [`ring`](Self::ring): waking a reader costs more than a restart, and several things happen at once.
    pub(crate) fn tell(&self, at: Timestamp, brief: Brief) {
        let brief = brief.bounded();
        self.append(at, brief.kind(), Told::Brief(brief));
    }

    /// Appends an event; nobody is woken before [`ring`](Self::ring).
    pub(crate) fn note(&self, at: Timestamp, event: Event) {
        self.append(at, event.kind, Told::Whole(Arc::new(event.bounded())));
    }

    fn append(&self, at: Timestamp, kind: EventKind, told: Told) {
        let mut ring = self.shared.lock();
        ring.last_seq += 1;
        if let Some(count) = EventKind::ALL.iter().position(|known| *known == kind) {
            ring.counts[count] += 1;
        }
        let oldest = if ring.kept.len() == LAG { ring.kept.pop_front() } else { None };
        ring.kept.push_back(Kept { at, told });
        drop(ring);
        drop(oldest);
    }

    /// Wakes who waits for events.
    pub(crate) fn ring(&self) {
        self.shared.rung.notify_waiters();
    }

    /// The number of the newest event; 0: there was none.
    pub(crate) fn last_seq(&self) -> u64 {
        self.shared.lock().last_seq
    }

    /// Waits until something happens; what happens from the call on counts, also before it is waited for.
    pub(crate) fn stirred(&self) -> Notified<'_> {
        self.shared.rung.notified()
    }

    /// What happened before this runtime: its events were numbered up to here, and so many there were of each kind. For
    /// when nobody has seen a number yet: whatever has come already goes on behind.
    pub(crate) fn precede(&self, last_seq: u64, counts: &[(EventKind, u64)]) {
        let mut ring = self.shared.lock();
        ring.last_seq += last_seq;
        ring.add(counts);
    }

    /// Goes on behind this number, and with these counts beside its own. Numbers never go back: what is in memory under
    /// lower ones is forgotten.
    pub fn resume(&self, last_seq: u64, counts: &[(EventKind, u64)]) {
        let mut ring = self.shared.lock();
        if last_seq > ring.last_seq {
            ring.kept.clear();
            ring.last_seq = last_seq;
        }
        ring.add(counts);
    }

    /// The kept events with a number above `after`, oldest first.
    #[must_use]
    pub fn since(&self, after: u64) -> Vec<Arc<Recorded>> {
        let ring = self.shared.lock();
        let kept = ring.since(after);
        drop(ring);
        in_words(kept)
    }

    /// The kept events and everything after them, without a gap between.
    #[must_use]
    pub fn follow(&self, after: u64) -> (Vec<Arc<Recorded>>, Subscription) {
        let ring = self.shared.lock();
        let (kept, next) = (ring.since(after), ring.last_seq + 1);
        drop(ring);
        (in_words(kept), Subscription { next, shared: Arc::clone(&self.shared) })
    }

    /// Everything after this number, without what is kept.
    pub(crate) fn after(&self, seq: u64) -> Subscription {
        Subscription { next: seq + 1, shared: Arc::clone(&self.shared) }
    }

    /// How many events of each kind there were.
    #[must_use]
    pub fn counts(&self) -> Vec<(EventKind, u64)> {
        EventKind::ALL.iter().copied().zip(self.shared.lock().counts).collect()
    }

    /// As many were lost at earlier runtimes.
    pub(crate) fn precede_dropped(&self, count: u64) {
        self.shared.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// How many events followers have lost because they were too slow.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the event of this number, or the oldest after it if it is lost.
    fn take(&self, next: &mut u64) -> Option<Arc<Recorded>> {
        let ring = self.lock();
        let first = ring.first();
        let lost = first.saturating_sub(*next);
        let seq = first.max(*next);
        let kept = ring.kept.get(usize::try_from(seq - first).unwrap_or(usize::MAX)).cloned();
        drop(ring);
        let kept = kept?;
        self.dropped.fetch_add(lost, Ordering::Relaxed);
        *next = seq + 1;
        Some(kept.recorded(seq))
    }
}

impl Ring {
    fn add(&mut self, counts: &[(EventKind, u64)]) {
        for (kind, count) in counts {
            if let Some(at) = EventKind::ALL.iter().position(|known| known == kind) {
                self.counts[at] += count;
            }
        }
    }

    /// The number of the oldest event.
    fn first(&self) -> u64 {
        self.last_seq + 1 - self.kept.len() as u64
    }

    fn since(&self, after: u64) -> Vec<(u64, Kept)> {
        let shown = self.kept.len().saturating_sub(KEPT);
        let all = (self.first()..).zip(&self.kept).skip(shown);
        all.filter(|(seq, _)| *seq > after).map(|(seq, kept)| (seq, kept.clone())).collect()
    }
}

fn in_words(kept: Vec<(u64, Kept)>) -> Vec<Arc<Recorded>> {
    kept.into_iter().map(|(seq, kept)| kept.recorded(seq)).collect()
}

/// One follower's place in the stream.
pub struct Subscription {
    next: u64,
    shared: Arc<Shared>,
}

impl Subscription {
    /// The next event, if there is one already.
    pub(crate) fn next_now(&mut self) -> Option<Arc<Recorded>> {
        self.shared.take(&mut self.next)
    }

    /// The next event; `None` once the runtime and every handle of it are gone. Events lost in between are counted.
    pub async fn next(&mut self) -> Option<Arc<Recorded>> {
        let Self { next, shared } = self;
        loop {
            let rung = shared.rung.notified();
            tokio::pin!(rung);
            // Registered before it looks, so that no ring is missed.
            rung.as_mut().enable();
            let closed = shared.closed.load(Ordering::Acquire);
            let taken = shared.take(next);
            if taken.is_some() || closed {
                return taken;
            }
            rung.await;
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
    async fn what_happened_before_numbers_were_known_goes_on_behind_them() {
        let journal = Journal::new();
        journal.emit(Event::new(EventKind::RuntimeStarted, "started"));
        journal.emit(Event::new(EventKind::WorkerReady, "ready"));
        journal.precede(40, &[(EventKind::WorkerReady, 7)]);
        let mut follower = journal.after(40);
        let first = follower.next().await.map(|recorded| (recorded.seq, recorded.event.kind));
        assert_eq!(first, Some((41, EventKind::RuntimeStarted)));
        assert_eq!((journal.last_seq(), journal.since(41).len()), (42, 1));
        assert!(journal.counts().contains(&(EventKind::WorkerReady, 8)));
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

    #[tokio::test]
    async fn what_was_told_before_the_end_still_comes_and_then_the_end() {
        let journal = Journal::new();
        let (_, mut follower) = journal.follow(0);
        let reader = tokio::spawn(async move { (follower.next().await, follower.next().await) });
        tokio::task::yield_now().await;
        journal.emit(Event::new(EventKind::WorkerReady, "ready"));
        drop(journal);
        let (first, end) = reader.await.unwrap();
        assert_eq!(first.map(|recorded| recorded.seq), Some(1));
        assert!(end.is_none());
    }
}
