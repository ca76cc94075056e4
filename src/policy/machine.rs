//! The supervisor's state and its one entrance.
//!
//! Every fact is handled to its end before `on_fact` returns: the rule it belongs to changes states and
//! collects actions, then the procedure under way (see [`super::group`]) goes as far as it can, then what had
//! to wait for its end is treated in the order it came. Nothing calls back, and nothing is decided elsewhere.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::id::Incarnation;
use crate::recovery::BreakerState;

use super::action::{Action, Actions, Ended};
use super::backoff::Jitter;
use super::check::{SpecError, check_all};
use super::child::{Child, State};
use super::fact::{ChildKey, Fact, Request, RequestId};
use super::group::Procedure;
use super::intensity::Window;
use super::roster::Roster;
use super::spec::{ChildSpec, RestartStrategy, SupervisorSpec, Time};
use super::timers::Timers;
use super::view::ChildView;

/// What has to wait until the procedure under way has ended.
#[derive(Debug, Clone)]
pub(super) enum Later {
    /// A child's own end; void once a stop has consumed it (R28).
    Ended(ChildKey, Incarnation),
    /// A restart or a trial is due.
    Resume(ChildKey),
    /// A step of recovery stops and starts it.
    Lead(ChildKey),
    /// Somebody waits for a turn, and no procedure may have it.
    Run,
    /// One of OTP's calls.
    Request { id: RequestId, request: Request },
}

/// How far the boot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Boot {
    Ahead,
    /// Children start one after the other.
    UnderWay,
    /// Over, and not told yet.
    Over,
    /// Told, or cut off by the end.
    Told,
}

/// The decision maker of one supervisor. See [`super`] for the rules and [`Supervisor::on_fact`] for its use.
#[derive(Debug, Clone)]
pub struct Supervisor {
    pub(super) spec: SupervisorSpec,
    /// `simple_one_for_one`: what every child is but its id.
    pub(super) template: Option<ChildSpec>,
    pub(super) roster: Roster,
    pub(super) timers: Timers,
    /// Ends of pauses: the one thing a child waits for beside what it waits for anyway.
    pub(super) pauses: Timers,
    /// Deadlines of open incidents.
    pub(super) cares: Timers,
    /// How many things the shell was told to do for a step.
    pub(super) tasks: u64,
    /// The common budget (`escalate`).
    pub(super) window: Window,
    pub(super) jitter: Jitter,
    pub(super) procedure: Procedure,
    pub(super) boot: Boot,
    pub(super) later: VecDeque<Later>,
    /// Why it is ending, once it is.
    pub(super) ended: Option<Ended>,
    /// The time for an orderly end is over.
    pub(super) killing: bool,
    pub(super) finished: bool,
    /// How many children wait for a sibling: nobody is searched while it is zero.
    pub(super) waiting: usize,
    /// Definitions whose last children are on their way out, and how many those still are.
    pub(super) departures: Vec<(RequestId, usize)>,
    pub(super) stale: u64,
    pub(super) now: Time,
    pub(super) out: Actions,
    pub(super) touched: SmallVec<[ChildKey; 8]>,
}

impl Supervisor {
    /// A supervisor that has not booted. Children start in the order given.
    ///
    /// Under [`RestartStrategy::SimpleOneForOne`] the one child given is the template: it never runs itself,
    /// and an added child takes everything but its id from it.
    ///
    /// # Errors
    /// [`SpecError`]: the first fault in OTP's order of checks.
    pub fn new(spec: SupervisorSpec, mut children: Vec<ChildSpec>) -> Result<Self, SpecError> {
        check_all(&spec, &children)?;
        let simple = spec.strategy == RestartStrategy::SimpleOneForOne;
        let template = if simple { children.pop() } else { None };
        let (mut roster, mut pauses) = (Roster::default(), Timers::default());
        for child in children {
            let until = child.paused.and_then(|pause| pause.until);
            let key = roster.append(Child::new(child, &spec, Time::ZERO));
            pauses.set(key.slot(), until);
        }
        Ok(Self {
            template,
            roster,
            timers: Timers::default(),
            pauses,
            cares: Timers::default(),
            tasks: 0,
            window: Window::new(spec.intensity),
            jitter: Jitter::new(spec.seed),
            procedure: Procedure::None,
            boot: Boot::Ahead,
            later: VecDeque::new(),
            ended: None,
            killing: false,
            finished: false,
            waiting: 0,
            departures: Vec::new(),
            stale: 0,
            now: Time::ZERO,
            out: Actions::new(),
            touched: SmallVec::new(),
            spec,
        })
    }

    /// Decides on one fact. The actions are to be carried out in order; after [`Action::Finished`] every
    /// further fact is answered with nothing.
    pub fn on_fact(&mut self, now: Time, fact: Fact) -> Actions {
        if self.finished {
            return Actions::new();
        }
        self.now = now;
        self.take(fact);
        self.settle();
        self.tell_changes();
        if self.boot == Boot::Over {
            self.boot = Boot::Told;
            self.out.push(Action::Booted);
        }
        if self.finished {
            self.out.extend(self.ended.clone().map(|ended| Action::Finished { ended }));
        }
        std::mem::take(&mut self.out)
    }

    /// The earliest deadline: the shell sends [`Fact::Tick`] then.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        let timers = [&self.timers, &self.pauses, &self.cares];
        let next = timers.into_iter().filter_map(Timers::earliest).min();
        next.filter(|_| !self.finished)
    }

    /// One child as people see it.
    #[must_use]
    pub fn child(&self, key: ChildKey) -> Option<ChildView<'_>> {
        let child = self.roster.get(key)?;
        let window = if self.escalates() { &self.window } else { &child.window };
        Some(ChildView {
            spec: &child.spec,
            phase: child.phase(),
            incarnation: child.incarnation,
            since: child.since,
            next: child.next(),
            stopped_by_operator: child.stopped,
            paused: child.paused,
            outdated: child.runs_outdated(),
            consecutive: child.consecutive,
            budget_left: window.left(self.spec.intensity, self.now),
            trials: child.trials,
            fatal: matches!(child.state, State::Parked { fatal: true, .. }),
            undecided: matches!(child.state, State::Ended { .. }),
            waits_for: child.waits_for(),
            care: child.care_view(self.copies(key)),
            breaker: self.breaker_of(child),
        })
    }

    fn breaker_of(&self, child: &Child) -> BreakerState {
        let (Some(ladder), Some(care)) = (&child.spec.ladder, &child.care) else {
            return BreakerState::Closed;
        };
        care.breaker_state(ladder, self.now)
    }

    /// The child with this id. Under `simple_one_for_one` ids need not be unique: the newest one.
    #[must_use]
    pub fn key(&self, id: &str) -> Option<ChildKey> {
        self.roster.key(id)
    }

    /// All children in start order.
    pub fn children(&self) -> impl Iterator<Item = ChildKey> + '_ {
        self.roster.keys()
    }

    /// What it was told about itself.
    #[must_use]
    pub fn spec(&self) -> &SupervisorSpec {
        &self.spec
    }

    /// Facts that spoke of an earlier incarnation and changed nothing.
    #[must_use]
    pub fn stale(&self) -> u64 {
        self.stale
    }

    /// Whether it is ending or has ended: no child is started any more.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.ended.is_some()
    }

    /// Whether the time for an orderly end is over: what still runs is killed.
    #[must_use]
    pub fn is_killing(&self) -> bool {
        self.killing
    }

    /// Whether it does exactly what OTP's supervisor does: `escalate`, no restart is delayed, and no child
    /// has an exit code or a minimal uptime that OTP knows nothing of.
    #[must_use]
    pub fn is_exactly_otp(&self) -> bool {
        let plain = |c: &ChildSpec| {
            let plain_ends = c.min_uptime.is_zero() && c.exit_codes.fatal.is_empty();
            let steps = c.ladder.as_ref().map_or(0, |ladder| ladder.steps.len());
            c.backoff.first.is_zero() && plain_ends && steps == 0
        };
        let children = self.roster.keys().filter_map(|key| self.roster.get(key)).map(|child| &child.spec);
        self.escalates() && children.chain(self.template.as_ref()).all(plain)
    }

    fn take(&mut self, fact: Fact) {
        match fact {
            Fact::Boot => self.start_declared(),
            Fact::Ready { child, incarnation } => self.ready(child, incarnation),
            Fact::Ignored { child, incarnation } => self.ignored(child, incarnation),
            Fact::StartFailed { child, incarnation, exit } => self.gone(child, incarnation, exit, true),
            Fact::Exited { child, incarnation, exit } => self.gone(child, incarnation, exit, false),
            Fact::Retry { child } => self.retry(child),
            Fact::Tick => self.tick(),
            Fact::Held { child, held } => self.hold(child, held),
            Fact::Extend { child, incarnation, by } => self.extend(child, incarnation, by),
            Fact::Judged { child, incarnation, verdict } => self.judged(child, incarnation, &verdict),
            Fact::Classed { child, incarnation, class } => self.classed(child, incarnation, class),
            Fact::Leave { child, question, answer } => self.leave_answered(child, question, answer),
            Fact::Performed { child, task, result } => self.performed(child, task, result),
            Fact::Request { id, request } => self.request(id, request),
            Fact::Shutdown => self.end(Ended::Shutdown),
            Fact::Kill => self.kill(),
        }
    }

    /// Goes as far as it can without a further fact.
    fn settle(&mut self) {
        loop {
            self.advance();
            if self.finished || !self.procedure.is_none() {
                return;
            }
            let Some(later) = self.later.pop_front() else { return };
            match later {
                Later::Ended(child, incarnation) => self.treat_late(child, incarnation),
                Later::Resume(child) => self.resume(child),
                Later::Lead(child) => self.lead_now(child),
                Later::Run => self.begin_run(),
                Later::Request { id, request } => self.call(id, request),
            }
        }
    }

    fn retry(&mut self, key: ChildKey) {
        let mailed = matches!(self.roster.get(key).map(|c| &c.state), Some(State::Backoff { at: None, .. }));
        if mailed {
            self.resume_later(key);
        }
    }

    fn tell_changes(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        for key in touched {
            let Some(child) = self.roster.get_mut(key) else { continue };
            child.touched = false;
            let looks = child.looks();
            if child.shown.replace(looks) != Some(looks) {
                self.out.push(Action::Changed { child: key });
            }
        }
    }
}
