//! What an end means: the kernel's word, joined with what we had asked for.

use crate::exit::Exit;
use crate::worker::unix::Ended;

/// What was asked of a worker so far. Later ones are stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asked {
    /// Nothing: an end is its own doing.
    Nothing,
    /// To end.
    Stop,
    /// Nothing any more: it was killed.
    Kill,
}

/// Joins both. `ended` is `None` if nobody could take the status; `oom` is asked only about a SIGKILL that was
/// not ours.
pub(super) fn meaning(
    ended: Option<Ended>,
    asked: Asked,
    stop_signal: i32,
    oom: impl FnOnce() -> bool,
) -> Exit {
    let exit = match ended {
        None => Exit::Unknown,
        Some(Ended::Code(code)) => Exit::Exited { code },
        Some(Ended::Core(signal)) => Exit::Core { signal },
        Some(Ended::Signal(libc::SIGKILL)) if asked == Asked::Kill => Exit::Killed,
        Some(Ended::Signal(libc::SIGKILL)) if oom() => Exit::Oom,
        Some(Ended::Signal(signal)) => Exit::Signaled { signal },
    };
    match asked {
        Asked::Stop | Asked::Kill if is_obedient(&exit, stop_signal) => Exit::Stopped,
        Asked::Nothing | Asked::Stop | Asked::Kill => exit,
    }
}

/// Ended as one does who was asked: code 0, by the signal itself, or with the code shells and runtimes make of it.
fn is_obedient(exit: &Exit, stop_signal: i32) -> bool {
    match exit {
        Exit::Exited { code } => *code == 0 || *code == 128 + stop_signal,
        Exit::Signaled { signal } => *signal == stop_signal,
        Exit::Oom
        | Exit::Core { .. }
        | Exit::StartFailed(_)
        | Exit::StartTimeout
        | Exit::Killed
        | Exit::Stopped
        | Exit::Panicked { .. }
        | Exit::Error { .. }
        | Exit::Unwell { .. }
        | Exit::Abandoned
        | Exit::Unknown => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: i32 = 15;

    fn after(ended: Ended, asked: Asked) -> Exit {
        meaning(Some(ended), asked, TERM, || false)
    }

    #[test]
    fn an_end_nobody_asked_for_is_told_as_it_was() {
        assert_eq!(after(Ended::Code(0), Asked::Nothing), Exit::Exited { code: 0 });
        assert_eq!(after(Ended::Signal(9), Asked::Nothing), Exit::Signaled { signal: 9 });
        assert_eq!(after(Ended::Core(6), Asked::Nothing), Exit::Core { signal: 6 });
        assert_eq!(meaning(Some(Ended::Signal(9)), Asked::Nothing, TERM, || true), Exit::Oom);
        assert_eq!(meaning(None, Asked::Stop, TERM, || true), Exit::Unknown);
    }

    #[test]
    fn who_obeys_is_stopped_however_it_says_so() {
        for ended in [Ended::Code(0), Ended::Code(143), Ended::Signal(15)] {
            assert_eq!(after(ended, Asked::Stop), Exit::Stopped);
        }
        assert_eq!(after(Ended::Code(1), Asked::Stop), Exit::Exited { code: 1 });
        assert_eq!(after(Ended::Signal(11), Asked::Stop), Exit::Signaled { signal: 11 });
    }

    #[test]
    fn our_kill_is_neither_a_strangers_nor_the_kernels() {
        assert_eq!(meaning(Some(Ended::Signal(9)), Asked::Kill, TERM, || true), Exit::Killed);
        assert_eq!(after(Ended::Code(0), Asked::Kill), Exit::Stopped);
    }
}
