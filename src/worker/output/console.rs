//! The runtime's own stdout as a place for output: each line behind its instance's name.
//!
//! A terminal or pipe that nobody reads must not stop the output of every worker, so before each write the console
//! is asked whether it takes more, and after [`PATIENCE`] its line counts as lost. `O_NONBLOCK` would be simpler,
//! but belongs to the open file, which the shell and others share.
//!
//! Lines are whole: an unfinished one waits, at most `max_line` long.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::escape::escape_for_terminal;

/// How long one piece may wait: a slow terminal is given time.
const PATIENCE: Duration = Duration::from_millis(100);
/// A terminal that nobody reads is left alone for this long by all streams together, so that it costs [`PATIENCE`] in
/// this time, however many workers write: they all share the thread that waits.
const STALLED_FOR: Duration = Duration::from_secs(1);
/// What a pipe that reports room takes without blocking (`PIPE_BUF`).
const PIPE_ROOM: usize = 4096;
/// What a terminal that reports room takes, all but always.
const TERMINAL_ROOM: usize = 256;
/// Shown lines are collected up to this before they are sent: few writes, and no memory to speak of.
const BATCH: usize = 16 * 1024;

/// Until when the console is left alone, for all who write to it.
#[derive(Debug, Clone, Default)]
pub(super) struct Stall(Arc<Mutex<Option<Instant>>>);

impl Stall {
    fn lasts(&self, now: Instant) -> bool {
        self.until().is_some_and(|until| now < until)
    }

    fn begin(&self, now: Instant) {
        *self.until() = Some(now + STALLED_FOR);
    }

    fn until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream's way to the console.
pub(super) struct Console {
    out: OwnedFd,
    stall: Stall,
    prefix: String,
    terminal: bool,
    line: Vec<u8>,
}

impl Console {
    /// A way to the runtime's stdout.
    pub(super) fn stdout(instance: &str, stall: &Stall) -> io::Result<Self> {
        let stdout = io::stdout();
        Ok(Self::new(stdout.as_fd().try_clone_to_owned()?, stdout.is_terminal(), instance, stall))
    }

    /// A way to any file.
    pub(super) fn new(out: OwnedFd, terminal: bool, instance: &str, stall: &Stall) -> Self {
        Self { out, stall: stall.clone(), prefix: format!("{instance} | "), terminal, line: Vec::new() }
    }

    /// Shows the lines that end in `bytes`, keeps the start of one that does not. `starts_line` ends a line that
    /// was left open.
    pub(super) fn write(&mut self, bytes: &[u8], starts_line: bool) -> io::Result<()> {
        if starts_line {
            self.end_line()?;
        }
        let mut rest = bytes;
        let mut shown = Vec::new();
        while let Some(at) = memchr::memchr(b'\n', rest) {
            self.line.extend_from_slice(&rest[..at]);
            self.format_line(&mut shown);
            if shown.len() >= BATCH {
                self.send(&shown)?;
                shown.clear();
            }
            rest = &rest[at + 1..];
        }
        self.line.extend_from_slice(rest);
        self.send(&shown)
    }

    /// Shows what is left of an unfinished line.
    pub(super) fn end_line(&mut self) -> io::Result<()> {
        if self.line.is_empty() {
            return Ok(());
        }
        let mut shown = Vec::new();
        self.format_line(&mut shown);
        self.send(&shown)
    }

    fn format_line(&mut self, shown: &mut Vec<u8>) {
        shown.extend_from_slice(self.prefix.as_bytes());
        if self.terminal {
            let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
            shown.extend_from_slice(escape_for_terminal(line).as_bytes());
        } else {
            shown.extend_from_slice(&self.line);
        }
        shown.push(b'\n');
        self.line.clear();
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let now = Instant::now();
        if self.stall.lasts(now) {
            return Err(nobody_reads());
        }
        let until = now + PATIENCE;
        let room = if self.terminal { TERMINAL_ROOM } else { PIPE_ROOM };
        for piece in bytes.chunks(room) {
            let mut left = piece;
            while !left.is_empty() {
                if !has_room(self.out.as_fd(), until)? {
                    self.stall.begin(Instant::now());
                    return Err(nobody_reads());
                }
                match rustix::io::write(&self.out, left) {
                    Ok(written) => left = &left[written..],
                    Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

fn nobody_reads() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "nobody reads the runtime's stdout")
}

/// Waits for room until then.
fn has_room(out: BorrowedFd<'_>, until: Instant) -> io::Result<bool> {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
    let mut fds = [PollFd::new(&out, PollFlags::OUT)];
    match poll(&mut fds, Some(&timeout)) {
        Ok(0) => Ok(false),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn lines_come_whole_behind_the_name_and_harmless_on_a_terminal() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut plain = Console::new(writer.try_clone().unwrap().into(), false, "web/0", &Stall::default());
        plain.write(b"one\ntw", true).unwrap();
        plain.write(b"o\x1b\nopen", false).unwrap();
        plain.end_line().unwrap();
        let mut terminal = Console::new(writer.into(), true, "web/1", &Stall::default());
        terminal.write(b"\x1b[2J\r\n", true).unwrap();
        drop((plain, terminal));
        let mut shown = Vec::new();
        reader.read_to_end(&mut shown).unwrap();
        assert_eq!(shown, b"web/0 | one\nweb/0 | two\x1b\nweb/0 | open\nweb/1 | \\x1b[2J\n");
    }

    #[test]
    fn a_console_nobody_reads_costs_its_patience_and_no_more() {
        let (_reader, writer) = io::pipe().unwrap();
        let mut console = Console::new(writer.into(), false, "web", &Stall::default());
        let started = Instant::now();
        let error = console.write(&b"line\n".repeat(100_000), true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() < Duration::from_secs(10));
    }
    #[test]
    fn a_console_that_nobody_reads_is_waited_for_by_one_stream_and_left_alone_by_all() {
        let ((_reader, full), (mut reader, writer)) = (io::pipe().unwrap(), io::pipe().unwrap());
        let stall = Stall::default();
        let mut first = Console::new(full.into(), false, "first", &stall);
        // Room is there, so that an error says that nobody asked.
        let mut second = Console::new(writer.into(), false, "second", &stall);
        first.write(&b"line\n".repeat(100_000), true).unwrap_err();
        let again = |second: &mut Console| second.write(b"line\n", true).map_err(|error| error.kind());
        assert!(stall.until().is_some());
        // This test may be halted for longer than that.
        *stall.until() = Some(Instant::now() + Duration::from_secs(3600));
        assert_eq!(again(&mut second), Err(io::ErrorKind::TimedOut));
        *stall.until() = Some(Instant::now());
        assert_eq!(again(&mut second), Ok(()));
        drop(second);
        let mut shown = Vec::new();
        reader.read_to_end(&mut shown).unwrap();
        assert_eq!(shown, b"second | line\n");
    }
}
