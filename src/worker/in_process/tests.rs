//! Promises of actor workers, on a host without a tree: each test plays the supervisor.

mod faults;
mod promises;
mod rig;
