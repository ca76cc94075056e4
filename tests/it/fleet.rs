//! A fleet of real workers: what is ill heals by itself, and nobody is restarted who is well.
//!
//! Each of these is to have the machine for itself, so `tests/run` calls them alone; `benches/run heal faults calm
//! checks` measures the same at full length. How long something took is printed and not judged: that is for the
//! benches.

use std::time::Duration;

use crate::fleets::heal::Pace;
use crate::fleets::{calm, faults};

const REGROW: &str = env!("CARGO_BIN_EXE_regrow");

#[test]
#[ignore = "wants the machine for itself: tests/run calls it"]
fn fleet_of_all_faults_heals_by_itself() {
    let trial = faults::Trial {
        faults: 14,
        every: Duration::from_millis(700),
        pace: Pace::Patient,
        patience: Duration::from_secs(120),
    };
    let figures = faults::faults(REGROW, trial);
    println!("{}", figures.page());
    assert!(figures.recovered() > 0.95, "{}", figures.page());
    assert_eq!(figures.wrong, Vec::<String>::new(), "{}", figures.page());
    assert_eq!(figures.took.len(), faults::Kind::ALL.len(), "one of each kind: {}", figures.page());
}

#[test]
#[ignore = "wants the machine for itself: tests/run calls it"]
fn fleet_that_is_well_is_left_alone_under_load_and_halts() {
    let trial = calm::Trial {
        workers: 200,
        lasting: Duration::from_secs(60),
        every: Duration::from_secs(15),
        halt: Duration::from_secs(5),
    };
    let figures = calm::calm(REGROW, trial);
    assert!(figures.halts >= 3, "{figures:?}");
    assert_eq!(figures.wrong, Vec::<String>::new());
}
