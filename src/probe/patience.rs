//! A deadline that the runtime's own lag moves.
//!
//! The wait is cut into slices. A slice that took longer than it should was time in which this thread did not run, or
//! the whole machine did not, and counts only as long as it should have been. So a runtime that was halted for a minute
//! in the middle of a look still gives the worker what is left of its time.

use std::future::Future;
use std::time::Duration;

/// Slices of a deadline: the finer, the less of a halt counts.
const SLICES: u32 = 10;
/// Not longer, so that a halt of a second is seen as one.
const LONGEST: Duration = Duration::from_millis(250);
/// Not shorter, so that waiting costs nothing.
const SHORTEST: Duration = Duration::from_millis(5);

/// The answer, or `None` if it did not come in time. An answer that has come by the deadline counts, however late this
/// thread looks at it.
pub(super) async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let slice = (limit / SLICES).clamp(SHORTEST, LONGEST);
    let mut left = limit;
    loop {
        let step = slice.min(left);
        tokio::select! {
            biased;
            answer = &mut future => return Some(answer),
            () = tokio::time::sleep(step) => left -= step,
        }
        if left.is_zero() {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_deadline_is_kept() {
        let began = tokio::time::Instant::now();
        assert_eq!(within(Duration::from_secs(5), std::future::pending::<()>()).await, None);
        assert!(began.elapsed() >= Duration::from_secs(5) && began.elapsed() < Duration::from_secs(6));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_in_time_is_an_answer() {
        let soon = tokio::time::sleep(Duration::from_millis(4900));
        assert_eq!(within(Duration::from_secs(5), soon).await, Some(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_halt_is_counted_as_one_slice() {
        let began = tokio::time::Instant::now();
        let halted = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            // As if nothing ran: time passes and no timer is looked at.
            tokio::time::advance(Duration::from_secs(60)).await;
            tokio::time::sleep(Duration::from_secs(4)).await;
        };
        assert_eq!(within(Duration::from_secs(5), halted).await, Some(()));
        assert!(began.elapsed() > Duration::from_secs(64));
    }
}
