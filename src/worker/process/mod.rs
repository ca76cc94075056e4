//! Workers that are processes: started, watched, stopped and found again.
//!
//! **Identity.** A process is a pidfd; what outlives the runtime is its pidfs inode. Pids are for people and for
//! reading `/proc`: a pid that was used again got a stranger killed in 162 of 200 forced tries.
//!
//! **One tree.** A worker is everything that descends from what was started. An incarnation has ended when its
//! main process has, its cgroup is empty and nobody holds its fence any more; only then is its end reported,
//! so a second copy can never run beside the first. The fence is a lock on the open file that is the worker's
//! stdout: the kernel keeps it as long as any descendant has it open, needs neither `/proc` nor a cgroup for it,
//! and another runtime can ask.
//!
//! **One incarnation, one task** ([`life`]) on the control plane, which only waits. What can block (clone,
//! exec, reading `/proc`) happens on the threads of [`pool`].
//!
//! Deliberately absent: `PR_SET_PDEATHSIG` (it fires when the *thread* ends, and workers outlive the runtime on
//! purpose), `tokio::process` (it reaps by itself), `waitpid` on numbers, and any decision: whether to restart is
//! the policy's.

mod aside;
mod begin;
mod beside;
mod bounds;
mod capabilities;
mod cgroup;
mod children;
mod clear;
mod company;
mod controllers;
mod daemon;
mod deeds;
mod end;
mod evidence;
mod failure;
mod grants;
mod hear;
mod host;
mod identity;
mod layout;
mod life;
mod main_process;
mod oom;
mod owner;
mod placeholders;
mod pool;
mod recipe;
mod record;
mod reserve;
mod rival;
mod rounds;
mod runner;
mod secret;
mod settle;
pub(crate) mod shelter;
mod site;
mod start;
mod strays;
#[cfg(test)]
mod tests;
mod tether;
mod tree;

pub(crate) use beside::Beside;
pub(crate) use capabilities::Capabilities;
pub(crate) use clear::{Cleared, Survivor};
pub(crate) use grants::{most_files, raise_open_files, too_few_files};
pub(crate) use host::{Held, HostOptions, OpenError, ProcessHost};
pub(crate) use identity::missing;
pub(crate) use reserve::{LentSpare, Spare, is_exhaustion, set_aside};
pub(crate) use strays::strays;
