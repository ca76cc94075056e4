//! One pure decision per fact: OTP's supervisor rules joined with what goes beyond them.
//!
//! [`Supervisor::on_fact`] is the only place that decides whether a child is started, stopped, restarted or
//! given up. It reads no clock, does no I/O and draws no random numbers of its own: time and a seed come as
//! arguments, so every run can be replayed, and the same code stands in the simulator, in the differential
//! test against Erlang and in production.

mod action;
mod backoff;
mod check;
mod child;
mod exits;
mod fact;
mod group;
mod intensity;
mod machine;
mod quarantine;
mod request;
mod restart;
mod roster;
mod spec;
mod start;
mod steps;
mod stop;
mod timers;
mod view;

#[cfg(test)]
mod tests;

pub use action::{Action, Actions, Done, Ended, Refused, Reply, ReportKind, StopHow};
pub use check::{SpecError, check_child};
pub use fact::{ChildKey, Fact, Request, RequestId, RetryToken};
pub use machine::Supervisor;
pub use spec::{
    AutoShutdown, Backoff, ChildKind, ChildSpec, ExitCodes, Intensity, OnExhausted, Restart, RestartStrategy,
    RetryPark, Shutdown, SupervisorSpec, Time,
};
pub use view::{ChildView, Phase, Plan, Planned};
