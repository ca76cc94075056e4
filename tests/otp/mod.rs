//! Traces of OTP's supervisor and what is done with them: written, answered by Erlang, answered by regrow's
//! core, compared, shrunk.
//!
//! The language is described at the head of `driver.escript`, which is Erlang's side; the core's side is
//! `examples/otp_trace.rs`.

pub(crate) mod census;
pub(crate) mod compare;
pub(crate) mod erlang;
pub(crate) mod generate;
mod guess;
