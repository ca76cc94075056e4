//! What the shell must do, in this order. Actions are concrete: no choice is left in them.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::exit::Exit;
use crate::id::Incarnation;

use super::care::{CaseNumber, RecoveryAct};
use super::check::SpecError;
use super::fact::{ChildKey, RequestId};

/// The actions of one fact. Six stand inline: those of a plain restart.
pub type Actions = SmallVec<[Action; 6]>;

/// How to end an incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopHow {
    /// Ask (the configured signal); the core kills later by itself.
    Graceful,
    /// Kill the whole tree now.
    Kill,
}

/// Why something is worth a report; the words of OTP's supervisor reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportKind {
    /// A child ended by itself and that was abnormal, or it is restarted.
    ChildTerminated,
    /// A start failed.
    StartError,
    /// A child did not end as a stop expects (R27).
    ShutdownError,
    /// The supervisor gives up: restart intensity is spent.
    GaveUp,
}

/// Why a supervisor ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// Its parent asked.
    Shutdown,
    /// Restart intensity was spent under `escalate` (OTP: reason `shutdown`).
    GaveUp {
        /// The child that spent it.
        offender: ChildKey,
    },
    /// Its significant children ended (OTP: reason `shutdown`).
    AutoShutdown,
    /// A child failed at boot under `escalate` (R6).
    BootFailed {
        /// The child.
        child: ChildKey,
        /// How its start failed.
        exit: Exit,
    },
}

/// Answer to a request.
pub type Reply = Result<Done, Refused>;

/// A request that was carried out, or that is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// Nothing more to say.
    Ok,
    /// A child was added or revived and this incarnation is ready.
    Up(ChildKey, Incarnation),
    /// A child was added or revived and answered that there is nothing to run.
    Ignored,
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq)]
pub enum Refused {
    /// No such child.
    NotFound,
    /// It runs.
    Running,
    /// It is being restarted.
    Restarting,
    /// `Add`: the id is there and up.
    AlreadyStarted,
    /// `Add`: the id is there and down.
    AlreadyPresent,
    /// `Add`: the specification is impossible under this supervisor (R32).
    BadSpec(SpecError),
    /// Not possible under `simple_one_for_one`.
    SimpleOneForOne,
    /// The start failed.
    StartFailed(Exit),
    /// What was asked for cannot be done to this child, for this reason.
    CannotRecover(Arc<str>),
    /// The supervisor is ending.
    ShuttingDown,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Action {
    /// Start this incarnation.
    Start {
        /// Which child.
        child: ChildKey,
        /// Which start of it.
        incarnation: Incarnation,
    },
    /// End this incarnation; the answer is `Exited`.
    Stop {
        /// Which child.
        child: ChildKey,
        /// Which start of it.
        incarnation: Incarnation,
        /// Ask or kill.
        how: StopHow,
    },
    /// Post `Fact::Retry` to the end of the own mailbox (R22). Only for retries without a delay;
    /// delayed ones are deadlines of the core.
    Retry {
        /// Which child.
        child: ChildKey,
    },
    /// Tell people.
    Report {
        /// What.
        kind: ReportKind,
        /// About whom.
        child: ChildKey,
        /// Which start of it.
        incarnation: Incarnation,
        /// How it ended; absent for `GaveUp`.
        exit: Option<Exit>,
    },
    /// Something a person sees of this child has changed: read `Supervisor::child`.
    Changed {
        /// Which child.
        child: ChildKey,
    },
    /// A child that a new definition named came into being; it is not started by this.
    Added {
        /// Which child.
        child: ChildKey,
    },
    /// A new definition of a child holds: its next start is made from it.
    Respec {
        /// Which child.
        child: ChildKey,
        /// Whether that start comes now.
        renew: bool,
    },
    /// The child and its slot are gone; nothing of it lives.
    Removed {
        /// Which child.
        child: ChildKey,
    },
    /// Something about recovery: to be done, answered or told.
    Recovery {
        /// Which child.
        child: ChildKey,
        /// Which incident of it.
        case: CaseNumber,
        /// What.
        act: Box<RecoveryAct>,
    },
    /// Answer a request.
    Reply {
        /// Which.
        id: RequestId,
        /// With what.
        reply: Reply,
    },
    /// The boot is over: every declared child was started (and, where the rules say so, waited for), held back,
    /// or has failed by itself. A parent takes this as the acknowledgement of this supervisor's start. Once, right
    /// after the actions of the fact that ended the boot.
    Booted,
    /// All children are down and the supervisor ends. The last action ever.
    Finished {
        /// Why.
        ended: Ended,
    },
}
