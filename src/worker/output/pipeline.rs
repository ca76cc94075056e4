//! What happens to the bytes of one stream once they are read: watched, remembered, then kept or dropped.
//!
//! Plain code without a clock or a file descriptor of its own, so that tests can drive it byte by byte. Whole lines
//! are kept or dropped; the decision falls at the start of a line.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::budget::{BURST, Budget, RATE};
use super::counters::OutputCounters;
use super::lines::{Piece, Splitter};
use super::sink::Sink;
use super::words::LastWords;
use crate::config::{LogOnFull, LogSettings, LogTo};

/// Called once, on the output thread, when a line matched: it must not block.
pub(super) type Found = Box<dyn FnOnce() + Send>;

/// Somebody waits for a line.
struct Watch {
    pattern: regex::bytes::Regex,
    found: Found,
    /// The line that is not finished yet, at most `max_line` long.
    line: Vec<u8>,
    /// When that one is looked at as it is.
    open_at: Option<Instant>,
}

/// A line that is not ended for this long may never be: a prompt, or a program that forgot to. Nobody waits for the rest
/// of it before it is looked at.
const OPEN: Duration = Duration::from_millis(100);

/// Who waits for a line, if anybody. Shared with the handle: what is read after `set` returned is seen.
#[derive(Clone, Default)]
pub(super) struct WatchSlot(Arc<Mutex<Option<Watch>>>);

impl WatchSlot {
    pub(super) fn set(&self, pattern: regex::bytes::Regex, found: Found) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Watch { pattern, found, line: Vec::new(), open_at: None });
    }

    /// Looks at a piece.
    fn see(&self, piece: &Piece<'_>, now: Instant) {
        self.look(|watch| {
            let hit = watch.sees(piece);
            watch.open_at = (!watch.line.is_empty()).then(|| now + OPEN);
            hit
        });
    }

    /// When [`WatchSlot::see_open`] is to be called, if nothing is read before.
    fn open_at(&self) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.open_at
    }

    /// Looks at a line that is not ended, once it is time.
    fn see_open(&self, now: Instant) {
        self.look(|watch| {
            let due = watch.open_at.take_if(|at| *at <= now).is_some();
            due && watch.pattern.is_match(without_cr(&watch.line))
        });
    }

    /// The call of `found` happens outside the lock.
    fn look(&self, hit: impl FnOnce(&mut Watch) -> bool) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let hit = slot.as_mut().is_some_and(hit);
        let watch = if hit { slot.take() } else { None };
        drop(slot);
        if let Some(watch) = watch {
            (watch.found)();
        }
    }
}

impl Watch {
    fn sees(&mut self, piece: &Piece<'_>) -> bool {
        if piece.starts_line {
            self.line.clear();
        }
        let mut rest = piece.bytes;
        while let Some(at) = memchr::memchr(b'\n', rest) {
            if self.ends_with(&rest[..at]) {
                return true;
            }
            rest = &rest[at + 1..];
        }
        if piece.split {
            return self.ends_with(rest);
        }
        self.line.extend_from_slice(rest);
        false
    }

    fn ends_with(&mut self, end: &[u8]) -> bool {
        if self.line.is_empty() {
            return self.pattern.is_match(without_cr(end));
        }
        self.line.extend_from_slice(end);
        let matched = self.pattern.is_match(without_cr(&self.line));
        self.line.clear();
        matched
    }
}

/// So that `ready$` matches what a program with Windows line ends writes.
fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// What a stream should do before it reads again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Nothing: let others have their turn.
    Go,
    /// Wait this long.
    Pause(Duration),
}

/// Everything between the FIFO and the log of one stream.
pub(super) struct Pipeline {
    splitter: Splitter,
    budget: Budget,
    /// What passes through has no budget: its reader sets the pace.
    metered: bool,
    on_full: LogOnFull,
    dropping: bool,
    words: LastWords,
    watch: WatchSlot,
    sink: Sink,
    counters: Arc<OutputCounters>,
}

impl Pipeline {
    pub(super) fn new(
        settings: &LogSettings,
        sink: Sink,
        watch: WatchSlot,
        counters: Arc<OutputCounters>,
        now: Instant,
    ) -> Self {
        Self {
            splitter: Splitter::new(settings.max_line),
            budget: Budget::new(RATE, BURST, now),
            metered: settings.to != LogTo::Through,
            on_full: settings.on_full,
            dropping: false,
            words: LastWords::default(),
            watch,
            sink,
            counters,
        }
    }

    /// Takes what was read.
    pub(super) fn take(&mut self, mut chunk: &[u8], now: Instant) {
        self.counters.bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        self.words.push(chunk);
        self.budget.refill(now);
        while let Some(piece) = self.splitter.next(&mut chunk) {
            self.watch.see(&piece, now);
            self.keep_or_drop(&piece, now);
        }
        self.tell_if_due(now);
    }

    /// How to go on.
    pub(super) fn pace(&self, full_turn: usize, flood_pause: Duration) -> Pace {
        if !self.metered {
            return Pace::Go;
        }
        match self.on_full {
            LogOnFull::Drop if self.budget.is_spent() => Pace::Pause(flood_pause),
            LogOnFull::Block if self.budget.is_spent() => Pace::Pause(self.budget.wait_for(full_turn)),
            LogOnFull::Drop | LogOnFull::Block => Pace::Go,
        }
    }

    /// When [`Pipeline::tell_if_due`] is to be called, if nothing is read before.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.notice_at().into_iter().chain(self.watch.open_at()).min()
    }

    /// Never while a line that is kept is open: a notice must not cut it in two.
    fn notice_at(&self) -> Option<Instant> {
        let between_lines = self.dropping || !self.splitter.is_open();
        if between_lines { self.sink.notice_at() } else { None }
    }

    /// Writes a notice about dropped lines, and looks at a line that stays open, if that is due.
    pub(super) fn tell_if_due(&mut self, now: Instant) {
        self.watch.see_open(now);
        if self.notice_at().is_some_and(|at| at <= now) {
            self.sink.tell_of_lost(now);
        }
    }

    /// The incarnation is over: what comes next starts a new line. Answers its last words.
    pub(super) fn finish(&mut self, now: Instant) -> Vec<String> {
        self.splitter.reset();
        self.sink.end_line(now);
        self.words.take()
    }

    fn keep_or_drop(&mut self, piece: &Piece<'_>, now: Instant) {
        if piece.starts_line {
            self.dropping = self.metered && self.on_full == LogOnFull::Drop && self.budget.is_spent();
        }
        if self.dropping {
            self.sink.lose(piece.ended);
        } else {
            self.budget.take(piece.bytes.len());
            self.sink.keep(piece, now);
        }
    }
}
