//! The `regrow` program.
fn main() {}
