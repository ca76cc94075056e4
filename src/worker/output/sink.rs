//! Where one stream's lines go: a file, the console, or both; and what is told of those that got nowhere.
//!
//! A place that fails is left alone for a second and then tried again by the next output, or after ten seconds if there
//! is none, so that nobody reads of a full disk that has long had room again. What is lost meanwhile is counted, and the
//! log says so once it can be written again. Output is never held back for a full
//! disk, whatever `on_full` says: a full disk must not stop every worker.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::console::Console;
use super::counters::OutputCounters;
use super::file::LogFile;
use super::lines::{Piece, SPLIT_MARK};
use super::through::Through;

/// How long a place that failed is left alone: opening a file on a full or hung disk a thousand times a second
/// would make matters worse.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Notices about lost lines come at most this often, so that they never become the flood.
const NOTICE_EVERY: Duration = Duration::from_secs(1);
/// So long after lines were lost to a failure it is tried to say so, if no output comes.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What is wrong with one stream's log right now; read by whoever asks the hub.
#[derive(Debug, Clone, Default)]
pub(super) struct Problem(Arc<Mutex<Option<String>>>);

impl Problem {
    pub(super) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, problem: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}

/// One place, and when it may be tried again.
struct Place<T> {
    to: T,
    retry_at: Option<Instant>,
    /// The rest of a line whose start was lost is lost too.
    broken_line: bool,
    error: Option<String>,
}

impl<T> Place<T> {
    fn new(to: T) -> Self {
        Self { to, retry_at: None, broken_line: false, error: None }
    }

    /// Whether it was written.
    fn write(
        &mut self,
        starts_line: bool,
        now: Instant,
        write: impl FnOnce(&mut T) -> io::Result<()>,
    ) -> bool {
        let rest_of_lost_line = self.broken_line && !starts_line;
        if rest_of_lost_line || self.retry_at.is_some_and(|at| now < at) {
            self.broken_line = true;
            return false;
        }
        let written = write(&mut self.to);
        self.broken_line = written.is_err();
        self.retry_at = written.is_err().then_some(now + RETRY_AFTER);
        self.error = written.err().map(|error| error.to_string());
        self.error.is_none()
    }
}

/// Lines that got nowhere and were not told of yet.
#[derive(Debug, Default)]
struct Lost {
    too_fast: u64,
    unwritable: u64,
}

/// The places of one stream.
pub(super) struct Sink {
    file: Option<Place<LogFile>>,
    console: Option<Place<Console>>,
    through: Option<Place<Through>>,
    counters: Arc<OutputCounters>,
    problem: Problem,
    shown: Option<String>,
    lost: Lost,
    next_notice: Instant,
    /// When a place that failed is tried again without any output.
    look_again: Instant,
}

impl Sink {
    pub(super) fn new(
        file: Option<LogFile>,
        console: Option<Console>,
        counters: Arc<OutputCounters>,
        problem: Problem,
    ) -> Self {
        Self {
            file: file.map(Place::new),
            console: console.map(Place::new),
            through: None,
            counters,
            problem,
            shown: None,
            lost: Lost::default(),
            next_notice: Instant::now(),
            look_again: Instant::now(),
        }
    }

    /// Everything passes through as it comes.
    pub(super) fn through(through: Through, counters: Arc<OutputCounters>, problem: Problem) -> Self {
        Self { through: Some(Place::new(through)), ..Self::new(None, None, counters, problem) }
    }

    /// Keeps a piece, or counts its lines as lost.
    pub(super) fn keep(&mut self, piece: &Piece<'_>, now: Instant) {
        if let Some(through) = &mut self.through {
            let passed = through.write(true, now, |out| out.write(piece.bytes));
            if passed {
                self.counters.lines.fetch_add(piece.ended, Ordering::Relaxed);
            } else {
                // A part of a line that was lost is a line that was lost.
                self.counters.dropped.fetch_add(piece.ended.max(1), Ordering::Relaxed);
            }
            return self.show_problem();
        }
        if piece.starts_line && self.lost.unwritable > 0 {
            self.tell_of_lost(now);
        }
        let mut kept = self.write(piece.bytes, piece.starts_line, now);
        if piece.split {
            self.counters.split.fetch_add(1, Ordering::Relaxed);
            kept &= self.write(SPLIT_MARK.as_bytes(), false, now);
        }
        if kept {
            self.counters.lines.fetch_add(piece.ended, Ordering::Relaxed);
        } else {
            self.counters.dropped.fetch_add(piece.ended, Ordering::Relaxed);
            self.lost.unwritable += piece.ended;
            self.look_again = now + LOOK_AGAIN;
        }
    }

    /// Counts lines that came too fast.
    pub(super) fn lose(&mut self, lines: u64) {
        self.counters.dropped.fetch_add(lines, Ordering::Relaxed);
        self.lost.too_fast += lines;
    }

    /// When the log is to be told of lost lines; `None` while there is nothing to tell. Lines lost to a failure are
    /// told with the next output, or a while after the last.
    pub(super) fn notice_at(&self) -> Option<Instant> {
        let failed = (self.lost.unwritable > 0).then_some(self.look_again.max(self.next_notice));
        (self.lost.too_fast > 0).then_some(self.next_notice).into_iter().chain(failed).min()
    }

    /// Writes the notices that are due. One that cannot be written stays due.
    pub(super) fn tell_of_lost(&mut self, now: Instant) {
        if now < self.next_notice {
            return;
        }
        let fast = std::mem::take(&mut self.lost.too_fast);
        if fast > 0 && !self.tell(fast, "output came faster than it can be kept", now) {
            self.lost.unwritable += fast;
        }
        let unwritable = self.lost.unwritable;
        if unwritable > 0 && self.tell(unwritable, "the log could not be written", now) {
            self.lost.unwritable = 0;
        }
        self.look_again = now + LOOK_AGAIN;
    }

    fn tell(&mut self, lines: u64, why: &str, now: Instant) -> bool {
        let told = self.write(format!("… {lines} lines dropped: {why}\n").as_bytes(), true, now);
        if told {
            self.next_notice = now + NOTICE_EVERY;
        }
        told
    }

    /// The incarnation is over: an unfinished line is shown. In the file it is ended by the next output.
    pub(super) fn end_line(&mut self, now: Instant) {
        if let Some(console) = &mut self.console {
            console.write(true, now, Console::end_line);
        }
        self.show_problem();
    }

    fn write(&mut self, bytes: &[u8], starts_line: bool, now: Instant) -> bool {
        let file = self
            .file
            .as_mut()
            .is_none_or(|place| place.write(starts_line, now, |file| file.write(bytes, starts_line)));
        let console = self
            .console
            .as_mut()
            .is_none_or(|place| place.write(starts_line, now, |out| out.write(bytes, starts_line)));
        self.show_problem();
        file && console
    }

    /// Takes the lock only when something changed.
    fn show_problem(&mut self) {
        let file = self.file.as_ref().and_then(|place| place.error.as_deref().or(place.to.index_problem()));
        let console = self.console.as_ref().and_then(|place| place.error.as_deref());
        let through = self.through.as_ref().and_then(|place| place.error.as_deref());
        let now = file.or(console).or(through);
        if now != self.shown.as_deref() {
            self.shown = now.map(str::to_owned);
            self.problem.set(self.shown.clone());
        }
    }
}
