//! regrow's promises, one file each, in one binary: linking is what costs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

#[path = "../otp/mod.rs"]
mod otp;
#[path = "../../examples/otp_trace/main.rs"]
#[expect(dead_code, reason = "an example's main is not called here")]
mod otp_trace;
#[path = "../sim/mod.rs"]
mod sim;

mod invariants;
mod otp_live;
mod otp_recorded;
mod simulator;
