//! What comes next for an instance, and what stands in its way.

use jiff::Timestamp;

use crate::id::Incarnation;
use crate::policy::{Phase, Plan};

use super::InstanceState;

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
    /// Which start of the earlier runtime it is, where that was written down.
    pub incarnation: Option<Incarnation>,
    /// The phase that comes back once it is gone.
    pub then: Phase,
}

impl InstanceState {
    /// The start that `pid` is of: the newest, or that of an earlier runtime as long as what it left stands in its place.
    #[must_use]
    pub fn shown_incarnation(&self) -> Incarnation {
        self.survivor.and_then(|survivor| survivor.incarnation).unwrap_or(self.incarnation)
    }

    /// What comes next, with a survivor that is being stopped before it; of one that cannot be killed nobody knows.
    #[must_use]
    pub fn planned(&self) -> Option<NextAction> {
        let next = self.next_action.clone()?;
        let for_survivor = next.what == Plan::WaitDependency && self.waits_for.is_empty();
        match (self.survivor, self.phase) {
            (None, _) => Some(next),
            (Some(_), Phase::Stuck) => None,
            (Some(_), _) if for_survivor => Some(NextAction { what: Plan::Start, at: None }),
            (Some(_), _) => Some(next),
        }
    }
}
