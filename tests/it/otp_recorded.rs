//! regrow's core answers recorded traces as Erlang's supervisor did. Needs no Erlang.

use std::fs;
use std::path::Path;

use crate::otp::compare::{cases, differences};
use crate::otp::erlang::{examples, recorded};
use crate::otp_trace;

/// What regrow's supervision core answers to a trace.
pub(crate) fn core_answers(trace: &str) -> String {
    let mut answer = Vec::new();
    otp_trace::run(trace.as_bytes(), &mut answer, false).unwrap();
    String::from_utf8(answer).unwrap()
}

/// Compares one recorded file; gives the number of its cases.
fn holds(name: &str) -> usize {
    holds_at(&recorded().join(name))
}

/// The same by its path without a suffix.
fn holds_at(path: &Path) -> usize {
    let read = |kind: &str| fs::read_to_string(path.with_extension(kind)).unwrap();
    let (name, trace, expected) = (path.display(), read("trace"), read("expected"));
    let found = differences(&trace, &expected, &core_answers(&trace));
    let number = cases(&trace).len();
    assert_eq!(cases(&expected).len(), number, "{name}: a trace without its answers");
    assert!(found.is_empty(), "{name}: {} of {number} cases differ; the first is {}", found.len(), found[0]);
    number
}

#[test]
fn recorded_random_traces_are_answered_as_erlang_did() {
    let mut total = 0;
    for number in 0..10 {
        total += holds(&format!("{number:02}"));
    }
    assert_eq!(total, 500);
}

#[test]
fn handmade_traces_of_every_rule_are_answered_as_erlang_did() {
    assert!(holds("handmade") > 50);
}

#[test]
fn the_examples_are_answered_as_erlang_did() {
    let examples = examples();
    assert!(examples.len() >= 5, "{examples:?}");
    for example in examples {
        assert_eq!(holds_at(&example), 1, "{}", example.display());
    }
}

/// OTP 25 has two known bugs here; the expected answers are those of newer releases, written by hand.
#[test]
fn r40_and_r41_are_answered_as_newer_erlangs_do() {
    assert_eq!(holds("newer"), 4);
}
