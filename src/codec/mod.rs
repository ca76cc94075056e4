//! Bytes that outlive the program that wrote them.
//!
//! The only place that names bincode, which knows neither versions nor ends nor damage: an envelope in front of the
//! bytes says what they are and proves that they are whole, a limit keeps a wrong length from taking all memory, and
//! a fingerprint of the names and types in them (`shape`) tells a changed struct from the one that was written. Bytes
//! that do not fit are an answer, [`Unreadable`], and never a crash: whoever reads decides what a start without them
//! means.
//!
//! Deliberately absent: migration of old versions. What a program keeps for itself it can also make anew.

mod envelope;
mod shape;

pub(crate) use envelope::{Kind, MAX_RECORD, Unreadable, decode, encode};
