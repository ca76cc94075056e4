//! What the core keeps of one child's recovery: how far up its ladder it is, and the incident that is open.
//!
//! A child that never fails has none of this; it is made at the first bad fact.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::id::Incarnation;
use crate::recovery::{
    Breaker, BreakerState, Climb, Copies, Ladder, Outcome, Situation, Step, Strategy, Way, Why,
};

use super::spec::Time;

/// Names one incident of one child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaseNumber(pub u64);

/// Names one thing that the shell does for a step; its answer carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TaskNumber(pub u64);

/// What the shell does for a step, beside starting and stopping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Writes down what can be seen of the worker before something is done to it.
    Gather,
    /// Carries out a strategy.
    Carry(Strategy),
}

/// What an incident waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// Somebody's approval.
    Approval,
    /// The step's own `delay`.
    Delay,
    /// The breaker is open.
    Breaker,
    /// The fleet's brake, in its words.
    Brake(&'static str),
}

/// Something about recovery that the shell does or tells.
#[derive(Debug, Clone, PartialEq)]
pub enum RecoveryAct {
    /// An incident begins.
    Opened {
        /// Which start of the child it is about.
        incarnation: Incarnation,
        /// What is wrong.
        why: Why,
        /// How long that had lasted by now.
        lasted: Duration,
    },
    /// May a step be taken, and which? The answer is [`super::Fact::Leave`].
    Ask {
        /// To be handed back.
        question: TaskNumber,
        /// The steps that may be taken: their places, and what they are. The first is the one whose turn it is.
        allowed: Vec<(usize, Strategy)>,
    },
    /// The leave that was asked for is not needed any more, whether it was given or not.
    Return {
        /// Whether the step held.
        held: bool,
    },
    /// Do this; the answer is [`super::Fact::Performed`].
    Do {
        /// To be handed back.
        task: TaskNumber,
        /// Which start of the child.
        incarnation: Incarnation,
        /// What.
        work: Work,
        /// Given up after this long.
        timeout: Duration,
    },
    /// A step was passed over.
    Skipped {
        /// Which.
        strategy: Strategy,
        /// Why.
        reason: String,
    },
    /// A step waits.
    Waits {
        /// Which, where it is known.
        strategy: Option<Strategy>,
        /// For what.
        what: Waits,
        /// At most until then.
        until: Option<Time>,
    },
    /// A step begins. `place`: `None` for a plain restart and for what an operator asked for.
    Began {
        /// Its place in the ladder.
        place: Option<usize>,
        /// What.
        strategy: Strategy,
        /// Why this one.
        reason: String,
        /// It is the plain restart after an end.
        plain: bool,
    },
    /// The step has ended.
    Ended {
        /// What.
        strategy: Strategy,
        /// How.
        outcome: Outcome,
        /// In words.
        text: String,
    },
    /// The incident is over.
    Closed {
        /// How.
        outcome: Outcome,
        /// In words.
        text: String,
    },
    /// The trial of a parked child has held: it is parked no more.
    TrialHeld {
        /// For so long.
        verify: Duration,
    },
    /// The breaker has another state.
    Breaker {
        /// This one.
        state: BreakerState,
    },
}

/// An incident as people see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CareView<'a> {
    /// Its number.
    pub case: CaseNumber,
    /// What is wrong.
    pub why: &'a Why,
    /// The step that is under way, or the one whose turn it is.
    pub strategy: Option<&'a Strategy>,
    /// What goes on, in one word: `choosing asking approval delay held gathering doing restarting healing verifying`.
    pub stage: &'static str,
    /// Until when, where there is such a time.
    pub until: Option<Time>,
}

/// What the newest verdict says of an incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Well,
    Unknown,
    Unwell,
}

/// Where an incident comes from: it decides what follows a step that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Exit,
    Verdict,
    Operator,
}

/// What goes on in an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing: the next fact goes on from here.
    Idle,
    /// Leave was asked for; asked again then. `only`: the step for which everything else was waited for.
    Asking { question: TaskNumber, until: Time, only: Option<usize> },
    /// Somebody must approve.
    Approval { place: usize, until: Time },
    /// The step's delay.
    Delay { place: usize, until: Time },
    /// The breaker is open.
    Held { until: Time },
    /// The shell looks at it.
    Gathering { task: TaskNumber, until: Time },
    /// The shell does something to it while it runs.
    Doing { task: TaskNumber, until: Time },
    /// It is being stopped and started.
    Leading,
    /// It is being stopped; something is done before it starts.
    MendDue,
    /// The shell does something while it is down.
    Mending { task: TaskNumber, until: Time },
    /// Something was done while it ran: its health must turn by then; `latest`: and its probe have looked anew. `looks`:
    /// how often it had looked when it was first heard of after that.
    Healing { until: Time, latest: Time, looks: Option<u64> },
    /// It must be well until then; with `proven: false` its checks must first say that it is, by then. `latest`: who
    /// still does not know then will not know later either.
    Verifying { until: Time, proven: bool, latest: Time },
}

impl Stage {
    pub(super) fn until(self) -> Option<Time> {
        match self {
            Self::Idle | Self::Leading | Self::MendDue => None,
            Self::Asking { until, .. }
            | Self::Approval { until, .. }
            | Self::Delay { until, .. }
            | Self::Held { until }
            | Self::Gathering { until, .. }
            | Self::Doing { until, .. }
            | Self::Mending { until, .. }
            | Self::Healing { until, .. }
            | Self::Verifying { until, .. } => Some(until),
        }
    }

    /// It makes sense only while the child runs.
    pub(super) fn is_while_up(self) -> bool {
        match self {
            Self::Asking { .. }
            | Self::Approval { .. }
            | Self::Delay { .. }
            | Self::Held { .. }
            | Self::Gathering { .. }
            | Self::Doing { .. }
            | Self::Healing { .. }
            | Self::Verifying { .. } => true,
            Self::Idle | Self::Leading | Self::MendDue | Self::Mending { .. } => false,
        }
    }

    /// What was asked, while it asks for leave.
    pub(super) fn question(self) -> Option<TaskNumber> {
        if let Self::Asking { question, .. } = self { Some(question) } else { None }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Idle => "choosing",
            Self::Asking { .. } => "asking",
            Self::Approval { .. } => "approval",
            Self::Delay { .. } => "delay",
            Self::Held { .. } => "held",
            Self::Gathering { .. } => "gathering",
            Self::Doing { .. } | Self::Mending { .. } => "doing",
            Self::Leading | Self::MendDue => "restarting",
            Self::Healing { .. } | Self::Verifying { proven: false, .. } => "healing",
            Self::Verifying { proven: true, .. } => "verifying",
        }
    }
}

/// The step that is under way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Taken {
    /// Its place; `None`: a plain restart, or what an operator asked for.
    pub(super) place: Option<usize>,
    pub(super) step: Step,
    /// The plain restart follows it.
    pub(super) ahead: bool,
}

/// An open incident.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Case {
    pub(super) number: CaseNumber,
    pub(super) why: Why,
    /// Which start of the child it began with.
    pub(super) opened: Incarnation,
    pub(super) origin: Origin,
    /// Asking it is in vain.
    pub(super) deaf: bool,
    /// It gives no sign of life: a stop has only so much time.
    pub(super) patience: Option<Duration>,
    pub(super) stage: Stage,
    pub(super) taken: Option<Taken>,
    /// What was done before the plain restart that is under way: it comes to what that restart comes to.
    pub(super) before: Option<Taken>,
    /// Steps tried in this incident.
    pub(super) tried: SmallVec<[usize; 4]>,
    /// Steps that people know to be passed over.
    pub(super) skipped: SmallVec<[usize; 4]>,
    /// The incarnation that was looked at.
    pub(super) seen: Incarnation,
    /// The fleet's leave was asked for and is not given back: one of its places may be taken.
    pub(super) leave: bool,
    /// A step was taken because restarts are spent.
    pub(super) spent: bool,
    /// Plain restarts of it that people were told of.
    pub(super) plain: u32,
    /// Why it waits, as people know it.
    pub(super) told: Option<Waits>,
}

impl Case {
    /// The step that is under way parks it.
    pub(super) fn is_to_park(&self) -> bool {
        self.taken.as_ref().is_some_and(|taken| taken.step.run.way() == Way::Park)
    }

    /// A plain restart is what is under way, and nothing else.
    pub(super) fn is_plain(&self) -> bool {
        self.before.is_none()
            && self.taken.as_ref().is_some_and(|taken| taken.place.is_none())
            && self.origin != Origin::Operator
    }
}

/// Everything kept of one child's recovery.
#[derive(Debug, Clone, Default)]
pub(super) struct Care {
    pub(super) climb: Climb,
    pub(super) breaker: Breaker,
    /// The breaker's state as people know it.
    pub(super) shown: BreakerState,
    pub(super) case: Option<Case>,
    pub(super) condition: Option<(Incarnation, Condition)>,
    /// How often the probe had looked that speaks against it.
    pub(super) looks: Option<u64>,
    /// The class of the coming end.
    pub(super) class: Option<(Incarnation, Arc<str>)>,
    /// No new incident before this: the ladder has come to its end.
    pub(super) rests: Option<Time>,
    pub(super) cases: u64,
}

impl Care {
    /// What the newest verdict says of this incarnation; `None`: nothing was heard.
    pub(super) fn condition_of(&self, incarnation: Incarnation) -> Option<Condition> {
        self.condition.filter(|(of, _)| *of == incarnation).map(|(_, condition)| condition)
    }

    /// What changes when people must be told anew.
    pub(super) fn looks(&self) -> Option<(CaseNumber, &'static str, Option<Time>)> {
        self.case.as_ref().map(|case| (case.number, case.stage.word(), case.stage.until()))
    }

    /// `up`: the child runs.
    pub(super) fn view<'a>(
        &'a self,
        ladder: Option<&'a Ladder>,
        (up, copies): (bool, Option<Copies>),
    ) -> Option<CareView<'a>> {
        let case = self.case.as_ref()?;
        let taken = case.taken.as_ref().map(|taken| &taken.step.run);
        let situation = Situation { why: &case.why, up, deaf: case.deaf, copies };
        let coming = || Some(&ladder?.steps.get(self.coming(case.stage, ladder?, &situation)?)?.run);
        Some(CareView {
            case: case.number,
            why: &case.why,
            strategy: taken.or_else(coming),
            stage: case.stage.word(),
            until: case.stage.until(),
        })
    }

    /// The step whose turn it is.
    fn coming(&self, stage: Stage, ladder: &Ladder, situation: &Situation<'_>) -> Option<usize> {
        match stage {
            Stage::Approval { place, .. } | Stage::Delay { place, .. } => Some(place),
            Stage::Asking { only: Some(place), .. } => Some(place),
            Stage::Asking { only: None, .. } | Stage::Held { .. } => {
                self.climb.options(ladder, situation).allowed.first().copied()
            }
            Stage::Idle
            | Stage::Gathering { .. }
            | Stage::Doing { .. }
            | Stage::Leading
            | Stage::MendDue
            | Stage::Mending { .. }
            | Stage::Healing { .. }
            | Stage::Verifying { .. } => None,
        }
    }

    pub(super) fn breaker_state(&self, ladder: &Ladder, now: Time) -> BreakerState {
        self.breaker.state(&ladder.breaker, now)
    }
}
