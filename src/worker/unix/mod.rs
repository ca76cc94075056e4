//! Every call into the system that Rust's safety does not cover, and nothing else.
//!
//! A worker is started the way `posix_spawn` does it (`CLONE_VM | CLONE_VFORK`, the calling thread waits
//! until the exec), because a plain fork copies page tables and std's `pre_exec` hooks force one. Done here
//! rather than with `posix_spawn` because that has neither a pidfd, a session, a cgroup nor our record.
//!
//! What this room promises to the rest: no bare pid is ever signalled, a pidfd comes with every process, and
//! a child that fails before its exec says at which step and why.

#![expect(unsafe_code, reason = "the one place for it: clone, exec and what libc offers only as raw calls")]

mod accounts;
mod child;
mod clone;
mod held;
mod memory;
mod nvml;
mod rights;
mod sys;

pub(crate) use accounts::{Account, account, group_number, id_number};
pub(crate) use child::Step;
pub(crate) use clone::{Fds, Image, Launch, Placement, Refusal, Spawned, can_clone_into, spawn};
pub(crate) use held::{HeldSignals, ignore_signal};
pub(crate) use memory::{Page, Stack, give_back, let_go_of_code, share_one_heap};
pub(crate) use nvml::{Card, gpu_cards};
pub(crate) use rights::{Cores, Person, WorkerRights};
pub(crate) use sys::{
    Ended, ZombieWait, close_range_works, dup_onto, end_of_stranger, next_halted, peek_pidfd, peek_zombie,
    pidfd_open, pidfs_inode, poll_ended, processor_time, reap, send_signal, send_signal_to_group, wait_pidfd,
    watch_pidfd, watch_readable,
};
