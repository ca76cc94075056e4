//! The world under the supervision core, as the reference model sees it: who really lives, what was asked of
//! whom, what is in the mailbox.
//!
//! It is naive on purpose: a list of children, searched from one end to the other. It shares no code and no
//! idea with the core but its facts and actions, so an error in one is not hidden by the same error in the
//! other.

use std::collections::VecDeque;
use std::time::Duration;

use regrow::exit::{Exit, StartFailure};
use regrow::id::Incarnation;
use regrow::policy::{
    ChildKey, ChildSpec, OnExhausted, Restart, RestartStrategy, Shutdown, StopHow, SupervisorSpec, Time,
};

/// What was asked of a living incarnation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// When it may be killed at the earliest, if ever without an order.
    pub(crate) kill_at: Option<Time>,
    pub(crate) killed: Option<Time>,
}

/// A living incarnation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) incarnation: Incarnation,
    pub(crate) ready: Option<Time>,
    /// Until when it may take to be ready.
    pub(crate) start_until: Option<Time>,
    pub(crate) asked: Option<Asked>,
    /// How many starts there were before this one.
    pub(crate) born: u64,
    /// A start of a parked child: it has to hold for `verify`.
    pub(crate) trial: bool,
    /// A start somebody asked for: it stands beside the order.
    pub(crate) wished: bool,
    /// A start by one of OTP's calls.
    pub(crate) call: bool,
    /// It was left alone for some of its time, so that it may be older than its group.
    pub(crate) spared: bool,
}

/// Where the start of a child that is down may come from.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wishes {
    /// Somebody asked for a start.
    pub(crate) start: bool,
    /// By one of OTP's calls: a failure is the asker's affair.
    pub(crate) call: bool,
    /// Somebody asked for an end.
    pub(crate) stop: bool,
}

/// An end that concerns a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Root {
    /// How many starts there were before it.
    pub(crate) starts: u64,
    /// Those it touches have to end before anybody is started.
    pub(crate) sweeps: bool,
}

/// One child.
#[derive(Debug, Clone)]
pub(crate) struct Kid {
    pub(crate) key: ChildKey,
    pub(crate) spec: ChildSpec,
    /// Added by the fact of this step: its place is not known yet.
    pub(crate) new: bool,
    pub(crate) life: Option<Life>,
    pub(crate) last: Incarnation,
    /// It has been started at least once.
    pub(crate) started: bool,
    /// An operator wants it down.
    pub(crate) stopped: bool,
    pub(crate) held: bool,
    /// An operator wants it left alone, until then or without an end.
    pub(crate) paused: Option<Option<Time>>,
    pub(crate) wishes: Wishes,
    /// Counted restarts, oldest first (where each child counts for itself).
    pub(crate) events: Vec<Time>,
    /// Restarts in a row.
    pub(crate) row: u32,
    /// Its end was reported and it has not been started since.
    pub(crate) root: Option<Root>,
    /// How long the incarnation that ended last had been ready.
    pub(crate) ran: Option<Duration>,
    /// The incarnation that ended last was a trial.
    pub(crate) tried: bool,
    /// A trial that was asked to end, or met a shortage: whether the next start is a trial too is left to the core.
    pub(crate) again: bool,
    /// An operator has ended its quarantine while its start had to wait: whether that start is a trial is left
    /// to the core, and so is its budget until the next clean slate.
    pub(crate) unsure: bool,
    /// It has ended by itself at least once.
    pub(crate) ended: bool,
    pub(crate) parked: bool,
    /// The shortest and longest wait its next delay may be, until it is seen.
    pub(crate) wait: Option<(Duration, Duration)>,
    /// A retry of it was delivered and may be waiting for a group, also beyond a start that comes first.
    pub(crate) retried: bool,
    /// When its delay is over.
    pub(crate) not_before: Option<Time>,
    /// When a trial has held.
    pub(crate) holds_at: Option<Time>,
}

/// Everybody.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) spec: SupervisorSpec,
    pub(crate) now: Time,
    /// In start order.
    pub(crate) kids: Vec<Kid>,
    /// Whoever was removed.
    pub(crate) removed: Vec<ChildKey>,
    /// Retries the core has posted, oldest first.
    pub(crate) mailbox: VecDeque<ChildKey>,
    /// Requests without an answer.
    pub(crate) unanswered: Vec<u64>,
    /// Counted restarts of all children together.
    pub(crate) events: Vec<Time>,
    /// Moments at which a failed start may have been tried, and counted, again.
    pub(crate) maybe: Vec<Time>,
    pub(crate) starts: u64,
    pub(crate) booted: bool,
    pub(crate) ending: bool,
    pub(crate) kill: bool,
    pub(crate) finished: bool,
}

impl Kid {
    pub(crate) fn new(key: ChildKey, spec: ChildSpec) -> Self {
        Self {
            key,
            new: true,
            life: None,
            last: spec.incarnation,
            started: false,
            stopped: spec.stopped,
            held: spec.held,
            paused: spec.paused.map(|pause| pause.until),
            wishes: Wishes::default(),
            events: Vec::new(),
            row: 0,
            root: None,
            ran: None,
            tried: false,
            again: false,
            unsure: false,
            ended: false,
            parked: false,
            wait: None,
            retried: false,
            not_before: None,
            holds_at: None,
            spec,
        }
    }

    pub(crate) fn lives(&self) -> bool {
        self.life.is_some()
    }

    pub(crate) fn is_starting(&self) -> bool {
        self.life.is_some_and(|life| life.ready.is_none() && life.asked.is_none())
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.life.is_some_and(|life| life.asked.is_some())
    }

    /// Somebody wants it left alone.
    pub(crate) fn pause(&mut self, until: Option<Time>) {
        self.paused = Some(until);
        (self.wait, self.not_before) = (None, None);
        let starting = self.is_starting();
        // What was asked of one that runs has come true.
        if self.lives() && !self.is_ending() {
            (self.wishes.start, self.wishes.stop) = (false, false);
        }
        if let Some(life) = &mut self.life {
            life.spared = true;
            life.start_until = life.start_until.filter(|_| !starting);
        }
    }

    /// Its pause is over, if there was one.
    pub(crate) fn resume(&mut self, now: Time) -> bool {
        let was = self.paused.take().is_some();
        let until = self.spec.start_timeout.map(|limit| now + limit);
        if let Some(life) =
            self.life.as_mut().filter(|life| was && life.ready.is_none() && life.asked.is_none())
        {
            life.start_until = until;
        }
        was
    }

    /// Whether this end is one of an orderly worker (R1).
    pub(crate) fn is_normal(&self, exit: &Exit) -> bool {
        match exit {
            Exit::Exited { code } => self.spec.exit_codes.normal.contains(code),
            Exit::Stopped => true,
            Exit::Signaled { .. }
            | Exit::Oom
            | Exit::Core { .. }
            | Exit::StartFailed(_)
            | Exit::StartTimeout
            | Exit::Killed
            | Exit::Panicked { .. }
            | Exit::Error { .. }
            | Exit::Abandoned
            | Exit::Unknown
            | _ => false,
        }
    }

    /// Whether this end parks it at once.
    pub(crate) fn is_fatal(&self, exit: &Exit) -> bool {
        exit.code().is_some_and(|code| self.spec.exit_codes.fatal.contains(&code))
    }

    /// R2.
    pub(crate) fn wants_restart(&self, exit: &Exit) -> bool {
        match self.spec.restart {
            Restart::Permanent => true,
            Restart::Transient => !self.is_normal(exit),
            Restart::Temporary => false,
        }
    }

    /// The shortest and longest delay before its n-th restart in a row (S15).
    pub(crate) fn delay_bounds(&self, n: u32) -> (Duration, Duration) {
        let backoff = &self.spec.backoff;
        if n < 2 || backoff.first.is_zero() {
            return (Duration::ZERO, Duration::ZERO);
        }
        let mut base = backoff.first.as_secs_f64();
        for _ in 2..n.min(200) {
            base = (base * backoff.factor).min(backoff.max.as_secs_f64());
        }
        base = base.min(backoff.max.as_secs_f64());
        let spread = |ratio: f64| Duration::from_secs_f64(base * ratio);
        let slack = Duration::from_micros(2);
        (spread(1.0 - backoff.jitter).saturating_sub(slack), spread(1.0 + backoff.jitter) + slack)
    }
}

/// `EAGAIN` and the like: the machine's fault, not the worker's.
pub(crate) fn is_shortage(exit: &Exit) -> bool {
    matches!(exit, Exit::StartFailed(StartFailure::Resources { .. }))
}

impl World {
    pub(crate) fn new(spec: SupervisorSpec) -> Self {
        Self {
            spec,
            now: Time::ZERO,
            kids: Vec::new(),
            removed: Vec::new(),
            mailbox: VecDeque::new(),
            unanswered: Vec::new(),
            events: Vec::new(),
            maybe: Vec::new(),
            starts: 0,
            booted: false,
            ending: false,
            kill: false,
            finished: false,
        }
    }

    pub(crate) fn is_group(&self) -> bool {
        matches!(self.spec.strategy, RestartStrategy::OneForAll | RestartStrategy::RestForOne)
    }

    pub(crate) fn is_simple(&self) -> bool {
        self.spec.strategy == RestartStrategy::SimpleOneForOne
    }

    pub(crate) fn escalates(&self) -> bool {
        self.spec.on_exhausted == OnExhausted::Escalate
    }

    pub(crate) fn place(&self, key: ChildKey) -> Option<usize> {
        self.kids.iter().position(|kid| kid.key == key)
    }

    pub(crate) fn kid(&self, key: ChildKey) -> Option<&Kid> {
        self.kids.iter().find(|kid| kid.key == key)
    }

    pub(crate) fn kid_mut(&mut self, key: ChildKey) -> Option<&mut Kid> {
        self.kids.iter_mut().find(|kid| kid.key == key)
    }

    /// Whether this incarnation lives.
    pub(crate) fn lives(&self, key: ChildKey, incarnation: Incarnation) -> bool {
        self.kid(key).and_then(|kid| kid.life).is_some_and(|life| life.incarnation == incarnation)
    }

    /// Whether a restart of the child at `root` touches the one at `other` (R16).
    pub(crate) fn touches(&self, root: usize, other: usize) -> bool {
        match self.spec.strategy {
            RestartStrategy::OneForOne | RestartStrategy::SimpleOneForOne => root == other,
            RestartStrategy::OneForAll => true,
            RestartStrategy::RestForOne => other >= root,
        }
    }

    pub(crate) fn born(&mut self, at: usize) {
        let (now, starts) = (self.now, self.starts);
        self.starts += 1;
        let kid = &mut self.kids[at];
        kid.last = kid.last.next();
        kid.started = true;
        // Whoever asks for it begins its life anew.
        kid.ended &= !(kid.wishes.start || kid.wishes.call);
        let trial = kid.parked;
        kid.unsure |= kid.again;
        kid.life = Some(Life {
            incarnation: kid.last,
            ready: None,
            start_until: kid.spec.start_timeout.filter(|_| kid.paused.is_none()).map(|limit| now + limit),
            asked: None,
            born: starts,
            trial,
            wished: kid.wishes.start || kid.wishes.call,
            call: kid.wishes.call,
            spared: kid.paused.is_some(),
        });
        kid.wishes = Wishes::default();
        kid.root = None;
        kid.parked = false;
        kid.again = false;
        kid.holds_at = None;
        kid.wait = None;
        kid.not_before = None;
        kid.stopped = false;
    }

    pub(crate) fn asked(&mut self, at: usize, how: StopHow) {
        let now = self.now;
        let kid = &mut self.kids[at];
        let shutdown = kid.spec.shutdown;
        kid.holds_at = None;
        let Some(life) = &mut kid.life else { return };
        let asked = life.asked.get_or_insert(Asked {
            kill_at: match shutdown {
                Shutdown::Timeout(wait) => Some(now + wait),
                Shutdown::Infinity => None,
                Shutdown::BrutalKill => Some(now),
            },
            killed: None,
        });
        if how == StopHow::Kill {
            asked.killed = Some(now);
        }
    }

    /// Counted restarts that are not older than the window; one exactly as old counts.
    pub(crate) fn recent(&self, events: &[Time]) -> usize {
        events.iter().filter(|at| **at + self.spec.intensity.within >= self.now).count()
    }
}
