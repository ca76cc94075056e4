//! What is said on stderr.

use std::fmt::Display;
use std::io::Write;

/// Says this to whoever looks on. That it cannot be written, as where the disk is full, is no failure of what was done:
/// the exit code tells that.
pub(crate) fn say(text: impl Display) {
    // Nobody is left to be told.
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}
