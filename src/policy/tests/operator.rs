//! What operators ask for, and that no automatic rule overrules it.

use super::*;
use crate::exit::Exit;
use crate::policy::RestartStrategy::{OneForAll, OneForOne, RestForOne};
use crate::policy::{Fact, Phase, Plan, Request};

#[test]
fn stopped_by_an_operator_a_child_stays_down_through_a_restart_of_its_group() {
    let mut sim = Sim::otp(OneForAll, 9, &["a", "b"]);
    sim.ask(Request::Stop { child: sim.key("b") });
    sim.exit("a", crash());
    assert_eq!(sim.phases(), "a:running b:stopped");
    sim.ask(Request::Start { child: sim.key("b") });
    assert_eq!(sim.phases(), "a:running b:running");
}

#[test]
fn stop_and_restart_count_nothing() {
    let mut sim = Sim::parking(OneForOne, 1, &["a"]);
    for _ in 0..10 {
        sim.ask(Request::Restart { child: sim.key("a") });
        sim.ask(Request::Stop { child: sim.key("a") });
        sim.ask(Request::Start { child: sim.key("a") });
    }
    assert_eq!((sim.phase("a"), sim.view("a").budget_left), (Phase::Running, 1));
}

#[test]
fn restart_stops_and_then_starts_and_touches_no_sibling() {
    let mut sim = Sim::otp(OneForAll, 1, &["a", "b"]);
    sim.ask(Request::Restart { child: sim.key("a") });
    assert_eq!(sim.did(), "reply ok, stop a#1, start a#2");
}

#[test]
fn a_stop_during_a_restart_wins() {
    let mut sim = Sim::parking(OneForOne, 1, &["a"]);
    sim.silence("a");
    sim.ask(Request::Restart { child: sim.key("a") });
    assert_eq!(sim.view("a").next.map(|next| next.what), Some(Plan::Start));
    sim.ask(Request::Stop { child: sim.key("a") });
    sim.exit("a", Exit::Stopped);
    assert_eq!(sim.phase("a"), Phase::Stopped);
}

#[test]
fn a_shutdown_during_a_restart_plans_no_start() {
    let mut sim = Sim::parking(OneForOne, 1, &["a"]);
    sim.silence("a");
    sim.ask(Request::Restart { child: sim.key("a") });
    sim.tell(Fact::Shutdown);
    assert_eq!((sim.phase("a"), sim.view("a").next), (Phase::Stopping, None));
    sim.exit("a", Exit::Stopped);
    assert_eq!(sim.phase("a"), Phase::Stopped);
}

#[test]
fn a_crash_while_it_is_being_stopped_is_the_end_of_the_stop() {
    let mut sim = Sim::parking(OneForOne, 1, &["a"]);
    sim.silence("a");
    sim.ask(Request::Stop { child: sim.key("a") });
    sim.exit("a", crash());
    assert_eq!(sim.did(), "reply ok, stop a#1, report shutdown_error a#1");
    assert_eq!(sim.phase("a"), Phase::Stopped);
}

#[test]
fn stop_ends_a_backoff_and_a_quarantine() {
    let mut sim = Sim::parking(OneForOne, 1, &["a backoff"]);
    sim.exit("a", crash());
    sim.exit("a", crash());
    assert_eq!(sim.phase("a"), Phase::Quarantined);
    sim.ask(Request::Stop { child: sim.key("a") });
    assert_eq!((sim.phase("a"), sim.core.next_due()), (Phase::Stopped, None));
}

#[test]
fn restart_ends_the_wait_of_a_group() {
    let mut sim = Sim::parking(RestForOne, 9, &["a backoff", "b"]);
    sim.exit("a", crash());
    sim.exit("a", crash());
    assert_eq!(sim.phases(), "a:backoff b:waiting");
    let _ = sim.did();
    sim.ask(Request::Restart { child: sim.key("a") });
    assert_eq!(sim.did(), "reply ok, start a#3, start b#3");
}

#[test]
fn who_waited_for_a_child_that_is_stopped_for_good_waits_no_longer() {
    let mut sim = Sim::parking(RestForOne, 0, &["a", "b"]);
    sim.exit("a", crash());
    assert_eq!(sim.phases(), "a:quarantined b:waiting");
    sim.ask(Request::Stop { child: sim.key("a") });
    assert_eq!(sim.phases(), "a:stopped b:running");
}

#[test]
fn a_start_of_one_child_does_not_wait_for_a_slow_group_start() {
    let mut sim = Sim::parking(RestForOne, 9, &["a", "b", "c stopped"]);
    sim.silence("a");
    sim.exit("a", crash());
    sim.exit("b", Exit::Stopped);
    let _ = sim.did();
    sim.ask(Request::Start { child: sim.key("c") });
    assert_eq!(sim.did(), "reply ok, start c#1");
}

#[test]
fn a_temporary_child_stopped_by_an_operator_can_be_started_again() {
    let mut sim = Sim::otp(OneForOne, 1, &["a temporary"]);
    sim.ask(Request::Stop { child: sim.key("a") });
    sim.ask(Request::Start { child: sim.key("a") });
    assert_eq!(sim.phase("a"), Phase::Running);
}

#[test]
fn reset_failed_clears_the_budget() {
    let mut sim = Sim::parking(OneForOne, 2, &["a backoff"]);
    sim.exit("a", crash());
    sim.exit("a", crash());
    assert_eq!((sim.view("a").budget_left, sim.view("a").consecutive), (0, 2));
    sim.ask(Request::ResetFailed { child: sim.key("a") });
    assert_eq!((sim.phase("a"), sim.view("a").budget_left), (Phase::Running, 2));
}
