//! What comes next for an instance, and what stands in its way.

use jiff::Timestamp;

use crate::policy::{Phase, Plan};

/// What is planned.
#[derive(Debug, Clone, PartialEq)]
pub struct NextAction {
    /// The plan.
    pub what: Plan,
    /// When; `None`: once what it waits for has come.
    pub at: Option<Timestamp>,
}

/// What an earlier runtime left: it stands in the place of an instance until it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandIn {
    /// Its main process, if that still lives.
    pub pid: Option<u32>,
    /// The phase that comes back once it is gone.
    pub then: Phase,
}
