//! The actors of the tree, and the board on which they write what people see.

mod board;

pub use crate::worker::OutputCounters;
pub use board::{Board, Health, InstanceState, LastExit, NextAction, Operator, SupervisorState, Wanted};
