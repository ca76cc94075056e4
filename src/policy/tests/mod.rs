//! Promises of the core. Tests named `row_N_…` are cases of OTP's own supervisor suite, by their number in
//! the conformance table; the others are named after what they promise.

mod beyond;
mod boot;
mod crossed;
mod dynamic;
mod groups;
mod leave;
mod one_for_one;
mod operator;
mod pause;
mod pools;
mod quarantine;
mod random;
mod recover;
mod reform;
mod shutdown;
mod significant;
mod sim;
mod unwell;

use sim::{Sim, child, code, crash, secs};
