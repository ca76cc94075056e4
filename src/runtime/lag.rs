//! How late the control plane is: whoever decides too late recovers nobody.
//!
//! One timer of the control plane, once a second, says how late it was. That is all that can delay a decision: the
//! actors, their timers and the ends of processes share its thread. The figure is the worst of the last fifteen
//! looks, so that a scraper that comes that seldom misses nothing, and grows by itself while the plane stands still.
//! While nothing happens there is nothing to be late with: the looks become seldom, because every wake-up of an idle
//! machine costs a fifth of a millisecond, and the first event makes them frequent again.
//!
//! Deliberately absent: a thread that watches. It would be late on a machine that is too busy, too.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::event::{Event, EventKind};
use crate::supervisor::Plane;

/// How often the timer is due while something happens.
const EVERY: Duration = Duration::from_secs(1);

/// How often it is due when nothing has happened for as many looks as are remembered.
const IDLE: Duration = Duration::from_secs(60);

/// Looks that are remembered.
const REMEMBERED: usize = 15;

/// From this lateness on people are told: a killed worker waits this long for its restart, a thousand times what is
/// usual.
const BOUND: Duration = Duration::from_millis(500);

/// The newest measurements; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Lag {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug)]
struct Seen {
    due: Instant,
    late: VecDeque<Duration>,
}

impl Lag {
    pub(crate) fn new(now: Instant) -> Self {
        let seen = Seen { due: now + EVERY, late: VecDeque::with_capacity(REMEMBERED) };
        Self { seen: Arc::new(Mutex::new(seen)) }
    }

    /// The worst of the last seconds, and of the look that is overdue now.
    pub(crate) fn at(&self, now: Instant) -> Duration {
        let seen = self.lock();
        let overdue = now.saturating_duration_since(seen.due);
        seen.late.iter().copied().max().unwrap_or_default().max(overdue)
    }

    /// A look that was due, and how late it came. The next one is due an interval from now.
    fn note(&self, now: Instant, next: Duration) -> Duration {
        let mut seen = self.lock();
        let late = now.saturating_duration_since(seen.due);
        seen.due = now + next;
        if seen.late.len() == REMEMBERED {
            seen.late.pop_front();
        }
        seen.late.push_back(late);
        late
    }

    fn due(&self) -> Instant {
        self.lock().due
    }

    /// Something happened: the next look is due soon.
    fn wake(&self, now: Instant) {
        let mut seen = self.lock();
        seen.due = seen.due.min(now + EVERY);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Measures for as long as the control plane lives. Belongs on its thread.
pub(super) async fn measure(lag: Lag, plane: Arc<Plane>) {
    let mut told = false;
    let mut quiet = Quiet::default();
    loop {
        let due = tokio::time::sleep_until(lag.due().into());
        if quiet.is_long() {
            tokio::select! {
                biased;
                () = due => {}
                () = plane.journal.stirred() => {
                    quiet = Quiet::default();
                    lag.wake(Instant::now());
                    continue;
                }
            }
        } else {
            due.await;
        }
        crate::telemetry::tidy_user_series();
        quiet.look(plane.journal.last_seq());
        let late = lag.note(Instant::now(), if quiet.is_long() { IDLE } else { EVERY });
        // Told once for a stretch of lateness, however long.
        let lagged = late >= BOUND;
        if lagged && !told {
            plane.emit(lagged_by(late));
        }
        told = lagged;
    }
}

/// For how many looks nothing has happened.
#[derive(Debug, Default)]
struct Quiet {
    newest: u64,
    looks: usize,
}

impl Quiet {
    /// Another look, and the number of the newest event at it.
    fn look(&mut self, newest: u64) {
        self.looks = if newest == self.newest { self.looks + 1 } else { 0 };
        self.newest = newest;
    }

    fn is_long(&self) -> bool {
        self.looks >= REMEMBERED
    }
}

fn lagged_by(late: Duration) -> Event {
    let text = format!(
        "the control plane was {:.1} s late: restarts were delayed by as much; the machine is too busy, or the runtime was halted",
        late.as_secs_f64()
    );
    let mut event = Event::new(EventKind::RuntimeLagged, text);
    event.data.insert("lag_seconds".to_owned(), late.as_secs_f64().into());
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_the_last_seconds_is_told_and_then_forgotten() {
        let mut now = Instant::now();
        let lag = Lag::new(now);
        now += EVERY + Duration::from_millis(700);
        assert_eq!(lag.note(now, EVERY), Duration::from_millis(700));
        for _ in 0..REMEMBERED - 1 {
            now += EVERY;
            assert_eq!(lag.note(now, EVERY), Duration::ZERO);
            assert_eq!(lag.at(now), Duration::from_millis(700));
        }
        now += EVERY;
        let _ = lag.note(now, EVERY);
        assert_eq!(lag.at(now), Duration::ZERO);
    }

    #[test]
    fn looks_become_seldom_when_nothing_happens_and_frequent_at_the_first_event() {
        let mut quiet = Quiet::default();
        for _ in 0..REMEMBERED {
            assert!(!quiet.is_long());
            quiet.look(7);
        }
        quiet.look(7);
        assert!(quiet.is_long());
        let now = Instant::now();
        let lag = Lag::new(now);
        assert_eq!(lag.note(now + EVERY, IDLE), Duration::ZERO);
        assert_eq!(lag.due(), now + EVERY + IDLE);
        lag.wake(now + EVERY + EVERY);
        assert_eq!(lag.due(), now + EVERY + EVERY + EVERY);
        quiet.look(8);
        assert!(!quiet.is_long());
    }

    #[test]
    fn a_plane_that_stands_still_is_seen_from_outside() {
        let now = Instant::now();
        let lag = Lag::new(now);
        assert_eq!(lag.at(now + EVERY), Duration::ZERO);
        assert_eq!(lag.at(now + EVERY + Duration::from_secs(9)), Duration::from_secs(9));
    }
}
