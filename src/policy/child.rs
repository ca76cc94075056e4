//! One child: its state, which carries the data of that state, and what people see of it.

use std::time::Duration;

use smallvec::SmallVec;

use crate::cause::Cause;
use crate::exit::Exit;
use crate::id::Incarnation;
use crate::recovery::{BreakerState, Copies};

use super::care::{Care, CareView, Case, CaseNumber, Stage};
use super::fact::{ChildKey, RequestId};
use super::intensity::Window;
use super::spec::{ChildSpec, Pause, Restart, Shutdown, SupervisorSpec, Time};
use super::view::{Phase, Plan, Planned};

/// What a child in state [`State::Waiting`] waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Its turn in the boot or group start that is under way.
    Turn,
    /// A sibling that is down and must be ready first.
    Sibling(ChildKey),
    /// What its `after` names.
    Held,
    /// The end of its pause.
    Paused,
}

/// Who wanted the start that is under way: it decides what a failure of it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// A rule, or an operator: a failure is a fact for the rules.
    Rules,
    /// `Request::Add`: a failure drops the child (R29).
    Add,
    /// `Request::Revive`: a failure leaves it down (R30).
    Revive,
}

/// What follows once a child that is being stopped is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// It stays down.
    Down,
    /// It is started again.
    Start,
    /// It is parked.
    Park,
    /// Its start took too long: the end is a failed start.
    TimedOut(By),
    /// It was unwell after it had been ready for this long: the end counts as its own.
    Unwell { cause: Cause, ran: Duration },
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum State {
    /// Down because somebody asked, or never started.
    Stopped,
    /// Down because its work is done.
    Done,
    /// Down, wants to start.
    Waiting(Wait),
    /// Down, a restart is planned: at a time, or by a retry that is in the mailbox (`at: None`).
    Backoff { at: Option<Time>, counted: bool, plan: Plan },
    /// Parked. A fatal one is only ever started by an operator.
    Parked { at: Option<Time>, fatal: bool },
    /// Started, not ready.
    Starting { by: By },
    /// Ready.
    Running,
    /// Asked to end.
    Stopping { after: After, killed: bool, stuck: bool },
    /// Ended by itself while a group was being stopped or started; not treated yet (R28).
    /// `ran`: how long it had been ready.
    Ended { exit: Exit, ran: Option<Duration> },
}

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Up(RequestId),
    Down(RequestId),
}

/// What people see; a change of it is worth an [`super::Action::Changed`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shown {
    phase: Phase,
    next: Option<Planned>,
    incarnation: Incarnation,
    stopped: bool,
    paused: Option<Pause>,
    outdated: bool,
    /// The incident, what goes on in it, and until when.
    care: Option<(CaseNumber, &'static str, Option<Time>)>,
    breaker: BreakerState,
}

#[derive(Debug, Clone)]
pub(super) struct Child {
    pub(super) spec: ChildSpec,
    pub(super) state: State,
    pub(super) incarnation: Incarnation,
    /// Since when it is in its phase.
    pub(super) since: Time,
    /// An operator wants it down.
    pub(super) stopped: bool,
    /// An operator wants it left alone.
    pub(super) paused: Option<Pause>,
    /// Its definition changed while it was paused: what runs is of the one before.
    pub(super) outdated: bool,
    /// What its `after` names is not ready.
    pub(super) held: bool,
    /// Nobody can see whether this start is over: the check that would say so does not work.
    pub(super) unseen: bool,
    /// This start went on over its time, as it was unseen.
    pub(super) overtime: bool,
    /// This start, or this run, is a trial of a parked child.
    pub(super) trial: bool,
    /// Consecutive restarts.
    pub(super) consecutive: u32,
    /// Trials that failed in a row.
    pub(super) trials: u32,
    /// Its own budget (`quarantine`).
    pub(super) window: Window,
    pub(super) asks: SmallVec<[Ask; 1]>,
    /// Its recovery; `None`: it never needed one.
    pub(super) care: Option<Box<Care>>,
    /// A new definition no longer names it: it is forgotten once it is down.
    pub(super) leaving: Option<RequestId>,
    /// What people were last told to look at; `None`: nothing yet.
    pub(super) shown: Option<Shown>,
    /// Already on the list of those whose view may have changed.
    pub(super) touched: bool,
}

impl Child {
    pub(super) fn new(spec: ChildSpec, owner: &SupervisorSpec, now: Time) -> Self {
        let (incarnation, stopped, paused) = (spec.incarnation, spec.stopped, spec.paused);
        let (phase, next, care, breaker) = (Phase::Stopped, None, None, BreakerState::Closed);
        let shown = Shown { phase, next, incarnation, stopped, paused, outdated: false, care, breaker };
        Self {
            state: State::Stopped,
            incarnation,
            since: now,
            stopped,
            paused,
            outdated: false,
            held: spec.held,
            unseen: false,
            overtime: false,
            trial: false,
            consecutive: 0,
            trials: 0,
            window: Window::new(owner.intensity),
            asks: SmallVec::new(),
            care: None,
            leaving: None,
            shown: Some(shown),
            touched: false,
            spec,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match &self.state {
            State::Stopped => Phase::Stopped,
            State::Done => Phase::Done,
            State::Waiting(_) => Phase::Waiting,
            State::Backoff { .. } | State::Ended { .. } => Phase::Backoff,
            State::Parked { .. } => Phase::Quarantined,
            State::Starting { .. } => Phase::Starting,
            State::Running => Phase::Running,
            State::Stopping { stuck: true, .. } => Phase::Stuck,
            State::Stopping { stuck: false, .. } => Phase::Stopping,
        }
    }

    /// Whether it is down, or on its way down, for nobody knows how long: it must not keep others from recovery.
    pub(super) fn waits_without_end(&self) -> bool {
        match self.state {
            State::Waiting(Wait::Held | Wait::Sibling(_) | Wait::Paused)
            | State::Stopping { stuck: true, .. }
            | State::Parked { .. } => true,
            State::Waiting(Wait::Turn)
            | State::Stopping { stuck: false, .. }
            | State::Stopped
            | State::Done
            | State::Backoff { .. }
            | State::Starting { .. }
            | State::Running
            | State::Ended { .. } => false,
        }
    }

    pub(super) fn next(&self) -> Option<Planned> {
        let plan = |what, at| Some(Planned { what, at });
        match &self.state {
            State::Waiting(Wait::Turn) => plan(Plan::Start, None),
            State::Waiting(Wait::Paused) => {
                let until = self.paused.and_then(|pause| pause.until)?;
                plan(Plan::Start, Some(until))
            }
            State::Waiting(Wait::Sibling(_) | Wait::Held) => plan(Plan::WaitDependency, None),
            // Until what is done meanwhile is done; the time that stands there is only a bound.
            State::Backoff { plan: what, .. } if self.is_mending() => plan(*what, None),
            State::Backoff { at, plan: what, .. } => plan(*what, *at),
            State::Ended { .. } => plan(Plan::SoftRestart, None),
            State::Parked { at: Some(at), .. } => plan(Plan::Retry, Some(*at)),
            // When its checks will first say that it works, nobody knows.
            State::Running if self.trial && !self.spec.heard_within.is_zero() => plan(Plan::Verify, None),
            State::Running if self.trial => plan(Plan::Verify, Some(self.since + self.spec.verify)),
            State::Stopping { after: After::Start, .. } => plan(Plan::Start, None),
            State::Stopping { after: After::TimedOut(_), .. } => plan(Plan::Retry, None),
            State::Stopping { after: After::Unwell { .. }, .. } => plan(Plan::SoftRestart, None),
            State::Stopping { after: After::Park, .. } => plan(Plan::Quarantine, None),
            State::Stopped
            | State::Done
            | State::Parked { at: None, .. }
            | State::Starting { .. }
            | State::Running
            | State::Stopping { after: After::Down, .. } => None,
        }
    }

    pub(super) fn is_being_parked(&self) -> bool {
        self.care.as_ref().and_then(|care| care.case.as_ref()).is_some_and(Case::is_to_park)
    }

    /// It is up, with a definition that is not in force any more.
    pub(super) fn runs_outdated(&self) -> bool {
        self.outdated
            && matches!(self.state, State::Starting { .. } | State::Running | State::Stopping { .. })
    }

    fn is_mending(&self) -> bool {
        let case = self.care.as_ref().and_then(|care| care.case.as_ref());
        case.is_some_and(|case| matches!(case.stage, Stage::Mending { .. }))
    }

    /// The incident that is open.
    pub(super) fn care_view(&self, copies: Option<Copies>) -> Option<CareView<'_>> {
        self.care.as_ref()?.view(self.spec.ladder.as_deref(), (self.state == State::Running, copies))
    }

    pub(super) fn looks(&self) -> Shown {
        Shown {
            phase: self.phase(),
            next: self.next(),
            incarnation: self.incarnation,
            stopped: self.stopped,
            paused: self.paused,
            outdated: self.runs_outdated(),
            care: self.care.as_ref().and_then(|care| care.looks()),
            breaker: self.care.as_ref().map(|care| care.shown).unwrap_or_default(),
        }
    }

    pub(super) fn waits_for(&self) -> Option<ChildKey> {
        match &self.state {
            State::Waiting(Wait::Sibling(key)) => Some(*key),
            State::Waiting(Wait::Turn | Wait::Held | Wait::Paused)
            | State::Stopped
            | State::Done
            | State::Backoff { .. }
            | State::Parked { .. }
            | State::Starting { .. }
            | State::Running
            | State::Stopping { .. }
            | State::Ended { .. } => None,
        }
    }

    /// R1: the set N.
    pub(super) fn is_normal(&self, exit: &Exit) -> bool {
        match exit {
            Exit::Stopped => true,
            Exit::Exited { code } => self.spec.exit_codes.normal.contains(code),
            Exit::Signaled { .. }
            | Exit::Oom
            | Exit::Core { .. }
            | Exit::StartFailed(_)
            | Exit::StartTimeout
            | Exit::Killed
            | Exit::Panicked { .. }
            | Exit::Error { .. }
            | Exit::Unwell { .. }
            | Exit::Abandoned
            | Exit::Unknown => false,
        }
    }

    pub(super) fn is_fatal(&self, exit: &Exit) -> bool {
        exit.code().is_some_and(|code| self.spec.exit_codes.fatal.contains(&code))
    }

    /// R27: what a stop expects to see.
    pub(super) fn ends_as_expected(&self, exit: &Exit) -> bool {
        let asked = match self.spec.shutdown {
            Shutdown::BrutalKill => *exit == Exit::Killed,
            Shutdown::Timeout(_) | Shutdown::Infinity => *exit == Exit::Stopped,
        };
        asked || (self.spec.restart != Restart::Permanent && self.is_normal(exit))
    }
}
