//! The coordinator: the newest observations of every instance, judged, and told to whom it concerns.
//!
//! It runs beside the control plane, on a thread with the probes: what it does must delay no restart after a crash, and
//! its thread's own lag is the lag of the probes, which is what must be subtracted from their deadlines. It learns of
//! starts and ends through the sink that the tree is given, and answers through sinks that it is given: it knows no
//! supervisor, and no supervisor knows it.
//!
//! Producers are bounded: a probe has one look under way, a worker's beats are thinned where they come in, and the sweep
//! over the processes is the coordinator's own, as are the rounds in which probes see whether processes run. Only what is about the current incarnation counts.
//!
//! ```text
//! actor    messages in, verdicts out        case     one incarnation: its record and its probes
//! rules    from settings to rules           sweep    the built-in check and the figures of all processes
//! inbox    the newest of each instance      sinks    where its words go
//! alarm    when the processes are due       rounds   who looks when
//! ```

mod actor;
mod alarm;
mod case;
mod inbox;
mod rounds;
mod rules;
mod sinks;
mod sweep;

pub(crate) use actor::{Coordinator, CoordinatorMsg};
pub(crate) use inbox::Inbox;
pub(crate) use sinks::{CoordinatorArguments, Sinks};
