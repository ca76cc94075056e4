//! HTTP: the same routes over the control socket (everything, by the peer's user) and over TCP (three bare routes).
//!
//! All of it runs on one thread of its own with its own event loop. Whatever clients do — never finish a
//! header, open ten thousand connections, ask for every log — costs that thread, never the supervision.
//! Every answer is made from the status board and the journal; only actions ask the runtime.
//!
//! Deliberately absent: tokens and TLS, and with them every other route over TCP.

pub mod dto;

mod actions;
mod api;
mod body;
mod control;
mod crowd;
mod listen;
mod mended;
mod metrics;
mod narrow;
mod peer;
mod problem;
mod public;
mod serve;
mod server;
mod snapshot;
mod visitor;
mod why;

pub use listen::{Listeners, SOCKET_NAME};
pub(crate) use listen::{at_short_path, look_at_control_place};
pub use server::Servers;
