//! Probes: one look at one instance, again and again.
//!
//! A probe is an actor of its own, so that one that hangs delays no other, and it never begins a look before the last
//! one is over. Only whether a process runs is seen without one: that asks the kernel and nobody else, cannot hang, and
//! costs less than a message, so all that are due are looked at in one go by who coordinates. What it finds goes to the coordinator as an observation; it judges nothing itself. Every look has one
//! deadline for all of it, kept in the runtime's own time (`patience`): what the runtime loses is not the worker's
//! fault. Bodies and output are read up to a bound, and no redirect is followed.
//!
//! A look that could not be made is an `error`, never a failure: a host name that cannot be resolved, a plugin that is
//! not there, a process table that is full say nothing of the worker. Neither does a resolver or a mount that does not
//! answer: until the worker itself is asked, a look that is late is an `error`, too. What hangs in there holds one thread
//! of each probe, since the next look waits for it.
//!
//! ```text
//! actor      one look at a time                    rhythm    when the next look is due
//! checks/    one file for each thing to look at    patience  a deadline that the runtime's own lag moves
//! make       from settings to looks
//! ```
//!
//! The trait [`Probe`] is for users, too: whatever can be asked in Rust can be a probe. It stands beside `Worker`, since a
//! program makes both known in the same place, and the file uses it by its name: `probe.lock.custom = "Locked"`.
//!
//! ```
//! use regrow::probe::{Found, Look, Patient, Probe};
//!
//! /// Whether the worker's lock file is there.
//! struct Locked(std::path::PathBuf);
//!
//! impl Probe for Locked {
//!     fn look<'a>(&'a self, _patient: &'a Patient) -> Look<'a> {
//!         Box::pin(async {
//!             match self.0.try_exists() {
//!                 Ok(true) => Found::pass("locked"),
//!                 Ok(false) => Found::fail("it has let go of its lock"),
//!                 Err(error) => Found::error(format!("cannot look: {error}")),
//!             }
//!         })
//!     }
//! }
//!
//! let builder = regrow::Runtime::builder().probe("Locked", Locked("/run/web.lock".into())).toml(
//!     r#"
//!     [worker.web]
//!     command = ["./web"]
//!     probe.lock = { custom = "Locked", period = "10s" }
//!     "#,
//! );
//! ```

mod actor;
mod checks;
mod make;
mod patience;
mod rhythm;
#[cfg(test)]
mod tests;

pub use crate::worker::look::{Found, Look, Patient, Probe};
pub(crate) use actor::{ProbeActor, ProbeArguments, ProbeMsg};
pub(crate) use checks::{in_condition, of_process};
pub(crate) use make::{Means, make};
pub(crate) use rhythm::{Rhythm, Times};
