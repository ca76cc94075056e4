//! regrow's core and Erlang's own supervisor answer fresh random traces alike.

use std::fs;

use crate::otp::census::Census;
use crate::otp::compare::{cases, differences, shrink};
use crate::otp::erlang::{self, examples, recorded};
use crate::otp::generate;
use crate::otp_recorded::core_answers;
use crate::sim::dice::Dice;
use crate::sim::seed::seed;

/// Traces of one run.
const TRACES: u64 = 2_000;

/// A trace of many cases.
fn random_trace(seed: u64, cases: u64) -> String {
    let mut dice = Dice::new(seed);
    (0..cases).map(|_| generate::case(dice.bits())).collect()
}

#[test]
#[ignore = "needs Debian's erlang-base and erlang-src; tests/run installs them"]
fn two_thousand_random_traces_are_answered_as_erlang_does() {
    let seed = seed();
    let trace = random_trace(seed, TRACES);
    let expected = erlang::answers(&trace);
    let mut census = Census::default();
    for case in cases(&expected) {
        census.add(&case);
    }
    println!(
        "{TRACES} traces of REGROW_SEED={seed}, {} lines of answers:\n{}",
        expected.lines().count(),
        census.table()
    );
    if let Some(first) = differences(&trace, &expected, &core_answers(&trace)).into_iter().next() {
        let least = shrink(first, |trace| (erlang::answers(trace), core_answers(trace)));
        panic!("REGROW_SEED={seed}, {least}");
    }
    assert!(census.missing().is_empty(), "REGROW_SEED={seed} never reached {:?}", census.missing());
}

/// With `REGROW_RECORD=1` this writes the recorded answers anew, and chooses the random traces anew.
#[test]
#[ignore = "needs Debian's erlang-base and erlang-src; tests/run installs them"]
fn the_recorded_answers_are_what_this_erlang_says() {
    let write = std::env::var_os("REGROW_RECORD").is_some();
    if write {
        record();
    }
    let names = (0..10).map(|number| format!("{number:02}")).chain(["handmade".to_owned()]);
    for path in names.map(|name| recorded().join(name)).chain(examples()) {
        let (name, file) = (path.display(), |kind: &str| path.with_extension(kind));
        let trace = fs::read_to_string(file("trace")).unwrap();
        let answers = erlang::answers(&trace);
        if write {
            fs::write(file("expected"), &answers).unwrap();
        }
        let found = differences(&trace, &fs::read_to_string(file("expected")).unwrap(), &answers);
        assert!(found.is_empty(), "{name}, recorded | this Erlang: {}", found[0]);
    }
}

/// Chooses 500 traces so that each rare state is reached by at least a dozen, where that many are found.
#[expect(clippy::print_stdout, reason = "whoever records wants to see what is there")]
fn record() {
    let trace = random_trace(0, 6_000);
    let (mut census, mut chosen, mut plain) = (Census::default(), Vec::new(), Vec::new());
    for (case, answer) in cases(&trace).into_iter().zip(cases(&erlang::answers(&trace))) {
        let mut alone = Census::default();
        if chosen.len() < 500 && alone.add(&answer).iter().any(|state| census.count(*state) < 12) {
            census.add(&answer);
            chosen.push(case);
        } else {
            plain.push(case);
        }
    }
    chosen.extend(plain);
    for (number, part) in chosen[..500].chunks(50).enumerate() {
        fs::write(recorded().join(format!("{number:02}.trace")), part.concat()).unwrap();
    }
    println!("{}", census.table());
}

/// The comparison itself: a core that answers wrongly is found, and the case is shrunk to what matters.
#[test]
fn a_wrong_answer_is_found_and_shrunk() {
    let trace =
        "sup one_for_one 1 5\nboot\nsup one_for_one 1 5\nchild a permanent 1000 worker\nboot\nretry\nstop\n";
    let right = |trace: &str| trace.lines().map(|line| format!("> {line}\n")).collect::<String>();
    let wrong = |trace: &str| right(trace).replace("retry", "dance");
    let found = differences(trace, &right(trace), &wrong(trace));
    assert_eq!((found.len(), found[0].number), (1, 1));
    let least = shrink(found[0].clone(), |trace| (right(trace), wrong(trace)));
    assert_eq!(least.trace, "sup one_for_one 1 5\nretry\n");
}
