//! Real processes, real signals. What a worker saw of itself is read from files it wrote; nothing sleeps to wait.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test waits for one report and passes over the others")]

mod calls;
mod ends;
mod rig;
mod scale;
mod speech;
mod starts;
mod survival;
mod trees;

pub(super) use rig::isolation;
