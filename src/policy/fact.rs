//! What a supervisor can be told. Everything is in the past tense but requests; every fact about a child
//! carries the incarnation it speaks of, and a stale one changes nothing (R7, S2).

use std::sync::Arc;
use std::time::Duration;

use crate::exit::Exit;
use crate::health::Verdict;
use crate::id::Incarnation;
use crate::recovery::Step;

use super::care::TaskNumber;
use super::reform::Reform;
use super::spec::ChildSpec;

/// A child of its supervisor: its slot there, and which of the slot's children it is. Slots of removed children are
/// used again, keys are not, so an old message cannot reach a new child, whose incarnations begin at 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildKey {
    slot: u32,
    life: u32,
}

impl ChildKey {
    /// The first child that a slot has.
    #[must_use]
    pub const fn first(slot: u32) -> Self {
        Self { slot, life: 0 }
    }

    /// The one that the slot has after this.
    #[must_use]
    pub(super) const fn next(self) -> Self {
        Self { slot: self.slot, life: self.life.wrapping_add(1) }
    }

    /// Its slot: a small number that nobody else has while it is there.
    #[must_use]
    pub const fn slot(self) -> u32 {
        self.slot
    }

    /// The slot as the place in a list.
    #[must_use]
    pub const fn at(self) -> usize {
        self.slot as usize
    }
}

impl std::fmt::Debug for ChildKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChildKey({}.{})", self.slot, self.life)
    }
}

/// Names one request, so that its reply finds the asker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

/// Something that happened, or was asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// Start the declared children.
    Boot,
    /// A start is acknowledged: the incarnation is ready.
    Ready {
        /// Which child.
        child: ChildKey,
        /// Which start of it.
        incarnation: Incarnation,
    },
    /// A start answered that there is nothing to run (OTP's `ignore`).
    Ignored {
        /// Which child.
        child: ChildKey,
        /// Which start of it.
        incarnation: Incarnation,
    },
    /// A start failed: nothing of this incarnation lives any more.
    StartFailed {
        /// Which child.
        child: ChildKey,
        /// Which start of it.
        incarnation: Incarnation,
        /// Why.
        exit: Exit,
    },
    /// An incarnation ended, its whole process tree included. Also the answer to a `Stop` action.
    Exited {
        /// Which child.
        child: ChildKey,
        /// Which start of it.
        incarnation: Incarnation,
        /// How.
        exit: Exit,
    },
    /// A retry that was posted by [`super::Action::Retry`] is due. As in OTP any one does: it is a no-op unless the
    /// child waits for one (R23).
    Retry {
        /// Which child.
        child: ChildKey,
    },
    /// Time has passed: a deadline named by `next_due` may have come.
    Tick,
    /// What `after` names became ready (`held: false`) or stopped being ready (`held: true`).
    Held {
        /// Which child.
        child: ChildKey,
        /// Whether a start is to be held back.
        held: bool,
    },
    /// The worker asked for more time to start or stop (`EXTEND_TIMEOUT_USEC`).
    Extend {
        /// Which child.
        child: ChildKey,
        /// Which start of it.
        incarnation: Incarnation,
        /// The deadline is now at least this far away.
        by: Duration,
    },
    /// What its probes say of an incarnation. Told when it changes, and again and again while it is unwell: one that
    /// is lost costs a period.
    Judged {
        /// Which child.
        child: ChildKey,
        /// Which start of it.
        incarnation: Incarnation,
        /// The verdict.
        verdict: Arc<Verdict>,
    },
    /// The failure has a name: an `[[error_class]]` fits. Comes before the end, or the verdict, that it names.
    Classed {
        /// Which child.
        child: ChildKey,
        /// Which start of it.
        incarnation: Incarnation,
        /// The name.
        class: Arc<str>,
    },
    /// The answer to [`super::RecoveryAct::Ask`].
    Leave {
        /// Which child.
        child: ChildKey,
        /// What was asked.
        question: TaskNumber,
        /// The place of the step to take and why it is that one, or why none may be taken now.
        answer: Result<(usize, String), &'static str>,
    },
    /// The answer to [`super::RecoveryAct::Do`].
    Performed {
        /// Which child.
        child: ChildKey,
        /// What was to be done.
        task: TaskNumber,
        /// Whether it was, or why not.
        result: Result<(), Undone>,
    },
    /// A user's or program's wish.
    Request {
        /// Names the reply.
        id: RequestId,
        /// The wish.
        request: Request,
    },
    /// The parent asks this supervisor to end: stop all children in reverse order (R25).
    Shutdown,
    /// The time for an orderly end is over: kill what remains, still in reverse order.
    Kill,
}

/// Why something that a step wanted was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undone {
    /// It was tried, and this came of it.
    Failed(String),
    /// It turned out that it cannot be done now, for this reason: the step is passed over.
    Unfit(String),
}

/// What can be asked of a supervisor. OTP's calls stand beside the operator's verbs: the difference is
/// that an operator's `Stop` is intent, which no automatic rule overrules, while OTP's `Terminate` is undone
/// by the next group restart (R18).
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// OTP `start_child`: add a child at the end and start it.
    Add {
        /// The new child.
        spec: Box<ChildSpec>,
    },
    /// OTP `terminate_child`.
    Terminate {
        /// Which child.
        child: ChildKey,
    },
    /// OTP `restart_child`: start a child that is down.
    Revive {
        /// Which child.
        child: ChildKey,
    },
    /// OTP `delete_child`: forget a child that is down.
    Delete {
        /// Which child.
        child: ChildKey,
    },
    /// A new definition of the supervisor and of all its children.
    Reform(Box<Reform>),
    /// Operator `start`: clears the intent to have it stopped, ends any wait, starts it if it is down.
    Start {
        /// Which child.
        child: ChildKey,
    },
    /// Operator `stop`: stays stopped until `Start`.
    Stop {
        /// Which child.
        child: ChildKey,
    },
    /// Operator `restart`: stop if up, then start; ends a backoff or quarantine; never counted.
    Restart {
        /// Which child.
        child: ChildKey,
    },
    /// Operator `pause`: from now on nothing is started, stopped or tried by itself.
    Pause {
        /// Which child.
        child: ChildKey,
        /// For how long; `None`: until `Resume`.
        lasting: Option<Duration>,
    },
    /// Operator `resume`: ends a pause.
    Resume {
        /// Which child.
        child: ChildKey,
    },
    /// Operator `recover`: this step, at once.
    Recover {
        /// Which child.
        child: ChildKey,
        /// What is done.
        step: Box<Step>,
        /// Who asks, for people.
        by: Arc<str>,
    },
    /// Operator `approve`: the step that waits for it may go on.
    Approve {
        /// Which child.
        child: ChildKey,
    },
    /// Operator `reset-failed`: clears intensity and backoff; a parked child is tried at once.
    ResetFailed {
        /// Which child.
        child: ChildKey,
    },
}
