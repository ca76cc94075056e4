//! Log capture: what workers write to stdout and stderr, kept in files and found again.
//!
//! **Why a thread of its own.** Output must never hurt supervision: a worker that writes 1 GB/s, a disk that
//! hangs or a paused terminal may hold up the thread `regrow-output`, and with it only other workers' *output*.
//! Writes are plain blocking writes from that thread. The trade-off: while a disk hangs, FIFOs (64 KiB each) fill
//! and a worker that goes on writing waits in its `write`; its supervision, probes and restarts go on.
//!
//! **Limits.** One turn reads at most 64 KiB of one stream, then the next has its turn. Each stream keeps 8 MiB a
//! second after a burst of 16 MiB; beyond that `on_full` decides: `drop` reads on, slowly, and counts what it
//! throws away; `block` stops reading and so makes the worker wait. All streams share one read buffer; a stream's
//! own memory is one unfinished line (`max_line`, and only while a line is waited for or shown) and 4 KiB of last words.
//!
//! **Bytes are kept exactly**, with four exceptions, each on a line of its own or marked: a line longer than
//! `max_line` is split at [`SPLIT_MARK`]; dropped lines leave a notice that begins with `…`; a line that one
//! incarnation left open is ended before the next one's output; and so is one that a failed write tore.
//!
//! None of this holds for `run`, whose one command's output passes `through` as it comes.
//!
//! Deliberately absent: timestamps in the log (they would change the bytes; a sidecar index answers `--since`),
//! fsync (a log is not a journal), compression, and any parsing.

mod budget;
mod console;
mod counters;
mod escape;
mod file;
mod follow;
mod hub;
mod index;
mod lines;
mod pipeline;
mod read;
mod recovery;
mod sink;
mod stream;
mod through;
mod times;
mod words;

#[cfg(test)]
mod tests;

pub use counters::OutputCounters;
pub use escape::escape_for_terminal;
pub use follow::LogFollower;
pub(crate) use hub::{OutputHub, OutputStream, StreamSpec};
pub use lines::SPLIT_MARK;
pub use read::{LogQuery, LogReader, ReadLine, StreamName};
pub(crate) use recovery::RecoveryLogs;
