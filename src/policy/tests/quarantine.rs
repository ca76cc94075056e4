//! Parking, trials, and those who wait behind a parked child.

use std::sync::Arc;

use super::*;
use crate::policy::RestartStrategy::{OneForAll, OneForOne, RestForOne};
use crate::policy::{Phase, Plan, Request};

#[test]
fn the_failure_beyond_the_budget_parks_in_the_same_step_and_each_child_counts_by_itself() {
    let mut sim = Sim::parking(OneForOne, 2, &["a", "b"]);
    for _ in 0..2 {
        sim.exit("a", crash());
        sim.exit("b", crash());
    }
    assert_eq!(sim.phases(), "a:running b:running");
    sim.exit("a", crash());
    assert_eq!(sim.phases(), "a:quarantined b:running");
}

#[test]
fn start_failures_are_counted_when_they_fail_and_their_retries_are_not() {
    let mut sim = Sim::parking(OneForOne, 3, &["a"]);
    sim.script("a", &["fail"; 9]);
    sim.exit("a", crash());
    sim.drain();
    assert_eq!(sim.phase("a"), Phase::Quarantined);
    assert_eq!(sim.view("a").incarnation.0, 4);
}

#[test]
fn trials_come_after_the_first_delay_and_then_double_up_to_the_last() {
    let mut sim = Sim::parking(OneForOne, 0, &["a"]);
    sim.script("a", &["fail"; 9]);
    sim.exit("a", crash());
    let mut waits = Vec::new();
    for _ in 0..4 {
        let due = sim.core.next_due().expect("a trial");
        waits.push((due - sim.now).as_secs());
        sim.pass(due - sim.now);
    }
    assert_eq!(waits, [30, 60, 100, 100]);
}

#[test]
fn never_tries_never() {
    let mut spec = Sim::spec(OneForOne, crate::policy::OnExhausted::Quarantine, 0);
    spec.retry = None;
    let mut sim = Sim::with(spec, &["a"]).booted();
    sim.exit("a", crash());
    assert_eq!((sim.phase("a"), sim.core.next_due(), sim.view("a").next), (Phase::Quarantined, None, None));
}

#[test]
fn a_trial_that_holds_clears_the_history_and_the_waiting_start_in_order() {
    let mut sim = Sim::parking(RestForOne, 1, &["a", "b backoff", "c", "d"]);
    sim.exit("b", crash());
    let _ = sim.did();
    sim.exit("b", crash());
    assert_eq!(sim.moves(), "stop d#2, stop c#2");
    assert_eq!(sim.phases(), "a:running b:quarantined c:waiting d:waiting");
    sim.pass(secs(30));
    assert_eq!((sim.did().as_str(), sim.view("b").next.map(|n| n.what)), ("start b#3", Some(Plan::Verify)));
    sim.pass(secs(10));
    assert_eq!(sim.did(), "start c#3, start d#3");
    assert_eq!((sim.view("b").budget_left, sim.view("b").consecutive), (1, 0));
}

#[test]
fn a_trial_that_does_not_hold_parks_again() {
    let mut sim = Sim::parking(RestForOne, 0, &["a", "b"]);
    sim.exit("a", crash());
    sim.pass(secs(35));
    assert_eq!(sim.phases(), "a:running b:waiting");
    sim.exit("a", crash());
    assert_eq!(sim.phases(), "a:quarantined b:waiting");
    assert_eq!(sim.core.next_due().map(|due| (due - sim.now).as_secs()), Some(60));
}

#[test]
fn under_one_for_all_everybody_waits_for_the_parked_one() {
    let mut sim = Sim::parking(OneForAll, 0, &["a", "b", "c"]);
    sim.exit("b", crash());
    assert_eq!(sim.moves(), "stop c#1, stop a#1");
    assert_eq!(sim.view("a").waits_for, Some(sim.key("b")));
    sim.pass(secs(40));
    assert_eq!(sim.moves(), "start b#2, start a#2, start c#2");
}

#[test]
fn an_earlier_sibling_may_restart_while_a_later_one_is_parked() {
    let mut sim = Sim::parking(RestForOne, 1, &["a", "b", "c"]);
    sim.exit("b", crash());
    sim.exit("b", crash());
    let _ = sim.did();
    sim.exit("a", crash());
    assert_eq!(sim.moves(), "start a#2");
    assert_eq!(sim.phases(), "a:running b:quarantined c:waiting");
}

#[test]
fn reset_failed_and_a_dependency_that_turns_ready_try_at_once() {
    let mut sim = Sim::parking(OneForOne, 0, &["a", "b"]);
    sim.exit("a", crash());
    sim.ask(Request::ResetFailed { child: sim.key("a") });
    assert_eq!(sim.phase("a"), Phase::Running);
    sim.held("b", true);
    sim.exit("b", crash());
    assert_eq!(sim.phase("b"), Phase::Quarantined);
    sim.held("b", false);
    assert_eq!(sim.phase("b"), Phase::Running);
}

#[test]
fn a_fatal_code_parks_at_once_whatever_the_restart_type_and_nothing_tries_it() {
    for restart in ["permanent", "transient", "temporary"] {
        let mut sim = Sim::parking(OneForOne, 9, &[&format!("a {restart}")]);
        sim.exit("a", code(78));
        assert_eq!((sim.phase("a"), sim.core.next_due()), (Phase::Quarantined, None));
        sim.held("a", true);
        sim.held("a", false);
        sim.pass(secs(1_000_000));
        assert_eq!(sim.phase("a"), Phase::Quarantined);
        sim.ask(Request::Start { child: sim.key("a") });
        assert_eq!(sim.phase("a"), Phase::Running);
    }
}

#[test]
fn a_fatal_code_before_readiness_parks_too() {
    let mut sim = Sim::with(Sim::spec(OneForOne, crate::policy::OnExhausted::Quarantine, 9), &["a"]);
    sim.script("a", &["fatal"]);
    sim.tell(crate::policy::Fact::Boot);
    assert_eq!((sim.phase("a"), sim.core.next_due()), (Phase::Quarantined, None));
}

#[test]
fn a_trial_that_ends_its_work_is_done() {
    let mut sim = Sim::parking(RestForOne, 0, &["a transient", "b"]);
    sim.exit("a", crash());
    sim.pass(secs(31));
    sim.exit("a", code(0));
    assert_eq!(sim.phases(), "a:done b:running");
}

#[test]
fn a_trial_that_ends_has_an_incident_of_its_own() {
    let mut sim = recover::sim(&Arc::default(), &["a"]);
    for _ in 0..3 {
        sim.exit("a", crash());
        sim.drain();
        sim.pass(secs(1));
    }
    assert_eq!(sim.phase("a"), Phase::Quarantined);
    sim.pass(secs(30));
    assert_eq!(sim.phase("a"), Phase::Running);
    let _ = sim.did();
    sim.exit("a", crash());
    assert_eq!(sim.moves(), "opened a: crash, closed: failed (parked: its trial did not hold)");
}
