//! A clock that costs one wake-up for each tick.
//!
//! The timers of a tokio runtime live in a wheel with several levels: one that is due in ten seconds wakes its thread at
//! each of them, three times in all. Where nothing else happens, wake-ups are what an idle runtime costs. The kernel's
//! own timer wakes once.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::worker::unix::watch_readable;

/// Ticks until it is dropped. Ticks that nobody waited for are one.
pub(super) struct Ticks(AsyncFd<Arc<OwnedFd>>);

impl Ticks {
    /// One that ticks first after that time and then once a period. Belongs to the runtime that it is made in, which
    /// needs its I/O.
    ///
    /// # Errors
    /// The system gives no descriptor for it.
    pub(super) fn new(period: Duration, first: Duration) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let times = Itimerspec { it_interval: spec(period), it_value: spec(first) };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
        Ok(Self(watch_readable(Arc::new(timer))?))
    }

    /// Waits for the next one. May be given up and called again: no tick is lost.
    pub(super) async fn tick(&mut self) {
        loop {
            let Ok(mut ready) = self.0.readable().await else {
                // The runtime ends, and this is dropped with it.
                return std::future::pending().await;
            };
            match rustix::io::read(ready.get_inner(), &mut [0; 8]) {
                Ok(_) => return,
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "a timer cannot be read any more: what it was for is left out");
                    return std::future::pending().await;
                }
            }
        }
    }
}

/// A zero would stop the timer.
fn spec(duration: Duration) -> Timespec {
    let duration = duration.max(Duration::from_nanos(1));
    Timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn it_ticks_at_first_and_then_once_a_period() {
        let (period, first) = (Duration::from_millis(20), Duration::from_millis(5));
        let began = Instant::now();
        let mut ticks = Ticks::new(period, first).unwrap();
        ticks.tick().await;
        assert!(began.elapsed() >= first);
        ticks.tick().await;
        assert!(began.elapsed() >= first + period);
    }

    #[tokio::test]
    async fn a_tick_that_somebody_gave_up_waiting_for_comes_to_the_next() {
        let mut ticks = Ticks::new(Duration::from_secs(3600), Duration::from_millis(5)).unwrap();
        // On a busy machine it may have come before.
        if tokio::time::timeout(Duration::ZERO, ticks.tick()).await.is_err() {
            tokio::time::timeout(Duration::from_secs(60), ticks.tick()).await.unwrap();
        }
    }
}
