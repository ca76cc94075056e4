//! Single restarts: restart types, exits and the restart budget.

use super::*;
use crate::policy::RestartStrategy::OneForOne;
use crate::policy::{Fact, Phase, Request};

#[test]
fn row_29_restarts_that_are_far_enough_apart_go_on_for_ever() {
    let mut sim = Sim::otp(OneForOne, 1, &["a"]);
    for _ in 0..20 {
        sim.now += secs(6);
        sim.exit("a", crash());
    }
    assert_eq!(sim.phases(), "a:running");
}

#[test]
fn row_30_only_the_dead_child_is_restarted_and_the_third_crash_ends_the_supervisor() {
    let mut sim = Sim::otp(OneForOne, 2, &["a", "b"]);
    sim.exit("a", crash());
    sim.exit("a", crash());
    assert_eq!(sim.did(), "report terminated a#1, start a#2, report terminated a#2, start a#3");
    sim.exit("a", crash());
    assert_eq!(sim.did(), "report terminated a#3, report gave_up a#3, stop b#1, finished gave_up");
}

#[test]
fn row_31_failing_restarts_use_up_the_budget() {
    let mut sim = Sim::otp(OneForOne, 4, &["a", "b"]);
    sim.script("a", &["fail"; 9]);
    sim.exit("a", crash());
    assert_eq!(sim.did(), "report terminated a#1, start a#2, report start_error a#2");
    sim.drain();
    assert!(sim.did().ends_with("report gave_up a#5, stop b#1, finished gave_up"));
}

#[test]
fn row_45_a_permanent_child_is_restarted_after_a_normal_end() {
    let mut sim = Sim::otp(OneForOne, 2, &["a"]);
    sim.exit("a", code(0));
    assert_eq!(sim.did(), "report terminated a#1, start a#2");
}

#[test]
fn row_46_a_transient_child_stays_down_after_a_normal_end() {
    let mut sim = Sim::otp(OneForOne, 2, &["a transient"]);
    sim.exit("a", code(0));
    assert_eq!((sim.did().as_str(), sim.phase("a")), ("", Phase::Done));
}

#[test]
fn row_47_a_temporary_child_is_forgotten_after_a_normal_end() {
    let mut sim = Sim::otp(OneForOne, 2, &["a temporary"]);
    sim.exit("a", code(0));
    assert_eq!(sim.did(), "removed a");
    assert_eq!(sim.core.children().count(), 0);
}

#[test]
fn row_48_a_permanent_child_is_restarted_after_a_shutdown_of_its_own() {
    let mut sim = Sim::otp(OneForOne, 2, &["a supervisor"]);
    sim.exit("a", crate::exit::Exit::Stopped);
    assert_eq!(sim.moves(), "start a#2");
}

#[test]
fn row_49_a_transient_child_stays_down_after_a_shutdown_of_its_own() {
    let mut sim = Sim::otp(OneForOne, 2, &["a transient"]);
    sim.exit("a", crate::exit::Exit::Stopped);
    assert_eq!((sim.did().as_str(), sim.phase("a")), ("", Phase::Done));
}

#[test]
fn row_50_a_temporary_child_is_forgotten_after_a_shutdown_of_its_own() {
    let mut sim = Sim::otp(OneForOne, 2, &["a temporary"]);
    sim.exit("a", crate::exit::Exit::Stopped);
    assert_eq!(sim.did(), "removed a");
}

#[test]
fn row_52_a_permanent_child_is_restarted_after_an_abnormal_end() {
    let mut sim = Sim::otp(OneForOne, 2, &["a"]);
    sim.exit("a", crash());
    assert_eq!(sim.did(), "report terminated a#1, start a#2");
}

#[test]
fn row_53_a_transient_child_is_restarted_after_an_abnormal_end() {
    let mut sim = Sim::otp(OneForOne, 2, &["a transient"]);
    sim.exit("a", crash());
    assert_eq!(sim.did(), "report terminated a#1, start a#2");
}

#[test]
fn row_54_a_temporary_child_is_reported_and_forgotten_after_an_abnormal_end() {
    let mut sim = Sim::otp(OneForOne, 2, &["a temporary"]);
    sim.exit("a", crash());
    assert_eq!(sim.did(), "report terminated a#1, removed a");
}

#[test]
fn row_56_a_nested_supervisor_that_gave_up_comes_back_if_permanent_and_not_if_transient() {
    let mut sim = Sim::otp(OneForOne, 2, &["a supervisor infinity", "b transient supervisor infinity"]);
    sim.exit("a", crate::exit::Exit::Stopped);
    sim.exit("b", crate::exit::Exit::Stopped);
    assert_eq!(sim.phases(), "a:running b:done");
}

#[test]
fn row_73_a_restarting_child_is_there_but_not_running() {
    let mut sim = Sim::otp(OneForOne, 5, &["a", "b"]);
    sim.script("a", &["fail"]);
    sim.exit("a", crash());
    assert_eq!(sim.phases(), "a:backoff b:running");
}

#[test]
fn row_80_calls_are_answered_between_failing_retries_and_terminate_ends_them() {
    let mut sim = Sim::otp(OneForOne, 9, &["a"]);
    sim.script("a", &["fail", "fail", "fail"]);
    sim.exit("a", crash());
    sim.retry();
    let _ = sim.did();
    sim.add("a");
    sim.ask(Request::Revive { child: sim.key("a") });
    sim.ask(Request::Delete { child: sim.key("a") });
    sim.ask(Request::Terminate { child: sim.key("a") });
    assert_eq!(sim.did(), "reply AlreadyPresent, reply Restarting, reply Restarting, reply ok");
    sim.drain();
    assert_eq!((sim.did().as_str(), sim.phase("a")), ("", Phase::Stopped));
}

#[test]
fn a_crash_of_one_child_waits_for_no_other_child() {
    let mut sim = Sim::otp(OneForOne, 9, &["a", "b"]);
    sim.silence("a");
    sim.exit("a", crash());
    sim.exit("b", crash());
    assert_eq!(sim.moves(), "start a#2, start b#2");
    assert_eq!(sim.phases(), "a:starting b:running");
}

#[test]
fn a_message_about_an_earlier_incarnation_changes_nothing_and_is_counted() {
    let mut sim = Sim::otp(OneForOne, 9, &["a"]);
    let old = sim.exited("a", crash());
    sim.exit("a", crash());
    let _ = sim.did();
    let view = format!("{:?}", sim.view("a"));
    let stale = sim.core.stale();
    sim.tell(old);
    sim.tell(Fact::Ready { child: sim.key("a"), incarnation: crate::id::Incarnation(1) });
    assert_eq!((sim.did().as_str(), format!("{:?}", sim.view("a"))), ("", view));
    assert_eq!(sim.core.stale(), stale + 2);
}

#[test]
fn two_crashes_at_once_are_two_events_under_one_for_one() {
    let mut sim = Sim::otp(OneForOne, 1, &["a", "b"]);
    sim.exit("a", crash());
    sim.exit("b", crash());
    assert!(sim.did().ends_with("report gave_up b#1, stop a#2, finished gave_up"));
}

#[test]
fn starts_by_hand_count_nothing() {
    let mut sim = Sim::otp(OneForOne, 1, &["a"]);
    for _ in 0..10 {
        sim.ask(Request::Terminate { child: sim.key("a") });
        sim.ask(Request::Revive { child: sim.key("a") });
    }
    assert_eq!((sim.phase("a"), sim.view("a").budget_left), (Phase::Running, 1));
}
