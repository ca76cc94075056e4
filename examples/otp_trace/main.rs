//! Drives the supervision core with a trace and prints what it does, in the words of Erlang's supervisor.
//!
//! The same trace given to a real OTP supervisor must give the same lines, byte for byte: that is what «OTP
//! semantics» means here. One command a line, `#` begins a comment:
//!
//! ```text
//! sup STRATEGY INTENSITY PERIOD [AUTO_SHUTDOWN]        child ID RESTART SHUTDOWN TYPE [significant]
//! script ID o1,o2,..   (ok ignore error crash already) onstop ID comply|ignore|exit:REASON
//! boot    at SECONDS    exit ID REASON    exits ID:REASON ..    retry    stop
//! call start ID RESTART SHUTDOWN TYPE [significant]    call start ID   (simple_one_for_one)
//! call terminate|restart|delete|spec ID    call which|count
//! check ID RESTART SHUTDOWN TYPE SIGNIFICANT AUTO
//! ```
//!
//! Two differences are meant. A dynamic child whose restart answers `ignore` is removed, and `auto_shutdown`
//! with `simple_one_for_one` is refused: older OTP releases do neither, the newest does both.

mod commands;
mod term;
mod world;

use std::io::{BufRead, Write};

fn main() -> std::io::Result<()> {
    let quiet = std::env::args().any(|arg| arg == "-q");
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    run(std::io::stdin().lock(), &mut output, quiet)?;
    output.flush()
}

/// Answers a trace; `quiet`: without repeating its commands.
pub(crate) fn run(input: impl BufRead, output: &mut impl Write, quiet: bool) -> std::io::Result<()> {
    let mut world = commands::Trace::default();
    for line in input.lines() {
        let line = line?;
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        if !quiet {
            writeln!(output, "> {}", words.join(" "))?;
        }
        for line in world.command(&words) {
            writeln!(output, "{line}")?;
        }
    }
    Ok(())
}
