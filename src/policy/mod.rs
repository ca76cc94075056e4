//! One pure decision per fact: OTP's supervisor rules joined with what goes beyond them.
//!
//! [`Supervisor::on_fact`] is the only place that decides whether a child is started, stopped, restarted or
//! given up. It reads no clock, does no I/O and draws no random numbers of its own: time and a seed come as
//! arguments, so every run can be replayed, and the same code stands in the simulator, in the differential
//! test against Erlang and in production.
//!
//! ```text
//! machine   the entrance, and the order in which one fact is worked off
//! exits     what the end of a child means            restart     counting, delaying, giving up
//! group     several children in an order             start       one start, the boot, `after`
//! stop      one stop, deadlines, the end             quarantine  parking and trials
//! request   OTP's calls and operators' verbs         check       impossible specifications
//! reform    a new definition while children run
//! pause     hands off
//! recover   the ladder: which step, and who allows it   treat  one step under way
//! mend      what recovery adds to an exit            care        what is kept of an incident
//! pool      how many of a kind there are
//! child     one child's state, which carries its data        roster  who is there, in start order
//! ```
//!
//! # The rules of OTP
//!
//! `R1`…`R41` in this room number the rules of OTP's `supervisor`, with which `on_exhausted = "escalate"` and
//! no backoff agree exactly ([`Supervisor::is_exactly_otp`]):
//!
//! - R1, R2: what a normal end is; permanent, transient, temporary.
//! - R3–R6: all specifications are checked before anybody starts; one start after the other; `ignore` keeps the
//!   spec, but not of a temporary child; a failed boot stops what was started, in reverse.
//! - R7–R11: old incarnations are ignored; reports; what becomes of a child that is not restarted; automatic
//!   shutdown, by a significant child's own end only.
//! - R12–R14: the sliding window of restart *events*, one each however many siblings; giving up.
//! - R15–R24: one_for_one; rest_for_one and one_for_all stop in reverse and start in order, also who was down
//!   before; a failed start is retried through the mailbox, and that retry counts again.
//! - R25–R28: stops in reverse order, ask then kill; which ends a stop expects; a child that had died before its
//!   turn is no second event.
//! - R29–R37: the calls that add, stop, revive, forget and list children; impossible specifications.
//! - R38–R41: pools of dynamic children: no order, stopped together under one deadline; `ignore` on a restart
//!   removes the child; no automatic shutdown.
//!
//! Deliberately absent: how a step is carried out, and whatever crosses supervisors: the fleet's brake, dependencies.
//! They reach this room as [`Fact::Performed`], [`Fact::Leave`] and [`Fact::Held`].

mod action;
mod backoff;
mod care;
mod check;
mod child;
mod exits;
mod fact;
mod group;
mod intensity;
mod machine;
mod mend;
mod pause;
mod pool;
mod quarantine;
mod recover;
mod reform;
mod request;
mod restart;
mod roster;
mod spec;
mod start;
mod steps;
mod stop;
mod timers;
mod treat;
mod unwell;
mod view;

#[cfg(test)]
mod tests;

pub use action::{Action, Actions, Done, Ended, Refused, Reply, ReportKind, StopHow};
pub use care::{CareView, CaseNumber, RecoveryAct, TaskNumber, Waits, Work};
pub use check::{SpecError, check_child};
pub use fact::{ChildKey, Fact, Request, RequestId, Undone};
pub use machine::Supervisor;
pub use reform::{Change, Reform, ReformChild};
pub use spec::{
    AutoShutdown, Backoff, ChildKind, ChildSpec, ExitCodes, Intensity, OnExhausted, Pause, PoolOf, Restart,
    RestartStrategy, RetryPark, Shutdown, SupervisorSpec, Time,
};
pub use view::{ChildView, Phase, Plan, Planned};
