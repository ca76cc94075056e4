//! The supervision core holds S1–S18 in random lives: random trees, random facts, exact deadlines.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::sim::dice::Dice;
use crate::sim::rare::Tally;
use crate::sim::run;
use crate::sim::seed::{from_environment, seed};

/// Schedules of a plain `cargo test`, which has not been told otherwise.
const SCHEDULES: u64 = 2_000;

#[test]
fn random_lives_break_no_invariant_and_reach_every_rare_state() {
    let seed = seed();
    let schedules = from_environment("REGROW_SIM_SCHEDULES").unwrap_or(SCHEDULES);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let begin = Instant::now();
    let turn = AtomicU64::new(0);
    let work = || {
        let mut tally = Tally::new();
        loop {
            let number = turn.fetch_add(1, Ordering::Relaxed);
            if number >= schedules {
                return Ok(tally);
            }
            match run::schedule(Dice::new(seed.wrapping_add(number)).bits()) {
                Ok(reached) => tally.add(&reached),
                Err(failure) => {
                    turn.store(schedules, Ordering::Relaxed);
                    return Err(format!("REGROW_SEED={seed}, schedule {number}: {failure}"));
                }
            }
        }
    };
    let (mut tally, mut failures) = (Tally::new(), Vec::new());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            match worker.join().unwrap() {
                Ok(reached) => tally.add(&reached),
                Err(failure) => failures.push(failure),
            }
        }
    });
    assert!(failures.is_empty(), "{}", failures[0]);
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{schedules} schedules of {} facts in {seconds:.1} s, {:.0} schedules/s/core\n{}",
        run::LENGTH,
        schedules as f64 / seconds / threads as f64,
        tally.table()
    );
    assert!(tally.missing().is_empty(), "REGROW_SEED={seed} never reached {:?}", tally.missing());
}
