//! Promises of actor workers, on a host without a tree: each test plays the supervisor.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test waits for one report and passes over the others")]

mod faults;
mod promises;
mod rig;
