//! Who still writes into the state directory, off the control thread: whoever gives the directory free waits for them.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The writers of one runtime.
#[derive(Debug, Default)]
pub(super) struct Writers {
    count: Mutex<usize>,
    fewer: Condvar,
}

/// One of them, until it is dropped.
pub(super) struct Writing(Arc<Writers>);

impl Writers {
    /// One more.
    pub(super) fn begin(self: &Arc<Self>) -> Writing {
        *self.lock() += 1;
        Writing(Arc::clone(self))
    }

    /// Waits until there are none, at most this long: a disk that hangs must not hold up an end for ever.
    pub(super) fn wait(&self, at_most: Duration) {
        let busy = |count: &mut usize| *count > 0;
        // Whoever is left then writes what a later runtime replaces.
        drop(self.fewer.wait_timeout_while(self.lock(), at_most, busy));
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        *self.0.lock() -= 1;
        self.0.fewer.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_writer_is_waited_for_and_one_that_hangs_is_not() {
        let writers = Arc::new(Writers::default());
        writers.wait(Duration::from_secs(600));
        let hangs = writers.begin();
        writers.wait(Duration::from_millis(1));
        let writer = std::thread::spawn(move || drop(hangs));
        writers.wait(Duration::from_secs(600));
        assert_eq!(*writers.lock(), 0);
        writer.join().unwrap();
    }
}
