//! The actors of the tree, and the board on which they write what people see.

mod actor;
mod asked;
mod attempts;
mod blind;
mod board;
mod boot;
mod casebook;
mod child;
mod ends;
mod gate;
mod healer;
mod judged;
mod lesson;
mod line;
mod lore;
mod means;
mod narrator;
mod nested;
mod plane;
mod recovery;
mod reform;
mod sizing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trace;
mod tree;
mod trial;
mod turn;

pub use crate::worker::OutputCounters;
pub(crate) use actor::{Outcome, SupervisorMsg, Upward};
pub(crate) use asked::{Approval, Asked};
pub use attempts::{Attempts, Totals};
pub(crate) use board::OUTDATED;
pub use board::{
    Board, Health, INCIDENT_BUCKETS, InstanceState, LastExit, Moment, NextAction, Operator, Recovered,
    Recovering, RollState, Spread, StandIn, SupervisorState, Told, Trouble, Wanted,
};
pub use healer::Healer;
pub(crate) use judged::Judged;
pub(crate) use lesson::Lesson;
pub(crate) use line::Address;
pub use lore::Lore;
pub(crate) use plane::{Plane, RunnerFactory, Wish};
pub(crate) use reform::Reforming;
pub(crate) use sizing::Sizing;
pub(crate) use tree::{Branch, Node, arguments, supervisor_states};
