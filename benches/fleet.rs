//! A fleet of real workers: how soon what is ill is well, what is left ill, and who is restarted for nothing.
//!
//! `heal`: from the first evidence to the first passing check of the replacement, by the way in which a worker can be
//! alive and of no use, with the defaults and with short deadlines. `faults`: 200 faults of seven kinds in as many
//! workers. `calm`: 200 workers that are well for ten minutes, every processor busy, the runtime halted now and then.
//! `checks`: what it costs to look at 1,000 workers, and how long a look takes.
//!
//! `benches/run heal faults calm checks` builds what is measured and calls this.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "measurements are printed; what fails ends the run"
)]

#[path = "../tests/fleet/mod.rs"]
#[expect(dead_code, reason = "some of it is for the tests")]
mod fleet;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleet::checks::Look;
use fleet::heal::Pace;
use fleet::{calm, checks, faults, heal};

const REGROW: &str = env!("CARGO_BIN_EXE_regrow");

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let wanted = |mode: &str| words.is_empty() || words.iter().any(|word| word == mode);
    if wanted("heal") {
        healing(Pace::Short, 10, 3.0);
        healing(Pace::Usual, 4, 30.0);
    }
    if wanted("faults") {
        falling(Pace::Short, Duration::from_millis(500));
        falling(Pace::Usual, Duration::from_secs(3));
    }
    if wanted("calm") {
        calmly();
    }
    if wanted("checks") {
        checking();
    }
    if MISSED.load(Ordering::Relaxed) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

static MISSED: AtomicBool = AtomicBool::new(false);

/// A goal that is missed is said at once, and fails the run at its end.
fn judge(reached: bool, otherwise: &str) {
    if !reached {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!("  MISSED: {otherwise} (load {})", load.trim());
        MISSED.store(true, Ordering::Relaxed);
    }
}

/// Each way of being alive and of no use, and what `check` says of it.
fn healing(pace: Pace, rounds: usize, goal: f64) {
    println!(
        "first evidence to the first passing check, {pace:?} deadlines, {rounds} rounds, s; goal {goal}"
    );
    let (all, said) = heal::heal(REGROW, pace, rounds);
    for (way, took) in &all {
        println!("  {:<40} {}", way.words(), took.line());
    }
    let slowest = all.iter().flat_map(|(_, took)| &took.fault).copied().fold(0.0, f64::max);
    let told: Vec<&str> = said.lines().filter(|line| line.contains("at worst")).collect();
    let at_worst = told.iter().filter_map(|line| line.rsplit(" = ").next()).map(seconds).fold(0.0, f64::max);
    println!("  worst of all {slowest:.1} s; `regrow check` says {at_worst:.1} s at worst");
    judge(slowest <= at_worst, "it was slower than `regrow check` says");
    for line in told {
        println!("  {}", line.trim());
    }
    let late: Vec<_> =
        all.iter().filter(|(_, took)| took.evidence.iter().any(|took| *took >= goal)).collect();
    assert!(late.is_empty(), "later than {goal} s: {late:?}");
}

/// `250ms`, `5s`, `2m`.
fn seconds(text: &str) -> f64 {
    let units = [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let known = units.iter().find_map(|(unit, of)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * of));
    known.unwrap_or_else(|| panic!("{text:?} is no time"))
}

fn falling(pace: Pace, every: Duration) {
    let trial = faults::Trial { faults: 200, every, pace, patience: Duration::from_secs(180) };
    let figures = faults::faults(REGROW, trial);
    print!("{pace:?} deadlines: {}", figures.page());
    let took = figures.mean();
    // The defaults alone take longer than the nearer of the two: a beat is lost after 15 s, three looks that hang take
    // 17 s, a mark stands for 30 s.
    let (near, far) = (10.0, 30.0);
    let word = |goal: f64| if took < goal { "reached" } else { "not reached" };
    println!(
        "  goals: > 95 %, < 1 % wrong; mean from the first evidence < {near} s: {}, < {far} s: {}",
        word(near),
        word(far)
    );
    judge(took < if pace == Pace::Short { near } else { far }, "they were healed too late");
    judge(figures.recovered() > 0.95, "too few were healed");
    judge(figures.wrong() < 0.01, "too many were restarted who were well");
}

fn calmly() {
    let trial = calm::Trial {
        workers: 200,
        lasting: Duration::from_secs(600),
        every: Duration::from_secs(30),
        halt: Duration::from_secs(5),
    };
    let figures = calm::calm(REGROW, trial);
    println!(
        "200 healthy workers, {:.0} s, every processor busy, runtime halted {} times for 5 s: {} false recoveries, goal 0",
        figures.lasted,
        figures.halts,
        figures.wrong.len()
    );
    figures.wrong.iter().for_each(|line| println!("  {line}"));
    let (filled, due) = figures.samples;
    judge(figures.wrong.is_empty(), "somebody was restarted who was well");
    println!("data availability: {filled} of {due} samples = {:.3} %, goal > 99.9 %", figures.data() * 100.0);
}

fn checking() {
    for (what, look, interval) in [
        ("whether its process runs, every 10 s to 60 s, the default", Look::None, None),
        ("the same every 1 s", Look::None, Some("1s")),
        ("a probe of its process every 30 s, the default", Look::Process, None),
        ("the same every 1 s", Look::Process, Some("1s")),
        ("an HTTP probe every 30 s, the default", Look::Http, None),
        ("the same every 1 s", Look::Http, Some("1s")),
    ] {
        let figures = checks::checks(REGROW, 1000, look, interval, Duration::from_secs(60));
        println!("1,000 workers, {what}: {}", figures.line());
    }
}
