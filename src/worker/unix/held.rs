//! Signals that are held back until somebody hears them.

use std::io;
use std::marker::PhantomData;

use super::child::{change_mask, set_mask};

/// Signals that are held back from this thread, and from those that it starts meanwhile. When this is dropped they come,
/// those that waited too.
#[derive(Debug)]
pub(crate) struct HeldSignals {
    after: u64,
    /// Each thread has its own.
    _here: PhantomData<*const ()>,
}

impl HeldSignals {
    /// Holds these back.
    pub(crate) fn new(signals: &[i32]) -> Self {
        Self { after: change_mask(libc::SIG_BLOCK, bits(signals)), _here: PhantomData }
    }

    /// Ends it, and lets these come too: whoever started this process may have held them back.
    pub(crate) fn let_come(mut self, signals: &[i32]) {
        self.after &= !bits(signals);
    }
}

impl Drop for HeldSignals {
    fn drop(&mut self) {
        set_mask(self.after);
    }
}

/// Ignores a signal in this process. Who is started by it begins with the usual again.
pub(crate) fn ignore_signal(signal: i32) -> io::Result<()> {
    // SAFETY: no handler is installed, and the number is checked by the call.
    if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn bits(signals: &[i32]) -> u64 {
    signals.iter().fold(0, |bits, signal| bits | (1 << (signal - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocked() -> u64 {
        change_mask(libc::SIG_BLOCK, 0)
    }

    #[test]
    fn what_is_held_back_comes_when_it_is_let() {
        let usual = blocked();
        let held = HeldSignals::new(&[libc::SIGHUP, libc::SIGUSR1]);
        assert_eq!(blocked(), usual | bits(&[libc::SIGHUP, libc::SIGUSR1]));
        let below = std::thread::spawn(blocked).join().unwrap();
        assert_eq!(below, blocked(), "threads that are started meanwhile hold them back too");
        drop(held);
        assert_eq!(blocked(), usual);
        let by_parent = HeldSignals::new(&[libc::SIGTERM]);
        HeldSignals::new(&[libc::SIGHUP]).let_come(&[libc::SIGHUP, libc::SIGTERM]);
        assert_eq!(blocked() & bits(&[libc::SIGHUP, libc::SIGTERM]), 0);
        drop(by_parent);
    }
}
